r"""Which checkpoints a sweep is about: files, folders, globs, lists of paths, and manifests of several networks.

A manifest is a TOML file with a table for each network:

    [[network]]
    arch = "models.networks:resnet20"      # or an exported .onnx file; none for .onnx checkpoints
    weights = ["runs/a/*.pth", "runs/b"]   # files, folders, globs or lists, as seen from the manifest
    taps = ["layer*", "fc"]                # or a table, NAME = "LAYER"
    labels = 'seed(?P<seed>\d+)/epoch(?P<epoch>\d+)'
    [network.preprocessing]                # fields of fastrdm.Preprocessing
    size = [224, 224]
"""

import difflib
import glob
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fastrdm.images import Preprocessing
from fastrdm.networks import Taps, is_checkpoint, is_onnx
from fastrdm.runtimes import one_for_each

# Weights of an .onnx file beside it.
_DATA = ".data"
_SHOWN = 3
_LISTS, _MANIFEST = (".txt", ".lst"), ".toml"
_FIELDS: Mapping[str, tuple[type, ...]] = {
    "arch": (str,),
    "weights": (str, list),
    "taps": (list, dict),
    "labels": (str,),
    "preprocessing": (dict,),
}


@dataclass(frozen=True)
class Found:
    """A checkpoint's path, and the row of a list or manifest that names it; empty where none does."""

    path: str
    row: str = ""

    def named(self, error: str) -> str:
        """An error about the checkpoint, with the row."""
        return f"{self.row}: {error}" if self.row else error


@dataclass(frozen=True)
class LeftOut:
    """What a folder or glob holds beside checkpoints.

    Attributes
    ----------
    where : str
        The folder or glob.
    reason : str
        Why they are left out.
    count : int
    names : tuple of str
        The first ones.
    message : str
        All of it in one sentence.
    """

    where: str
    reason: str
    count: int
    names: tuple[str, ...]
    message: str

    @classmethod
    def of(cls, where: str, reason: str, names: Sequence[str]) -> "LeftOut":
        """Tell of some names why they are left out."""
        first, n = tuple(names[:_SHOWN]), len(names)
        more = f" and {n - _SHOWN} more" if n > _SHOWN else ""
        message = f"{where}: {n} left out, {reason}: {', '.join(first)}{more}"
        return cls(where, reason, n, first, message)


@dataclass(frozen=True)
class Listing:
    """What there is at one time.

    Attributes
    ----------
    found : list of Found
        In the order given, those of a folder or glob sorted.
    left_out : list of LeftOut
    empty : list of (str, str)
        Folders, globs and lists without a checkpoint, and what is wrong with each in one sentence.
    """

    found: list[Found] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    empty: list[tuple[str, str]] = field(default_factory=list)

    def look(self, given: str, row: str = "") -> None:
        """Take in a file, a folder, a list, or a glob where there is nothing of that very name."""
        path = Path(given)
        if not os.path.lexists(given) and glob.has_magic(given):
            # Of pathlib's, `**` passes over hidden files and an absolute pattern is an error.
            names = glob.glob(_pattern(given), recursive=True)  # noqa: PTH207
            if "**" in given:
                names = [name for name in names if is_checkpoint(name) or not Path(name).is_dir()]
            self._take(given, row, sorted(names), "no file matches {}")
        # A folder that is named like a checkpoint is one that cannot be read, and is told.
        elif path.is_dir() and not is_checkpoint(given):
            # As text, which for a hundred thousand takes a fifth of pathlib's time.
            names = [os.path.join(given, name) for name in sorted(os.listdir(given))]  # noqa: PTH118, PTH208
            self._take(given, row, names, "there is no checkpoint in {}", hidden=True)
        elif path.suffix.lower() in _LISTS and (path.is_file() or not row):
            self._read(given)
        else:
            self.found.append(Found(given, row))

    def _take(
        self, given: str, row: str, names: Sequence[str], problem: str, hidden: bool = False
    ) -> None:
        """Sort what is in a folder or matches a glob into checkpoints and what is left out."""
        reasons: dict[str, list[str]] = {}
        n_before = len(self.found)
        for name in names:
            base = os.path.basename(name)  # noqa: PTH119
            weights = name.lower().removesuffix(_DATA)
            # A glob finds hidden files only where it asks for them.
            if hidden and base.startswith("."):
                reasons.setdefault("hidden", []).append(base)
            elif is_checkpoint(name):
                self.found.append(Found(name, row))
            elif os.path.isdir(name):  # noqa: PTH112
                reasons.setdefault("folders, which a glob with ** looks into", []).append(base)
            elif not (is_onnx(weights) and os.path.exists(name[: len(weights)])):  # noqa: PTH110
                reasons.setdefault("not named as weights", []).append(base)
        self.left_out.extend(LeftOut.of(given, reason, own) for reason, own in reasons.items())
        if len(self.found) == n_before:
            self.empty.append((given, Found(given, row).named(problem.format(given))))

    def _read(self, given: str) -> None:
        """Take in the rows of a list."""
        try:
            # Spreadsheets write a byte-order mark.
            lines = Path(given).read_text("utf-8-sig").splitlines()
        except FileNotFoundError:
            raise FileNotFoundError(f"{given}: no such list of checkpoints") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{given} is not UTF-8 text, and so no list of checkpoints") from error
        if not any(map(str.strip, lines)):
            self.empty.append((given, f"{given} lists no checkpoint"))
        for number, line in enumerate(lines, 1):
            if line.strip():
                self.look(line.strip(), f"{given}, line {number}")


