"""Files that name the units to keep: masks, or indices."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import counted
from fastrdm.studies.row_values import only_array


def read_mask(path: Path, n_units: int, name: str) -> NDArray[np.intp]:
    """Return the indices of the units to keep, in their order.

    The file holds a number for each unit, true or 1 if it is kept, or the indices of the units, counted from 0. `name`
    is that of the file in errors.
    """
    given = np.asarray(only_array(path, name))
    array = given.ravel()
    if array.size != max(given.shape, default=1) or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} has shape {given.shape} and type {given.dtype}; expected true or false for each of"
            f" {counted(n_units, 'unit')}, or their indices"
        )
    if array.dtype.kind == "f" and not np.array_equal(array, np.round(array)):
        raise ValueError(
            f"{name} holds numbers that are not whole, which are neither a mask nor indices"
        )
    # Indices do not repeat, so that three numbers that are 0 or 1 are a mask.
    is_flags = len(array) == n_units > 2 and bool(np.isin(array, (0, 1)).all())
    if array.dtype.kind == "b" or is_flags:
        if len(array) != n_units:
            raise ValueError(
                f"{name} is a mask of {counted(len(array), 'unit')}, but the responses have {n_units}"
            )
        chosen = np.flatnonzero(array)
    else:
        chosen = array.astype(np.intp)
        if len(outside := chosen[(chosen < 0) | (chosen >= n_units)]):
            raise ValueError(
                f"{name} names the unit {outside[0]}, but there are {n_units}, counted from 0"
            )
        if len(np.unique(chosen)) < len(chosen):
            raise ValueError(f"{name} names a unit twice")
    if not len(chosen):
        raise ValueError(f"{name} keeps none of {counted(n_units, 'unit')}")
    return chosen
