"""Reading a `study.toml`: its fields are checked, and the files it names become a `Study`; see docs/study.md."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastrdm._base import check_choice, leaves_folder, nearest, read_column, read_lines, read_toml
from fastrdm.images import ORDERS, check_background, list_images, name_in
from fastrdm.similarity import NAN_POLICIES, Target
from fastrdm.studies.condition_labels import check_order, in_order, order_of
from fastrdm.studies.rdm_files import StoredRdms
from fastrdm.studies.stimuli import StimulusNames
from fastrdm.studies.study import Report, Study, collect_targets
from fastrdm.studies.targets import TARGET_FIELDS, check_target, make_target, stored_rdms

FILE_NAME = "study.toml"

_FIELDS: Mapping[str, type] = {
    "name": str,
    "description": str,
    "synthetic": bool,
    "stimuli": str,
    "test_stimuli": str,
    "order": str,
    "background": str,
    "nan_policy": str,
    "targets": dict,
    "truth": dict,
    "truth_network": str,
}
#: The order of the condition labels in the files of the targets.
_TARGETS = "targets"

_KINDS: Mapping[Any, str] = {
    str: "text",
    bool: "true or false",
    dict: "a table",
    list: "a list",
    (int, float): "a number",
    (str, list): "text or a list of text",
    (list, str): "a list of numbers or the name of a variable",
}


class StudySettings:
    """A `study.toml` with checked fields; `open` reads the files that it names."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.fields = read_toml(file)
        self.unlisted: tuple[str, ...] = ()
        self._sources: dict[str, str] = {}
        self._subjects: dict[str, tuple[str, ...]] = {}
        self._check(self.fields, _FIELDS, "")
        self._require(
            self.fields,
            "order",
            "",
            ': a file with the stimuli\'s names, "sorted", "natural" or "targets"',
        )
        try:
            check_background(self.fields.get("background"))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        self._require(self.fields, "targets", "", ", such as [targets.it]")
        for field in ("stimuli", "test_stimuli", "order"):
            self._check_path(self.fields.get(field, ""), field)
        self._check_policy(self.fields, "")
        for region, target in self.fields["targets"].items():
            self._check_target(target, f"targets.{region}")
        for region, layer in self.fields.get("truth", {}).items():
            if region not in self.fields["targets"] or not isinstance(layer, str):
                raise ValueError(
                    f"{file}: truth.{region} must name the layer of a region in targets"
                )
        self.name: str = self.fields.get("name", file.resolve().parent.name)

    def _check_target(self, target: Any, where: str) -> None:
        if not isinstance(target, dict):
            raise ValueError(f"{self.file}: {where} is {target!r}, not a table such as [{where}]")
        self._check(target, TARGET_FIELDS, f"{where}.")
        self._require(target, "file", f"{where}.", "")
        self._check_path(target["file"], f"{where}.file")
        check_target(target, f"{self.file}: {where}.")
        self._check_policy(target, f"{where}.")

    def _check_path(self, path: str, where: str) -> None:
        """Refuse a path that leaves the folder of the study; links below it are followed."""
        if leaves_folder(path):
            raise ValueError(
                f"{self.file}: {where} = {path!r} is not a path inside the study's folder, the only one that is read"
            )

    def _check(self, table: Mapping[str, Any], fields: Mapping[str, Any], prefix: str) -> None:
        for key, value in table.items():
            if key not in fields:
                raise ValueError(
                    f"{self.file}: unknown field {prefix}{key}; the nearest is"
                    f" {prefix}{nearest(key, fields, 1)}"
                )
            expected = fields[key]
            # In Python a bool is an int.
            if not isinstance(value, expected) or (
                isinstance(value, bool) and expected is not bool
            ):
                raise ValueError(
                    f"{self.file}: {prefix}{key} = {value!r} is not {_KINDS[expected]}"
                )

    def _check_policy(self, table: Mapping[str, Any], prefix: str) -> None:
        policy = table.get("nan_policy", "raise")
        check_choice(policy, NAN_POLICIES, f"{self.file}: {prefix}nan_policy")

    def _require(self, table: Mapping[str, Any], key: str, prefix: str, hint: str) -> None:
        if not table.get(key):
            raise ValueError(f"{self.file}: {prefix}{key} is missing{hint}")

    def open(self, report: Report | None = None) -> Study:
        """Read the stimuli and targets.

        With `report`, errors of targets are passed to it instead of raised, and a target without a valid ceiling has
        one of 1.
        """
        stimuli = self._stimuli()
        read = {
            region: partial(self._target, region, stimuli, report)
            for region in self.fields["targets"]
        }
        targets = collect_targets(read, report)
        names = ("description", "synthetic", "truth", "truth_network", "background")
        others = {name: self.fields[name] for name in names if name in self.fields}
        if "test_stimuli" in self.fields:
            others["test_stimuli"] = self._images("test_stimuli")
        return Study(
            self.name,
            stimuli,
            targets,
            **others,
            folder=self._folder("stimuli"),
            order=self.fields["order"],
            unlisted=self.unlisted,
            sources=self._sources,
            subjects=self._subjects,
        )

    def _folder(self, key: str) -> Path:
        return self.file.parent / str(self.fields.get(key, key))

    def _others(self, key: str) -> list[Path]:
        """The other folder of images, which may be a subfolder of this one."""
        keys = {"stimuli"} | ({"test_stimuli"} & self.fields.keys())
        return [self._folder(other) for other in keys - {key}]

    def _images(self, key: str) -> tuple[Path, ...]:
        folder = self._folder(key)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{self.file}: {key} = {folder.name!r} is not a folder beside it"
            )
        order = self.fields["order"]
        if order not in ORDERS:
            # If a file gives the order, the folder's order is irrelevant.
            order = "natural" if key == "stimuli" else "sorted"
        return tuple(list_images(folder, order, recursive=True, exclude=self._others(key)))

    def _stimuli(self) -> tuple[Path, ...]:
        names = StimulusNames(
            self._images("stimuli"), self._folder("stimuli"), self._others("stimuli")
        )
        chosen = tuple(names.images)
        if self.fields["order"] == _TARGETS:
            chosen = self._labelled(names)
        elif self.fields["order"] not in ORDERS:
            chosen = names.choose(self._order(), f"{self.file}: order = {self.fields['order']!r}")
        self._names, self.unlisted = names, names.unlisted(chosen)
        return chosen

    def _left_out(self) -> str:
        """What may explain a wrong number of stimuli, as the end of a sentence."""
        return self._names.left_out(self.unlisted)

    def _order(self) -> list[str]:
        file = self.file.parent / self.fields["order"]
        if not file.is_file():
            raise FileNotFoundError(
                f"{self.file}: order = {self.fields['order']!r} is neither a file beside it nor"
                ' "sorted", "natural" or "targets"'
            )
        name = f"{self.file}: order = {file.name!r}"
        lines = read_lines(file, name)
        is_csv = file.suffix.lower() == ".csv"
        column = read_column(lines, "stimulus", name) if is_csv else lines
        if column is None:
            raise ValueError(
                f"{name} has no column named stimulus; its first line is {(lines or [''])[0][:200]!r}"
            )
        names = [line.strip() for line in column if line.strip()]
        if not names:
            raise ValueError(f"{name} lists no stimuli")
        return names

    def _labelled(self, names: StimulusNames) -> tuple[Path, ...]:
        """The stimuli in the order of the first target's labels."""
        region = next(iter(self.fields["targets"]))
        stored = self._stored(region, None)
        where = f'{self._where(region)}: order = "targets"'
        return names.choose(order_of(stored, names, where), where)

    def _where(self, region: str) -> str:
        return f"{self.file}: targets.{region}"

    def _policy(self, region: str) -> str:
        own = self.fields["targets"][region].get("nan_policy")
        return str(own or self.fields.get("nan_policy", "raise"))

    def _stored(
        self, region: str, n_conditions: int | None, nan_policy: str | None = None
    ) -> StoredRdms:
        fields, where = self.fields["targets"][region], self._where(region)
        policy = nan_policy or self._policy(region)
        return stored_rdms(fields, self.file.parent, where, policy, n_conditions)

    def _examined(self, region: str, n_conditions: int, report: Report) -> tuple[StoredRdms, str]:
        """Read the RDMs of a target, and return the policy for NaN; NaN is reported and kept."""
        policy = self._policy(region)
        try:
            return self._stored(region, n_conditions), policy
        except ValueError as error:
            try:
                stored = self._stored(region, n_conditions, "omit")
            except ValueError:
                raise error from None
            report(
                region,
                f'{self._where(region)}: {error}; nan_policy = "omit" leaves such pairs out, as this check does',
            )
            return stored, "omit"

    def _target(self, region: str, stimuli: Sequence[Path], report: Report | None) -> Target:
        where, order = self._where(region), self.fields["order"]
        policy = self._policy(region)
        if report is None:
            stored = self._stored(region, len(stimuli))
        else:
            stored, policy = self._examined(region, len(stimuli), report)
        self._sources[region] = stored.source
        if stored.names is not None:
            self._subjects[region] = stored.names
        if stored.n_conditions != len(stimuli):
            raise ValueError(
                f"{where}.file: {stored.source} has {stored.n_conditions} conditions, but the study has"
                f" {len(stimuli)} stimuli{self._left_out()}"
            )
        if order == _TARGETS:
            own = order_of(stored, self._names, f'{where}: order = "targets"')
            wanted = [name_in(path, self._names.folder) for path in stimuli]
            stored = in_order(stored, own, wanted, where)
        else:
            check_order(stored, stimuli, self._names, where, order)
        fields = self.fields["targets"][region]
        try:
            return make_target(stored, region, fields, where, policy)
        except ValueError as error:
            if report is None:
                raise
            report(region, str(error))
        return make_target(stored, region, {**fields, "ceiling": 1.0}, where, policy)
