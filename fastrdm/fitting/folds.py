"""Folds of conditions or subjects, by number or by labels."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_array, check_integer

Indices = NDArray[np.intp]

# Streams of one seed.
CONDITIONS, SUBJECTS, INNER = range(3)


def random_folds(n_folds: int, n: int, seed: int, stream: int) -> Indices:
    """Return the fold (n,) of each item: folds of sizes that differ by at most one, in an order drawn by the seed."""
    key = np.array([seed, stream], np.uint64)
    order = np.argsort(np.random.Philox(key=key).random_raw(n), kind="stable")
    folds = np.empty(n, np.intp)
    folds[order] = np.arange(n) * n_folds // n
    return folds


def read_folds(
    folds: int | ArrayLike, n: int, name: str, seed: int, stream: int, least: int
) -> Indices:
    """Return the fold (n,) of each item, from a number of folds or a label for each item.

    ValueError if there are fewer than two folds, a fold has fewer than `least` items, or all others together do.
    """
    what = "conditions" if stream == CONDITIONS else "subjects"
    array = as_array(folds, name)
    if array.ndim == 0:
        check_integer(folds, name, 2)
        n_folds = int(array)
        if n_folds * least > n:
            raise ValueError(
                f"{name}={n_folds} needs at least {n_folds * least} {what}, {least} for each fold, but there are {n}"
            )
        return random_folds(n_folds, n, seed, stream)
    if array.shape != (n,):
        raise ValueError(
            f"{name} must be a number of folds or a label for each of {n} {what}, got shape {array.shape}"
        )
    labels, which = np.unique(array, return_inverse=True)
    sizes = np.bincount(which)
    if len(labels) < 2:
        raise ValueError(f"{name} has one label, {labels[0]!s}; at least two folds are needed")
    if sizes.min() < least or n - sizes.max() < least:
        i = int(sizes.argmin())
        raise ValueError(
            f"{name}: fold {labels[i]!s} has {sizes[i]} of {n} {what}; each fold, and all others together, need at"
            f" least {least}"
        )
    return np.asarray(which, np.intp)


def check_seed(seed: object) -> None:
    """Raise ValueError for a seed that is not an integer from 0 to 2⁶⁴ − 1."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be an integer from 0 to 2**64 - 1, not {seed!r}")
