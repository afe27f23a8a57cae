"""What brings a provider: built into ONNX Runtime, a plug-in beside it, or OpenVINO's own package."""

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
from typing import Any

from fastrdm._base import one_line, require
from fastrdm.networks import Graph


class RefusedError(ValueError):
    """A provider cannot be had as asked for; one sentence."""


@dataclass(frozen=True)
class Way:
    """How a precision is put in force: options, and variables of the environment with the value they must have.

    The empty value is that of a variable that must not be set.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Builtin:
    """A provider compiled into an ONNX Runtime package, or, from 1.32 on, brought along as a plug-in by it."""

    name: str
    package: str
    ways: Mapping[str, Way]
    install: str = ""

    def is_present(self) -> bool:
        """Whether the installed ONNX Runtime has it."""
        ort = runtime()
        # A plug-in package's is among the available too, once it is registered.
        loaded = [device for device in _devices(self.name) if _library(device)]
        return self.name in ort.get_available_providers() and loaded == self._bundled()

    def _bundled(self) -> list[Any]:
        """Devices of a plug-in that the ONNX Runtime package has brought and registered."""
        folder = str(Path(runtime().__file__).parent)
        return [device for device in _devices(self.name) if _library(device).startswith(folder)]

    def session(self, graph: Graph, options: Mapping[str, str], settings: Any) -> Any:
        """A session on the provider."""
        ort = runtime()
        pip = f"pip install {self.install or self.package}"
        if missing := self._missing_library():
            raise RefusedError(
                f"the libraries of {self.name} do not load ({missing}); install them with: {pip}"
            )
        if devices := self._bundled():
            return _on_device(graph, devices, options, settings)
        session = ort.InferenceSession(
            _readable(graph),
            settings,
            providers=[self.name],
            provider_options=[dict(options)],
            # Else an error is printed, and what runs is another provider without the options.
            enable_fallback=0,
        )
        if self.name not in session.get_providers():
            asked = f" with the options {dict(options)}" if options else ""
            raise RefusedError(
                f"{self.name} does not load{asked}; what it needs is installed with: {pip}"
            )
        return session

    def _missing_library(self) -> str:
        """Why the provider's own library does not load; ONNX Runtime only prints it."""
        ort = runtime()
        stem = f"onnxruntime_providers_{self.name.removesuffix('ExecutionProvider').lower()}"
        file = f"{stem}.dll" if sys.platform == "win32" else f"lib{stem}.so"
        library = Path(ort.__file__).parent / "capi" / file
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
    """A plug-in package for ONNX Runtime 1.23 or newer, which says where its library is and what it calls itself."""

    module: str
    package: str
    ways: Mapping[str, Way]
    takes: str = ""

    def is_present(self) -> bool:
        """Whether the package is installed, with an ONNX Runtime that takes plug-ins."""
        return importlib.util.find_spec(self.module) is not None and hasattr(
            runtime(), "register_execution_provider_library"
        )

    def session(self, graph: Graph, options: Mapping[str, str], settings: Any) -> Any:
        """A session on a device of the kind `device_type`, where that is an option."""
        kind = options.get("device_type")
        devices = [
            device
            for device in _devices(self._register())
            if kind is None or device.ep_metadata.get("ov_device") == kind
        ]
        if not devices:
            raise RefusedError(
                f"{self.package} finds no {kind or 'device'} that it takes{self.takes}"
            )
        rest = {name: value for name, value in options.items() if name != "device_type"}
        return _on_device(graph, devices, rest, settings)

    def _register(self) -> str:
        """Have ONNX Runtime load the plug-in, once a process; its name."""
        ort = runtime()
        plugin = importlib.import_module(self.module)
        name: str = plugin.get_ep_name()
        try:
            if not _devices(name):
                ort.register_execution_provider_library(self.module, plugin.get_library_path())
        except Exception as error:
            if "already registered" not in str(error):
                raise RefusedError(f"{self.package} does not load: {reason_of(error)}") from error
        return name


@dataclass(frozen=True, eq=False)
class OpenVinoPackage:
    """OpenVINO's own package, which runs on processors of any make and needs no particular ONNX Runtime."""

    package: str
    ways: Mapping[str, Way]

    def is_present(self) -> bool:
        """Whether the package is installed."""
        return importlib.util.find_spec("openvino") is not None

    def session(self, graph: Graph, options: Mapping[str, str], settings: Any) -> Any:
        """A session with what fastrdm uses of ONNX Runtime's."""
        from fastrdm.runtimes.openvino_session import OpenVinoSession

        device = options["device_type"]
        properties = json.loads(options["load_config"])[device]
        return OpenVinoSession(graph.source, graph.initialisers, device, properties)


Source = Builtin | Plugin | OpenVinoPackage


def runtime() -> Any:
    """ONNX Runtime, or the extra that brings it."""
    return require("onnxruntime", "onnx", "to run a network")


def _devices(name: str) -> list[Any]:
    """Devices that ONNX Runtime (1.23 or newer) lists for a registered provider."""
    ort = runtime()
    listed = ort.get_ep_devices() if hasattr(ort, "get_ep_devices") else []
    return [device for device in listed if device.ep_name == name]


def _library(device: Any) -> str:
    """The plug-in's library; empty for what is compiled in."""
    path: str = device.ep_metadata.get("library_path", "")
    return path


def _on_device(graph: Graph, devices: list[Any], options: Mapping[str, str], settings: Any) -> Any:
    """A session on the first device, or the one that `device_id` counts."""
    number = options.get("device_id", "0")
    if not number.isdecimal() or int(number) >= len(devices):
        raise RefusedError(f"device_id is {number}, and there are {len(devices)} devices from 0 on")
    settings.add_provider_for_devices([devices[int(number)]], dict(options))
    return runtime().InferenceSession(_readable(graph), settings)


@functools.cache
def _preload_cuda() -> None:
    """Load CUDA's libraries that came with pip, once: what the process prints meanwhile is lost."""
    ort = runtime()
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def _readable(graph: Graph) -> str | bytes:
    return graph.source if isinstance(graph.source, bytes) else str(graph.source)


def reason_of(error: Exception) -> str:
    """An error's text on one line, without the places in its source that OpenVINO names."""
    return re.sub(r"Exception from \S+: ", "", one_line(error))
