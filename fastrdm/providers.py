"""Execution providers of ONNX Runtime: a graph → a session on the one that was asked for."""

import contextlib
import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._extras import require


@dataclass(frozen=True)
class Graph:
    """What a session is made of: an ONNX graph, and weights for those of its initialisers that refer to external data.

    Attributes
    ----------
    name : str
        What messages call it.
    source : Path or bytes
        The file, or its contents.
    initialisers : mapping of str to ndarray
        Weights by name, put in place before ONNX Runtime optimises the graph.
    """

    name: str
    source: Path | bytes
    initialisers: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: str | Path) -> "Graph":
        """The graph of an ONNX file; FileNotFoundError where there is none."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such ONNX file")
        return cls(str(path), path)


@dataclass(frozen=True)
class Opened:
    """A session, and the word for the provider that took it."""

    session: Any
    provider: str


@dataclass(frozen=True)
class _Provider:
    """ONNX Runtime's name of a provider, the package that brings it, and its options."""

    name: str
    install: str
    options: tuple[tuple[str, str], ...] = ()


_PROVIDERS = {
    "cpu": _Provider("CPUExecutionProvider", "'fastrdm[onnx]'"),
    # TF32 keeps 10 bits of the mantissa: too few for activations within 1e-4.
    "cuda": _Provider("CUDAExecutionProvider", "'fastrdm[cuda]'", (("use_tf32", "0"),)),
    "rocm": _Provider("ROCMExecutionProvider", "onnxruntime-rocm"),
    "migraphx": _Provider("MIGraphXExecutionProvider", "'fastrdm[rocm]'"),
    "tensorrt": _Provider("TensorrtExecutionProvider", "'fastrdm[cuda]' tensorrt"),
    "openvino": _Provider("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "coreml": _Provider("CoreMLExecutionProvider", "'fastrdm[onnx]'"),
}
# Best first. The others are for who asks: TensorRT compiles for minutes, OpenVINO and CoreML may
# round to 16 bits.
_AUTO = ("cuda", "migraphx", "rocm", "cpu")


def open_session(graph: Graph, word: str, *, n_threads: int | None = None) -> Opened:
    """Load a graph on a provider.

    Parameters
    ----------
    graph : Graph
    word : str
        "auto" or a provider's word.
    n_threads : int, optional
        Threads of one run on the CPU; None leaves the number to ONNX Runtime.

    Returns
    -------
    Opened

    Raises
    ------
    ValueError
        If the provider is unknown or does not load, or the graph is no ONNX model.
    MissingExtraError
        If ONNX Runtime is not installed.
    """
    ort = require("onnxruntime", "onnx", "to run a network")
    if word != "auto" and word not in _PROVIDERS:
        raise ValueError(f"unknown provider {word!r}; it is one of auto, {', '.join(_PROVIDERS)}")
    available = set(ort.get_available_providers())
    if word != "auto" and _PROVIDERS[word].name not in available:
        raise ValueError(
            f"this ONNX Runtime has no {_PROVIDERS[word].name} for provider {word!r}; "
            f"install it with: pip install {_PROVIDERS[word].install}"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if n_threads is not None:
        options.intra_op_num_threads = n_threads
    if graph.initialisers:
        options.add_external_initializers(
            list(graph.initialisers),
            [ort.OrtValue.ortvalue_from_numpy(value) for value in graph.initialisers.values()],
        )
    failure = ""
    for candidate in _AUTO if word == "auto" else (word,):
        provider = _PROVIDERS[candidate]
        if provider.name not in available:
            continue
        if candidate in {"cuda", "tensorrt"}:
            _preload_cuda()
        names = list(dict.fromkeys([provider.name, "CPUExecutionProvider"]))
        try:
            session = ort.InferenceSession(
                graph.source if isinstance(graph.source, bytes) else str(graph.source),
                options,
                providers=names,
                provider_options=[dict(provider.options), {}][: len(names)],
            )
        # The binding's exceptions have no base class of their own.
        except Exception as error:
            failure = " ".join(str(error).split())
            continue
        # ONNX Runtime goes on with the CPU where a provider's libraries do not load; that is never
        # wanted.
        if provider.name in session.get_providers():
            session.disable_fallback()
            return Opened(session, candidate)
        failure = (
            f"the libraries of {provider.name} do not load; install them with: "
            f"pip install {provider.install}"
        )
    raise ValueError(
        f"{graph.name} cannot be opened as an ONNX model on {candidate} "
        f"(truncated, another kind of file, or a provider at fault): {failure}"
    )


@functools.cache
def _preload_cuda() -> None:
    """Load CUDA's libraries where they came with pip; what is not found is told by the session.

    Once: what the process prints meanwhile is lost, from other threads, too.
    """
    ort = require("onnxruntime", "onnx", "to run a network")
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()
