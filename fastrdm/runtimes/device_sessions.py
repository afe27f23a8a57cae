"""Sessions of the graphs made from one network, and the device memory that they share."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names
from fastrdm.networks import Graph
from fastrdm.runtimes.graph_folding import output_name
from fastrdm.runtimes.provider_sources import runtime
from fastrdm.runtimes.providers import open_session
from fastrdm.runtimes.rdm_graph import PIXELS, PixelNetwork

Bytes = NDArray[np.uint8]

# ONNX Runtime's names of the memory of providers that have their own.
MEMORY = {"cuda": "cuda", "tensorrt": "cuda", "rocm": "gpu", "migraphx": "gpu"}
# CUDA's allocations begin at multiples of this, and its libraries are fastest there.
_ALIGNMENT = 256


class BoundSession(NamedTuple):
    """A session, and the names of its inputs and outputs."""

    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class DeviceMemory(NamedTuple):
    """Memory that a session reads without a copy, by ONNX Runtime's name and number of the device."""

    kind: str
    number: int

    @classmethod
    def of(cls, session: BoundSession, provider: str) -> "DeviceMemory":
        """The memory of a session's first provider."""
        options = session.session.get_provider_options()
        first = options.get(session.session.get_providers()[0], {})
        kind = MEMORY.get(provider, "cpu")
        return cls(kind, 0 if kind == "cpu" else int(first.get("device_id", 0)))

    def empty(self, n: int) -> Any:
        """Allocate `n` bytes."""
        return runtime().OrtValue.ortvalue_from_shape_and_type([n], np.uint8, *self)

    def put(self, array: NDArray[Any]) -> Any:
        """Copy an array there."""
        # ONNX Runtime only refers to arrays in main memory, hence the copy.
        return runtime().OrtValue.ortvalue_from_numpy(np.array(array, order="C"), *self)


class ConditionBlock(NamedTuple):
    """Some conditions, and their rows of each layer on the device."""

    place: slice
    rows: dict[str, Any]


class WeightLayout:
    """Places of a network's inputs in one buffer of folded weights: `places` has the first byte of each."""

    def __init__(self, network: PixelNetwork, name: str) -> None:
        self._network, self._name = network, name
        self.places: dict[str, int] = {}
        self.n_bytes = 0
        for key, each in network.inputs.items():
            self.places[key] = self.n_bytes
            self.n_bytes += -(-each.n_bytes // _ALIGNMENT) * _ALIGNMENT

    def fold(self, weights: Mapping[str, NDArray[Any]], buffer: Bytes | None) -> Bytes:
        """Fill a buffer, or a new one, with a checkpoint's weights."""
        self._check_fit(weights)
        if buffer is None:
            buffer = np.zeros(self.n_bytes, np.uint8)
        self.check_size(buffer)
        for name, each in self._network.inputs.items():
            begin = self.places[name]
            out = buffer[begin : begin + each.n_bytes].view(each.dtype).reshape(each.shape)
            each.recipe.fill(out, weights)
        return buffer

    def check_size(self, buffer: Bytes) -> None:
        """Refuse a buffer of another network."""
        if len(buffer) != self.n_bytes:
            raise ValueError(
                f"weights of {len(buffer)} bytes were folded for another network; "
                f"{self._name} takes {self.n_bytes}"
            )

    def _check_fit(self, weights: Mapping[str, NDArray[Any]]) -> None:
        expected = self._network.weights
        differences = {
            "missing": [name for name in expected if name not in weights],
            "of another shape": [
                f"{name} {np.shape(weights[name])} for {shape}"
                for name, shape in expected.items()
                if name in weights and np.shape(weights[name]) != shape
            ],
        }
        problems = [f"{kind}: {list_names(names)}" for kind, names in differences.items() if names]
        if problems:
            raise ValueError(f"the weights do not fit {self._name}; {'; '.join(problems)}")


class DeviceSessions:
    """Sessions of graphs that share a network's weights on a device.

    The first one, of which `first` has the arguments of `open`, decides on the provider and its `memory`. `weights`
    are those in use, in the layout of `layout`.
    """

    def __init__(
        self,
        network: PixelNetwork,
        name: str,
        provider: str,
        options: Mapping[str, Any],
        first: tuple[Any, ...],
    ) -> None:
        self._network, self._name, self._options = network, name, options
        self._sessions: dict[tuple[Any, ...], BoundSession] = {}
        self.provider = provider
        self.memory = DeviceMemory.of(self.open(*first), self.provider)
        self.layout = WeightLayout(network, name)
        self.weights = self.memory.empty(self.layout.n_bytes)

    def open(self, build: Callable[..., Any], *arguments: Any) -> BoundSession:
        """The session of the graph that `build` makes of these arguments, opened at the first call."""
        key = (build, *arguments)
        if key not in self._sessions:
            graph = Graph(self._name, build(*arguments).SerializeToString())
            opened = open_session(graph, self.provider, **self._options)
            self.provider = opened.provider
            if not isinstance(opened.session, runtime().InferenceSession):
                raise ValueError(
                    f"provider {self.provider!r} runs without ONNX Runtime here, but RDMs on a device need its bindings"
                )
            inputs = tuple(value.name for value in opened.session.get_inputs())
            outputs = tuple(value.name for value in opened.session.get_outputs())
            self._sessions[key] = BoundSession(opened.session, inputs, outputs)
        return self._sessions[key]

    def run(
        self,
        session: BoundSession,
        inputs: Mapping[str, Any],
        pixels: Any = None,
        place: slice = slice(0),
    ) -> dict[str, Any]:
        """Run a session on inputs, the weights and the stimuli in `place`; only rows stay on the device."""
        binding = session.session.io_binding()
        for name in session.inputs:
            if name in inputs:
                binding.bind_ortvalue_input(name, inputs[name])
                continue
            if name == PIXELS:
                shape: tuple[int, ...] = (place.stop - place.start, *pixels.shape()[1:])
                address = pixels.data_ptr() + place.start * math.prod(shape[1:])
                dtype = np.dtype(np.uint8)
            else:
                each = self._network.inputs[name]
                shape, dtype = each.shape, each.dtype
                address = self.weights.data_ptr() + self.layout.places[name]
            binding.bind_input(name, *self.memory, dtype, shape, address)
        for name in session.outputs:
            binding.bind_output(name, *(self.memory if name.endswith("/rows") else ("cpu", 0)))
        binding.synchronize_inputs()
        session.session.run_with_iobinding(binding)
        return dict(zip(session.outputs, binding.get_outputs(), strict=True))


def on_host(out: Mapping[str, Any], layer: str) -> dict[str, NDArray[np.float64]]:
    """Outputs of a layer in main memory, in float64."""
    values = {what: out.get(output_name(layer, what)) for what in ("products", "means", "sums")}
    return {what: v.numpy().astype(np.float64) for what, v in values.items() if v is not None}


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of ONNX Runtime means that memory ran out."""
    signs = ("allocate memory", "out of memory", "bad_alloc", "bad allocation", "alloc_failed")
    return not isinstance(error, ValueError) and any(sign in str(error).lower() for sign in signs)
