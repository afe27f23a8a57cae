"""RDMs and Gram matrices on the host: passes over the images, each followed by those of the channels that it kept.

A session writes activations directly to the memory that the kernels read, which outlives a call.
"""

import contextlib
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import issue, parse_bytes, recorded_warnings
from fastrdm.images import Images, image_name
from fastrdm.networks import Graph, bytes_per_image
from fastrdm.rdm import (
    Gram,
    GramAccumulator,
    GramProjector,
    Projector,
    RdmAccumulator,
    SparseProjection,
    UndefinedPairsWarning,
    calc_rdm,
    gram,
    method_named,
)
from fastrdm.runtimes.network_session import NetworkSession
from fastrdm.runtimes.planning import BatchNeeds, BatchPlan, ChannelRange
from fastrdm.runtimes.provider_sources import runtime

Floats32 = NDArray[np.float32]
Projectors = Mapping[str, Projector | GramProjector]
Result = TypeVar("Result")


class Workspace:
    """Memory for activations and images that outlives a call.

    On a virtual machine, touching new memory takes longer than computing the RDMs of its contents: a first pass of
    ResNet-20 over 118 images took 2.3 s, the next one 1.0 s. A concurrent second call gets memory of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._block = np.empty(0, np.float32)

    @contextlib.contextmanager
    def arrays(self, shapes: Sequence[tuple[int, ...]]) -> Iterator[list[Floats32]]:
        """Arrays of these shapes with arbitrary contents, valid until the context ends."""
        sizes = [math.prod(shape) for shape in shapes]
        kept = self._lock.acquire(blocking=False)
        try:
            if kept and self._block.size < sum(sizes):
                # Free the old block first; otherwise both are held.
                self._block = np.empty(0, np.float32)
                self._block = np.empty(sum(sizes), np.float32)
            block = self._block if kept else np.empty(sum(sizes), np.float32)
            ends = np.cumsum(sizes)
            yield [
                block[end - size : end].reshape(shape)
                for end, size, shape in zip(ends, sizes, shapes, strict=True)
            ]
        finally:
            if kept:
                self._lock.release()


def plan_passes(
    session: NetworkSession,
    graph: Graph,
    collector: "Collector[Any]",
    n_conditions: int,
    max_memory: int | str | None,
) -> BatchPlan:
    """Choose batches and passes for what a collector keeps, within a memory limit."""
    widths, projectors, whole = collector.widths, collector.projectors, collector.whole
    if max_memory is None:
        return BatchNeeds(widths, n_conditions, 0, whole).plan(session.batch_size, None)
    # Pixels as bytes and as floats, and the layers that ONNX Runtime holds until they are projected.
    image = 5 * 3 * math.prod(session.preprocessing.size)
    image += 4 * sum(math.prod(session.shapes[layer]) for layer in projectors)
    inner = bytes_per_image(graph.read(), list(widths))
    needs = BatchNeeds(widths, n_conditions, inner + image, whole)
    return needs.plan(session.batch_size, parse_bytes(max_memory), session.fixed)


def run(
    session: Any,
    place: slice,
    images: Floats32,
    ranges: Mapping[ChannelRange, Floats32],
    shapes: Mapping[str, tuple[int, ...]],
    projectors: Projectors,
) -> None:
    """Run the images of the conditions in `place` and store ranges of channels of their activations.

    ONNX Runtime writes complete layers directly to their array in `ranges`, of shape (n_conditions, end - begin). Of
    other layers it allocates a batch, and the range is copied, for layers with a projector from their projection.
    The images may be followed by others that fill the batch.
    """
    n = place.stop - place.start
    options = runtime().RunOptions()
    options.only_execute_path_to_fetches = True
    binding = session.io_binding()
    name = session.get_inputs()[0].name
    binding.bind_input(name, "cpu", 0, np.float32, images.shape, images.ctypes.data)
    copied = []
    for part, rows in ranges.items():
        layer, shape = part.layer, (n, *shapes[part.layer])
        is_whole = part.end - part.begin == math.prod(shape[1:]) and layer not in projectors
        if is_whole and n == len(images):
            binding.bind_output(layer, "cpu", 0, np.float32, shape, rows[place].ctypes.data)
        else:
            binding.bind_output(layer, "cpu")
            copied.append(part)
    session.run_with_iobinding(binding, options)
    for part, output in zip(ranges, binding.get_outputs(), strict=True):
        if part in copied:
            values = output.numpy()[:n].reshape(n, -1)
            if part.layer in projectors:
                values = projectors[part.layer].project(values)
            ranges[part][place] = values[:, part.begin : part.end]


def gather(
    session: NetworkSession,
    images: Images,
    pixels: NDArray[np.uint8],
    layers: Sequence[str],
    advance: Callable[[int], None],
) -> dict[str, Floats32]:
    """Return each layer's activations of all images, in which NaN and infinity are refused."""
    n = len(pixels)
    shapes = {layer: session.shapes[layer] for layer in layers}
    gathered = {x: np.empty((n, math.prod(shape)), np.float32) for x, shape in shapes.items()}
    ranges = {ChannelRange(layer, 0, rows.shape[1]): rows for layer, rows in gathered.items()}
    batch_shape = (min(session.batch_size, n), 3, *session.preprocessing.size)
    for place, batch in session.batches(pixels, np.empty(batch_shape, np.float32)):
        run(session.session, place, batch, ranges, shapes, {})
        for layer, rows in gathered.items():
            check_activations(rows[place], layer, images, place.start)
        advance(place.stop)
    return {layer: rows.reshape(-1, *shapes[layer]) for layer, rows in gathered.items()}


