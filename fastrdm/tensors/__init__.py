"""Arrays of torch and other libraries, on the host or on a device.

In come tensors; out go products of all pairs of conditions, computed where the tensors are, and arrays of the caller's
library.

Read `devices` first: which devices of torch (imported by `package`) there are, and what they can do; `precision` sets
how they round. `arrays` finds out which arguments are on a device, and returns results as arrays of their kind. `rows`
has the arithmetic of `calc_rdm` on a device, `products` that of a network's layers, whose channels come in ranges.
"""

from fastrdm.tensors.arrays import check_like, device_tensor, host_advice, in_kind
from fastrdm.tensors.devices import (
    device_of,
    free_bytes,
    has_double,
    is_out_of_memory,
    torch_on,
)
from fastrdm.tensors.package import torch_package
from fastrdm.tensors.precision import check_precision, rounding
from fastrdm.tensors.products import HostProducts, LayerProducts, split
from fastrdm.tensors.rows import DeviceRows

__all__ = [
    "DeviceRows",
    "HostProducts",
    "LayerProducts",
    "check_like",
    "check_precision",
    "device_of",
    "device_tensor",
    "free_bytes",
    "has_double",
    "host_advice",
    "in_kind",
    "is_out_of_memory",
    "rounding",
    "split",
    "torch_on",
    "torch_package",
]
