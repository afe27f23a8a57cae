"""Activations on a device → their Gram matrix: products and the differences of near pairs are computed there.

As in `conditions` and `gram_making`, but in float64 throughout if the device has it, so that only the nearest pairs
need their differences.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastrdm._base import Labels, finite_error
from fastrdm.rdm.conditions import SMALLEST_SQUARE
from fastrdm.rdm.gram_making import is_twin
from fastrdm.rdm.gram_matrix import Gram
from fastrdm.rdm.gram_parts import NO_DIGITS, Digits, Parts
from fastrdm.rdm.measures import Measure
from fastrdm.rdm.methods import METHODS
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.pairs import pairs_at
from fastrdm.rdm.products import Floats, Index
from fastrdm.rdm.sources import TensorMember
from fastrdm.tensors import DeviceRows

# Dissimilarities below this many errors of a product come from differences: relative errors are below 1e-6.
_ERRORS = 2.0**20
# Conditions whose deviations from their shift are longer than those from their mean by this are multiplied again.
_POOR = 2.0**10
_NO_PAIRS = np.empty((0, 2), np.intp)


def tensor_gram(
    member: TensorMember, methods: Sequence[str], labels: Labels | None, max_memory: int | None
) -> Gram:
    """Return the Gram of one layer on a device, with the digits of the methods' RDMs."""
    rows = DeviceRows(member.tensor, member.name, max_memory)
    n, n_channels = rows.shape
    if rows.are_whole():
        parts = _exact_parts(rows)
    else:
        parts = _near_means(member, rows)
        found = _digits_of(methods, parts, rows)
        equal = np.concatenate([_NO_PAIRS, *(pairs for _, pairs in found.values())])
        if len(equal):
            # Libraries may round products of equal conditions differently.
            parts = _made_equal(parts, np.unique(equal, axis=0))
            found = _digits_of(methods, parts, rows)
        parts = replace(parts, digits={name: digits for name, (digits, _) in found.items()})
    if not parts.digits:
        parts = replace(parts, digits=dict.fromkeys(methods, NO_DIGITS))
    return Gram(parts, rows.features() if n_channels <= n else None, labels)


def _exact_parts(rows: DeviceRows) -> Parts:
    product, sums = rows.multiply(None)
    n_channels = rows.shape[1]
    constant = np.flatnonzero(n_channels * product.diagonal() == sums * sums)
    constants = np.full(len(sums), np.nan)
    constants[constant] = sums[constant] / n_channels
    return _parts(rows, product, sums, None, constants, exact=True)


def _near_means(member: TensorMember, rows: DeviceRows) -> Parts:
    """Multiply deviations from a guess of each condition's mean, and again from its mean if the guess was poor."""
    n_channels = rows.shape[1]
    shift = rows.guess_means()
    constants = np.full(len(shift), np.nan)
    with np.errstate(all="ignore"):
        for attempt in range(2):
            product, sums = rows.multiply(shift)
            squares = product.diagonal()
            bad = ~(np.isfinite(squares) & np.isfinite(sums))
            if bad.any():
                raise _not_finite(member, rows, np.flatnonzero(bad))
            norms = n_channels * squares - sums * sums
            poor = np.flatnonzero(~(n_channels * squares < _POOR * norms))
            poor = poor[np.isnan(constants[poor])]
            if not len(poor):
                break
            low, high = rows.extremes(poor)
            same = low == high
            constants[poor[same]] = low[same]
            if same.all() or attempt:
                break
            shift[poor] += sums[poor] / n_channels
    constant = ~np.isnan(constants)
    shift[constant] = constants[constant]
    product[constant] = product[:, constant] = sums[constant] = 0
    parts = _parts(rows, product, sums, shift, constants)
    side = parts.conditions()
    if not (
        np.all(constant | (side.norms() > SMALLEST_SQUARE)) and np.isfinite(side.lengths()).all()
    ):
        raise _out_of_range(member)
    return parts


def _parts(
    rows: DeviceRows,
    product: Floats,
    sums: Floats,
    shift: Floats | None,
    constants: Floats,
    *,
    exact: bool = False,
) -> Parts:
    double = np.dtype(np.float64)
    kind, error = Kind(double, exact, 0.0, exact), 0.0 if exact else rows.rounding
    return Parts(
        rows.shape[1], product, sums, shift, None, constants, kind, double, error, summed=True
    )


def _not_finite(member: TensorMember, rows: DeviceRows, conditions: Index) -> ValueError:
    count, first = rows.not_finite(conditions)
    if first is None:
        return _out_of_range(member)
    condition, channel, value = first
    return finite_error(member.name, count, value, f"condition {condition}, channel {channel}")


def _out_of_range(member: TensorMember) -> ValueError:
    return ValueError(
        f"{member.name} has squares beyond the numbers of {member.tensor.device}; {member.advice}"
    )


def _digits_of(
    methods: Sequence[str], parts: Parts, rows: DeviceRows
) -> dict[str, tuple[Digits, Index]]:
    """Return the digits of each method's RDM, and pairs of equal conditions."""
    found: dict[str, tuple[Digits, Index]] = {}
    for name in methods:
        twin = next((other for other in found if is_twin(name, other)), None)
        found[name] = found[twin] if twin else _digits(METHODS[name].measure, parts, rows)
    return found


def _digits(measure: Measure, parts: Parts, rows: DeviceRows) -> tuple[Digits, Index]:
    """Return the digits that products lack, and pairs (n, 2) of equal conditions."""
    side = parts.conditions()
    operand = measure.operand(side)
    operand = operand._replace(near=min(operand.near, _ERRORS * rows.rounding))
    with np.errstate(all="ignore"):
        product = parts.product if measure.centre else parts.product.copy()
        compared = measure.compared(side, side, product, True)
    values, n_near = measure.condense(operand, operand, compared, True)
    if not n_near:
        return NO_DIGITS, _NO_PAIRS
    # The sign of NaN is arbitrary.
    places = np.flatnonzero(np.signbit(values) & ~np.isnan(values))
    pairs = pairs_at(places, len(parts.sums), True)
    factors = measure.factors(operand)
    squares, equal = rows.squares(pairs, factors, parts.shift if measure.centre else None)
    values = measure.refine(operand, operand, pairs, squares)
    values[equal] = 0
    return Digits(places, values), pairs[equal].astype(np.intp)


def _made_equal(parts: Parts, pairs: Index) -> Parts:
    """Return the parts with the products of the first of equal conditions for all of them."""
    first = np.arange(len(parts.sums))
    for i, j in pairs:
        first[j] = min(first[j], first[i])
    product = parts.product[np.ix_(first, first)]
    shift = None if parts.shift is None else parts.shift[first]
    return replace(parts, product=product, sums=parts.sums[first], shift=shift)
