"""Variance of responses that layers explain alone and together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrdm._base import (
    all_combinations,
    check_choice,
    combination_row,
    common_shares,
    counted,
)
from fastrdm.encoding.prepared import Responses
from fastrdm.encoding.regressions import SEVERAL
from fastrdm.encoding.scores import PerUnit, subjects_of, together
from fastrdm.rdm import Gram

_FEWEST, _MOST = 2, 3


@dataclass(frozen=True, eq=False)
class ResponseVariancePartition:
    """Held-out variance of each unit's responses, divided among layers.

    If the number of units differs between subjects, arrays are lists over subjects without their axis of subjects.

    Attributes
    ----------
    layers : tuple of str
        Names of the layers.
    combinations : tuple of tuple of str
        All combinations of layers: each alone, then two, then three.
    r2 : ndarray, shape (combinations, subjects, units)
        Held-out R² of the regression on these layers.
    parts : ndarray, shape (combinations, subjects, units)
        Share of the variance that exactly these layers have in common: of one layer, its unique share. The parts add up
        to `total`. Held-out shares may be negative: where a layer adds nothing, or layers suppress each other's noise.
    method : str
        ``"banded"`` or ``"stacked"``.
    subjects : tuple of str
        Names of the subjects.
    """

    layers: tuple[str, ...]
    combinations: tuple[tuple[str, ...], ...]
    r2: PerUnit
    parts: PerUnit
    method: str
    subjects: tuple[str, ...]

    @property
    def total(self) -> PerUnit:
        """R² (subjects, units) of all layers together."""
        return self._row(self.r2, len(self.combinations) - 1)

    def unique(self, name: str) -> PerUnit:
        """Return the unique share (subjects, units) of a layer; ValueError for an unknown one."""
        return self.shared(name)

    def shared(self, *names: str) -> PerUnit:
        """Return the share (subjects, units) that exactly these layers have in common; ValueError if one is unknown."""
        return self._row(self.parts, combination_row(self.layers, names, "layer"))

    @staticmethod
    def _row(values: PerUnit, row: int) -> PerUnit:
        return [each[row] for each in values] if isinstance(values, list) else values[row]

    def __str__(self) -> str:
        labels = [" & ".join(names) for names in self.combinations]
        width = max(map(len, labels))
        lines = [
            f"held-out R² of {self.method} ridge regression, median over units, mean over"
            f" {counted(len(self.subjects), 'subject')}",
            f"{'layers':<{width}}  {'R²':>8}  {'share':>8}",
        ]
        pairs = zip(labels, self._medians(self.r2), self._medians(self.parts), strict=True)
        lines += [f"{label:<{width}}  {r2:8.4f}  {part:8.4f}" for label, r2, part in pairs]
        return "\n".join(lines)

    __repr__ = __str__

    @staticmethod
    def _medians(values: PerUnit) -> list[float]:
        medians = []
        for each in subjects_of(values):
            known = each[:, ~np.isnan(each).any(axis=0)]
            medians.append(np.median(known, axis=1) if known.size else np.full(len(each), np.nan))
        return [float(value) for value in np.mean(medians, axis=0)]


def partition_variance(
    grams: Mapping[str, Gram] | list[Gram] | tuple[Gram, ...],
    responses: Responses,
    method: str = "banded",
    **options: Any,
) -> ResponseVariancePartition:
    r"""Divide the held-out variance of responses among two or three layers.

    With the held-out R² of a regression on every combination of the layers A, the share that exactly the layers S have
    in common is (commonality analysis; Newton & Spurrell 1967)

    .. math:: C(S) = -\sum_{T \subseteq S} (-1)^{|T|} R^2\big((A \setminus S) \cup T\big),

    for two layers :math:`R^2_{ab} - R^2_b`, :math:`R^2_{ab} - R^2_a` and :math:`R^2_a + R^2_b - R^2_{ab}`.

    Parameters
    ----------
    grams : dict or list of Gram
        Two or three layers.
    responses : Responses
        Measured responses.
    method : {"banded", "stacked"}
        How layers are joined, as in `Responses.score`.
    **options
        Of `Responses.score`: folds, penalties, weights. All combinations have the same folds.

    Returns
    -------
    ResponseVariancePartition
        R² and shares for each combination, subject and unit.

    Raises
    ------
    ValueError
        If there are not two or three layers, or as `Responses.score`.

    Warns
    -----
    RuntimeWarning
        As `Responses.score`.

    References
    ----------
    Newton & Spurrell (1967), Appl. Stat. 16(1); Lescroart, Stansbury & Gallant (2015), Front. Comput. Neurosci. 9:135.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.standard_normal((2, 60, 20))
    >>> responses = fastrdm.Responses(a[:, :5] + b[:, :5] + rng.standard_normal((3, 60, 5)))
    >>> found = fastrdm.partition_variance(fastrdm.gram({"a": a, "b": b}), responses)
    >>> found.unique("a").shape, bool(np.allclose(found.parts.sum(axis=0), found.total))
    ((3, 5), True)
    """
    check_choice(method, SEVERAL, "method")
    layers = responses.matched(grams)
    if not _FEWEST <= len(layers) <= _MOST:
        raise ValueError(
            f"grams has {len(layers)} of the two or three layers that variance is divided among"
        )
    names = tuple(layers)
    combined = all_combinations(names)
    scores = [
        responses.score({name: layers[name] for name in some}, method, **options)
        for some in combined
    ]
    r2 = [
        np.concatenate(each)
        for each in zip(*(subjects_of(score.r2) for score in scores), strict=True)
    ]
    parts = [common_shares(names, each) for each in r2]
    return ResponseVariancePartition(
        names, combined, together(r2), together(parts), method, responses.subjects
    )
