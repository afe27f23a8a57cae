"""Packages that provide an execution provider: ONNX Runtime itself, a plug-in, or OpenVINO's own package."""

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import io
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import encodable, one_line, require

if TYPE_CHECKING:
    from fastrdm.networks import Graph


class RefusedError(ValueError):
    """A provider is unavailable as requested; one sentence."""


@dataclass(frozen=True)
class PrecisionSetting:
    """How to request a precision: options, and environment variables with the value they need; "" for unset."""

    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Builtin:
    """A provider compiled into an ONNX Runtime package, or, since 1.32, a plug-in inside it."""

    name: str
    package: str
    precisions: Mapping[str, PrecisionSetting]
    install: str = ""

    def is_present(self) -> bool:
        """Whether the installed ONNX Runtime has it."""
        # The provider of a registered plug-in package is available, too.
        loaded = [device for device in _devices(self.name) if _library(device)]
        return self.name in runtime().get_available_providers() and loaded == self._bundled()

    def _bundled(self) -> list[Any]:
        """Devices of a plug-in inside the ONNX Runtime package."""
        folder = str(Path(runtime().__file__).parent)
        return [device for device in _devices(self.name) if _library(device).startswith(folder)]

    def session(self, graph: "Graph", options: Mapping[str, str], settings: Any) -> Any:
        """Open a session on the provider."""
        pip = f"pip install {self.install or self.package}"
        if missing := self._missing_library():
            raise RefusedError(
                f"the libraries of {self.name} do not load ({missing}); install them with: {pip}"
            )
        if devices := self._bundled():
            return _on_device(graph, devices, options, settings)
        session = runtime().InferenceSession(
            _readable(graph),
            settings,
            providers=[self.name],
            provider_options=[dict(options)],
            # Otherwise an error is printed, and another provider runs without the options.
            enable_fallback=0,
        )
        if self.name not in session.get_providers():
            with_options = f" with the options {dict(options)}" if options else ""
            raise RefusedError(
                f"{self.name} does not load{with_options}; install its dependencies with: {pip}"
            )
        return session

    def _missing_library(self) -> str:
        """Why the provider's library does not load; ONNX Runtime only prints it."""
        stem = f"onnxruntime_providers_{self.name.removesuffix('ExecutionProvider').lower()}"
        file = f"{stem}.dll" if sys.platform == "win32" else f"lib{stem}.so"
        library = Path(runtime().__file__).parent / "capi" / file
        if not library.is_file():
            return ""
        _preload_cuda()
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            return reason_of(error)
        return ""


@dataclass(frozen=True, eq=False)
class Plugin:
    """A plug-in package for ONNX Runtime 1.23 or newer, which reports its library and its name."""

    module: str
    package: str
    precisions: Mapping[str, PrecisionSetting]
    supports: str = ""

    def is_present(self) -> bool:
        """Whether the package is installed, with an ONNX Runtime that supports plug-ins."""
        return importlib.util.find_spec(self.module) is not None and hasattr(
            runtime(), "register_execution_provider_library"
        )

    def session(self, graph: "Graph", options: Mapping[str, str], settings: Any) -> Any:
        """Open a session on a device, of the kind `device_type` if that is an option."""
        kind = options.get("device_type")
        devices = [
            device
            for device in _devices(self._register())
            if kind is None or device.ep_metadata.get("ov_device") == kind
        ]
        if not devices:
            raise RefusedError(
                f"{self.package} finds no {kind or 'device'} that it supports{self.supports}"
            )
        rest = {name: value for name, value in options.items() if name != "device_type"}
        return _on_device(graph, devices, rest, settings)

    def _register(self) -> str:
        """Register the plug-in with ONNX Runtime, once per process; return its name."""
        plugin = importlib.import_module(self.module)
        name: str = plugin.get_ep_name()
        try:
            if not _devices(name):
                library = plugin.get_library_path()
                runtime().register_execution_provider_library(self.module, library)
        except Exception as error:
            if "already registered" not in str(error):
                raise RefusedError(f"{self.package} does not load: {reason_of(error)}") from error
        return name


@dataclass(frozen=True, eq=False)
class OpenVinoPackage:
    """OpenVINO's own package, which supports processors of any vendor and any ONNX Runtime."""

    package: str
    precisions: Mapping[str, PrecisionSetting]

    def is_present(self) -> bool:
        """Whether the package is installed."""
        return importlib.util.find_spec("openvino") is not None

    def session(self, graph: "Graph", options: Mapping[str, str], settings: Any) -> Any:
        """Open a session with those methods of ONNX Runtime's that fastrdm uses."""
        from fastrdm.runtimes.openvino_session import OpenVinoSession

        device = options["device_type"]
        properties = json.loads(options["load_config"])[device]
        return OpenVinoSession(graph.source, graph.initialisers, device, properties)


ProviderSource = Builtin | Plugin | OpenVinoPackage


def runtime() -> Any:
    """Return ONNX Runtime, or raise an error that names its extra."""
    return require("onnxruntime", "onnx", "to run a network")


def _devices(name: str) -> list[Any]:
    """Devices of a registered provider, in ONNX Runtime 1.23 or newer."""
    ort = runtime()
    devices = ort.get_ep_devices() if hasattr(ort, "get_ep_devices") else []
    return [device for device in devices if device.ep_name == name]


def _library(device: Any) -> str:
    """The plug-in's library; empty if the provider is compiled in."""
    path: str = device.ep_metadata.get("library_path", "")
    return path


def _on_device(
    graph: "Graph", devices: list[Any], options: Mapping[str, str], settings: Any
) -> Any:
    """Open a session on the first device, or the one with the index `device_id`."""
    number = options.get("device_id", "0")
    if not number.isdecimal() or int(number) >= len(devices):
        raise RefusedError(
            f"device_id is {number}, but there are only {len(devices)} devices, counted from 0"
        )
    settings.add_provider_for_devices([devices[int(number)]], dict(options))
    return runtime().InferenceSession(_readable(graph), settings)


@functools.cache
def _preload_cuda() -> None:
    """Load CUDA's libraries from pip packages, once; output printed meanwhile is lost."""
    ort = runtime()
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def _readable(graph: "Graph") -> str | bytes:
    if isinstance(graph.source, bytes):
        return graph.source
    name = str(graph.source)
    # ONNX Runtime takes names in UTF-8 only.
    return name if encodable(name) == name else graph.source.read_bytes()


def reason_of(error: Exception) -> str:
    """An error's text on one line, without the places in its source that OpenVINO names."""
    return re.sub(r"Exception from \S+: ", "", one_line(error))
