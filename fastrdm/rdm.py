"""Activations → RDMs, and the two forms of an RDM: condensed and square."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels

Floats = NDArray[np.float64]

# Where rows cannot be read where they lie, this much of them is copied at a time.
_BLOCK_BYTES = 1 << 24
# Squared distances below this share of the squared lengths have lost two digits of float32's seven.
_NEAR = 1e-2
# Asymmetry above this share of the largest entry is no rounding error.
_ASYMMETRY = 1e-5


def n_conditions(n_pairs: int, name: str = "rdms") -> int:
    """Conditions of a condensed RDM: the n with n (n − 1) / 2 = `n_pairs`."""
    n = (1 + int(np.sqrt(1 + 8 * n_pairs))) // 2
    if n < 2 or n * (n - 1) // 2 != n_pairs:
        raise ValueError(
            f"{name}: {n_pairs} pairs are no condensed RDM; its length is n (n - 1) / 2 for n conditions"
        )
    return n


def as_floats(values: ArrayLike, name: str) -> NDArray[Any]:
    """Real numbers as floating point, float32 and float64 as they are; ValueError for anything else."""
    array = np.asarray(values)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}")


def check_finite(array: NDArray[Any], name: str, axes: Iterable[str] = ()) -> None:
    """ValueError that names the first NaN or infinity, by the names of the leading `axes` where given."""
    # A sum is finite only if all its terms are; it saves the mask as large as the input in the usual case.
    with np.errstate(all="ignore"):
        if np.isfinite(np.sum(array)):
            return
    bad = ~np.isfinite(array)
    if not bad.any():
        return
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    axes = (*axes, *(f"axis {i}" for i in range(len(tuple(axes)), array.ndim)))
    where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, first, strict=True))
    value = "NaN" if np.isnan(array[first]) else "infinity"
    raise ValueError(
        f"{name} has {int(bad.sum())} values that are not finite; the first is {value} at {where}"
    )


def condense(rdms: ArrayLike, name: str = "rdms") -> NDArray[Any]:
    """Square RDMs as condensed ones: the upper triangle, row by row, the diagonal left out.

    Parameters
    ----------
    rdms : array_like, shape (..., n, n)
        Symmetric dissimilarities. The diagonal is not read; NaN is carried through.
    name : str
        What the errors call the array.

    Returns
    -------
    ndarray, shape (..., n (n − 1) / 2)
        In the order of `scipy.spatial.distance.squareform`.

    Raises
    ------
    ValueError
        If the last two axes are not square, hold fewer than two conditions, or are asymmetric by more than 1e-5 of
        the largest entry.
    """
    array = as_floats(rdms, name)
    n = array.shape[-1] if array.ndim else 0
    if array.ndim < 2 or array.shape[-2] != n or n < 2:
        raise ValueError(
            f"{name} has shape {array.shape}; a square RDM is (..., n, n) for n >= 2 conditions"
        )
    rows, columns = np.triu_indices(n, 1)
    upper, lower = array[..., rows, columns], array[..., columns, rows]
    with np.errstate(invalid="ignore"):
        difference = np.abs(upper - lower)
    # Equal infinities differ by NaN; a NaN on one side only is an asymmetry.
    difference[(upper == lower) | (np.isnan(upper) & np.isnan(lower))] = 0
    largest = np.max(np.abs(upper[np.isfinite(upper)]), initial=0.0)
    worst = np.unravel_index(
        np.argmax(np.where(np.isnan(difference), np.inf, difference)), difference.shape
    )
    if not difference[worst] <= _ASYMMETRY * largest:
        i, j = int(rows[worst[-1]]), int(columns[worst[-1]])
        stack = f" of RDM {tuple(int(w) for w in worst[:-1])}" if array.ndim > 2 else ""
        raise ValueError(
            f"{name} with shape {array.shape} is not symmetric: entries ({i}, {j}) and ({j}, {i}){stack} are"
            f" {upper[worst]:.6g} and {lower[worst]:.6g}"
        )
    return np.ascontiguousarray(upper)


def square(rdms: ArrayLike, name: str = "rdms") -> NDArray[Any]:
    """Condensed RDMs as square ones with a zero diagonal.

    Parameters
    ----------
    rdms : array_like, shape (..., pairs)
        Condensed RDMs.
    name : str
        What the errors call the array.

    Returns
    -------
    ndarray, shape (..., n, n)
        Symmetric.

    Raises
    ------
    ValueError
        If the last axis has no length n (n − 1) / 2.
    """
    array = as_floats(rdms, name)
    if array.ndim < 1:
        raise ValueError(f"{name} is a single number; a condensed RDM is (..., pairs)")
    n = n_conditions(array.shape[-1], name)
    out = np.zeros((*array.shape[:-1], n, n), array.dtype)
    rows, columns = np.triu_indices(n, 1)
    out[..., rows, columns] = out[..., columns, rows] = array
    return out


def calc_rdm(
    activations: ArrayLike,
    method: str = "correlation",
    *,
    out: Floats | None = None,
    n_threads: int | None = None,
) -> Floats:
    r"""RDM of a layer: the dissimilarity of its activations for every pair of conditions.

    ============= ======================================================================================
    method        dissimilarity of conditions x and y
    ============= ======================================================================================
    correlation   :math:`1 - r(x, y)`, Pearson's r over channels (alias ``pearson``); 0 … 2
    cosine        :math:`1 - x \cdot y / (\lVert x \rVert \lVert y \rVert)`; 0 … 2
    sqeuclidean   :math:`\lVert x - y \rVert^2`, as SciPy's; rsatoolbox's "euclidean" is this / channels
    euclidean     :math:`\lVert x - y \rVert`, as SciPy's
    spearman      1 − Spearman's ρ over channels: ``correlation`` of their average ranks
    ============= ======================================================================================

    Parameters
    ----------
    activations : array_like, shape (conditions, channels, ...)
        A row a condition; further axes are channels too. float32 and float64 with contiguous rows are read where
        they lie; float16 and bfloat16 are widened to float32 and other strides copied block by block; integers become
        float64. Products are made in that precision and summed in float64.
    method : str
        A name of the table.
    out : ndarray of float64, shape (pairs,), optional
        Where the result is put.
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Returns
    -------
    ndarray of float64, shape (conditions (conditions − 1) / 2,)
        The condensed RDM; `square` makes it square.

    Raises
    ------
    ValueError
        If there are fewer than two conditions, no channels, NaN or infinity (the message says where), a squared
        distance beyond float64, or the method is unknown.

    Warns
    -----
    RuntimeWarning
        If conditions are constant over channels, or zero for ``cosine``: their pairs are NaN.

    See Also
    --------
    RdmAccumulator : the same from blocks of channels.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008), Representational similarity analysis, Front. Syst. Neurosci. 2:4.
    """
    chosen = _method(method)
    rows = _as_rows(activations)
    if out is not None:
        _check_out(out, len(rows) * (len(rows) - 1) // 2)
    if chosen.prepare:
        rows = chosen.prepare(rows, n_threads)
    try:
        products = _products(rows, chosen, n_threads)
    except _OutOfRangeError:
        if chosen.finish is not _angles:
            raise
        # Angles do not depend on scale.
        largest = np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
        products = _products(rows / np.where(largest == 0, 1, largest), chosen, n_threads)
    rdm = chosen.finish(products, chosen.undefined)
    if out is None:
        return rdm
    out[:] = rdm
    return out


class RdmAccumulator:
    """An RDM from blocks of channels, in any order, so that activations never have to exist as a whole.

    Parameters
    ----------
    n_conditions : int
        Conditions, 2 or more.
    method : str
        As in `calc_rdm`; not ``"spearman"``, whose ranks need all channels at once.
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
        self._method = _method(method)
        if self._method.prepare:
            raise ValueError(
                f"method {method!r} ranks all channels of a condition; it has no RDM from blocks"
            )
        if n_conditions < 2:
            raise ValueError(f"n_conditions is {n_conditions}; an RDM has 2 or more")
        self.method = method
        self.n_conditions = n_conditions
        self._n_threads = n_threads
        self._products = _Products.none(n_conditions)

    @property
    def n_channels(self) -> int:
        """Channels seen so far."""
        return self._products.n_channels

    def update(self, activations: ArrayLike) -> None:
        """Add a block of channels.

        Parameters
        ----------
        activations : array_like, shape (n_conditions, channels, ...)
            As for `calc_rdm`.

        Raises
        ------
        ValueError
            If the shape does not fit, or values are NaN, infinite or beyond the range of float64's squares; what was
            accumulated before stays as it was.
        """
        rows = _as_rows(activations)
        if len(rows) != self.n_conditions:
            raise ValueError(
                f"activations have shape {np.shape(activations)}; expected {self.n_conditions} conditions"
            )
        self._products += _products(rows, self._method, self._n_threads)

    def __add__(self, other: "RdmAccumulator") -> "RdmAccumulator":
        """Merge what two accumulators have seen of the same conditions."""
        if not isinstance(other, RdmAccumulator):
            return NotImplemented
        if (self.method, self.n_conditions) != (other.method, other.n_conditions):
            raise ValueError(f"{self!r} and {other!r} differ in method or conditions")
        merged = RdmAccumulator(self.n_conditions, self.method, n_threads=self._n_threads)
        merged._products = self._products + other._products
        return merged

    def __repr__(self) -> str:
        return f"RdmAccumulator({self.n_conditions}, {self.method!r}: {self.n_channels} channels)"

    def rdm(self) -> Floats:
        """Condensed RDM of all channels seen so far, as `calc_rdm`'s.

        Raises
        ------
        ValueError
            If no channels were seen.
        """
        if not self.n_channels:
            raise ValueError(f"{self!r} has seen no channels")
        return self._method.finish(self._products, self._method.undefined)


