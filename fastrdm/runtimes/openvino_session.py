"""OpenVINO's own package, with those methods of ONNX Runtime's session that fastrdm uses."""

import ctypes
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import encodable, require
from fastrdm.networks import metadata_of, put_weights, read_model

Floats32 = NDArray[np.float32]
# Images per inference: on two cores, ResNet-20 takes 11.8 ms per image with 4 or 8, 12.5 with 16, 14.8 with 32.
_IMAGES = 8


@dataclass(frozen=True)
class NodeArg:
    """An input or output; open dimensions are None."""

    name: str
    shape: list[int | None]


@dataclass(frozen=True)
class HostValue:
    """An output in main memory."""

    array: Floats32

    def numpy(self) -> Floats32:
        """Return the array."""
        return self.array


@dataclass
class HostBinding:
    """Memory of inputs and outputs; outputs without an address get new memory."""

    inputs: dict[str, Floats32] = field(default_factory=dict)
    outputs: dict[str, Floats32 | None] = field(default_factory=dict)

    def bind_input(
        self, name: str, device: str, device_id: int, dtype: Any, shape: Sequence[int], address: int
    ) -> None:
        """Read an input from memory."""
        self.inputs[name] = _array_at(address, shape)

    def bind_output(
        self,
        name: str,
        device: str = "cpu",
        device_id: int = 0,
        dtype: Any = np.float32,
        shape: Sequence[int] | None = None,
        address: int | None = None,
    ) -> None:
        """Write an output to memory, or to a new array."""
        self.outputs[name] = None if shape is None or address is None else _array_at(address, shape)

    def get_outputs(self) -> list[HostValue]:
        """Outputs of the last run, in the order in which they were bound."""
        return [HostValue(array) for array in self.outputs.values() if array is not None]


class OpenVinoSession:
    """An ONNX file, or its contents, compiled for a device such as "GPU.1".

    `initialisers` are weights that are external data of the graph, `properties` are OpenVINO's for the device.
    """

    def __init__(
        self,
        source: Path | bytes,
        initialisers: Mapping[str, NDArray[Any]],
        device: str,
        properties: Mapping[str, str],
    ) -> None:
        self._openvino = require("openvino", "openvino", "to run a network on OpenVINO")
        model = read_model(source)
        self._metadata = SimpleNamespace(custom_metadata_map=metadata_of(model))
        put_weights(model, initialisers)
        self._core = self._openvino.Core()
        if device not in self._core.available_devices:
            raise ValueError(
                f"device_type {device} is unavailable; OpenVINO finds {', '.join(self._core.available_devices)}"
            )
        # A path, so that weights in files beside it are found; OpenVINO takes names in UTF-8 only.
        is_file = isinstance(source, Path) and encodable(str(source)) == str(source)
        readable = source if is_file and not initialisers else None
        self._network = self._core.read_model(readable or model.SerializeToString())
        names = [value.name for value in model.graph.output]
        self._inputs = [_describe(port, port.any_name) for port in self._network.inputs]
        self._outputs = [
            _describe(port, name) for port, name in zip(self._network.outputs, names, strict=True)
        ]
        self._device, self._properties = device, dict(properties)
        self._is_batched = all(
            arg.shape[:1] == [None] and None not in arg.shape[1:]
            for arg in (*self._inputs, *self._outputs)
        )
        self._lock = threading.Lock()
        self._request: tuple[tuple[str, ...], Any] = ((), None)
        self._compile(tuple(output.name for output in self._outputs))

    def get_inputs(self) -> list[NodeArg]:
        """Inputs, in the file's order."""
        return self._inputs

    def get_outputs(self) -> list[NodeArg]:
        """Outputs, in the file's order."""
        return self._outputs

    def get_modelmeta(self) -> SimpleNamespace:
        """The file's metadata."""
        return self._metadata

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """OpenVINO's properties."""
        return {"OpenVINO": self._properties}

    def io_binding(self) -> HostBinding:
        """Return a binding with nothing bound."""
        return HostBinding()

    def run_with_iobinding(self, binding: HostBinding, options: Any = None) -> None:
        """Fill a binding's outputs."""
        self._infer(binding.inputs, binding.outputs)

    def run(
        self, names: Sequence[str] | None, inputs: Mapping[str, Floats32], options: Any = None
    ) -> list[Floats32]:
        """Outputs by name, or all."""
        wanted = names or [output.name for output in self._outputs]
        outputs: dict[str, Floats32 | None] = dict.fromkeys(wanted)
        self._infer(inputs, outputs)
        return [filled for name in wanted if (filled := outputs[name]) is not None]

    def _infer(self, inputs: Mapping[str, Floats32], outputs: dict[str, Floats32 | None]) -> None:
        n = len(next(iter(inputs.values())))
        step = _IMAGES if self._is_batched else n
        parts: dict[str, list[Floats32]] = {name: [] for name in outputs}
        with self._lock:
            request = self._compile(tuple(outputs))
            for place in (slice(start, start + step) for start in range(0, n, step)):
                for name, values in inputs.items():
                    request.set_tensor(name, self._shared(values[place]))
                for i, array in enumerate(outputs.values()):
                    # The request is kept, because a new one allocates all its memory again. Each output needs a new
                    # tensor in each run; otherwise it is written to the previous one.
                    tensor = (
                        self._growing(request, i) if array is None else self._shared(array[place])
                    )
                    request.set_output_tensor(i, tensor)
                request.infer()
                for i, (name, array) in enumerate(outputs.items()):
                    if array is None:
                        parts[name].append(request.get_output_tensor(i).data.copy())
        for name, gathered in parts.items():
            if gathered:
                outputs[name] = np.concatenate(gathered) if len(gathered) > 1 else gathered[0]

    def _shared(self, array: Floats32) -> Any:
        return self._openvino.Tensor(array, shared_memory=True)

    def _growing(self, request: Any, output: int) -> Any:
        """A tensor that grows to the size of the output."""
        least = request.model_outputs[output].partial_shape.get_min_shape()
        return self._openvino.Tensor(self._openvino.Type.f32, least)

    def _compile(self, names: tuple[str, ...]) -> Any:
        """A request for these outputs, of the part of the network that they need; the last one is kept."""
        if self._request[0] == names:
            return self._request[1]
        opset = require("openvino.opset13", "openvino", "to run a network on OpenVINO")
        results = []
        for name in names:
            value = next(output for output in self._network.outputs if name in output.names)
            value = value.get_node().input_value(0)
            is_float = value.get_element_type() == self._openvino.Type.f32
            if is_float and self._properties.get("INFERENCE_PRECISION_HINT") == "bf16":
                # Rounding before channels are moved from last to first: 9.9 instead of 11.3 ms per image of
                # ResNet-20 with eleven outputs.
                value = opset.convert(opset.convert(value, "bf16"), "f32").output(0)
            results.append(opset.result(value))
        network = self._openvino.Model(results, self._network.get_parameters())
        compiled = self._core.compile_model(network, self._device, self._properties)
        self._request = (names, compiled.create_infer_request())
        return self._request[1]


def _describe(port: Any, name: str) -> NodeArg:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return NodeArg(name, [None, None])
    return NodeArg(name, [size.get_length() if size.is_static else None for size in shape])


def _array_at(address: int, shape: Sequence[int]) -> Floats32:
    memory = (ctypes.c_float * int(np.prod(shape))).from_address(address)
    array: Floats32 = np.ctypeslib.as_array(memory).reshape(shape)
    return array
