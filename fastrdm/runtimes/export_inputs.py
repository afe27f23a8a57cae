"""What an export depends on beside its arguments: the modules, files and environment variables that it read.

Modules and files that belong to no installed package count by content (SHA-256), those of installed packages by size
and time. Files that were looked for and did not exist must still not exist, and each module must still be found in the
same file.
"""

import contextlib
import hashlib
import importlib.util
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from fastrdm._base import file_stamp

_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
_STANDARD = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_SYSTEM = ("/proc/", "/sys/", "/dev/")
# Larger files, which are weights, count by size, times and inode: hashing them takes longer than the rest of a run.
_LARGE = 16 * 2**20
# Its modules were imported at this time.
_STARTED = time.time()

# Which kind of file a path is, see `_kind`.
_USER, _OF_PACKAGE, _IGNORED = "user", "package", "ignored"


class UntrackedError(Exception):
    """An export that depends on something of which no later process can know whether it changed."""


@dataclass(frozen=True)
class ExportInputs:
    """Modules by name, with their files; files by path, with their content or state; environment variables, hashed."""

    modules: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    def are_current(self, loaded: frozenset[str]) -> bool:
        """Whether a process that had loaded the modules `loaded` would read the same."""
        return (
            all(_digest(os.environ.get(name)) == value for name, value in self.variables.items())
            and all(_state(path) == state for path, state in self.files.items())
            and all(file_stamp(path) == tuple(stamp) for path, stamp in self.packages.items())
            and all(
                _kind(path) != _USER or name not in loaded for name, path in self.modules.items()
            )
            and all(find_module(name) == path for name, path in self.modules.items())
        )


class Recorder:
    """Records what imports and builds read while it is active."""

    def __init__(self) -> None:
        self._before = frozenset(sys.modules)
        self._start = time.time()
        self._opened: set[str] = set()
        self._written: set[str] = set()
        self._variables: set[str] = set()
        self._connected = False

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Record within the context, in all threads."""
        with _LOCK, _environment_watched(self._variables):
            _install_hook()
            _ACTIVE.append(self)
            try:
                yield
            finally:
                _ACTIVE.remove(self)

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an audit event of Python."""
        if event == "socket.connect":
            self._connected = True
        if event != "open":
            return
        path, mode, flags = arguments
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.fsdecode(path)
        if mode is None:
            is_new = flags & os.O_TRUNC or (flags & os.O_CREAT and flags & os.O_EXCL)
            mode = "w" if is_new or flags & os.O_WRONLY else "r+" if flags & os.O_RDWR else "r"
        # What a network wrote before it read it is not an input.
        if ("r" in mode or "a+" in mode.replace("b", "")) and name not in self._written:
            self._opened.add(name)
        if mode.strip("rbtU"):
            self._written.add(name)

    def inputs(self) -> ExportInputs:
        """All that was read; UntrackedError if a later process could not check it."""
        if self._connected:
            raise UntrackedError("it used the network")
        modules, packages, files = {}, {}, {}
        for name, path in _loaded_files():
            kind = _kind(path)
            if kind == _IGNORED:
                continue
            if kind == _USER:
                if name in self._before:
                    raise UntrackedError(f"the module {name} was imported before")
                files[path] = self._content(path)
            else:
                packages[path] = self._package_stamp(path, name)
            if kind == _USER or ("." not in name and find_module(name) == path):
                modules[name] = path
        program = vars(sys.modules["__main__"]).get("__file__")
        for path in self._opened - {program}:
            found = _source(path)
            if found and found not in packages and _kind(found) == _USER:
                files[found] = self._content(found)
        variables = {name: _digest(os.environ.get(name)) for name in self._variables}
        return ExportInputs(modules, packages, files, variables)

    def _content(self, path: str) -> str:
        """State of a file that has not changed since the recording began."""
        state = _state(path)
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(path)  # noqa: PTH116
            if max(found.st_mtime, found.st_ctime) > self._start:
                raise UntrackedError(f"{path} changed meanwhile")
        return state

    def _package_stamp(self, path: str, name: str) -> tuple[int, int]:
        found = os.stat(path)  # noqa: PTH116
        since = _STARTED if name in self._before else self._start
        if max(found.st_mtime, found.st_ctime) > since:
            raise UntrackedError(f"{path} changed meanwhile")
        return found.st_size, found.st_mtime_ns


def search_current_folder() -> None:
    """Let modules be found in the current folder too, first."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def find_module(name: str) -> str | None:
    """The file from which a module would be imported, found without importing anything; None if there is none."""
    path: Iterable[str] | None = None
    spec = None
    parts = name.split(".")
    for i in range(len(parts)):
        spec = _find_spec(".".join(parts[: i + 1]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
        if path is None and i + 1 < len(parts):
            return None
    return spec.origin if spec is not None and spec.has_location else None


def _find_spec(name: str, path: Any) -> Any:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and (spec := find(name, path, None)) is not None:
            return spec
    return None


def _loaded_files() -> Iterator[tuple[str, str]]:
    """Names and files of the loaded modules; those without a file were made by others."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and name not in ("__main__", "__mp_main__"):
            path = vars(module).get("__file__")
            if isinstance(path, str) and os.path.isfile(path):  # noqa: PTH113
                yield name, os.path.abspath(path)  # noqa: PTH100


def _kind(path: str) -> str:
    if path.startswith((*_SYSTEM, "<frozen")):
        return _IGNORED
    if path.startswith(_PACKAGE) or any(part in path for part in _INSTALLED):
        return _OF_PACKAGE
    return _IGNORED if path.startswith(_STANDARD) else _USER


def _source(path: str) -> str | None:
    """A path as opened; of compiled code, that of its source."""
    if "__pycache__" not in path:
        return path
    try:
        source = importlib.util.source_from_cache(path)
    # Other programs, such as pytest, name their compiled files differently.
    except ValueError:
        return None
    return source if Path(source).is_file() else None


def _state(path: str) -> str:
    """The SHA-256 of a file; size, times and inode of a large one; a word if it cannot be read."""
    try:
        found = os.stat(path)  # noqa: PTH116
        if not os.path.isfile(path):  # noqa: PTH113
            return "no file"
        if found.st_size > _LARGE:
            return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"


def _digest(value: str | None) -> str:
    # Hashed, because a variable may be a secret.
    return "" if value is None else hashlib.sha256(value.encode(errors="replace")).hexdigest()


_LOCK = threading.RLock()
_ACTIVE: list[Recorder] = []
_HOOKS: list[str] = []


def _install_hook() -> None:
    """Install the hook that reports files to active recorders; Python cannot remove it."""
    if not _HOOKS:
        _HOOKS.append("open")
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _ACTIVE and event in ("open", "socket.connect"):
        for recorder in _ACTIVE:
            recorder.see(event, arguments)


@contextlib.contextmanager
def _environment_watched(names: set[str]) -> Iterator[None]:
    """Add to `names` the environment variables that code outside installed packages reads."""
    kind: Any = type(os.environ)
    original = kind.__getitem__

    def getitem(environment: Any, name: str) -> Any:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and _kind(frame.f_code.co_filename) == _IGNORED:
            frame = frame.f_back
        if frame is not None and _kind(frame.f_code.co_filename) == _USER:
            names.add(name)
        return original(environment, name)

    kind.__getitem__ = getitem
    try:
        yield
    finally:
        kind.__getitem__ = original
