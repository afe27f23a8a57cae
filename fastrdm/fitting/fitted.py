"""A fitted RDM model: its weights, its prediction for other conditions, its score on other subjects and studies."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import (
    Labels,
    as_rdms,
    condense,
    in_order_of,
    list_names,
    n_conditions,
    pair_names_of,
    per_condition,
    with_pairs,
)
from fastrdm.fitting.layer_rdms import (
    LEAST_CONDITIONS,
    LayerRdms,
    layers_in_order,
    read_indices,
)
from fastrdm.fitting.training import mixed_rdms
from fastrdm.similarity import (
    Protocol,
    Score,
    Target,
    check_values,
    held_out_ceilings,
    score_similarities,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FittedRdm:
    """An RDM model with its parameters.

    Attributes
    ----------
    kind : str
        ``"fixed"``, ``"selected"``, ``"interpolated"`` or ``"weighted"``.
    layers : tuple of str
        Names of the layers: the keys of a dict of RDMs, else their numbers.
    weights : ndarray, shape (layers,)
        Of the layers' RDMs, or of their ranks if `is_ranked`. Of length 1 for ``"weighted"``, as in rsatoolbox; a sum
        of 1 for the others. All are 0 if no layer is similar to the target.
    method : str
        Similarity for which it was fitted.
    is_ranked : bool
        Whether the layers' ranks are summed, because `method` compares ranks.
    same_data : float
        Score on the data that it was fitted on: the protocol's mean over subjects; of several studies, the mean share
        of the noise ceiling. It is biased upwards; report the score on other data.
    """

    kind: str
    layers: tuple[str, ...]
    weights: Floats
    method: str
    is_ranked: bool
    same_data: float

    @property
    def layer(self) -> str:
        """The layer with the largest weight."""
        return self.layers[int(self.weights.argmax())]

    def predict(self, rdms: Any) -> Floats:
        """Return the predicted RDM for other conditions, or the same.

        Parameters
        ----------
        rdms : array_like or dict
            RDMs of the same layers, (layers, pairs) or (layers, n, n), for any conditions. A dict, and a pandas or
            xarray object with labelled layers, are read by the names of the layers and may have others; an array by
            position.

        Returns
        -------
        ndarray of float64, shape (pairs,)
            Condensed. A pair that a layer with a weight lacks is NaN. Ranks are those among the given pairs, divided by
            their number. With the labels of conditions, if a layer has them, a Series or DataArray.

        Raises
        ------
        ValueError
            If a layer is missing, or the shape is not that of RDMs of the layers.
        """
        rdms = layers_in_order(rdms, self.layers)
        rows, is_square = _condensed(rdms, self.layers, None)
        labelled = pair_names_of(rdms, square=is_square)
        rdm = self._mixed(rows)
        if labelled is not None:
            rdm = with_pairs(rdm, *labelled)
        return rdm

    def _mixed(self, rows: Floats) -> Floats:
        return np.asarray(mixed_rdms(self.weights[None], rows, ranked=self.is_ranked)[0])

    def score(
        self,
        rdms: Any,
        target: Target | ArrayLike,
        conditions: ArrayLike | None = None,
        subjects: ArrayLike | None = None,
        *,
        protocol: str | Protocol | None = None,
        nan_policy: str | None = None,
    ) -> Score:
        """Judge the model on a study, or on some of its conditions and subjects.

        Parameters
        ----------
        rdms : array_like or dict
            Layers' RDMs as for `predict`, for all conditions of the target.
        target : Target or array_like
            The subjects, as in `bootstrap`.
        conditions, subjects : array_like, optional
            Indices, or masks, of those to judge on; by default all.
        protocol, nan_policy : optional
            As in `bootstrap`.

        Returns
        -------
        Score
            Of one model, averaged over time. The noise ceiling is that of the judged conditions, and of the judged
            subjects if these are all; of some subjects, their similarity to the pooled RDM of the other subjects (lower
            bound) or of all (upper bound). NaN for a target of one subject without a given ceiling.

        Raises
        ------
        ValueError
            If shapes or layers do not fit, or indices are out of range, repeated or too few.
        """
        rdms = layers_in_order(rdms, self.layers)
        options = (conditions, subjects, protocol, nan_policy)
        if isinstance(target, Target) and all(each is None for each in options):
            rows, _ = _condensed(rdms, self.layers, target.labels)
            return target.score(self._mixed(rows), over_time="mean")
        given = LayerRdms.read(rdms, target, protocol=protocol, nan_policy=nan_policy)
        check_layers(len(given.rdms), self.layers)
        conditions = per_condition(conditions, "conditions", given.data.labels)
        some = read_indices(conditions, given.data.n_conditions, "conditions", LEAST_CONDITIONS)
        who = read_indices(subjects, given.data.n_subjects, "subjects", 1)
        part = given.part(some)
        judged = np.zeros(part.data.n_subjects, bool)
        judged[... if who is None else who] = True
        bounds = held_out_ceilings(part.data, judged[None] if judged.all() else ~judged[None])
        chosen = part.data.protocol.bound
        ceiling = float(bounds[("lower", "upper").index(chosen), judged].mean())
        rho = part.data.observed(mixed_rdms(self.weights[None], part.rdms, ranked=self.is_ranked))
        return score_similarities(
            rho[:, judged if who is None else who, None],
            squared=part.data.protocol.squared,
            ceiling=np.array([ceiling if ceiling > 0 else np.nan]),
        )

    def __str__(self) -> str:
        used = [i for i in np.argsort(-self.weights, kind="stable") if self.weights[i] > 0]
        parts = [f"{self.layers[i]} {self.weights[i]:.3f}" for i in used]
        ranks = " of ranks" if self.is_ranked and len(used) > 1 else ""
        return (
            f"{self.kind} RDM{ranks} ({self.method}): {list_names(parts, 12) or 'no layer'};"
            f" {self.same_data:.4f} on the data it was fitted on"
        )


def _condensed(rdms: Any, layers: tuple[str, ...], reference: Labels | None) -> tuple[Floats, bool]:
    """Return condensed RDMs of the layers, in the order of a reference or of the first labelled layer.

    And whether they were square.
    """
    array = as_rdms(rdms, "rdms")
    is_square = array.ndim == 3
    if is_square:
        array = condense(array)
    if array.ndim != 2:
        raise ValueError(
            f"rdms has shape {array.shape}; expected RDMs of the layers, (layers, pairs) or (layers, n, n)"
        )
    n_conditions(array.shape[1])
    array, _ = in_order_of(array, rdms, "rdms", reference, square=is_square)
    check_layers(len(array), layers)
    check_values(array, "rdms", ("layer", "pair"), "omit")
    return np.ascontiguousarray(array, np.float64), is_square


def check_layers(n: int, layers: tuple[str, ...]) -> None:
    """Refuse another number of layers than a model was fitted on."""
    if n != len(layers):
        raise ValueError(f"rdms has {n} layers, but the model was fitted on {len(layers)}")
