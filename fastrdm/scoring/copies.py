"""Which checkpoints may be copies: files with several names, and files with equal samples."""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

from fastrdm.networks import WeightsError, files_of
from fastrdm.scoring.jobs import Stamp

# Files up to this size are read whole. Of larger ones, the ends are read, because archives of torch end with a
# directory that has a checksum of each tensor, and blocks between them.
_WHOLE, _END, _BLOCK, _N_BLOCKS = 1 << 20, 1 << 16, 1 << 12, 30
# Samples that are remembered; more would only save reading.
_N_REMEMBERED = 100_000

K = TypeVar("K")
Identity: TypeAlias = tuple[tuple[int | str, ...], ...]


@dataclass(frozen=True)
class FileSample:
    """A checkpoint as found on disk, without reading all of it.

    Paths with the same `identity` (device, number, size and modification time of each file) are names of the same
    files. Equal contents have the same `digest`; equal digests do not prove equal contents.
    """

    stamp: Stamp
    identity: Identity
    digest: str


class Samples:
    """Samples of checkpoints; files with several names are read once."""

    def __init__(self) -> None:
        self._digests: dict[Identity, str] = {}

    def take(self, path: str) -> FileSample | None:
        """The sample of a checkpoint; None if it is not made of regular files that can be read."""
        stamp = Stamp.of(path)
        try:
            files = files_of(path)
            found = [os.stat(file) for file in files]  # noqa: PTH116
            # A pipe would block.
            if not all(stat.S_ISREG(each.st_mode) for each in found):
                return None
            identity = tuple(map(_identity, files, found))
            digest = self._digests.get(identity) or _digest(files)
        except (OSError, WeightsError):
            return None
        remember(self._digests, identity, digest)
        return FileSample(stamp, identity, digest)


def remember(cache: dict[K, str], key: K, value: str) -> None:
    """Add to a cache of limited size."""
    if len(cache) >= _N_REMEMBERED:
        cache.clear()
    cache[key] = value


def _identity(file: Path, found: os.stat_result) -> tuple[int | str, ...]:
    # Some file systems of Windows have no numbers.
    return found.st_dev, found.st_ino or str(file), found.st_size, found.st_mtime_ns


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(size.to_bytes(8, "little"))
            for block in _blocks(file, size):
                digest.update(block)
    return digest.hexdigest()


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    if size <= _WHOLE:
        yield file.read(_WHOLE)
        return
    yield file.read(_END)
    for i in range(1, _N_BLOCKS + 1):
        file.seek(i * (size // (_N_BLOCKS + 1)))
        yield file.read(_BLOCK)
    file.seek(size - _END)
    yield file.read(_END)
