"""The table of methods: everything that fastrdm knows about a method is in its row.

`calc_rdm`, `RdmAccumulator`, `SparseProjection` and the device read this table, and the documentation shows it. A new
method is one row of `_ROWS`, plus a `Measure` or a way to prepare activations where the existing ones do not suffice.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from fastrdm._base import choose
from fastrdm.rdm.bounds import ProjectionRule, angle_error, distance_error
from fastrdm.rdm.folds import Folds
from fastrdm.rdm.measures import CORRELATION, COSINE, DISTANCE, SQUARED_DISTANCE, Measure
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.sources import Member, RowSource, SourceSum, in_place, ranked, single, whitened
from fastrdm.rdm.whitening import Noise, Noises

_Prepare = Callable[[Member, Kind, Noises | None, Folds | None, int], SourceSum]
_Function = TypeVar("_Function", bound=Callable[..., Any])


class RdmMethod(NamedTuple):
    """One row of the table."""

    name: str
    #: Dissimilarity of conditions x and y, in reStructuredText, for the documentation.
    formula: str
    #: Products of conditions → dissimilarities; chooses the kernel.
    measure: Measure
    #: Activations → the rows that the measure compares.
    prepare: _Prepare
    aliases: tuple[str, ...] = ()
    #: Why it needs all channels of a condition in one call; empty if blocks of channels suffice.
    whole: str = ""
    #: Whether `DeviceModel` computes it.
    on_device: bool = False
    #: How to compute it from random projections; None if they have no error bound.
    projection: ProjectionRule | None = None
    #: Options that it takes, and those of which it needs one.
    takes: frozenset[str] = frozenset()
    needs: str = ""


def _unchanged(member: Member, kind: Kind, *_: Any) -> SourceSum:
    return single(in_place(member, kind))


def _checked(member: Member, kind: Kind) -> RowSource:
    source = in_place(member, kind)
    source.check_finite()
    return source


def _ranked(
    member: Member, kind: Kind, noise: Noises | None, folds: Folds | None, n_threads: int
) -> SourceSum:
    return single(ranked(_checked(member, kind), n_threads))


def _whitened(
    member: Member, kind: Kind, noise: Noises | None, folds: Folds | None, n_threads: int
) -> SourceSum:
    assert isinstance(noise, Noise)
    return single(whitened(_checked(member, kind), noise, n_threads))


def _cross_validated(
    member: Member, kind: Kind, noise: Noises | None, folds: Folds | None, n_threads: int
) -> SourceSum:
    assert folds is not None
    total = folds.source_sum(member, kind, noise, n_threads)
    total.terms[0].source.check_finite()
    return total


_NOISE = frozenset({"precision", "residuals", "estimator"})

_ROWS = (
    RdmMethod(
        "correlation",
        ":math:`1 - r(x, y)`, Pearson's r over channels; 0 … 2",
        CORRELATION,
        _unchanged,
        aliases=("pearson",),
        on_device=True,
        projection=ProjectionRule("cosine", angle_error, n_lengths=4, centre=True),
    ),
    RdmMethod(
        "cosine",
        r":math:`1 - x \cdot y / (\lVert x \rVert \lVert y \rVert)`; 0 … 2",
        COSINE,
        _unchanged,
        on_device=True,
        projection=ProjectionRule("cosine", angle_error, n_lengths=4),
    ),
    RdmMethod(
        "sqeuclidean",
        r":math:`\lVert x - y \rVert^2`",
        SQUARED_DISTANCE,
        _unchanged,
        on_device=True,
        projection=ProjectionRule("sqeuclidean", lambda eps: eps, n_lengths=1),
    ),
    RdmMethod(
        "euclidean",
        r":math:`\lVert x - y \rVert`",
        DISTANCE,
        _unchanged,
        on_device=True,
        projection=ProjectionRule("euclidean", distance_error, n_lengths=1),
    ),
    RdmMethod(
        "spearman",
        "1 − Spearman's ρ over channels: ``correlation`` of their average ranks",
        CORRELATION,
        _ranked,
        whole="ranks all channels of a condition",
    ),
    RdmMethod(
        "mahalanobis",
        r":math:`\sqrt{(x - y)^T P (x - y)}`, P the ``precision`` of the channels' noise",
        DISTANCE,
        _whitened,
        whole="whitens all channels of a condition",
        takes=_NOISE,
        needs="precision or residuals",
    ),
    RdmMethod(
        "crossnobis",
        "mean over all pairs of different folds f, g of :math:`(x_f - y_f)^T P (x_g - y_g)`",
        SQUARED_DISTANCE,
        _cross_validated,
        whole="averages measurements of folds",
        takes=_NOISE | {"folds", "conditions"},
        needs="folds",
    ),
)

#: Rows by name and alias.
METHODS: dict[str, RdmMethod] = {name: row for row in _ROWS for name in (row.name, *row.aliases)}


def method_named(name: str) -> RdmMethod:
    """Return the row of a name or an alias; ValueError that lists all names if there is none."""
    return METHODS.get(name) or choose(name, METHODS, "method")


def names_where(condition: Callable[[RdmMethod], Any]) -> list[str]:
    """Names and aliases of the methods that meet a condition."""
    return [name for name, row in METHODS.items() if condition(row)]


def show_methods(function: _Function) -> _Function:
    """Replace the line ``{methods}`` of a docstring by the table."""
    if function.__doc__:
        function.__doc__ = function.__doc__.replace("{methods}", _table().replace("\n", "\n    "))
    return function


def _table() -> str:
    rows = [("method", "dissimilarity of conditions x and y", "also from")]
    for row in _ROWS:
        aliases = ", ".join(f"``{alias}``" for alias in row.aliases)
        formula = f"{row.formula} (alias {aliases})" if aliases else row.formula
        ways = {"blocks": not row.whole, "projections": row.projection, "device": row.on_device}
        rows.append((row.name, formula, ", ".join(way for way in ways if ways[way]) or "–"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = " ".join("=" * width for width in widths)
    lines = [" ".join(map(str.ljust, cells, widths)).rstrip() for cells in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])
