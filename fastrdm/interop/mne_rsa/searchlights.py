"""Folds of data × places → RDMs of each place, or their similarities to models."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.interop.mne_rsa.distances import METRICS, crossed_pairs, train_and_test
from fastrdm.interop.mne_rsa.peer import helper
from fastrdm.interop.mne_rsa.places import Places
from fastrdm.interop.mne_rsa.similarities import SIMILARITIES, ModelRdms
from fastrdm.searchlight import calc_rdm_searchlight, score_searchlight

Floats = NDArray[np.float64]
Progress = Callable[[int, int], Any]


def folds_of(
    data: Any, y: Any, labels: Any, model_items: int | None, model_labels: Any, n_folds: Any
) -> NDArray[Any]:
    """Return data as (folds, items, ...), in the order of the models' labels if there are any."""
    match = helper("folds", "_match_order")
    if match is None:
        if labels is not None or model_labels is not None:
            raise TypeError(
                "labels are an argument of mne-rsa 1.0 and later, and an older version is installed; pass y, or update"
                " mne-rsa"
            )
    elif model_items is not None:
        y = match(len(data), model_items, y if labels is None else labels, model_labels)
    elif y is None:
        y = match(len_X=len(data), labels_X=labels, var="labels")
    return np.asarray(helper("folds", "create_folds")(data, y, n_folds))


def known(folds: NDArray[Any], places: Places | None, metric: Any, params: Any) -> bool:
    """Whether the kernels compute the RDMs of these places as mne-rsa does."""
    if places is None or params or not isinstance(metric, str) or metric not in METRICS:
        return False
    if folds.dtype.kind not in "biuf" or folds.dtype.itemsize > 8 or folds.shape[1] < 2:
        return False
    if places.least < 2 and metric in ("correlation", "cosine"):
        return False
    return bool(np.isfinite(folds).all())


def rdms_of_places(folds: NDArray[Any], places: Places, metric: str) -> Iterator[Floats]:
    """Yield blocks of RDMs (places, pairs), in the order of the patches."""
    n = folds.shape[1]
    if len(folds) == 1:
        data = places.arranged(folds[0])
        for part in places.blocks(4 * n * (n - 1)):
            yield _rdms(data, part, metric)
        return
    chosen = crossed_pairs(n)
    sides = [places.arranged(both) for both in train_and_test(np.asarray(folds, np.float64))]
    for part in places.blocks(16 * n * n):
        total = sum(_rdms(both, part, metric)[:, chosen] for both in sides)
        yield np.asarray(total) / len(folds)


def scores_of_places(
    folds: NDArray[Any],
    places: Places,
    models: ModelRdms,
    metric: str,
    progress: Progress | None = None,
) -> Floats:
    """Return similarities (places, models)."""
    n_windows = 1 if places.windows is None else len(places.windows)
    total = len(places.neighbours) * n_windows
    simple = models.metric in SIMILARITIES
    if len(folds) > 1 or models.method is None or not (simple or not models.ignore_nan):
        result = np.empty((total, len(models)))
        done = 0
        for rdms in rdms_of_places(folds, places, metric):
            result[done : done + len(rdms)] = models.compare(rdms)
            done += len(rdms)
            if progress is not None:
                progress(done, total)
        return result
    found = _scores(places.arranged(folds[0]), places, models, metric, progress)
    result = models.from_similarities(found)
    # Undefined RDMs: not all metrics of mne-rsa are NaN for them.
    if models.metric == "kendall-tau-a":
        unsure = np.isnan(result).any(axis=1) | (result == 0).all(axis=1)
    elif simple:
        return result
    else:
        unsure = np.isnan(result).any(axis=1)
    for k in np.flatnonzero(unsure):
        centre, window = divmod(int(k), n_windows)
        windows = None if places.windows is None else [places.windows[window]]
        one = places._replace(neighbours=[places.neighbours[centre]], windows=windows)
        result[k] = models.compare(next(rdms_of_places(folds, one, metric)))[0]
    return result


def _scores(
    data: NDArray[Any], places: Places, models: ModelRdms, metric: str, progress: Progress | None
) -> Floats:
    with warnings.catch_warnings():
        # NaN for constant RDMs, as in mne-rsa.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = score_searchlight(
            data,
            places.neighbours,
            list(models.rows),
            metric,
            str(models.method),
            windows=places.windows,
            nan_policy="omit" if models.ignore_nan else "raise",
            progress=progress,
        )
    return np.asarray(found).reshape(-1, len(models))


def _rdms(data: NDArray[Any], places: Places, metric: str) -> Floats:
    found = calc_rdm_searchlight(data, places.neighbours, metric, windows=places.windows)
    rdms = np.asarray(found)
    return rdms.reshape(-1, rdms.shape[-1])
