"""RDMs on the host: passes over the images, each followed by the RDMs of the channels that it kept."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import parse_bytes
from fastrdm.images import Images, image_name
from fastrdm.networks import Graph, bytes_per_image
from fastrdm.rdm import Projector, RdmAccumulator, calc_rdm
from fastrdm.runtimes.extraction import Workspace, run
from fastrdm.runtimes.network_session import NetworkSession
from fastrdm.runtimes.planning import BatchNeeds, BatchPlan, ChannelRange


def plan_passes(
    session: NetworkSession,
    graph: Graph,
    widths: Mapping[str, int],
    projectors: Mapping[str, Projector],
    n_conditions: int,
    max_memory: int | str | None,
    whole: bool,
) -> BatchPlan:
    """Choose batches and passes within a memory limit.

    `widths` are channels after projection; `whole` is whether the method needs all channels of a layer in one pass.
    """
    if max_memory is None:
        return BatchNeeds(widths, n_conditions, 0, whole).plan(session.batch_size, None)
    # Pixels as bytes and as floats, and the layers that ONNX Runtime holds until they are projected.
    image = 5 * 3 * math.prod(session.preprocessing.size)
    image += 4 * sum(math.prod(session.shapes[layer]) for layer in projectors)
    inner = bytes_per_image(graph.read(), list(widths))
    needs = BatchNeeds(widths, n_conditions, inner + image, whole)
    return needs.plan(session.batch_size, parse_bytes(max_memory), session.fixed)


def run_passes(
    session: NetworkSession,
    plan: BatchPlan,
    pixels: NDArray[np.uint8],
    collector: "RdmCollector",
    projectors: Mapping[str, Projector],
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
                run(session.session, [(place, images)], rows, shapes, projectors)
                advance(k * n + place.stop)
            for part, values in rows.items():
                collector.add(part, values)


class RdmCollector:
    """RDMs of layers whose channels come in one or several ranges; `rdms` has those of complete layers.

    `widths` and `methods` are by layer, `names` are those of the conditions in messages.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        methods: Mapping[str, str],
        names: Sequence[str],
        n_threads: int | None,
    ) -> None:
        self._widths, self._methods, self._names = widths, methods, names
        self._n_threads = n_threads
        self._sums: dict[str, RdmAccumulator] = {}
        self.rdms: dict[str, NDArray[np.float64]] = {}

    def add(self, part: ChannelRange, values: NDArray[np.float32]) -> None:
        """Add a range of a layer's channels; the ranges of a layer come in order."""
        layer, width, method = part.layer, self._widths[part.layer], self._methods[part.layer]
        with _named(layer, values, self._names):
            if part.end - part.begin == width:
                self.rdms[layer] = calc_rdm(values, method, n_threads=self._n_threads)
                return
            if layer not in self._sums:
                self._sums[layer] = RdmAccumulator(len(values), method, n_threads=self._n_threads)
            self._sums[layer].update(values)
            if part.end == width:
                self.rdms[layer] = self._sums.pop(layer).rdm()


@contextlib.contextmanager
def _named(layer: str, values: NDArray[np.float32], images: Sequence[str]) -> Iterator[None]:
    """Add the layer to errors and warnings about its RDM."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except ValueError:
            check_activations(values, layer, images, 0)
            raise
    for warning in caught:
        # The caller of `OnnxModel.rdms`.
        warnings.warn(f"layer {layer!r}: {warning.message}", warning.category, stacklevel=6)


def check_activations(values: NDArray[np.float32], layer: str, images: Images, start: int) -> None:
    """Refuse NaN and infinity; the error names the layer and the first such image, `start` being the first row's."""
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        first = start + int(np.argmin(finite))
        raise ValueError(
            f"layer {layer!r} has NaN or infinite activations, first for {image_name(images[first], first)}"
        )
