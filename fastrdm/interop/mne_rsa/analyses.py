"""RDMs × models → similarities with mne-rsa's signatures: `rsa` and `rsa_gen`."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.interop.mne_rsa.peer import original
from fastrdm.interop.mne_rsa.similarities import ModelRdms, condenser, warn_undefined

# Bytes of RDMs that are compared together.
_BLOCK = 1 << 25


def rsa_gen(
    rdm_data_gen: Iterable[Any], rdm_model: Any, metric: str = "spearman", ignore_nan: bool = False
) -> Iterator[Any]:
    """Yield the similarities of each data RDM to the models, as ``mne_rsa.rsa_gen``.

    Lists are compared in blocks; from a generator, each RDM is compared when it comes. With `ignore_nan`, pairs that
    were NaN in an RDM are left out of the RDMs that follow too, as in mne-rsa.

    Parameters
    ----------
    rdm_data_gen : iterable of ndarray, shape (items, items) or (pairs,)
        Data RDMs.
    rdm_model : ndarray, shape (items, items) or (pairs,), or list of such
        The model, or models.
    metric, ignore_nan
        As for `rsa`.

    Yields
    ------
    float or ndarray of float64, shape (models,)
        An array if `rdm_model` is a list.

    Raises
    ------
    TypeError, ValueError
        As mne-rsa: RDMs of other shapes, one model for partial correlations, an unknown metric.
    ImportError
        If mne-rsa is not installed, or its version is not known.
    """
    theirs = original("rsa_gen")
    models = models_of(rdm_model, metric, ignore_nan)
    if not models.usable:
        yield from theirs(rdm_data_gen, rdm_model, metric, ignore_nan)
        return
    at_once = isinstance(rdm_data_gen, (list, tuple, np.ndarray))
    size = max(1, _BLOCK // models.rows[0].nbytes) if at_once else 1
    for values in _compared(rdm_data_gen, models, size, together=True):
        yield values if isinstance(rdm_model, list) else values[0]


def rsa(
    rdm_data: Any,
    rdm_model: Any,
    metric: str = "spearman",
    ignore_nan: bool = False,
    n_data_rdms: int | None = None,
    n_jobs: int = 1,
    verbose: bool = False,
) -> Any:
    """Compare data RDMs with model RDMs, as ``mne_rsa.rsa``.

    Parameters
    ----------
    rdm_data : ndarray, shape (items, items) or (pairs,), or list or generator of such
        The data RDM, or RDMs.
    rdm_model : ndarray, shape (items, items) or (pairs,), or list of such
        The model, or models.
    metric : str
        ``"spearman"``, ``"pearson"``, ``"kendall-tau-a"``, ``"partial"`` and ``"partial-spearman"`` (correlation with
        each model, the others held constant) and ``"regression"`` (weights of all models) are computed by the kernels.
        Models that depend on each other linearly, RDMs with NaN or infinity, and fewer than three pairs go on to
        mne-rsa.
    ignore_nan : bool
        Whether pairs that are NaN in a model or in the data are left out. With ``n_jobs=1``, also those that were NaN
        in an RDM before, as in mne-rsa.
    n_data_rdms : int, optional
        Length of the progress bar for a generator.
    n_jobs : int
        For what mne-rsa computes; the kernels use all processors.
    verbose : bool
        Whether to show a progress bar, with tqdm.

    Returns
    -------
    float or ndarray of float64, shape ([data RDMs,] [models])
        One axis for each argument that is a list (data: or a generator); within 1e-6 of mne-rsa's values. NaN for a
        constant RDM.

    Raises
    ------
    TypeError, ValueError, ImportError
        As `rsa_gen`.
    """
    models = models_of(rdm_model, metric, ignore_nan)
    if not models.usable:
        theirs = original("rsa")
        return theirs(rdm_data, rdm_model, metric, ignore_nan, n_data_rdms, n_jobs, verbose)
    many = isinstance(rdm_data, list) or hasattr(rdm_data, "__next__")
    rdms = rdm_data if many else [rdm_data]
    if verbose:
        from tqdm import tqdm

        total = n_data_rdms
        if total is None and hasattr(rdms, "__len__"):
            total = len(rdms)
        rdms = tqdm(rdms, total=total, unit="RDM")
    size = max(1, _BLOCK // models.rows[0].nbytes)
    values = list(_compared(rdms, models, size, together=n_jobs == 1))
    if not isinstance(rdm_model, list):
        values = [value[0] for value in values]
    return np.asarray(values) if many else values[0]


def models_of(rdm_model: Any, metric: Any, ignore_nan: bool) -> ModelRdms:
    """Return models for comparisons, from the forms that mne-rsa takes."""
    rdms = rdm_model if isinstance(rdm_model, list) else [rdm_model]
    condensed = condenser()
    return ModelRdms([condensed(rdm, "rdm_model") for rdm in rdms], metric, ignore_nan)


def _compared(
    rdms: Iterable[Any], models: ModelRdms, size: int, together: bool
) -> Iterator[NDArray[np.float64]]:
    """Yield similarities of each RDM, computed for blocks; `together`: NaN leaves pairs out of later RDMs too."""
    left_out = np.zeros(models.rows.shape[1], np.bool_)
    rest, condensed = iter(rdms), condenser()
    while block := [np.asarray(condensed(rdm, "rdm_data")) for rdm in islice(rest, size)]:
        for rdm in block:
            if rdm.shape != left_out.shape:
                raise ValueError(
                    f"rdm_data has an RDM of {rdm.size} pairs of items, and rdm_model has RDMs of {left_out.size}"
                )
            if rdm.dtype.kind == "c":
                raise ValueError(f"rdm_data has an RDM of {rdm.dtype}; expected real numbers")
        rows = np.array(block, np.float64)
        if models.ignore_nan and together:
            for row in rows:
                left_out |= np.isnan(row)
                row[left_out] = np.nan
        values = models.compare(rows)
        warn_undefined(values, "rdm_data")
        yield from values
