"""A network on a device: weights, stimuli and activations stay there, and only products of conditions come back."""

import functools
import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names, parse_bytes, require
from fastrdm.images import Preprocessing
from fastrdm.networks import Graph, bytes_per_image
from fastrdm.rdm import (
    NEAR_ANGLE,
    Measure,
    Operand,
    method_named,
    names_where,
    operand_of,
    pairs_at,
)
from fastrdm.runtimes import rdm_graph
from fastrdm.runtimes.device_memory import MEMORY, Block, Device, Need, Session
from fastrdm.runtimes.graph_folding import end
from fastrdm.runtimes.providers import open_session
from fastrdm.runtimes.rdm_graph import PIXELS, Centre, Network

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
#: Condensed dissimilarities, and the conditions that have none.
_Made: TypeAlias = tuple[Floats, NDArray[np.intp]]

# Products of single chunks in float32 are rounded more often than those of `calc_rdm`.
_NEAR_DISTANCE = 2.0**-3
# CUDA's allocations begin at multiples of this, and its libraries are fastest there.
_ALIGNMENT = 256


def suits(provider: str, method: str) -> bool:
    """Whether a provider has memory of its own, and the method's RDMs can be made there."""
    return provider in MEMORY and method_named(method).on_device


@dataclass(frozen=True)
class Shown:
    """Stimuli that lie on a device, as `DeviceModel.show` put them there; forgotten, they free its memory.

    Attributes
    ----------
    names : tuple of str
        What errors call the conditions.
    """

    names: tuple[str, ...]
    pixels: Any

    @property
    def n_conditions(self) -> int:
        """Conditions."""
        return len(self.names)


@dataclass(frozen=True)
class Folded:
    """A checkpoint's weights as a device takes them, made by `DeviceModel.fold`."""

    buffer: Bytes


