"""Responses of units, prepared once; Gram matrices of layers in, scores of held-out predictions out."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import Labels, as_array, check_choice, list_names, per_condition, warn_caller
from fastrdm.encoding.ceilings import UnitCeilings
from fastrdm.encoding.decomposition import Floats
from fastrdm.encoding.folds import folds_of
from fastrdm.encoding.held_out import (
    SameConditions,
    permuted_medians,
    same_conditions,
    score_layer,
)
from fastrdm.encoding.layers import ScoringPlan, matched_layers, named_grams, plan_of
from fastrdm.encoding.regressions import check_options
from fastrdm.encoding.scores import ResponseScore, result_of, undefined_text
from fastrdm.rdm import Gram
from fastrdm.responses import MeasuredResponses, measured

NAN_POLICIES = ("raise", "omit")


class Responses:
    """Responses of subjects' units to the same conditions, prepared for scoring any number of layers.

    Responses are immutable, so threads may share them, and can be pickled. Arrays are not copied: do not change them
    while they are in use.

    Parameters
    ----------
    responses : array_like, list or dict
        (subjects, conditions, units), or (subjects, repeats, conditions, units) with NaN where a repeat is lacking; a
        list or dict of subjects, each (conditions, units) or (repeats, conditions, units), whose units and repeats may
        differ; (conditions, units) for one subject. Masked values are NaN. Models are fitted to the mean over the
        repeats that each condition has. Labels of conditions (of pandas and xarray objects) are kept; labelled Gram
        matrices must have the same labels.
    name : str, optional
        Name of the responses in messages and tables.
    nan_policy : {"raise", "omit"}
        What is done with a unit that lacks all repeats of a condition. ``"raise"``: it is an error. ``"omit"``: the
        unit is fitted and judged on the conditions that it has, and has no influence on other units.

    Attributes
    ----------
    labels : Labels or None
        Of the conditions.
    subjects : tuple of str
        Names of the subjects, by default their numbers.

    Raises
    ------
    AttributeError
        If an attribute is set afterwards.
    ValueError
        If a shape is none of those above or empty, subjects differ in the number or the labels of their conditions, a
        value is infinite, a condition is NaN in all repeats under ``"raise"``, or the policy is unknown.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> layer = rng.standard_normal((60, 200))
    >>> voxels = layer @ rng.standard_normal((200, 30)) / 14 + rng.standard_normal((4, 3, 60, 30))
    >>> responses = fastrdm.Responses(voxels, name="V4")
    >>> score = responses.score({"conv": fastrdm.gram(layer)}, folds=5)
    >>> score.r.shape, score.r_folds.shape
    ((1, 4, 30), (1, 4, 5, 30))
    """

    name: str | None
    nan_policy: str
    labels: Labels | None
    subjects: tuple[str, ...]
    _measured: MeasuredResponses
    _ceilings: UnitCeilings
    _means: tuple[NDArray[Any], ...]
    _groups: tuple[SameConditions, ...]

    def __init__(
        self, responses: Any, *, name: str | None = None, nan_policy: str = "raise"
    ) -> None:
        check_choice(nan_policy, NAN_POLICIES, "nan_policy")
        given = measured(responses, f"responses of {name}" if name else "responses")
        means = tuple(given.means())
        groups = tuple(same_conditions(means))
        if nan_policy == "raise":
            _check_complete(given, groups)
        self.__dict__.update(
            name=name,
            nan_policy=nan_policy,
            labels=given.conditions,
            subjects=given.names or tuple(map(str, range(given.n_subjects))),
            _measured=given,
            _ceilings=UnitCeilings(given),
            _means=means,
            _groups=groups,
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Responses cannot be changed, so {name} cannot be set; make others")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(
            f"Responses cannot be changed, so {name} cannot be deleted; make others"
        )

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return self._measured.n_subjects

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return self._measured.n_conditions

    @property
    def n_units(self) -> tuple[int, ...]:
        """Number of units of each subject."""
        return self._measured.n_units

    @property
    def n_repeats(self) -> tuple[int, ...]:
        """Number of repeats of each subject; single conditions may have fewer."""
        return self._measured.n_repeats

    @property
    def means(self) -> tuple[NDArray[Any], ...]:
        """Means over repeats of each subject, (conditions, units), read-only; NaN where there is no repeat."""
        return self._means

    @property
    def reliability(self) -> Floats | list[Floats]:
        """Reliability of each unit's mean over repeats, (subjects, units), or a list over subjects if units differ.

        From 100 random halves of the repeats, as `split_half_reliability`; ValueError if there is one repeat only.
        """
        return self._ceilings.reliability

    @property
    def ceiling(self) -> Floats | list[Floats]:
        """The r that a perfect model is expected to reach, √reliability; NaN where the reliability is not positive."""
        return self._ceilings.ceiling

    def __repr__(self) -> str:
        return f"Responses({self.name or 'unnamed'}: {self._measured!r})"

    def score(
        self,
        grams: Gram | Mapping[str, Gram] | list[Gram] | tuple[Gram, ...],
        method: str = "ridge",
        *,
        folds: int | ArrayLike = 5,
        alphas: ArrayLike | None = None,
        n_components: int | None = None,
        weights: int | ArrayLike | None = None,
        seed: int | None = 0,
        groups: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        keep_predictions: bool = False,
    ) -> ResponseScore:
        """Predict the responses to held-out conditions from each layer.

        In each fold, a regression of each subject's responses on the layer's activations, with an intercept, is fitted
        to the other folds' conditions, and predicts the held-out ones. Only the products of the conditions are needed,
        and those of a fold are decomposed once for all penalties, units and subjects.

        Parameters
        ----------
        grams : Gram, list of Gram or dict of Gram
            Layers, over the same conditions in the same order.
        method : {"ridge", "pls", "banded", "stacked"}
            ``"ridge"``: the values of scikit-learn's ``RidgeCV(alphas, alpha_per_target=True)`` on the activations: the
            penalty of each unit is that of the least squared leave-one-out error within the training conditions.
            ``"pls"``: the values of ``PLSRegression(n_components, scale=False)`` for all units of a subject together.
            The other two make one model of all layers. ``"banded"``: ridge regression with a penalty for each layer:
            on a sum of Gram matrices, each divided by its mean eigenvalue and multiplied by a weight; the weights and
            the penalty of each unit are those of the least leave-one-out error. ``"stacked"``: the non-negative
            combination of the layers' ridge predictions that comes nearest to the responses in the leave-one-out
            predictions of the training conditions.
        folds : int or array_like, shape (conditions,)
            Number of folds, or the label of each condition's fold; conditions labelled -1 are always for training.
        alphas : array_like, shape (penalties,), optional
            Ridge penalties. By default ten from 1e-5 to 1e4 times the mean eigenvalue of the layer's centred Gram
            matrix, so that layers of different size and scale are treated alike. Under ``"banded"``, relative to the
            weighted sum, whose layers have the mean eigenvalue 1.
        n_components : int, optional
            Number of components of PLS; by default 25, or the most that the training conditions and channels allow. If
            a fold's activations or responses are exhausted before, the predictions are those of the last component.
        weights : int or array_like, shape (candidates, layers), optional
            Weights of layers that ``"banded"`` tries, or the number of random ones (20 by default), uniform on the
            simplex, beside each layer alone and all layers alike.
        seed : int or None
            Of random weights, and of the folds: those of scikit-learn's ``KFold(folds, shuffle=True,
            random_state=seed)``; None divides the conditions in their order.
        groups, strata : array_like, shape (conditions,), optional
            Labels. No group is divided between folds; each stratum is spread over the folds evenly.
        keep_predictions : bool
            Whether to keep the predictions, which take as much memory as the responses for each layer.

        Returns
        -------
        ResponseScore

        Raises
        ------
        ValueError
            If the number of conditions or their labels differ from those of the responses, a fold leaves fewer than two
            conditions for training, a penalty is not positive, there are more components than training conditions or
            channels allow, or an option is unknown. Under ``"pls"``, if the units of a subject differ in the
            conditions that they have.

        Warns
        -----
        RuntimeWarning
            One, naming the units whose r is NaN because their responses are constant, and the layers that are.

        Notes
        -----
        Besides the responses and the Gram matrices, memory is needed for about eight matrices of the size of a fold's
        training conditions squared (or conditions × channels, if there are fewer channels), 100 MB of blocks, and the
        result. For 10,000 conditions these are 4 GiB with a Gram matrix, and 300 MB with 500 channels.

        References
        ----------
        Rifkin & Lippert (2007), Notes on regularized least squares, MIT-CSAIL-TR-2007-025. Rosipal & Trejo (2001),
        Kernel partial least squares regression in reproducing kernel Hilbert space, JMLR 2. Dupré la Tour, Eickenberg,
        Nunez-Elizalde & Gallant (2022), Feature-space selection with banded ridge regression, NeuroImage 264. Breiman
        (1996), Stacked regressions, Machine Learning 24; Lin, Naselaris, Kay & Wehbe (2024), Stacked regressions and
        structured variance partitioning for interpretable brain maps, NeuroImage 298.
        """
        plan = self._plan(grams, method, folds, alphas, n_components, weights, seed, groups, strata)
        scores = [
            score_layer(
                gram,
                self._means,
                self._groups,
                plan.folds,
                regression,
                keep_predictions=keep_predictions,
            )
            for gram, regression in plan.pairs
        ]
        result = result_of(
            scores,
            plan.folds,
            method,
            names=tuple(plan.models),
            subjects=self.subjects,
            layers=plan.layers,
            ceilings=self._ceilings,
        )
        if text := undefined_text(result, self._constant):
            warn_caller(text)
        return result

    def score_permuted(
        self,
        grams: Gram | Mapping[str, Gram] | list[Gram] | tuple[Gram, ...],
        orders: ArrayLike,
        method: str = "ridge",
        *,
        folds: int | ArrayLike = 5,
        alphas: ArrayLike | None = None,
        n_components: int | None = None,
        weights: int | ArrayLike | None = None,
        seed: int | None = 0,
        groups: ArrayLike | None = None,
        strata: ArrayLike | None = None,
    ) -> Floats:
        """Score the responses with their conditions in other orders, as permutation tests need it.

        All is fitted again, penalties included; only the layers' decompositions serve many orders.

        Parameters
        ----------
        orders : array_like of int, shape (orders, conditions)
            The condition whose response each condition gets.
        grams, method, folds, alphas, n_components, weights, seed, groups, strata
            As in `score`.

        Returns
        -------
        ndarray, shape (orders, models, subjects)
            Medians over units of r, without units whose r is NaN.

        Raises
        ------
        ValueError
            As `score`, or if the orders are not permutations of the conditions.
        """
        plan = self._plan(grams, method, folds, alphas, n_components, weights, seed, groups, strata)
        n = self.n_conditions
        places = as_array(orders, "orders")
        if places.ndim != 2 or (np.sort(places, axis=1) != np.arange(n)).any():
            raise ValueError(
                f"orders has shape {places.shape}; each must be a permutation of range({n}), (orders, {n})"
            )
        return np.stack(
            [
                permuted_medians(gram, self._means, places, plan.folds, regression)
                for gram, regression in plan.pairs
            ],
            axis=1,
        )

    def matched(self, grams: Any) -> dict[str, Gram]:
        """Return layers by name, those with labelled conditions in the order of the responses.

        Parameters
        ----------
        grams : Gram, list of Gram or dict of Gram
            Layers, as for `score`.

        Returns
        -------
        dict of Gram

        Raises
        ------
        ValueError
            If an argument is not a Gram, or numbers or labels of conditions are not those of the responses.

        Warns
        -----
        RuntimeWarning
            One, naming the layers whose conditions were in another order.
        """
        name = self.name or "the responses"
        return matched_layers(named_grams(grams), self.n_conditions, self.labels, name)

    def _plan(
        self,
        grams: Any,
        method: str,
        folds: int | ArrayLike,
        alphas: ArrayLike | None,
        n_components: int | None,
        weights: int | ArrayLike | None,
        seed: int | None,
        groups: ArrayLike | None,
        strata: ArrayLike | None,
    ) -> ScoringPlan:
        check_options(method, alphas=alphas, n_components=n_components, weights=weights)
        layers = self.matched(grams)
        folds, groups, strata = (
            per_condition(each, name, self.labels)
            for each, name in ((folds, "folds"), (groups, "groups"), (strata, "strata"))
        )
        divided = folds_of(folds, self.n_conditions, seed=seed, groups=groups, strata=strata)
        if method == "pls":
            self._check_joint()
        rows = [group.rows for group in self._groups]
        return plan_of(layers, divided, rows, method, alphas, n_components, weights, seed)

    @functools.cached_property
    def _constant(self) -> list[NDArray[np.bool_]]:
        """For each subject, which units have constant responses, or responses to fewer than three conditions."""
        out = []
        for values in self._means:
            varies = np.fmin.reduce(values, axis=0) < np.fmax.reduce(values, axis=0)
            out.append(~varies | (np.count_nonzero(~np.isnan(values), axis=0) < 3))
        return out

    def _check_joint(self) -> None:
        several = [subject for group in self._groups for subject, _ in group.members]
        for subject in range(self.n_subjects):
            if several.count(subject) > 1:
                raise ValueError(
                    f"the units of {self._measured.label(subject)} lack different conditions, so method 'pls' cannot"
                    " fit them together; pass the conditions that all have, or use method='ridge'"
                )


def _check_complete(given: MeasuredResponses, groups: tuple[SameConditions, ...]) -> None:
    n = given.n_conditions
    for group in groups:
        if len(group.rows) < n:
            subject, units = group.members[0]
            condition = int(np.setdiff1d(np.arange(n), group.rows)[0])
            raise ValueError(
                f"{given.label(subject)} is NaN in all repeats of condition {condition} for units"
                f" {list_names(units.tolist())}; pass nan_policy='omit' to leave out what is lacking"
            )
