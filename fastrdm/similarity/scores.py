"""Similarities to subjects → scores."""

import math
from dataclasses import dataclass

import numpy as np

from fastrdm.similarity.coefficients import Floats


@dataclass(frozen=True)
class Score:
    """Scores of models against one target.

    Attributes
    ----------
    rho : ndarray, shape (n_models, n_subjects)
        Similarity to each subject, averaged over time points if there are several.
    r2 : ndarray, shape (n_models,)
        Mean over subjects of `rho` squared.
    value : ndarray, shape (n_models,)
        The protocol's score: `r2`, or the mean of `rho` if the protocol does not square.
    std, sample_std : ndarray, shape (n_models,)
        Standard deviation over subjects of the protocol's per-subject values (`rho` squared or `rho`): of the
        population (divided by the number of subjects n), and of the sample (divided by n − 1; NaN for one subject).
    p : ndarray, shape (n_models,)
        Two-sided one-sample t-test of those values against 0, as `scipy.stats.ttest_1samp`; NaN for one subject.
        This is the challenge's test. Squares are never negative, so it says little if the protocol squares.
    percent_nc : ndarray, shape (n_models,)
        100 × `value` / `ceiling`.
    ceiling : ndarray, shape (n_models,)
        Noise ceiling over the pairs that the model has; NaN if unknown.
    mean_rho : ndarray, shape (n_models,)
        Mean over subjects of `rho`. If it is below 0, the model orders pairs in the opposite way to the brain, however
        high `r2` is.
    """

    rho: Floats
    r2: Floats
    value: Floats
    std: Floats
    sample_std: Floats
    p: Floats
    percent_nc: Floats
    ceiling: Floats
    mean_rho: Floats


def score_similarities(similarities: Floats, *, squared: bool, ceiling: Floats) -> Score:
    """Return the scores of similarities (models, subjects, times), given a ceiling for each model."""
    n = similarities.shape[1]
    # For so few numbers, array methods take longer than the arithmetic.
    rho = similarities[:, :, 0]
    if similarities.shape[2] > 1:
        rho = np.add.reduce(similarities, axis=2) / similarities.shape[2]
    squares = rho * rho
    r2, mean_rho = np.add.reduce(squares, axis=1) / n, np.add.reduce(rho, axis=1) / n
    values, value = (squares, r2) if squared else (rho, mean_rho)
    deviations = values - value[:, None]
    spread = np.einsum("ij,ij->i", deviations, deviations)
    sample_std = np.sqrt(spread / (n - 1)) if n > 1 else np.full(len(rho), np.nan)
    return Score(
        rho=rho,
        r2=r2,
        value=value,
        std=np.sqrt(spread / n),
        sample_std=sample_std,
        p=_t_test(value, sample_std, n),
        percent_nc=value * (100 / ceiling),
        ceiling=ceiling,
        mean_rho=mean_rho,
    )


def _t_test(mean: Floats, sample_std: Floats, n: int) -> Floats:
    """Return the two-sided p of the one-sample t-test against 0."""
    # Imported here because it takes longer than the rest of the package.
    from scipy.special import stdtr

    with np.errstate(invalid="ignore", divide="ignore"):
        t = mean * math.sqrt(n) / sample_std
    return np.asarray(2 * stdtr(n - 1, -np.abs(t)))
