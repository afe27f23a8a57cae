"""Arrays of torch and other libraries, on the host or on a device.

In come tensors; out go products of all pairs of conditions, computed where the tensors are.

Read `devices` first: which devices there are, how they round, and what they can do. `products` multiplies the
conditions of a layer there.
"""

from fastrdm.tensors.devices import (
    check_precision,
    device_of,
    free_bytes,
    has_double,
    is_out_of_memory,
    rounding,
    torch_package,
)
from fastrdm.tensors.products import HostProducts, LayerProducts, split

__all__ = [
    "HostProducts",
    "LayerProducts",
    "check_precision",
    "device_of",
    "free_bytes",
    "has_double",
    "is_out_of_memory",
    "rounding",
    "split",
    "torch_package",
]
