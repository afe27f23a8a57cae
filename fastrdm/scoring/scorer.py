"""RDMs of layers → scores against a target."""

import warnings

import numpy as np
from numpy.typing import NDArray

from fastrdm.similarity import Score, Target


def score_layers(target: Target, rdms: NDArray[np.float64]) -> Score:
    """Score layers; those with NaN in their RDMs have NaN as scores. `UndefinedScores` has the reasons."""
    complete = np.asarray(np.isfinite(rdms).all(axis=1))
    is_constant = complete & (np.ptp(rdms, axis=1) == 0)
    score = target.score(rdms[complete & ~is_constant])
    if (complete & ~is_constant).all():
        return score
    with warnings.catch_warnings():
        # They are described with the layer's name instead.
        warnings.simplefilter("ignore")
        of_constant = target.score(rdms[is_constant])
    filled = {}
    for name, values in vars(score).items():
        filled[name] = np.full((len(complete), *values.shape[1:]), np.nan)
        filled[name][complete & ~is_constant] = values
        filled[name][is_constant] = getattr(of_constant, name)
    return Score(**filled)
