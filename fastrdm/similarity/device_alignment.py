"""Products of all pairs of conditions that are on a device → their inner products after centring, computed there.

The steps are those of `gram_inputs` and `alignment`. For arrays that these refuse, the functions return None, and the
host finds out why.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrdm._base import ASYMMETRY
from fastrdm.similarity.numerics import Floats
from fastrdm.tensors import device_tensor, has_double, torch_on

if TYPE_CHECKING:
    import torch


class DeviceAlignment(NamedTuple):
    """Inner products (n1, n2), sums of squares (n1,), (n2,), and relative rounding errors of the argument's numbers."""

    products: Floats
    squares: tuple[Floats, Floats]
    precisions: tuple[float, float]
    n_conditions: int


def align_on_device(grams1: Any, grams2: Any, debiased: bool) -> DeviceAlignment | None:
    """Return the inner products of centred products that are both on a device; None if the host has to compute them."""
    tensors = [device_tensor(grams1, "grams1"), device_tensor(grams2, "grams2")]
    first, second = tensors
    if first is None or second is None or not has_double(first.device):
        return None
    if first.device != second.device or first.shape[-2:] != second.shape[-2:]:
        return None
    entries: list[Any] = []
    with torch_on(first.device, "grams1 and grams2; pass grams1.cpu()") as torch:
        for tensor in (first, second):
            if entries and grams2 is grams1:
                break
            found = _entries(tensor, debiased, torch)
            if found is None:
                return None
            entries.append(found)
        one, other = entries[0], entries[-1]
        products = (one @ other.T).cpu().numpy()
        squares = [(each * each).sum(1).cpu().numpy() for each in (one, other)]
    precisions = [_precision(tensor, torch) for tensor in (first, second)]
    return DeviceAlignment(
        products, (squares[0], squares[1]), (precisions[0], precisions[1]), len(first[0])
    )


def _precision(tensor: "torch.Tensor", torch: Any) -> float:
    """Return the relative rounding error of the numbers, in the type that the host converts them to."""
    narrow = tensor.is_floating_point() and tensor.dtype != torch.float64
    return float(np.finfo(np.float32 if narrow else np.float64).eps)


def _entries(tensor: "torch.Tensor", debiased: bool, torch: Any) -> "torch.Tensor | None":
    """Return centred products end to end, (grams, conditions²), the largest before centring 1; None if not products."""
    if tensor.ndim not in (2, 3) or tensor.shape[-1] != tensor.shape[-2] or tensor.shape[-1] < 2:
        return None
    stack = tensor.to(torch.float64)
    stack = stack if tensor.ndim == 3 else stack[None]
    n = stack.shape[1]
    # A copy: what follows is computed in place.
    stack = stack / stack.abs().amax(dim=(1, 2), keepdim=True)
    asymmetry = (stack - stack.mT).abs().amax(dim=(1, 2))
    has_diagonal = (stack.diagonal(dim1=1, dim2=2) != 0).any(dim=1)
    # NaN, infinity and products that are all zero make these NaN.
    if not len(stack) or not bool(((asymmetry <= ASYMMETRY) & has_diagonal).all()):
        return None
    means = stack.mean(dim=1)
    stack -= means[:, None, :]
    stack -= means[:, :, None] - means.mean(dim=1)[:, None, None]
    if debiased:
        # Rows of centred products sum to 0: without the diagonal, to minus the diagonal.
        diagonal = stack.diagonal(dim1=1, dim2=2).clone()
        offsets = diagonal / (n - 2)
        total = diagonal.sum(dim=1)[:, None, None] / ((n - 1) * (n - 2))
        stack += offsets[:, None, :]
        stack += offsets[:, :, None] - total
        stack.diagonal(dim1=1, dim2=2).zero_()
    return stack.flatten(1)
