"""The result of a cross-validation: held-out values, their mean and interval, and the noise ceiling."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_choice, check_fraction, counted, list_names

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class CrossValidatedRdm:
    """Held-out scores of an RDM model.

    Attributes
    ----------
    kind : str
        The model, as in `FittedRdm`.
    layers : tuple of str
        Names of the layers.
    values : ndarray, shape (condition folds, subjects)
        Similarity of the prediction for the held-out conditions to each subject, by a model that was fitted without the
        subject's fold. It is never squared, also if the protocol squares: squares of few held-out pairs are biased
        upwards, by about 1 / pairs, and hide predictions that are opposite to the brain.
    ceilings : ndarray, shape (2, condition folds, subjects)
        Lower and upper bounds of these values: the similarity of the pooled RDM of the training subjects, or of all, on
        the held-out conditions. NaN for one subject.
    weights : ndarray, shape (condition folds, subject folds, layers)
        Of each fit, as in `FittedRdm`.
    same_data : float
        Mean similarity of the model that is fitted on all data, on the same data: biased upwards, for comparison.
    condition_folds, subject_folds : ndarray or None
        The fold of each condition and subject; None if none were held out.
    method, bound, seed
        Similarity, the protocol's bound, and the seed of random folds.
    """

    kind: str
    layers: tuple[str, ...]
    values: Floats
    ceilings: Floats
    weights: Floats
    same_data: float
    condition_folds: Indices | None
    subject_folds: Indices | None
    method: str
    bound: str
    seed: int

    @property
    def score(self) -> float:
        """Mean held-out similarity over folds and subjects."""
        return float(self.values.mean())

    @property
    def per_fold(self) -> Floats:
        """Mean held-out similarity (condition folds, subject folds) of each fit."""
        if self.subject_folds is None:
            return np.asarray(self.values.mean(axis=1, keepdims=True))
        groups = [self.subject_folds == k for k in range(self.weights.shape[1])]
        return np.stack([self.values[:, group].mean(axis=1) for group in groups], axis=1)

    @property
    def noise_ceiling(self) -> tuple[float, float]:
        """Means of the lower and the upper bound."""
        low, high = self.ceilings.mean(axis=(1, 2)).tolist()
        return low, high

    @property
    def percent_nc(self) -> float:
        """The score in percent of the protocol's bound; NaN if the bound is not positive."""
        bound = self.noise_ceiling[("lower", "upper").index(self.bound)]
        return 100 * self.score / bound if bound > 0 else float("nan")

    @property
    def chosen(self) -> dict[str, int]:
        """How many fits gave each layer the largest weight; layers that none did are left out."""
        fits = self.weights.reshape(-1, len(self.layers))
        counts = np.bincount(fits[fits.any(axis=1)].argmax(axis=1), minlength=len(self.layers))
        order = np.argsort(-counts, kind="stable")
        return {self.layers[i]: int(counts[i]) for i in order if counts[i]}

    def interval(self, level: float = 0.95, over: str | None = None) -> tuple[float, float]:
        r"""Return a confidence interval of the score by Student's t.

        Parameters
        ----------
        level : float
            Probability with which the interval holds the expected held-out score.
        over : {"both", "subjects", "conditions"}, optional
            What the score is generalised to. By default both, or what was divided into folds.

        Returns
        -------
        tuple of float
            Lower and upper end; NaN if a value is NaN.

        Raises
        ------
        ValueError
            If there is one subject or one fold of conditions to generalise from.

        Notes
        -----
        Held-out pairs of two folds share no condition: the rows of `values` are samples of conditions, the columns
        samples of subjects. The variance of the mean of k folds × s subjects is that of a crossed random design,
        :math:`(M_k + M_s - M_{ks}) / (k s)` of the mean squares of folds, subjects and their interaction, at
        least :math:`\max(M_k, M_s) / (k s)`; the degrees of freedom are Satterthwaite's (1946). Over one factor it is
        the variance of means over the other. Fits of different folds share training data, which the interval does not
        count; see the simulations in docs/fitting.md.
        """
        check_fraction(level, "level")
        n_folds, n_subjects = self.values.shape
        if over is None:
            over = "both"
            if self.condition_folds is None:
                over = "subjects"
            elif n_subjects == 1:
                over = "conditions"
        check_choice(over, ("both", "subjects", "conditions"), "over")
        for name, n in (("subjects", n_subjects), ("conditions", n_folds)):
            if over in (name, "both") and n < 2:
                what = "subject" if name == "subjects" else "fold of conditions"
                raise ValueError(
                    f"an interval over {over} needs at least two, and there is one {what}"
                )
        variance, dof = _variance(self.values, over)
        from scipy.special import stdtrit

        half = float(np.sqrt(variance) * stdtrit(dof, (1 + level) / 2))
        return self.score - half, self.score + half

    def __str__(self) -> str:
        folds = (
            counted(len(self.values), "fold") if self.condition_folds is not None else "no folds"
        )
        groups = "no folds"
        if self.subject_folds is not None:
            groups = counted(self.weights.shape[1], "fold")
        low, high = self.noise_ceiling
        lines = [
            f"{self.kind} RDM, {self.method}: {self.score:.4f} held out{self._interval_text()}, noise ceiling"
            f" {low:.4f} to {high:.4f}; {folds} of conditions, {groups} of subjects, seed {self.seed}",
            f"on the data of the fit: {self.same_data:.4f}, biased upwards",
        ]
        fits = self.weights.shape[0] * self.weights.shape[1]
        most = [f"{layer} {n}" for layer, n in self.chosen.items()]
        lines.append(f"largest weight in {fits} fits: {list_names(most, 6) or 'none'}")
        return "\n".join(lines)

    def _interval_text(self) -> str:
        try:
            low, high = self.interval()
        except ValueError:
            return ""
        return f" [{low:.4f}, {high:.4f}]"


def _variance(values: Floats, over: str) -> tuple[float, float]:
    """Return the variance of the mean of values (folds, subjects), and its degrees of freedom."""
    k, s = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    if over != "both":
        means = columns if over == "subjects" else rows
        return float(means.var(ddof=1) / len(means)), len(means) - 1
    rest = values - rows[:, None] - columns + values.mean()
    m_rows, m_columns = s * rows.var(ddof=1), k * columns.var(ddof=1)
    m_rest = (rest**2).sum() / ((k - 1) * (s - 1))
    total = max(m_rows + m_columns - m_rest, m_rows, m_columns)
    terms = m_rows**2 / (k - 1) + m_columns**2 / (s - 1) + m_rest**2 / ((k - 1) * (s - 1))
    if total in (m_rows, m_columns):
        terms = total**2 / (k - 1 if total == m_rows else s - 1)
    dof = total**2 / terms if terms > 0 else k + s - 2
    return float(total / (k * s)), float(dof)