class DeviceModel:
    """A network whose RDMs are made where it runs; weights are swapped by one copy, without a new session.

    Layers are flattened, centred and multiplied in float32 by ONNX Runtime, in chunks that float64 adds up, and the
    products of all pairs become RDMs on the host as `calc_rdm` makes them. Both agree within 1e-5: of the RDM for
    angles, of the largest distance for distances.

    Parameters
    ----------
    graph : Graph
        A network exported by `export_onnx`.
    layers : sequence of str
        Tapped layers to make RDMs of.
    preprocessing : Preprocessing
        The network's.
    provider : str
        Where it runs, as for `OnnxModel`.
    method : str
        A method that the table of `calc_rdm` marks for devices.
    weights : collection of str, optional
        Initialisers that checkpoints bring, the names of a `state_dict`; None for all that are floating-point.
    max_memory : int or str, optional
        Bytes, or a text such as ``"8GiB"``, for stimuli in work, activations and products, beside the weights; an
        estimate, since providers do not tell what their scratch takes. Where all conditions do not fit, they are run
        in blocks whose centred activations stay on the device, for some layers at a time if need be. None tries all
        at once, and less whenever the device has no memory left.
    **options
        As for `open_session`, such as ``n_threads``.

    Attributes
    ----------
    layers : tuple of str
    provider : str
        The provider in use.
    device : tuple of str and int
        Where everything lies: ONNX Runtime's name of the memory, and the device's number.

    Raises
    ------
    ValueError
        If the method cannot be had from products of conditions, a layer is no output of the graph, or as for
        `OnnxModel`.
    FileNotFoundError
        If there is no such file.
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
        self.method, self._measure = method, _measure(method)
        self._centre = Centre.OWN if self._measure.centre else Centre.NONE
        self.layers, self._size = tuple(layers), preprocessing.size
        self._name, self._options = graph.name, options
        self._given = None if max_memory is None else parse_bytes(max_memory)
        self._bound = self._given
        model, own = graph.load()
        self._network = rdm_graph.network(model, self.layers, preprocessing, weights)
        self._places, self._n_bytes = _places(self._network)
        self._sessions: dict[tuple[Any, ...], Session] = {}
        self.provider = provider
        self.device = Device.of(self._whole(), self.provider)
        self._weights = self.device.empty(self._n_bytes)
        self._loaded = False
        if own.keys() >= self._network.weights.keys():
            self.load(own)

    def __repr__(self) -> str:
        return f"<DeviceModel {self._name}, {len(self.layers)} layers, {self.method}, on {self.provider}>"

    def fold(self, weights: Mapping[str, NDArray[Any]], into: Folded | None = None) -> Folded:
        """Make a checkpoint's weights what the device takes: batch norms folded, one buffer.

        Works on the host and changes nothing here, so that another thread may do it ahead of `load`.

        Parameters
        ----------
        weights : mapping of str to ndarray
            By their names in the `state_dict`; what the layers do not depend on may be missing, and others may be
            there.
        into : Folded, optional
            An earlier checkpoint's, loaded and no longer needed, whose memory is used again: to touch 47 MB of new
            memory takes a virtual machine 60 ms, to fold them 6 ms.

        Raises
        ------
        ValueError
            If weights are missing or have another shape, or `into` was folded for another network.
        """
        expected = self._network.weights
        missing = [name for name in expected if name not in weights]
        other = [
            f"{name} {np.shape(weights[name])} for {shape}"
            for name, shape in expected.items()
            if name in weights and np.shape(weights[name]) != shape
        ]
        found = [
            f"{kind}: {list_names(names)}"
            for kind, names in (("missing", missing), ("of another shape", other))
            if names
        ]
        if found:
            raise ValueError(f"the weights do not fit {self._name}; {'; '.join(found)}")
        if into is not None:
            self._check_size(into)
        buffer = np.zeros(self._n_bytes, np.uint8) if into is None else into.buffer
        for name, own in self._network.inputs.items():
            begin = self._places[name]
            size = math.prod(own.shape) * own.dtype.itemsize
            out = buffer[begin : begin + size].view(own.dtype).reshape(own.shape)
            own.recipe.fill(out, weights)
        return Folded(buffer)

    def load(self, weights: Mapping[str, NDArray[Any]] | Folded) -> None:
        """Put a checkpoint's weights in place of those that are there.

        Parameters
        ----------
        weights : mapping of str to ndarray, or Folded
            As for `fold`, or what that made.

        Raises
        ------
        ValueError
            As for `fold`, or if another network's model folded them.
        """
        folded = weights if isinstance(weights, Folded) else self.fold(weights)
        self._check_size(folded)
        self._weights.update_inplace(folded.buffer)
        self._loaded = True

    def _check_size(self, folded: Folded) -> None:
        if len(folded.buffer) != self._n_bytes:
            raise ValueError(
                f"weights of {len(folded.buffer)} bytes were folded for another network; "
                f"{self._name} takes {self._n_bytes}"
            )

    def show(self, pixels: Bytes, names: Sequence[str] | None = None) -> Shown:
        """Put stimuli on the device, where they stay as long as what is returned is kept.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (n_conditions, height, width, 3)
            In RGB, resized to the network's input.
        names : sequence of str, optional
            What errors call the conditions; None for their numbers from 1.

        Returns
        -------
        Shown
            Good for every model on the same device.

        Raises
        ------
        ValueError
            If the pixels have another shape or type, or there are fewer than two conditions.
        """
        shape = (*self._size, 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != shape:
            raise ValueError(
                f"pixels must be uint8 of shape (n, {', '.join(map(str, shape))}), not {pixels.dtype} {pixels.shape}"
            )
        if len(pixels) < 2:
            raise ValueError(f"pixels have shape {pixels.shape}; an RDM has 2 conditions or more")
        if names is None:
            names = [f"image {k + 1}" for k in range(len(pixels))]
        if len(names) != len(pixels):
            raise ValueError(f"{len(names)} names were given for {len(pixels)} conditions")
        return Shown(tuple(names), self.device.put(pixels))

    def rdms(self, shown: Shown) -> dict[str, Floats]:
        """Run the network on stimuli and give each layer's RDM.

        Parameters
        ----------
        shown : Shown
            From `show`.

        Returns
        -------
        dict of str to ndarray of float64, shape (pairs,)
            Condensed RDMs, layer by layer.

        Raises
        ------
        ValueError
            If no weights were loaded, an activation is NaN or infinite (the message names the layer and the first such
            image), squares of activations leave the range of float32, or the memory does not hold what it must.

        Warns
        -----
        RuntimeWarning
            As `calc_rdm`, naming the layer.
        """
        if not self._loaded:
            raise ValueError(f"{self._name} holds no weights; load a checkpoint's first")
        made = self._gather(shown)
        rdms = {}
        for layer in self.layers:
            values, undefined = made[layer]
            rdms[layer] = np.sqrt(values, out=values) if self._measure.root else values
            if len(undefined):
                warnings.warn(
                    f"layer {layer!r}: {self._measure.undefined}, their pairs are NaN: {list_names(undefined, 10)}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return rdms

    def _gather(self, shown: Shown) -> dict[str, _Made]:
        """Dissimilarities of each layer, in whatever blocks the memory allows."""
        need = Need(self._network, self._inner, shown.n_conditions)
        while True:
            chosen = need.plan(self.layers, self._bound)
            try:
                if chosen.height == shown.n_conditions and len(chosen.groups) == 1:
                    return self._at_once(shown)
                made: dict[str, _Made] = {}
                for layers in chosen.groups:
                    made |= self._by_blocks(shown, layers, chosen.height)
                return made
            # The binding's exceptions have no base class of their own.
            except Exception as error:
                if self._given is not None or not _out_of_memory(error):
                    raise
                self._bound = need.bytes(chosen) // 2

    def _at_once(self, shown: Shown) -> dict[str, _Made]:
        out = self._run(self._whole(), {}, shown, slice(0, shown.n_conditions))
        made: dict[str, _Made] = {}
        again = []
        for layer in self.layers:
            found, product = self._found(layer, _host(out, layer), shown)
            values, n_near = self._measure.condense(found, found, product, True)
            made[layer] = values, np.flatnonzero(np.isnan(found.norms))
            if n_near:
                again.append(layer)
        # Pairs as near as copies of a stimulus: their differences have to be looked at.
        alone = [(layer,) for layer in again] if self._bound is not None else [tuple(again)]
        for layers in alone if again else ():
            made |= self._by_blocks(shown, layers, shown.n_conditions)
        return made

    def _by_blocks(self, shown: Shown, layers: tuple[str, ...], height: int) -> dict[str, _Made]:
        n = shown.n_conditions
        session = self._session("rows", rdm_graph.rows, layers, self._centre)
        blocks: list[Block] = []
        host: dict[str, dict[str, Floats]] = {
            layer: {"products": np.empty((n, n))} for layer in layers
        }
        for start in range(0, n, height):
            place = slice(start, min(start + height, n))
            out = self._run(session, {}, shown, place)
            blocks.append(Block(place, {layer: out.pop(end(layer, "rows")) for layer in layers}))
            for layer in layers:
                for what, values in _host(out, layer).items():
                    host[layer].setdefault(what, np.empty(n))[place] = values
                for earlier in blocks:
                    tile = self._multiply(layer, earlier, blocks[-1])
                    host[layer]["products"][earlier.place, place] = tile
                    host[layer]["products"][place, earlier.place] = tile.T
        made: dict[str, _Made] = {}
        for layer in layers:
            found, product = self._found(layer, host[layer], shown)
            values, n_near = self._measure.condense(found, found, product, True)
            if n_near:
                self._refine(layer, found, values, blocks, height)
            made[layer] = values, np.flatnonzero(np.isnan(found.norms))
        return made

    def _found(self, layer: str, out: dict[str, Floats], shown: Shown) -> tuple[Operand, Floats]:
        """Products, and what the measure takes beside them, checked to be in range."""
        product, n_channels = out["products"], self._network.width(layer).channels
        _check(layer, np.isfinite(out["means"]), shown, "NaN or infinite activations")
        norms, sums = product.diagonal().copy(), out.get("sums")
        limits = np.finfo(np.float32)
        smallest = float(limits.tiny / limits.eps) * n_channels
        judged = norms if self._measure.undefined else np.full(len(norms), norms.max())
        in_range = np.isfinite(norms) & ((judged == 0) | (judged >= smallest))
        _check(layer, in_range, shown, "activations whose squares leave float32's range")
        if sums is not None:
            norms = n_channels * norms - sums * sums
        if self._measure.undefined:
            norms[product.diagonal() == 0] = np.nan
        near = NEAR_ANGLE if self._measure.undefined else _NEAR_DISTANCE
        return operand_of(norms, sums, n_channels, near), product

    def _refine(
        self, layer: str, found: Operand, values: Floats, blocks: Sequence["Block"], height: int
    ) -> None:
        """Give pairs so near that too few digits are left the dissimilarity that their differences have."""
        places = np.flatnonzero(np.signbit(values))
        pairs = pairs_at(places, found.read.n, True)
        factors = self._measure.factors(found)
        if factors is None:
            factors = np.ones(found.read.n)
        width = self._network.width(layer)
        session = self._session("squares", rdm_graph.squares, width)
        squares = np.empty(len(pairs))
        for a, b in combinations_with_replacement(blocks, 2):
            here = (pairs[:, 0] >= a.place.start) & (pairs[:, 0] < a.place.stop)
            here &= (pairs[:, 1] >= b.place.start) & (pairs[:, 1] < b.place.stop)
            inside = np.flatnonzero(here)
            for some in _slices(len(inside), height):
                i, j = pairs[inside[some]].astype(np.int64).T
                given = {
                    "a": a.rows[layer],
                    "b": b.rows[layer],
                    "i": self.device.put(i - a.place.start),
                    "j": self.device.put(j - b.place.start),
                    "f": self.device.put(factors[i].astype(np.float32)),
                    "g": self.device.put(factors[j].astype(np.float32)),
                }
                squares[inside[some]] = self._run(session, given)["squares"].numpy()
        values[places] = self._measure.refine(found, found, pairs, squares)

    def _multiply(self, layer: str, a: "Block", b: "Block") -> Floats:
        session = self._session("products", rdm_graph.products, self._network.width(layer))
        out: Floats = self._run(session, {"a": a.rows[layer], "b": b.rows[layer]})[
            "products"
        ].numpy()
        return out

    def _whole(self) -> "Session":
        return self._session("whole", rdm_graph.whole, self.layers, self._centre)

    @functools.cached_property
    def _inner(self) -> int:
        return bytes_per_image(self._network.model, ())

    def _session(self, what: str, build: Any, *arguments: Any) -> "Session":
        """The session of a graph, made when it is first needed."""
        key = (what, *arguments)
        if key not in self._sessions:
            first = () if what in {"products", "squares"} else (self._network,)
            source = build(*first, *arguments).SerializeToString()
            graph = Graph(self._name, source)
            opened = open_session(graph, self.provider, **self._options)
            self.provider = opened.provider
            ort = require("onnxruntime", "onnx", "to run a network")
            if not isinstance(opened.session, ort.InferenceSession):
                raise ValueError(
                    f"provider {self.provider!r} runs without ONNX Runtime here, whose bindings RDMs on a device need"
                )
            self._sessions[key] = Session.of(opened.session)
        return self._sessions[key]

    def _run(
        self,
        session: "Session",
        given: Mapping[str, Any],
        shown: Shown | None = None,
        place: slice = slice(0),
    ) -> dict[str, Any]:
        """Run a graph on what lies on the device; rows stay there, the rest comes back."""
        binding = session.session.io_binding()
        kind, number = self.device
        for name in session.inputs:
            if name in given:
                binding.bind_ortvalue_input(name, given[name])
                continue
            if name == PIXELS:
                assert shown is not None
                shape: tuple[int, ...] = (place.stop - place.start, *self._size, 3)
                address = shown.pixels.data_ptr() + place.start * math.prod(shape[1:])
                dtype = np.dtype(np.uint8)
            else:
                own = self._network.inputs[name]
                shape, dtype = own.shape, own.dtype
                address = self._weights.data_ptr() + self._places[name]
            binding.bind_input(name, kind, number, dtype, shape, address)
        for name in session.outputs:
            stays = name.endswith("/rows")
            binding.bind_output(name, *(self.device if stays else ("cpu", 0)))
        binding.synchronize_inputs()
        session.session.run_with_iobinding(binding)
        return dict(zip(session.outputs, binding.get_outputs(), strict=True))


def _measure(method: str) -> Measure:
    chosen = method_named(method)
    if not chosen.on_device:
        able = ", ".join(names_where(lambda other: other.on_device))
        reason = f" {chosen.whole} and" if chosen.whole else ""
        raise ValueError(f"method {method!r}{reason} is unavailable on devices; use one of: {able}")
    return chosen.measure


def _places(network: Network) -> tuple[dict[str, int], int]:
    """Where each input begins in one buffer, and the bytes of that."""
    places, total = {}, 0
    for name, own in network.inputs.items():
        places[name] = total
        total += -(-math.prod(own.shape) * own.dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
    return places, total


def _host(out: Mapping[str, Any], layer: str) -> dict[str, Floats]:
    """What came back of a layer, in float64."""
    found = {what: out.get(end(layer, what)) for what in ("products", "means", "sums")}
    return {what: v.numpy().astype(np.float64) for what, v in found.items() if v is not None}


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _check(layer: str, good: NDArray[np.bool_], shown: Shown, problem: str) -> None:
    if not good.all():
        raise ValueError(f"layer {layer!r} has {problem}, first for {shown.names[np.argmin(good)]}")


def _out_of_memory(error: Exception) -> bool:
    signs = ("allocate memory", "out of memory", "bad_alloc", "bad allocation", "alloc_failed")
    return not isinstance(error, ValueError) and any(sign in str(error).lower() for sign in signs)
