"""Reading a `study.toml`: its fields are checked, and the files it names become a `Study`; see docs/study.md."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastrdm._base import check_choice, leaves_folder, nearest, read_column, read_lines, read_toml
from fastrdm.images import ORDERS, check_background, list_images
from fastrdm.similarity import NAN_POLICIES
from fastrdm.studies.chosen_measures import check_possible, check_possible_anywhere
from fastrdm.studies.region_data import fields_of
from fastrdm.studies.region_reader import OF_TARGETS, RegionReader
from fastrdm.studies.response_fields import (
    RESPONSE_FIELDS,
    check_measures,
    check_responses,
    paths_of,
)
from fastrdm.studies.stimuli import StimulusNames
from fastrdm.studies.study import Report, Study, collect_regions
from fastrdm.studies.targets import TARGET_FIELDS, check_target

FILE_NAME = "study.toml"
# The name of a region whose responses stand outside a table.
_ONLY_REGION = "responses"

_FIELDS: Mapping[str, type] = {
    "name": str,
    "description": str,
    "synthetic": bool,
    "stimuli": str,
    "test_stimuli": str,
    "order": str,
    "background": str,
    "nan_policy": str,
    "measures": list,
    "targets": dict,
    "truth": dict,
    "truth_network": str,
}

_KINDS: Mapping[Any, str] = {
    str: "text",
    bool: "true or false",
    dict: "a table",
    list: "a list",
    (int, float): "a number",
    (str, list): "text or a list of text",
    (list, str): "a list of numbers or the name of a variable",
    (int, str): "a number or text",
    int: "a whole number",
}


class StudySettings:
    """A `study.toml` with checked fields; `open` reads the files that it names."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.fields = read_toml(file)
        self._take_responses()
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
        if "measures" in self.fields:
            check_measures(self.fields["measures"], f"{file}: ")
            measures = self.fields["measures"]
            check_possible_anywhere(measures, self.fields["targets"], f"{file}: ")
        for region, layer in self.fields.get("truth", {}).items():
            if region not in self.fields["targets"] or not isinstance(layer, str):
                raise ValueError(
                    f"{file}: truth.{region} must name the layer of a region in targets"
                )
        self.name: str = self.fields.get("name", file.resolve().parent.name)

    def _take_responses(self) -> None:
        """Make a region of the fields of responses that stand outside a table."""
        fields = self.fields
        if "responses" not in fields:
            return
        if isinstance(fields["responses"], dict):
            raise ValueError(
                f"{self.file}: [responses] is not a table; write responses = [...] in a table of targets, such as"
                " [targets.it]"
            )
        if "targets" in fields:
            raise ValueError(
                f"{self.file}: responses stands outside [targets]; write it in the table of its region"
            )
        own = {name: fields.pop(name) for name in RESPONSE_FIELDS if name in fields}
        fields["targets"] = {_ONLY_REGION: own}

    def _check_target(self, target: Any, where: str) -> None:
        if not isinstance(target, dict):
            raise ValueError(f"{self.file}: {where} is {target!r}, not a table such as [{where}]")
        prefix = f"{self.file}: {where}."
        if "responses" in target:
            self._check_responses(target, where)
        else:
            for field in target.keys() & (RESPONSE_FIELDS.keys() - TARGET_FIELDS.keys()):
                raise ValueError(f"{prefix}{field} is for responses = [...], in place of file")
            self._check(target, TARGET_FIELDS, f"{where}.")
            self._require(target, "file", f"{where}.", ", or responses = [...]")
            self._check_path(target["file"], f"{where}.file")
            check_target(target, prefix)
        check_possible(target, prefix)
        self._check_policy(target, f"{where}.")

    def _check_responses(self, target: Mapping[str, Any], where: str) -> None:
        for field in target.keys() & (TARGET_FIELDS.keys() - RESPONSE_FIELDS.keys()):
            raise ValueError(
                f"{self.file}: {where}.{field} is for RDMs, and cannot be used with responses"
            )
        self._check(target, RESPONSE_FIELDS, f"{where}.")
        check_responses(target, f"{self.file}: {where}.")
        for field, path in paths_of(target):
            self._check_path(path, f"{where}.{field}")

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

    def open(self, report: Report | None = None, measures: Sequence[str] | None = None) -> Study:
        """Read the stimuli and the regions, for their own measures or those asked for.

        With `report`, errors of regions are passed to it instead of raised, and a target without a valid ceiling has
        one of 1.
        """
        stimuli, names = self._stimuli()
        unlisted = names.unlisted(stimuli)
        reader = RegionReader(self.file, self.fields, measures)
        left_out = partial(names.left_out, unlisted)
        regions = collect_regions(
            {
                region: partial(reader.read, region, stimuli, names, left_out, report)
                for region in self.fields["targets"]
            },
            report,
        )
        texts = ("description", "synthetic", "truth", "truth_network", "background")
        others: dict[str, Any] = {
            name: self.fields[name] for name in texts if name in self.fields
        } | fields_of(regions)
        if "test_stimuli" in self.fields:
            others["test_stimuli"] = self._images("test_stimuli")
        return Study(
            self.name,
            stimuli,
            **others,
            folder=self._folder("stimuli"),
            order=self.fields["order"],
            unlisted=unlisted,
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

    def _stimuli(self) -> tuple[tuple[Path, ...], StimulusNames]:
        names = StimulusNames(
            self._images("stimuli"), self._folder("stimuli"), self._others("stimuli")
        )
        chosen = tuple(names.images)
        if self.fields["order"] == OF_TARGETS:
            chosen = RegionReader(self.file, self.fields).order(names)
        elif self.fields["order"] not in ORDERS:
            chosen = names.choose(self._order(), f"{self.file}: order = {self.fields['order']!r}")
        return chosen, names

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
