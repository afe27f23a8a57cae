"""Gram matrices × Gram matrices → distances of shapes: Procrustes, angular, Bures."""

from typing import Any, overload

import numpy as np

from fastrdm.similarity.factors import Configuration, each_pair
from fastrdm.similarity.gram_inputs import both_sides, named_table, warn_undefined_grams
from fastrdm.similarity.numerics import Floats
from fastrdm.tensors import check_like

# Squared distances of unit-size shapes below this are computed from differences, where one minus the cosine has too
# few digits.
_NEAR = 1e-6


@overload
def procrustes(grams1: Any, grams2: Any, *, squared: bool = ..., like: None = ...) -> Floats: ...
@overload
def procrustes(grams1: Any, grams2: Any, *, squared: bool = ..., like: Any) -> Any: ...
def procrustes(grams1: Any, grams2: Any, *, squared: bool = True, like: Any = None) -> Any:
    r"""Compute the Procrustes size-and-shape distance of every Gram matrix of one stack to every one of another.

    With the centred products :math:`K_c = X_c X_c^\top` and :math:`L_c = Y_c Y_c^\top` and the nuclear norm
    :math:`\lVert\cdot\rVert_*`, the squared distance is what the best rotation or reflection Q leaves:

    .. math:: d^2 = \min_Q \lVert X_c Q - Y_c \rVert_F^2
        = \operatorname{tr} K_c + \operatorname{tr} L_c - 2 \lVert K_c^{1/2} L_c^{1/2} \rVert_*

    `scipy.linalg.orthogonal_procrustes` returns this Q, and the nuclear norm as its ``scale``; the side with fewer
    channels needs columns of zeros. d is also the Bures (Bures-Wasserstein) distance of :math:`K_c` and :math:`L_c`
    (Harvey et al. 2024). Distances grow with the scale of activations; `angular_distance` does not.

    Parameters
    ----------
    grams1, grams2 : Gram, list or dict of Gram, or array_like, shape ([n,] conditions, conditions)
        Over the same conditions in the same order. Arrays are positive semi-definite products. A dict is taken in its
        order.
    squared : bool
        Whether to return d² (Ding et al. 2021) or d, which is a metric (Williams et al. 2021).
    like : array, optional
        An array of the kind that the result is to be, as for `calc_rdm`. Without it, the result is a NumPy array.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        At least 0, in the units of the activations, squared or not. If the conditions of one do not differ, d is the
        root of the trace of the other. A DataFrame or DataArray for labelled pandas or xarray objects.

    Raises
    ------
    ValueError
        If the numbers or labels of conditions differ, or an array is neither square nor symmetric, has values that are
        not finite, or has negative eigenvalues.

    References
    ----------
    Williams, Kunz, Kornblith & Linderman (2021), Generalized shape metrics on neural representations, NeurIPS.
    Ding, Denain & Steinhardt (2021), Grounding representation similarity with statistical testing, NeurIPS.
    Harvey, Larsen & Williams (2024), Duality of Bures and shape distances with implications for comparing neural
    representations, UniReps.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> square, rectangle = ([[x, y] for x in (0, w) for y in (0, 1)] for w in (1, 3))
    >>> fastrdm.procrustes(fastrdm.gram(square), fastrdm.gram(rectangle)).round(3)
    array([[4.]])
    """
    check_like(like)
    first, second = both_sides(grams1, grams2)
    chords, sizes1, sizes2 = each_pair(first, second, _points, _squared_chord)
    products = sizes1[:, None] * sizes2
    squares = (sizes1[:, None] - sizes2) ** 2 + products * np.where(products == 0, 0, chords)
    return named_table(squares if squared else np.sqrt(squares), grams1, grams2, like)


