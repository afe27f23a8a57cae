"""A network on a device: weights, stimuli and activations stay there; only products of conditions are copied back."""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names, parse_bytes
from fastrdm.images import Preprocessing
from fastrdm.networks import Graph, bytes_per_image
from fastrdm.rdm import Gram, UndefinedPairsWarning, chosen_methods, method_named
from fastrdm.runtimes import rdm_graph
from fastrdm.runtimes.device_results import (
    LayerOutputs,
    Squares,
    gram_of,
    near_pairs,
    operand_of_outputs,
)
from fastrdm.runtimes.device_sessions import (
    MEMORY,
    Bytes,
    ConditionBlock,
    DeviceMemory,
    DeviceSessions,
    is_out_of_memory,
    on_host,
)
from fastrdm.runtimes.graph_folding import output_name
from fastrdm.runtimes.model_arguments import check_stimuli, device_measure
from fastrdm.runtimes.planning import BlockNeeds

Floats = NDArray[np.float64]
Result = TypeVar("Result")
#: Condensed dissimilarities, and the conditions that have none.
_LayerRdm: TypeAlias = tuple[Floats, NDArray[np.intp]]
#: Layer, its outputs and squared distances of near pairs → the result, or None if it needs the last, which is None.
_Finish: TypeAlias = Callable[[str, LayerOutputs, Squares | None], Result | None]


def suits(provider: str, method: str) -> bool:
    """Whether a provider has memory of its own and supports the method there."""
    return provider in MEMORY and method_named(method).on_device


@dataclass(frozen=True)
class Shown:
    """Stimuli on a device, from `DeviceModel.show`; their memory is freed with this object.

    `names` are those of the conditions in messages.
    """

    names: tuple[str, ...]
    pixels: Any


@dataclass(frozen=True)
class Folded:
    """A checkpoint's weights in the layout of the device, from `DeviceModel.fold`."""

    buffer: Bytes


