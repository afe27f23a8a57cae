"""The methods by name: what each one measures, on what, and which options it takes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm.folds import Folds
from fastrdm.measures import CORRELATION, COSINE, DISTANCE, SQUARED_DISTANCE, Measure, within
from fastrdm.products import Floats, Reading, Rows
from fastrdm.sources import Source, as_they_lie, ranked, whitened
from fastrdm.whitening import Noise


class Member(NamedTuple):
    """One of the arrays that an RDM is made of, and what errors call it."""

    rows: Rows
    name: str


Terms = list[tuple[float, Source]]
_MakeTerms = Callable[[Member, Noise | None, Folds | None, int], Terms]


class Method(NamedTuple):
    """What makes an RDM of activations."""

    measure: Measure
    #: Sources whose dissimilarities, so weighted, add up.
    terms: _MakeTerms
    #: What it needs the whole of a condition for, if it does.
    whole: str = ""
    #: Options, and of which it must be given one.
    takes: frozenset[str] = frozenset()
    needs: str = ""


def method_named(name: str) -> Method:
    """Method of that name; ValueError that lists them if there is none."""
    try:
        return METHODS[name]
    except KeyError:
        raise ValueError(f"method {name!r} is not one of: {', '.join(METHODS)}") from None


def fill(out: Floats, terms: Terms, measure: Measure, n_threads: int) -> NDArray[np.intp]:
    """Put the sum of the terms' RDMs into `out`; gives the conditions that have none."""
    undefined = np.empty(0, np.intp)
    for term, (weight, source) in enumerate(terms):
        read = Reading.of(source.take(0, source.n_conditions, n_threads))
        found = within(measure, read, source.check_finite, n_threads)
        rdm, undefined = condensed(found.product, measure)
        if weight != 1:
            rdm *= weight
        if term:
            out += rdm
        else:
            out[:] = rdm
    return undefined


def condensed(product: Floats, measure: Measure) -> tuple[Floats, NDArray[np.intp]]:
    """RDM, and the conditions whose pairs are NaN in it."""
    undefined = (
        np.flatnonzero(product.diagonal() == 0) if measure.undefined else np.empty(0, np.intp)
    )
    if len(undefined):
        product = product.copy()
        product[undefined] = product[:, undefined] = np.nan
    return measure.condense(product), undefined


def _as_given(member: Member, noise: Noise | None, folds: Folds | None, n_threads: int) -> Terms:
    return [(1.0, as_they_lie(*member))]


def _ranked(member: Member, noise: Noise | None, folds: Folds | None, n_threads: int) -> Terms:
    source = as_they_lie(*member)
    source.check_finite()
    return [(1.0, ranked(source, n_threads))]


def _whitened(member: Member, noise: Noise | None, folds: Folds | None, n_threads: int) -> Terms:
    source = as_they_lie(*member)
    source.check_finite()
    assert noise is not None
    return [(1.0, whitened(source, noise, n_threads))]


def _cross_validated(
    member: Member, noise: Noise | None, folds: Folds | None, n_threads: int
) -> Terms:
    assert folds is not None
    terms = folds.terms(*member)
    terms[0][1].check_finite()
    if noise is None:
        return terms
    return [(weight, whitened(source, noise, n_threads)) for weight, source in terms]


_CORRELATION = Method(CORRELATION, _as_given)
_NOISE = frozenset({"precision", "residuals", "estimator"})

METHODS: dict[str, Method] = {
    "correlation": _CORRELATION,
    "pearson": _CORRELATION,
    "cosine": Method(COSINE, _as_given),
    "sqeuclidean": Method(SQUARED_DISTANCE, _as_given),
    "euclidean": Method(DISTANCE, _as_given),
    "spearman": Method(CORRELATION, _ranked, whole="ranks all channels of a condition"),
    "mahalanobis": Method(
        DISTANCE,
        _whitened,
        whole="whitens all channels of a condition",
        takes=_NOISE,
        needs="precision or residuals",
    ),
    "crossnobis": Method(
        SQUARED_DISTANCE,
        _cross_validated,
        whole="averages measurements of folds",
        takes=_NOISE | {"folds", "conditions"},
        needs="folds",
    ),
}
