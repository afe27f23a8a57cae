"""Execution providers of ONNX Runtime: a graph → a session on the requested provider, in the requested precision.

A provider is built into an ONNX Runtime package, a plug-in package for it, or, for OpenVINO, a separate package;
`provider_table` lists them. ONNX Runtime falls back to the CPU if a provider does not load or does not support a node,
and rounds to fewer bits if that is faster. Both are checked here, and are errors.
"""

import contextlib
import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrdm._base import check_choice, require
from fastrdm.networks import Graph
from fastrdm.runtimes.provider_sources import ProviderSource, RefusedError, reason_of, runtime
from fastrdm.runtimes.provider_table import AUTO, PRECISIONS, PROVIDERS
from fastrdm.runtimes.torch_provider import TORCH, is_torch

# Operators with a network's work; others (mostly of shapes) may run on the CPU.
_HEAVY = {"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "Attention", "LSTM", "GRU", "RNN"}


@dataclass(frozen=True)
class OpenedSession:
    """A session, its provider and precision by fastrdm's names, and the package that provides it."""

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
) -> OpenedSession:
    """Load a graph on a provider; arguments as for `OnnxModel`.

    `reuse_memory` is whether a session of ONNX Runtime on the CPU reuses the memory of earlier ones, which the process
    then keeps. ValueError if the provider does not load, leaves convolutions or matrix products to the CPU, refuses an
    option or does not support the precision.
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
        raise ValueError(f"auto finds no provider with {precision}; by name: {', '.join(able)}")
    if not refusals:
        raise ValueError(
            f"no installed package has provider {provider!r}; "
            f"install it with: pip install {PROVIDERS[provider].install}"
        )
    raise ValueError(refusals[-1] if provider == "auto" else "; ".join(refusals))


def _check_arguments(word: str, precision: str, options: Mapping[str, str]) -> None:
    if is_torch(word):
        raise ValueError(
            f"provider {word!r} runs modules of torch, not ONNX graphs; pass module:callable (arch), or name one of"
            f" {', '.join(PROVIDERS)}"
        )
    check_choice(word, ("auto", *PROVIDERS, TORCH), "provider")
    check_choice(precision, PRECISIONS, "precision")
    if not isinstance(options, Mapping) or not all(
        isinstance(text, str) for pair in options.items() for text in pair
    ):
        raise TypeError(f"provider_options must map strings to strings, not {options!r}")
    if word == "auto" and options:
        raise ValueError(
            f"option {next(iter(options))!r} belongs to one provider; name the provider instead of auto"
        )
    if word != "auto" and precision not in PROVIDERS[word].precisions:
        raise ValueError(
            f"provider {word!r} supports {' or '.join(PROVIDERS[word].precisions)}, not {precision}"
        )


def _open(
    word: str,
    source: ProviderSource,
    graph: Graph,
    precision: str,
    given: Mapping[str, str],
    n_threads: int | None,
    reuse_memory: bool,
) -> OpenedSession:
    """A session of one source; RefusedError if it does not meet the request."""
    if precision not in source.precisions:
        raise RefusedError(
            f"{source.package} supports {' or '.join(source.precisions)}, not {precision}"
        )
    way = source.precisions[precision]
    for variable, value in way.environment.items():
        if os.environ.get(variable, "") != value:
            raise RefusedError(
                f"{precision} on {word} needs the environment variable {variable} "
                f"{f'to be {value}' if value else 'to be unset'} when the process starts"
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
    # The binding's exceptions have no common base class.
    except Exception as error:
        raise RefusedError(_why(word, graph, given, error)) from error
    _check_placement(word, graph, session)
    for option, value in _reported(session, way.options):
        raise RefusedError(f"{source.package} has {option}={value}, so not {precision}")
    if PROVIDERS[word].probed:
        device = options.get("device_type", "")
        found = _probed(word, source, precision, device)
        if found != precision:
            able = [
                each for each in source.precisions if _probed(word, source, each, device) == each
            ]
            raise RefusedError(
                f"{source.package} runs {found} instead of {precision} on this {device}, "
                f"which supports {' or '.join(able)}"
            )
    with contextlib.suppress(AttributeError):
        session.disable_fallback()
    return OpenedSession(session, word, precision, source.package)


def _settings(word: str, graph: Graph, n_threads: int | None) -> Any:
    ort = runtime()
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    # By default, idle threads keep a core busy for tens of milliseconds after each run and while a session is opened:
    # of the 63 ms of processor time that opening ResNet-20 took, 25 ms. Runs take as long as before.
    settings.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    if n_threads is not None:
        settings.intra_op_num_threads = n_threads
    if hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    elif word != "cpu":
        # ONNX Runtime before 1.24 does not report which nodes run on the CPU, so none may.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if graph.initialisers:
        settings.add_external_initializers(
            list(graph.initialisers),
            [ort.OrtValue.ortvalue_from_numpy(value) for value in graph.initialisers.values()],
        )
    return settings


@functools.cache
def _share_arena() -> None:
    """Register an arena that the sessions of the process can share.

    A separate arena of each session is allocated from the system, 4 KiB at a time, and freed with the session: 430 MB
    for ResNet-20 on 118 images, and 0.3 s of system time in 3.8 s on a virtual machine.
    """
    ort = runtime()
    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    # If the process has registered an arena already, it is used; older versions then raise.
    with contextlib.suppress(Exception):
        ort.create_and_register_allocator(place, ort.OrtArenaCfg({}))


def _why(word: str, graph: Graph, given: Mapping[str, str], error: Exception) -> str:
    """An error of ONNX Runtime, explained in one sentence."""
    text = reason_of(error)
    names = [*given, *re.findall(r'"(\w+)"\s*:', given.get("load_config", ""))]
    if option := next((name for name in reversed(names) if name in text), None):
        return f"provider {word!r} refuses the option {option!r}: {text}"
    if "fallback to CPU EP has been explicitly disabled" in text:
        return (
            f"provider {word!r} leaves nodes of {graph.name} to the CPU, and this ONNX Runtime does not report which; "
            "with 1.24 or newer, nodes other than convolutions and matrix products may run there"
        )
    return (
        f"{graph.name} cannot be opened as an ONNX model on {word} "
        f"(truncated, another kind of file, or a failure of the provider): {text}"
    )


def _check_placement(word: str, graph: Graph, session: Any) -> None:
    """RefusedError if a convolution or matrix product runs on the CPU instead of the requested provider."""
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
    """Options to which the session reports another value than requested."""
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


# Of these 1 + 2⁻ᵏ, fp32 keeps all three, tf32 and fp16 the first two, bf16 the first.
_PROBE = tuple(1 + 2.0**-k for k in (7, 10, 23))
_KEPT = {"fp32": 3, "tf32": 2, "fp16": 2, "bf16": 1}


@functools.cache
def _probed(word: str, source: ProviderSource, precision: str, device: str) -> str:
    """The actual precision of a convolution on a source with one requested."""
    options = PROVIDERS[word].options(
        word, source.precisions[precision].options, {"device_type": device}, None
    )
    graph = probe_graph()
    session = source.session(graph, options, _settings(word, graph, None))
    ones = np.ones((1, 16, 8, 8), np.float32)
    kept = int(np.sum(session.run(None, {"x": ones})[0][0, :3, 0, 0] != 1))
    if _KEPT[precision] == kept:
        return precision
    return next((name for name, number in _KEPT.items() if number == kept), "fewer bits than bf16")


def probe_graph() -> Graph:
    """A convolution that returns its weights, to test whether a provider loads and how it rounds."""
    onnx = require("onnx", "onnx", "to test how a provider rounds")
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
