"""Gram matrices in the forms that callers pass → products of all pairs, centred over conditions."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    ASYMMETRY,
    CONDITIONS,
    Labels,
    as_floats,
    check_choice,
    check_finite,
    checked_triangle,
    depth,
    find_order,
    in_order_of,
    list_names,
    n_conditions,
    rdm_labels,
    square,
    warn_caller,
    warn_reordered,
    with_names,
)
from fastrdm.rdm import Gram
from fastrdm.similarity.numerics import Floats, in_range
from fastrdm.similarity.shapes import is_square_rdm
from fastrdm.tensors import in_kind

DISTANCES = ("sqeuclidean", "euclidean")

# If centring leaves a smaller share of the products, it costs digits; features are centred before they are multiplied.
_SMALL_SHARE = 1e-3


class CentredGram:
    """Products of all pairs of conditions, less the mean of each channel over conditions: H K H.

    Entries are computed when they are needed, and divided by ``2**power``, so that the largest product is below 1.

    Attributes
    ----------
    name : str
        In messages.
    labels : Labels or None
        Of the conditions, or of the pairs.
    features : ndarray or None, shape (conditions, channels)
        Centred, not scaled.
    largest_feature : float
        The largest magnitude before centring, if there are features.
    n : int
        Number of conditions.
    power : int
    precision : float
        Relative rounding error of products.
    diagonal : ndarray, shape (conditions,)
        Of the centred products.
    """

    def __init__(
        self,
        products: NDArray[Any],
        name: str,
        labels: Labels | None = None,
        features: Floats | None = None,
        precision: float | None = None,
    ) -> None:
        self.name, self.labels, self.n = name, labels, len(products)
        self.precision = float(np.finfo(products.dtype).eps) if precision is None else precision
        self.features: Floats | None = None
        if features is not None:
            self.largest_feature = float(np.abs(features).max())
            self.features = _centred(features)
        self._measure(products)
        if self.features is not None and self.diagonal.sum() < _SMALL_SHARE * self.n:
            self._measure(self.features @ self.features.T)

    def _measure(self, products: NDArray[Any]) -> None:
        self._products = products
        self.power = math.frexp(max(float(products.max()), -float(products.min())))[1]
        self._means = np.ldexp(products.mean(axis=0, dtype=np.float64), -self.power)
        self._mean = self._means.mean()
        diagonal = np.ldexp(products.diagonal().astype(np.float64), -self.power)
        self.diagonal = diagonal - 2 * self._means + self._mean

    def reordered(self, conditions: NDArray[np.intp]) -> "CentredGram":
        """Return the Gram matrix with its conditions in the order of indices."""
        other = copy.copy(self)
        other._products = self._products[np.ix_(conditions, conditions)]
        other._means, other.diagonal = self._means[conditions], self.diagonal[conditions]
        other.features = None if self.features is None else self.features[conditions]
        return other

    def rows(self, rows: slice, out: Floats) -> None:
        """Write some rows of the centred products."""
        np.ldexp(self._products[rows], -self.power, out=out)
        out -= self._means
        out -= self._means[rows, None] - self._mean

    def whole(self) -> Floats:
        """Return all centred products."""
        out = np.empty((self.n, self.n))
        self.rows(slice(0, self.n), out)
        return out


def _centred(features: Floats) -> Floats:
    """Return features (conditions, channels) less their means; exactly 0 if the conditions are equal."""
    rows = features - features[0]
    return np.asarray(rows - rows.mean(axis=0))


def both_sides(
    grams1: Any, grams2: Any, distances: str | None = None
) -> tuple[list[CentredGram], list[CentredGram]]:
    """Return the two arguments of a comparison, with the same conditions; one list twice if they are one object.

    Arrays are RDMs of `distances`, or products if this is None. ValueError if an array is neither, or numbers or labels
    of conditions differ.
    """
    if distances is not None:
        check_choice(distances, DISTANCES, "distances")
    first = _all_of(grams1, "grams1", distances)
    second = first if grams2 is grams1 else _all_of(grams2, "grams2", distances)
    first, second = _matched(first, second)
    for gram in (*first, *second):
        if gram.n != first[0].n:
            raise ValueError(
                f"{first[0].name} has {first[0].n} conditions and {gram.name} {gram.n};"
                " compared Gram matrices need the same conditions in the same order"
            )
    return first, second


def _matched(
    first: list[CentredGram], second: list[CentredGram]
) -> tuple[list[CentredGram], list[CentredGram]]:
    """Return both sides with labelled conditions in the order of the second one's; one warning says which were not."""
    labelled = [gram.labels for gram in (*second, *first) if gram.labels is not None]
    if not labelled:
        return first, second
    reference, moved = labelled[0], []

    def matched(gram: CentredGram) -> CentredGram:
        order = find_order(gram.labels, reference)
        if order is None or gram.labels is None:
            return gram
        if order.what != CONDITIONS:
            gram.labels.check(reference)
        if gram.labels not in moved:
            moved.append(gram.labels)
        return gram.reordered(order.places)

    same = second is first
    first = [matched(gram) for gram in first]
    second = first if same else [matched(gram) for gram in second]
    if moved:
        warn_reordered(moved, reference)
    return first, second


