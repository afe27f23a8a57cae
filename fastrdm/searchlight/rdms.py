"""Data and neighbourhoods → an RDM of each place."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._kernels import n_processors
from fastrdm.searchlight.blocks import (
    Progress,
    blocks_of,
    result_of,
    warn_missing,
)
from fastrdm.searchlight.designs import Design, Options, design_of
from fastrdm.searchlight.labelled import Axis, leading_axes, with_conditions
from fastrdm.searchlight.places import movie_of, patches_of


def calc_rdm_searchlight(
    data: ArrayLike,
    neighbours: Any,
    method: str = "correlation",
    *,
    windows: Any = None,
    precision: ArrayLike | None = None,
    residuals: ArrayLike | None = None,
    estimator: str | None = None,
    folds: ArrayLike | None = None,
    conditions: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    progress: Progress | None = None,
    n_threads: int | None = None,
    max_memory: int | str | None = None,
) -> Any:
    """Compute an RDM of each neighbourhood of channels, and of each window of time if there are windows.

    Place k has the RDM ``calc_rdm(data[:, neighbours[k]], method)``, within 1e-9 for float64 data and 1e-6 for float32
    data. Products of all types of data are computed in float64. Conditions that are equal in a neighbourhood have a
    dissimilarity of 0, and equal ones to other conditions; the number of threads, blocks and other neighbourhoods
    change no bit. Unlike `calc_rdm`, nothing else makes dissimilarities equal that differ by rounding.

    Parameters
    ----------
    data : array_like, shape (conditions, channels) or (conditions, channels, samples)
        Responses: float32 or float64; others are converted to float64. One copy, with conditions last, is made unless
        the data are in this order in memory.
    neighbours : list of array_like of int, or ndarray
        The channels of each place: indices, or masks of all channels. A boolean array or a sparse matrix of SciPy,
        (places, channels), marks them by rows. With samples and without `windows`, a place has all samples of its
        channels.
    method : str
        As in `calc_rdm`: ``correlation`` (alias ``pearson``), ``cosine``, ``euclidean``, ``sqeuclidean``, ``spearman``,
        ``mahalanobis`` or ``crossnobis``.
    windows : list of array_like of int, optional
        The samples of each window, as indices, ranges or slices, for data with samples: each place then has an RDM of
        each window, of its channels × the samples.
    precision : array_like, shape (channels, channels), optional
        For ``mahalanobis`` and ``crossnobis``: the inverse of the noise's covariance. Each place is whitened with the
        part of the covariance that its channels have.
    residuals : array_like, shape (observations, channels), optional
        In place of `precision`: residuals of all channels, of which the covariance of each place's channels is
        estimated. Residuals of several runs are one array.
    estimator, folds, conditions
        As for `calc_rdm`. With folds, data are measurements, (measurements, channels) or (measurements, channels,
        samples), and every fold has every condition; averages of each fold are kept in memory, in float64.
    out : ndarray of float32 or float64, optional
        Array for the result, of its shape; may be a ``numpy.memmap``.
    progress : callable, optional
        Called with the number of RDMs computed so far, and of all, after each block. An exception that it raises ends
        the computation.
    n_threads : int, optional
        Number of threads; by default one for each processor available to the process.
    max_memory : int or str, optional
        Bytes, or a string such as ``"500MB"``, for RDMs that are computed together.

    Returns
    -------
    ndarray of float64, shape (places, pairs), or (places, windows, pairs) with windows
        Condensed RDMs; NaN for pairs of conditions that are constant (``cosine``: zero) in a neighbourhood. `out` if it
        was passed. If the conditions of data in a pandas or xarray object are labelled, a DataFrame or DataArray with
        labels of pairs as from `calc_rdm`; places have the labels of the channels at their centres if `neighbours` is
        `Neighbourhoods`, and windows the mean of the times of their first and last sample. A DataFrame has two axes, so
        there are none with windows.

    Raises
    ------
    ValueError
        If the data have another shape, one condition, NaN or infinity, an index is out of range, a neighbourhood or
        window is empty, `out` has another shape or type, the method is unknown, lacks an option or takes none of its
        kind, noise has another shape or no inverse, a fold lacks a condition, or `max_memory` is less than an RDM
        needs.
    TypeError
        If indices are not integers.

    Warns
    -----
    RuntimeWarning
        One, with the number of places that have undefined pairs.

    See Also
    --------
    score_searchlight : similarities to models, without keeping RDMs.

    References
    ----------
    Kriegeskorte, Goebel & Bandettini (2006), Information-based functional brain mapping, PNAS 103(10).
    Walther et al. (2016), Reliability of dissimilarity measures for multi-voxel pattern analysis, NeuroImage 137.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> data = np.random.default_rng(0).random((6, 50))
    >>> neighbours = [np.arange(k, k + 10) for k in range(40)]
    >>> fastrdm.calc_rdm_searchlight(data, neighbours).shape
    (40, 15)
    """
    options = Options(precision, residuals, estimator, folds, conditions)
    design = design_of(data, patches_of(data, neighbours, windows), method, options)
    axes = leading_axes(data, neighbours, design.patches, windows)
    return _rdms(design, data, axes, out, progress, n_threads, max_memory)


def calc_rdm_movie(
    data: ArrayLike,
    windows: Any,
    method: str = "correlation",
    *,
    precision: ArrayLike | None = None,
    residuals: ArrayLike | None = None,
    estimator: str | None = None,
    folds: ArrayLike | None = None,
    conditions: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    progress: Progress | None = None,
    n_threads: int | None = None,
    max_memory: int | str | None = None,
) -> Any:
    """Compute an RDM of each window of time, of all channels.

    Parameters
    ----------
    data : array_like, shape (conditions, channels, samples) or (conditions, samples)
        Responses over time; without channels, those of one channel.
    windows : list of array_like of int
        The samples of each window, as indices, ranges or slices.
    method, precision, residuals, estimator, folds, conditions, out, progress, n_threads, max_memory
        As for `calc_rdm_searchlight`; noise is that of all channels, the same at each sample.

    Returns
    -------
    ndarray of float64, shape (windows, pairs)
        Condensed RDMs, as those of `calc_rdm_searchlight`.

    Raises
    ------
    ValueError, TypeError
        As `calc_rdm_searchlight`.

    Warns
    -----
    RuntimeWarning
        As `calc_rdm_searchlight`.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> data = np.random.default_rng(0).random((6, 10, 50))
    >>> fastrdm.calc_rdm_movie(data, [range(t, t + 5) for t in range(46)]).shape
    (46, 15)
    """
    options = Options(precision, residuals, estimator, folds, conditions)
    design = design_of(data, movie_of(data, windows), method, options)
    axes = leading_axes(data, None, design.patches, windows)
    return _rdms(design, data, axes, out, progress, n_threads, max_memory)


def _rdms(
    design: Design,
    data: Any,
    axes: list[Axis],
    out: NDArray[Any] | None,
    progress: Progress | None,
    n_threads: int | None,
    max_memory: int | str | None,
) -> Any:
    """Return RDMs of shape (*axes, pairs), in `out` if it is given, else with labels of the data."""
    patches = design.patches
    shape = (*(axis.n for axis in axes), patches.n_pairs)
    result = result_of(out, shape)
    by_place = result.reshape(patches.centres.n, patches.n_windows, -1)
    threads = n_threads or n_processors()
    computer = design.computer(n_threads)
    done, missing, total = 0, 0, patches.centres.n * patches.n_windows
    for block in blocks_of(patches, max_memory, threads):
        part = by_place[block.centres, block.windows]
        rdms = np.empty((part.shape[0] * part.shape[1], patches.n_pairs))
        computer.fill(rdms, block)
        part[:] = rdms.reshape(part.shape)
        missing += int(np.isnan(rdms).any(axis=1).sum())
        done += len(rdms)
        if progress is not None:
            progress(done, total)
    warn_missing(missing, total, "conditions without dissimilarities: pairs are NaN in the RDMs")
    if out is not None:
        return result
    return with_conditions(result, data, axes, design.names, design.method)
