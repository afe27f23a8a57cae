"""The sample study's network: Gabor filters, three convolutions with random weights, pooled averages."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require
from fastrdm.images import Preprocessing

#: Layers that the network's file offers, in order.
NETWORK_LAYERS = ("conv1", "conv2", "conv3", "conv4", "fc")
_CONVOLUTIONS = NETWORK_LAYERS[:-1]


def write_network(path: Path, seed: int) -> None:
    """Write the network as an ONNX file."""
    onnx = require("onnx", "onnx", "to write the sample's network")
    helper = onnx.helper
    preprocessing = Preprocessing(size=(96, 96))
    height, width = preprocessing.size
    weights = _weights(seed)
    shapes: dict[str, list[Any]] = {
        name: [len(weights[f"{name}.weight"]), height // 2**i, width // 2**i]
        for i, name in enumerate(_CONVOLUTIONS, 1)
    }
    shapes["fc"] = [64]

    def value(name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])

    graph = helper.make_graph(
        _nodes(helper, weights),
        "sample",
        [value("images", [3, height, width])],
        [value(name, shapes[name]) for name in NETWORK_LAYERS],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="fastrdm"
    )
    onnx.checker.check_model(model)
    helper.set_model_props(
        model,
        {
            "fastrdm.layers": json.dumps(NETWORK_LAYERS),
            "fastrdm.preprocessing": preprocessing.to_json(),
            "fastrdm.architecture": "fastrdm.cli.sample",
            "fastrdm.version": "1",
        },
    )
    path.write_bytes(model.SerializeToString(deterministic=True))


def _weights(seed: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng((seed, 2))
    weights = {"conv1.weight": _gabors()}
    for name, n_out, n_in in (("conv2", 32, 24), ("conv3", 64, 32), ("conv4", 96, 64)):
        values = rng.standard_normal((n_out, n_in, 3, 3))
        # Filters with zero mean see differences, so that layers do not simply inherit brightness.
        values -= values.mean(axis=(1, 2, 3), keepdims=True)
        weights[f"{name}.weight"] = np.asarray(values * np.sqrt(2 / (9 * n_in)), np.float32)
    weights["fc.weight"] = np.asarray(rng.standard_normal((64, 96)) / np.sqrt(96), np.float32)
    return weights


def _nodes(helper: Any, weights: Mapping[str, NDArray[np.float32]]) -> list[Any]:
    nodes = []

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    value = "images"
    for name in _CONVOLUTIONS:
        weight = f"{name}.weight"
        pad, stride = weights[weight].shape[-1] // 2, 2 if name == "conv1" else 1
        value = add("Conv", [value, weight], f"{name}.sum", strides=[stride] * 2, pads=[pad] * 4)
        value = add("Relu", [value], name)
        value = add(
            "MaxPool", [value], f"{name}.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
        )
    value = add("GlobalAveragePool", [value], "average")
    value = add("Flatten", [value], "features")
    add("Gemm", [value, "fc.weight"], "fc", transB=1)
    return nodes


def _gabors() -> NDArray[np.float32]:
    """Return filters (24, 3, 7, 7): 6 orientations, × 2 phases in grey and × 1 in two opponent colours."""
    y, x = np.mgrid[-3:4, -3:4]
    colours = np.array([[1, 1, 1], [1, -1, 0], [0.5, 0.5, -1]]) / np.sqrt(3)
    bank = []
    for colour, n_phases in zip(colours, (2, 1, 1), strict=True):
        for angle in np.pi * np.arange(6) / 6:
            across = x * np.cos(angle) + y * np.sin(angle)
            for phase in (0, np.pi / 2)[-n_phases:]:
                wave = np.exp(-(x**2 + y**2) / 8) * np.cos(2 * np.pi * across / 5 + phase)
                wave -= wave.mean()
                bank.append(colour[:, None, None] * wave / np.abs(wave).sum())
    return np.asarray(bank, np.float32)
