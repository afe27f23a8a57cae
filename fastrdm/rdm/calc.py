"""Activations → RDMs: one, a stack of them, from blocks of channels, or within a bound of memory."""

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels
from fastrdm._base import (
    CHANNELS,
    Labels,
    agreed,
    as_array,
    as_floats,
    check_choice,
    check_finite,
    depth,
    labels_of,
    list_names,
    parse_bytes,
    warn_caller,
)
from fastrdm.rdm import tiles
from fastrdm.rdm.folds import Folds
from fastrdm.rdm.measures import OutOfRangeError
from fastrdm.rdm.methods import METHODS, Member, Method, method_named
from fastrdm.rdm.numbers import bound, kind_of
from fastrdm.rdm.products import Floats, Rows, is_half, working_dtype
from fastrdm.rdm.sums import Sums
from fastrdm.rdm.whitening import ESTIMATORS, FoldNoise, Noise, Noises, Precision, Residuals

# Members of a stack within these bounds are made side by side, a thread each: below the number of entries, Python's
# own work outweighs theirs; above the number of multiplications, threads share one better than they share several.
# 24 layers of 118 × 5000 take 20 ms instead of 30 ms on two threads, ranked RDMs of 118 × 500 18 ms instead of 35.
_SIDE_BY_SIDE = (1e5, 1e9)
# From so many arrays of one shape on, a list may be of batches or conditions that were taken for layers.
_MANY = 8
# Conditions that such arrays mostly have: up to so many, or a multiple of the other, as sizes of batches and numbers of
# feature maps are.
_FEW_CONDITIONS, _BATCH = 64, 32

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
    max_memory: int | str | None = ...,
    n_threads: int | None = ...,
) -> Floats: ...
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
    max_memory: int | str | None = None,
    n_threads: int | None = None,
) -> Any:
    r"""RDM of a layer, or of each of a stack: the dissimilarity of its activations for every pair of conditions.

    ============= ======================================================================================
    method        dissimilarity of conditions x and y
    ============= ======================================================================================
    correlation   :math:`1 - r(x, y)`, Pearson's r over channels (alias ``pearson``); 0 … 2
    cosine        :math:`1 - x \cdot y / (\lVert x \rVert \lVert y \rVert)`; 0 … 2
    sqeuclidean   :math:`\lVert x - y \rVert^2`
    euclidean     :math:`\lVert x - y \rVert`
    spearman      1 − Spearman's ρ over channels: ``correlation`` of their average ranks
    mahalanobis   :math:`\sqrt{(x - y)^T P (x - y)}`, P the ``precision`` of the noise of channels
    crossnobis    mean over all pairs of different folds f, g of :math:`(x_f - y_f)^T P (x_g - y_g)`
    ============= ======================================================================================

    Distances are as SciPy's: nothing is divided by the number of channels. rsatoolbox's "euclidean" is
    ``sqeuclidean`` / channels, its "mahalanobis" is ``mahalanobis`` ** 2 / channels, and its "crossnobis" is
    ``crossnobis`` / channels.

    **A dissimilarity depends on its two conditions alone**, to the bit: permuted conditions have the permuted RDM,
    equal conditions equal dissimilarities and none to each other, and neither threads, tiles (`max_memory`), strides
    nor the other members of a stack change anything. Pairs whose products have too few digits left are computed from
    their differences: float32 activations give 1 − r within 1e-6, and nearly parallel conditions within 1e-4 of 1 − r
    itself.

    **Ties.** Distances and products of whole numbers (one-hot, binary, small integers, in any type) are exact, and
    angles of equal fractions are equal. Other dissimilarities that are equal in truth come apart by rounding. Up to
    2⁻⁴⁰ in float64 and 2⁻²¹ in float32 they are made equal by the rule of `fastrdm._kernels.ties` before the RDM is
    returned: of a distance, of half a squared distance, or of the angle for ``correlation``, ``cosine`` and
    ``spearman``. float32 numbers that are large beside their differences may come further apart, and values nearer than
    the bound tie. The rule is applied to float64 activations (in RDMs of up to 2¹⁸ pairs) and to activations with few
    different values, not to others in float32, whose equal dissimilarities are those of equal conditions.

    Parameters
    ----------
    activations : array_like, shape (conditions, channels, ...), or list, tuple or dict of such
        A row a condition; further axes are channels too. For ``crossnobis`` a row is a measurement. An array is always
        one RDM; a list or tuple of arrays of two or more axes is a stack of layers or models, which may differ in
        channels, an RDM each. A dict is a stack whose members have names. Torch tensors are taken like arrays.
        float32 and float64 with contiguous rows are read where they lie, a ``numpy.memmap`` too; of others, copies are
        made block by block, of float16 and bfloat16 in float32, of integers in float64. Products are made in that
        precision and summed in float64; those of ``mahalanobis`` and ``crossnobis`` are made in float64.
    method : str
        A name of the table.
    precision : array_like, shape (channels, channels) or (folds, channels, channels), optional
        For ``mahalanobis``, and ``crossnobis`` where noise is to be normalised: the inverse of the covariance of the
        channels' noise, symmetric and positive semi-definite. For ``crossnobis`` also one for each fold, in the order
        of ``numpy.unique(folds)`` or as a mapping of folds: the products of two folds are then normalised by the mean
        of both covariances, as in rsatoolbox. For a stack whose members differ in theirs, a list of one a member; for a
        dict, a dict with the same keys in any order, or a list in its order.
    residuals : array_like, shape (observations, channels, ...), optional
        In place of ``precision``: noise to estimate it from. For a stack, as ``precision``; for each fold, a list or a
        mapping.
    estimator : str, optional
        How the covariance of residuals is estimated, by rsatoolbox's names: ``"shrinkage_diag"`` (the default; towards
        its diagonal, Schäfer & Strimmer 2005, target D of table 2), ``"shrinkage_eye"`` (towards a multiple of
        the identity, Ledoit & Wolf 2004, eq. 14), ``"diag"`` (variances alone), ``"full"`` (as it is).
    folds : array_like, shape (measurements,), optional
        For ``crossnobis``: the fold (run, session) of each measurement, as numbers or strings.
    conditions : array_like, shape (measurements,), optional
        For ``crossnobis``: the condition of each measurement. The RDM has them in the order of ``numpy.unique``.
        Measurements of one condition in one fold are averaged first, so that all pairs of folds count alike. Folds may
        lack conditions: two conditions are compared over the pairs of folds that both have both. May be left out where
        each fold holds each condition once, in one and the same order.
    out : ndarray of float64, shape (pairs,), or (n, pairs) for a stack, optional
        Where the result is put; may be a ``numpy.memmap``. For a dict, the rows are in its order, and the RDMs returned
        are views of them.
    max_memory : int or str, optional
        Bytes, or a text such as ``"500MB"`` or ``"2GiB"``, that the call may take beyond its input and `out`: RDMs are
        then made tile by tile, each from all channels of some conditions. Pages of a mapped file count as the input.
        Without it, the products of all pairs are held at once, of ``spearman``, ``mahalanobis`` and ``crossnobis``
        also the ranks, whitened or averaged activations.
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Returns
    -------
    ndarray of float64, shape (pairs,), or (n, pairs) for a stack of n; or dict of such, shape (pairs,)
        Condensed RDMs of conditions (conditions − 1) / 2 pairs; `square` makes them square. For a dict of layers, a
        dict with the same keys in the same order. Distances of ``crossnobis`` are unbiased: around zero where
        conditions do not differ, and so below it half the time.

    Raises
    ------
    ValueError
        If there are fewer than two conditions, no channels, masked values, NaN or infinity (the message says where),
        a tensor that is sparse, complex or quantised, a squared distance beyond float64, an unknown method, an option
        that the method does not take or one that it lacks; if precision is asymmetric or not positive semi-definite,
        two conditions share fewer than two folds, or `max_memory` is too small (the message says what would do). If
        labels of pandas or xarray objects differ: of conditions within a stack, of measurements in `activations`,
        `folds` and `conditions`, of channels in `activations` and `precision` or `residuals`. Messages about one member
        of a stack name it.

    Warns
    -----
    RuntimeWarning
        If conditions are constant over channels, or zero for ``cosine``: their pairs are NaN. One warning for each RDM.
        If a list may hold batches or conditions of one layer, taken for layers: 8 arrays or more, all of one shape,
        whose number of conditions is at most 64, a multiple of 32, or not above the number of arrays. Most batches and
        feature maps are like that; stacks of a few models, of layers of differing shapes, and of the blocks of a
        transformer for 92 or 118 conditions are not. A dict never warns of this.

    See Also
    --------
    RdmAccumulator : the same from blocks of channels.

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
    chosen = method_named(method)
    options = {
        "precision": precision,
        "residuals": residuals,
        "estimator": estimator,
        "folds": folds,
        "conditions": conditions,
    }
    _check_options(method, chosen, {name for name, value in options.items() if value is not None})
    if isinstance(activations, Mapping):
        # Files that act as dicts read an array whenever it is asked for.
        activations = dict(activations)
    members, stacked = _members(activations, in_place=max_memory is not None)
    precision, residuals, folds, conditions = _aligned(activations, members, options)
    n_rows = len(members[0].rows)
    labels = None
    if folds is not None:
        labels = Folds.of(folds, conditions, n_rows, members[0].name)
    n = labels.n_conditions if labels else n_rows
    n_pairs = n * (n - 1) // 2
    result = _result(out, (len(members), n_pairs) if stacked else (n_pairs,))
    memory = None if max_memory is None else parse_bytes(max_memory)
    noises = _noises(precision, residuals, estimator, members, stacked, labels)
    rows = result.reshape(len(members), -1)

    def make(k: int, n_threads: int) -> NDArray[np.intp]:
        kind = kind_of(members[k].rows)
        parts = chosen.parts(members[k], kind, noises[k], labels, n_threads)
        undefined = tiles.fill(rows[k], parts, chosen.measure, memory, n_threads)
        within = bound(kind, parts.parts[0].source.kind, n_pairs, working_dtype(members[k].rows))
        if within:
            chosen.measure.settle(rows[k], within)
        return undefined

    alone = memory is not None or noises[0] is not None
    undefined = _each(make, [member.rows.shape for member in members], alone, n_threads)
    for member, places in zip(members, undefined, strict=True):
        _warn(member.name if stacked else "", chosen.measure.undefined, places)
    return (
        dict(zip(activations, result, strict=True)) if isinstance(activations, Mapping) else result
    )


def _each(
    make: Callable[[int, int], NDArray[np.intp]],
    shapes: list[tuple[int, ...]],
    alone: bool,
    n_threads: int | None,
) -> list[NDArray[np.intp]]:
    """Make every RDM: the large ones in turn, on all threads, the others side by side."""
    info = _kernels.kernels()
    threads = n_threads or info.n_threads
    # numba's threads end the process where two calls meet.
    alone = alone or threads == 1 or len(shapes) == 1 or info.name == "numba"
    fewest, most = _SIDE_BY_SIDE
    small = [] if alone else [k for k, (n, c) in enumerate(shapes) if fewest <= n * c <= most / n]
    small.sort(key=lambda k: -shapes[k][0] * shapes[k][1])
    made = {k: make(k, threads) for k in range(len(shapes)) if k not in small}
    if small:
        with ThreadPoolExecutor(min(threads, len(small))) as pool:
            made.update(zip(small, pool.map(lambda k: make(k, 1), small), strict=True))
    return [made[k] for k in range(len(shapes))]


class RdmAccumulator:
    """An RDM from blocks of channels, in any order, so that activations never have to exist as a whole.

    Parameters
    ----------
    n_conditions : int
        Conditions, 2 or more.
    method : str
        As in `calc_rdm`; not ``"spearman"``, ``"mahalanobis"`` or ``"crossnobis"``.
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Raises
    ------
    ValueError
        If there are fewer than two conditions, or the method is unknown or cannot be had from blocks.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> activations = np.random.default_rng(0).random((10, 600))
    >>> whole = fastrdm.calc_rdm(activations)
    >>> first, second = fastrdm.RdmAccumulator(10), fastrdm.RdmAccumulator(10)
    >>> first.update(activations[:, :100])
    >>> second.update(activations[:, 100:])
    >>> bool(np.allclose((first + second).rdm(), whole))
    True
    """

    def __init__(
        self, n_conditions: int, method: str = "correlation", *, n_threads: int | None = None
    ) -> None:
        self._method = method_named(method)
        if self._method.whole:
            raise ValueError(f"method {method!r} {self._method.whole}; it has no RDM from blocks")
        if n_conditions < 2:
            raise ValueError(f"n_conditions is {n_conditions}; an RDM has 2 or more")
        self.method = method
        self.n_conditions = n_conditions
        self._n_threads = n_threads
        self._sums = Sums.none(n_conditions, self._method.measure)
        self._labels: Labels | None = None

    @property
    def n_channels(self) -> int:
        """Channels seen so far."""
        return self._sums.n_channels

    def update(self, activations: ArrayLike) -> None:
        """Add a block of channels.

        Parameters
        ----------
        activations : array_like, shape (n_conditions, channels, ...)
            As for `calc_rdm`.

        Raises
        ------
        ValueError
            If the shape does not fit, labels of pandas or xarray objects differ from those of earlier blocks, or values
            are NaN, infinite or beyond the range of float64's squares; what was accumulated before stays as it was.
        """
        rows = _as_rows(activations, "activations")
        if len(rows) != self.n_conditions:
            raise ValueError(
                f"activations have shape {rows.shape}; expected {self.n_conditions} conditions"
            )
        labels = agreed([self._labels, labels_of(activations, 0, "activations", "condition")])
        try:
            self._sums = self._sums.plus(rows, self._method.measure, self._n_threads)
        except OutOfRangeError:
            check_finite(rows, "activations", ("condition", "channel"))
            raise
        self._labels = labels

    def __add__(self, other: "RdmAccumulator") -> "RdmAccumulator":
        """Merge what two accumulators have seen of the same conditions."""
        if not isinstance(other, RdmAccumulator):
            return NotImplemented
        if (self.method, self.n_conditions) != (other.method, other.n_conditions):
            raise ValueError(f"{self!r} and {other!r} differ in method or conditions")
        merged = RdmAccumulator(self.n_conditions, self.method, n_threads=self._n_threads)
        merged._labels = agreed([self._labels, other._labels])
        merged._sums = self._sums + other._sums
        return merged

    def __repr__(self) -> str:
        return f"RdmAccumulator({self.n_conditions}, {self.method!r}: {self.n_channels} channels)"

    def rdm(self) -> Floats:
        """Condensed RDM of all channels seen so far, as `calc_rdm`'s, with the same warning.

        Raises
        ------
        ValueError
            If no channels were seen.
        """
        if not self.n_channels:
            raise ValueError(f"{self!r} has seen no channels")
        rdm, undefined = self._sums.rdm(self._method.measure)
        _warn("", self._method.measure.undefined, undefined)
        return rdm


def _check_options(method: str, chosen: Method, given: set[str]) -> None:
    for name in sorted(given - chosen.takes):
        takers = [repr(m) for m, other in METHODS.items() if name in other.takes]
        verb = "does" if len(takers) == 1 else "do"
        raise ValueError(f"method {method!r} takes no {name}; {' and '.join(takers)} {verb}")
    if {"precision", "residuals"} <= given:
        raise ValueError(
            "precision and residuals were both given; residuals are what it is estimated from"
        )
    if chosen.needs and not given & set(chosen.needs.split(" or ")):
        raise ValueError(f"method {method!r} needs {chosen.needs}")


def _members(activations: Any, in_place: bool) -> tuple[list[Member], bool]:
    """The arrays that an RDM each is made of, and whether they came as a stack."""
    named = isinstance(activations, Mapping)
    if not (named or _is_list_of_arrays(activations)):
        return [Member(_as_rows(activations, "activations", in_place), "activations")], False
    if not len(activations):
        raise ValueError("activations is an empty dict; it must hold at least one layer")
    keys = list(activations) if named else range(len(activations))
    names = [f"activations[{key!r}]" for key in keys]
    members = [
        Member(_as_rows(activations[key], name, in_place), name)
        for key, name in zip(keys, names, strict=True)
    ]
    for rows, name in members:
        if len(rows) != len(members[0].rows):
            hint = "" if named else "; batches of one layer are joined by np.concatenate"
            raise ValueError(
                f"{name} has {len(rows)} conditions and {names[0]} {len(members[0].rows)}; a stack is of the same"
                f" ones{hint}"
            )
    if not named:
        _warn_of_parts(activations)
    return members, True


def _warn_of_parts(activations: Sequence[Any]) -> None:
    """Warn of a list whose arrays may be batches or conditions of one layer instead of layers."""
    n = len(activations)
    if n < _MANY:
        return
    shapes = {tuple(a.shape) if hasattr(a, "shape") else np.shape(a) for a in activations}
    if len(shapes) != 1:
        return
    shape = shapes.pop()
    if shape[0] <= max(_FEW_CONDITIONS, n) or shape[0] % _BATCH == 0:
        warn_caller(
            f"activations is a list of {n} arrays with shape {shape}, taken for {n} layers of {shape[0]} conditions:"
            " pass np.concatenate(activations) if they are batches of one layer, np.stack(activations) if each one is a"
            " condition, or a dict if they are layers"
        )


def _aligned(activations: Any, members: list[Member], options: dict[str, Any]) -> list[Any]:
    """Precision, residuals, folds, conditions as lists and arrays in the order of the activations, labels checked."""
    noises = [options[name] for name in ("precision", "residuals")]
    folds, conditions = options["folds"], options["conditions"]
    if type(activations) is np.ndarray and folds is None and noises[0] is noises[1] is None:
        return [None] * 4
    noises = [_in_order(options[name], activations, name) for name in ("precision", "residuals")]
    arrays = activations
    if isinstance(activations, Mapping):
        arrays = list(activations.values())
    elif not _is_list_of_arrays(activations):
        arrays = [activations]
    what = "condition" if folds is None else "measurement"
    rows = [labels_of(a, 0, m.name, what) for a, m in zip(arrays, members, strict=True)]
    agreed(
        [*rows, labels_of(folds, 0, "folds", what), labels_of(conditions, 0, "conditions", what)]
    )
    for noise, name in zip(noises, ("precision", "residuals"), strict=True):
        own = noise if _is_list_of_arrays(noise) else [noise] * len(members)
        for value, array, member in zip(own, arrays, members, strict=False):
            labels = [labels_of(value, -1, f"the columns of {name}", CHANNELS)]
            if name == "precision":
                labels.append(labels_of(value, -2, f"the rows of {name}", CHANNELS))
            if depth(array) == 2:
                labels.append(labels_of(array, -1, f"the columns of {member.name}", CHANNELS))
            agreed(labels)
    return noises + [
        value if value is None else as_array(value, name)
        for value, name in ((folds, "folds"), (conditions, "conditions"))
    ]


def _in_order(given: Any, activations: Any, name: str) -> Any:
    """An option for each layer of a dict, as a list in the dict's order."""
    if not (isinstance(given, Mapping) and isinstance(activations, Mapping)):
        return given
    if given.keys() != activations.keys():
        raise ValueError(
            f"{name} is a dict of {list(given)}, and activations have {list(activations)}; they must have the same"
            " names"
        )
    return [given[key] for key in activations]


