"""RDMs of layers → scores against a target."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import recorded_warnings
from fastrdm.similarity import Score, Target, TimeScore


def score_layers(target: Target, rdms: NDArray[np.float64], over_time: str = "mean") -> Score:
    """Score layers, as `Target.score`; those with NaN in their RDMs have NaN as scores.

    `UndefinedScores` has the reasons.
    """
    complete = np.asarray(np.isfinite(rdms).all(axis=1))
    is_constant = complete & (np.ptp(rdms, axis=1) == 0)
    score = target.score(rdms[complete & ~is_constant], over_time=over_time)
    if (complete & ~is_constant).all():
        return score
    # They are described with the layer's name instead.
    with recorded_warnings():
        of_constant = target.score(rdms[is_constant], over_time=over_time)
    filled: dict[str, Any] = {}
    for name in (field.name for field in fields(Score)):
        values = getattr(score, name)
        filled[name] = np.full((len(complete), *values.shape[1:]), np.nan)
        filled[name][complete & ~is_constant] = values
        filled[name][is_constant] = getattr(of_constant, name)
    if isinstance(score, TimeScore):
        filled["names"] = tuple(map(str, range(len(complete))))
    return replace(score, **filled)