def run_passes(
    session: NetworkSession,
    plan: BatchPlan,
    pixels: NDArray[np.uint8],
    collector: "Collector[Any]",
    workspace: Workspace,
    advance: Callable[[int], None],
) -> None:
    """Run the images once per pass, and give the collector the channels that each pass keeps.

    Activations and images are written to the workspace; `advance` is called with the number of images that have run.
    """
    n = len(pixels)
    layers = dict.fromkeys(part.layer for ranges in plan.passes for part in ranges)
    shapes = {layer: session.shapes[layer] for layer in layers}
    batch_shape = (min(plan.batch_size, n), 3, *session.preprocessing.size)
    for k, ranges in enumerate(plan.passes):
        sizes = [(n, part.end - part.begin) for part in ranges]
        with workspace.arrays([*sizes, batch_shape]) as (*arrays, batch):
            rows = dict(zip(ranges, arrays, strict=True))
            for place, images in session.batches(pixels, batch):
                run(session.session, place, images, rows, shapes, collector.projectors)
                advance(k * n + place.stop)
            for part, values in rows.items():
                collector.add(part, values)


class Blocks(Protocol):
    """An accumulator of blocks of channels."""

    def update(self, activations: Any) -> None:
        """Add a block."""


class Collector(ABC, Generic[Result]):
    """Results of layers whose channels come in one or several ranges; `results` has those of complete layers.

    `widths` are each layer's channels after projection by its projector in `projectors`, `whole` is whether they are
    needed in one pass. `names` are those of the conditions in messages.
    """

    whole = False

    def __init__(
        self,
        widths: Mapping[str, int],
        projectors: Projectors,
        names: Sequence[str],
        n_threads: int | None,
    ) -> None:
        self.projectors = {x: p for x, p in projectors.items() if p.n_components < p.n_channels}
        narrow = {layer: p.n_columns for layer, p in self.projectors.items()}
        self.widths = {**widths, **narrow}
        self._names, self._n_threads = names, n_threads
        self._blocks: dict[str, Any] = {}
        self.results: dict[str, Result] = {}

    def add(self, part: ChannelRange, values: Floats32) -> None:
        """Add a range of a layer's channels; the ranges of a layer come in order."""
        layer, width = part.layer, self.widths[part.layer]
        with _named(layer, values, self._names):
            if part.end - part.begin == width:
                self.results[layer] = self._of_all(layer, values)
                return
            if layer not in self._blocks:
                self._blocks[layer] = self._begin(layer, len(values))
            self._blocks[layer].update(values)
            if part.end == width:
                self.results[layer] = self._of_blocks(self._blocks.pop(layer))

    @abstractmethod
    def _of_all(self, layer: str, values: Floats32) -> Result:
        """Return the result of all channels of a layer."""

    @abstractmethod
    def _begin(self, layer: str, n_conditions: int) -> Blocks:
        """Return an accumulator."""

    @abstractmethod
    def _of_blocks(self, blocks: Any) -> Result:
        """Return the result of an accumulator."""


