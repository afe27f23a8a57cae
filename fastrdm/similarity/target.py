"""Subjects of one region, prepared once; model RDMs in, scores out."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import list_names, names_of, warn_caller
from fastrdm.similarity.ceiling import check_ceiling
from fastrdm.similarity.coefficients import Rows
from fastrdm.similarity.comparison import warn_undefined
from fastrdm.similarity.device_sides import models_on_device
from fastrdm.similarity.numerics import Floats, is_large, release
from fastrdm.similarity.protocol import (
    Protocol,
    Score,
    get_protocol,
    score_similarities,
    scores_in_kind,
)
from fastrdm.similarity.response_rdms import rdms_of_responses
from fastrdm.similarity.shapes import as_models, as_subjects, time_labels
from fastrdm.similarity.sides import Side, compare_sides
from fastrdm.similarity.target_state import TargetState
from fastrdm.similarity.time_scores import (
    TimeScore,
    check_over_time,
    check_times,
    score_each_time,
    time_texts,
)
from fastrdm.tensors import check_like


class Target(TargetState):
    """Subject RDMs of one region, prepared for scoring any number of models.

    A target is immutable, so threads may share it. It can be pickled. A target that was loaded from a file is pickled
    as the path of the file, and all processes that open it share the pages of the file.

    Parameters
    ----------
    subject_rdms : array_like
        (subjects, n, n) or (subjects, pairs), or with a time axis second, (subjects, times, n, n) or
        (subjects, times, pairs), or a dict of subjects. Masked values are NaN. Labels of conditions or pairs (of pandas
        and xarray objects) are kept, also in files and pickles; labelled models are matched with them by name.
    protocol : str or Protocol
        How scores are computed: a name in `PROTOCOLS`, or your own protocol.
    ceiling : float, optional
        Noise ceiling in the protocol's unit (a squared correlation if it squares), not in percent. By default the
        protocol's bound, computed from the subjects.
    name : str, optional
        Name of the target in messages and tables.
    nan_policy : str
        ``"raise"``: NaN in a subject or a model is an error. ``"omit"``: a model and a subject are compared, and
        ranked, on the pairs that are NaN in neither; other subjects and models have no influence. ``"propagate"``:
        similarities to a subject or of a model with NaN are NaN, and so are the means over these subjects. The
        computed ceiling follows the same policy, see `noise_ceiling`. Under ``"omit"``, the score of a model that lacks
        pairs that subjects have is divided by the ceiling over the model's pairs. If the ceiling was passed, which
        holds for all pairs, the percentage of such a model is NaN.
    over_time : {"mean", "each"}
        Whether `score` averages similarities over time points within a subject, or scores each time point, unless it is
        called with another `over_time`. With ``"each"``, a passed ceiling is that of every time point, and a computed
        one that of each time point by itself, also with a protocol whose ceiling is of RDMs averaged over time; the
        percentage is NaN where it is not positive. With ``"mean"``, a passed ceiling is that of averaged scores, and
        those of time points are computed.
    times : array_like, optional
        Times of the time axis in any unit, increasing. By default the labels of this axis (of pandas and xarray
        objects), or else 0, 1, ....

    Raises
    ------
    AttributeError
        If an attribute is set afterwards.
    ValueError
        If the shape is none of those above, an entry is infinite, or NaN under ``"raise"``, an RDM is asymmetric or has
        no similarity to anything (constant, or with ``"omit"`` without a pair), labels of rows and columns or of
        subjects differ, the ceiling is not positive or above 1, there is one subject and no ceiling, or the policy is
        unknown.

    Warns
    -----
    RuntimeWarning
        If square matrices look like similarities: the largest entry of each row is on the diagonal.

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
        over_time: str = "mean",
        times: ArrayLike | None = None,
    ) -> None:
        label = f"subject_rdms of {name}" if name else "subject_rdms"
        given = as_subjects(subject_rdms, label, nan_policy=nan_policy)
        labels = given.labels and replace(given.labels, name=name or "the target")
        chosen = get_protocol(protocol)
        check_over_time(over_time)
        if times is None:
            own = time_labels(subject_rdms, given, label, must_fit=over_time == "each")
        else:
            own = check_times(times, given.rdms.shape[1], label)
        if ceiling is not None:
            check_ceiling(ceiling, name or "the target", chosen)
        # Large RDMs are copied last, when the memory of all else is free again.
        copied_last = is_large(given.rdms) or given.is_own
        self._set(
            given.rdms.view() if copied_last else given.rdms.copy(),
            protocol=chosen,
            is_computed=ceiling is None,
            name=name,
            nan_policy=nan_policy,
            tie_bound=given.tie_bound,
            labels=labels,
            over_time=over_time,
            times=own,
        )
        if ceiling is None and self.n_subjects < 2:
            raise ValueError(
                f"{label} holds one subject, so no ceiling can be computed; set ceiling"
            )
        self._check_subjects(label, given.shape)
        if ceiling is None:
            ceiling = self._mean_ceiling()
        self.__dict__.update(ceiling=float(ceiling))
        self._prepare()
        if copied_last and not given.is_own:
            self._keep(_copy(given.rdms))

    def __repr__(self) -> str:
        times = f", {self.n_times} times" if self.n_times > 1 else ""
        ceiling = f"ceiling {self.ceiling:.4f}"
        if self.over_time == "each":
            low, high = np.fmin.reduce(self.ceilings), np.fmax.reduce(self.ceilings)
            ceiling = f"ceilings of each time {low:.4f} to {high:.4f}"
        return (
            f"Target({self.name or 'unnamed'}: {self.n_subjects} subjects{times}, {self.n_conditions} conditions,"
            f" {self.protocol.name}, {ceiling})"
        )

    @overload
    def score(
        self,
        rdms: ArrayLike,
        *,
        over_time: Literal["each"],
        like: Any = None,
        n_threads: int | None = None,
    ) -> TimeScore: ...

    @overload
    def score(
        self,
        rdms: ArrayLike,
        *,
        over_time: str | None = None,
        like: Any = None,
        n_threads: int | None = None,
    ) -> Score: ...

    def score(
        self,
        rdms: ArrayLike,
        *,
        over_time: str | None = None,
        like: Any = None,
        n_threads: int | None = None,
    ) -> Score:
        """Score model RDMs.

        Parameters
        ----------
        rdms : array_like
            One model, (pairs,) or (n, n), or several, (models, pairs) or (models, n, n), over the target's conditions
            in the target's order, or with labels by which they are brought into it, or a dict of models, taken in its
            order. Masked values are NaN. Arrays of any size,
            also of float32, are read in blocks, without a copy. Condensed RDMs on a device are compared there as by
            `compare`, if no subject lacks pairs; the device keeps the prepared subjects.
        over_time : {"mean", "each"}, optional
            Whether similarities are averaged over time points within a subject, or each time point has its own score;
            by default as the target says.
        like : array, optional
            An array of the kind that the arrays of the result are to be, as for `calc_rdm`.
        n_threads : int, optional
            Number of threads; by default the number of processors available to the process.

        Returns
        -------
        Score
            Arrays with a leading axis of models; NaN for constant RDMs. Neither the number of threads nor the other
            models change a bit. With ``over_time="each"`` a `TimeScore`, with an axis of time points after that of
            models.

        Raises
        ------
        ValueError
            If a shape does not fit the target, an entry is infinite, or NaN under ``nan_policy="raise"`` (the message
            names the first), an RDM is asymmetric, or labels of conditions or pairs are not the target's (the message
            names those that are missing), or occur more than once in another order.

        Warns
        -----
        RuntimeWarning
            One, naming the constant (zero) models that make similarities NaN. With ``nan_policy="omit"`` another,
            naming the models whose `percent_nc` is NaN because they lack pairs, and the ceiling was given, which holds
            for all pairs, or is not positive over their pairs. One, naming the time points at which `percent_nc` is
            NaN because the subjects do not agree. One if labelled conditions were brought into the target's order. One
            if square matrices look like similarities: the
            largest entry of each row is on the diagonal.
        """
        over_time = over_time or self.over_time
        check_over_time(over_time)
        check_like(like)
        if over_time == "mean" and self.over_time == "each" and math.isnan(self.ceiling):
            self._ceiling.bound(self.noise_ceiling, self._label)
        rho = models_on_device(self._side, rdms)
        # RDMs on a device lack no pairs.
        models = np.empty((0 if rho is None else len(rho), 0))
        if rho is None:
            models = as_models(rdms, self.n_pairs, self._label, self.labels)
            side = Side(
                self._side.method,
                models,
                self.nan_policy,
                "rdms",
                axes=("model",),
                n_threads=n_threads,
            )
            rho, undefined = compare_sides(side, self._side)
            if undefined.any():
                warn_undefined(undefined, side, self._side)
        similarities = rho.reshape(len(models), self.n_subjects, self.n_times)
        if over_time == "each":
            return scores_in_kind(self._score_each(similarities, models, names_of(rdms)), like)
        score = score_similarities(
            similarities,
            squared=self.protocol.squared,
            ceiling=self._ceiling.of_models(models, self.ceiling, self.is_computed),
        )
        if not math.isnan(self.ceiling):
            unknown = np.isnan(score.ceiling) & ~np.isnan(score.value)
            if unknown.any():
                self._ceiling.warn_unknown(unknown, self._label, self.is_computed)
        return scores_in_kind(score, like)

    def _score_each(
        self, similarities: Floats, models: Rows, names: Sequence[str] | None
    ) -> TimeScore:
        """Return scores of similarities (models, subjects, times)."""
        times = np.arange(self.n_times, dtype=np.float64) if self.times is None else self.times
        bounds = np.full((2, self.n_times), np.nan)
        if self.n_subjects > 1:
            bounds[:] = self.noise_ceilings.lower, self.noise_ceilings.upper
        score = score_each_time(
            similarities,
            squared=self.protocol.squared,
            ceiling=self._ceiling.of_models(models, self.ceilings, self._is_each_computed),
            times=times,
            lower=bounds[0],
            upper=bounds[1],
            names=tuple(names or map(str, range(len(models)))),
        )
        unknown = np.isnan(score.ceiling) & ~np.isnan(score.value)
        everywhere = np.isnan(self.ceilings)
        some = np.asarray((unknown & ~everywhere).any(axis=1))
        if some.any():
            self._ceiling.warn_unknown(some, self._label, self._is_each_computed)
        if (at := np.flatnonzero((unknown & everywhere).any(axis=0))).size:
            which = list_names([time_texts(times)[i] for i in at], 5)
            reason = f"the {self.protocol.bound} noise ceiling is not positive there, because the subjects do not agree"
            if self.n_subjects < 2:
                reason = "there is one subject, and the given ceiling is that of scores averaged over time"
            warn_caller(f"percent_nc of {self._label} is NaN at times {which}: {reason}")
        return score

    @classmethod
    def from_responses(
        cls,
        responses: Any,
        method: str = "correlation",
        protocol: str | Protocol = "algonauts2019",
        ceiling: float | None = None,
        name: str | None = None,
        *,
        sessions: Any = None,
        zscore: bool | None = None,
        folds: Any = None,
        residuals: Any = None,
        estimator: str | None = None,
        nan_policy: str = "raise",
        n_threads: int | None = None,
    ) -> Self:
        """Make a target of measured responses: an RDM of each subject.

        RDMs are those of the means over repeats; ``crossnobis`` compares the repeats with each other. Units may differ
        between subjects. Units without any response of a subject are left out.

        Parameters
        ----------
        responses : array_like, list, tuple or dict
            (subjects, conditions, units) or (subjects, repeats, conditions, units), or a list or dict of subjects,
            (conditions, units) or (repeats, conditions, units); NaN where a repeat is lacking. Labels of conditions (of
            pandas and xarray objects) are those of the target.
        method : str
            Any method of `calc_rdm`.
        protocol, ceiling, name, nan_policy
            As for `Target`. The RDM of a subject that lacks conditions has NaN for their pairs, an error under
            ``"raise"``.
        sessions : array_like, or a list or dict of these for each subject, optional
            The session of each repeat, (repeats,), or of each measurement, (repeats, conditions).
        zscore : bool, optional
            Whether each unit is z-scored within each session first, or without `sessions`, over all measurements of the
            subject. By default if `sessions` is passed.
        folds : {"repeats", "sessions"}, array_like, or a list or dict of these for each subject, optional
            For ``crossnobis``: what is compared. By default each repeat is a fold; ``"sessions"`` are those that are
            passed; or the fold of each repeat, (repeats,), or measurement, (repeats, conditions). Conditions may lack
            folds: two are compared over the pairs of folds that both have.
        residuals : "repeats", array_like, or a list or dict of these for each subject, optional
            For ``mahalanobis`` and ``crossnobis``: samples of the noise, (observations, units), in the units of the
            responses (z-scored if these are). ``"repeats"`` takes the deviations of repeats from the mean of their
            condition, with the degrees of freedom of their covariance: repeats minus conditions.
        estimator : str, optional
            Estimator of the covariance of residuals, as in `calc_rdm`.
        n_threads : int, optional
            Number of threads; by default the number of processors available to the process.

        Returns
        -------
        Target

        Raises
        ------
        ValueError
            If the responses are in none of these forms, have one condition, or units that lack measurements that other
            units have; or for the reasons of `calc_rdm` and `Target`. Messages name the subject.

        Warns
        -----
        RuntimeWarning
            If units are constant in a session, or conditions have no RDM, as in `calc_rdm`.

        References
        ----------
        Walther et al. (2016), Reliability of dissimilarity measures for multi-voxel pattern analysis, NeuroImage 137.

        Examples
        --------
        >>> import numpy as np, fastrdm
        >>> rng = np.random.default_rng(0)
        >>> responses = rng.normal(size=(1, 1, 12, 50)) + rng.normal(size=(3, 4, 12, 50))
        >>> fastrdm.Target.from_responses(responses, "crossnobis", "rsatoolbox", name="V4")
        Target(V4: 3 subjects, 12 conditions, rsatoolbox, ceiling 0.5647)
        """
        rdms, given = rdms_of_responses(
            responses,
            method,
            sessions=sessions,
            zscore=zscore,
            folds=folds,
            residuals=residuals,
            estimator=estimator,
            nan_policy=nan_policy,
            n_threads=n_threads,
        )
        target = cls(rdms, protocol, ceiling, name, nan_policy=nan_policy)
        labels = given.conditions and replace(given.conditions, name=name or "the target")
        target.__dict__.update(labels=labels)
        return target


def _copy(rdms: Rows) -> Rows:
    """Copy RDMs (subjects, times, pairs) one by one, and release pages of a mapped file."""
    out = np.empty_like(rdms, subok=False)
    for row, to in zip(rdms, out, strict=True):
        to[:] = row
        release(rdms)
    return out
