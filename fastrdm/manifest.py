r"""Which checkpoints a sweep is about: files, folders, globs, lists of paths, and manifests of several networks.

A manifest is a TOML file with a table for each network:

    [[network]]
    arch = "models.networks:resnet20"      # or an exported .onnx file; none for .onnx checkpoints
    weights = ["runs/a/*.pth", "runs/b"]   # files, folders, globs or lists, as seen from the manifest
    taps = ["layer*", "fc"]                # or a table, NAME = "LAYER"
    labels = 'seed(?P<seed>\d+)/epoch(?P<epoch>\d+)'
    [network.preprocessing]                # fields of fastrdm.stimuli.Preprocessing
    size = [224, 224]
"""

import difflib
import glob
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fastrdm.checkpoints import one_for_each
from fastrdm.layers import Taps
from fastrdm.stimuli import Preprocessing

SUFFIXES = (".pth", ".pt", ".safetensors", ".onnx")
_LISTS, _MANIFEST = (".txt", ".lst"), ".toml"
_FIELDS: Mapping[str, tuple[type, ...]] = {
    "arch": (str,),
    "weights": (str, list),
    "taps": (list, dict),
    "labels": (str,),
    "preprocessing": (dict,),
}


@dataclass(frozen=True)
class Source:
    """Checkpoints of one network.

    Attributes
    ----------
    arch : str or None
        "module:callable" or an exported `.onnx` file; None for checkpoints that are `.onnx` files themselves.
    weights : tuple of str
        Files, folders, globs, or lists of paths in `.txt` files.
    taps, preprocessing
        As for `export_onnx`.
    labels : str
        A regular expression that is searched in each path; its named groups are the checkpoint's labels.
    """

    arch: str | None
    weights: tuple[str, ...]
    taps: Taps | None = None
    preprocessing: Preprocessing | None = None
    labels: str = ""

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
        for each in self.weights:
            yield from _paths(each)


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
    plain = [each for each in given if Path(each).suffix != _MANIFEST]
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
    if arch is not None and arch.endswith(".onnx"):
        arch = str(path.parent / arch)
    try:
        return Source(
            arch,
            tuple(str(path.parent / each) for each in weights),
            table.get("taps"),
            preprocessing,
            table.get("labels", ""),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _paths(given: str) -> Iterator[str]:
    path = Path(given)
    # A folder that is named like a checkpoint is one that cannot be read, and is told.
    if path.suffix in SUFFIXES and not glob.has_magic(given):
        yield given
    elif path.is_dir():
        # As text, which for a hundred thousand takes a fifth of pathlib's time.
        names = sorted(name for name in os.listdir(given) if name.endswith(SUFFIXES))  # noqa: PTH208
        yield from (os.path.join(given, name) for name in names)  # noqa: PTH118
    elif path.suffix in _LISTS:
        if not path.is_file():
            raise FileNotFoundError(f"{given}: no such list of checkpoints")
        for line in path.read_text("utf-8").splitlines():
            if line.strip():
                yield from _paths(line.strip())
    elif glob.has_magic(given):
        # Of pathlib's, `**` passes over hidden files and an absolute pattern is an error.
        found = glob.glob(given, recursive=True)  # noqa: PTH207
        yield from sorted(p for p in found if Path(p).suffix in SUFFIXES)
    else:
        yield given