@dataclass(frozen=True)
class Source:
    """Checkpoints of one network.

    Attributes
    ----------
    arch : str or None
        "module:callable" or an exported `.onnx` file; None for checkpoints that are `.onnx` files themselves.
    weights : tuple of str
        Files, folders, globs, or lists of paths in `.txt` files. What is there under the very name is no glob.
    taps, preprocessing
        As for `export_onnx`.
    labels : str
        A regular expression that is searched in each path; its named groups are the checkpoint's labels.
    row : str
        What of a manifest it is from; empty where it is from none.
    """

    arch: str | None
    weights: tuple[str, ...]
    taps: Taps | None = None
    preprocessing: Preprocessing | None = None
    labels: str = ""
    row: str = ""

    def __post_init__(self) -> None:
        try:
            re.compile(self.labels)
        except re.error as error:
            raise ValueError(f"labels {self.labels!r} is no regular expression: {error}") from None

    def labels_of(self, path: str) -> dict[str, str]:
        """The labels in a path; none where the pattern is not found."""
        found = re.search(self.labels, path)
        return {k: v for k, v in found.groupdict().items() if v is not None} if found else {}

    def paths(self) -> Iterator[str]:
        """Yield the checkpoints' paths as they are now: in the order given, those of a folder or glob sorted."""
        yield from (found.path for found in self.listing().found)

    def listing(self) -> Listing:
        """Look at what there is now."""
        listing = Listing()
        for each in self.weights:
            listing.look(each, self.row)
        return listing


def sources(
    weights: Sequence[str | Path],
    arch: Sequence[str] = (),
    taps: Taps | None = None,
    labels: str = "",
) -> list[Source]:
    """Read what a sweep is given into checkpoints by network.

    Parameters
    ----------
    weights : sequence of path-like
        Files, folders, globs, `.txt` files with a path a line, or `.toml` manifests.
    arch : sequence of str
        As for `score_checkpoints`: one for all, one for each of the weights, or none. Manifests have their own.
    taps, labels
        Of what is in no manifest.

    Returns
    -------
    list of Source

    Raises
    ------
    ValueError, FileNotFoundError
        If there is nothing, the numbers do not match, or a manifest is not as it should be.
    """
    given = [str(each) for each in weights]
    plain = [each for each in given if not is_manifest(each)]
    if not given:
        raise ValueError("weights is empty; name checkpoints, a folder, a glob or a manifest")
    by_arch: dict[str | None, list[str]] = {}
    for each, own_arch in zip(plain, one_for_each(arch, len(plain)), strict=True):
        by_arch.setdefault(own_arch, []).append(each)
    found = [Source(a, tuple(own), taps, None, labels) for a, own in by_arch.items()]
    for each in given:
        if each not in plain:
            found += read_manifest(each)
    return found


def _pattern(glob_: str) -> str:
    """A glob whose brackets and stars are none as far as there are folders of these very names."""
    ends = [k for k, character in enumerate(glob_) if character in {os.sep, os.altsep}]
    literal = max((end for end in ends if os.path.lexists(glob_[:end])), default=0)
    return glob.escape(glob_[:literal]) + glob_[literal:]


def is_manifest(path: str | Path) -> bool:
    """Whether a path is called as a manifest."""
    return Path(path).suffix.lower() == _MANIFEST


def read_manifest(path: str | Path) -> list[Source]:
    """Read a manifest.

    Parameters
    ----------
    path : path-like
        The TOML file.

    Returns
    -------
    list of Source

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it is no TOML, or a field is unknown or of another type; the message names both.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest")
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    tables = content.pop("network", None)
    if content or not isinstance(tables, list) or not tables:
        stray = f", not {next(iter(content))!r}" if content else ""
        raise ValueError(f"{path} must hold tables [[network]]{stray}")
    return [_source(path, i, table) for i, table in enumerate(tables, 1)]


def _source(path: Path, number: int, table: Mapping[str, Any]) -> Source:
    where = f"{path}: network {number}"
    for key, value in table.items():
        if key not in _FIELDS:
            near = difflib.get_close_matches(key, _FIELDS, 1, 0)[0]
            raise ValueError(f"{where}: unknown field {key}; the nearest is {near}")
        if not isinstance(value, _FIELDS[key]):
            raise ValueError(f"{where}: {key} = {value!r} is of another type than it must be")
    weights = table.get("weights", ())
    weights = [weights] if isinstance(weights, str) else list(weights)
    if not weights or not all(isinstance(each, str) for each in weights):
        raise ValueError(f"{where}: weights must be a path or a list of paths")
    preprocessing = table.get("preprocessing")
    if preprocessing is not None:
        names = {field.name for field in fields(Preprocessing)}
        if unknown := sorted(preprocessing.keys() - names):
            raise ValueError(
                f"{where}: preprocessing has no field {unknown[0]}; there are {', '.join(sorted(names))}"
            )
        try:
            preprocessing = Preprocessing(**preprocessing)
        except ValueError as error:
            raise ValueError(f"{where}: preprocessing: {error}") from None
    arch = table.get("arch")
    if arch is not None and is_onnx(arch):
        arch = str(path.parent / arch)
    try:
        return Source(
            arch,
            tuple(str(path.parent / each) for each in weights),
            table.get("taps"),
            preprocessing,
            table.get("labels", ""),
            where,
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
