"""An ONNX graph and its weights, from which every runtime opens a session."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require
from fastrdm.networks.external_data import external_files
from fastrdm.networks.onnx_files import (
    existing_file,
    is_external,
    put_weights,
    read_model,
    read_with_weights,
)


@dataclass(frozen=True)
class Graph:
    """An ONNX file without external data, or a model's contents and its initialisers that are external data.

    The weights are set before ONNX Runtime optimises the graph. `name` is that in messages; `taken` is what was taken
    of the weights' file, as `Taken.to_dict` has it.
    """

    name: str
    source: Path | bytes
    initialisers: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: str | Path) -> "Graph":
        """Return the graph of an ONNX file; errors are those of `read_with_weights`."""
        path = existing_file(path)
        # Runtimes do not check the files of weights.
        if external_files(path):
            return cls.from_model(path, *read_with_weights(path))
        return cls(str(path), path)

    @classmethod
    def from_model(cls, path: Path, model: Any, weights: Mapping[str, NDArray[Any]]) -> "Graph":
        """Return the graph of a model in memory, with those of a file's weights that it uses."""
        used = {tensor.name for tensor in model.graph.initializer}
        kept = {name: value for name, value in weights.items() if name in used}
        return cls(str(path), model.SerializeToString(), kept)

    def read(self) -> Any:
        """Return the ONNX model, as from `read_model`."""
        return read_model(self.source, self.name)

    def load(self) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Return the ONNX model with its weights, and all its initialisers that have values."""
        onnx = require("onnx", "run", "to read an ONNX model")
        model = self.read()
        put_weights(model, self.initialisers)
        values = {
            tensor.name: onnx.numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
            if tensor.name not in self.initialisers and not is_external(tensor)
        }
        return model, values | dict(self.initialisers)
