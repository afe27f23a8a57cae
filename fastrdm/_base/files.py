"""Files that appear, or replace older ones, only when complete; checks before they are written; their stamps."""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import BinaryIO, TextIO

from fastrdm._base.text import unescaped


def file_stamp(path: str | Path) -> tuple[int, int]:
    """Size and modification time (ns) of a file, which change when it is written to; −1 each if there is none."""
    # os.stat takes a fifth of pathlib's time.
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file to read it; OSError for a pipe, a socket or a device, which could block or never end."""
    # Opening a device can have effects of its own, and what has the name may be replaced before it is opened.
    _check_regular(path, os.stat(path).st_mode)  # noqa: PTH116
    flags = (getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK"))
    descriptor = os.open(path, os.O_RDONLY | sum(flags))
    try:
        _check_regular(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = IsADirectoryError if stat.S_ISDIR(mode) else OSError
        raise kind(f"{path} is not a regular file")


def leaves_folder(name: str) -> bool:
    """Whether a path, taken from a folder, may lead out of it on any system; links are not followed."""
    # Windows has all separators of other systems, and roots beside theirs.
    path = PureWindowsPath(name)
    return bool(path.anchor) or ".." in path.parts or "\0" in name


def existing_name(name: str) -> str:
    """Return a path as it is given, or, if only that exists, the path that messages show as `name` (`printable`)."""
    if "\\" not in name or os.path.lexists(name):
        return name
    plain = unescaped(name)
    return plain if "\0" not in plain and os.path.lexists(plain) else name


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is renamed to `path` at the end; an error leaves nothing behind, and one of writing names it."""
    # Not with `tempfile`: other users may not read its files.
    partial = path.with_name(f"{path.name}.{os.urandom(8).hex()}.part")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(partial)):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def new_text_file(path: Path) -> Iterator[TextIO]:
    """As `new_file`, for text in UTF-8 with line ends as they are written."""
    with new_file(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        yield text
        text.flush()
        text.detach()


def check_writable_file(path: str | Path, name: str) -> None:
    """Refuse a file that cannot be written: a folder, or a file in a folder that is missing or read-only.

    `name` is the argument's, for the error. Nothing is written; an existing file keeps its content.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{name}: {path} is a folder, not a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name}: {path}: there is no folder {path.parent}")
    # Not opened: to close a file of SQLite would release the locks that this process has on it.
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"{name}: {path} is read-only")
    # Devices and pipes need no other file in their folder.
    if path.is_file() or not path.exists():
        _check_folder(path.parent, name)


def check_writable_folder(path: str | Path, name: str) -> None:
    """Refuse a folder that cannot be made or written to; `name` is the argument's, for the error."""
    path = Path(path).absolute()
    existing = next(each for each in (path, *path.parents) if each.exists())
    if not existing.is_dir():
        raise ValueError(f"{name}: {existing} is a file, not a folder")
    _check_folder(existing, name)


def check_private_folder(folder: Path, prefix: str) -> None:
    """Refuse a folder that other users control; one that does not exist is accepted.

    A folder of this user in which all names begin with `prefix` is made private (mode 0700). Raise PermissionError if
    the folder belongs to another user, or holds other files and others can write to it. Windows has access lists
    instead, which are not checked.
    """
    if not hasattr(os, "geteuid"):
        return
    try:
        found = folder.stat()
    except FileNotFoundError:
        return
    if found.st_uid != os.geteuid():
        raise PermissionError(
            f"the folder {folder} belongs to another user (number {found.st_uid}), who could change its files"
        )
    if not found.st_mode & 0o077:
        return
    if all(each.name.startswith(prefix) for each in folder.iterdir()):
        folder.chmod(0o700)
    elif found.st_mode & 0o022:
        raise PermissionError(
            f"others can write to the folder {folder}; make it private with: chmod 700 {folder}"
        )


def make_private_folder(folder: Path, prefix: str) -> None:
    """Make a folder with mode 0700, and its parents; an existing one is checked as by `check_private_folder`."""
    folder.mkdir(0o700, parents=True, exist_ok=True)
    check_private_folder(folder, prefix)


def _check_folder(folder: Path, name: str) -> None:
    import tempfile

    # Permissions do not reveal read-only file systems and full disks.
    with _named(f"{name}: files cannot be written in {folder}"), tempfile.TemporaryFile(dir=folder):
        pass


@contextlib.contextmanager
def _named(problem: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise type(error)(f"{problem}: {error.strerror or error}") from None
