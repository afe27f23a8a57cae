"""Activations → RDMs: `calc_rdm`, for one layer or a stack."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import parse_bytes
from fastrdm.rdm import tiles
from fastrdm.rdm.folds import Folds
from fastrdm.rdm.inputs import aligned, check_options, members_of, noises_of, warn_undefined
from fastrdm.rdm.labelled_results import check_fold_orders, labelled_rdms
from fastrdm.rdm.methods import method_named, show_methods
from fastrdm.rdm.numbers import kind_of, tie_tolerance
from fastrdm.rdm.products import Floats, working_dtype
from fastrdm.rdm.sources import TensorMember
from fastrdm.rdm.stacks import each_of
from fastrdm.rdm.tensor_grams import tensor_gram
from fastrdm.tensors import check_like, in_kind

Name = TypeVar("Name", bound=Hashable)
_Options = ArrayLike | Sequence[ArrayLike] | Mapping[Any, ArrayLike]


@overload
def calc_rdm(
    activations: Mapping[Name, Any],
    method: str = ...,
    *,
    precision: _Options | None = ...,
    residuals: _Options | None = ...,
    estimator: str | None = ...,
    folds: ArrayLike | None = ...,
    conditions: ArrayLike | None = ...,
    out: Floats | None = ...,
    like: None = ...,
    max_memory: int | str | None = ...,
    n_threads: int | None = ...,
) -> dict[Name, Floats]: ...
@overload
def calc_rdm(
    activations: ArrayLike | Sequence[Any],
    method: str = ...,
    *,
    precision: _Options | None = ...,
    residuals: _Options | None = ...,
    estimator: str | None = ...,
    folds: ArrayLike | None = ...,
    conditions: ArrayLike | None = ...,
    out: Floats | None = ...,
    like: None = ...,
    max_memory: int | str | None = ...,
    n_threads: int | None = ...,
) -> Floats: ...
@overload
def calc_rdm(
    activations: Any,
    method: str = ...,
    *,
    precision: _Options | None = ...,
    residuals: _Options | None = ...,
    estimator: str | None = ...,
    folds: ArrayLike | None = ...,
    conditions: ArrayLike | None = ...,
    out: Floats | None = ...,
    like: Any,
    max_memory: int | str | None = ...,
    n_threads: int | None = ...,
) -> Any: ...
@show_methods
def calc_rdm(
    activations: Any,
    method: str = "correlation",
    *,
    precision: _Options | None = None,
    residuals: _Options | None = None,
    estimator: str | None = None,
    folds: ArrayLike | None = None,
    conditions: ArrayLike | None = None,
    out: Floats | None = None,
    like: Any = None,
    max_memory: int | str | None = None,
    n_threads: int | None = None,
) -> Any:
    r"""Compute the RDM of a layer, or of each layer of a stack: a dissimilarity for every pair of conditions.

    {methods}

    Distances follow SciPy: nothing is divided by the number of channels. rsatoolbox's "euclidean" is ``sqeuclidean`` /
    channels, its "mahalanobis" is ``mahalanobis`` ** 2 / channels, and its "crossnobis" is ``crossnobis`` / channels.

    **A dissimilarity depends on its two conditions alone**, to the bit: permuted conditions have the permuted RDM,
    equal conditions have equal dissimilarities and one of 0 to each other, and threads, tiles (`max_memory`), strides
    and other members of a stack change nothing. Pairs whose products have too few digits left are computed from
    their differences: float32 activations give 1 − r within 1e-6, and nearly parallel conditions within 1e-4 of 1 − r
    itself.

    **Ties.** Distances and products of integers (one-hot, binary, small integers, in any type) are exact, and angles
    of equal fractions are equal. Other dissimilarities that are equal in exact arithmetic differ by rounding. If they
    differ by up to 2⁻⁴⁰ in float64 or 2⁻²¹ in float32, relative to a distance, to half a squared distance, or to the
    angle for ``correlation``, ``cosine`` and ``spearman``, the rule of `fastrdm._kernels.ties` makes them equal before
    the RDM is returned. float32 numbers that are large compared with their differences may differ by more, and values
    closer than the tolerance become ties. The rule applies to float64 activations (in RDMs of up to 2¹⁸ pairs) and to
    activations with few different values. In RDMs of other float32 activations, only equal conditions give equal
    dissimilarities.

    **Devices.** Torch tensors on a GPU or another device, and arrays there that other libraries share by DLPack (CuPy,
    JAX), are multiplied where they are, by the methods marked for devices; the others are refused. Products are
    computed in float64 from activations of any type (in float32 on devices without float64, such as MPS), so that RDMs
    agree with those of float32 activations on the host within their rounding. Integers, also as floating point, have
    exact products, equal conditions a dissimilarity of 0 and equal ones to others, and the rule for ties is that of
    float64 activations. The other bits depend on the device, its library and, if that is not CUDA, the order of
    conditions.

    Parameters
    ----------
    activations : array_like, shape (conditions, channels, ...), or list, tuple or dict of such
        One row per condition; further axes are channels too. For ``crossnobis`` a row is a measurement. An array is
        always one RDM; a list or tuple of arrays with two or more axes is a stack of layers or models, each with an
        RDM, which may differ in channels. A dict is a stack with named members. Torch tensors and arrays of other
        libraries are accepted like arrays: those in host memory without a copy, those on a device as described above.
        float32 and float64 arrays with contiguous rows, ``numpy.memmap`` included, are read in place; others are copied
        block by block, float16 and bfloat16 to float32, integers to float64. Products are computed in that precision
        and summed in float64; ``mahalanobis`` and ``crossnobis`` compute products in float64.
    method : str
        A name or alias from the table.
    precision : array_like, shape (channels, channels) or (folds, channels, channels), optional
        For ``mahalanobis``, and for ``crossnobis`` with noise normalisation: the inverse of the covariance of the
        channels' noise, symmetric and positive semi-definite. For ``crossnobis`` also one per fold, in the order of
        ``numpy.unique(folds)`` or as a mapping of folds: products of two folds are then normalised by the mean of both
        covariances, as in rsatoolbox. For a stack whose members need different ones: a list with one per member, or for
        a dict, a dict with the same keys in any order.
    residuals : array_like, shape (observations, channels, ...), optional
        Instead of ``precision``: noise to estimate it from. For a stack, as ``precision``; for each fold, a list or a
        mapping.
    estimator : str, optional
        Estimator of the covariance of residuals, by rsatoolbox's names: ``"shrinkage_diag"`` (the default; towards its
        diagonal, Schäfer & Strimmer 2005, target D of table 2), ``"shrinkage_eye"`` (towards a multiple of the
        identity, Ledoit & Wolf 2004, eq. 14), ``"diag"`` (variances only), ``"full"`` (the sample covariance).
    folds : array_like, shape (measurements,), optional
        For ``crossnobis``: the fold (run, session) of each measurement, as numbers or strings.
    conditions : array_like, shape (measurements,), optional
        For ``crossnobis``: the condition of each measurement. The RDM has them in the order of ``numpy.unique``.
        Measurements of one condition in one fold are averaged first, so all pairs of folds have equal weight. Folds may
        lack conditions: two conditions are compared over the pairs of folds that contain both. Optional if every fold
        contains every condition once, in the same order.
    out : ndarray of float64, shape (pairs,), or (n, pairs) for a stack, optional
        Array for the result; may be a ``numpy.memmap``. For a dict, its rows are in the dict's order, and the returned
        RDMs are views of them.
    like : array, optional
        An array of the kind that the result is to be: a torch tensor, or an array of a library with DLPack, whose
        device the result is copied to. Without it, results are NumPy arrays.
    max_memory : int or str, optional
        Bytes, or a string such as ``"500MB"`` or ``"2GiB"``, that the call may use in addition to its input and `out`:
        the RDM is then computed tile by tile, each from all channels of some conditions. Pages of a mapped file count
        as input. On a device, the products of all pairs are in memory, and channels are converted in blocks of this
        size. Without it, the products of all pairs are in memory, and for ``spearman``, ``mahalanobis`` and
        ``crossnobis`` also the ranks, whitened or averaged activations.
    n_threads : int, optional
        Number of threads; by default one for each processor available to the process.

    Returns
    -------
    ndarray of float64, shape (pairs,), or (n, pairs) for a stack of n; or dict of such, shape (pairs,)
        Condensed RDMs of conditions (conditions − 1) / 2 pairs; `square` makes them square. For a dict of layers, a
        dict with the same keys in the same order. If the conditions of a pandas or xarray object are labelled, a
        labelled object of the same library (unless `out` was passed): a Series, DataFrame or DataArray, whose pairs
        have the labels of both conditions, ``NAME_1`` and ``NAME_2`` for the name of the conditions' axis. With `like`,
        arrays of its kind, which are float32 on devices without float64. ``crossnobis`` distances are unbiased: around
        zero, and so negative half of the time, if conditions do not differ.

    Raises
    ------
    ValueError
        If there are fewer than two conditions, no channels, masked values, NaN or infinity (the message says where), a
        tensor that is sparse, complex or quantised, a squared distance beyond float64, an unknown method, an option
        that the method does not take or one that it lacks; if precision is asymmetric or not positive semi-definite,
        two conditions share fewer than two folds, or `max_memory` is too small (the message names the minimum); if
        activations are on a device and the method is not for devices, or their squares exceed the device's range; if
        `like` is no array, or `out` was passed too. If
        labels of pandas or xarray objects differ: of conditions within a stack, of measurements in `activations`,
        `folds` and `conditions`, of channels in `activations` and `precision` or `residuals`. Messages about one member
        of a stack name it.
    MemoryError
        If a device has too little memory.
    MissingExtraError
        If an array of another library is on a device, and torch is not installed.

    Warns
    -----
    RuntimeWarning
        If conditions are constant over channels, or zero for ``cosine``: their pairs are NaN. One warning per RDM.
        If a list of layers may hold batches or conditions of one layer instead: 8 arrays or more, all of one shape,
        whose number of conditions is at most 64, a multiple of 32, or not above the number of arrays. This matches most
        batches and feature maps, but not stacks of a few models, layers of different shapes, or the blocks of a
        transformer for 92 or 118 conditions. There is no such warning for a dict.

    See Also
    --------
    gram : products of all pairs of conditions, with the RDMs of several methods.
    RdmAccumulator : RDM from blocks of channels.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008), Representational similarity analysis, Front. Syst. Neurosci. 2:4.
    Walther et al. (2016), Reliability of dissimilarity measures for multi-voxel pattern analysis, NeuroImage 137
    (``mahalanobis``, ``crossnobis``).
    Diedrichsen, Provost & Zareamoghaddam (2016), On the distribution of cross-validated Mahalanobis distances,
    arXiv:1607.01371 (``crossnobis`` over all pairs of folds).
    Schäfer & Strimmer (2005), A shrinkage approach to large-scale covariance matrix estimation, Stat. Appl. Genet.
    Mol. Biol. 4:32.
    Ledoit & Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices, J. Multivar. Anal. 88.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> layers = [rng.random((10, 600)), rng.random((10, 64, 7, 7))]
    >>> fastrdm.calc_rdm(layers).shape
    (2, 45)
    >>> runs = np.repeat([1, 2, 3], 10)
    >>> fastrdm.calc_rdm(rng.random((30, 600)), "crossnobis", folds=runs).shape
    (45,)
    """
    row = method_named(method)
    options = {
        "precision": precision,
        "residuals": residuals,
        "estimator": estimator,
        "folds": folds,
        "conditions": conditions,
    }
    check_options(method, row, {name for name, value in options.items() if value is not None})
    check_like(like)
    if like is not None and out is not None:
        raise ValueError("out and like were both given; pass only one of them")
    if isinstance(activations, Mapping):
        # File objects with a mapping interface read an array at every access.
        activations = dict(activations)
    members, stacked = members_of(activations, in_place=max_memory is not None)
    given_conditions = conditions
    precision, residuals, folds, conditions = aligned(activations, members, options)
    n_rows = members[0].shape[0]
    labels = None
    if folds is not None:
        labels = Folds.of(folds, conditions, n_rows, members[0].name)
        arrays = activations.values() if isinstance(activations, Mapping) else activations
        for array, member in zip(arrays if stacked else [activations], members, strict=True):
            check_fold_orders(array, labels, member.name)
    n = labels.n_conditions if labels else n_rows
    n_pairs = n * (n - 1) // 2
    result = _result(out, (len(members), n_pairs) if stacked else (n_pairs,))
    memory = None if max_memory is None else parse_bytes(max_memory)
    noises = noises_of(precision, residuals, estimator, members, stacked, labels)
    rdms = result.reshape(len(members), -1)
    if not row.on_device:
        for member in members:
            if isinstance(member, TensorMember):
                raise member.refused(f"method {method!r}")

    def fill(k: int, n_threads: int) -> NDArray[np.intp]:
        member = members[k]
        if isinstance(member, TensorMember):
            rdms[k], undefined = tensor_gram(member, (row.name,), None, memory).settled(row.name)
            return undefined
        kind = kind_of(member.rows)
        total = row.prepare(member, kind, noises[k], labels, n_threads)
        undefined = tiles.fill(rdms[k], total, row.measure, memory, n_threads)
        read, stored = total.terms[0].source.kind, working_dtype(member.rows)
        row.measure.settle(rdms[k], tie_tolerance(kind, read, n_pairs, stored))
        return undefined

    in_turn = memory is not None or noises[0] is not None
    undefined = each_of(fill, members, in_turn, n_threads)
    for member, places in zip(members, undefined, strict=True):
        warn_undefined(member.name if stacked else "", row.measure.undefined, places)
    if like is None and out is None:
        result = labelled_rdms(result, activations, given_conditions, labels, row.name)
    if isinstance(activations, Mapping):
        return {name: in_kind(rdm, like) for name, rdm in zip(activations, result, strict=True)}
    return in_kind(result, like)


def _result(out: Any, shape: tuple[int, ...]) -> Floats:
    if out is None:
        return np.empty(shape)
    plain = isinstance(out, np.ndarray) and not isinstance(out, np.ma.MaskedArray)
    if not (plain and out.dtype == np.float64 and out.shape == shape):
        found = f"{out.dtype} {out.shape}" if plain else type(out).__name__
        raise ValueError(f"out must be a float64 array of shape {shape}, got {found}")
    if not out.flags.writeable:
        raise ValueError("out is read-only; open a memory map with mode 'r+' or 'w+'")
    return cast(Floats, out)
