"""Memory of a device: what a session has bound, and how many conditions fit at a time."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require
from fastrdm.runtimes.rdm_graph import Network

# What ONNX Runtime calls the memory of providers that have their own.
MEMORY = {"cuda": "cuda", "tensorrt": "cuda", "rocm": "gpu", "migraphx": "gpu"}


# Conditions whose products are made at once: those of single chunks, of 64 channels, take twice the rows' memory then.
_MOST_CONDITIONS = 128


# What the memory of one condition's inner values becomes in ONNX Runtime: its arena beside its pattern of it.
_WORKING = 2


class Session(NamedTuple):
    """A session, and the names of what it takes and gives."""

    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, session: Any) -> "Session":
        """A session of ONNX Runtime, asked for its names."""
        inputs, outputs = session.get_inputs(), session.get_outputs()
        return cls(session, tuple(i.name for i in inputs), tuple(o.name for o in outputs))


class Device(NamedTuple):
    """Memory that a session reads without a copy, by ONNX Runtime's name and number of it."""

    kind: str
    number: int

    @classmethod
    def of(cls, session: Session, provider: str) -> "Device":
        """Where a session keeps what it reads."""
        options = session.session.get_provider_options()
        own = options.get(session.session.get_providers()[0], {})
        kind = MEMORY.get(provider, "cpu")
        return cls(kind, 0 if kind == "cpu" else int(own.get("device_id", 0)))

    def empty(self, n: int) -> Any:
        """Memory for `n` bytes."""
        ort = require("onnxruntime", "onnx", "to run a network")
        return ort.OrtValue.ortvalue_from_shape_and_type([n], np.uint8, *self)

    def put(self, array: NDArray[Any]) -> Any:
        """An array, copied there."""
        ort = require("onnxruntime", "onnx", "to run a network")
        # A copy, since ONNX Runtime only refers to an array that lies in its own memory.
        return ort.OrtValue.ortvalue_from_numpy(np.array(array, order="C"), *self)


class Block(NamedTuple):
    """Some conditions, and their rows of each layer on the device."""

    place: slice
    rows: dict[str, Any]


class _Plan(NamedTuple):
    """Conditions of a block, and the layers whose rows lie on the device together."""

    height: int
    groups: tuple[tuple[str, ...], ...]


class Need(NamedTuple):
    """Memory that conditions take: an estimate."""

    network: Network
    inner: int
    n: int

    def plan(self, layers: tuple[str, ...], bound: int | None) -> _Plan:
        """All at once, or the largest blocks and then the fewest groups of layers that a bound allows."""
        heights = [min(self.n, _MOST_CONDITIONS)]
        while heights[-1] > 1:
            heights.append(-(-heights[-1] // 2))
        best = _Plan(heights[0], (layers,))
        if bound is None or self.bytes(best) <= bound:
            return best
        widest = max(self._rows(layer) for layer in layers)
        # Rows of all conditions are worth more of the bound than large blocks.
        height = next((h for h in heights if 2 * self._work(h) <= bound), 1)
        room = bound - self._work(height)
        if self.n * widest > room:
            height, room = 1, bound - self._work(1)
        if self.n * widest > room:
            raise ValueError(
                f"memory of {bound} bytes is too small for {self.n} conditions of a layer of {widest // 4} channels "
                f"on the device; {self.n * widest + self._work(1)} bytes would do"
            )
        groups: list[tuple[str, ...]] = [()]
        for layer in layers:
            if self.n * sum(map(self._rows, (*groups[-1], layer))) > room:
                groups.append(())
            groups[-1] += (layer,)
        return _Plan(height, tuple(groups))

    def bytes(self, plan: _Plan) -> int:
        """What a plan takes."""
        kept = max(sum(map(self._rows, group)) for group in plan.groups)
        at_once = plan.height == self.n and len(plan.groups) == 1
        return self._work(plan.height) + (0 if at_once else self.n * kept)

    def _work(self, height: int) -> int:
        """Of running a block and of the products of two, those of single chunks in float32 and float64."""
        shapes = [self.network.width(layer).shape for layer in self.network.layers]
        products = max(groups * (4 * chunks + 8) for chunks, groups, _ in shapes)
        rows = max(map(self._rows, self.network.layers))
        return height * (_WORKING * self.inner + 2 * rows) + products * height**2

    def _rows(self, layer: str) -> int:
        """Of one condition."""
        return 4 * math.prod(self.network.width(layer).shape)
