"""Studies on disk: stimuli and the brains that saw them, matched by file name.

A study is a folder with a `study.toml`, or one of the Algonauts 2019 challenge's training sets.
`docs/study.md` documents the format.
"""

import csv
import os
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

from fastrdm._base import (
    UNNAMED,
    check_choice,
    list_names,
    nearest,
    read_arrays,
    suggestion,
)
from fastrdm.images import (
    ORDERS,
    SUFFIXES,
    check_background,
    describe_unread,
    list_images,
    unread_files,
)
from fastrdm.similarity import NAN_POLICIES, PROTOCOLS, Target
from fastrdm.studies.algonauts import REGIONS, ImageSet, image_sets, subject_rdms

_SETTINGS = "study.toml"
_MODALITIES = {**{name: (name,) for name in REGIONS}, "both": tuple(REGIONS)}


@dataclass(frozen=True)
class Study:
    """Stimuli and targets with the same conditions in the same order.

    Attributes
    ----------
    name : str
        What results are stored under.
    stimuli : tuple of Path
        An image a condition, in the order of the targets' rows.
    targets : dict of str to Target
        By region.
    description : str
        For people.
    synthetic : bool
        Whether the brains are simulated; whatever is shown of such a study must say so.
    test_stimuli : tuple of Path
        Images without brains, for which the best layer's RDM may be submitted; often none.
    truth : dict of str to str
        The layer that each region was simulated from, of a synthetic study.
    truth_network : str
        File name of the network whose layers those are.
    background : str or None
        The colour that shows where images are transparent, as "#rrggbb"; None where none is.
    """

    name: str
    stimuli: tuple[Path, ...]
    targets: dict[str, Target]
    description: str = ""
    synthetic: bool = False
    test_stimuli: tuple[Path, ...] = ()
    truth: dict[str, str] = field(default_factory=dict)
    truth_network: str = ""
    background: str | None = None


def find_data() -> Path | None:
    """Find the data root: `FASTRDM_DATA`, else `../shared/data` seen from the current folder.

    Returns
    -------
    Path or None
        None where neither is there.

    Raises
    ------
    FileNotFoundError
        If `FASTRDM_DATA` is set and no folder.
    """
    if value := os.environ.get("FASTRDM_DATA"):
        if not Path(value).is_dir():
            raise FileNotFoundError(f"FASTRDM_DATA is {value}, which is not a folder")
        return Path(value)
    beside = Path("../shared/data")
    return beside.resolve() if beside.is_dir() else None


def open_studies(
    root: str | Path, sets: Iterable[str] | None = None, modality: str = "fmri"
) -> list[Study]:
    """Open the studies in a folder, with everything about them checked.

    Parameters
    ----------
    root : path-like
        A folder with a `study.toml`, or whose direct subfolders have one; the Algonauts 2019
        download, or the folder that holds it as `algonauts2019`. All that is found counts.
    sets : iterable of str, optional
        Names of the studies wanted, in this order; all by default. The challenge's are named
        "92" and "118".
    modality : {"fmri", "meg", "both"}
        Which of the challenge's targets are read. A study of one's own gives all its targets.

    Returns
    -------
    list of Study
        At least one.

    Raises
    ------
    FileNotFoundError
        If the folder, or any study in it, is missing.
    ValueError
        If a study's settings or files are not as they should be, or `sets` names unknown ones.
    """
    root = Path(root)
    check_choice(modality, _MODALITIES, "modality")
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    named = [*_challenge_studies(root, _MODALITIES[modality]), *_own_studies(root)]
    if not named:
        raise FileNotFoundError(
            f"no study in {root}: looked for {_SETTINGS} in it and in its subfolders, and for"
            " Training_Data/92_Image_Set and 118_Image_Set of the Algonauts 2019 challenge in it"
            " and in its algonauts2019; `fastrdm sample DIR` writes a synthetic study to try"
        )
    studies = dict(named)
    if twice := [name for name, count in Counter(name for name, _ in named).items() if count > 1]:
        raise ValueError(f"several studies in {root} have the name {twice[0]!r}")
    wanted = list(studies) if sets is None else list(sets)
    if unknown := [name for name in wanted if name not in studies]:
        raise ValueError(
            f"no study named {', '.join(map(repr, unknown))} in {root}; there are:"
            f" {', '.join(studies)}"
        )
    return [studies[name]() for name in wanted]