def _is_list_of_arrays(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and depth(values) > 2


def _as_rows(activations: ArrayLike, name: str, in_place: bool = False) -> Rows:
    """Activations as (conditions, channels), in a type that is read piece by piece."""
    array = as_array(activations, name)
    if not (array.dtype.kind in "iub" or is_half(array)):
        array = as_floats(array, name)
    if array.ndim < 2 or len(array) < 2 or array[0].size == 0:
        single = array.ndim >= 2 and len(array) == 1 and name != "activations"
        hint = "; batches of one layer are joined by np.concatenate" if single else ""
        raise ValueError(
            f"{name} have shape {array.shape}; expected (conditions >= 2, channels >= 1, ...){hint}"
        )
    rows = array.reshape(len(array), -1)
    if in_place and not np.may_share_memory(rows, array):
        raise ValueError(
            f"{name} have shape {array.shape} and strides {array.strides}, which are no rows without a copy as large"
            " as they are, beyond max_memory; give them as (conditions, channels)"
        )
    return rows


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


def _noises(
    precision: Any,
    residuals: Any,
    estimator: str | None,
    members: list[Member],
    stacked: bool,
    folds: Folds | None,
) -> Sequence[Noises | None]:
    """The noise of each member, its own or one for all, or one for each fold, of the right shape."""
    if estimator is not None:
        check_choice(estimator, ESTIMATORS, "estimator")
    if estimator is not None and residuals is None:
        raise ValueError("estimator says how residuals are taken; none were given")
    if precision is None and residuals is None:
        return [None] * len(members)
    name, given = ("residuals", residuals) if precision is None else ("precision", precision)

    def one(value: Any, name: str) -> Precision | Residuals:
        return Precision(value, name) if residuals is None else Residuals(value, estimator, name)

    def noise(value: Any, name: str) -> Noises:
        if folds is None or not _is_by_fold(value, name == "precision" or precision is not None):
            return Noise(one(value, name))
        return FoldNoise([one(own, of) for own, of in _by_fold(value, name, folds)])

    if not (stacked and _is_list_of_arrays(given)):
        noises = [noise(given, name)] * len(members)
    elif len(given) == len(members):
        own_names = [member.name.replace("activations", name, 1) for member in members]
        noises = [noise(own, own_name) for own, own_name in zip(given, own_names, strict=True)]
    else:
        raise ValueError(
            f"{name}: {len(given)} for a stack of {len(members)}; give one for each member, or one for all"
        )
    for member, own in zip(members, noises, strict=True):
        own.check(member.rows.shape[1], member.name)
    return noises


def _is_by_fold(value: Any, precision: bool) -> bool:
    """Whether a noise is one for each fold: a mapping or list of arrays, or precisions (folds, channels, channels)."""
    if isinstance(value, Mapping) or _is_list_of_arrays(value):
        return True
    return precision and np.ndim(value) == 3


def _by_fold(value: Any, name: str, folds: Folds) -> Iterator[tuple[Any, str]]:
    if isinstance(value, Mapping):
        if set(value) != set(folds.names):
            raise ValueError(
                f"{name} is given for folds {list(value)}; the folds are {folds.names}"
            )
        value = [value[fold] for fold in folds.names]
    if len(value) != len(folds.names):
        raise ValueError(
            f"{name}: {len(value)} for {len(folds.names)} folds; give one for each fold"
        )
    for fold, own in zip(folds.names, value, strict=True):
        yield own, f"{name} of fold {fold!r}"


def _warn(name: str, reason: str, conditions: NDArray[np.intp]) -> None:
    """Name the conditions that have no dissimilarities, to the caller of a public function."""
    if not len(conditions):
        return
    of = f"{name}: " if name else ""
    warnings.warn(
        f"{of}{reason}, their pairs are NaN: {list_names(conditions, 10)}",
        RuntimeWarning,
        stacklevel=3,
    )
