"""Activations of all conditions where a session puts them, in one pass or, within a bound of memory, in several."""

import contextlib
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require
from fastrdm.rdm import Projector

Floats32 = NDArray[np.float32]

# ONNX Runtime's own memory over what its graph says: its pattern of it beside its arena, and blocked layouts. 2.0 for
# ResNet-20 at 8 and at 32 images.
_WORKING = 2
# A bound that would take more passes than this is a mistake.
_MOST_PASSES = 64


class Part(NamedTuple):
    """Channels of a layer that one pass keeps."""

    layer: str
    begin: int
    end: int


@dataclass(frozen=True)
class Plan:
    """Images of a batch, and what each pass over all of them keeps."""

    batch_size: int
    passes: tuple[tuple[Part, ...], ...]


@dataclass(frozen=True)
class Need:
    """What the images of a batch take, and what the layers of all conditions do.

    Attributes
    ----------
    widths : mapping of str to int
        Layer → channels of one condition.
    n_conditions : int
    image_bytes : int
        Of the input and of the network's inner values, for each image of a batch.
    copied : bool
        Whether the RDM is made of something as large as a layer: ranks.
    """

    widths: Mapping[str, int]
    n_conditions: int
    image_bytes: int
    copied: bool = False

    def batch_bytes(self, batch_size: int, layers: Sequence[str] = ()) -> int:
        """Memory of a batch, with the outputs of those layers that ONNX Runtime holds itself."""
        outputs = 4 * sum(self.widths[layer] for layer in layers)
        copy = self.column_bytes * max(self.widths.values()) if self.copied else 0
        return batch_size * (_WORKING * self.image_bytes + outputs) + copy

    @property
    def column_bytes(self) -> int:
        """Memory of one channel of all conditions."""
        return 4 * self.n_conditions

    @property
    def total_bytes(self) -> int:
        """Memory of all channels of all conditions."""
        return self.column_bytes * sum(self.widths.values())


def plan(need: Need, batch_size: int, bound: int | None, fixed: bool = False) -> Plan:
    """Choose the batches and passes that a bound of memory allows, the fewest passes first.

    Parameters
    ----------
    need : Need
    batch_size : int
        The largest; the only one if `fixed`.
    bound : int, optional
        Bytes; None for one pass. A layer is split among passes where it must be and its RDM can be had from parts.

    Raises
    ------
    ValueError
        If the bound does not hold one image and a reasonable share of the layers; it says what would do.
    """
    everything = tuple(Part(layer, 0, width) for layer, width in need.widths.items())
    if bound is None:
        return Plan(batch_size, (everything,))
    sizes = [batch_size]
    while sizes[-1] > 1 and not fixed:
        sizes.append(sizes[-1] // 2)
    for size in sizes:
        if need.batch_bytes(size) + need.total_bytes <= bound:
            return Plan(size, (everything,))
    # Several passes. A batch holds its outputs twice there, so it may take a quarter of the bound at most.
    layers = list(need.widths)
    size = next((size for size in sizes if need.batch_bytes(size, layers) <= bound / 4), sizes[-1])
    columns = (bound - need.batch_bytes(size, layers)) // need.column_bytes
    least = (
        max(need.widths.values()) if need.copied else -(-sum(need.widths.values()) // _MOST_PASSES)
    )
    if columns < least:
        enough = need.batch_bytes(size, layers) + least * need.column_bytes
        raise ValueError(
            f"max_memory of {bound} bytes is too small for {need.n_conditions} conditions of {len(layers)} layers, the"
            f" widest of {max(need.widths.values())} channels; {enough} bytes would do"
        )
    return Plan(size, tuple(_windows(everything, columns, need.copied)))


def _windows(parts: Sequence[Part], columns: int, whole: bool) -> Iterator[tuple[Part, ...]]:
    """Groups of parts of at most so many columns, in order; layers are split at their borders unless `whole`."""
    group: list[Part] = []
    room = columns
    for layer, begin, end in parts:
        while begin < end:
            if not room or (whole and end - begin > room):
                yield tuple(group)
                group, room = [], columns
            stop = min(end, begin + room)
            group.append(Part(layer, begin, stop))
            room -= stop - begin
            begin = stop
    yield tuple(group)


class Workspace:
    """Memory for activations that outlives a call.

    Touching new memory costs a virtual machine more than making the RDMs of what is written there: a first pass of
    ResNet-20 over 118 images took 2.3 s where the next took 1.0 s. A second call at the same time gets its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._block = np.empty(0, np.float32)

    @contextlib.contextmanager
    def arrays(self, shapes: Sequence[tuple[int, int]]) -> Iterator[list[Floats32]]:
        """Arrays of these shapes, whose contents are anything, until the context ends."""
        sizes = [int(np.prod(shape)) for shape in shapes]
        kept = self._lock.acquire(blocking=False)
        try:
            block = self._block
            if block.size < sum(sizes) or not kept:
                # The old one goes first, lest both be held.
                del block
                if kept:
                    self._block = np.empty(0, np.float32)
                block = np.empty(sum(sizes), np.float32)
                if kept:
                    self._block = block
            ends = np.cumsum(sizes)
            yield [
                block[end - size : end].reshape(shape)
                for end, size, shape in zip(ends, sizes, shapes, strict=True)
            ]
        finally:
            if kept:
                self._lock.release()


def run(
    session: Any,
    batches: Iterable[tuple[slice, Floats32]],
    parts: Mapping[Part, Floats32],
    shapes: Mapping[str, tuple[int, ...]],
    projectors: Mapping[str, Projector] | None = None,
) -> None:
    """Run batches of images and put the activations of the parts where they belong.

    Whole layers are written there by ONNX Runtime itself; of others it keeps a batch, and the part is copied.

    Parameters
    ----------
    session : InferenceSession
    batches : iterable of (slice, ndarray of float32, shape (n, 3, h, w))
        Conditions and their normalised images, which may be followed by others that fill the batch.
    parts : mapping of Part to ndarray of float32, shape (n_conditions, end - begin)
        Filled.
    shapes : mapping of str to tuple of int
        Of each layer's activations, without the batch.
    projectors : mapping of str to Projector, optional
        Layers whose parts are of their projections.
    """
    projectors = projectors or {}
    ort = require("onnxruntime", "onnx", "to run a network")
    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True
    images_name = session.get_inputs()[0].name
    whole = {
        part
        for part in parts
        if part.end - part.begin == math.prod(shapes[part.layer]) and part.layer not in projectors
    }
    for place, images in batches:
        n = place.stop - place.start
        binding = session.io_binding()
        binding.bind_input(images_name, "cpu", 0, np.float32, images.shape, images.ctypes.data)
        for part, rows in parts.items():
            if part in whole and n == len(images):
                shape = (n, *shapes[part.layer])
                address = rows[place].ctypes.data
                binding.bind_output(part.layer, "cpu", 0, np.float32, shape, address)
            else:
                binding.bind_output(part.layer, "cpu")
        session.run_with_iobinding(binding, options)
        for (part, rows), output in zip(parts.items(), binding.get_outputs(), strict=True):
            if not (part in whole and n == len(images)):
                values = output.numpy()[:n].reshape(n, -1)
                if part.layer in projectors:
                    values = projectors[part.layer].project(values)
                rows[place] = values[:, part.begin : part.end]
