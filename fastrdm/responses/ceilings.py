"""Ceilings of each unit from variances over repeats (NSD's ncsnr) and from other subjects."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import as_floats, common_labels
from fastrdm.responses.correlation import CONSTANT, correlation
from fastrdm.responses.inputs import measured
from fastrdm.responses.reliability import check_repeated
from fastrdm.responses.repeats import Floats, mean_of_repeats, scaled
from fastrdm.responses.subjects import MeasuredResponses, in_form_of

# Values of a block of units, of which a few copies exist at a time.
_BLOCK = 1 << 20


def ncsnr(responses: Any) -> Any:
    r"""Compute the noise-ceiling signal-to-noise ratio of each unit, as in the Natural Scenes Dataset.

    .. math:: \mathrm{ncsnr} = \hat\sigma_{signal} / \hat\sigma_{noise}, \quad
        \hat\sigma_{signal} = \sqrt{\max(0, \hat\sigma^2_{total} - \hat\sigma^2_{noise})}

    σ²_noise is the mean over conditions of the variance over repeats (divided by n − 1), of conditions with two or
    more. σ²_total is the variance of all single responses (divided by their number). Allen et al. z-score the responses
    within sessions first: ``measured(responses).zscored(sessions)``.

    Parameters
    ----------
    responses : array_like, list, tuple or dict
        (subjects, repeats, conditions, units), or a list or dict of subjects (repeats, conditions, units); NaN where a
        repeat is lacking.

    Returns
    -------
    ndarray, shape (subjects, units); or a list or dict of ndarray, shape (units,), as `responses` is one
        0 without signal, infinity without noise, NaN for constant units and for those without repeats.

    Raises
    ------
    ValueError
        If a subject has one repeat only, or the responses are in none of the forms of `measured`.

    See Also
    --------
    explainable_variance : share of variance that can be explained, from ncsnr.

    References
    ----------
    Allen et al. (2022), A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence, Nat.
    Neurosci. 25:116, Methods, "Noise ceiling estimation"; GLMsingle, example 9.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> signal, noise = 2 * rng.normal(size=(1, 1, 2000, 3)), rng.normal(size=(1, 3, 2000, 3))
    >>> fastrdm.ncsnr(signal + noise).round(1)
    array([[2., 2., 2.]])
    """
    subjects = measured(responses)
    check_repeated(subjects)
    return in_form_of(responses, subjects, [_ncsnr(array) for array in subjects.arrays])


def explainable_variance(ncsnr: ArrayLike, n_repeats: ArrayLike) -> Floats:
    r"""Compute the share of the variance of means over repeats that a model can explain: the noise ceiling of NSD.

    .. math:: \mathrm{NC} = \frac{\mathrm{ncsnr}^2}{\mathrm{ncsnr}^2 + \overline{1 / m}}

    m is the number of repeats; if conditions differ in it, 1 / m is averaged over conditions.

    Parameters
    ----------
    ncsnr : array_like, shape (units,) or (subjects, units)
        See `ncsnr`.
    n_repeats : int or array_like, shape (conditions,) or (conditions, units)
        Number of repeats that are averaged, of all conditions or of each. Conditions with none are left out.

    Returns
    -------
    ndarray of float64, in the shape of `ncsnr`
        Between 0 and 1 (not in percent): the squared correlation that a perfect model is expected to reach. NaN where
        `ncsnr` is.

    Raises
    ------
    ValueError
        If `ncsnr` or a number of repeats is negative, there are no repeats, or the shapes do not fit.

    References
    ----------
    Allen et al. (2022), Nat. Neurosci. 25:116; NSD data manual, "Notes on the noise ceiling".

    Examples
    --------
    >>> import fastrdm
    >>> fastrdm.explainable_variance([0.5, 1.0], 3).round(3)
    array([0.429, 0.75 ])
    >>> fastrdm.explainable_variance([1.0], [3, 3, 2, 1]).round(3)  # the mean of 1/3, 1/3, 1/2 and 1
    array([0.649])
    """
    ratio = as_floats(ncsnr, "ncsnr").astype(np.float64)
    numbers = as_floats(n_repeats, "n_repeats").astype(np.float64)
    if (ratio < 0).any():
        raise ValueError(f"ncsnr must not be negative, but the smallest is {np.nanmin(ratio):.6g}")
    if not (numbers >= 0).all():
        raise ValueError(f"n_repeats must not be negative or NaN, but one is {numbers.min():.6g}")
    fits = numbers.ndim < 2 or (numbers.ndim == 2 and ratio.shape[-1:] == numbers.shape[1:])
    if not fits:
        raise ValueError(
            f"n_repeats has shape {numbers.shape}; expected an integer, (conditions,), or (conditions, units) for the"
            f" shape {ratio.shape} of ncsnr"
        )
    numbers = np.atleast_1d(numbers)
    present = numbers > 0
    if not present.any():
        raise ValueError("n_repeats is 0 everywhere; a mean needs at least one repeat")
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = np.sum(1 / numbers, axis=0, where=present) / np.sum(present, axis=0)
        # The same as ncsnr² / (ncsnr² + 1 / m), and 1 for infinity.
        return np.asarray(1 / (1 + inverse / ratio**2))


@dataclass(frozen=True, eq=False)
class SubjectCeiling:
    """Correlations of each subject with the others.

    Attributes
    ----------
    lower : ndarray of float64, shape (subjects, units)
        Pearson's r of a subject with the mean of the other subjects, over conditions.
    upper : ndarray of float64, shape (subjects, units)
        Pearson's r of a subject with the mean of all subjects, itself among them.
    """

    lower: Floats
    upper: Floats

    def __repr__(self) -> str:
        n_subjects, n_units = self.lower.shape
        bounds = [bound[np.isfinite(bound)] for bound in (self.lower, self.upper)]
        lower, upper = (np.median(bound) if bound.size else np.nan for bound in bounds)
        return f"SubjectCeiling({n_subjects} subjects, {n_units} units: median lower {lower:.3f}, upper {upper:.3f})"


def subject_ceiling(responses: Any) -> SubjectCeiling:
    """Compute how well other subjects predict each unit of a subject: leave-one-subject-out ceilings.

    Subjects must have the same units in the same order, such as voxels of a common anatomical space. The means over
    repeats are z-scored over conditions in each unit of each subject, averaged over the other subjects (lower) or over
    all (upper), and correlated with the subject. A model without parameters of the subject cannot do better than the
    upper bound on average over subjects.

    Parameters
    ----------
    responses : array_like, list, tuple or dict
        (subjects, conditions, units), (subjects, repeats, conditions, units), or a list or dict of subjects.

    Returns
    -------
    SubjectCeiling
        The mean over subjects of its `lower` and `upper` is the usual noise ceiling. Correlations are over the
        conditions that the subject and at least one of the others have; NaN for constant units and below three
        conditions.

    Raises
    ------
    ValueError
        If there is one subject only, or subjects differ in the number or the labels of their units.

    References
    ----------
    Nili et al. (2014), A toolbox for representational similarity analysis, PLoS Comput. Biol. 10:e1003553 (the two
    bounds). Nastase et al. (2019), Measuring shared responses across subjects using intersubject correlation, Soc.
    Cogn. Affect. Neurosci. 14:667.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(1, 200, 50))
    >>> fastrdm.subject_ceiling(shared + rng.normal(size=(4, 200, 50)))
    SubjectCeiling(4 subjects, 50 units: median lower 0.606, upper 0.787)
    """
    subjects = measured(responses)
    _check_alike(subjects)
    n_units = subjects.n_units[0]
    lower = np.empty((subjects.n_subjects, n_units))
    upper = np.empty(lower.shape)
    step = max(1, _BLOCK // (subjects.n_subjects * subjects.n_conditions))
    for start in range(0, n_units, step):
        block = slice(start, start + step)
        means = [scaled(mean_of_repeats(array[:, :, block])) for array in subjects.arrays]
        scores = np.stack([_standardised(mean) for mean in means])
        present = ~np.isnan(scores)
        scores[~present] = 0
        total, count = scores.sum(axis=0), np.count_nonzero(present, axis=0)
        for k in range(subjects.n_subjects):
            others = count - present[k]
            shared = present[k] & (others > 0)
            number = np.maximum(others, 1)
            lower[k, block] = correlation(scores[k], (total - scores[k]) / number, shared)
            upper[k, block] = correlation(scores[k], total / (number + 1), shared)
    return SubjectCeiling(lower, upper)


def _ncsnr(array: Floats) -> Floats:
    out = np.empty(array.shape[2])
    step = max(1, _BLOCK // (array.shape[0] * array.shape[1]))
    for start in range(0, array.shape[2], step):
        out[start : start + step] = _ncsnr_of_block(array[:, :, start : start + step])
    return out


def _ncsnr_of_block(values: Floats) -> Floats:
    values = scaled(values)
    present = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        n = np.count_nonzero(present, axis=0)
        n_all = n.sum(axis=0)
        constant = np.fmax.reduce(values, axis=(0, 1)) == np.fmin.reduce(values, axis=(0, 1))
        values -= np.sum(values, axis=(0, 1), where=present) / n_all
        total = np.sum(values * values, axis=(0, 1), where=present) / n_all
        values -= np.sum(values, axis=0, where=present) / n
        squares = np.sum(values * values, axis=0, where=present)
        repeated = n > 1
        noise = np.sum(squares / (n - 1), axis=0, where=repeated) / np.sum(repeated, axis=0)
        # Equal repeats differ from their mean by rounding.
        noise = np.where(noise <= CONSTANT * total, 0, noise)
        ratio = np.sqrt(np.maximum(total - noise, 0) / noise)
    return np.asarray(np.where(constant, np.nan, ratio))


def _check_alike(subjects: MeasuredResponses) -> None:
    if subjects.n_subjects < 2:
        raise ValueError(
            f"{subjects.name} has one subject; a ceiling from other subjects needs 2 or more"
        )
    for k, n_units in enumerate(subjects.n_units):
        if n_units != subjects.n_units[0]:
            raise ValueError(
                f"{subjects.label(k)} has {n_units} units and {subjects.label(0)} {subjects.n_units[0]}; a ceiling"
                " from other subjects needs the same units"
            )
    common_labels(subjects.units)


def _standardised(mean: Floats) -> Floats:
    """Return z-scores over conditions, (conditions, units); NaN for constant units."""
    present = ~np.isnan(mean)
    with np.errstate(invalid="ignore", divide="ignore"):
        n = np.count_nonzero(present, axis=0)
        size = np.sum(mean * mean, axis=0, where=present)
        mean = mean - np.sum(mean, axis=0, where=present) / n
        square = np.sum(mean * mean, axis=0, where=present)
        return np.asarray(mean / np.sqrt(np.where(square > CONSTANT * size, square / n, np.nan)))
