"""Gram matrices × Gram matrices → regularised canonical correlations (CCA)."""

import math
from typing import Any, overload

import numpy as np

from fastrdm._base import check_integer
from fastrdm.similarity.factors import Configuration, each_pair
from fastrdm.similarity.gram_inputs import both_sides, named_table, warn_undefined_grams
from fastrdm.similarity.numerics import Floats
from fastrdm.tensors import check_like


@overload
def cca(
    grams1: Any,
    grams2: Any,
    *,
    n_components: int | None = ...,
    regularisation: float = ...,
    like: None = ...,
) -> Floats: ...
@overload
def cca(
    grams1: Any,
    grams2: Any,
    *,
    n_components: int | None = ...,
    regularisation: float = ...,
    like: Any,
) -> Any: ...
def cca(
    grams1: Any,
    grams2: Any,
    *,
    n_components: int | None = 10,
    regularisation: float = 0.1,
    like: Any = None,
) -> Any:
    r"""Compute the mean squared canonical correlation of every Gram matrix of one stack with every one of another.

    With the centred products' eigenvectors U and positive eigenvalues λ, :math:`K_c = U \operatorname{diag}(\lambda)
    U^\top` and :math:`L_c = V \operatorname{diag}(\mu) V^\top`, the regularised canonical correlations ρ are the
    singular values, in descending order, of

    .. math:: \operatorname{diag}\sqrt{\frac{\lambda}{\lambda + \kappa_K}} \; U^\top V \;
        \operatorname{diag}\sqrt{\frac{\mu}{\mu + \kappa_L}}, \qquad
        \kappa_K = \alpha \frac{\operatorname{tr} K_c}{n - 1}

    These are the singular values of :math:`(X_c^\top X_c + \kappa_K I)^{-1/2} X_c^\top Y_c (Y_c^\top Y_c + \kappa_L
    I)^{-1/2}` (Vinod 1976). The result is the mean of ρ² over the leading `n_components` of them.

    Without regularisation it is the :math:`R^2_{CCA}` of Kornblith et al. (2019), which does not change if activations
    are multiplied by any invertible matrix, and is 1 for any two layers that both have as many independent channels as
    conditions. SVCCA (Raghu et al. 2017) drops the components with the least variance instead, and averages ρ; PWCCA
    (Morcos et al. 2018) weights each ρ by the activations that its component explains.

    Parameters
    ----------
    grams1, grams2 : Gram, list or dict of Gram, or array_like, shape ([n,] conditions, conditions)
        Over the same conditions in the same order. Arrays are positive semi-definite products. A dict is taken in its
        order.
    n_components : int or None
        Number of leading canonical correlations in the mean, or as many as there are, if these are fewer or it is None.
        There are as many as the smaller of the two ranks.
    regularisation : float
        α, the ridge penalty relative to the mean variance of the n − 1 components; 0 for none.
    like : array, optional
        An array of the kind that the result is to be, as for `calc_rdm`. Without it, the result is a NumPy array.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        Between 0 and 1; with regularisation below 1 even for equal activations. NaN if the conditions of one do not
        differ. A DataFrame or DataArray for labelled pandas or xarray objects.

    Raises
    ------
    ValueError
        If the numbers or labels of conditions differ, or an array is neither square nor symmetric, has values that are
        not finite, or has negative eigenvalues, or an option is out of range.

    Warns
    -----
    RuntimeWarning
        One, naming the Gram matrices that make results NaN.

    References
    ----------
    Vinod (1976), Canonical ridge and econometrics of joint production, J. Econom. 4(2).
    Raghu, Gilmer, Yosinski & Sohl-Dickstein (2017), SVCCA, NeurIPS.
    Morcos, Raghu & Bengio (2018), Insights on representational similarity in neural networks with canonical
    correlation, NeurIPS.
    Kornblith, Norouzi, Lee & Hinton (2019), Similarity of neural network representations revisited, ICML.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> layers = {"conv1": rng.random((20, 50)), "fc": rng.random((20, 10))}
    >>> grams = fastrdm.gram(layers)
    >>> fastrdm.cca(grams, grams["fc"], n_components=5).round(3)
    array([[0.862],
           [0.932]])
    """
    check_like(like)
    if n_components is not None:
        check_integer(n_components, "n_components", 1)
    if not (regularisation >= 0 and math.isfinite(regularisation)):
        raise ValueError(f"regularisation must be a number of at least 0, not {regularisation!r}")
    first, second = both_sides(grams1, grams2)
    n = first[0].n

    def shrunk(found: Configuration) -> Floats:
        # The sum of squared lengths, the trace, is 1.
        variances = found.lengths**2
        return found.axes * np.sqrt(variances / (variances + regularisation / (n - 1)))

    def mean_square(points1: Floats, points2: Floats) -> float:
        correlations = np.linalg.svd(points1.T @ points2, compute_uv=False)
        return float(np.mean(np.minimum(correlations[:n_components], 1) ** 2))

    out, sizes1, sizes2 = each_pair(first, second, shrunk, mean_square)
    warn_undefined_grams("CCA", "conditions do not differ", first, second, sizes1 == 0, sizes2 == 0)
    return named_table(out, grams1, grams2, like)
