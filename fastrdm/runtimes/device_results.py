"""Products of conditions that a device computed → dissimilarities and Gram matrices."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm.rdm import (
    NEAR_ANGLE,
    Gram,
    Measure,
    NearPairs,
    Operand,
    gram_from_products,
    method_named,
    operand_of,
    pairs_at,
)

Floats = NDArray[np.float64]
#: Pairs (n, 2) of conditions, and a factor for each condition → squared distances (n,) of their rows times the factors.
Squares: TypeAlias = Callable[[NDArray[np.int32], Floats], Floats]

# Products of single chunks in float32 are rounded more often than those of `calc_rdm`.
_NEAR_DISTANCE = 2.0**-3
# Products that are added up in float32, of a chunk and of chunks.
_ROUNDING = (64 + 8 + 8) * 2.0**-24


class LayerOutputs(NamedTuple):
    """Products (n, n) of a layer's conditions, and their means over channels; with sums (n,), rows were centred."""

    products: Floats
    n_channels: int
    means: Floats
    sums: Floats | None


def operand_of_outputs(out: LayerOutputs, measure: Measure) -> Operand:
    """The measure's operand."""
    norms = out.products.diagonal().copy()
    constant = norms == 0
    if out.sums is not None:
        norms = out.n_channels * norms - out.sums * out.sums
    if measure.undefined:
        norms[constant] = np.nan
    near = NEAR_ANGLE if measure.undefined else _NEAR_DISTANCE
    return operand_of(norms, out.sums, out.n_channels, near)


class NearPlaces(NamedTuple):
    """Places in a condensed RDM, the pairs (n, 2) there, and their dissimilarities."""

    places: NDArray[np.intp]
    pairs: NDArray[np.int32]
    values: Floats


def near_pairs(measure: Measure, operand: Operand, values: Floats, squares: Squares) -> NearPlaces:
    """Dissimilarities of pairs too close for products, which are marked in condensed values."""
    places = np.flatnonzero(np.signbit(values))
    pairs = pairs_at(places, operand.read.n, True)
    refined = measure.refine(operand, operand, pairs, squares(pairs, measure.factors(operand)))
    return NearPlaces(places, pairs, refined)


def gram_of(
    out: LayerOutputs, measure: Measure, methods: Sequence[str], squares: Squares | None
) -> Gram | None:
    """The Gram of centred rows with the digits of near pairs; None if these need `squares`, which is None.

    `measure` is that of correlations. Angles of activations as they are have the digits of products.
    """
    assert out.sums is not None
    operand = operand_of_outputs(out, measure)
    # What was subtracted from each condition.
    shift = out.means - out.sums / out.n_channels
    constants = np.where(np.isnan(operand.norms), out.means, np.nan)
    near = {}
    if "correlation" in methods:
        values, n_near = measure.condense(operand, operand, out.products, True)
        if n_near and squares is None:
            return None
        if n_near and squares is not None:
            found = near_pairs(measure, operand, values, squares)
            near["correlation"] = NearPairs(found.pairs, found.values)
    if {"euclidean", "sqeuclidean"} & set(methods):
        pairs = _near_distances(out, shift)
        if len(pairs) and squares is None:
            return None
        if len(pairs) and squares is not None:
            ones = np.ones(len(shift))
            step = np.subtract(*shift[pairs.T])
            sums = np.subtract(*out.sums[pairs.T])
            of_rows = squares(pairs, ones)
            found_squares = of_rows + 2 * step * sums + out.n_channels * step * step
            both = NearPairs(pairs, np.maximum(found_squares, 0))
            near |= dict.fromkeys(("euclidean", "sqeuclidean"), both)
    return gram_from_products(
        out.products,
        out.n_channels,
        out.sums,
        constants,
        shift=shift,
        near=near,
        rounding=_ROUNDING,
        dtype=np.float32,
    )


def _near_distances(out: LayerOutputs, shift: Floats) -> NDArray[np.int32]:
    """Pairs whose squared distance is small beside the squared lengths of their rows."""
    measure = method_named("sqeuclidean").measure
    n, sums = out.n_channels, out.sums
    assert sums is not None
    squares = out.products.diagonal()
    # Squared distances of rows, and of their shifts.
    crossed = np.multiply.outer(shift, sums + n / 2 * shift)
    products = out.products + (crossed + crossed.T)
    operand = operand_of(products.diagonal().copy(), None, n, 0.0)
    values, _ = measure.condense(operand, operand, products, True)
    rows, columns = np.triu_indices(len(squares), 1)
    near = values < _NEAR_DISTANCE * (squares[rows] + squares[columns])
    return np.stack([rows[near], columns[near]], axis=1).astype(np.int32)
