"""The two measures of a pair of conditions, angle and distance, from products with the digits they need."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm.products import BLOCK_BYTES, Floats, Reading, cross, gram

# Squared distances below this share of the squared lengths have lost two digits of float32's seven.
NEAR = 1e-2
# Channels that a row's mean is guessed from where the row cannot be read as it lies.
_SAMPLE = 128
_OUTER_ROWS = 128


class OutOfRangeError(ValueError):
    """Squares of activations leave the range of float64, or there is NaN or infinity among them."""


class Measured(NamedTuple):
    """Products of some conditions with each other, and how they were read in the end."""

    read: Reading
    product: Floats
    sums: Floats  # over channels, of what is left of each row after its shift; zeros where that does not matter

    @property
    def mean(self) -> Floats:
        """Mean of each row over channels, where products are of deviations from it; else zeros."""
        rest = self.sums / self.read.n_channels
        return rest if self.read.shift is None else self.read.shift + rest


class Measure(NamedTuple):
    """How dissimilarities come of products."""

    #: Products of conditions with each other.
    within: Callable[[Reading, int | None], Measured]
    #: Products of conditions with others, given the norms of both.
    between: Callable[[Measured, Measured, Floats, Floats, int | None], Floats]
    #: Square products → condensed dissimilarities.
    condense: Callable[[Floats], Floats]
    #: Products and the norms of rows and columns → dissimilarities, in place.
    finish: Callable[[Floats, Floats, Floats], None]
    #: Why a condition whose norm is zero has no dissimilarities, if it has none.
    undefined: str = ""
    #: Whether only products of the same conditions' differences matter, whatever they are taken from.
    centred: bool = False


def within(
    measure: Measure, read: Reading, check_finite: Callable[[], None], n_threads: int | None
) -> Measured:
    """Products of conditions with each other, at whatever scale keeps them in range."""
    try:
        return measure.within(read, n_threads)
    except OutOfRangeError:
        check_finite()
        if not measure.undefined:
            raise
    # Angles do not depend on scale.
    rows = read.rows
    low, high = (np.asarray(x, np.float64) for x in (rows.min(axis=1), rows.max(axis=1)))
    largest = np.maximum(-low, high)
    scaled = read.wide()._replace(scale=np.where(largest == 0, 1, largest))
    return measure.within(scaled, n_threads)


def _deviations(read: Reading, n_threads: int | None) -> Measured:
    """Products of deviations from the rows' means, exactly 0 for a constant row.

    One pass: each row is read less a guess of its mean, and what the guess missed is taken off in float64. Where a
    guess was poor, or float32 over- or underflowed, exact means and float64 are taken instead.
    """
    n_channels = read.n_channels

    def less_shift(read: Reading) -> tuple[Measured, Floats]:
        product, sums = gram(read, n_threads)
        raw = product.diagonal().copy()
        _less_outer(product, sums, sums / n_channels)
        return Measured(read, product, sums), raw

    with np.errstate(all="ignore"):
        found, raw = less_shift(read._replace(shift=_guess_means(read)))
        variance = found.product.diagonal()
        if np.all((raw < 8 * variance) & (variance > _smallest(read)) & (raw < np.inf)):
            return found
        shift, constant = _means(read.wide())
        found, _ = less_shift(read.wide()._replace(shift=shift))
    _check_range(found.product, constant)
    return found


def _less_outer(product: Floats, first: Floats, second: Floats) -> None:
    """Take off the products of all pairs, some rows at a time: fresh memory for all of them costs more than they do."""
    for start in range(0, len(product), _OUTER_ROWS):
        rows = slice(start, start + _OUTER_ROWS)
        product[rows] -= np.outer(first[rows], second)


def _guess_means(read: Reading) -> Floats:
    """Mean of each row from a sample of it."""
    rows = read.rows
    with np.errstate(all="ignore"):
        if not read.in_place(halves=True):
            some = np.unique(np.linspace(0, read.n_channels - 1, _SAMPLE).astype(np.intp))
            rows = np.array(rows[:, some], read.dtype, order="C")
        mean = _kernels.guess_means(rows)
        if read.scale is not None:
            mean /= read.scale
        # As the kernel takes it off.
        return mean.astype(read.dtype).astype(np.float64)


def _means(read: Reading) -> tuple[Floats, NDArray[np.bool_]]:
    """Mean of each row, and which rows are constant; the mean of those is exact."""
    total = 0.0
    low, high = np.inf, -np.inf
    for stripe in read.stripes():
        total = total + stripe.sum(axis=1)
        low, high = np.minimum(low, stripe.min(axis=1)), np.maximum(high, stripe.max(axis=1))
    constant = np.asarray(low == high)
    return np.where(constant, low, np.asarray(total) / read.n_channels), constant


def _smallest(read: Reading) -> float:
    """Products below this may have lost digits to underflow."""
    limits = np.finfo(read.dtype)
    return float(limits.tiny / limits.eps * read.n_channels)


def _check_range(product: Floats, may_be_zero: Any) -> None:
    diagonal = product.diagonal()
    if np.isfinite(product).all() and np.all((diagonal > 1e-280) | may_be_zero):
        return
    raise OutOfRangeError(
        "activations are so large or small that their squares leave the range of float64"
    )


def _as_they_are(read: Reading, n_threads: int | None, *, centre_columns: bool = False) -> Measured:
    centred = centre_columns or read.centre is not None

    def products(read: Reading) -> Measured:
        product, _ = gram(read, n_threads, centre_columns=centre_columns)
        return Measured(read, product, np.zeros(len(product)))

    with np.errstate(all="ignore"):
        found = products(read)
        diagonal = found.product.diagonal()
        if np.all((diagonal > _smallest(read)) & (diagonal < np.inf)):
            return found
        found = products(read.wide())
    # With its mean taken off, any row may be zero.
    may_be_zero = centred | ~read.rows.any(axis=1)
    _check_range(found.product, may_be_zero)
    return found


def _differences(read: Reading, n_threads: int | None) -> Measured:
    """Products of the rows less a centre, which distances do not depend on and lose fewest digits with."""
    found = _as_they_are(read, n_threads, centre_columns=read.centre is None)
    norms = found.product.diagonal()
    _correct_near(found.product, norms, norms, read, read)
    return found


def _correct_near(
    product: Floats, norms_a: Floats, norms_b: Floats, a: Reading, b: Reading
) -> None:
    """Give pairs so near to each other that too few digits are left the product that their difference has."""
    sums = norms_a[:, None] + norms_b
    near = sums - 2 * product < NEAR * sums
    if a is b:
        near = np.triu(near, 1)
    rows = np.flatnonzero(near.any(axis=1))
    width = max(1, min(a.width, BLOCK_BYTES // (8 * len(b.rows))))
    for i in rows:
        others = np.flatnonzero(near[i])
        square = np.zeros(len(others))
        for start in range(0, a.n_channels, width):
            columns = slice(start, start + width)
            difference = b.rows[others, columns].astype(np.float64)
            difference -= a.rows[i, columns].astype(np.float64)
            square += np.square(difference, out=difference).sum(axis=1)
        product[i, others] = (sums[i, others] - square) / 2
        if a is b:
            product[others, i] = product[i, others]


def _deviations_between(
    a: Measured, b: Measured, norms_a: Floats, norms_b: Floats, n_threads: int | None
) -> Floats:
    product = cross(a.read, b.read, n_threads)
    _less_outer(product, a.sums, b.sums / a.read.n_channels)
    return product


def _as_they_are_between(
    a: Measured, b: Measured, norms_a: Floats, norms_b: Floats, n_threads: int | None
) -> Floats:
    return cross(a.read, b.read, n_threads)


def _differences_between(
    a: Measured, b: Measured, norms_a: Floats, norms_b: Floats, n_threads: int | None
) -> Floats:
    product = cross(a.read, b.read, n_threads)
    _correct_near(product, norms_a, norms_b, a.read, b.read)
    return product


def _angles(product: Floats, norms_a: Floats, norms_b: Floats) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        product /= np.sqrt(norms_a)[:, None]
        product /= np.sqrt(norms_b)
    np.clip(product, -1, 1, out=product)
    np.subtract(1, product, out=product)


def _squares(product: Floats, norms_a: Floats, norms_b: Floats) -> None:
    product *= -2
    product += norms_a[:, None]
    product += norms_b
    np.maximum(product, 0, out=product)


def _roots(product: Floats, norms_a: Floats, norms_b: Floats) -> None:
    _squares(product, norms_a, norms_b)
    np.sqrt(product, out=product)


def _condense_roots(product: Floats) -> Floats:
    squares = _kernels.condense_distances(product)
    return np.asarray(np.sqrt(squares, out=squares))


CORRELATION = Measure(
    _deviations,
    _deviations_between,
    _kernels.condense_angles,
    _angles,
    "conditions constant over channels have no correlation",
)
COSINE = Measure(
    _as_they_are,
    _as_they_are_between,
    _kernels.condense_angles,
    _angles,
    "conditions that are zero have no angle",
)
SQUARED_DISTANCE = Measure(
    _differences, _differences_between, _kernels.condense_distances, _squares, centred=True
)
DISTANCE = SQUARED_DISTANCE._replace(condense=_condense_roots, finish=_roots)
