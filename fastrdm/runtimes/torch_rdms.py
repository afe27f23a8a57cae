"""RDMs of a torch module's layers: their products on the device, or their activations on the host."""

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names, warn_caller
from fastrdm.rdm import Gram, UndefinedPairsWarning, gram_from_products, method_named
from fastrdm.runtimes.host_rdms import Collector, Workspace
from fastrdm.runtimes.planning import BatchPlan
from fastrdm.runtimes.torch_session import TorchSession
from fastrdm.runtimes.torch_states import alone, memory_named
from fastrdm.tensors import LayerProducts, split, torch_package

if TYPE_CHECKING:
    import torch

#: Layer → products of its conditions.
Products: TypeAlias = dict[str, LayerProducts]


@dataclass(frozen=True)
class ShownImages:
    """Stimuli on a device, from `TorchModel.show`; their memory is freed with this object."""

    names: tuple[str, ...]
    pixels: "torch.Tensor"


def check_shown(sets: Sequence[ShownImages], size: tuple[int, int], device: "torch.device") -> None:
    """Raise an error unless there are stimuli, all of a size (height, width) and on a device."""
    if not len(sets):
        raise ValueError("sets is empty; pass at least one, from TorchModel.show")
    for each in sets:
        if not isinstance(each, ShownImages):
            raise TypeError(f"stimuli must come from TorchModel.show, not {type(each).__name__}")
        _, *shape, _ = each.pixels.shape
        if (*shape,) != size or each.pixels.device != device:
            raise ValueError(
                f"the stimuli have {tuple(shape)} pixels on {each.pixels.device}, but this model needs {size} on"
                f" {device}; pass them to its own show"
            )


class PendingRdms:
    """RDMs that a device is computing, from `TorchModel.start`."""

    def __init__(
        self,
        widths: Mapping[str, int],
        method: str,
        names: tuple[str, ...],
        values: Mapping[str, LayerProducts],
    ) -> None:
        package = torch_package()
        self._widths, self._method, self._names = widths, method, names
        self._rounding = {layer: each.rounding for layer, each in values.items()}
        self._event = None
        flat = package.cat([each.flat() for each in values.values()])
        self._layers = list(values)
        if flat.is_cuda:
            self._host = package.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
            self._host.copy_(flat, non_blocking=True)
            self._event = package.cuda.Event()
            self._event.record(package.cuda.current_stream(flat.device))
        else:
            self._host = flat.cpu()

    def rdms(self, method: str = "") -> dict[str, NDArray[np.float64]]:
        """Wait for the device, and return each layer's condensed RDM; errors and warnings as `TorchModel.rdms`."""
        row = method_named(method or self._method)
        rdms = {}
        for layer, made in self.grams().items():
            rdms[layer], undefined = made.settled(row.name)
            if len(undefined):
                text = (
                    f"layer {layer!r}: {row.measure.undefined}, their pairs are NaN:"
                    f" {list_names(undefined, 10)}"
                )
                warning = UndefinedPairsWarning(text, undefined.tolist(), layer)
                warn_caller(warning)
        return rdms

    def grams(self) -> dict[str, Gram]:
        """Wait for the device, and return each layer's Gram matrix."""
        if self._event is not None:
            self._event.synchronize()
        n = len(self._names)
        parts = np.split(self._host.numpy(), len(self._layers))
        grams = {}
        for layer, part in zip(self._layers, parts, strict=True):
            values = split(part, n)
            finite = np.isfinite(values.products.diagonal())
            if not finite.all():
                first = self._names[int(np.argmin(finite))]
                raise ValueError(
                    f"layer {layer!r} has NaN, infinite or too large activations, first for {first}"
                )
            grams[layer] = gram_from_products(
                values.products,
                self._widths[layer],
                values.sums,
                np.where(values.low == values.high, values.low, np.nan),
                rounding=self._rounding[layer],
            )
        return grams


