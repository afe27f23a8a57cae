"""A check of the global heaps of an HDF5 file, which hold texts and lists of any length.

HDF5 2.0 reads a damaged one for ever: it goes from object to object by their sizes, one of which may be zero.
"""

import mmap
from pathlib import Path

# The signature, and the only version of the format.
_SIGNATURE = b"GCOL\x01"


def check_heaps(path: Path, size_of_lengths: int) -> None:
    """Raise ValueError if an object of a heap does not end within it, or has no end."""
    # Signature, version and three bytes; an object's number, its references and four bytes.
    header = 8 + size_of_lengths
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_SIGNATURE)
        while start >= 0:
            size = int.from_bytes(content[start + 8 : start + header], "little")
            end = start + size
            if end > len(content) or size < header:
                raise ValueError(f"its heap at byte {start} has {size} bytes: damaged")
            at = start + (header + 7) // 8 * 8
            while at + header <= end:
                number = int.from_bytes(content[at : at + 2], "little")
                length = int.from_bytes(content[at + 8 : at + header], "little")
                # The size of free space, number 0, includes its header.
                taken = (header + 7) // 8 * 8 + (length + 7) // 8 * 8 if number else length
                if taken < header or at + taken > end:
                    raise ValueError(
                        f"its heap at byte {start} has an object of {length} bytes: damaged"
                    )
                at += taken
            start = content.find(_SIGNATURE, start + 1)
