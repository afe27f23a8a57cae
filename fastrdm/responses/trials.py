"""Trials of one subject, with the condition of each → (repeats, conditions, units)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_array, as_floats, common_labels, labels_of, list_names
from fastrdm.responses.repeats import Floats


def stack_trials(
    trials: ArrayLike,
    conditions: ArrayLike,
    runs: ArrayLike | None = None,
    *,
    order: Sequence[Any] | None = None,
) -> Floats:
    """Sort the trials of a subject by condition and repeat.

    Parameters
    ----------
    trials : array_like, shape (trials, units)
        A response of each unit in each trial; NaN where it is lacking.
    conditions : array_like, shape (trials,)
        The condition of each trial, as numbers or strings.
    runs : array_like, shape (trials,), optional
        The run or session of each trial. Repeats are then in the order of the sorted runs, and each is of one run: a
        run has as many repeats as its most frequent condition. By default a condition's repeats are in the order of the
        trials.
    order : sequence, optional
        The conditions in the order of the result; trials of others are left out. By default
        ``numpy.unique(conditions)``. Pass it where subjects lack conditions that others have.

    Returns
    -------
    ndarray of float32 or float64, shape (repeats, conditions, units)
        NaN where a condition has fewer repeats than another.

    Raises
    ------
    ValueError
        If labels do not fit the trials or cannot be sorted, or `order` names a condition twice or none that there is.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> found = fastrdm.stack_trials(np.arange(8).reshape(4, 2), ["face", "house", "face", "face"])
    >>> found.shape
    (3, 2, 2)
    >>> found[:, 0]  # of faces
    array([[0., 1.],
           [4., 5.],
           [6., 7.]])
    """
    array = as_floats(trials, "trials", masked_as_nan=True)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"trials have shape {array.shape}; expected (trials, units)")
    what = "trial"
    common_labels(
        labels_of(value, 0, name, what)
        for value, name in ((trials, "trials"), (conditions, "conditions"), (runs, "runs"))
    )
    known, condition = _indexed(conditions, len(array), "conditions")
    if order is not None:
        condition = _reordered(condition, known, order)
    kept = np.flatnonzero(condition >= 0)
    n_conditions = len(known if order is None else order)
    place = _places(condition, runs, kept, len(array))
    out = np.full((int(place[kept].max()) + 1, n_conditions, array.shape[1]), np.nan, array.dtype)
    out[place[kept], condition[kept]] = array[kept]
    return out


def _places(
    condition: NDArray[np.intp], runs: ArrayLike | None, kept: NDArray[np.intp], n: int
) -> NDArray[np.intp]:
    """Return the repeat of each trial."""
    _, run = (None, np.zeros(n, np.intp)) if runs is None else _indexed(runs, n, "runs")
    place = np.zeros(n, np.intp)
    # Trials of one run and condition are next to each other, in their order.
    sort = kept[np.lexsort((condition[kept], run[kept]))]
    pairs = np.stack([run[sort], condition[sort]])
    starts = np.r_[True, (pairs[:, 1:] != pairs[:, :-1]).any(axis=0)]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(sort)), 0))
    place[sort] = np.arange(len(sort)) - first
    lengths = np.zeros(int(run.max()) + 1, np.intp)
    np.maximum.at(lengths, run[sort], place[sort] + 1)
    return place + (np.cumsum(lengths) - lengths)[run]


def _indexed(labels: ArrayLike, n: int, name: str) -> tuple[list[Any], NDArray[np.intp]]:
    """Return the sorted labels, and the index of each trial's label."""
    array = as_array(labels, name)
    if array.shape == (n, 1):
        # A column, as MATLAB stores it.
        array = array[:, 0]
    if array.shape != (n,):
        raise ValueError(
            f"{name} have shape {array.shape}; there are {n} trials, so expected ({n},)"
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{name} hold NaN, which is not a label")
    try:
        known, index = np.unique(array, return_inverse=True)
    except TypeError:
        raise ValueError(
            f"{name} hold labels of types that cannot be sorted: {array[:5].tolist()}"
        ) from None
    return known.tolist(), index.reshape(-1)


def _reordered(
    condition: NDArray[np.intp], known: list[Any], order: Sequence[Any]
) -> NDArray[np.intp]:
    """Return the place in `order` of each trial's condition, -1 for those that it lacks."""
    wanted = np.asarray(order).tolist()
    if len(set(wanted)) < len(wanted):
        twice = next(each for each in wanted if wanted.count(each) > 1)
        raise ValueError(f"order names the condition {twice!r} twice")
    places = np.array([wanted.index(each) if each in wanted else -1 for each in known], np.intp)
    if (places < 0).all():
        raise ValueError(
            f"order has none of the conditions of the trials, which are {list_names(known, 10)}"
        )
    return np.asarray(places[condition])