class RdmCollector(Collector[NDArray[np.float64]]):
    """RDMs of layers."""

    def __init__(
        self,
        widths: Mapping[str, int],
        method: str,
        projection: SparseProjection | None,
        names: Sequence[str],
        n_threads: int | None,
    ) -> None:
        projectors = {}
        if projection is not None:
            projectors = {x: projection.layer(n, x, method) for x, n in widths.items()}
        super().__init__(widths, projectors, names, n_threads)
        self.whole = bool(method_named(method).whole)
        self._methods = {
            x: projectors[x].method if x in self.projectors else method for x in widths
        }

    def _of_all(self, layer: str, values: Floats32) -> NDArray[np.float64]:
        return calc_rdm(values, self._methods[layer], n_threads=self._n_threads)

    def _begin(self, layer: str, n_conditions: int) -> RdmAccumulator:
        return RdmAccumulator(n_conditions, self._methods[layer], n_threads=self._n_threads)

    def _of_blocks(self, blocks: RdmAccumulator) -> NDArray[np.float64]:
        return blocks.rdm()


class GramCollector(Collector[Gram]):
    """Gram matrices of layers."""

    def __init__(
        self,
        widths: Mapping[str, int],
        methods: Sequence[str],
        projection: SparseProjection | None,
        names: Sequence[str],
        n_threads: int | None,
    ) -> None:
        projectors = {}
        if projection is not None:
            projectors = {x: GramProjector.of(projection, n, x, methods) for x, n in widths.items()}
        super().__init__(widths, projectors, names, n_threads)
        self.whole = bool(self.projectors)
        self._methods = methods

    def _of_all(self, layer: str, values: Floats32) -> Gram:
        projector = self.projectors.get(layer)
        if isinstance(projector, GramProjector):
            return projector.gram(values, n_threads=self._n_threads)
        made: Gram = gram(values, methods=self._methods, n_threads=self._n_threads)
        return made

    def _begin(self, layer: str, n_conditions: int) -> GramAccumulator:
        return GramAccumulator(n_conditions, methods=self._methods, n_threads=self._n_threads)

    def _of_blocks(self, blocks: GramAccumulator) -> Gram:
        return blocks.gram()


@contextlib.contextmanager
def _named(layer: str, values: Floats32, images: Sequence[str]) -> Iterator[None]:
    """Add the layer to errors and warnings about its RDM."""
    with recorded_warnings() as caught:
        try:
            yield
        except ValueError:
            check_activations(values, layer, images, 0)
            raise
    for warning in caught:
        text = f"layer {layer!r}: {warning}"
        named: Warning = type(warning)(text)
        if isinstance(warning, UndefinedPairsWarning):
            named = UndefinedPairsWarning(text, warning.conditions, layer)
        # The caller of `OnnxModel.rdms` or `TorchModel.rdms`.
        issue(named, stacklevel=7)


def check_activations(values: Floats32, layer: str, images: Images, start: int) -> None:
    """Refuse NaN and infinity; the error names the layer and the first such image, `start` being the first row's."""
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        first = start + int(np.argmin(finite))
        raise ValueError(
            f"layer {layer!r} has NaN or infinite activations, first for {image_name(images[first], first)}"
        )
