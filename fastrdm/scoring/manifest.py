r"""Checkpoints of one network each, and the manifests that list several.

A manifest is a TOML file with a table for each network:

    [[network]]
    arch = "models.networks:resnet20"      # or an exported .onnx file; leave out for .onnx checkpoints
    weights = ["runs/a/*.pth", "runs/b"]   # files, folders, globs or lists, relative to the manifest
    taps = ["layer*", "fc"]                # or a table, NAME = "LAYER"
    labels = 'seed(?P<seed>\d+)/epoch(?P<epoch>\d+)'
    key = "ema.module"                     # which weights of a file, as for fastrdm.sweep: key, prefix, ema,
    allow_missing = ["fc*"]                # allow_missing
    preprocessing = "timm"                 # or "transformers", or a file, as for fastrdm.sweep

or, in place of the last line, a table whose fields replace those of the network's own preprocessing or of a source:

    [network.preprocessing]                # fields of fastrdm.Preprocessing
    source = "timm"
    size = [224, 224]
    crop = 0.9
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastrdm._base import nearest, read_toml
from fastrdm.networks import (
    ANY_FITTING,
    RequestedPreprocessing,
    Selection,
    Taps,
    is_onnx,
    request_preprocessing,
)
from fastrdm.runtimes import Architecture
from fastrdm.scoring.listing import Listing
from fastrdm.scoring.path_labels import compile_labels
from fastrdm.scoring.pattern_search import PatternSearch

_FIELDS: Mapping[str, tuple[type, ...]] = {
    "arch": (str,),
    "weights": (str, list),
    "taps": (list, dict),
    "labels": (str,),
    "preprocessing": (str, dict),
    "key": (str,),
    "prefix": (str,),
    "ema": (bool,),
    "allow_missing": (str, list),
}
_SELECTION = ("key", "prefix", "ema", "allow_missing")


@dataclass(frozen=True)
class CheckpointSource:
    """Checkpoints of one network, or `.onnx` checkpoints without an architecture.

    `weights` are files, folders, globs or lists of paths; a path that exists is never read as a glob. `labels` is a
    regular expression whose named groups become a checkpoint's labels; `row` is the place in a manifest; `selection` is
    which weights of a file are taken.
    """

    arch: str | Architecture | None
    weights: tuple[str, ...]
    taps: Taps | None = None
    preprocessing: RequestedPreprocessing | None = None
    labels: str = ""
    row: str = ""
    selection: Selection = ANY_FITTING

    def __post_init__(self) -> None:
        compile_labels(self.labels)
        if self.selection and self.arch is None:
            raise ValueError(
                f"{next(iter(self.selection.to_dict()))} is for weights with an architecture; .onnx files have their "
                "own weights"
            )

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(compile_labels(self.labels).groupindex)

    @property
    def pattern(self) -> tuple[str, str]:
        """The pattern of labels with its place in a manifest; equal for all checkpoints of a command line."""
        return self.row, self.labels

    def listing(self) -> Listing:
        """List what exists now."""
        listing = Listing()
        for path in self.weights:
            listing.add(path, self.row)
        return listing


def check_labels(
    sources: Iterable[CheckpointSource], watch: bool, search: PatternSearch
) -> set[tuple[str, str]]:
    """Refuse a pattern of labels that matches no present checkpoint, unless others may come (`watch`).

    Returns the patterns that match no checkpoint yet.
    """
    tried: dict[tuple[str, str], tuple[str, int]] = {}
    matching, patterns = set(), set()
    for source in sources:
        if not source.labels:
            continue
        patterns.add(source.pattern)
        paths = [found.path for found in source.listing().found]
        for path, found in zip(paths, search.labels(source.labels, paths), strict=True):
            if found:
                matching.add(source.pattern)
                break
            first, n = tried.get(source.pattern, (path, 0))
            tried[source.pattern] = (first, n + 1)
    for pattern, (first, n) in tried.items():
        if not watch and pattern not in matching:
            row, labels = pattern
            places = first if n == 1 else f"any of {n} paths, of which the first is {first}"
            raise ValueError(
                f"{row + ': ' if row else ''}labels '{labels}' does not match {places}"
            )
    return patterns - matching


def is_manifest(path: str | Path) -> bool:
    """Whether a path has the ending of a manifest."""
    return Path(path).suffix.lower() == ".toml"


def read_manifest(path: str | Path) -> list[CheckpointSource]:
    """Read a manifest; errors name the table and the field."""
    path = Path(path)
    if not path.is_file():
        problem = "is not a file" if path.exists() else "no such manifest"
        raise FileNotFoundError(f"{path}: {problem}")
    content = read_toml(path)
    tables = content.pop("network", None)
    if content or not isinstance(tables, list) or not tables:
        stray = f", not {next(iter(content))!r}" if content else ""
        raise ValueError(f"{path} must hold tables [[network]]{stray}")
    return [_source(path, i, table) for i, table in enumerate(tables, 1)]


def _source(path: Path, number: int, table: Mapping[str, Any]) -> CheckpointSource:
    row = f"{path}: network {number}"
    for key, value in table.items():
        if key not in _FIELDS:
            raise ValueError(
                f"{row}: unknown field {key}; the nearest is {nearest(key, _FIELDS, 1)}"
            )
        if not isinstance(value, _FIELDS[key]):
            raise ValueError(f"{row}: {key} = {value!r} has the wrong type")
    weights = table.get("weights", [])
    weights = [weights] if isinstance(weights, str) else weights
    if not weights or not all(isinstance(each, str) for each in weights):
        raise ValueError(f"{row}: weights must be a path or a list of paths")
    arch = table.get("arch")
    if arch is not None and is_onnx(arch):
        arch = str(path.parent / arch)
    try:
        return CheckpointSource(
            arch,
            tuple(str(path.parent / each) for each in weights),
            table.get("taps"),
            request_preprocessing(table.get("preprocessing"), path.parent),
            table.get("labels", ""),
            row,
            Selection.of(**{name: table[name] for name in _SELECTION if name in table}),
        )
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise ValueError(f"{row}: {error}") from None