@dataclass(frozen=True)
class _Products:
    """Products of all pairs of conditions over channels, less what `mean` accounts for."""

    n_channels: int
    product: Floats
    mean: Floats

    @classmethod
    def none(cls, n_conditions: int) -> "_Products":
        return cls(0, np.zeros((n_conditions, n_conditions)), np.zeros(n_conditions))

    def __add__(self, other: "_Products") -> "_Products":
        # Chan, Golub & LeVeque (1983), eq. 2.1, for covariances.
        n = self.n_channels + other.n_channels
        if not n:
            return self
        step = other.mean - self.mean
        between = np.outer(step, step * (self.n_channels * other.n_channels / n))
        mean = self.mean + step * (other.n_channels / n)
        return _Products(n, self.product + other.product + between, mean)


class _OutOfRangeError(ValueError):
    """Squares of finite activations leave the range of float64."""


_Rows = NDArray[Any]
_Measure = Callable[[_Rows, int | None], _Products]


class _Method(NamedTuple):
    measure: _Measure
    finish: Callable[[_Products, str], Floats]
    undefined: str = ""
    prepare: Callable[[_Rows, int | None], _Rows] | None = None


def _method(name: str) -> _Method:
    try:
        return _METHODS[name]
    except KeyError:
        raise ValueError(f"method {name!r} is not one of: {', '.join(_METHODS)}") from None