@overload
def angular_distance(grams1: Any, grams2: Any, *, like: None = ...) -> Floats: ...
@overload
def angular_distance(grams1: Any, grams2: Any, *, like: Any) -> Any: ...
def angular_distance(grams1: Any, grams2: Any, *, like: Any = None) -> Any:
    r"""Compute the angular shape distance of every Gram matrix of one stack to every one of another.

    .. math:: \theta = \arccos \frac{\lVert K_c^{1/2} L_c^{1/2} \rVert_*}
        {\sqrt{\operatorname{tr} K_c \operatorname{tr} L_c}}

    It is a metric: zero for activations that are equal but for rotation, shift and scale, symmetric, and the triangle
    inequality holds (Williams et al. 2021). The cosine of θ is `bures_similarity`. For the parameters, errors and
    references, see `procrustes`.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        Radians between 0 and π/2. NaN if the conditions of one do not differ.

    Warns
    -----
    RuntimeWarning
        One, naming the Gram matrices that make results NaN.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> conv1, fc = fastrdm.gram(rng.random((20, 50))), fastrdm.gram(rng.random((20, 10)))
    >>> fastrdm.angular_distance(conv1, fc).round(3)
    array([[0.878]])
    """
    check_like(like)
    chords = _chords(grams1, grams2, "angular distance")
    return named_table(2 * np.arcsin(np.sqrt(chords) / 2), grams1, grams2, like)


@overload
def bures_similarity(grams1: Any, grams2: Any, *, like: None = ...) -> Floats: ...
@overload
def bures_similarity(grams1: Any, grams2: Any, *, like: Any) -> Any: ...
def bures_similarity(grams1: Any, grams2: Any, *, like: Any = None) -> Any:
    r"""Compute the normalised Bures similarity of every Gram matrix of one stack to every one of another.

    .. math:: \frac{\lVert K_c^{1/2} L_c^{1/2} \rVert_*}{\sqrt{\operatorname{tr} K_c \operatorname{tr} L_c}}
        = \frac{\operatorname{tr} (K_c^{1/2} L_c K_c^{1/2})^{1/2}}{\sqrt{\operatorname{tr} K_c \operatorname{tr} L_c}}

    It is the root fidelity of the two Gram matrices at trace 1; its square is the fidelity. Where CKA is a cosine of
    squared products, this is a cosine of the activations, so that components with little variance count more. Bures
    distances are `procrustes` with ``squared=False``. For the parameters, errors and references, see `procrustes`.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        Between 0 and 1. NaN if the conditions of one do not differ.

    Warns
    -----
    RuntimeWarning
        One, naming the Gram matrices that make results NaN.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> square, rectangle = ([[x, y] for x in (0, w) for y in (0, 1)] for w in (1, 3))
    >>> fastrdm.bures_similarity(fastrdm.gram(square), fastrdm.gram(rectangle)).round(3)
    array([[0.894]])
    """
    check_like(like)
    chords = _chords(grams1, grams2, "Bures similarity")
    return named_table(1 - chords / 2, grams1, grams2, like)


def _chords(grams1: Any, grams2: Any, what: str) -> Floats:
    first, second = both_sides(grams1, grams2)
    chords, sizes1, sizes2 = each_pair(first, second, _points, _squared_chord)
    warn_undefined_grams(what, "conditions do not differ", first, second, sizes1 == 0, sizes2 == 0)
    return chords


def _points(found: Configuration) -> Floats:
    return found.axes * found.lengths


def _squared_chord(points1: Floats, points2: Floats) -> float:
    """Return the squared Procrustes distance of configurations of size 1: 2 less twice the nuclear norm."""
    product = points1.T @ points2
    chord = 2 - 2 * float(np.linalg.svd(product, compute_uv=False).sum())
    if chord > _NEAR:
        return chord
    left, _, right = np.linalg.svd(product, full_matrices=False)
    turned1, turned2 = points1 @ left, points2 @ right.T
    # Components of one that no component of the other is turned onto.
    rest1, rest2 = points1 - turned1 @ left.T, points2 - turned2 @ right
    return float(np.sum((turned1 - turned2) ** 2) + np.sum(rest1**2) + np.sum(rest2**2))
