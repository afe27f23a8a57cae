"""A check of texts and lists of any length in an HDF5 file, before HDF5 reads them.

An element has a length, the address of a global heap, and the number of an object there. HDF5 2.0 goes from object to
object by their sizes, for ever where one is zero, and reserves memory for the length without a look at the object's.
"""

import functools
import mmap
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The signature, and the only version of the format.
_SIGNATURE = b"GCOL\x01"
_HEADER = 16
_ELEMENT = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
# Bytes that are searched at a time.
_BLOCK = 2**24
#: HDF5's numbers of filters.
DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3


def filters_of(dataset: Any) -> list[int]:
    """The numbers of the filters that a dataset's chunks pass."""
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]


@functools.lru_cache(maxsize=8)
def heaps_of(path: Path, base: int, stamp: tuple[int, int]) -> "Hdf5Heaps":
    """The heaps of a file, checked once as long as its stamp stays the same."""
    return Hdf5Heaps(path, base)


class Hdf5Heaps:
    """The sizes of the objects in the heaps of a file; `base` is where HDF5's addresses begin."""

    def __init__(self, path: Path, base: int) -> None:
        self._sizes: dict[int, dict[int, int]] = {}
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            at = content.find(_SIGNATURE)
            while at >= 0:
                self._sizes[at - base] = _objects(content, at)
                at = content.find(_SIGNATURE, at + 1)
            if not self._sizes:
                return
            for start in range(0, len(content), _BLOCK):
                self._search(content[start : start + _BLOCK + _ELEMENT.itemsize])

    def _search(self, block: bytes) -> None:
        """Check everything that looks like an element, at any byte."""
        known = np.array(sorted(self._sizes), np.uint64)
        for shift in range(4):
            words = np.frombuffer(block, "<u4", (len(block) - shift) // 4, shift)
            if len(words) < 4:
                continue
            heaps = words[1:-2].astype(np.uint64) | words[2:-1].astype(np.uint64) << np.uint64(32)
            near = np.flatnonzero((heaps >= known[0]) & (heaps <= known[-1]))
            for i in near[np.isin(heaps[near], known)]:
                self._check(int(words[i]), int(heaps[i]), int(words[i + 3]))

    def check_chunks(self, dataset: Any) -> None:
        """Check the elements in the compressed chunks of a dataset; ValueError for filters other than those of gzip."""
        codes = filters_of(dataset)
        if not codes:
            return
        if set(codes) - {DEFLATE, _SHUFFLE, _FLETCHER32}:
            raise ValueError(
                f"the texts of {dataset.name} are compressed in a way that is not read"
            )
        n_bytes = int(np.prod(dataset.chunks)) * _ELEMENT.itemsize
        for i in range(dataset.id.get_num_chunks()):
            place = dataset.id.get_chunk_info(i).chunk_offset
            skipped, content = dataset.id.read_direct_chunk(place)
            for k in reversed(range(len(codes))):
                if not skipped >> k & 1:
                    content = _unfiltered(content, codes[k], n_bytes)
            elements = np.frombuffer(content, _ELEMENT, len(content) // _ELEMENT.itemsize)
            for length, heap, number in np.unique(elements):
                self._check(int(length), int(heap), int(number))

    def _check(self, length: int, heap: int, number: int) -> None:
        held = self._sizes.get(heap, {}).get(number)
        if held is not None and length > held:
            raise ValueError(f"it announces a text of {length} bytes where the file has {held}")


def _objects(content: mmap.mmap, start: int) -> dict[int, int]:
    """The sizes of the objects in a heap; ValueError if one does not end within it, or has no end."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(content[at : at + size], "little")

    end = start + number(start + 8, 8)
    if not start + _HEADER <= end <= len(content):
        raise ValueError(f"its heap at byte {start} ends at byte {end}: damaged")
    sizes: dict[int, int] = {}
    at = start + _HEADER
    while at + _HEADER <= end:
        index, size = number(at, 2), number(at + 8, 8)
        # The size of free space, number 0, includes its header.
        taken = _HEADER + (size + 7) // 8 * 8 if index else size
        if taken < _HEADER or at + taken > end:
            raise ValueError(f"its heap at byte {start} has an object of {size} bytes: damaged")
        if index:
            sizes[index] = size
        at += taken
    return sizes


def _unfiltered(content: bytes, code: int, n_bytes: int) -> bytes:
    if code == DEFLATE:
        return zlib.decompressobj().decompress(content, n_bytes + 4)
    if code == _FLETCHER32:
        return content[:-4]
    planes: NDArray[np.uint8] = np.frombuffer(content, np.uint8, len(content) // 16 * 16)
    return planes.reshape(_ELEMENT.itemsize, -1).T.tobytes()
