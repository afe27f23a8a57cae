"""The file of a target, which processes map; `target_contents` checks what it means."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastrdm._base import ArrayFormat, Blocks, write_blocks

_MAGIC = b"fastrdm target\n"
_VERSION = 4
# Number of axes of each array.
_AXES = {"subjects": 3, "values": 2, "squares": 1}


def _missing(arrays: Collection[str]) -> str:
    complete = set(arrays) in ({"subjects"}, set(_AXES))
    return "" if complete else f"the arrays {', '.join(_AXES)}, or subjects alone"


def _format() -> ArrayFormat:
    return ArrayFormat(_MAGIC, "a target", _VERSION, _AXES, ("<f4", "<f8"), _missing)


@dataclass(frozen=True)
class TargetFile:
    """A file that was read, and the checksum of its arrays."""

    path: str
    checksum: int


def write_target_file(
    path: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]
) -> None:
    """Write arrays and facts; the file appears when it is complete."""
    write_blocks(path, _pack(arrays, facts))


def _pack(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Blocks:
    return _format().pack(arrays, facts)


def read_target_file(path: Path) -> tuple[TargetFile, dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the file, the facts of its header, and its arrays, mapped; errors as in `Target.load`."""
    facts, arrays = _format().read(path)
    return TargetFile(str(path.resolve()), facts["checksum"]), facts, arrays