def _as_rows(activations: ArrayLike) -> _Rows:
    """Activations as (conditions, channels), still in their own type where it is a floating one."""
    array = np.asarray(activations)
    if not _is_half(array):
        array = as_floats(array, "activations")
    if array.ndim < 2 or len(array) < 2 or array[0].size == 0:
        raise ValueError(
            f"activations have shape {array.shape}; expected (conditions >= 2, channels >= 1, ...)"
        )
    return array.reshape(len(array), -1)


def _is_half(array: NDArray[Any]) -> bool:
    return array.dtype == np.float16 or array.dtype.name == "bfloat16"


def _check_out(out: Any, n_pairs: int) -> None:
    if not (isinstance(out, np.ndarray) and out.dtype == np.float64 and out.shape == (n_pairs,)):
        found = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(f"out must be a float64 array of shape ({n_pairs},), got {found}")


def _products(rows: _Rows, method: _Method, n_threads: int | None) -> _Products:
    total = None
    for block in _readable(rows):
        try:
            products = method.measure(block, n_threads)
        except _OutOfRangeError:
            check_finite(rows, "activations", ("condition", "channel"))
            raise
        total = products if total is None else total + products
    assert total is not None
    return total


def _readable(rows: _Rows) -> Iterator[_Rows]:
    """The rows where they lie if the kernels can read them there, else copies of blocks of columns."""
    half = _is_half(rows)
    step, size = rows.strides[0], rows.itemsize
    plain = not half and rows.dtype.isnative and rows.flags.aligned
    if plain and rows.strides[1] == size and step > 0 and step % size == 0:
        yield rows
        return
    dtype = np.dtype(np.float32) if half else rows.dtype.newbyteorder("=")
    width = max(1, _BLOCK_BYTES // (len(rows) * dtype.itemsize) // 512) * 512
    for start in range(0, rows.shape[1], width):
        yield np.ascontiguousarray(rows[:, start : start + width], dtype)


def _deviations(rows: _Rows, n_threads: int | None) -> _Products:
    """Products of deviations from the rows' means, exactly 0 for a constant row.

    One pass: each row is read less a guess of its mean, and what the guess missed is taken off in float64. Where a
    guess was poor, or float32 over- or underflowed, exact means and float64 are taken instead.
    """
    n_channels = rows.shape[1]
    guess = _guess_means(rows)
    with np.errstate(all="ignore"):
        product, sums = _kernels.gram(rows, guess, n_threads=n_threads)
        rest = sums / n_channels
        raw = product.diagonal().copy()
        product -= np.outer(sums, rest)
        variance = product.diagonal()
        smallest = np.finfo(rows.dtype).tiny / np.finfo(rows.dtype).eps * n_channels
        if np.all((raw < 8 * variance) & (variance > smallest) & (raw < np.inf)):
            return _Products(n_channels, product, guess.astype(rows.dtype) + rest)
        mean = rows.mean(axis=1, dtype=np.float64)
        deviations = rows - mean[:, None]
        constant = rows.max(axis=1) == rows.min(axis=1)
        deviations[constant] = 0
        mean[constant] = rows[constant, 0]
        product = _kernels.gram(deviations, n_threads=n_threads)[0]
    _check_range(product, constant)
    return _Products(n_channels, product, mean)


def _guess_means(rows: _Rows) -> Floats:
    """Mean of each row from a sample of it, 32 stretches of 32 channels."""
    if rows.shape[1] > 2048:
        starts = np.linspace(0, rows.shape[1] - 32, 32).astype(np.intp)
        rows = np.concatenate([rows[:, start : start + 32] for start in starts], axis=1)
    with np.errstate(all="ignore"):
        return np.asarray(rows.mean(axis=1, dtype=np.float64))


def _check_range(product: Floats, may_be_zero: Any) -> None:
    diagonal = product.diagonal()
    if np.isfinite(product).all() and np.all((diagonal > 1e-280) | may_be_zero):
        return
    raise _OutOfRangeError(
        "activations are so large or small that their squares leave the range of float64"
    )


def _raw_products(rows: _Rows, n_threads: int | None) -> _Products:
    """Products of the rows as they are."""
    return _in_range(rows, n_threads, centre_columns=False)


def _differences(rows: _Rows, n_threads: int | None) -> _Products:
    """Products of the rows less the mean row, which distances do not depend on and lose fewest digits with.

    Pairs so near to each other that too few digits are left get theirs from the differences themselves.
    """
    found = _in_range(rows, n_threads, centre_columns=True)
    norms = found.product.diagonal()
    sums = norms[:, None] + norms
    near = np.triu(sums - 2 * found.product < _NEAR * sums, 1)
    width = max(1, _BLOCK_BYTES // (8 * len(rows)))
    for i in np.flatnonzero(near.any(axis=1)):
        others = np.flatnonzero(near[i])
        square = np.zeros(len(others))
        for start in range(0, rows.shape[1], width):
            columns = slice(start, start + width)
            square += np.square(rows[others, columns] - rows[i, columns].astype(np.float64)).sum(
                axis=1
            )
        found.product[i, others] = found.product[others, i] = (sums[i, others] - square) / 2
    return found


def _in_range(rows: _Rows, n_threads: int | None, centre_columns: bool) -> _Products:
    def products(rows: _Rows) -> _Products:
        product, _ = _kernels.gram(rows, centre_columns=centre_columns, n_threads=n_threads)
        return _Products(rows.shape[1], product, np.zeros(len(rows)))

    with np.errstate(all="ignore"):
        found = products(rows)
        diagonal = found.product.diagonal()
        smallest = np.finfo(rows.dtype).tiny / np.finfo(rows.dtype).eps * rows.shape[1]
        if np.all((diagonal > smallest) & (diagonal < np.inf)):
            return found
        found = products(rows.astype(np.float64))
    # With its mean taken off, any row may be zero.
    _check_range(found.product, centre_columns | ~rows.any(axis=1))
    return found


def _angles(products: _Products, undefined: str) -> Floats:
    zero = np.flatnonzero(products.product.diagonal() == 0)
    if not len(zero):
        return _kernels.condense_angles(products.product)
    listed = ", ".join(str(i) for i in zero[:10]) + (", ..." if len(zero) > 10 else "")
    warnings.warn(f"{undefined}, their pairs are NaN: {listed}", RuntimeWarning, stacklevel=3)
    product = products.product.copy()
    product[zero] = product[:, zero] = np.nan
    return _kernels.condense_angles(product)


def _squared_distances(products: _Products, undefined: str) -> Floats:
    return _kernels.condense_distances(products.product)


def _distances(products: _Products, undefined: str) -> Floats:
    return np.asarray(np.sqrt(_squared_distances(products, undefined)))


def _ranks(rows: _Rows, n_threads: int | None) -> _Rows:
    """Average ranks of each row's channels; exact in float32 up to 2**23 of them."""
    ranks = np.empty(rows.shape, np.float32 if rows.shape[1] < 1 << 23 else np.float64)
    check_finite(rows, "activations", ("condition", "channel"))
    at_once = max(1, _BLOCK_BYTES // (8 * rows.shape[1]), n_threads or 0)
    for start in range(0, len(rows), at_once):
        block = np.ascontiguousarray(rows[start : start + at_once], np.float64)
        ranks[start : start + at_once] = _kernels.rank(block, n_threads)
    return ranks


_CONSTANT = "conditions constant over channels have no correlation"
_CORRELATION = _Method(_deviations, _angles, _CONSTANT)

_METHODS: dict[str, _Method] = {
    "correlation": _CORRELATION,
    "pearson": _CORRELATION,
    "cosine": _Method(_raw_products, _angles, "conditions that are zero have no angle"),
    "sqeuclidean": _Method(_differences, _squared_distances),
    "euclidean": _Method(_differences, _distances),
    "spearman": _CORRELATION._replace(prepare=_ranks),
}
