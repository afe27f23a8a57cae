"""The ResNet-20 as an ONNX file by the onnx package alone; torch's exporter needs onnxscript."""

import json
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from models.networks.taps import RESNET20_STAGES

# As `export_onnx` writes: versions that ONNX Runtime 1.18 reads.
_OPSET, _IR_VERSION = 18, 8


def write_graph(module: torch.nn.Module, path: Path) -> Path:
    """Write `models.networks.resnet20` with its taps as outputs and its weights under their names."""
    graph = _Nodes(module)
    height, width = module.preprocessing.size
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, height, width])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in module.taps]
    weights = [
        numpy_helper.from_array(value.numpy(), name)
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "ResNet-20", [images], outputs, weights),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    facts = {
        "fastrdm.layers": json.dumps(list(module.taps)),
        "fastrdm.preprocessing": module.preprocessing.to_json(),
        "fastrdm.architecture": "ResNet-20",
    }
    helper.set_model_props(model, facts)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


class _Nodes:
    """The nodes of the network, in its order; values have the names of the modules that compute them."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module, self._names = module, {path: tap for tap, path in module.taps.items()}
        self.nodes: list[Any] = []
        value = self._convolved("images", "conv1", "bn1")
        value = self._add("Relu", [value], "relu")
        pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
        value = self._add("MaxPool", [value], "maxpool", **pool)
        for stage, n_blocks in enumerate(RESNET20_STAGES, 1):
            for block in range(n_blocks):
                value = self._block(value, f"layer{stage}.{block}")
        value = self._add("GlobalAveragePool", [value], "avgpool")
        value = self._add("Flatten", [value], "flatten")
        self._add("Gemm", [value, "fc.weight", "fc.bias"], "fc", transB=1)

    def _block(self, value: str, path: str) -> str:
        inner = self._convolved(value, f"{path}.conv1", f"{path}.bn1")
        inner = self._add("Relu", [inner], f"{path}.relu1")
        inner = self._convolved(inner, f"{path}.conv2", f"{path}.bn2")
        if self._module.get_submodule(path).downsample is not None:
            value = self._convolved(value, f"{path}.downsample.0", f"{path}.downsample.1")
        return self._add("Relu", [self._add("Add", [inner, value], f"{path}.sum")], path)

    def _convolved(self, value: str, convolution: str, norm: str) -> str:
        part = self._module.get_submodule(convolution)
        (stride, _), (pad, _) = part.stride, part.padding
        inputs = [value, f"{convolution}.weight"]
        value = self._add("Conv", inputs, convolution, strides=[stride] * 2, pads=[pad] * 4)
        entries = ("weight", "bias", "running_mean", "running_var")
        inputs = [value, *(f"{norm}.{entry}" for entry in entries)]
        epsilon = self._module.get_submodule(norm).eps
        return self._add("BatchNormalization", inputs, norm, epsilon=epsilon)

    def _add(self, kind: str, inputs: list[str], path: str, **attributes: Any) -> str:
        name = self._names.get(path, path)
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name