def named_table(table: NDArray[Any], grams1: Any, grams2: Any, like: Any) -> Any:
    """Return a table (n1, n2) with the names of pandas and xarray arguments, or as an array of the kind of `like`."""
    if like is None:
        return with_names(table, grams1, grams2, "gram_1", "gram_2")
    return in_kind(table, like)


def warn_undefined_grams(
    what: str,
    why: str,
    first: list[CentredGram],
    second: list[CentredGram],
    undefined1: NDArray[np.bool_],
    undefined2: NDArray[np.bool_],
) -> None:
    """Warn once of the Gram matrices that make results NaN, if there are any."""
    names = [gram.name for gram, bad in zip(first, undefined1, strict=True) if bad]
    if second is not first:
        names += [gram.name for gram, bad in zip(second, undefined2, strict=True) if bad]
    if names:
        warn_caller(f"{what} is NaN where {why}: {list_names(names, 5)}")


def _all_of(grams: Any, name: str, distances: str | None) -> list[CentredGram]:
    if isinstance(grams, Gram):
        return [_of_gram(grams, name)]
    if isinstance(grams, Mapping):
        members = {f"{name}[{key!r}]": each for key, each in grams.items()}
    elif isinstance(grams, (list, tuple)) and (
        not grams or any(isinstance(each, Gram) for each in grams) or depth(grams) > 2
    ):
        members = {f"{name}[{i}]": each for i, each in enumerate(grams)}
    else:
        return _of_arrays(grams, name, distances)
    if not members:
        raise ValueError(f"{name} is empty; pass at least one Gram matrix")
    return [_one_of(each, label, distances) for label, each in members.items()]


def _one_of(member: Any, name: str, distances: str | None) -> CentredGram:
    if isinstance(member, Gram):
        return _of_gram(member, name)
    found = _of_arrays(member, name, distances)
    if len(found) > 1:
        raise ValueError(f"{name} holds {len(found)} matrices; a member of a list or dict is one")
    return found[0]


def _of_gram(gram: Gram, name: str) -> CentredGram:
    labels = gram.labels
    return CentredGram(
        gram.products, name, None if labels is None else replace(labels, name=name), gram.features
    )


def _of_arrays(values: Any, name: str, distances: str | None) -> list[CentredGram]:
    array = as_floats(values, name)
    if 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; pass at least one Gram matrix")
    if distances is None:
        stack, labels = _products(array, name), rdm_labels(values, name, square=True)
        single = array.ndim == 2
    else:
        is_square = _holds_squares(array, name)
        if is_square:
            labels = rdm_labels(values, name, square=True)
        else:
            array, labels = in_order_of(array, values, name, None, square=False)
        stack = _products_from(array, name, distances, is_square)
        single = array.ndim == (2 if is_square else 1)
    precision = float(np.finfo(array.dtype).eps)
    return [
        CentredGram(each, name if single else f"{name}[{i}]", labels, precision=precision)
        for i, each in enumerate(stack)
    ]


def _products(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return products (grams, n, n) after a check of their shape, values and symmetry."""
    if array.ndim not in (2, 3) or array.shape[-1] != array.shape[-2] or array.shape[-1] < 2:
        raise ValueError(
            f"{name} has shape {array.shape}; expected Gram matrices or square products, (n, n) or (grams, n, n), of"
            f" n >= 2 conditions; pass fastrdm.gram({name}) for activations"
        )
    stack = array if array.ndim == 3 else array[None]
    for i, matrix in enumerate(stack):
        where = f"{name}[{i}]" if array.ndim == 3 else name
        check_finite(matrix, where, ("condition", "condition"))
        largest = max(float(matrix.max()), -float(matrix.min()))
        if not np.allclose(matrix, matrix.T, rtol=0, atol=ASYMMETRY * largest):
            raise ValueError(
                f"{where} with shape {matrix.shape} is not symmetric, as products of all pairs of conditions are; pass"
                f" fastrdm.gram({where}) for activations"
            )
        if largest and not matrix.diagonal().any():
            raise ValueError(
                f"{where} with shape {matrix.shape} has zeros on its diagonal, as an RDM has; cka takes RDMs with"
                " distances='sqeuclidean' or 'euclidean'"
            )
    return stack


def _holds_squares(array: NDArray[Any], name: str) -> bool:
    """Return whether RDMs are square, not condensed."""
    if array.ndim not in (1, 2, 3):
        raise ValueError(
            f"{name} has shape {array.shape}; expected RDMs, (pairs,), (n, pairs), (conditions, conditions) or"
            " (n, conditions, conditions)"
        )
    return array.ndim == 3 or (
        array.ndim == 2 and 1 < len(array) == array.shape[1] and is_square_rdm(array)
    )


def _products_from(array: NDArray[Any], name: str, distances: str, is_square: bool) -> Floats:
    """Return products (n, conditions, conditions) that have the distances of RDMs: -D / 2 before centring."""
    condensed = checked_triangle(array, name) if is_square else array
    condensed = condensed if condensed.ndim == 2 else condensed[None]
    n_conditions(condensed.shape[1], name)
    check_finite(condensed, name, ("RDM", "pair"))
    rows = in_range(condensed.astype(np.float64))[0]
    if distances == "euclidean":
        if (condensed < 0).any():
            raise ValueError(
                f"{name} has negative distances, down to {condensed.min():g}; squared distances, which may be negative"
                " if they are cross-validated, need distances='sqeuclidean'"
            )
        rows = rows**2
    return np.asarray(square(-rows / 2))
