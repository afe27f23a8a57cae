"""Memory planning: the batches and passes on the host, and the blocks on a device, that fit `max_memory`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Memory of ONNX Runtime relative to the estimate of a graph's inner values: its memory pattern besides its arena, and
# blocked layouts. 2.0 for ResNet-20 at 8 and at 32 images.
_WORKING = 2
# More passes than this are a mistake in the limit.
_MOST_PASSES = 64
# The largest block on a device: products of single chunks, of 64 channels, then take twice the memory of the rows.
_MOST_CONDITIONS = 128


class ChannelRange(NamedTuple):
    """Channels of a layer that one pass keeps."""

    layer: str
    begin: int
    end: int


class BatchPlan(NamedTuple):
    """Images per batch, and the channels kept by each pass over all images."""

    batch_size: int
    passes: tuple[tuple[ChannelRange, ...], ...]


@dataclass(frozen=True)
class BatchNeeds:
    """Memory of a batch of images, and of the layers of all conditions.

    `widths` has each layer's channels, `image_bytes` is for the input and inner values of the network per image, and
    `copied` is whether the RDM needs a copy of the layer, such as its ranks, and all channels in one pass.
    """

    widths: Mapping[str, int]
    n_conditions: int
    image_bytes: int
    copied: bool = False

    def batch_bytes(self, batch_size: int, layers: Sequence[str] = ()) -> int:
        """Memory of a batch, including the outputs of `layers`, which ONNX Runtime allocates."""
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

    def plan(self, batch_size: int, limit: int | None, fixed: bool = False) -> BatchPlan:
        """Choose the fewest passes within a memory limit in bytes, then the largest batches up to `batch_size`.

        Layers are split among passes where necessary, unless `copied`. If one image and a reasonable share of the
        layers exceed the limit, the error gives the limit that suffices.
        """
        everything = tuple(ChannelRange(layer, 0, width) for layer, width in self.widths.items())
        if limit is None:
            return BatchPlan(batch_size, (everything,))
        sizes = [batch_size] if fixed else _halvings(batch_size)
        for size in sizes:
            if self.batch_bytes(size) + self.total_bytes <= limit:
                return BatchPlan(size, (everything,))
        # With several passes, a batch holds its outputs twice, so it gets a quarter of the limit at most.
        layers, widest = list(self.widths), max(self.widths.values())
        size = next((n for n in sizes if self.batch_bytes(n, layers) <= limit / 4), sizes[-1])
        columns = (limit - self.batch_bytes(size, layers)) // self.column_bytes
        least = widest if self.copied else -(-sum(self.widths.values()) // _MOST_PASSES)
        if columns < least:
            what = f"{self.n_conditions} conditions of {len(layers)} layers, the widest of {widest} channels"
            enough = self.batch_bytes(size, layers) + least * self.column_bytes
            raise _too_small(f"max_memory of {limit}", what, enough)
        return BatchPlan(size, tuple(_windows(everything, columns, self.copied)))


def _windows(
    ranges: Sequence[ChannelRange], columns: int, whole: bool
) -> Iterator[tuple[ChannelRange, ...]]:
    """Groups of at most so many columns, in order; layers are split at group borders unless `whole`."""
    group: list[ChannelRange] = []
    room = columns
    for layer, begin, end in ranges:
        while begin < end:
            if not room or (whole and end - begin > room):
                yield tuple(group)
                group, room = [], columns
            stop = min(end, begin + room)
            group.append(ChannelRange(layer, begin, stop))
            room -= stop - begin
            begin = stop
    yield tuple(group)


class BlockPlan(NamedTuple):
    """Conditions per block, and groups of layers whose rows are on the device at the same time."""

    height: int
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class BlockNeeds:
    """Estimated device memory of blocks of conditions.

    `shapes` has (chunks, groups, channels of a chunk) of each layer's rows, `inner` is the memory of the network's
    inner values per condition.
    """

    shapes: Mapping[str, tuple[int, int, int]]
    inner: int
    n_conditions: int

    def plan(self, layers: tuple[str, ...], limit: int | None) -> BlockPlan:
        """Choose one run if it fits, else the largest blocks and then the fewest groups of layers."""
        heights = _halvings(min(self.n_conditions, _MOST_CONDITIONS))
        best = BlockPlan(heights[0], (layers,))
        if limit is None or self.bytes(best) <= limit:
            return best
        widest = max(map(self._row, layers))
        # Keeping the rows of all conditions saves more time than large blocks.
        height = next((h for h in heights if 2 * self._work(h) <= limit), 1)
        room = limit - self._work(height)
        if self.n_conditions * widest > room:
            height, room = 1, limit - self._work(1)
        if self.n_conditions * widest > room:
            n = self.n_conditions
            what = f"{n} conditions of a layer of {widest // 4} channels on the device"
            enough = self.n_conditions * widest + self._work(1)
            raise _too_small(f"memory of {limit}", what, enough)
        groups: list[tuple[str, ...]] = [()]
        for layer in layers:
            if self.n_conditions * sum(map(self._row, (*groups[-1], layer))) > room:
                groups.append(())
            groups[-1] += (layer,)
        return BlockPlan(height, tuple(groups))

    def is_one_run(self, plan: BlockPlan) -> bool:
        """Whether one run makes all products, so that no rows are kept."""
        return plan.height == self.n_conditions and len(plan.groups) == 1

    def bytes(self, plan: BlockPlan) -> int:
        """Memory of a plan."""
        kept = max(sum(map(self._row, group)) for group in plan.groups)
        return self._work(plan.height) + (0 if self.is_one_run(plan) else self.n_conditions * kept)

    def _work(self, height: int) -> int:
        """Memory of a running block and of the products of two, single chunks in float32 and sums in float64."""
        products = max(groups * (4 * chunks + 8) for chunks, groups, _ in self.shapes.values())
        rows = max(map(self._row, self.shapes))
        return height * (_WORKING * self.inner + 2 * rows) + products * height**2

    def _row(self, layer: str) -> int:
        """Memory of a condition's row."""
        return 4 * math.prod(self.shapes[layer])


def _halvings(largest: int) -> list[int]:
    """The number, half of it, and so on down to 1."""
    sizes = [largest]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


def _too_small(limit: str, what: str, enough: int) -> ValueError:
    return ValueError(f"{limit} bytes is too small for {what}; {enough} bytes suffice")