class DeviceRdms:
    """RDMs that the device of a session computes; with a CUDA graph, repeated calls are replayed."""

    def __init__(self, session: TorchSession) -> None:
        self._session = session
        #: Graphs with the pixels that they read, until one of their stimuli is no longer used.
        self._graphs: dict[Any, tuple[Any, Any, list[Products]]] = {}

    def start(
        self,
        shown: Sequence[ShownImages],
        wanted: Sequence[str],
        plan: BatchPlan,
        method: str = "correlation",
        advance: Callable[[int], None] = lambda done: None,
        *,
        once: bool = False,
    ) -> list[PendingRdms]:
        """Start to compute the products of some layers, for each set of stimuli; all sets share batches.

        RDMs are of this method unless another is asked for. `advance` takes the number of images that were started.
        With `once`, the stimuli are not used again, so that nothing is recorded.
        """
        session = self._session
        widths = {layer: math.prod(session.shapes[layer]) for layer in wanted}
        # The values of a graph are overwritten by its next replay.
        with alone(), memory_named(session.name, session.device):
            if session.options.cuda_graph and not once:
                values = self._replayed(shown, wanted, plan)
                advance(len(plan.passes) * sum(len(each.names) for each in shown))
            else:
                sizes = [len(each.names) for each in shown]
                values = _products(session, _joined(shown), sizes, wanted, plan, advance)
            return [
                PendingRdms(widths, method, each.names, products)
                for each, products in zip(shown, values, strict=True)
            ]

    def _replayed(
        self, shown: Sequence[ShownImages], wanted: Sequence[str], plan: BatchPlan
    ) -> list[Products]:
        torch = torch_package()
        key = (*(each.pixels.data_ptr() for each in shown), plan, *wanted)
        if key not in self._graphs:
            pixels, sizes = _joined(shown), [len(each.names) for each in shown]
            # A first run outside the graph lets libraries choose algorithms and allocate their memory.
            _products(self._session, pixels, sizes, wanted, plan)
            torch.cuda.synchronize(self._session.device)
            graph = torch.cuda.CUDAGraph()
            # Other threads may allocate memory meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                values = _products(self._session, pixels, sizes, wanted, plan)
            # The addresses in the key are not used again while the pixels exist.
            self._graphs[key] = graph, (pixels, [each.pixels for each in shown]), values
            for each in shown:
                weakref.finalize(each, self._graphs.pop, key, None)
        graph, _, values = self._graphs[key]
        graph.replay()
        return values


def _joined(shown: Sequence[ShownImages]) -> "torch.Tensor":
    """Pixels of all sets."""
    if len(shown) == 1:
        return shown[0].pixels
    return torch_package().cat([each.pixels for each in shown])


def _products(
    session: TorchSession,
    pixels: "torch.Tensor",
    sizes: Sequence[int],
    wanted: Sequence[str],
    plan: BatchPlan,
    advance: Callable[[int], None] = lambda done: None,
) -> list[Products]:
    """Products of all pairs of conditions of each layer, on the device, for each set of so many conditions."""
    n = len(pixels)
    products = [{layer: LayerProducts(size, session.device) for layer in wanted} for size in sizes]

    def add(layer: str, rows: "torch.Tensor") -> None:
        for of_set, some in zip(products, rows.split(sizes), strict=True):
            of_set[layer].add(some)

    with session.running():
        if len(plan.passes) == 1 and plan.batch_size >= n:
            for layer, values in session.forward(pixels, wanted).items():
                add(layer, _rows(values))
            advance(n)
            return products
        for k, ranges in enumerate(plan.passes):
            layers = [part.layer for part in ranges]
            kept: list[Any] = []
            for place, outputs in session.batches(pixels, plan.batch_size, layers):
                for i, part in enumerate(ranges):
                    values = outputs[part.layer].flatten(1)[:, part.begin : part.end]
                    if i == len(kept):
                        kept.append(values.new_empty((n, part.end - part.begin)))
                    kept[i][place] = values
                advance(k * n + place.stop)
            # Freed one by one: the next pass needs their memory.
            for part in ranges:
                add(part.layer, kept.pop(0))
    return products


def collect(
    session: TorchSession,
    pixels: NDArray[np.uint8],
    plan: BatchPlan,
    collector: Collector[Any],
    workspace: Workspace,
    advance: Callable[[int], None],
) -> None:
    """Run the images once per pass, and give the collector the channels that each pass keeps.

    Activations are written to the workspace; `advance` takes the number of images that have run.
    """
    n = len(pixels)
    shown = session.on_device(pixels)
    for k, ranges in enumerate(plan.passes):
        layers = list(dict.fromkeys(part.layer for part in ranges))
        with workspace.arrays([(n, part.end - part.begin) for part in ranges]) as arrays:
            with session.running():
                for place, outputs in session.batches(shown, plan.batch_size, layers):
                    rows = {x: v.float().flatten(1).cpu().numpy() for x, v in outputs.items()}
                    rows |= {
                        x: p.project(rows[x]) for x, p in collector.projectors.items() if x in rows
                    }
                    for part, array in zip(ranges, arrays, strict=True):
                        array[place] = rows[part.layer][:, part.begin : part.end]
                    advance(k * n + place.stop)
            for part, array in zip(ranges, arrays, strict=True):
                collector.add(part, array)


def _rows(values: "torch.Tensor") -> "torch.Tensor":
    """Activations (n, channels), in the order of memory, which makes no difference to products of conditions."""
    torch = torch_package()
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)
