"""Conversion of torch tensors, arrays of other libraries, masked arrays, tables, and lists of these for NumPy."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrdm._base.text import counted, first_line

# Devices of DLPack whose memory NumPy reads: the CPU's, also pinned for CUDA or ROCm.
_HOST = {1, 3, 11}
# Lists of these need no conversion.
_PLAIN = {np.ndarray, int, float, bool, complex, str, np.float32, np.float64, np.int64, np.str_}


def is_plain(values: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether a list holds only numbers, strings and NumPy arrays."""
    return set(map(type, values)) <= _PLAIN


def plain(values: Any, name: str, *, masked_as_nan: bool) -> Any:
    """Replace tensors, arrays with DLPack, masked arrays and tables, also inside lists, by NumPy arrays; keep others.

    Missing numbers of tables become NaN, and so do masked values if `masked_as_nan`; otherwise these are a ValueError,
    as are tensors that NumPy cannot hold. Memory is shared where possible; that of devices is copied.
    """
    if type(values) is np.ndarray:
        return values
    if isinstance(values, np.ma.MaskedArray):
        return _unmasked(values, name, masked_as_nan)
    if isinstance(values, (list, tuple)):
        if is_plain(values):
            return values
        return [
            plain(value, f"{name}[{i}]", masked_as_nan=masked_as_nan)
            for i, value in enumerate(values)
        ]
    # A tensor can exist only if torch is imported.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, getattr(torch, "Tensor", ())):
        return _of_tensor(values, name, torch)
    if _has_dlpack(values):
        return _of_dlpack(values, name)
    return _of_table(values) if hasattr(values, "dtypes") else values


def depth(values: Any) -> int:
    """Return the number of axes; for a list, one more than its first value has; 0 for a dict."""
    if isinstance(values, Mapping):
        return 0
    if isinstance(values, (list, tuple)):
        return 1 + (depth(values[0]) if len(values) else 0)
    if hasattr(values, "ndim"):
        return int(values.ndim)
    return (
        int(plain(values, "values", masked_as_nan=True).ndim)
        if _has_dlpack(values)
        else np.ndim(values)
    )


def _has_dlpack(values: Any) -> bool:
    """Whether an array of another library shares its memory by DLPack."""
    known = isinstance(values, (np.ndarray, np.generic))
    return not known and hasattr(values, "__dlpack__") and hasattr(values, "__dlpack_device__")


def _of_dlpack(values: Any, name: str) -> Any:
    """Convert an array of another library to a NumPy array, which shares host memory."""
    try:
        if values.__dlpack_device__()[0] in _HOST:
            return np.from_dlpack(values)
    except (BufferError, RuntimeError, TypeError, ValueError):
        # NumPy lacks the type, or refuses what the library marks as read-only.
        pass
    try:
        if hasattr(values, "__array__"):
            return np.asarray(values)
    except (RuntimeError, TypeError):
        # Such libraries want copies from a device to be explicit.
        pass
    try:
        import torch

        return _of_tensor(torch.from_dlpack(values), name, torch)
    except (ImportError, AssertionError, BufferError, RuntimeError, TypeError) as error:
        library = type(values).__module__.partition(".")[0]
        raise ValueError(
            f"{name} is an array of {library} that cannot be read: {first_line(error)}"
        ) from error


def _unmasked(values: Any, name: str, masked_as_nan: bool) -> Any:
    count = int(np.count_nonzero(np.ma.getmaskarray(values)))
    if not count:
        return values.data
    if not masked_as_nan:
        raise ValueError(
            f"{name} has shape {values.shape} and {counted(count, 'masked value')};"
            " masked values are not allowed here, so fill or remove them"
        )
    if values.dtype.name == "bfloat16":
        values = values.astype(np.float32)
    elif values.dtype.kind in "iub":
        values = values.astype(np.float64)
    # Other types are refused by the caller, which reads only the dtype.
    return values.filled(np.nan) if values.dtype.kind == "f" else values.data


def _of_table(values: Any) -> Any:
    array = np.asarray(values)
    if array.dtype != object:
        return array
    dtypes = values.dtypes if hasattr(values, "columns") else [values.dtypes]
    # Strings of digits are not numbers.
    if all(getattr(dtype, "kind", "") in ("i", "u", "f", "b") for dtype in dtypes):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return array


def _of_tensor(tensor: Any, name: str, torch: Any) -> Any:
    """Convert a tensor to a NumPy array, which shares a CPU tensor's memory."""
    if tensor.is_nested:
        raise ValueError(f"{name} is a nested tensor; pass a tensor with rows of equal shape")
    for refused, what, advice in (
        (type(tensor).__name__ == "MaskedTensor", "masked", "fill its masked values"),
        (tensor.layout is not torch.strided, "sparse", "pass its to_dense()"),
        (tensor.is_quantized, "quantised", "pass its dequantize()"),
        (tensor.is_complex(), "complex", "pass real numbers"),
        (tensor.is_meta, "meta", "pass one that holds values"),
    ):
        if refused:
            raise ValueError(
                f"{name} is a {what} tensor with shape {tuple(tensor.shape)}; {advice}"
            )
    try:
        values = tensor.detach().cpu().resolve_neg()
        if values.dtype is torch.bfloat16:
            return _of_bfloat16(values, torch)
        # NumPy has no 8-bit floating point.
        narrow = values.is_floating_point() and values.element_size() < 2
        return (values.float() if narrow else values).numpy()
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"{name} is a tensor with shape {tuple(tensor.shape)} on {tensor.device} that cannot be"
            f" read: {first_line(error)}"
        ) from error


def _of_bfloat16(values: Any, torch: Any) -> Any:
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        return values.float().numpy()
    return values.view(torch.int16).numpy().view(bfloat16)
