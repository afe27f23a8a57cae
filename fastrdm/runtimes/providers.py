"""Execution providers of ONNX Runtime: a graph → a session on the one that was asked for, in the precision asked for.

A provider comes built into an ONNX Runtime package, as a plug-in package beside it, or, OpenVINO, as a package of its
own; `_PROVIDERS` lists them. ONNX Runtime goes on with the CPU where a provider does not load or does not know a node,
and rounds to fewer bits where that is faster. Neither is ever wanted here, so both are asked about and are errors.
"""

import contextlib
import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrdm._base import require
from fastrdm.networks import Graph
from fastrdm.runtimes.provider_sources import RefusedError, Source, reason_of, runtime
from fastrdm.runtimes.provider_table import AUTO, PRECISIONS, PROVIDERS

# A network's work is in these; what is left to the CPU beside them (shapes, mostly) is not told.
_HEAVY = {"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "Attention", "LSTM", "GRU", "RNN"}


@dataclass(frozen=True)
class Opened:
    """A session, the words for the provider that took it and its precision, and the package that brought it."""

    session: Any
    provider: str
    precision: str
    package: str


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
    runtime()
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
    ort = runtime()
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
    ort = runtime()
    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    # Where the process has registered one already, that one serves; older versions then raise.
    with contextlib.suppress(Exception):
        ort.create_and_register_allocator(place, ort.OrtArenaCfg({}))


def _why(word: str, graph: Graph, given: Mapping[str, str], error: Exception) -> str:
    """What an error of ONNX Runtime means, in one sentence."""
    text = reason_of(error)
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
