"""Conditions × channels on a torch device: the arithmetic that RDMs need of them, with small results on the host."""

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.tensors.devices import has_double, torch_on
from fastrdm.tensors.package import torch_package
from fastrdm.tensors.precision import rounding

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]

# Numbers converted at a time: 256 MB of float64.
_BLOCK = 1 << 25
# The narrowest blocks of channels, and channels whose products are summed in float32 on devices without float64.
_NARROWEST, _CHUNK = 256, 64
# Integers up to this have exact sums of so many products in float32.
_EXACT_SINGLE = 512
# Channels of each condition that are sampled, in stretches.
_STRETCHES, _STRETCH = 16, 8
# Pairs compared at a time.
_PAIRS = 256


class DeviceRows:
    """Activations (conditions, channels, ...) on a device.

    All results are on the host, in float64. On devices without float64, chunks of 64 channels are computed in float32
    and added up in float64.

    Attributes
    ----------
    shape : tuple of int
        Conditions and channels. Channels are in the order of memory, so that nothing is copied.
    rounding : float
        Bound on the error of a product relative to the lengths of both conditions.
    exact_limit : float
        Integers up to this have exact products, and exact sums of these.
    """

    def __init__(self, tensor: "torch.Tensor", name: str, max_memory: int | None = None) -> None:
        torch = torch_package()
        self._name = name
        self.device = tensor.device
        self._double = has_double(self.device)
        self._dtype = torch.float64 if self._double else torch.float32
        # Torch has no arithmetic for 8-bit floating point and for differences of truth values, and little for unsigned
        # integers; before 2.7 it cannot index these.
        if tensor.is_floating_point() and tensor.itemsize == 1:
            tensor = tensor.float()
        elif tensor.dtype == torch.bool:
            tensor = tensor.to(torch.uint8)
        elif tensor.dtype in (torch.uint16, torch.uint32, torch.uint64):
            tensor = tensor.to(self._dtype)
        self._tensor = tensor
        self._rows = _by_memory(tensor)
        self.shape: tuple[int, int] = (len(self._rows), self._rows.shape[1])
        n_channels = self.shape[1]
        if self._double:
            self.rounding = (n_channels + 8) * 2.0**-53
            self.exact_limit = 2.0**26.5 / n_channels
        else:
            self.rounding = (_CHUNK + 8) * 2.0**-24
            self.exact_limit = min(2.0**26.5 / n_channels, _EXACT_SINGLE)
        self._block = _BLOCK if max_memory is None else self._block_within(max_memory)

    def _block_within(self, max_memory: int) -> int:
        """Return how many numbers may be converted at a time."""
        n, n_channels = self.shape
        # On the device, on the host, and what a measure compares.
        fixed = 3 * 8 * (n + 1) ** 2
        least = fixed + 8 * (n + 1) * min(n_channels, _NARROWEST)
        if max_memory < least:
            raise ValueError(
                f"max_memory of {max_memory} bytes is too small for {n} conditions × {n_channels} channels on"
                f" {self.device}; the minimum is {least} bytes"
            )
        return min(_BLOCK, (max_memory - fixed) // 8)

    def _computing(self) -> contextlib.AbstractContextManager[Any]:
        n, n_channels = self.shape
        what = (
            f"the products of {self._name}, {n} conditions × {n_channels} channels; pass max_memory"
        )
        return torch_on(self.device, what)

    def _blocks(self, per_channel: int) -> Iterator[slice]:
        """Yield ranges of channels, given the numbers that one channel takes."""
        step = max(1, self._block // per_channel)
        if not self._double:
            step = max(_CHUNK, step // _CHUNK * _CHUNK)
        n_channels = self.shape[1]
        return (slice(start, min(start + step, n_channels)) for start in range(0, n_channels, step))

    def _on_device(self, values: NDArray[Any]) -> "torch.Tensor":
        torch = torch_package()
        dtype = torch.int64 if values.dtype.kind == "i" else self._dtype
        return torch.as_tensor(values).to(dtype).to(self.device)

    @functools.cached_property
    def _sample(self) -> "torch.Tensor":
        n_channels = self.shape[1]
        if n_channels <= _STRETCHES * _STRETCH:
            return self._rows.to(self._dtype)
        starts = np.arange(_STRETCHES)[:, None] * (n_channels - _STRETCH) // (_STRETCHES - 1)
        places = (starts + np.arange(_STRETCH)).ravel()
        return self._rows[:, self._on_device(places)].to(self._dtype)

    def guess_means(self) -> Floats:
        """Return the mean (n,) of each condition over some of its channels."""
        with self._computing():
            return _host(self._sample.mean(1))

    def are_whole(self) -> bool:
        """Whether all values are integers up to `exact_limit`."""
        with self._computing():
            sample = self._sample
            found = ((sample == sample.trunc()) & (sample.abs() <= self.exact_limit)).all()
            if not found:
                return False
            for columns in self._blocks(3 * self.shape[0]):
                part = self._rows[:, columns].to(self._dtype)
                found &= ((part == part.trunc()) & (part.abs() <= self.exact_limit)).all()
            return bool(found)

    def multiply(self, shift: Floats | None) -> tuple[Floats, Floats]:
        """Return products (n, n) of all pairs of conditions, less their shifts (n,), and sums (n,) over channels."""
        torch = torch_package()
        n = self.shape[0]
        with self._computing():
            less = None if shift is None else self._on_device(shift)[:, None]
            if self._double:
                total = self._doubles(less)
            else:
                # Settings of the surrounding code may let float32 operands be rounded.
                with rounding("fp32", self.device):
                    total = self._singles(less)
            # One copy to the host.
            values = _host(torch.cat([total[:n, :n].flatten(), total[n, :n]]))
        return values[: n * n].reshape(n, n), values[n * n :]

    def _doubles(self, shift: "torch.Tensor | None") -> "torch.Tensor":
        torch = torch_package()
        n = self.shape[0]
        total = torch.zeros((n + 1, n + 1), dtype=self._dtype, device=self.device)
        block: Any = None
        for columns in self._blocks(n + 1):
            width = columns.stop - columns.start
            if block is None:
                # The last row makes sums products, which takes less time than reading everything again.
                block = torch.empty((n + 1, width), dtype=self._dtype, device=self.device)
                block[n] = 1
            part = block[:, :width]
            if shift is None:
                part[:n] = self._rows[:, columns]
            else:
                torch.sub(self._rows[:, columns], shift, out=part[:n])
            total.addmm_(part, part.T)
        return total

    def _singles(self, shift: "torch.Tensor | None") -> "torch.Tensor":
        torch = torch_package()
        n = self.shape[0]
        total = torch.zeros((n + 1, n + 1), dtype=torch.float64, device="cpu")
        for columns in self._blocks(n + 1 + (n + 1) ** 2 // _CHUNK):
            width = columns.stop - columns.start
            # Zeros fill the last chunk.
            padded = -(-width // _CHUNK) * _CHUNK
            part = torch.zeros((n + 1, padded), dtype=self._dtype, device=self.device)
            part[:n, :width] = self._rows[:, columns].to(self._dtype)
            if shift is not None:
                part[:n, :width] -= shift
            part[n] = 1
            chunks = part.unflatten(1, (-1, _CHUNK)).transpose(0, 1)
            total += torch.bmm(chunks, chunks.transpose(1, 2)).cpu().sum(0, dtype=torch.float64)
        return total

    def squares(
        self, pairs: NDArray[np.integer[Any]], factors: Floats, shift: Floats | None
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Return squared distances (pairs,) of conditions less their shifts, times their factors, and which are equal.

        `pairs` (pairs, 2) are indices of conditions, `factors` and `shift` (n,) are those of each condition.
        """
        out, equal = np.empty(len(pairs)), np.empty(len(pairs), np.bool_)
        with self._computing():
            scale = self._on_device(factors)[:, None]
            less = self._on_device(np.zeros(len(factors)) if shift is None else shift)[:, None]
            for start in range(0, len(pairs), _PAIRS):
                place = slice(start, start + _PAIRS)
                some = self._on_device(pairs[place].astype(np.int64))
                out[place], equal[place] = self._squares(some, scale, less)
        return out, equal

    def _squares(
        self, pairs: "torch.Tensor", scale: "torch.Tensor", shift: "torch.Tensor"
    ) -> tuple[Floats, NDArray[np.bool_]]:
        torch = torch_package()
        total = np.zeros(len(pairs))
        same = torch.ones(len(pairs), dtype=torch.bool, device=self.device)
        for columns in self._blocks(6 * len(pairs)):
            sides = []
            for index in pairs.unbind(1):
                rows = self._rows[:, columns].index_select(0, index)
                sides.append((rows, (rows.to(self._dtype) - shift[index]) * scale[index]))
            (raw_a, a), (raw_b, b) = sides
            same &= (raw_a == raw_b).all(1)
            total += _host((a - b).square().sum(1))
        return total, same.cpu().numpy()

    def extremes(self, index: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return the least and the greatest value of some conditions."""
        torch = torch_package()
        with self._computing():
            found = [torch.aminmax(self._rows[int(i)]) for i in index]
            low, high = ([float(each[k]) for each in found] for k in (0, 1))
        return np.array(low), np.array(high)

    def not_finite(self, index: NDArray[np.intp]) -> tuple[int, tuple[int, int, float] | None]:
        """Return how many values of some conditions are NaN or infinite, and the first: condition, channel, value."""
        torch = torch_package()
        count, first = 0, None
        for i in index:
            row = self._tensor[int(i)].flatten()
            bad = ~torch.isfinite(row)
            n_bad = int(bad.sum())
            if n_bad and first is None:
                place = int(bad.int().argmax())
                first = int(i), place, float(row[place])
            count += n_bad
        return count, first

    def features(self) -> Floats:
        """Return the activations (n, channels) on the host, with channels in their order."""
        tensor = self._tensor.cpu()
        return np.array(tensor.flatten(1).double().numpy())


def _by_memory(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return (n, channels) with channels in the order of memory, which changes no product; a view if possible."""
    axes = sorted(range(1, tensor.ndim), key=lambda axis: -tensor.stride(axis))
    return tensor.permute(0, *axes).flatten(1)


def _host(tensor: "torch.Tensor") -> Floats:
    values: Floats = tensor.cpu().double().numpy()
    return values
