"""rsatoolbox's searchlights: RDMs of all centres, and models evaluated at each."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm.interop.rsatoolbox.evaluation import eval_fixed
from fastrdm.interop.rsatoolbox.evaluation_inputs import warn_about_tau
from fastrdm.interop.rsatoolbox.originals import original, toolbox
from fastrdm.interop.rsatoolbox.resampled_ranks import rank_correlations
from fastrdm.interop.rsatoolbox.resampling import RANKS, SUMS, TAUS
from fastrdm.interop.rsatoolbox.vectors import similarities
from fastrdm.searchlight import calc_rdm_searchlight

Doubles = NDArray[np.float64]

# Of rsatoolbox's methods without folds or noise; its Euclidean distances are squared and divided by channels.
_METHODS = {
    "correlation": "correlation",
    "euclidean": "sqeuclidean",
    "mahalanobis": "sqeuclidean",
}
_BLOCK = 1000


def get_searchlight_RDMs(
    data_2d: Any,
    centers: Any,
    neighbors: Any,
    events: Any,
    method: str = "correlation",
    verbose: bool = True,
) -> Any:
    """Compute the RDM of each searchlight, as `rsatoolbox.util.searchlight.get_searchlight_RDMs`.

    Parameters
    ----------
    data_2d : array_like, shape (observations, channels)
        Responses.
    centers : array_like, shape (searchlights,)
        Indices of the centres, kept as the descriptor ``voxel_index``.
    neighbors : list of array_like of int
        The channels of each searchlight.
    events : array_like, shape (observations,)
        The condition of each observation. Observations of a condition are averaged; conditions are sorted.
    method : str
        ``correlation``, ``euclidean`` (squared, divided by channels) or ``mahalanobis`` (without noise the same); other
        methods are computed by rsatoolbox.
    verbose : bool
        Not used, as in rsatoolbox.

    Returns
    -------
    RDMs
        rsatoolbox's RDMs of all centres.
    """
    data, centers = np.asarray(data_2d), np.array(centers)
    conditions, inverse = np.unique(np.asarray(events), return_inverse=True)
    fits = method in _METHODS and data.ndim == 2 and data.dtype.kind in "fiu"
    fits = fits and len(inverse) == len(data) and len(conditions) > 1
    fits = fits and centers.shape[:1] == (len(neighbors),) and bool(np.isfinite(data).all())
    rdms = None
    if fits:
        inverse = inverse.ravel()
        means = np.stack([data[inverse == i].mean(axis=0) for i in range(len(conditions))])
        rdms = _rdms_of(np.asarray(means, np.float64), neighbors, method)
    if rdms is None:
        return original("util.searchlight", "get_searchlight_RDMs")(
            data_2d, centers, neighbors, events, method=method, verbose=verbose
        )
    return toolbox("rdm").RDMs(
        rdms, rdm_descriptors={"voxel_index": centers}, dissimilarity_measure=method
    )


def _rdms_of(means: Doubles, neighbors: Any, method: str) -> Doubles | None:
    """Return the RDM of each searchlight; None where channels are no indices from 0 on, which rsatoolbox may know."""
    if any(np.ndim(n) != 1 or not len(n) or np.asarray(n).dtype.kind == "b" for n in neighbors):
        return None
    try:
        rdms = np.asarray(calc_rdm_searchlight(means, neighbors, _METHODS[method]))
    except (TypeError, ValueError):
        return None
    if method != "correlation":
        rdms /= np.array([len(n) for n in neighbors])[:, None]
    return rdms


def evaluate_models_searchlight(
    sl_RDM: Any,
    models: Any,
    eval_function: Callable[..., Any],
    method: str = "corr",
    theta: Any = None,
    n_jobs: int = 1,
) -> list[Any]:
    """Evaluate models at each searchlight, as `rsatoolbox.util.searchlight.evaluate_models_searchlight`.

    Parameters
    ----------
    sl_RDM : RDMs
        rsatoolbox's RDMs of all centres.
    models : Model or list of Model
        rsatoolbox's models.
    eval_function : function
        ``eval_fixed`` of rsatoolbox or of this package is computed for all centres at once; another function is called
        for each centre, in `n_jobs` processes.
    method : str
        A similarity of `compare`.
    theta : list, optional
        The parameters of each model.
    n_jobs : int
        Processes for other functions.

    Returns
    -------
    list of rsatoolbox.inference.Result
        One for each centre.
    """
    fixed = (eval_fixed, original("inference.evaluate", "eval_fixed"))
    if eval_function not in fixed or method not in SUMS + RANKS or not hasattr(sl_RDM, "n_rdm"):
        return _one_by_one(sl_RDM, models, eval_function, method, theta, n_jobs)
    checked, _, theta, _ = toolbox("util.inference_util").input_check_model(models, theta, None, 1)
    predictions = [m.predict_rdm(theta=theta[i]) for i, m in enumerate(checked)]
    if (
        not predictions
        or any(p.n_rdm != 1 for p in predictions)
        or not np.isfinite(sl_RDM.dissimilarities).all()
    ):
        return _one_by_one(sl_RDM, models, eval_function, method, theta, n_jobs)
    make = toolbox("inference.result").Result
    results: list[Any] = []
    for start in range(0, sl_RDM.n_rdm, _BLOCK):
        block = sl_RDM[range(start, min(start + _BLOCK, sl_RDM.n_rdm))]
        found = np.concatenate([similarities(p, block, method) for p in predictions])
        ceilings = _self_similarities(block.get_vectors(), method)
        for i, ceiling in enumerate(ceilings):
            if np.isnan(ceiling):
                results.append(eval_fixed(checked, block[i], theta=theta, method=method))
                continue
            result = make(
                checked,
                found[:, i].reshape(1, -1, 1),
                method=method,
                cv_method="fixed",
                noise_ceiling=(ceiling, ceiling),
                variances=None,
                dof=0,
                n_rdm=1,
                n_pattern=block.n_cond,
            )
            results.append(result)
    warn_about_tau(method)
    return results


def _one_by_one(
    rdms: Iterable[Any],
    models: Any,
    function: Callable[..., Any],
    method: str,
    theta: Any,
    n_jobs: int,
) -> list[Any]:
    own = original("util.searchlight", "evaluate_models_searchlight")
    found: list[Any] = own(rdms, models, function, method=method, theta=theta, n_jobs=n_jobs)
    return found


def _self_similarities(vectors: Doubles, method: str) -> Doubles:
    """Return the noise ceiling of each RDM alone; NaN where it must be computed one by one."""
    values = np.ascontiguousarray(vectors, np.float64)
    if method in SUMS:
        spread = (
            values - values.mean(axis=1, keepdims=True) if method.startswith("corr") else values
        )
        constant = np.abs(spread).max(axis=1) <= 1e-12 * np.abs(values).max(axis=1)
        return np.where(constant, np.nan, 1.0)
    ranks = _kernels.rank(values)
    if method in TAUS:
        return np.array([rank_correlations(row[None], row[None], method)[0, 0] for row in ranks])
    centred = ranks - (ranks.shape[1] + 1) / 2
    squares: Doubles = np.einsum("ij,ij->i", centred, centred)
    if method == "spearman":
        return (squares > 0).astype(float)
    length = float(ranks.shape[1])
    return squares / (length**3 - length) * 12
