"""Split-half reliability of each unit, from random halves of its repeats."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_integer
from fastrdm.responses.correlation import CONSTANT, LEAST_CONDITIONS
from fastrdm.responses.inputs import measured
from fastrdm.responses.repeats import Floats, scaled
from fastrdm.responses.subjects import MeasuredResponses, in_form_of

# Values of a block of units, of which a few copies exist at a time.
_BLOCK = 1 << 18


def split_half_reliability(responses: Any, *, n_splits: int = 100, seed: int = 0) -> Any:
    r"""Compute the reliability of each unit's mean over repeats, from random halves of the repeats.

    In each split, the repeats of every condition are divided at random into two halves, and the means of the halves are
    correlated over conditions (Pearson's r). The mean :math:`\bar r` over splits is corrected for the length of the
    halves by the formula of Spearman and Brown, :math:`2 \bar r / (1 + \bar r)`.

    **Unequal halves.** With an odd number of repeats, one half has one repeat more, and 2 r / (1 + r) is too small; for
    three repeats of reliability 0.75, it is 0.73. Let a₁, a₂ and a be the means over conditions of one divided by the
    number of repeats in the first half, in the second half, and in all; let x be the ratio of noise to signal variance
    of single repeats. The expected correlation is r = 1 / √((1 + x a₁)(1 + x a₂)), which is solved for x, and the
    reliability is 1 / (1 + x a). For equal halves this is 2 r / (1 + r); for one number of repeats it is the formula of
    Horst (1951). Conditions may thus differ in their numbers of repeats.

    Parameters
    ----------
    responses : array_like, list, tuple or dict
        (subjects, repeats, conditions, units), or a list or dict of subjects (repeats, conditions, units); NaN where a
        repeat is lacking. See `measured` for all forms. Responses whose mean differs between sessions should be
        z-scored within sessions first.
    n_splits : int
        Number of random splits.
    seed : int
        Seed of the splits. Every subject has the same splits, whatever the other subjects are.

    Returns
    -------
    ndarray, shape (subjects, units); or a list or dict of ndarray, shape (units,), as `responses` is one
        The reliability: the expected correlation of the mean over repeats with that of as many new repeats. Its root is
        the expected correlation of the mean over repeats with the true responses. For units without signal it is around
        zero, and so negative half of the time; it has no lower bound. NaN for units that are constant, or that have
        fewer than three conditions with two or more repeats.

    Raises
    ------
    ValueError
        If a subject has one repeat only, or the responses are in none of the forms of `measured`.

    Notes
    -----
    Conditions with one repeat of a unit have no halves, and the correlations are over the other conditions; the
    reliability is that of the means of all conditions, for which a is computed. Splits in which a half is constant have
    no correlation, and are left out of the mean.

    References
    ----------
    Spearman (1910), Correlation calculated from faulty data, Br. J. Psychol. 3:271.
    Brown (1910), Some experimental results in the correlation of mental abilities, Br. J. Psychol. 3:296.
    Horst (1951), Estimating total test reliability from parts of unequal length, Educ. Psychol. Meas. 11:368.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> signal, noise = rng.normal(size=(2, 1, 500, 3)), rng.normal(size=(2, 4, 500, 3))
    >>> fastrdm.split_half_reliability(signal + noise).round(1)  # of the mean over four repeats: 1 / (1 + 1 / 4)
    array([[0.8, 0.8, 0.8],
           [0.8, 0.8, 0.8]])
    """
    check_integer(n_splits, "n_splits", 1)
    check_integer(seed, "seed", 0)
    subjects = measured(responses)
    check_repeated(subjects)
    found = [_of_subject(array, n_splits, seed) for array in subjects.arrays]
    return in_form_of(responses, subjects, found)


def check_repeated(responses: MeasuredResponses) -> None:
    """Raise a ValueError if a subject has no repeats."""
    for k, array in enumerate(responses.arrays):
        if len(array) < 2:
            raise ValueError(
                f"{responses.label(k)} has one repeat of {array.shape[1]} conditions and {array.shape[2]} units; two or"
                " more are needed, (repeats, conditions, units)"
            )


def ceiling_of(reliability: Any) -> Floats:
    """Return the correlation that a perfect model is expected to reach, √reliability; NaN unless it is positive."""
    values = np.asarray(reliability, np.float64)
    return np.asarray(np.sqrt(np.where(values > 0, values, np.nan)))


def _of_subject(array: Floats, n_splits: int, seed: int) -> Floats:
    n_repeats, n_conditions, n_units = array.shape
    keys = np.random.default_rng(seed).random((n_splits, n_repeats, n_conditions), np.float32)
    orders = keys.argsort(axis=1)
    step = max(1, _BLOCK // (n_repeats * n_conditions))
    known: tuple[NDArray[np.bool_], list[Floats]] | None = None
    out = np.empty(n_units)
    for start in range(0, n_units, step):
        values = scaled(array[:, :, start : start + step])
        present = ~np.isnan(values)
        one = present[:, :, :1]
        halves: Iterable[Floats]
        if (present == one).all():
            # All units lack the same repeats, and share their halves.
            if known is None or not np.array_equal(known[0], one):
                known = one, list(_halves(one, orders))
            present, halves = known
        else:
            halves = _halves(present, orders)
        out[start : start + step] = _of_block(values, present, halves)
    return out


def _halves(present: NDArray[np.bool_], orders: NDArray[Any]) -> Iterator[Floats]:
    """Yield for each split the weights (repeats, conditions, units) that average the first half of the repeats."""
    count = np.count_nonzero(present, axis=0) // 2
    weight = 1 / np.maximum(count, 1)
    for order in orders:
        place = order[:, :, None]
        ordered = np.take_along_axis(present, place, axis=0)
        taken = ordered & (np.cumsum(ordered, axis=0) <= count)
        first = np.empty(present.shape)
        np.put_along_axis(first, place, taken * weight, axis=0)
        yield first


def _of_block(values: Floats, present: NDArray[np.bool_], halves: Iterable[Floats]) -> Floats:
    """Return the reliability of some units, from values (repeats, conditions, units), which are overwritten."""
    n = np.count_nonzero(present, axis=0)
    n_first, n_second = np.maximum(n // 2, 1), np.maximum(n - n // 2, 1)
    used = n >= 2
    constant = np.fmax.reduce(values, axis=(0, 1)) == np.fmin.reduce(values, axis=(0, 1))
    if not used.all():
        values[np.broadcast_to(~used, values.shape)] = np.nan
    _centre(values)
    # The mean of the second half is the rest, from the sum of all and the mean of the first.
    rest, share = values.sum(axis=0) * used / n_second, n_first * used / n_second
    n_used = np.count_nonzero(used, axis=0)
    sums, counts = np.zeros(values.shape[2]), np.zeros(values.shape[2])
    for weights in halves:
        if weights.shape[2] == 1:
            one = np.einsum("rc,rcu->cu", weights[:, :, 0], values)
        else:
            one = np.einsum("rcu,rcu->cu", weights, values)
        r = _correlation(one, rest - share * one, n_used)
        defined = ~np.isnan(r)
        sums[defined] += r[defined]
        counts += defined
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.where(constant, np.nan, sums / counts)
        means = [
            np.sum(1 / number, axis=0, where=which) / np.count_nonzero(which, axis=0)
            for number, which in ((n_first, used), (n_second, used), (np.maximum(n, 1), n > 0))
        ]
    return _spearman_brown(r, *means)


def _centre(values: Floats) -> None:
    """Subtract the mean of each unit, so that rounding is relative to its spread, and set missing values to zero."""
    missing = np.isnan(values)
    with np.errstate(invalid="ignore"):
        sums = np.sum(values, axis=(0, 1), where=~missing)
        values -= sums / (missing.shape[0] * missing.shape[1] - np.sum(missing, axis=(0, 1)))
    values[missing] = 0


def _correlation(one: Floats, two: Floats, n: NDArray[np.intp]) -> Floats:
    """Return Pearson's r of halves (conditions, units), zero in conditions that are not among the n used.

    Values are close to their mean of zero, so that moments need not be computed from differences.
    """
    means = [half.sum(axis=0) / np.maximum(n, 1) for half in (one, two)]
    squares = []
    for half, mean in zip((one, two), means, strict=True):
        size = np.einsum("cu,cu->u", half, half)
        square = size - n * mean * mean
        squares.append(
            np.where((square > CONSTANT * size) & (n >= LEAST_CONDITIONS), square, np.nan)
        )
    r = np.einsum("cu,cu->u", one, two) - n * means[0] * means[1]
    return np.asarray(np.clip(r / np.sqrt(squares[0] * squares[1]), -1, 1))


def _spearman_brown(r: Floats, first: Floats, second: Floats, whole: Floats) -> Floats:
    """Return the reliability of the whole from the correlation of two parts.

    The others are the means over conditions of one divided by the number of repeats, in the parts and in the whole.
    """
    both, product = first + second, first * second
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt((both * r) ** 2 + 4 * product * (1 - r * r))
        return np.asarray(2 * product * r / (2 * product * r + whole * (root - both * r)))
