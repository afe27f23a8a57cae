"""Products of all pairs of conditions on a torch device, from which the host computes RDMs."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm.tensors.devices import has_double
from fastrdm.tensors.package import torch_package

if TYPE_CHECKING:
    import torch

# Channels of 16 bits whose products are summed in float32 before they are added up in float64.
_CHUNK = 4096
# Numbers that are converted to float64, or products of chunks, at a time.
_BLOCK = 1 << 25


class HostProducts(NamedTuple):
    """Products (n, n) and sums, least and greatest activations (n,) of a layer, in float64."""

    products: NDArray[np.float64]
    sums: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class LayerProducts:
    """Products of all pairs of conditions of one layer, summed over ranges of its channels.

    float32 activations are multiplied in float64; if the device has none, on the host. Sums of products in float32
    would lack digits for near conditions, and for more than 64 conditions take longer to copy. Products of 16-bit
    activations are exact in float32; sums over a chunk are rounded.
    """

    def __init__(self, n: int, device: "torch.device") -> None:
        torch = torch_package()
        place = device if has_double(device) else torch.device("cpu")
        self.products = torch.zeros(n, n, dtype=torch.float64, device=place)
        self.sums = torch.zeros(n, dtype=torch.float64, device=place)
        self.low = torch.full((n,), torch.inf, dtype=torch.float64, device=place)
        self.high = torch.full((n,), -torch.inf, dtype=torch.float64, device=place)

        #: Bound on the error of a product relative to the lengths of both conditions.
        self.rounding = 0.0

    def add(self, rows: "torch.Tensor") -> None:
        """Add channels of all conditions, (n, channels)."""
        torch = torch_package()
        low, high = torch.aminmax(rows, dim=1)
        place = self.products.device
        self.low = torch.minimum(self.low, low.to(place).double())
        self.high = torch.maximum(self.high, high.to(place).double())
        if rows.itemsize == 2 and rows.is_cuda:
            self._rounded(_CHUNK, 2.0**-24)
            self._add_chunks(rows)
        else:
            self._rounded(rows.shape[1], 2.0**-53)
            self._add_doubles(rows)

    def _rounded(self, n_summed: int, unit: float) -> None:
        self.rounding = max(self.rounding, (n_summed + 8) * unit)

    def _add_doubles(self, rows: "torch.Tensor") -> None:
        torch = torch_package()
        n, n_channels = rows.shape
        step = min(n_channels, max(1, _BLOCK // (n + 1)))
        # The last row makes the sums a product, which takes less time than reading everything again.
        place = self.products.device
        block = torch.ones((n + 1, step), dtype=torch.float64, device=place)
        for start in range(0, n_channels, step):
            part = block[:, : min(step, n_channels - start)]
            part[:n] = rows[:, start : start + step].to(place)
            product = part @ part.T
            self.products += product[:n, :n]
            self.sums += product[n, :n]

    def _add_chunks(self, rows: "torch.Tensor") -> None:
        torch = torch_package()
        n, n_channels = rows.shape
        whole = n_channels // _CHUNK * _CHUNK
        # Views: neither the rows nor their chunks are copied.
        parts = [rows[:, whole:].unsqueeze(0)] if whole < n_channels else []
        if whole:
            chunks = rows[:, :whole].unflatten(1, (-1, _CHUNK)).transpose(0, 1)
            parts += chunks.split(max(1, _BLOCK // n**2))
        for each in parts:
            self.products += _single_products(each).sum(0, dtype=torch.float64)
            self.sums += each.sum(2, dtype=torch.float32).sum(0, dtype=torch.float64)

    def flat(self) -> "torch.Tensor":
        """Return all values as one tensor, so that one copy brings them to the host."""
        return torch_package().cat([self.products.flatten(), self.sums, self.low, self.high])


def _single_products(chunks: "torch.Tensor") -> "torch.Tensor":
    """Exact products of all pairs of conditions of each 16-bit chunk (chunks, n, channels), summed in float32."""
    torch = torch_package()
    # Under autocast, the products of float32 chunks would be rounded to 16 bits.
    with torch.autocast(chunks.device.type, enabled=False):
        try:
            return torch.bmm(chunks, chunks.transpose(1, 2), out_dtype=torch.float32)
        # torch before 2.8 has no such argument, and some devices not this product.
        except (TypeError, NotImplementedError):
            chunks = chunks.float()
            return torch.bmm(chunks, chunks.transpose(1, 2))


def split(values: NDArray[np.float64], n: int) -> HostProducts:
    """Return the values of `LayerProducts.flat`."""
    ends = [n * n, n * n + n, n * n + 2 * n]
    products, sums, low, high = np.split(values, ends)
    return HostProducts(products.reshape(n, n), sums, low, high)
