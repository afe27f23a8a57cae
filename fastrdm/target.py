"""One region's subjects, standardised once; model RDMs in, scores out."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm.ceiling import Floats, NoiseCeiling, as_subjects, ceiling_of
from fastrdm.compare import Side, check_values, get_method
from fastrdm.forms import as_floats, condense, n_conditions
from fastrdm.protocol import Protocol, get_protocol


@dataclass(frozen=True)
class Score:
    """Scores of models against one target.

    Attributes
    ----------
    rho : ndarray, shape (n_models, n_subjects)
        Similarity to each subject, averaged over time points where there are several.
    r2 : ndarray, shape (n_models,)
        Mean over subjects of `rho` squared.
    value : ndarray, shape (n_models,)
        What the protocol reports: `r2`, or the mean of `rho` where it does not square.
    std, sample_std : ndarray, shape (n_models,)
        Standard deviation over subjects of the protocol's per-subject values (`rho` squared or `rho`): of the subjects
        as a population (divided by their number), and as a sample (by one less; NaN for one subject).
    p : ndarray, shape (n_models,)
        Two-sided one-sample t-test of those values against 0, as `scipy.stats.ttest_1samp`; NaN for one subject.
        This is the challenge's own test. Squares are never negative, so for a squaring protocol it says little.
    percent_nc : ndarray, shape (n_models,)
        100 × `value` / ceiling.
    """

    rho: Floats
    r2: Floats
    value: Floats
    std: Floats
    sample_std: Floats
    p: Floats
    percent_nc: Floats


class Target:
    """Subject RDMs of one region, prepared for scoring any number of models.

    Parameters
    ----------
    subject_rdms : array_like
        (subjects, n, n) or (subjects, pairs), or with a time axis second, (subjects, times, n, n) or
        (subjects, times, pairs).
    protocol : str or Protocol
        How scores are made: a name in `PROTOCOLS`, or a protocol of one's own.
    ceiling : float, optional
        Noise ceiling in the protocol's unit (a squared correlation where it squares). By default the protocol's bound,
        computed from the subjects.
    name : str, optional
        What messages and tables call the target.
    nan_policy : str
        ``"raise"``: NaN in a subject or a model is an error. ``"omit"``: a model and a subject are compared on the
        pairs that neither has as NaN, ranked anew among those; other subjects and models do not matter.
        ``"propagate"``: similarities to a subject or of a model with NaN are NaN, and so are the means over subjects
        that they enter. The computed ceiling follows the same policy, as `noise_ceiling` says.

    Raises
    ------
    ValueError
        If the shape is none of those above, an entry is infinite, or NaN under ``"raise"``, an RDM is asymmetric, has
        no similarity to anything (constant, or with ``"omit"`` without a pair), the ceiling is not positive, there is
        one subject and no ceiling is given, or the policy is unknown.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> target = fastrdm.Target(rng.random((15, 4005)))
    >>> score = target.score(rng.random((3, 4005)))
    >>> score.r2.shape, score.rho.shape
    ((3,), (3, 15))
    """

    def __init__(
        self,
        subject_rdms: ArrayLike,
        protocol: str | Protocol = "algonauts2019",
        ceiling: float | None = None,
        name: str | None = None,
        *,
        nan_policy: str = "raise",
    ) -> None:
        self.protocol = get_protocol(protocol)
        self.name = name
        self.nan_policy = nan_policy
        label = f"subject_rdms of {name}" if name else "subject_rdms"
        self._subjects = as_subjects(subject_rdms, label, nan_policy=nan_policy).copy()
        self._subjects.flags.writeable = False
        if ceiling is not None and not (np.isfinite(ceiling) and ceiling > 0):
            raise ValueError(
                f"the ceiling of {name or 'the target'} must be a positive number, got {ceiling}"
            )
        if ceiling is None and self.n_subjects < 2:
            raise ValueError(
                f"{label} holds one subject, so no ceiling can be computed; pass ceiling="
            )
        self._method = get_method(self.protocol.method)
        self._side = Side(self._method, self._subjects.reshape(-1, self.n_pairs), nan_policy)
        self._check_subjects(label, np.shape(subject_rdms))
        self.ceiling = float(ceiling) if ceiling is not None else self._computed_ceiling()

    def _check_subjects(self, label: str, shape: tuple[int, ...]) -> None:
        def refuse(members: NDArray[np.intp], what: str) -> None:
            if len(members):
                subject, time = divmod(int(members[0]), self.n_times)
                raise ValueError(
                    f"{label} with shape {shape} is {what} for subject {subject}, time {time}"
                )

        if self.nan_policy == "omit":
            empty = np.isnan(self._subjects).all(axis=2)
            refuse(np.flatnonzero(empty), "NaN throughout")
        for group in self._side.groups:
            itself = self._method.rowwise(group.rows, group.rows, None)
            refuse(group.members[~(itself > 0)], "constant")

    def _computed_ceiling(self) -> float:
        ceiling: float = getattr(self.noise_ceiling, self.protocol.bound)
        unknown = self.nan_policy == "propagate" and bool(np.isnan(self._subjects).any())
        if not (ceiling > 0 or unknown):
            raise ValueError(
                f"the {self.protocol.bound} noise ceiling of {self.name or 'the target'} is {ceiling:.4g}: its subjects"
                " do not agree, so nothing can be expressed as a share of it; pass ceiling="
            )
        return ceiling

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self._subjects)

    @property
    def n_times(self) -> int:
        """Number of time points, 1 without a time axis."""
        return int(self._subjects.shape[1])

    @property
    def n_pairs(self) -> int:
        """Length of a condensed RDM."""
        return int(self._subjects.shape[2])

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return n_conditions(self.n_pairs)

    @functools.cached_property
    def noise_ceiling(self) -> NoiseCeiling:
        """Both bounds computed from the subjects, by the protocol's rule."""
        p = self.protocol
        return ceiling_of(
            self._subjects, p.method, pool=p.pool, squared=p.squared, nan_policy=self.nan_policy
        )

    def __repr__(self) -> str:
        times = f", {self.n_times} times" if self.n_times > 1 else ""
        return (
            f"Target({self.name or 'unnamed'}: {self.n_subjects} subjects{times}, {self.n_conditions} conditions,"
            f" {self.protocol.name}, ceiling {self.ceiling:.4f})"
        )

    def score(self, rdms: ArrayLike, *, n_threads: int | None = None) -> Score:
        """Score model RDMs.

        Parameters
        ----------
        rdms : array_like
            One model, (pairs,) or (n, n), or several, (models, pairs) or (models, n, n), over the target's conditions
            in the target's order.
        n_threads : int, optional
            Threads to use; the processors of this process by default.

        Returns
        -------
        Score
            Arrays with a leading axis of models. Those of a constant RDM are NaN.

        Raises
        ------
        ValueError
            If a shape does not fit the target, an entry is infinite, or NaN under ``nan_policy="raise"`` (the message
            says where), or an RDM is asymmetric.
        """
        models = self._as_models(rdms)
        side = Side(self._method, models, self.nan_policy, n_threads)
        rho = self._method.similarity(side, self._side, n_threads)
        rho = rho.reshape(len(models), self.n_subjects, self.n_times).mean(axis=2)
        values = rho**2 if self.protocol.squared else rho
        value = values.mean(axis=1)
        sample_std = (
            values.std(axis=1, ddof=1) if self.n_subjects > 1 else np.full(len(models), np.nan)
        )
        return Score(
            rho=rho,
            r2=(rho**2).mean(axis=1),
            value=value,
            std=values.std(axis=1),
            sample_std=sample_std,
            p=_t_test(value, sample_std, self.n_subjects),
            percent_nc=100 * value / self.ceiling,
        )

    def _as_models(self, rdms: ArrayLike) -> Floats:
        array = as_floats(rdms, "rdms")
        n, pairs = self.n_conditions, self.n_pairs
        if array.ndim >= 2 and array.shape[-2:] == (n, n) and n == pairs and array.ndim == 2:
            raise ValueError(
                f"rdms with shape {array.shape} may be one square RDM or {n} condensed ones; pass 3 axes"
            )
        if array.shape[-2:] == (n, n) and array.ndim in (2, 3):
            array = condense(array, "rdms")
        elif array.ndim not in (1, 2) or array.shape[-1] != pairs:
            raise ValueError(
                f"rdms has shape {array.shape}; the target {self.name or ''} has {n} conditions, so expected"
                f" ({n}, {n}), ({pairs},), (models, {n}, {n}) or (models, {pairs})".replace(
                    "  ", " "
                )
            )
        if array.ndim == 1:
            array = array[None]
        check_values(array, "rdms", ("model", "pair"), self.nan_policy)
        return np.ascontiguousarray(array, np.float64)


def _t_test(mean: Floats, sample_std: Floats, n: int) -> Floats:
    """Two-sided p of the one-sample t-test against 0."""
    # Imported here: it takes longer than the rest of the package.
    from scipy.special import stdtr

    with np.errstate(invalid="ignore", divide="ignore"):
        t = mean / (sample_std / np.sqrt(n))
    p: NDArray[np.float64] = 2 * stdtr(n - 1, -np.abs(t))
    return p