class DeviceModel:
    """A network whose RDMs are computed on its device; replacing the weights takes one copy and no new session.

    ONNX Runtime flattens, centres and multiplies layers in float32, in chunks that are summed in float64. On the host,
    the products of all pairs become RDMs as in `calc_rdm`. Both agree within 1e-5: of the RDM for angles, of the
    largest distance for distances.

    Parameters
    ----------
    graph : Graph
        A network exported by `export_onnx`.
    layers : sequence of str
        Tapped layers to compute RDMs of.
    preprocessing : Preprocessing
        The network's.
    provider : str
        Where it runs, as for `OnnxModel`.
    method : str
        A method that the table of `calc_rdm` marks for devices.
    weights : collection of str, optional
        Initialisers that checkpoints replace, by their names in a `state_dict`; by default all floating-point ones.
    max_memory : int or str, optional
        Bytes, or a text such as ``"8GiB"``, for the stimuli that run, activations and products, in addition to the
        weights; an estimate, because providers do not report their scratch memory. If not all conditions fit, they run
        in blocks whose centred activations stay on the device, if necessary for some layers at a time. By default all
        conditions run in one batch, and fewer if the device is out of memory.
    **options
        As for `open_session`, such as ``n_threads``.

    Attributes
    ----------
    layers : tuple of str
    provider : str
        The provider in use.

    Raises
    ------
    ValueError
        If the method is unavailable on devices, a layer is not an output of the graph, or as for `OnnxModel`.
    FileNotFoundError
        If the file does not exist.
    MissingExtraError
        If onnx or ONNX Runtime is not installed.
    """

    def __init__(
        self,
        graph: Graph,
        layers: Sequence[str],
        preprocessing: Preprocessing,
        provider: str = "auto",
        method: str = "correlation",
        *,
        weights: Collection[str] | None = None,
        max_memory: int | str | None = None,
        **options: Any,
    ) -> None:
        self.method, self._measure = method, device_measure(method)
        self.layers, self._size = tuple(layers), preprocessing.size
        self._name = graph.name
        self._max_memory = None if max_memory is None else parse_bytes(max_memory)
        self._limit = self._max_memory
        model, values = graph.load()
        self._network = rdm_graph.from_pixels(model, self.layers, preprocessing, weights)
        self._inner_bytes = bytes_per_image(self._network.model, ())
        self._whole = (rdm_graph.whole, self._network, self.layers, self._measure.centre)
        self._sessions = DeviceSessions(self._network, self._name, provider, options, self._whole)
        self.provider = self._sessions.provider
        self._loaded = False
        if values.keys() >= self._network.weights.keys():
            self.load(values)

    @property
    def device(self) -> DeviceMemory:
        """The memory of weights, stimuli and activations: ONNX Runtime's name of it, and the device's number."""
        return self._sessions.memory

    def __repr__(self) -> str:
        return f"<DeviceModel {self._name}, {len(self.layers)} layers, {self.method}, on {self.provider}>"

    def fold(self, weights: Mapping[str, NDArray[Any]], into: Folded | None = None) -> Folded:
        """Convert a checkpoint's weights to the layout of the device: one buffer, batch norms folded.

        Works on the host and does not change the model, so another thread may do it before `load`.

        Parameters
        ----------
        weights : mapping of str to ndarray
            By their names in the `state_dict`; those that no layer depends on may be missing, and others are ignored.
        into : Folded, optional
            An earlier checkpoint's, loaded and no longer needed, whose memory to reuse: on a virtual machine, touching
            47 MB of new memory takes 60 ms, folding them 6 ms.

        Raises
        ------
        ValueError
            If weights are missing or have another shape, or `into` was folded for another network.
        """
        return Folded(self._sessions.layout.fold(weights, None if into is None else into.buffer))

    def load(self, weights: Mapping[str, NDArray[Any]] | Folded) -> None:
        """Replace the weights by a checkpoint's, as for `fold`, or by the result of `fold` for this network."""
        folded = weights if isinstance(weights, Folded) else self.fold(weights)
        self._sessions.layout.check_size(folded.buffer)
        self._sessions.weights.update_inplace(folded.buffer)
        self._loaded = True

    def show(self, pixels: Bytes, names: Sequence[str] | None = None) -> Shown:
        """Copy stimuli to the device, where they stay as long as the returned object exists.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (n_conditions, height, width, 3)
            At least two, in RGB, resized to the network's input.
        names : sequence of str, optional
            Names of the conditions in messages; by default their numbers from 1.

        Returns
        -------
        Shown
            For any model on the same device.
        """
        return Shown(check_stimuli(pixels, self._size, names), self.device.put(pixels))

    def rdms(self, shown: Shown) -> dict[str, Floats]:
        """Run the network on stimuli and return each layer's condensed RDM, in float64.

        Raises
        ------
        ValueError
            If no weights are loaded, an activation is NaN or infinite (the message names the layer and the first such
            image), squares of activations leave the range of float32, or the memory is too small.

        Warns
        -----
        RuntimeWarning
            As `calc_rdm`, naming the layer.
        """
        by_layer = self._within_memory(shown, self._rdm)
        rdms = {}
        for layer in self.layers:
            values, undefined = by_layer[layer]
            rdms[layer] = np.sqrt(values, out=values) if self._measure.root else values
            if len(undefined):
                text = f"layer {layer!r}: {self._measure.undefined}, their pairs are NaN: {list_names(undefined, 10)}"
                warnings.warn(UndefinedPairsWarning(text, undefined.tolist(), layer), stacklevel=2)
        return rdms

    def grams(self, shown: Shown, methods: Sequence[str] | None = None) -> dict[str, Gram]:
        """Run the network on stimuli and return each layer's Gram matrix, if `method` is ``"correlation"``.

        Distances of near pairs are computed from differences only if they are among the `methods`, by default all.
        Errors are those of `rdms`.
        """
        if not self._measure.centre:
            raise ValueError(
                f"Gram matrices need a DeviceModel of the method 'correlation', not {self.method!r}"
            )
        chosen = chosen_methods(methods)

        def finish(layer: str, out: LayerOutputs, squares: Squares | None) -> Gram | None:
            return gram_of(out, self._measure, chosen, squares)

        return self._within_memory(shown, finish)

    def _needs(self, n_conditions: int) -> BlockNeeds:
        shapes = {layer: self._network.width(layer).shape for layer in self._network.layers}
        return BlockNeeds(shapes, self._inner_bytes, n_conditions)

    def _within_memory(self, shown: Shown, finish: _Finish[Result]) -> dict[str, Result]:
        """Results of each layer, from products in the blocks that the memory allows."""
        if not self._loaded:
            raise ValueError(f"{self._name} holds no weights; load a checkpoint's first")
        needs = self._needs(len(shown.names))
        while True:
            plan = needs.plan(self.layers, self._limit)
            try:
                if needs.is_one_run(plan):
                    return self._in_one_run(shown, finish)
                by_layer: dict[str, Result] = {}
                for layers in plan.groups:
                    by_layer |= self._in_blocks(shown, layers, plan.height, finish)
                return by_layer
            # The binding's exceptions have no common base class.
            except Exception as error:
                if self._max_memory is not None or not is_out_of_memory(error):
                    raise
                self._limit = needs.bytes(plan) // 2

    def _in_one_run(self, shown: Shown, finish: _Finish[Result]) -> dict[str, Result]:
        n = len(shown.names)
        out = self._sessions.run(self._sessions.open(*self._whole), {}, shown.pixels, slice(0, n))
        by_layer: dict[str, Result] = {}
        near = []
        for layer in self.layers:
            result = finish(layer, self._outputs(layer, on_host(out, layer), shown), None)
            if result is None:
                near.append(layer)
            else:
                by_layer[layer] = result
        # Pairs as close as copies of a stimulus need the differences of their rows.
        groups = [(layer,) for layer in near] if self._limit is not None else [tuple(near)]
        for layers in groups if near else ():
            by_layer |= self._in_blocks(shown, layers, n, finish)
        return {layer: by_layer[layer] for layer in self.layers}

    def _in_blocks(
        self, shown: Shown, layers: tuple[str, ...], height: int, finish: _Finish[Result]
    ) -> dict[str, Result]:
        n = len(shown.names)
        session = self._sessions.open(rdm_graph.rows, self._network, layers, self._measure.centre)
        blocks: list[ConditionBlock] = []
        host: dict[str, dict[str, Floats]] = {
            layer: {"products": np.empty((n, n))} for layer in layers
        }
        for place in _slices(n, height):
            out = self._sessions.run(session, {}, shown.pixels, place)
            rows = {layer: out.pop(output_name(layer, "rows")) for layer in layers}
            blocks.append(ConditionBlock(place, rows))
            for layer in layers:
                for what, values in on_host(out, layer).items():
                    host[layer].setdefault(what, np.empty(n))[place] = values
                multiply = self._sessions.open(rdm_graph.products, self._network.width(layer))
                for earlier in blocks:
                    both = {"a": earlier.rows[layer], "b": rows[layer]}
                    tile = self._sessions.run(multiply, both)["products"].numpy()
                    host[layer]["products"][earlier.place, place] = tile
                    host[layer]["products"][place, earlier.place] = tile.T
        by_layer: dict[str, Result] = {}
        for layer in layers:
            squares = partial(self._squares, layer, blocks, height)
            result = finish(layer, self._outputs(layer, host[layer], shown), squares)
            assert result is not None
            by_layer[layer] = result
        return by_layer

    def _outputs(self, layer: str, out: dict[str, Floats], shown: Shown) -> LayerOutputs:
        """The outputs of a layer, checked to be in range."""
        products, n_channels = out["products"], self._network.width(layer).channels
        _check(layer, np.isfinite(out["means"]), shown, "NaN or infinite activations")
        squares = products.diagonal()
        limits = np.finfo(np.float32)
        smallest = float(limits.tiny / limits.eps) * n_channels
        compared = squares if self._measure.undefined else np.full(len(squares), squares.max())
        in_range = np.isfinite(squares) & ((compared == 0) | (compared >= smallest))
        _check(layer, in_range, shown, "activations whose squares leave float32's range")
        return LayerOutputs(products, n_channels, out["means"], out.get("sums"))

    def _rdm(self, layer: str, out: LayerOutputs, squares: Squares | None) -> _LayerRdm | None:
        """Dissimilarities of a layer; None if near pairs need rows."""
        operand = operand_of_outputs(out, self._measure)
        values, n_near = self._measure.condense(operand, operand, out.products, True)
        if n_near:
            if squares is None:
                return None
            near = near_pairs(self._measure, operand, values, squares)
            values[near.places] = near.values
        return values, np.flatnonzero(np.isnan(operand.norms))

    def _squares(
        self,
        layer: str,
        blocks: Sequence[ConditionBlock],
        height: int,
        pairs: NDArray[np.int32],
        factors: Floats,
    ) -> Floats:
        """Squared distances of pairs of conditions times their factors, from the differences of their rows."""
        session = self._sessions.open(rdm_graph.squares, self._network.width(layer))
        squares = np.empty(len(pairs))
        for a, b in combinations_with_replacement(blocks, 2):
            mask = (pairs[:, 0] >= a.place.start) & (pairs[:, 0] < a.place.stop)
            mask &= (pairs[:, 1] >= b.place.start) & (pairs[:, 1] < b.place.stop)
            inside = np.flatnonzero(mask)
            for part in _slices(len(inside), height):
                i, j = pairs[inside[part]].astype(np.int64).T
                arrays = {
                    "i": i - a.place.start,
                    "j": j - b.place.start,
                    "f": factors[i].astype(np.float32),
                    "g": factors[j].astype(np.float32),
                }
                inputs = {name: self.device.put(array) for name, array in arrays.items()}
                inputs |= {"a": a.rows[layer], "b": b.rows[layer]}
                squares[inside[part]] = self._sessions.run(session, inputs)["squares"].numpy()
        return squares


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _check(layer: str, good: NDArray[np.bool_], shown: Shown, problem: str) -> None:
    if not good.all():
        raise ValueError(f"layer {layer!r} has {problem}, first for {shown.names[np.argmin(good)]}")
