"""RDM models: one layer, the best layer, a mixture of two neighbouring layers, a non-negative sum of layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names
from fastrdm.fitting.nonnegative import solve_nonnegative
from fastrdm.fitting.rdm_model import RdmModel
from fastrdm.fitting.training import Training

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FixedRdm(RdmModel):
    """The RDM of one layer, without parameters: rsatoolbox's ModelFixed.

    Parameters
    ----------
    layer : str
        Name of the layer, or its number if the RDMs are passed as an array.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> rdms = {"conv1": rng.random(45), "fc": rng.random(45)}
    >>> fastrdm.FixedRdm("fc").fit(rdms, rng.random((5, 45))).layer
    'fc'
    """

    layer: str
    kind: ClassVar[str] = "fixed"

    def weights(self, training: Training, layers: tuple[str, ...]) -> Floats:
        """Return 1 for the layer; ValueError if there is none of this name."""
        if str(self.layer) not in layers:
            raise ValueError(f"there is no layer {self.layer!r}; rdms has {list_names(layers)}")
        out = np.zeros(training.values.shape)
        out[:, layers.index(str(self.layer))] = 1
        return out


@dataclass(frozen=True)
class SelectedRdm(RdmModel):
    """The RDM of the layer with the highest score on the training data: rsatoolbox's ModelSelect.

    The score is the protocol's: the mean over subjects of the similarity, or of its square; of several studies, the
    mean share of the noise ceiling, as in Meijer (2019). A score on the data on which the layer was chosen is biased
    upwards, the more so the more layers there are: report the score on other data, or `cross_validate`.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> rdms, subjects = rng.random((3, 190)), rng.random((6, 190))
    >>> subjects += 2 * rdms[1]
    >>> fastrdm.SelectedRdm().fit(rdms, subjects).layer
    '1'
    """

    kind: ClassVar[str] = "selected"

    def weights(self, training: Training, layers: tuple[str, ...]) -> Floats:
        """Return 1 for the best layer; 0 for all if no layer has a score."""
        values = training.values
        out = np.zeros(values.shape)
        known = np.where(np.isnan(values), -np.inf, values)
        rows = np.flatnonzero(np.isfinite(known).any(axis=1))
        out[rows, known[rows].argmax(axis=1)] = 1
        return out


@dataclass(frozen=True)
class InterpolatedRdm(RdmModel):
    r"""A mixture :math:`w\,d_i + (1 - w)\,d_{i+1}` of two neighbouring layers: rsatoolbox's ModelInterpolate.

    The layers' order is that in which their RDMs are passed. For each two neighbours, the weight from 0 to 1 with the
    highest similarity to the pooled RDM of the subjects is found exactly: as a function of the weight, a cosine has one
    stationary point. For similarities of ranks, the layers' ranks are mixed, and compared by Pearson's r.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> rdms = rng.random((2, 190))
    >>> fitted = fastrdm.InterpolatedRdm().fit(rdms, [0.25, 0.75] @ rdms + np.zeros((2, 1)), method="corr")
    >>> fitted.weights.round(6)
    array([0.25, 0.75])
    """

    kind: ClassVar[str] = "interpolated"
    mixes: ClassVar[bool] = True

    def weights(self, training: Training, layers: tuple[str, ...]) -> Floats:
        """Return the weights of the best two neighbours; ValueError if there is one layer."""
        n = len(layers)
        if n < 2:
            raise ValueError("an interpolation needs the RDMs of at least two layers, got one")
        g, b = training.products, training.targets
        first = np.arange(n - 1)
        # Of first + t (second - first): the product with the target, and the squared length.
        n0, n1 = b[:, :-1], b[:, 1:] - b[:, :-1]
        q0, cross, last = g[:, first, first], g[:, first, first + 1], g[:, first + 1, first + 1]
        q1, q2 = cross - q0, last - 2 * cross + q0
        with np.errstate(invalid="ignore", divide="ignore"):
            inner = (n1 * q0 - n0 * q1) / (n0 * q2 - n1 * q1)
        inner = np.where((inner > 0) & (inner < 1), inner, 0)
        t = np.stack([np.zeros_like(inner), np.ones_like(inner), inner])
        squares = q0 + 2 * t * q1 + t**2 * q2
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = (n0 + t * n1) / np.sqrt(squares)
        cosine[~(squares > 0)] = -np.inf
        best = cosine.max(axis=0).argmax(axis=1)
        sets = np.arange(len(b))
        share = t[cosine[:, sets, best].argmax(axis=0), sets, best]
        out = np.zeros(b.shape)
        out[sets, best], out[sets, best + 1] = 1 - share, share
        return out


@dataclass(frozen=True)
class WeightedRdm(RdmModel):
    r"""A sum of the layers' RDMs with weights that are not negative: rsatoolbox's ModelWeighted.

    The weights minimise

    .. math:: \lVert y - \textstyle\sum_l w_l x_l \rVert^2 + \lambda \bar g \lVert w \rVert^2, \quad w_l \ge 0,

    with the pooled RDM y of the subjects, standardised and averaged as in rsatoolbox's `pool_rdm`, and :math:`\bar g`
    the mean of :math:`\lVert x_l \rVert^2`. For the Spearman coefficient, and for other similarities of ranks, x are
    the layers' centred ranks; for ``corr`` the centred RDMs; for ``cosine`` the RDMs; for ``corr_cov`` and
    ``cosine_cov`` lengths are those of whitened RDMs. Without a penalty, no other weights ≥ 0 give a higher mean
    ``corr`` or ``cosine`` with the subjects, and the weights are those of rsatoolbox's `fit_regress_nn`. Of several
    studies, the mean squares are summed, with each y scaled to a root mean square of 1: a study whose subjects agree
    more does not outweigh the others.

    Parameters
    ----------
    ridge_weight : float or sequence of float
        The penalty λ. Of several, the one with the highest score on held-out inner folds of the training conditions is
        chosen, also inside `cross_validate`.

    References
    ----------
    Khaligh-Razavi & Kriegeskorte (2014), PLoS Comput. Biol. 10(11); Jozwik et al. (2016), Neuropsychologia 83;
    Kaniuth & Hebart (2022), NeuroImage 257.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> rdms = {"conv1": rng.random(190), "conv2": rng.random(190), "fc": rng.random(190)}
    >>> subjects = 3 * rdms["conv1"] + 4 * rdms["fc"] + np.zeros((2, 1))
    >>> fitted = fastrdm.WeightedRdm().fit(rdms, subjects, method="corr")
    >>> fitted.weights.round(6)
    array([0.6, 0. , 0.8])
    >>> fitted.predict(rdms).shape
    (190,)
    """

    ridge_weight: float | Sequence[float] = 0.0
    kind: ClassVar[str] = "weighted"
    mixes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        values = np.atleast_1d(np.asarray(self.ridge_weight, np.float64))
        if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(
                f"ridge_weight must be one or several numbers of at least 0, not {self.ridge_weight!r}"
            )

    def candidates(self) -> tuple[RdmModel, ...]:
        """Return a model for each penalty."""
        values = np.atleast_1d(np.asarray(self.ridge_weight, np.float64)).tolist()
        return tuple(WeightedRdm(value) for value in values)

    def weights(self, training: Training, layers: tuple[str, ...]) -> Floats:
        """Return weights of length 1; 0 for all if no layer is similar to the target."""
        products = training.products
        (penalty,) = np.atleast_1d(np.asarray(self.ridge_weight, np.float64))
        if penalty:
            mean = np.einsum("sll->s", products) / len(layers)
            products = products + penalty * mean[:, None, None] * np.eye(len(layers))
        found = solve_nonnegative(products, training.targets)
        length = np.sqrt((found**2).sum(axis=1, keepdims=True))
        return np.asarray(found / np.where(length > 0, length, 1))