_Named = tuple[str, Callable[[], Study]]


def _challenge_studies(root: Path, modalities: tuple[str, ...]) -> list[_Named]:
    found = image_sets(root)
    test = found["78"].images if "78" in found else ()

    def open_set(image_set: ImageSet) -> Study:
        # Where there is none at all, reading them says so.
        present = [m for m in modalities if m in image_set.targets] or modalities
        return Study(
            image_set.name,
            image_set.images,
            {
                region: target
                for each in present
                for region, target in image_set.read_targets(each).items()
            },
            f"Algonauts 2019, {image_set.name} images (Cichy et al. 2019, arXiv:1905.05675)",
            test_stimuli=test,
        )

    return [
        (name, partial(open_set, image_set))
        for name, image_set in found.items()
        # The targets of the test set were not published; with them it is a study like the others.
        if name != "78" or image_set.targets.keys() & {*modalities}
    ]


def _own_studies(root: Path) -> list[_Named]:
    at_root = root / _SETTINGS
    files = [at_root] if at_root.is_file() else sorted(root.glob(f"*/{_SETTINGS}"))
    return [(settings.name, settings.open) for settings in map(_Settings, files)]


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
_TARGET_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "file": str,
    "key": str,
    "protocol": str,
    "ceiling": (int, float),
    "nan_policy": str,
}


