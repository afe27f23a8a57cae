"""What callers give for an array, made plain: torch tensors, masked arrays, tables, and lists that hold them."""

import sys
from typing import Any

import numpy as np

from fastrdm._base.text import counted, first_line

# Lists of these hold nothing that has to be made plain.
_PLAIN = {np.ndarray, int, float, bool, complex, str, np.float32, np.float64, np.int64, np.str_}


def is_plain(values: list[Any] | tuple[Any, ...]) -> bool:
    """Whether a list holds numbers, strings and NumPy arrays only."""
    return set(map(type, values)) <= _PLAIN


def plain(values: Any, name: str, *, masked_as_nan: bool) -> Any:
    """Values without torch tensors, masked arrays and tables, also inside of lists; all else as it is.

    Parameters
    ----------
    values : object
        What is to become an array.
    name : str
        What the errors call it.
    masked_as_nan : bool
        Whether masked values become NaN; otherwise they are an error.

    Returns
    -------
    object
        A NumPy array for a tensor, a masked array or a pandas object, whose missing numbers are NaN. Memory is shared
        where possible.

    Raises
    ------
    ValueError
        If masked values are not allowed, or a tensor has no values that NumPy can hold.
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
    # Whoever has a tensor has imported torch.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, getattr(torch, "Tensor", ())):
        return _of_tensor(values, name, torch)
    return _of_table(values) if hasattr(values, "dtypes") else values


def depth(values: Any) -> int:
    """Number of axes; of a list, those of its first value and one more."""
    if isinstance(values, (list, tuple)):
        return 1 + (depth(values[0]) if len(values) else 0)
    return int(values.ndim) if hasattr(values, "ndim") else np.ndim(values)


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
    # Of other types nothing but the type is read.
    return values.filled(np.nan) if values.dtype.kind == "f" else values.data


def _of_table(values: Any) -> Any:
    array = np.asarray(values)
    if array.dtype != object:
        return array
    dtypes = values.dtypes if hasattr(values, "columns") else [values.dtypes]
    # Texts of digits are not numbers.
    if all(getattr(dtype, "kind", "") in ("i", "u", "f", "b") for dtype in dtypes):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return array


def _of_tensor(tensor: Any, name: str, torch: Any) -> Any:
    """The NumPy array of a tensor's values, in the tensor's memory if that is the processor's."""
    if tensor.is_nested:
        raise ValueError(f"{name} is a nested tensor; give a tensor whose rows have one shape")
    for refused, what, advice in (
        (type(tensor).__name__ == "MaskedTensor", "masked", "fill its masked values"),
        (tensor.layout is not torch.strided, "sparse", "give its to_dense()"),
        (tensor.is_quantized, "quantised", "give its dequantize()"),
        (tensor.is_complex(), "complex", "give real numbers"),
        (tensor.is_meta, "meta", "give one that holds values"),
    ):
        if refused:
            raise ValueError(
                f"{name} is a {what} tensor with shape {tuple(tensor.shape)}; {advice}"
            )
    try:
        values = tensor.detach().cpu().resolve_neg()
        if values.dtype is torch.bfloat16:
            return _of_bfloat16(values, torch)
        # NumPy has no floating point of 8 bits.
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
