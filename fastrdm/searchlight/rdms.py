"""Data and neighbourhoods → an RDM of each place."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._kernels import n_processors
from fastrdm.searchlight.blocks import (
    Computer,
    Progress,
    blocks_of,
    method_of,
    result_of,
    warn_missing,
)
from fastrdm.searchlight.places import Patches, movie_of, patches_of


def calc_rdm_searchlight(
    data: ArrayLike,
    neighbours: Any,
    method: str = "correlation",
    *,
    windows: Any = None,
    out: NDArray[Any] | None = None,
    progress: Progress | None = None,
    n_threads: int | None = None,
    max_memory: int | str | None = None,
) -> NDArray[Any]:
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
        ``correlation`` (alias ``pearson``), ``cosine``, ``euclidean``, ``sqeuclidean`` or ``spearman``, as in
        `calc_rdm`.
    windows : list of array_like of int, optional
        The samples of each window, as indices, ranges or slices, for data with samples: each place then has an RDM of
        each window, of its channels × the samples.
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
        was passed.

    Raises
    ------
    ValueError
        If the data have another shape, one condition, NaN or infinity, an index is out of range, a neighbourhood or
        window is empty, `out` has another shape or type, the method is unknown or needs noise or folds, or `max_memory`
        is less than an RDM needs.
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

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> data = np.random.default_rng(0).random((6, 50))
    >>> neighbours = [np.arange(k, k + 10) for k in range(40)]
    >>> fastrdm.calc_rdm_searchlight(data, neighbours).shape
    (40, 15)
    """
    name = method_of(method)
    patches = patches_of(data, neighbours, windows)
    lead = (patches.centres.n,) if windows is None else (patches.centres.n, patches.n_windows)
    return _rdms(patches, name, lead, out, progress, n_threads, max_memory)


def calc_rdm_movie(
    data: ArrayLike,
    windows: Any,
    method: str = "correlation",
    *,
    out: NDArray[Any] | None = None,
    progress: Progress | None = None,
    n_threads: int | None = None,
    max_memory: int | str | None = None,
) -> NDArray[Any]:
    """Compute an RDM of each window of time, of all channels.

    Parameters
    ----------
    data : array_like, shape (conditions, channels, samples) or (conditions, samples)
        Responses over time; without channels, those of one channel.
    windows : list of array_like of int
        The samples of each window, as indices, ranges or slices.
    method, out, progress, n_threads, max_memory
        As for `calc_rdm_searchlight`.

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
    name = method_of(method)
    patches = movie_of(data, windows)
    return _rdms(patches, name, (patches.n_windows,), out, progress, n_threads, max_memory)


def _rdms(
    patches: Patches,
    method: str,
    lead: tuple[int, ...],
    out: NDArray[Any] | None,
    progress: Progress | None,
    n_threads: int | None,
    max_memory: int | str | None,
) -> NDArray[Any]:
    """Return RDMs of shape (*lead, pairs), in `out` if it is given."""
    shape = (*lead, patches.n_pairs)
    result = result_of(out, shape)
    by_place = result.reshape(patches.centres.n, patches.n_windows, -1)
    threads = n_threads or n_processors()
    computer = Computer(patches, method, n_threads)
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
    return result