class _Settings:
    """A `study.toml`, its fields checked; `open` reads what it points to."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self.fields = tomllib.loads(file.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is not valid TOML: {error}") from error
        self._unlisted: list[str] = []
        self._check(self.fields, _FIELDS, "")
        self._require(
            self.fields, "order", "", ': a file with the stimuli\'s names, "sorted" or "natural"'
        )
        try:
            check_background(self.fields.get("background"))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        self._require(self.fields, "targets", "", ", such as [targets.it]")
        self._check_policy(self.fields, "")
        for region, target in self.fields["targets"].items():
            where = f"targets.{region}"
            if not isinstance(target, dict):
                raise ValueError(f"{file}: {where} is {target!r}, not a table such as [{where}]")
            self._check(target, _TARGET_FIELDS, f"{where}.")
            self._require(target, "file", f"{where}.", "")
            protocol = target.get("protocol", "algonauts2019")
            check_choice(protocol, PROTOCOLS, f"{file}: {where}.protocol")
            self._check_policy(target, f"{where}.")
        for region, layer in self.fields.get("truth", {}).items():
            if region not in self.fields["targets"] or not isinstance(layer, str):
                raise ValueError(
                    f"{file}: truth.{region} must name the layer of a region in targets"
                )
        self.name: str = self.fields.get("name", file.resolve().parent.name)

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

    def open(self) -> Study:
        stimuli = self._stimuli()
        return Study(
            self.name,
            stimuli,
            {
                region: self._target(region, target, len(stimuli))
                for region, target in self.fields["targets"].items()
            },
            self.fields.get("description", ""),
            self.fields.get("synthetic", False),
            self._images("test_stimuli") if "test_stimuli" in self.fields else (),
            dict(self.fields.get("truth", {})),
            self.fields.get("truth_network", ""),
            self.fields.get("background"),
        )

    def _images(self, key: str) -> tuple[Path, ...]:
        folder = self.file.parent / self.fields.get(key, key)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{self.file}: {key} = {folder.name!r} is not a folder beside it"
            )
        order = self.fields["order"]
        if order in ORDERS:
            return tuple(list_images(folder, order))
        # Where a file has the order, that of the folder is nobody's.
        return tuple(list_images(folder, "natural" if key == "stimuli" else "sorted"))

    def _stimuli(self) -> tuple[Path, ...]:
        images = self._images("stimuli")
        if self.fields["order"] in ORDERS:
            return images
        # macOS writes é as e and an accent, other systems as one character: NFC is the latter.
        names = [normalize("NFC", name) for name in self._order()]
        by_name: dict[str, Path] = {}
        where = f"{self.file}: order = {self.fields['order']!r}"
        for image in images:
            own = normalize("NFC", image.name)
            if own in by_name and own in names:
                raise ValueError(
                    f"{where} lists {own}, which is there twice, under two Unicode forms of one name"
                )
            by_name[own] = image
        for name, count in Counter(names).items():
            if name not in by_name:
                raise ValueError(
                    f"{where} lists {name}, which {self._absence(name, by_name, images[0].parent)}"
                )
            if count > 1:
                raise ValueError(f"{where} lists {name} {count} times")
        self._unlisted = [image.name for own, image in by_name.items() if own not in names]
        return tuple(by_name[name] for name in names)

    def _absence(self, name: str, by_name: Mapping[str, Path], folder: Path) -> str:
        """Why a name is none of the images: there but not read, there under another name that looks alike, or not."""
        unread = {normalize("NFC", path.name): path for path in unread_files(folder)}
        if name in unread:
            return f"is there in {folder} but not read: stimuli are {', '.join(sorted(SUFFIXES))} files"
        alike = {normalize("NFKC", own).casefold(): own for own in (*by_name, *unread)}
        if other := alike.get(normalize("NFKC", name).casefold()):
            same = normalize("NFKC", other) == normalize("NFKC", name)
            form = "under another Unicode form of its name" if same else "in other capitals"
            return f"is there in {folder} {form}, as {other}; write it so"
        return f"is no image in {folder}{suggestion(name, by_name)}"

    def _order(self) -> list[str]:
        file = self.file.parent / self.fields["order"]
        if not file.is_file():
            raise FileNotFoundError(
                f"{self.file}: order = {self.fields['order']!r} is neither a file beside it nor"
                ' "sorted" or "natural"'
            )
        try:
            # Spreadsheets write a byte-order mark.
            lines = file.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.file}: order = {file.name!r} is not UTF-8 text") from error
        if file.suffix.lower() == ".csv":
            rows = csv.DictReader(lines)
            if "stimulus" not in (rows.fieldnames or ()):
                raise ValueError(
                    f"{self.file}: order = {file.name!r} has no column named stimulus; its first"
                    f" line is {(lines or [''])[0]!r}"
                )
            lines = [row["stimulus"] or "" for row in rows]
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            raise ValueError(f"{self.file}: order = {file.name!r} lists no stimuli")
        return names

    def _left_out(self) -> str:
        """What of the stimuli's folder is no stimulus, as the end of a sentence."""
        folder = self.file.parent / self.fields.get("stimuli", "stimuli")
        names = self._unlisted
        unlisted = f"; there but not listed: {list_names(names)}" if names else ""
        return describe_unread(folder) + unlisted

    def _target(self, region: str, fields: Mapping[str, Any], n_stimuli: int) -> Target:
        where = f"{self.file}: targets.{region}"
        file = self.file.parent / fields["file"]
        if not file.is_file():
            raise FileNotFoundError(f"{where}.file = {fields['file']!r} is not a file beside it")
        arrays = read_arrays(file)
        key = fields.get("key") or (next(iter(arrays)) if len(arrays) == 1 else None)
        if key not in arrays:
            problem = f"= {key!r} is not in" if key else "is missing, and there are several in"
            raise ValueError(
                f"{where}.key {problem} {file.name}: it holds {', '.join(arrays) or 'no array'}"
            )
        label = f"{file}" if key == UNNAMED else f"{key} of {file}"
        policy = fields.get("nan_policy", self.fields.get("nan_policy", "raise"))
        rdms = subject_rdms(arrays[key], label, policy)
        n_conditions = arrays[key].shape[-1]
        if n_conditions != n_stimuli:
            raise ValueError(
                f"{where}.file: {label} has {n_conditions} conditions, but the study has"
                f" {n_stimuli} stimuli{self._left_out()}"
            )
        try:
            return Target(
                rdms,
                fields.get("protocol", "algonauts2019"),
                fields.get("ceiling"),
                region,
                nan_policy=policy,
            )
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


_KINDS: Mapping[Any, str] = {
    str: "text",
    bool: "true or false",
    dict: "a table",
    (int, float): "a number",
}
