"""The result of scoring layers against responses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import counted, list_names
from fastrdm.encoding.ceilings import UnitCeilings
from fastrdm.encoding.decomposition import Floats
from fastrdm.encoding.folds import ConditionFolds
from fastrdm.encoding.moments import SubjectScores
from fastrdm.encoding.protocols import EncodingProtocol, ProtocolScore, score_under

# An array with the axes models, subjects, …, units; or a list over subjects of arrays without their axis.
PerUnit = Floats | list[Floats]


@dataclass(frozen=True, eq=False)
class ResponseScore:
    """How well layers predict the responses of units to held-out conditions.

    If the number of units differs between subjects, arrays with an axis of units are lists over subjects, whose arrays
    lack the axis of subjects.

    Attributes
    ----------
    r : ndarray, shape (models, subjects, units)
        Pearson's r between responses and held-out predictions, of the conditions of all folds together. NaN for
        constant responses, and for layers that are constant; 0 if ``"stacked"`` gives no layer a weight.
    r_folds : ndarray, shape (models, subjects, folds, units)
        The same within each fold; NaN also where a fold holds out fewer than two conditions.
    r2, r2_folds : ndarray
        Coefficients of determination, 1 - Σ(y - ŷ)² / Σ(y - ȳ)², with ȳ the mean of the same held-out responses; shapes
        as of `r` and `r_folds`.
    alphas : ndarray or None, shape (models, subjects, folds, units)
        Chosen penalties; None without penalties.
    weights : ndarray or None, shape (layers, subjects, folds, units)
        Weights of the layers, under ``"banded"`` and ``"stacked"``.
    predictions : ndarray or None, shape (models, subjects, conditions, units)
        Held-out predictions, if they were to be kept.
    folds : ndarray of int, shape (conditions,)
        The fold that holds out each condition, -1 for none.
    names, subjects, fold_names : tuple of str
        Models, subjects and folds. A model of several layers has their names with ``" + "`` in between.
    layers : tuple of str
        Layers of a model of several; else empty.
    method : str
        As in `Responses.score`.
    ceilings : UnitCeilings
        `reliability` and `ceiling` of the units.
    """

    r: PerUnit
    r_folds: PerUnit
    r2: PerUnit
    r2_folds: PerUnit
    alphas: PerUnit | None
    weights: PerUnit | None
    predictions: PerUnit | None
    folds: NDArray[np.intp]
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    fold_names: tuple[str, ...]
    layers: tuple[str, ...]
    method: str
    ceilings: UnitCeilings = field(repr=False)

    @property
    def median(self) -> Floats:
        """Median of r over units, (models, subjects), without units whose r is NaN."""
        return _over_units(self.r, np.median)

    @property
    def mean(self) -> Floats:
        """Mean of r over units, (models, subjects), without units whose r is NaN."""
        return _over_units(self.r, np.mean)

    @property
    def median_r2(self) -> Floats:
        """Median of R² over units, (models, subjects), without units whose R² is NaN."""
        return _over_units(self.r2, np.median)

    @property
    def mean_r2(self) -> Floats:
        """Mean of R² over units, (models, subjects), without units whose R² is NaN."""
        return _over_units(self.r2, np.mean)

    @property
    def normalised(self) -> PerUnit:
        """Shares of the ceiling, r / ceiling, shape of `r`: 1 if a model predicts all but the measurement's noise."""
        ceilings = list(self.ceilings.ceiling)
        return together([r / c for r, c in zip(subjects_of(self.r), ceilings, strict=True)])

    @property
    def normalised_squared(self) -> PerUnit:
        """Values of r² / ceiling², shape of `r`: the share of the explainable variance, whatever the sign of r."""
        return together([each**2 for each in subjects_of(self.normalised)])

    def under(
        self, protocol: str | EncodingProtocol, *, noise_ceiling: Any = None
    ) -> ProtocolScore:
        """Score the models under a convention of the field.

        Parameters
        ----------
        protocol : str or EncodingProtocol
            A name in `ENCODING_PROTOCOLS`, or your own convention.
        noise_ceiling : array_like, or a list or dict of these for each subject, optional
            Noise ceilings of the units, (units,) or (subjects, units), in the unit of the convention (a share of
            variance, not in percent); by default computed from the repeats of the responses.

        Returns
        -------
        ProtocolScore
            Units without r or without a noise ceiling are left out.

        Raises
        ------
        ValueError
            If the protocol is unknown, the responses have no repeats and no noise ceiling was passed, or it does not
            fit the units.
        """
        return score_under(
            protocol,
            subjects_of(self.r),
            subjects_of(self.r_folds),
            self.ceilings,
            self.names,
            noise_ceiling,
        )

    def __str__(self) -> str:
        n_units = [r.shape[-1] for r in subjects_of(self.r)]
        least, most = min(n_units), max(n_units)
        lines = [
            f"{self.method}, {counted(len(self.fold_names), 'fold')}, {counted(len(self.subjects), 'subject')},"
            f" {most if least == most else f'{least} to {most}'} units; median r over units, mean over subjects:"
        ]
        width = max(map(len, self.names))
        for name, value in zip(self.names, self.median.mean(axis=1), strict=True):
            lines.append(f"{name:<{width}}  {value:.4f}")
        return "\n".join(lines)

    __repr__ = __str__


