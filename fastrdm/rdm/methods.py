"""The methods by name: what each one measures, on what, and which options it takes."""

from collections.abc import Callable
from typing import NamedTuple

from fastrdm._base import choose
from fastrdm.rdm.folds import Folds
from fastrdm.rdm.measures import CORRELATION, COSINE, DISTANCE, SQUARED_DISTANCE, Measure
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.products import Rows
from fastrdm.rdm.sources import Part, Parts, Source, as_they_lie, ranked, whitened
from fastrdm.rdm.whitening import Noise, Noises


class Member(NamedTuple):
    """One of the arrays that an RDM each is made of, and what errors call it."""

    rows: Rows
    name: str


_MakeParts = Callable[[Member, Kind, Noises | None, Folds | None, int], Parts]


class Method(NamedTuple):
    """What makes an RDM of activations."""

    measure: Measure
    parts: _MakeParts
    #: What it needs the whole of a condition for, if it does.
    whole: str = ""
    #: Options, and of which it must be given one.
    takes: frozenset[str] = frozenset()
    needs: str = ""


def method_named(name: str) -> Method:
    """Method of that name; ValueError that lists them if there is none."""
    return choose(name, METHODS, "method")


def _as_given(
    member: Member, kind: Kind, noise: Noises | None, folds: Folds | None, n_threads: int
) -> Parts:
    return Parts([Part(1, as_they_lie(*member, kind))])


def _checked(member: Member, kind: Kind) -> Source:
    source = as_they_lie(*member, kind)
    source.check_finite()
    return source


def _ranked(
    member: Member, kind: Kind, noise: Noises | None, folds: Folds | None, n_threads: int
) -> Parts:
    return Parts([Part(1, ranked(_checked(member, kind), n_threads))])


def _whitened(
    member: Member, kind: Kind, noise: Noises | None, folds: Folds | None, n_threads: int
) -> Parts:
    assert isinstance(noise, Noise)
    return Parts([Part(1, whitened(_checked(member, kind), noise, n_threads))])


def _cross_validated(
    member: Member, kind: Kind, noise: Noises | None, folds: Folds | None, n_threads: int
) -> Parts:
    assert folds is not None
    made = folds.parts(*member, kind, noise, n_threads)
    made.parts[0].source.check_finite()
    return made


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
