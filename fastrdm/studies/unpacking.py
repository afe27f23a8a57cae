"""Archives unpacked into a folder: zip, or tar in any compression."""

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fastrdm._base import format_bytes, leaves_folder, new_file

Member = tuple[str, int, IO[bytes]]


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack an archive's files into a folder and return their paths; a folder that holds all of them is left out.

    Files that are there with their size are kept, so an interrupted unpacking goes on. ValueError if a name leads out
    of the folder, or the file is no archive, or damaged; OSError if the disk is too small.
    """
    try:
        return _unpack(archive, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{archive} is damaged: {error}") from error


def _unpack(archive: Path, folder: Path) -> list[Path]:
    sizes = {name: size for name, size, _ in _members(archive, opened=False)}
    names = list(sizes)
    if wrong := [name for name in names if leaves_folder(name)]:
        raise ValueError(f"{archive} holds {wrong[0]!r}, which leads out of the folder")
    needed, free = sum(sizes.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{archive} would expand to {format_bytes(needed)}, and the disk has {format_bytes(free)}"
        )
    tops = {name.partition("/")[0] for name in names}
    common = f"{tops.pop()}/" if len(tops) == 1 and all("/" in name for name in names) else ""
    written = []
    for name, size, file in _members(archive):
        path = folder / name.removeprefix(common)
        if not (path.is_file() and path.stat().st_size == size):
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as target:
                shutil.copyfileobj(file, target, 1 << 20)
        written.append(path)
    return written


def _members(archive: Path, *, opened: bool = True) -> Iterator[Member]:
    """Yield the name, size and content of each file; links and devices are left out."""
    nothing: IO[bytes] = archive.open("rb")
    with nothing:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as pack:
                for entry in pack.infolist():
                    if not entry.is_dir():
                        yield (
                            entry.filename,
                            entry.file_size,
                            pack.open(entry) if opened else nothing,
                        )
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.isfile() else None
                    if file is not None:
                        yield member.name.removeprefix("./"), member.size, file
        else:
            raise ValueError(f"{archive} is not a zip or tar archive; is it a page of the server?")