def subjects_of(values: PerUnit) -> list[Floats]:
    """Return an array (models, …) for each subject, of one (models, subjects, …) or of a list of these."""
    if isinstance(values, list):
        return values
    return [values[:, subject] for subject in range(values.shape[1])]


def together(arrays: Sequence[Floats]) -> PerUnit:
    """Return arrays of subjects, (models, …, units), as one with subjects on the second axis if their units agree."""
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays, axis=1)
    return list(arrays)


def result_of(
    scores: Sequence[Sequence[SubjectScores]],
    folds: ConditionFolds,
    method: str,
    **facts: Any,
) -> ResponseScore:
    """Return the result of scores (models, subjects)."""
    pooled = [[one.pooled() for one in of_subjects] for of_subjects in scores]

    def stacked(value: Callable[[int, int], Floats | None]) -> PerUnit:
        n_models, n_subjects = len(scores), len(scores[0])
        return together(
            [
                np.stack([np.asarray(value(m, s)) for m in range(n_models)])
                for s in range(n_subjects)
            ]
        )

    n_layers = len(facts["layers"])
    axis = {"ridge": (), "banded": (1 + n_layers,), "stacked": (n_layers,)}.get(method)

    def details(model: int, subject: int) -> Floats:
        one = scores[model][subject]
        if one.details is not None:
            return one.details
        # None of the units could be fitted.
        n_folds, n_units = one.r_folds.shape
        return np.full((n_folds, *(axis or ()), n_units), np.nan)

    def penalties(model: int, subject: int) -> Floats:
        return details(model, subject)[:, 0] if method == "banded" else details(model, subject)

    weights = []
    if method in ("banded", "stacked"):
        # The last rows are the layers' weights.
        weights = [np.moveaxis(details(0, s)[:, -n_layers:], 1, 0) for s in range(len(scores[0]))]
    has_predictions = scores[0][0].predictions is not None
    return ResponseScore(
        r=stacked(lambda m, s: pooled[m][s][0]),
        r_folds=stacked(lambda m, s: scores[m][s].r_folds),
        r2=stacked(lambda m, s: pooled[m][s][1]),
        r2_folds=stacked(lambda m, s: scores[m][s].r2_folds),
        alphas=None if method not in ("ridge", "banded") else stacked(penalties),
        weights=None if method not in ("banded", "stacked") else together(weights),
        predictions=stacked(lambda m, s: scores[m][s].predictions) if has_predictions else None,
        folds=folds.numbers,
        fold_names=folds.names,
        method=method,
        **facts,
    )


def undefined_text(result: ResponseScore, constant: Sequence[NDArray[np.bool_]]) -> str:
    """Return which units have no r, those whose responses are constant first, and which layers; empty if all have."""
    undefined = [np.isnan(r) for r in subjects_of(result.r)]
    parts = []
    for subject, of_subject in enumerate(constant):
        if of_subject.any():
            units = list_names(np.flatnonzero(of_subject).tolist())
            parts.append(
                f"units {units} of subject {result.subjects[subject]}, with constant responses or too few"
            )
    for model, name in enumerate(result.names):
        more = [u[model] & ~c for u, c in zip(undefined, constant, strict=True)]
        n = sum(int(each.sum()) for each in more)
        if n and n == sum(int((~c).sum()) for c in constant):
            parts.append(f"layer {name}, which predicts the same for all conditions")
        elif n:
            subject = next(s for s, each in enumerate(more) if each.any())
            units = list_names(np.flatnonzero(more[subject]).tolist())
            parts.append(f"units {units} of subject {result.subjects[subject]} and layer {name}")
    return f"r is NaN for {'; '.join(parts)}" if parts else ""


def _over_units(values: PerUnit, average: Callable[..., Floats]) -> Floats:
    out = []
    for of_subject in subjects_of(values):
        rows = [row[~np.isnan(row)] for row in of_subject]
        out.append([float(average(row)) if len(row) else np.nan for row in rows])
    return np.array(out).T
