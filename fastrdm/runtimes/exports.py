"""Exported architectures on disk: a network is exported once, and again when something that made it has changed.

A file holds the graph of one "module:callable" with its taps and preprocessing; if torch runs it, the facts of the
module and no graph. Its name is the SHA-256 of these, of the file that the module is found in, and of the versions of
Python and the packages that export. It also lists all that the export read, see `export_inputs`: if any of this has
changed, the network is exported again. Files appear when they are complete, and several processes may write the same
one. Files without the digest of their content are written again. The folder is private: it is made with mode 0700, and
that of another user is neither read nor written.

What cannot be tracked is not kept: networks in memory and callables, modules that the program had imported before,
networks that differ between two builds, that used the network connection while they were built, or whose files changed
meanwhile. Files read by code that is not Python, the time, and folders' listings are not noticed.
"""

import builtins
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastrdm._base import __version__, check_private_folder, make_private_folder, new_file
from fastrdm.images import cache_info
from fastrdm.networks import RequestedPreprocessing
from fastrdm.runtimes.export_inputs import (
    ExportInputs,
    Recorder,
    UntrackedError,
    find_module,
    search_current_folder,
)

VARIABLE = "FASTRDM_EXPORTS"
"""Environment variable that turns the cache off if it is "off"."""

_OURS = "fastrdm-"
_PREFIX, _SUFFIX = f"{_OURS}export-", ".bin"
_MAGIC = b"fastrdm export 1\n"
_MAX_BYTES = 512 * 2**20
_PACKAGES = ("numpy", "onnx", "onnx_ir", "onnxscript", "torch")


@dataclass(frozen=True)
class ExportRequest:
    """What is exported: "module:callable", taps, and what replaces the network's preprocessing, as text.

    `runtime` is "onnx", or "torch" for the facts of a network that runs as a module.
    """

    arch: str
    taps: Any = None
    input_size: Any = None
    preprocessing: str | None = None
    runtime: str = "onnx"

    @classmethod
    def of(
        cls,
        arch: str,
        taps: Any,
        input_size: Any,
        preprocessing: RequestedPreprocessing | None,
        runtime: str = "onnx",
    ) -> "ExportRequest":
        """Return the request for an export with the arguments of `Architecture.export`."""
        text = preprocessing.to_json() if preprocessing else None
        return cls(arch, taps, input_size, text, runtime)


@dataclass(frozen=True)
class Exported:
    """A graph without weights, the facts of its `Architecture`, and the warnings of its export.

    Those of a `TorchArchitecture` have an empty graph.
    """

    graph: bytes
    layout: str
    initialisers: tuple[str, ...]
    fingerprint: str
    preprocessing: str
    taps: str
    warnings: tuple[tuple[str, str], ...] = ()

    def warn(self) -> None:
        """Give the warnings of the export again."""
        for name, text in self.warnings:
            warnings.warn(text, getattr(builtins, name, UserWarning), stacklevel=3)


class Exports:
    """The exports of one call: modules that were imported before it are not trusted.

    Without `folder` the files are in the folder of `fastrdm.images.cached_pixels`.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._is_on = os.environ.get(VARIABLE, "") != "off"
        self._folder = folder
        self._before = frozenset(sys.modules)
        self._recorder = Recorder()

    def find(self, request: ExportRequest) -> Exported | None:
        """Return a kept export if a new one would be the same, else None."""
        if not self._is_tracked(request):
            return None
        search_current_folder()
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            path = self._path(request)
            exported, inputs = _read(path)
            if inputs.are_current(self._before):
                with contextlib.suppress(OSError):
                    os.utime(path)
                return exported
        return None

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record what is read within the context."""
        if not self._is_on:
            yield
            return
        with self._recorder.active():
            yield

    def keep(self, request: ExportRequest, exported: Exported) -> None:
        """Keep an export that was recorded, unless something about it cannot be tracked."""
        if not self._is_tracked(request):
            return
        with contextlib.suppress(UntrackedError, TypeError, ValueError):
            inputs = self._recorder.inputs()
            try:
                _write(self._path(request), exported, inputs)
            except OSError as error:
                warnings.warn(
                    f"the export of {request.arch} cannot be kept: {error}; it is repeated each time;"
                    f" {VARIABLE}=off silences this warning",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def _is_tracked(self, request: ExportRequest) -> bool:
        """Whether no other code of this process had the module, which it may have changed."""
        root = request.arch.partition(":")[0].partition(".")[0]
        return self._is_on and root not in self._before

    def _path(self, request: ExportRequest) -> Path:
        facts = [asdict(request), find_module(request.arch.partition(":")[0]), _environment()]
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        return cache_info(self._folder).folder / f"{_PREFIX}{name}{_SUFFIX}"


@contextlib.contextmanager
def warnings_recorded() -> Iterator[list[tuple[str, str]]]:
    """Add category and text of the warnings within the context to a list; give them at its end."""
    noted: list[tuple[str, str]] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield noted
    finally:
        noted += [(each.category.__name__, str(each.message)) for each in caught]
        for each in caught:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def _environment() -> list[Any]:
    """Versions of all that exports."""
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            versions.append("")
    return [__version__, sys.version, sys.prefix, platform.machine(), versions]


def _write(path: Path, exported: Exported, inputs: ExportInputs) -> None:
    facts = asdict(exported)
    del facts["graph"]
    header = json.dumps({"exported": facts, "inputs": asdict(inputs)}).encode()
    content = len(header).to_bytes(8, "little") + header + exported.graph
    make_private_folder(path.parent, _OURS)
    with new_file(path) as file:
        file.write(_MAGIC + hashlib.sha256(content).digest() + content)
    _prune(path.parent)


def _read(path: Path) -> tuple[Exported, ExportInputs]:
    """Read a file; ValueError if it is damaged, PermissionError if its folder is not this user's."""
    check_private_folder(path.parent, _OURS)
    content = path.read_bytes()
    start = len(_MAGIC) + 32
    body = memoryview(content)[start:]
    if content[:start] != _MAGIC + hashlib.sha256(body).digest():
        raise ValueError(f"{path} is damaged")
    length = int.from_bytes(body[:8], "little")
    header: Mapping[str, Any] = json.loads(bytes(body[8 : 8 + length]))
    facts = header["exported"]
    facts["initialisers"] = tuple(facts["initialisers"])
    facts["warnings"] = tuple((name, text) for name, text in facts["warnings"])
    return Exported(bytes(body[8 + length :]), **facts), ExportInputs(**header["inputs"])


def _prune(folder: Path) -> None:
    """Remove the least recently used files until the others fit."""
    found = []
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > _MAX_BYTES:
            with contextlib.suppress(OSError):
                path.unlink()
