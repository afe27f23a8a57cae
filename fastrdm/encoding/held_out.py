"""Predictions of held-out conditions: each fold is decomposed once, for all subjects and units."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.encoding.folds import ConditionFolds, Indices
from fastrdm.encoding.moments import SubjectScores
from fastrdm.encoding.regressions import Regression

# Responses of a block of units, in numbers: 16 MB of float64, of which five copies are made.
_BLOCK = 1 << 21


@dataclass(frozen=True, eq=False)
class SameConditions:
    """Units with responses to the same conditions: `rows`, and (subject, units) of each subject that has any."""

    rows: Indices
    members: list[tuple[int, Indices]]


def same_conditions(measured: Sequence[NDArray[Any]]) -> list[SameConditions]:
    """Group the units of all subjects, each (conditions, units), by the conditions whose responses are not NaN."""
    n = len(measured[0])
    groups: dict[bytes, SameConditions] = {}
    for subject, values in enumerate(measured):
        # A sum is NaN if any of its terms is.
        lacking = np.isnan(values.sum(axis=0, dtype=np.float64))
        complete = np.flatnonzero(~lacking)
        parts = [(np.ones(n, bool), complete)] if len(complete) else []
        if lacking.any():
            parts += _patterns(values, np.flatnonzero(lacking))
        for present, units in parts:
            group = groups.setdefault(
                present.tobytes(), SameConditions(np.flatnonzero(present), [])
            )
            group.members.append((subject, units))
    return list(groups.values())


def _patterns(values: NDArray[Any], units: Indices) -> list[tuple[NDArray[np.bool_], Indices]]:
    present = ~np.isnan(values[:, units])
    _, first, which = np.unique(
        np.packbits(present, axis=0), axis=1, return_index=True, return_inverse=True
    )
    which = which.reshape(-1)
    return [(present[:, column], units[which == k]) for k, column in enumerate(first.tolist())]


def score_layer(
    gram: Any,
    measured: Sequence[NDArray[Any]],
    groups: Sequence[SameConditions],
    folds: ConditionFolds,
    regression: Regression,
    *,
    keep_predictions: bool = False,
) -> list[SubjectScores]:
    """Return the scores of one layer, or of several together, for each subject's responses (conditions, units)."""
    scores = [
        SubjectScores(len(folds), *values.shape, keep_predictions=keep_predictions)
        for values in measured
    ]
    for group in groups:
        for fold, train, test in folds.splits(group.rows):
            prepared = regression.prepare(gram, train, test)
            for subject, units in _blocks(group, regression):
                values = measured[subject]
                learned = values[np.ix_(train, units)].astype(np.float64)
                means = learned.mean(axis=0)
                learned -= means
                predicted, details = regression.predict(prepared, learned)
                held_out = values[np.ix_(test, units)].astype(np.float64)
                scores[subject].add(fold, test, units, held_out, predicted, means, details)
    return scores


def permuted_medians(
    gram: Any,
    measured: Sequence[NDArray[Any]],
    orders: Indices,
    folds: ConditionFolds,
    regression: Regression,
) -> NDArray[np.float64]:
    """Return medians over units of r, (orders, subjects), of responses whose conditions are in each of the orders.

    Orders are taken together, as if they were subjects, so that a fold is decomposed once for many of them.
    """
    step = max(1, 4 * _BLOCK // sum(values.size for values in measured))
    out = []
    for start in range(0, len(orders), step):
        permuted = [values[order] for order in orders[start : start + step] for values in measured]
        scores = score_layer(gram, permuted, same_conditions(permuted), folds, regression)
        for one in scores:
            r, _ = one.pooled()
            known = r[~np.isnan(r)]
            out.append(np.median(known) if len(known) else np.nan)
    return np.array(out).reshape(len(orders), len(measured))


def _blocks(group: SameConditions, regression: Regression) -> Iterator[tuple[int, Indices]]:
    for subject, units in group.members:
        numbers = _BLOCK // (len(group.rows) * regression.n_copies)
        step = len(units) if regression.is_joint else max(1, numbers)
        for start in range(0, len(units), step):
            yield subject, units[start : start + step]
