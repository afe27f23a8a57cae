"""Execution providers of ONNX Runtime: a graph → a session on the one that was asked for, in the precision asked for.

A provider comes built into an ONNX Runtime package, as a plug-in package beside it, or, OpenVINO, as a package of its
own; `_PROVIDERS` lists them. ONNX Runtime goes on with the CPU where a provider does not load or does not know a node,
and rounds to fewer bits where that is faster. Neither is ever wanted here, so both are asked about and are errors.
"""

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastrdm._extras import require
from fastrdm.graph import Graph

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
# Best first. The others are for who asks: TensorRT compiles for minutes, OpenVINO in fp32 is no faster than the CPU
# provider (17.7 against 16.0 ms an image of ResNet-20), CoreML cannot be asked what it rounds to.
AUTO = ("cuda", "migraphx", "rocm", "cpu")

# A network's work is in these; what is left to the CPU beside them (shapes, mostly) is not told.
_HEAVY = {"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "Attention", "LSTM", "GRU", "RNN"}


@dataclass(frozen=True)
class Opened:
    """A session, the words for the provider that took it and its precision, and the package that brought it."""

    session: Any
    provider: str
    precision: str
    package: str


class RefusedError(ValueError):
    """A provider cannot be had as asked for; one sentence."""


@dataclass(frozen=True)
class _Way:
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
    ways: Mapping[str, _Way]
    install: str = ""

    def is_present(self) -> bool:
        """Whether the installed ONNX Runtime has it."""
        ort = _onnxruntime()
        # A plug-in package's is among the available too, once it is registered.
        loaded = [device for device in _devices(self.name) if _library(device)]
        return self.name in ort.get_available_providers() and loaded == self._bundled()

    def _bundled(self) -> list[Any]:
        """Devices of a plug-in that the ONNX Runtime package has brought and registered."""
        folder = str(Path(_onnxruntime().__file__).parent)
        return [device for device in _devices(self.name) if _library(device).startswith(folder)]

    def session(self, graph: Graph, options: Mapping[str, str], settings: Any) -> Any:
        """A session on the provider."""
        ort = _onnxruntime()
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
        ort = _onnxruntime()
        stem = f"onnxruntime_providers_{self.name.removesuffix('ExecutionProvider').lower()}"
        file = f"{stem}.dll" if sys.platform == "win32" else f"lib{stem}.so"
        library = Path(ort.__file__).parent / "capi" / file
        if not library.is_file():
            return ""
        _preload_cuda()
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            return _line(error)
        return ""


@dataclass(frozen=True, eq=False)
class Plugin:
    """A plug-in package for ONNX Runtime 1.23 or newer, which says where its library is and what it calls itself."""

    module: str
    package: str
    ways: Mapping[str, _Way]
    takes: str = ""

    def is_present(self) -> bool:
        """Whether the package is installed, with an ONNX Runtime that takes plug-ins."""
        return importlib.util.find_spec(self.module) is not None and hasattr(
            _onnxruntime(), "register_execution_provider_library"
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
        ort = _onnxruntime()
        plugin = importlib.import_module(self.module)
        name: str = plugin.get_ep_name()
        try:
            if not _devices(name):
                ort.register_execution_provider_library(self.module, plugin.get_library_path())
        except Exception as error:
            if "already registered" not in str(error):
                raise RefusedError(f"{self.package} does not load: {_line(error)}") from error
        return name


@dataclass(frozen=True, eq=False)
class OpenVinoPackage:
    """OpenVINO's own package, which runs on processors of any make and needs no particular ONNX Runtime."""

    package: str
    ways: Mapping[str, _Way]

    def is_present(self) -> bool:
        """Whether the package is installed."""
        return importlib.util.find_spec("openvino") is not None

    def session(self, graph: Graph, options: Mapping[str, str], settings: Any) -> Any:
        """A session with what fastrdm uses of ONNX Runtime's."""
        from fastrdm.openvino_session import OpenVinoSession

        device = options["device_type"]
        properties = json.loads(options["load_config"])[device]
        return OpenVinoSession(graph.source, graph.initialisers, device, properties)


Source = Builtin | Plugin | OpenVinoPackage


def _no_options(
    word: str, own: Mapping[str, str], given: Mapping[str, str], n_threads: int | None
) -> dict[str, str]:
    for name in given:
        raise ValueError(f"provider {word!r} has no options, so not {name!r} either")
    return {}


def _plain_options(
    word: str, own: Mapping[str, str], given: Mapping[str, str], n_threads: int | None
) -> dict[str, str]:
    """The caller's options beside those that the precision needs."""
    if both := sorted(own.keys() & given.keys()):
        raise ValueError(
            f"provider {word!r} has the option {both[0]!r} from its precision: give precision instead"
        )
    return {**own, **given}


def _openvino_options(
    word: str, own: Mapping[str, str], given: Mapping[str, str], n_threads: int | None
) -> dict[str, str]:
    """A device, and OpenVINO's properties for it as JSON: the plug-in ignores all other options without a word."""
    for name in given:
        if name not in {"device_type", "load_config"}:
            raise ValueError(
                f"provider {word!r} has no option {name!r}; it takes device_type, and properties of OpenVINO "
                'by device in load_config, as in {"CPU": {"NUM_STREAMS": "1"}}'
            )
    device = given.get("device_type", "CPU")
    if device.partition(".")[0] not in {"CPU", "GPU", "NPU"}:
        raise ValueError(
            f"device_type must be CPU, GPU or NPU, or a numbered one such as GPU.1, not {device!r}"
        )
    try:
        config = json.loads(given.get("load_config", "{}"))
        asked = dict(config.get(device, {}))
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            "load_config must be JSON that maps devices to properties, "
            f"not {given['load_config']!r}"
        ) from None
    set_here = dict(own)
    if n_threads is not None and device == "CPU":
        set_here["INFERENCE_NUM_THREADS"] = str(n_threads)
    if both := sorted(set_here.keys() & asked.keys()):
        raise ValueError(
            f"load_config has {both[0]}, which precision and n_threads are for: give those instead"
        )
    # Pinned, the threads of two processes share a core: two of one thread each took 36 ms an image
    # where they take 28 ms unpinned, on two cores.
    pinning = {"ENABLE_CPU_PINNING": "NO"} if device == "CPU" else {}
    properties = {**pinning, **asked, **set_here}
    return {"device_type": device, "load_config": json.dumps({**config, device: properties})}


@dataclass(frozen=True)
class Provider:
    """Where a provider may come from, in the order they are tried, and what installs it where there is none."""

    sources: tuple[Source, ...]
    install: str
    options: Callable[[str, Mapping[str, str], Mapping[str, str], int | None], dict[str, str]] = (
        _plain_options
    )
    # Whether the precision is looked for in a result, as the provider does not say what it uses.
    probed: bool = False

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that one of the sources can be told."""
        return tuple(p for p in PRECISIONS if any(p in source.ways for source in self.sources))


_FP32 = {"fp32": _Way()}
_NO_OVERRIDE = dict.fromkeys(
    (f"ORT_MIGRAPHX_{kind}_ENABLE" for kind in ("FP16", "BF16", "FP8", "INT8")), ""
)
_MIGRAPHX = {
    "fp32": _Way({}, _NO_OVERRIDE),
    "bf16": _Way({"migraphx_bf16_enable": "1"}, _NO_OVERRIDE),
    "fp16": _Way({"migraphx_fp16_enable": "1"}, _NO_OVERRIDE),
}
_CUDA = {
    # TF32 keeps 10 bits of the mantissa: too few for activations within 1e-4.
    "fp32": _Way({"use_tf32": "0"}),
    "tf32": _Way({"use_tf32": "1"}, {"NVIDIA_TF32_OVERRIDE": ""}),
}
# TensorRT rounds to TF32 unless this is set before CUDA starts: its provider has no option for it.
_TENSORRT = {
    "fp32": _Way({}, {"NVIDIA_TF32_OVERRIDE": "0"}),
    "tf32": _Way({}, {"NVIDIA_TF32_OVERRIDE": ""}),
}
_TENSORRT_16 = {
    "bf16": _Way({"trt_bf16_enable": "1"}),
    "fp16": _Way({"trt_fp16_enable": "1"}),
}
# As JSON for the device in `load_config`, which is all that the three ways to OpenVINO have in common.
_OPENVINO = {
    "fp32": _Way({"INFERENCE_PRECISION_HINT": "f32"}),
    "bf16": _Way({"INFERENCE_PRECISION_HINT": "bf16"}),
    "fp16": _Way({"INFERENCE_PRECISION_HINT": "f16"}),
}

PROVIDERS: Mapping[str, Provider] = {
    "cpu": Provider(
        (Builtin("CPUExecutionProvider", "onnxruntime", _FP32),),
        "'fastrdm[onnx]'",
        _no_options,
    ),
    "cuda": Provider(
        (Builtin("CUDAExecutionProvider", "onnxruntime-gpu", _CUDA, "'fastrdm[cuda]'"),),
        "'fastrdm[cuda]'",
    ),
    "rocm": Provider(
        (Builtin("ROCMExecutionProvider", "onnxruntime-rocm", _FP32),), "onnxruntime-rocm"
    ),
    "migraphx": Provider(
        (
            Builtin("MIGraphXExecutionProvider", "onnxruntime-migraphx", _MIGRAPHX),
            Plugin("onnxruntime_ep_migraphx", "onnxruntime-ep-migraphx", _MIGRAPHX),
        ),
        "'fastrdm[rocm]'",
    ),
    "tensorrt": Provider(
        (
            Builtin(
                "TensorrtExecutionProvider",
                "onnxruntime-gpu",
                _TENSORRT | _TENSORRT_16,
                "'fastrdm[cuda]' tensorrt",
            ),
            Plugin("onnxruntime_ep_nv_tensorrt_rtx", "onnxruntime-ep-nv-tensorrt-rtx", _TENSORRT),
        ),
        "'fastrdm[cuda]' tensorrt",
    ),
    "openvino": Provider(
        (
            Builtin("OpenVINOExecutionProvider", "onnxruntime-openvino", _OPENVINO),
            Plugin(
                "onnxruntime_ep_openvino",
                "onnxruntime-ep-openvino",
                _OPENVINO,
                ": it takes Intel's alone; on other processors use: pip install 'fastrdm[openvino]'",
            ),
            OpenVinoPackage("openvino", _OPENVINO),
        ),
        "'fastrdm[openvino]'",
        _openvino_options,
        probed=True,
    ),
    "coreml": Provider(
        # The older format of models leaves the precision to CoreML.
        (
            Builtin(
                "CoreMLExecutionProvider",
                "onnxruntime",
                {"fp32": _Way({"ModelFormat": "MLProgram"})},
            ),
        ),
        "'fastrdm[onnx]' (on macOS)",
    ),
}


def open_session(
    graph: Graph,
    provider: str = "auto",
    *,
    precision: str | None = None,
    options: Mapping[str, str] | None = None,
    n_threads: int | None = None,
    reuse_memory: bool = False,
) -> Opened:
    """Load a graph on a provider.

    Parameters
    ----------
    graph : Graph
    provider : str
        A provider's word, or "auto" for the first of CUDA, MIGraphX, ROCm and the CPU that loads.
    precision : {"fp32", "tf32", "bf16", "fp16"}, optional
        What convolutions and matrix products round their operands to; None is fp32, for every provider. What goes in
        and comes out is float32.
    options : mapping of str to str, optional
        The provider's own options.
    n_threads : int, optional
        Threads of one run on the CPU; None leaves the number to ONNX Runtime or OpenVINO.
    reuse_memory : bool
        Whether a session of ONNX Runtime on the CPU takes memory that others before it gave back. The process
        then keeps it to its end.

    Returns
    -------
    Opened

    Raises
    ------
    ValueError
        If the provider is unknown, does not load, leaves convolutions or matrix products to the CPU, refuses an
        option or does not give the precision; or the graph is no ONNX model.
    TypeError
        If `options` is no mapping of text to text.
    MissingExtraError
        If ONNX Runtime is not installed.
    """
    precision = "fp32" if precision is None else precision
    options = {} if options is None else options
    _check_arguments(provider, precision, options)
    _onnxruntime()
    refusals = []
    for candidate in AUTO if provider == "auto" else (provider,):
        if precision not in PROVIDERS[candidate].precisions:
            continue
        for source in PROVIDERS[candidate].sources:
            if source.is_present():
                try:
                    return _open(
                        candidate, source, graph, precision, options, n_threads, reuse_memory
                    )
                except RefusedError as error:
                    refusals.append(str(error))
    if not refusals and provider == "auto":
        able = [word for word, each in PROVIDERS.items() if precision in each.precisions]
        raise ValueError(f"auto finds none that gives {precision}; by name: {', '.join(able)}")
    if not refusals:
        raise ValueError(
            f"nothing is installed that has provider {provider!r}; "
            f"install it with: pip install {PROVIDERS[provider].install}"
        )
    raise ValueError(refusals[-1] if provider == "auto" else "; ".join(refusals))


def _check_arguments(word: str, precision: str, options: Mapping[str, str]) -> None:
    if word != "auto" and word not in PROVIDERS:
        raise ValueError(f"unknown provider {word!r}; it is one of auto, {', '.join(PROVIDERS)}")
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; it is one of {', '.join(PRECISIONS)}")
    if not isinstance(options, Mapping) or not all(
        isinstance(text, str) for pair in options.items() for text in pair
    ):
        raise TypeError(f"provider_options must map names to texts, not {options!r}")
    if word == "auto" and options:
        raise ValueError(f"option {next(iter(options))!r} is one provider's: name it, not auto")
    if word != "auto" and precision not in PROVIDERS[word].precisions:
        raise ValueError(
            f"provider {word!r} gives {' or '.join(PROVIDERS[word].precisions)}, not {precision}"
        )


def _open(
    word: str,
    source: Source,
    graph: Graph,
    precision: str,
    given: Mapping[str, str],
    n_threads: int | None,
    reuse_memory: bool,
) -> Opened:
    """A session of one source; RefusedError where it is not what was asked for."""
    if precision not in source.ways:
        raise RefusedError(f"{source.package} gives {' or '.join(source.ways)}, not {precision}")
    way = source.ways[precision]
    for variable, value in way.environment.items():
        if os.environ.get(variable, "") != value:
            raise RefusedError(
                f"{precision} on {word} needs the environment variable {variable} "
                f"{f'to be {value}' if value else 'not to be set'}, from the start of the process"
            )
    options = PROVIDERS[word].options(word, way.options, given, n_threads)
    try:
        settings = _settings(word, graph, n_threads)
        if reuse_memory and word == "cpu":
            _share_arena()
            settings.add_session_config_entry("session.use_env_allocators", "1")
        session = source.session(graph, options, settings)
    except (RefusedError, ImportError):
        raise
    # The binding's exceptions have no base class of their own.
    except Exception as error:
        raise RefusedError(_why(word, graph, given, error)) from error
    _check_placement(word, graph, session)
    for option, value in _reported(session, way.options):
        raise RefusedError(f"{source.package} has {option}={value}, so not {precision}")
    if PROVIDERS[word].probed:
        device = options.get("device_type", "")
        found = _probed(word, source, precision, device)
        if found != precision:
            able = [each for each in source.ways if _probed(word, source, each, device) == each]
            raise RefusedError(
                f"{source.package} runs {found} where {precision} is asked for on this {device}, "
                f"which gives {' or '.join(able)}"
            )
    with contextlib.suppress(AttributeError):
        session.disable_fallback()
    return Opened(session, word, precision, source.package)


def _settings(word: str, graph: Graph, n_threads: int | None) -> Any:
    ort = _onnxruntime()
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    if n_threads is not None:
        settings.intra_op_num_threads = n_threads
    if hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    elif word != "cpu":
        # Before 1.24 it cannot be asked which nodes are left to the CPU: none may be.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if graph.initialisers:
        settings.add_external_initializers(
            list(graph.initialisers),
            [ort.OrtValue.ortvalue_from_numpy(value) for value in graph.initialisers.values()],
        )
    return settings


@functools.cache
def _share_arena() -> None:
    """Give ONNX Runtime an arena for all sessions of the process that ask for it.

    A session's own is fetched from the system, 4 KiB at a time, and given back at its end: of ResNet-20 on 118 images
    that is 430 MB, and 0.3 s of system time in 3.8 s on a virtual machine.
    """
    ort = _onnxruntime()
    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    # Where the process has registered one already, that one serves; older versions then raise.
    with contextlib.suppress(Exception):
        ort.create_and_register_allocator(place, ort.OrtArenaCfg({}))


def _why(word: str, graph: Graph, given: Mapping[str, str], error: Exception) -> str:
    """What an error of ONNX Runtime means, in one sentence."""
    text = _line(error)
    names = [*given, *re.findall(r'"(\w+)"\s*:', given.get("load_config", ""))]
    if option := next((name for name in reversed(names) if name in text), None):
        return f"provider {word!r} refuses the option {option!r}: {text}"
    if "fallback to CPU EP has been explicitly disabled" in text:
        return (
            f"provider {word!r} leaves nodes of {graph.name} to the CPU, and this ONNX Runtime cannot say which; "
            "from 1.24 on, it may leave those that are no convolutions or matrix products"
        )
    return (
        f"{graph.name} cannot be opened as an ONNX model on {word} "
        f"(truncated, another kind of file, or a provider at fault): {text}"
    )


def _check_placement(word: str, graph: Graph, session: Any) -> None:
    """RefusedError if a convolution or matrix product runs on the CPU though another provider was asked for."""
    if word == "cpu" or not hasattr(session, "get_provider_graph_assignment_info"):
        return
    stray = [
        node
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == "CPUExecutionProvider"
        for node in part.get_nodes()
        if node.op_type in _HEAVY
    ]
    if stray:
        raise RefusedError(
            f"provider {word!r} leaves {len(stray)} convolutions or matrix products of {graph.name} to the CPU, "
            f"first {stray[0].op_type} {stray[0].name!r}"
        )


def _reported(session: Any, options: Mapping[str, str]) -> list[tuple[str, str]]:
    """Options that the session says have another value than they were given."""
    truth = {"true": "1", "false": "0"}
    reported = {
        name: truth.get(value.lower(), value)
        for each in session.get_provider_options().values()
        for name, value in each.items()
    }
    return [
        (name, reported[name])
        for name in options
        if reported.get(name, options[name]) != options[name]
    ]


# Of 1 + 2⁻ᵏ, fp32 keeps all three, tf32 and fp16 the first two, bf16 the first.
_PROBE = tuple(1 + 2.0**-k for k in (7, 10, 23))
_KEPT = {"fp32": 3, "tf32": 2, "fp16": 2, "bf16": 1}


@functools.cache
def _probed(word: str, source: Source, precision: str, device: str) -> str:
    """The precision that a convolution really has on a source that was told one."""
    options = PROVIDERS[word].options(
        word, source.ways[precision].options, {"device_type": device}, None
    )
    graph = probe_graph()
    session = source.session(graph, options, _settings(word, graph, None))
    ones = np.ones((1, 16, 8, 8), np.float32)
    kept = int(np.sum(session.run(None, {"x": ones})[0][0, :3, 0, 0] != 1))
    if _KEPT[precision] == kept:
        return precision
    return next((name for name, number in _KEPT.items() if number == kept), "fewer bits than bf16")


def probe_graph() -> Graph:
    """A convolution that gives back its weights, to see whether a provider loads and what it rounds them to."""
    onnx = require("onnx", "onnx", "to see what a provider rounds to")
    tensor, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    weights = np.diag([*_PROBE, *[1.0] * 13]).astype(np.float32)[:, :, None, None]
    shape = [1, 16, 8, 8]
    graph = onnx.helper.make_graph(
        [node("Conv", ["x", "w"], ["y"], "conv")],
        "probe",
        [tensor("x", onnx.TensorProto.FLOAT, shape)],
        [tensor("y", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return Graph("probe", model.SerializeToString())


def _onnxruntime() -> Any:
    return require("onnxruntime", "onnx", "to run a network")


def _devices(name: str) -> list[Any]:
    """Devices that ONNX Runtime (1.23 or newer) lists for a registered provider."""
    ort = _onnxruntime()
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
    return _onnxruntime().InferenceSession(_readable(graph), settings)


@functools.cache
def _preload_cuda() -> None:
    """Load CUDA's libraries that came with pip, once: what the process prints meanwhile is lost."""
    ort = _onnxruntime()
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def _readable(graph: Graph) -> str | bytes:
    return graph.source if isinstance(graph.source, bytes) else str(graph.source)


def _line(error: Exception) -> str:
    """An error's text on one line, without the places in its source that OpenVINO names."""
    return re.sub(r"Exception from \S+: ", "", " ".join(str(error).split()))
