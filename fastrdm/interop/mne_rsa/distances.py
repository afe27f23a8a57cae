"""Data → RDMs with mne-rsa's signatures: `compute_rdm` and `compute_rdm_cv`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm.interop.mne_rsa.peer import original
from fastrdm.rdm import calc_rdm

Floats = NDArray[np.float64]
# Metrics that mean the same as methods of `calc_rdm`.
METRICS = ("correlation", "cosine", "euclidean", "sqeuclidean")
_ANGLES = ("correlation", "cosine")


def compute_rdm(data: ArrayLike, metric: Any = "correlation", **kwargs: Any) -> Floats:
    """Compute the RDM of items, as ``mne_rsa.compute_rdm``.

    Parameters
    ----------
    data : array_like, shape (items, ...)
        All further axes are features. Computed in float64.
    metric : str or callable
        ``"correlation"``, ``"cosine"``, ``"euclidean"``, ``"sqeuclidean"``, and ``"mahalanobis"`` with a symmetric
        ``VI`` are computed by the kernels. Other metrics of `scipy.spatial.distance.pdist`, functions, and data with
        NaN or infinity go on to mne-rsa.
    **kwargs
        Arguments of the metric; with any but ``VI``, mne-rsa computes.

    Returns
    -------
    ndarray of float64, shape (pairs,)
        The condensed RDM, within 1e-6 of mne-rsa's. Items that are equal have equal dissimilarities to others, and
        exact ties stay ties, where mne-rsa's differ by rounding; pairs with a constant item are NaN for
        ``"correlation"``, pairs with a zero item for ``"cosine"``.

    Raises
    ------
    ValueError
        As mne-rsa: a single feature for ``"correlation"`` or ``"cosine"``, unknown metrics.
    ImportError
        If mne-rsa is not installed, or its version is not known.

    Warns
    -----
    UndefinedPairsWarning
        Naming the items whose pairs are NaN.
    """
    theirs = original("compute_rdm")
    rows = features(data)
    if rows is None or not knows(metric, kwargs, rows):
        return np.asarray(theirs(data, metric, **kwargs))
    return np.asarray(calc_rdm(rows, metric, **_options(kwargs)))


def compute_rdm_cv(folds: Any, metric: Any = "correlation", **kwargs: Any) -> Floats:
    """Compute a cross-validated RDM of items, as ``mne_rsa.compute_rdm_cv``.

    The dissimilarity of items i < j is the mean over folds of that between i in a training pattern and j in the fold.

    Parameters
    ----------
    folds : ndarray, shape (folds, items, ...)
        All further axes are features. Computed in float64.
    metric, **kwargs
        As for `compute_rdm`.

    Returns
    -------
    ndarray of float64, shape (pairs,)
        The condensed RDM, within 1e-6 of mne-rsa's.

    Raises
    ------
    ValueError, ImportError
        As `compute_rdm`.

    Warns
    -----
    UndefinedPairsWarning
        As `compute_rdm`; items are counted over the training items and then the test items.

    Notes
    -----
    mne-rsa 0.9 and 1.0 have the training pattern m + (x − m) / (folds − 1) for a fold x and the mean m of all folds.
    This is not the mean of the other folds, which is m − (x − m) / (folds − 1): it lies on the side of the fold, and is
    the fold itself if there are two, so that noise of the fold is on both sides. The values here are mne-rsa's. For
    distances without this bias, use ``fastrdm.calc_rdm(..., "crossnobis")``.
    """
    theirs = original("compute_rdm_cv")
    stack = _numbers(folds)
    if stack is None or stack.ndim < 3 or len(stack) < 2:
        return np.asarray(theirs(folds, metric, **kwargs))
    rows = stack.reshape(*stack.shape[:2], -1)
    if not knows(metric, kwargs, rows.reshape(-1, rows.shape[-1])) or rows.shape[1] < 2:
        return np.asarray(theirs(folds, metric, **kwargs))
    chosen = crossed_pairs(rows.shape[1])
    total = np.zeros(len(chosen))
    for both in train_and_test(np.reshape(folds, rows.shape)):
        total += calc_rdm(both, metric, **_options(kwargs))[chosen]
    return total / len(rows)


def train_and_test(folds: NDArray[Any]) -> Iterator[Floats]:
    """Yield, for each fold, mne-rsa's training patterns above the fold: (2 × items, ...) in float64."""
    mean = folds.mean(axis=0)
    for test in folds:
        # In mne-rsa's terms and precision, so that rounding is the same; see the notes of `compute_rdm_cv`.
        training = mean - (mean - test) / (len(folds) - 1)
        yield np.concatenate([training, test], dtype=np.float64)


def crossed_pairs(n: int) -> NDArray[np.intp]:
    """Return where the pairs (i, n + j), i < j, are in the condensed RDM of 2n items."""
    first, second = np.triu_indices(n, 1)
    starts = first * (2 * n) - first * (first + 1) // 2
    return np.asarray(starts + n + second - first - 1, np.intp)


def knows(metric: Any, kwargs: Any, rows: Floats) -> bool:
    """Whether the kernels compute this metric of these finite rows (items, features) as mne-rsa does."""
    if len(rows) < 2 or not rows.shape[1] or not np.isfinite(rows).all():
        return False
    if not isinstance(metric, str):
        return False
    if metric == "mahalanobis" and set(kwargs) == {"VI"}:
        return _is_precision(kwargs["VI"], rows.shape[1])
    if kwargs or metric not in METRICS:
        return False
    return rows.shape[1] > 1 or metric not in _ANGLES


def features(data: Any) -> Floats | None:
    """Return data as (items, features) in float64; None for what are not real numbers."""
    array = _numbers(data)
    if array is None or not array.ndim or not len(array):
        return None
    return array.reshape(len(array), -1)


def _numbers(data: Any) -> Floats | None:
    array = np.asarray(data)
    if array.dtype.kind not in "biuf":
        return None
    return np.asarray(array, np.float64)


def _is_precision(inverse: Any, n_features: int) -> bool:
    """Whether a matrix is symmetric and positive semi-definite, which SciPy does not require."""
    matrix = np.asarray(inverse)
    if matrix.shape != (n_features, n_features) or matrix.dtype.kind not in "biuf":
        return False
    if not np.isfinite(matrix).all() or not np.array_equal(matrix, matrix.T):
        return False
    return bool(np.linalg.eigvalsh(matrix)[0] >= 0)


def _options(kwargs: Any) -> dict[str, Any]:
    return {"precision": kwargs["VI"]} if kwargs else {}
