"""Pearson's r of units over conditions, with missing values and constant units."""

import numpy as np
from numpy.typing import NDArray

from fastrdm.responses.repeats import Floats

# Values whose variance is smaller than this share of their mean square are constant but for rounding.
CONSTANT = 1e-20
# Correlations over fewer conditions are 1, -1 or undefined.
LEAST_CONDITIONS = 3


def correlation(one: Floats, two: Floats, used: NDArray[np.bool_]) -> Floats:
    """Return Pearson's r (units,) of values (conditions, units), over the conditions that are used.

    NaN for units that are constant or have fewer than three conditions. `used` may have one column for all units;
    values that are not used must not be NaN.
    """
    n = np.count_nonzero(used, axis=0)
    halves, squares = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for values in (one, two):
            values = np.where(used, values, 0)
            size = np.einsum("cu,cu->u", values, values)
            values = np.where(used, values - values.sum(axis=0) / n, 0)
            square = np.einsum("cu,cu->u", values, values)
            halves.append(values)
            squares.append(np.where(square > CONSTANT * size, square, np.nan))
        r = np.einsum("cu,cu->u", *halves) / np.sqrt(squares[0] * squares[1])
    return np.asarray(np.where(n < LEAST_CONDITIONS, np.nan, np.clip(r, -1, 1)))
