"""Nested cross-validation of RDM models over folds of conditions and of subjects."""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import check_integer, per_condition, warn_caller
from fastrdm.fitting.cross_validated import CrossValidatedRdm
from fastrdm.fitting.folds import CONDITIONS, SUBJECTS, check_seed, read_folds
from fastrdm.fitting.layer_rdms import LEAST_CONDITIONS, LayerRdms
from fastrdm.fitting.rdm_model import RdmModel, fit_sets, held_out_similarities
from fastrdm.similarity import Protocol, SubjectData, Target, held_out_ceilings

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
# A number of folds, or a label for each item.
Folds: TypeAlias = int | ArrayLike | None


def cross_validate(
    model: RdmModel,
    rdms: Any,
    target: Target | ArrayLike,
    condition_folds: Folds = 5,
    subject_folds: "Folds | str" = "each",
    *,
    protocol: str | Protocol | None = None,
    method: str | None = None,
    nan_policy: str | None = None,
    inner_folds: int = 5,
    seed: int = 0,
) -> CrossValidatedRdm:
    """Fit a model on some conditions and subjects, and judge it on others; each fold in turn.

    A model is fitted on pairs of two training conditions in training subjects, and judged on pairs of two held-out
    conditions in held-out subjects. Pairs of a training condition with a held-out one are used by neither, because they
    share conditions with both. What a model has to choose, be it the best layer, weights or a penalty, is chosen inside
    the training part.

    Parameters
    ----------
    model : FixedRdm, SelectedRdm, InterpolatedRdm or WeightedRdm
        The model.
    rdms : array_like or dict
        RDMs of the layers, (layers, pairs) or (layers, n, n), or a dict by name of the layer.
    target : Target or array_like
        The subjects, as in `bootstrap`.
    condition_folds : int or array_like or None
        Number of random folds, or a label for each condition, such as its category. A fold has at least three
        conditions. None: no conditions are held out.
    subject_folds : int or array_like or None or "each"
        Number of random folds, or a label for each subject. By default each subject is a fold. None: no subjects are
        held out.
    protocol, nan_policy : optional
        As in `bootstrap`.
    method : str, optional
        Similarity to fit and judge with, as in `compare`; by default the protocol's.
    inner_folds : int
        Folds of the training conditions by which a model with several settings chooses one.
    seed : int
        Of random folds.

    Returns
    -------
    CrossValidatedRdm
        Held-out similarities by fold and subject, their mean, interval and noise ceiling; beside them, the score on the
        data of the fit.

    Raises
    ------
    ValueError
        If shapes do not fit, an RDM is constant, folds are too small, nothing is held out, or an option is unknown.

    Warns
    -----
    RuntimeWarning
        If in some folds no layer is similar to the training subjects: the similarities of these folds are 0. If
        similarities are NaN, because the held-out RDM of a subject or of the fitted model is constant.

    Notes
    -----
    Products of layers (layers × layers) are computed once for each fold of conditions, and all folds of subjects are
    fitted together, so that thousands of fits take seconds.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> rdms = {"conv1": rng.random(435), "fc": rng.random(435)}
    >>> subjects = rdms["fc"] + rng.random((8, 435))
    >>> result = fastrdm.cross_validate(fastrdm.SelectedRdm(), rdms, subjects)
    >>> result.values.shape, result.weights.shape
    ((5, 8), (5, 8, 2))
    >>> bool(result.score > 0.5)
    True
    """
    check_seed(seed)
    check_integer(inner_folds, "inner_folds", 2)
    given = LayerRdms.read(rdms, target, protocol=protocol, method=method, nan_policy=nan_policy)
    data = given.data
    conditions, subjects = _folds(condition_folds, subject_folds, given, seed)
    # Training subjects of each fold; the others are judged, or all where no subjects are held out.
    training = np.ones((1, data.n_subjects), bool)
    if subjects is not None:
        training = subjects != np.arange(subjects.max() + 1)[:, None]
    judges = np.zeros(data.n_subjects, np.intp) if subjects is None else subjects
    parts = [(given, given)]
    if conditions is not None:
        parts = [
            (
                given.part(np.flatnonzero(conditions != k)),
                given.part(np.flatnonzero(conditions == k)),
            )
            for k in range(conditions.max() + 1)
        ]
    weights, values, bounds = [], [], []
    everyone = np.arange(data.n_subjects)
    ranked = model.mixes and given.is_ordinal
    for held_in, held_out in parts:
        fitted = fit_sets(model, [(held_in, training, 1.0)], inner_folds, seed)
        weights.append(fitted)
        values.append(held_out_similarities(held_out, fitted, ranked)[judges, everyone])
        bounds.append(held_out_ceilings(_unsquared(held_out.data), training))
    _warn(np.stack(weights), np.stack(values), model.kind)
    whole = fit_sets(model, [(given, np.ones((1, data.n_subjects), bool), 1.0)], inner_folds, seed)
    return CrossValidatedRdm(
        kind=model.kind,
        layers=given.layers,
        values=np.stack(values),
        ceilings=np.stack(bounds, axis=1),
        weights=np.stack(weights),
        same_data=float(held_out_similarities(given, whole, ranked).mean()),
        condition_folds=conditions,
        subject_folds=subjects,
        method=data.protocol.method,
        bound=data.protocol.bound,
        seed=int(seed),
    )


def _unsquared(data: SubjectData) -> SubjectData:
    return replace(data, protocol=replace(data.protocol, squared=False))


def _folds(
    condition_folds: Folds, subject_folds: "Folds | str", given: LayerRdms, seed: int
) -> tuple[NDArray[np.intp] | None, NDArray[np.intp] | None]:
    n_conditions, n_subjects = given.data.n_conditions, given.data.n_subjects
    if condition_folds is None and subject_folds is None:
        raise ValueError(
            "condition_folds and subject_folds are both None, so nothing would be held out"
        )
    conditions = subjects = None
    if condition_folds is not None:
        name = "condition_folds"
        least = LEAST_CONDITIONS
        condition_folds = per_condition(condition_folds, name, given.data.labels)
        conditions = read_folds(condition_folds, n_conditions, name, seed, CONDITIONS, least)
    if isinstance(subject_folds, str):
        if subject_folds != "each":
            raise ValueError(
                f"subject_folds {subject_folds!r} is neither a number of folds, labels, 'each' nor None"
            )
        subject_folds = n_subjects
    if subject_folds is not None:
        if n_subjects < 2:
            raise ValueError("one subject cannot be held out; pass subject_folds=None")
        subjects = read_folds(subject_folds, n_subjects, "subject_folds", seed, SUBJECTS, 1)
    return conditions, subjects


def _warn(weights: Floats, values: Floats, kind: str) -> None:
    empty = ~weights.any(axis=-1)
    if empty.any():
        warn_caller(
            f"no layer is similar to the training subjects in {int(empty.sum())} of {empty.size} folds of the"
            f" {kind} model; their held-out similarities are 0"
        )
    if np.isnan(values).any():
        fold, subject = (int(i) for i in np.argwhere(np.isnan(values))[0])
        warn_caller(
            f"{int(np.isnan(values).sum())} held-out similarities are NaN, because an RDM of held-out conditions is"
            f" constant or missing; the first is condition fold {fold}, subject {subject}"
        )
