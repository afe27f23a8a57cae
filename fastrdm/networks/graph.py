"""What a session is made of: an ONNX graph and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


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
