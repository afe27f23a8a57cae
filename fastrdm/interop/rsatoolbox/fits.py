"""rsatoolbox's fits of select, weighted and interpolated models, on products that are computed once."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm.interop.rsatoolbox.originals import original, toolbox
from fastrdm.interop.rsatoolbox.resampled_ranks import rank_correlations
from fastrdm.interop.rsatoolbox.resampling import RANKS, SUMS
from fastrdm.interop.rsatoolbox.vectors import compare_values, shared_pairs, taken

Doubles = NDArray[np.float64]
Similarity = Callable[[Doubles], float]

_TOLERANCE = 0.000001


def fit(
    fitter: Callable[..., Any],
    model: Any,
    data: Any,
    method: str,
    pattern_idx: Any,
    pattern_descriptor: str,
) -> Any:
    """Return the parameters that a fitter of rsatoolbox finds; other fitters are called as they are."""
    own = {original("model.fitter", name): name for name in _FITS}
    classes = (toolbox("model").ModelSelect, toolbox("model").ModelWeighted)
    classes += (toolbox("model").ModelInterpolate,)
    if fitter in own and type(model) in classes:
        part = model.rdm_obj.subsample_pattern(pattern_descriptor, pattern_idx)
        pairs, others = (shared_pairs(x.get_vectors()) for x in (part, data))
        if pairs is not None and others is not None and np.array_equal(pairs, others):
            rows, measured = taken(part.get_vectors(), pairs), taken(data.get_vectors(), pairs)
            prepared = _prepare(rows, measured, method, pairs)
            if prepared is not None:
                return _FITS[own[fitter]](model, *prepared, method)
    return fitter(
        model,
        data,
        method=method,
        pattern_idx=pattern_idx,
        pattern_descriptor=pattern_descriptor,
    )


def _prepare(
    rows: Doubles, measured: Doubles, method: str, pairs: NDArray[np.bool_]
) -> tuple[Doubles, Doubles] | None:
    """Return rows whose cosines are the similarities, or as they are for ranks; None for other methods."""
    if method in RANKS:
        return rows, measured
    if method not in SUMS:
        return None
    if method.startswith("corr"):
        rows, measured = (x - x.mean(axis=1, keepdims=True) for x in (rows, measured))
    if method.endswith("_cov"):
        whiten = getattr(toolbox("rdm.compare"), "_cov_weighting", None)
        if whiten is None:
            return None
        rows, measured = whiten(rows, pairs), whiten(measured, pairs)
    return rows, measured


def _similarity(rows: Doubles, measured: Doubles, method: str) -> Similarity:
    """Return the function from weights of rows to the mean similarity of their sum to the data."""
    if method in RANKS:
        ranks = _kernels.rank(measured)

        def of_ranks(theta: Doubles) -> float:
            prediction = _kernels.rank(np.ascontiguousarray((theta @ rows)[None]))
            return float(rank_correlations(prediction, ranks, method).mean())

        return of_ranks
    lengths = np.sqrt(np.einsum("ij,ij->i", measured, measured))
    directions = np.divide(
        measured, lengths[:, None], out=np.zeros_like(measured), where=lengths[:, None] > 0
    )
    to_data = rows @ directions.mean(axis=0)
    products = rows @ rows.T

    def of_sums(theta: Doubles) -> float:
        square = theta @ products @ theta
        return float(theta @ to_data / np.sqrt(square)) if square > 0 else 0.0

    return of_sums


def _select(model: Any, rows: Doubles, measured: Doubles, method: str) -> Any:
    chosen = method if method in RANKS else "cosine"
    return np.argmax([compare_values(row[None], measured, chosen).mean() for row in rows])


def _optimize(model: Any, rows: Doubles, measured: Doubles, method: str) -> Any:
    similarity = _similarity(rows, measured, method)
    found = []
    for _ in range(2 * model.n_param):
        start = np.random.rand(model.n_param)
        found.append(_minimum(lambda theta: -similarity(theta), start))
    return _unit(min(found, key=lambda result: result[1])[0])


def _optimize_positive(model: Any, rows: Doubles, measured: Doubles, method: str) -> Any:
    similarity = _similarity(rows, measured, method)

    def loss(theta: Doubles) -> float:
        return -similarity(theta**2)

    start = np.zeros(model.n_param)
    found = [(start, loss(start)), _minimum(loss, np.random.rand(model.n_param))]
    for i in range(model.n_param):
        start = np.full(model.n_param, 0.001)
        start[i] = 1
        found.append(_minimum(loss, start))
    return _unit(min(found, key=lambda result: result[1])[0] ** 2)


def _minimum(loss: Callable[[Doubles], float], start: Doubles) -> tuple[Doubles, float]:
    from scipy.optimize import minimize

    result = minimize(loss, start, method="BFGS", tol=_TOLERANCE)
    return result.x, float(result.fun)


def _unit(theta: Doubles) -> Doubles:
    length = np.sum(theta**2)
    return theta.flatten() if length == 0 else theta.flatten() / np.sqrt(length)


def _interpolate(model: Any, rows: Doubles, measured: Doubles, method: str) -> Any:
    from scipy.optimize import minimize_scalar

    similarity = _similarity(rows, measured, method)
    found = []
    for i in range(model.n_rdm - 1):

        def weights(share: float, first: int = i) -> Doubles:
            theta = np.zeros(model.n_param)
            theta[first], theta[first + 1] = share, 1 - share
            return theta

        result = minimize_scalar(
            lambda share, of=weights: -similarity(of(share)), bounds=(0, 1), method="bounded"
        )
        found.append((weights(result.x), float(result.fun)))
    return min(found, key=lambda result: result[1])[0]


_FITS: dict[str, Callable[..., Any]] = {
    "fit_select": _select,
    "fit_optimize": _optimize,
    "fit_optimize_positive": _optimize_positive,
    "fit_interpolate": _interpolate,
}
