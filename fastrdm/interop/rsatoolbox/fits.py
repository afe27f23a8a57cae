"""rsatoolbox's fits of select, weighted and interpolated models, on products that are computed once."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm.interop.rsatoolbox.originals import original, toolbox
from fastrdm.interop.rsatoolbox.resampled_ranks import rank_correlations
from fastrdm.interop.rsatoolbox.resampling import RANKS, SUMS
from fastrdm.interop.rsatoolbox.second_moments import whitening
from fastrdm.interop.rsatoolbox.vectors import shared_pairs

Doubles = NDArray[np.float64]
Similarity = Callable[[Doubles], float]

# Models that rsatoolbox's fitters take; for others, such as fit_optimize of a ModelInterpolate, whose predictions have
# no negative weights, they are called.
_CLASSES = {
    "fit_select": ("ModelSelect",),
    "fit_optimize": ("ModelWeighted",),
    "fit_optimize_positive": ("ModelWeighted", "ModelInterpolate"),
    "fit_interpolate": ("ModelWeighted", "ModelInterpolate"),
}
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
    name = next((each for each in _FITS if original("model.fitter", each) is fitter), None)
    if name is not None and method in SUMS + RANKS and _takes(name, model):
        similarity = _similarity(model, data, method, pattern_idx, pattern_descriptor)
        if similarity is not None:
            return _FITS[name](model, similarity)
    return fitter(
        model,
        data,
        method=method,
        pattern_idx=pattern_idx,
        pattern_descriptor=pattern_descriptor,
    )


def _takes(fitter: str, model: Any) -> bool:
    return any(type(model) is getattr(toolbox("model"), name) for name in _CLASSES[fitter])


def _similarity(
    model: Any, data: Any, method: str, pattern_idx: Any, pattern_descriptor: str
) -> Similarity | None:
    """Return the function from weights of a model's RDMs to their sum's mean similarity; None for rsatoolbox's."""
    n_pairs = model.rdm.shape[1]
    places = toolbox("rdm").RDMs(
        np.arange(n_pairs, dtype=float)[None],
        pattern_descriptors=dict(model.rdm_obj.pattern_descriptors),
    )
    positions = places.subsample_pattern(pattern_descriptor, pattern_idx).get_vectors()
    pairs, others = shared_pairs(positions), shared_pairs(data.get_vectors())
    finite = np.isfinite(model.rdm).all()
    if not finite or pairs is None or others is None or not np.array_equal(pairs, others):
        return None
    chosen = positions[0, pairs].astype(np.intp)
    # Copied as rsatoolbox does, so that sums have its order and optimisers take its steps.
    measured = data.get_vectors()[:, pairs].reshape(data.n_rdm, -1)
    if method in RANKS:
        return _of_ranks(model, chosen, measured, method)
    if method.endswith("_cov"):
        return _of_whitened(model, chosen, measured, pairs, method.startswith("corr"))
    return _of_values(model, chosen, measured, method == "corr")


def _of_ranks(model: Any, chosen: NDArray[np.intp], measured: Doubles, method: str) -> Similarity:
    ranks = _kernels.rank(np.ascontiguousarray(measured, np.float64))
    compare = _of_rows(ranks, centred=True)
    length = ranks.shape[1]

    def similarity(theta: Doubles) -> float:
        prediction = _kernels.rank(np.matmul(model.rdm.T, theta)[chosen][None])
        if method == "spearman":
            return compare(prediction)
        if method != "rho-a":
            return float(np.mean(rank_correlations(prediction, ranks, method)))
        centred = [x - np.mean(x, 1, keepdims=True) for x in (prediction, ranks)]
        products = np.einsum("ij,kj->ik", *centred)
        return float(np.mean(products / (length**3 - length) * 12))

    return similarity


def _of_values(
    model: Any, chosen: NDArray[np.intp], measured: Doubles, centred: bool
) -> Similarity:
    compare = _of_rows(measured, centred)

    def similarity(theta: Doubles) -> float:
        return compare(np.matmul(model.rdm.T, theta)[chosen][None])

    return similarity


def _of_rows(measured: Doubles, centred: bool) -> Similarity:
    """Return the function from a row to its mean cosine with rows, with rsatoolbox's rounding to the bit."""
    if centred:
        measured = measured - np.mean(measured, 1, keepdims=True)
    lengths = np.sqrt(np.einsum("ij,ij->i", measured, measured))
    undefined = lengths == 0
    divisors = np.where(undefined, 1.0, lengths).reshape((1, -1))

    def compare(row: Doubles) -> float:
        if centred:
            row = row - np.mean(row, 1, keepdims=True)
        length = np.sqrt(np.einsum("ij,ij->i", row, row))
        if length[0] == 0:
            return 0.0
        cosines = np.einsum("ij,kj->ik", row, measured)
        cosines /= length.reshape((-1, 1))
        cosines /= divisors
        cosines[:, undefined] = 0
        return float(np.mean(cosines))

    return compare


def _of_whitened(
    model: Any,
    chosen: NDArray[np.intp],
    measured: Doubles,
    pairs: NDArray[np.bool_],
    centred: bool,
) -> Similarity | None:
    whiten = whitening(pairs)
    if whiten is None:
        return None

    def whitened(rows: Doubles) -> Doubles:
        return whiten(rows - np.mean(rows, 1, keepdims=True) if centred else rows)

    compare = _of_rows(whitened(measured), centred=False)

    def similarity(theta: Doubles) -> float:
        return compare(whitened(np.matmul(model.rdm.T, theta)[chosen][None]))

    return similarity


def _select(model: Any, similarity: Similarity) -> Any:
    return np.argmax([similarity(theta) for theta in np.eye(model.n_rdm)])


def _optimize(model: Any, similarity: Similarity) -> Any:
    found = []
    for _ in range(2 * model.n_param):
        start = np.random.rand(model.n_param)  # noqa: NPY002
        found.append(_minimum(lambda theta: -similarity(theta), start))
    return _unit(_best(found))


def _optimize_positive(model: Any, similarity: Similarity) -> Any:
    def loss(theta: Doubles) -> float:
        return -similarity(theta**2)

    start = np.zeros(model.n_param)
    drawn = np.random.rand(model.n_param)  # noqa: NPY002
    found = [(start, loss(start)), _minimum(loss, drawn)]
    for i in range(model.n_param):
        start = np.full(model.n_param, 0.001)
        start[i] = 1
        found.append(_minimum(loss, start))
    return _unit(_best(found) ** 2)


def _best(found: list[tuple[Doubles, float]]) -> Doubles:
    return found[int(np.argmin([loss for _, loss in found]))][0]


def _minimum(loss: Callable[[Doubles], float], start: Doubles) -> tuple[Doubles, float]:
    from scipy.optimize import minimize

    result = minimize(loss, start, method="BFGS", tol=_TOLERANCE)
    return result.x, float(result.fun)


def _unit(theta: Doubles) -> Doubles:
    length = np.sum(theta**2)
    return theta.flatten() if length == 0 else theta.flatten() / np.sqrt(length)


def _interpolate(model: Any, similarity: Similarity) -> Any:
    from scipy.optimize import minimize_scalar

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
    return _best(found)


_FITS: dict[str, Callable[..., Any]] = {
    "fit_select": _select,
    "fit_optimize": _optimize,
    "fit_optimize_positive": _optimize_positive,
    "fit_interpolate": _interpolate,
}
