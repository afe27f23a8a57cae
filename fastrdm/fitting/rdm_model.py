"""The base of RDM models: fits on parts of one study or on several, with settings chosen by inner folds."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import check_integer, per_condition, warn_caller
from fastrdm.fitting.fitted import FittedRdm
from fastrdm.fitting.folds import INNER, check_seed, random_folds
from fastrdm.fitting.layer_rdms import LEAST_CONDITIONS, LayerRdms, is_several, read_indices
from fastrdm.fitting.training import Training, mixed_rdms, sum_of, training_of
from fastrdm.similarity import Protocol, Target

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
# A study's part to fit on, sets of its subjects (sets, subjects), and the noise ceiling of the study.
Part: TypeAlias = tuple[LayerRdms, NDArray[np.bool_], float]


class RdmModel(abc.ABC):
    """A model of RDMs: a rule by which the RDMs of layers become one prediction."""

    kind: ClassVar[str]
    #: Whether RDMs of several layers are summed, which similarities of ranks do with ranks.
    mixes: ClassVar[bool] = False

    @abc.abstractmethod
    def weights(self, training: Training, layers: tuple[str, ...]) -> Floats:
        """Return the weights (sets, layers) of the layers for each set of training subjects."""

    def candidates(self) -> "tuple[RdmModel, ...]":
        """Return the models among which inner folds choose; by default the model alone."""
        return (self,)

    def fit(
        self,
        rdms: Any,
        target: Any,
        conditions: ArrayLike | None = None,
        subjects: ArrayLike | None = None,
        *,
        protocol: str | Protocol | None = None,
        method: str | None = None,
        nan_policy: str | None = None,
        inner_folds: int = 5,
        seed: int = 0,
    ) -> FittedRdm:
        """Fit the model on a study, on some of its conditions and subjects, or on several studies.

        Parameters
        ----------
        rdms : array_like or dict, or list of them
            RDMs of the layers, (layers, pairs) or (layers, n, n), or a dict by name of the layer. With several studies,
            one for each, of the same layers.
        target : Target or array_like, or list of Target
            The subjects, as in `bootstrap`; with several studies, a list of targets.
        conditions, subjects : array_like, optional
            Indices, or masks, of the conditions and subjects of one study to fit on; by default all. Pairs of a chosen
            condition with another one are not used.
        protocol, nan_policy : optional
            As in `bootstrap`. With ``"omit"``, pairs that a layer or all subjects lack are left out of the fit.
        method : str, optional
            Similarity to fit for, as in `compare`; by default the protocol's.
        inner_folds, seed : int
            Folds of the training conditions by which a model with several settings chooses one, and their seed.

        Returns
        -------
        FittedRdm
            The model with its parameters.

        Raises
        ------
        ValueError
            If shapes, layers or labels do not fit, an RDM is constant, indices are out of range, repeated or too few,
            the studies differ in their layers, or an option is unknown.

        Warns
        -----
        RuntimeWarning
            If no layer is similar to the target, so that all weights are 0.
        """
        check_seed(seed)
        check_integer(inner_folds, "inner_folds", 2)
        options: dict[str, Any] = {"protocol": protocol, "method": method, "nan_policy": nan_policy}
        if is_several(target):
            if conditions is not None or subjects is not None:
                raise ValueError("conditions and subjects are for a fit on one study")
            studies = _read_several(rdms, target, options)
        else:
            given = LayerRdms.read(rdms, target, **options)
            conditions = per_condition(conditions, "conditions", given.data.labels)
            some = read_indices(conditions, given.data.n_conditions, "conditions", LEAST_CONDITIONS)
            who = read_indices(subjects, given.data.n_subjects, "subjects", 1)
            studies = [_whole(given.part(some, who), 1.0)]
        first = studies[0][0]
        (weights,) = fit_sets(self, studies, inner_folds, seed)
        if not weights.any():
            warn_caller(
                f"no layer is similar to the target, so all weights of the {self.kind} model are 0"
            )
        ranked = self.mixes and first.is_ordinal
        same = [
            given.data.value(held_out_similarities(given, weights[None], ranked)).mean() / ceiling
            for given, _, ceiling in studies
        ]
        name = first.data.protocol.method
        return FittedRdm(self.kind, first.layers, weights, name, ranked, float(np.mean(same)))


def _whole(given: LayerRdms, ceiling: float) -> Part:
    return given, np.ones((1, given.data.n_subjects), bool), ceiling


def _read_several(rdms: Any, targets: Sequence[Target], options: dict[str, Any]) -> list[Part]:
    if not isinstance(rdms, (list, tuple)) or len(rdms) != len(targets):
        raise ValueError(
            f"target lists {len(targets)} studies, so rdms must list the layers' RDMs of each of them"
        )
    read = [
        LayerRdms.read(one, target, **options) for one, target in zip(rdms, targets, strict=True)
    ]
    for i, given in enumerate(read):
        if given.layers != read[0].layers:
            raise ValueError(
                f"rdms[{i}] and rdms[0] differ in their layers or in the order of these"
            )
        if given.data.protocol != read[0].data.protocol:
            raise ValueError(
                f"target[{i}] and target[0] differ in their protocol; pass protocol= to use one for all"
            )
    return [_whole(given, target.ceiling) for given, target in zip(read, targets, strict=True)]


def fit_sets(model: RdmModel, parts: Sequence[Part], inner_folds: int, seed: int) -> Floats:
    """Return weights (sets, layers) for each set of training subjects, with settings chosen by inner folds."""
    candidates, layers = model.candidates(), parts[0][0].layers
    training = _joint(parts)
    fits = np.stack([each.weights(training, layers) for each in candidates])
    n_sets = len(parts[0][1])
    if len(candidates) == 1:
        return np.asarray(fits[0])
    scores = np.zeros((len(candidates), n_sets))
    for held_in, held_out in _inner_parts(parts, inner_folds, seed):
        inner = _joint(held_in)
        for score, each in zip(scores, candidates, strict=True):
            weights = each.weights(inner, layers)
            for given, sets, _ in held_out:
                found = held_out_similarities(given, weights, each.mixes and given.is_ordinal)
                score += np.nanmean(np.where(sets, found, np.nan), axis=1)
    return np.asarray(fits[scores.argmax(axis=0), np.arange(n_sets)])


def _joint(parts: Sequence[Part]) -> Training:
    each = [training_of(given, sets) for given, sets, _ in parts]
    return each[0] if len(each) == 1 else sum_of(each, [ceiling for *_, ceiling in parts])


def _inner_parts(
    parts: Sequence[Part], inner_folds: int, seed: int
) -> list[tuple[list[Part], list[Part]]]:
    """Return the training and the held-out parts of each inner fold of conditions."""
    least = min(given.data.n_conditions for given, *_ in parts)
    n_folds = min(inner_folds, least // LEAST_CONDITIONS)
    if n_folds < 2:
        raise ValueError(
            f"{least} training conditions are too few to choose a setting by inner folds; at least"
            f" {2 * LEAST_CONDITIONS} are needed"
        )
    folds = [random_folds(n_folds, given.data.n_conditions, seed, INNER) for given, *_ in parts]
    return [
        (
            [_some(part, fold != k) for part, fold in zip(parts, folds, strict=True)],
            [_some(part, fold == k) for part, fold in zip(parts, folds, strict=True)],
        )
        for k in range(n_folds)
    ]


def _some(part: Part, which: NDArray[np.bool_]) -> Part:
    given, sets, ceiling = part
    return given.part(np.flatnonzero(which)), sets, ceiling


def held_out_similarities(given: LayerRdms, weights: Floats, ranked: bool) -> Floats:
    """Return the similarity (sets, subjects) of each set's prediction to each subject.

    A model without a positive weight predicts nothing: its similarities are 0.
    """
    out = np.zeros((len(weights), given.data.n_subjects))
    some = weights.any(axis=1)
    if some.any():
        out[some] = given.data.observed(mixed_rdms(weights[some], given.rdms, ranked=ranked))
    return out
