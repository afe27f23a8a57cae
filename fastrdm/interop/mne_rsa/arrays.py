"""Arrays in searchlight patterns with mne-rsa's signatures: `rsa_array` and `rdm_array`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.interop.mne_rsa.analyses import models_of
from fastrdm.interop.mne_rsa.peer import helper, original
from fastrdm.interop.mne_rsa.places import Places, patch_list, places_of
from fastrdm.interop.mne_rsa.searchlights import folds_of, known, rdms_of_places, scores_of_places
from fastrdm.interop.mne_rsa.similarities import ModelRdms, warn_undefined


def rsa_array(
    X: Any,
    rdm_model: Any,
    patches: Any = None,
    data_rdm_metric: Any = "correlation",
    data_rdm_params: Any = None,
    rsa_metric: str = "spearman",
    ignore_nan: bool = False,
    y: Any = None,
    labels_X: Any = None,
    labels_rdm_model: Any = None,
    n_folds: Any = 1,
    n_jobs: int = 1,
    verbose: bool = False,
) -> Any:
    """Compare the RDM of each patch of an array with model RDMs, as ``mne_rsa.rsa_array``.

    A searchlight over space, over time, or over both is one call of `fastrdm.searchlight.score_searchlight`: no RDM is
    kept. Data folds and regression are computed in blocks of patches.

    Parameters
    ----------
    X : ndarray, shape (items, series, samples), or any (items, ...)
        The data.
    rdm_model : ndarray, shape (items, items) or (pairs,), or list of such
        The model, or models.
    patches : mne_rsa.searchlight, or iterable of tuples, optional
        Indices of each patch; by default one patch.
    data_rdm_metric, data_rdm_params
        Metric of the data RDMs, and its arguments. ``"correlation"``, ``"cosine"``, ``"euclidean"`` and
        ``"sqeuclidean"`` without arguments are computed by the kernels; others, patches of some items, and data with
        NaN or infinity go on to mne-rsa.
    rsa_metric, ignore_nan
        As for `rsa`.
    y, labels_X, labels_rdm_model, n_folds
        Items of the rows of `X` and of the models, and cross-validation, as in mne-rsa. Labels need mne-rsa 1.0.
    n_jobs : int
        For what mne-rsa computes; the kernels use all processors.
    verbose : bool
        Whether to show a progress bar, with tqdm.

    Returns
    -------
    ndarray of float64, shape ([models,] [series,] [samples])
        Within 1e-6 of mne-rsa's values; with an axis for more than one model, which is the last one in mne-rsa 0.9.

    Raises
    ------
    TypeError, ValueError
        As mne-rsa; for labels with an older version.
    ImportError
        If mne-rsa is not installed, or its version is not known.
    """
    models = models_of(rdm_model, rsa_metric, ignore_nan)
    n_items = helper("rdm", "_n_items_from_rdm")(models.given[0])
    folds = folds_of(X, y, labels_X, n_items, labels_rdm_model, n_folds)
    listed = patch_list(
        helper("searchlight", "searchlight")(np.shape(X)) if patches is None else patches
    )
    places = places_of(listed, folds.shape[1:])
    if not _compares(models, folds, places, data_rdm_metric, data_rdm_params):
        given = {
            "data_rdm_metric": data_rdm_metric,
            "data_rdm_params": data_rdm_params or {},
            "rsa_metric": rsa_metric,
            "ignore_nan": ignore_nan,
            "y": y,
            "n_folds": n_folds,
            "n_jobs": n_jobs,
            "verbose": verbose,
        }
        if labels_X is not None or labels_rdm_model is not None:
            given.update(labels_X=labels_X, labels_rdm_model=labels_rdm_model)
        return original("rsa_array")(X, rdm_model, listed, **given)
    assert places is not None
    with _Bar(len(listed), verbose) as bar:
        values = scores_of_places(folds, places, models, data_rdm_metric, bar.show)
    warn_undefined(values, "X")
    if len(models) == 1:
        return values.reshape(listed.shape)
    values = values.reshape(*listed.shape, len(models))
    first = helper("folds", "_match_order") is not None
    return np.moveaxis(values, -1, 0) if first else values


def _compares(
    models: ModelRdms, folds: NDArray[Any], places: Places | None, metric: Any, params: Any
) -> bool:
    n = folds.shape[1] if folds.ndim > 1 else 0
    return (
        models.usable
        and models.rows.shape[1] == n * (n - 1) // 2
        and known(folds, places, metric, params)
    )


class rdm_array:
    """RDMs of each patch of an array, one after the other, as ``mne_rsa.rdm_array``.

    RDMs are computed in blocks of patches by `fastrdm.searchlight.calc_rdm_searchlight`.

    Parameters
    ----------
    X, patches, dist_metric, dist_params, y, labels, n_folds, n_jobs
        As for `rsa_array` (`labels` there: `labels_X`).

    Attributes
    ----------
    shape : tuple of int
        ([series,] [samples,] pairs).

    Yields
    ------
    ndarray of float64, shape (pairs,)
        The condensed RDM of a patch.

    Raises
    ------
    TypeError, ValueError, ImportError
        As `rsa_array`.
    """

    def __init__(
        self,
        X: Any,
        patches: Any = None,
        dist_metric: Any = "correlation",
        dist_params: Any = None,
        y: Any = None,
        labels: Any = None,
        n_folds: Any = 1,
        n_jobs: int = 1,
    ) -> None:
        self.X = folds_of(X, y, labels, None, None, n_folds)
        self.patches = helper("searchlight", "searchlight")(X.shape) if patches is None else patches
        self.dist_metric, self.dist_params = dist_metric, dist_params or {}
        self.use_cv = len(self.X) > 1
        n = self.X.shape[1]
        self.shape = (*self.patches.shape, n * (n - 1) // 2)
        self.n_jobs = n_jobs
        self._generator = iter(self)

    def __iter__(self) -> Iterator[Any]:
        """Return an iterator that starts with the first patch."""
        listed = patch_list(self.patches)
        places = places_of(listed, self.X.shape[1:])
        if known(self.X, places, self.dist_metric, self.dist_params):
            assert places is not None
            for rdms in rdms_of_places(self.X, places, self.dist_metric):
                yield from rdms
            return
        theirs = original("rdm_array")(
            self.X[0], listed, self.dist_metric, self.dist_params, n_jobs=self.n_jobs
        )
        theirs.X, theirs.use_cv = self.X, self.use_cv
        yield from iter(theirs)

    def __next__(self) -> Any:
        """Return the RDM of the next patch."""
        return next(self._generator)

    def __len__(self) -> int:
        """Return the number of RDMs."""
        return len(self.patches)


class _Bar:
    """A progress bar of patches, if there is to be one."""

    def __init__(self, total: int, verbose: bool) -> None:
        self._bar: Any = None
        if verbose:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="patch")

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, done: int, _total: int) -> None:
        """Bring the bar to the number of patches that are complete."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
