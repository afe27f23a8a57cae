"""Similarities of RDMs that are on a device, computed there: ranks and products of rows.

Only where they are as sound as on the host: finite RDMs that vary, and similarities that are products of prepared rows.
Ranks and their products are integers, so that similarities of ranks have the host's bits while sums of products are
below 2⁵³, up to 775 conditions. For all other RDMs these functions return None, and the host computes them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrdm._base import as_rdms
from fastrdm.similarity.coefficients import untied
from fastrdm.similarity.numerics import Floats, blocks_of
from fastrdm.similarity.shapes import as_condensed
from fastrdm.similarity.sides import Side
from fastrdm.similarity.table import Similarity
from fastrdm.tensors import device_tensor, has_double, torch_on

if TYPE_CHECKING:
    import torch


class PreparedOnDevice(NamedTuple):
    """RDMs (n, pairs) on a device, prepared to be multiplied, in float64; `squares` (n,) of each, on the host."""

    values: "torch.Tensor"
    squares: Floats


def _twice_centred_ranks(rows: "torch.Tensor", torch: Any) -> "torch.Tensor":
    # The numbers of smaller entries, and of smaller or equal ones, add up to twice the average rank, less one.
    ordered = rows.sort(dim=1).values
    below = torch.searchsorted(ordered, rows)
    below += torch.searchsorted(ordered, rows, right=True)
    ranks: torch.Tensor = below.sub_(rows.shape[1]).double()
    return ranks


def _centred(rows: "torch.Tensor", torch: Any) -> "torch.Tensor":
    return _scaled(rows - rows.mean(1, keepdim=True), torch)


def _scaled(rows: "torch.Tensor", torch: Any) -> "torch.Tensor":
    # Division by the largest value keeps squares in range.
    return rows / rows.abs().amax(1, keepdim=True)


_PREPARE: dict[str, Callable[["torch.Tensor", Any], "torch.Tensor"]] = {
    "spearman": _twice_centred_ranks,
    "rho-a": _twice_centred_ranks,
    "corr": _centred,
    "cosine": _scaled,
}


def compare_on_device(method: Similarity, rdms1: Any, rdms2: Any) -> Floats | None:
    """Return similarities (n1, n2) of RDMs of which one side is on a device, None if the host has to compute them."""
    first, second = device_tensor(rdms1, "rdms1"), device_tensor(rdms2, "rdms2")
    place = first if first is not None else second
    if place is None or method.name not in _PREPARE or not has_double(place.device):
        return None
    rows = []
    for tensor, rdms, name in ((first, rdms1, "rdms1"), (second, rdms2, "rdms2")):
        if tensor is None:
            with torch_on(place.device, _needing(name)) as torch:
                tensor = torch.as_tensor(as_condensed(as_rdms(rdms, name), name).copy())
        elif not _is_condensed(tensor):
            return None
        rows.append(tensor if tensor.ndim == 2 else tensor[None])
    if rows[0].shape[1] != rows[1].shape[1]:
        return None
    base = _prepared(method, rows[1], place.device, "rdms2")
    return None if base is None else _similarities(method, rows[0], base, place.device, "rdms1")


def models_on_device(subjects: Side, rdms: Any) -> Floats | None:
    """Return similarities (models, subjects) of models on a device to prepared subjects; None as `compare_on_device`.

    The device keeps the subjects as long as the side exists.
    """
    tensor, method = device_tensor(rdms, "rdms"), subjects.method
    if tensor is None or method.name not in _PREPARE or not has_double(tensor.device):
        return None
    n_pairs = subjects.rdms.shape[1]
    if subjects.grows or not subjects.is_whole or not _is_condensed(tensor, n_pairs):
        return None
    rows = tensor if tensor.ndim == 2 else tensor[None]
    kept = subjects.on_devices
    key = str(tensor.device)
    if key not in kept:
        with torch_on(tensor.device, "the target's subjects; pass rdms.cpu()") as torch:
            values = torch.as_tensor(subjects.whole.values[:, :n_pairs].astype(np.float64))
            kept[key] = PreparedOnDevice(values.to(tensor.device), subjects.whole.squares)
    base: PreparedOnDevice = kept[key]
    return _similarities(method, rows, base, tensor.device, "rdms")


def _needing(name: str) -> str:
    return f"{name}; pass {name}.cpu()"


def _is_condensed(tensor: "torch.Tensor", n_pairs: int | None = None) -> bool:
    """Whether a tensor has condensed RDMs, and not a shape that may be something else or an error."""
    shape = tuple(tensor.shape)
    if len(shape) not in (1, 2) or 0 in shape or (len(shape) == 2 and shape[0] == shape[1]):
        return False
    n = (1 + int((1 + 8 * shape[-1]) ** 0.5)) // 2
    return n * (n - 1) // 2 == shape[-1] and n_pairs in (None, shape[-1])


def _similarities(
    method: Similarity,
    rows: "torch.Tensor",
    base: PreparedOnDevice,
    device: "torch.device",
    name: str,
) -> Floats | None:
    out = np.empty((len(rows), len(base.squares)))
    for block in blocks_of(*rows.shape):
        found = _prepared(method, rows[block], device, name)
        if found is None:
            return None
        with torch_on(device, _needing(name)):
            product = (found.values @ base.values.T).cpu().numpy()
        out[block] = np.clip(product / np.sqrt(found.squares[:, None] * base.squares), -1, 1)
    return out


def _prepared(
    method: Similarity, rows: "torch.Tensor", device: "torch.device", name: str
) -> PreparedOnDevice | None:
    """Prepare RDMs block by block; None if one is not finite, or has no similarity to any other."""
    with torch_on(device, _needing(name)) as torch:
        n, n_pairs = rows.shape
        values = torch.empty((n, n_pairs), dtype=torch.float64, device=device)
        squares = torch.empty(n, dtype=torch.float64, device=device)
        for block in blocks_of(n, n_pairs):
            part = rows[block].to(device, torch.float64)
            low, high = part.aminmax(dim=1)
            differs = high > low if method.undefined == "constant" else (low != 0) | (high != 0)
            # A sum of finite numbers may be infinite; the host scales such RDMs.
            if not bool((torch.isfinite(part.sum(1)) & differs).all()):
                return None
            values[block] = _PREPARE[method.name](part, torch)
            squares[block] = (values[block] * values[block]).sum(1)
        found = squares.cpu().numpy()
    if not np.isfinite(found).all():
        return None
    return PreparedOnDevice(values, untied(found, n_pairs) if method.name == "rho-a" else found)
