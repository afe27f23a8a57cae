"""Sparse random projections, for layers with more channels than memory can hold."""

import hashlib
import math
import numbers
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels
from fastrdm._base import as_floats, check_integer
from fastrdm.rdm.bounds import Bound, ProjectionRule, error_bound, n_components_for
from fastrdm.rdm.methods import METHODS, names_where

# Density for a number of channels, by name.
_DENSITIES: dict[str, Callable[[int], float]] = {
    "li": lambda n_channels: n_channels**-0.5,
    "achlioptas": lambda n_channels: 1 / 3,
}
# An entry's 32 bits also hold the channel's place and the sign.
_MAX_COMPONENTS = 2**32 // (2 * _kernels.SIGN_BLOCK)
# Entries drawn per block.
_DRAWN = 1 << 20


class _Signs(NamedTuple):
    """A sparse matrix of signs (components, channels), and its product with a row of ones."""

    entries: NDArray[np.uint32]
    of_ones: NDArray[np.float32]


@dataclass(frozen=True)
class SparseProjection:
    r"""Random projections of layers' channels to few components, which keep distances and angles.

    A condition's activations x become R x: each of the k components is a sum of some channels with random signs. Every
    entry of R is :math:`\pm\sqrt{s / k}` with probability 1 / 2s each, else 0; 1 / s is the density. The components are
    split into k / s stripes, and each channel has one entry, at a random place, in every stripe (Kane & Nelson 2014).
    Then, for any activations and any sparsity of R,

    - :math:`\lVert R x \rVert^2` has the mean :math:`\lVert x \rVert^2` and a standard deviation of at most
      :math:`\sqrt{2 / k}` of it (2.2 % for 4,096 components; a hair more where stripes differ in width), as if R
      were dense. If entries were drawn independently, a few channels that dominate x would increase it.
    - A squared distance is right within a factor 1 ± eps with a probability of at least 1 − 2 / (k eps²). If no few
      channels dominate the difference, the probability is 1 − 2 exp(−k (eps² / 4 − eps³ / 6)), the bound of Dasgupta &
      Gupta (2003) for dense matrices.
    - If lengths are right within eps, cosines and correlations are right within ± 2 eps / (1 − eps). Their standard
      deviation is about :math:`(1 - r^2) / \sqrt{k}`, at most 0.016 for 4,096 components.

    Pearson's r is the cosine of activations minus their mean over channels. A projection does not keep that mean, so
    `Projector.project` subtracts it first, and `Projector.method` is then ``"cosine"``. The table of `calc_rdm` marks
    the methods that have a bound; ranks and whitening have none.

    Parameters
    ----------
    n_components : int, optional
        Components k. Layers with at most this many channels are not projected.
    eps : float, optional
        Instead of `n_components`: the error from which `n_components_for` computes it.
    n_conditions : int, optional
        Number of conditions, required with `eps`.
    density : {"li", "achlioptas"} or float
        Share of R that is not 0: ``"li"`` is 1 / √channels (Li, Hastie & Church 2006), ``"achlioptas"`` one third
        (Achlioptas 2003), or a number up to 1. It is rounded to whole entries per channel, at least one. Work and
        memory grow with it: 4 bytes per entry, which for 4,096 components of 802,816 channels is 16 MB with ``"li"``
        and 4.4 GB with ``"achlioptas"``. A call needs up to 1 KiB more per component.
    seed : int
        Any integer. The seed, the layer's name and its number of channels determine the matrix, in every process and on
        every platform.

    Raises
    ------
    ValueError
        If not exactly one of `n_components` and `eps` is given, if only one of `eps` and `n_conditions` is given, or if
        a number is out of range.

    References
    ----------
    Achlioptas (2003), Database-friendly random projections, J. Comput. Syst. Sci. 66.
    Li, Hastie & Church (2006), Very sparse random projections, KDD.
    Kane & Nelson (2014), Sparser Johnson–Lindenstrauss transforms, J. ACM 61 (the block construction).
    Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3, SC (Philox).

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> activations = np.random.default_rng(0).random((6, 50_000), np.float32)
    >>> layer = fastrdm.SparseProjection(2048).layer(50_000, "conv1")
    >>> kept = np.concatenate([layer.project(batch) for batch in (activations[:4], activations[4:])])
    >>> kept.shape, layer.method
    ((6, 2048), 'cosine')
    >>> error = fastrdm.calc_rdm(kept, layer.method) - fastrdm.calc_rdm(activations, "correlation")
    >>> bool(np.abs(error).max() < layer.bound(6).error)
    True
    """

    n_components: int | None = None
    _: KW_ONLY
    eps: float | None = None
    n_conditions: int | None = None
    density: str | float = "li"
    seed: int = 0
    _signs: dict[tuple[str, int], _Signs] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if (self.n_components is None) == (self.eps is None):
            raise ValueError(
                f"give either n_components or eps, not n_components={self.n_components} and eps={self.eps}"
            )
        if (self.eps is None) != (self.n_conditions is None):
            raise ValueError(
                f"give both eps and n_conditions, not {self.eps} and {self.n_conditions}"
            )
        for name in ("n_components", "n_conditions", "seed"):
            number = getattr(self, name)
            if number is not None or name == "seed":
                check_integer(number, name)
        if self.density not in _DENSITIES and not (
            isinstance(self.density, numbers.Real) and 0 < self.density <= 1
        ):
            raise ValueError(
                f"density must be {', '.join(map(repr, _DENSITIES))} or a number above 0 and up to 1,"
                f" not {self.density!r}"
            )
        if self.eps is not None and self.n_conditions is not None:
            object.__setattr__(self, "n_components", n_components_for(self.n_conditions, self.eps))
        if not 1 <= self._k <= _MAX_COMPONENTS:
            raise ValueError(f"n_components must be between 1 and {_MAX_COMPONENTS}, not {self._k}")

    @property
    def _k(self) -> int:
        assert self.n_components is not None
        return int(self.n_components)

    def layer(
        self, n_channels: int, name: str | int = "", method: str = "correlation"
    ) -> "Projector":
        """Return the projector of a layer.

        The first call for a name and number of channels draws the matrix, which is kept: 4 million entries take some
        50 ms.

        Parameters
        ----------
        n_channels : int
            Channels of a condition, over all axes of the layer.
        name : str or int
            The layer's name or index. Layers with different names have different matrices.
        method : str
            Method of the RDM to estimate, one that the table of `calc_rdm` marks for projections.

        Returns
        -------
        Projector

        Raises
        ------
        ValueError
            If the method has no error bound for projections, or there are no channels.
        """
        rule = _rule(method)
        check_integer(n_channels, "n_channels", 1)
        if n_channels <= self._k:
            return Projector(name, n_channels, n_channels, method, method, 0, None)
        share = (
            _DENSITIES[self.density](n_channels) if isinstance(self.density, str) else self.density
        )
        per_channel = max(1, round(share * self._k))
        key = (str(name), n_channels)
        if key not in self._signs:
            self._signs[key] = _draw(self.seed, *key, self._k, per_channel)
        signs = self._signs[key]
        return Projector(name, n_channels, self._k, method, rule.method, per_channel, signs)


def _rule(method: str) -> ProjectionRule:
    row = METHODS.get(method)
    if row is None or row.projection is None:
        able = ", ".join(names_where(lambda other: other.projection))
        raise ValueError(
            f"method {method!r} has no error bound for projections; use one of: {able}"
        )
    return row.projection


def _draw(seed: int, name: str, n_channels: int, n_components: int, per_channel: int) -> _Signs:
    """Draw the signs of a layer's channels, in the kernel's format.

    Only integers are drawn, and computed with: NumPy guarantees the same bits in every version, but not the same
    distributions.
    """
    text = f"{seed}\0{name}\0{n_channels}"
    key = hashlib.blake2b(text.encode(), digest_size=16).digest()
    bits = np.random.Philox(key=int.from_bytes(key, "little"))
    stripes = (np.arange(per_channel + 1) * n_components // per_channel).astype(np.uint64)
    first, width = stripes[:-1], np.diff(stripes)
    block = _kernels.SIGN_BLOCK
    place = 2 * np.arange(block, dtype=np.uint64)[:, None]
    entries = np.empty((-(-n_channels // block), block * per_channel), np.uint32)
    block_rows = max(1, _DRAWN // entries.shape[1])
    for start in range(0, len(entries), block_rows):
        some = entries[start : start + block_rows]
        words = bits.random_raw(some.size // 2).astype("<u8").view("<u4")
        drawn = words.reshape(len(some), block, per_channel).astype(np.uint64)
        component = first + ((drawn >> 1) * width >> 31)
        some[:] = (component * (2 * block) + place + (drawn & 1)).reshape(some.shape)
    of_ones = np.empty((1, n_components), np.float32)
    _kernels.project(np.ones((1, n_channels), np.float32), entries, np.zeros(1), 1.0, of_ones)
    return _Signs(entries, of_ones[0])


@dataclass(frozen=True)
class Projector:
    """Projector of one layer's activations, made by `SparseProjection.layer`.

    Attributes
    ----------
    name : str or int
        The layer's name or index.
    n_channels : int
        Channels of a condition.
    n_components : int
        Components of a projected condition; `n_channels` if the layer is not projected.
    wanted : str
        Method of the RDM to estimate.
    method : str
        Method for the RDM of the projections: ``"cosine"`` for ``"correlation"``, whose means `project` subtracts.
    per_channel : int
        Entries of the matrix for each channel; 0 if the layer is not projected.
    """

    name: str | int
    n_channels: int
    n_components: int
    wanted: str
    method: str
    per_channel: int
    _signs: _Signs | None = field(repr=False, compare=False)

    @property
    def n_columns(self) -> int:
        """Columns of the projections: one for each component."""
        return self.n_components

    @property
    def n_bytes(self) -> int:
        """Memory of the layer's matrix in bytes."""
        return 0 if self._signs is None else sum(array.nbytes for array in self._signs)

    def project(
        self,
        activations: ArrayLike,
        *,
        out: NDArray[np.float32] | None = None,
        n_threads: int | None = None,
    ) -> NDArray[np.float32]:
        """Project all conditions, or a batch; the result for a condition does not depend on the others.

        Parameters
        ----------
        activations : array_like, shape (n, channels, ...)
            float32 arrays in C order are read in place; others are copied.
        out : ndarray of float32, shape (n, n_components), optional
            Array in C order for the result.
        n_threads : int, optional
            Number of threads; by default one for each processor available to the process. The result does not depend on
            it.

        Returns
        -------
        ndarray of float32, shape (n, n_components)
            `out` or a new array; the activations themselves if the layer is not projected. Exactly 0 for a condition
            that is constant over channels, if the mean is subtracted.

        Raises
        ------
        ValueError
            If the activations have another number of channels, are masked, NaN, infinite or too large for sums in
            float32, or if `out` has the wrong shape, type or order.
        """
        what = f"activations of layer {self.name!r}"
        array = as_floats(activations, what)
        if array.ndim < 2 or math.prod(array.shape[1:]) != self.n_channels:
            raise ValueError(
                f"{what} have shape {array.shape}; the projection expects {self.n_channels} channels per condition"
            )
        shape = (len(array), self.n_components)
        if out is not None and (
            out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous
        ):
            raise ValueError(
                f"out must be a C-contiguous float32 array of shape {shape}, not {out.dtype} {out.shape}"
            )
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(array.reshape(len(array), self.n_channels), np.float32)
        if self._signs is None:
            if out is None:
                return rows
            out[:] = rows
            return out
        if out is None:
            out = np.empty(shape, np.float32)
        scale = 1 / math.sqrt(self.per_channel)
        centre = _rule(self.wanted).centre
        with np.errstate(all="ignore"):
            # A guess of each row's mean is subtracted while reading, so that a large mean costs no digits; the sums
            # correct for the rest of the mean.
            guess = _kernels.guess_means(rows) if centre else np.zeros(len(rows))
            shift = guess.astype(np.float32).astype(np.float64)
            sums = _kernels.project(rows, self._signs.entries, shift, scale, out, n_threads)
            if centre:
                out -= np.multiply.outer(sums * (scale / self.n_channels), self._signs.of_ones)
        # Every channel has an entry, so any non-finite value reaches a component.
        finite = np.isfinite(out).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"{what} are NaN, infinite or too large for float32, first in row {np.argmin(finite)}"
            )
        return out

    def bound(self, n_conditions: int) -> Bound:
        """Return the error bound of the dissimilarities of so many conditions.

        Raises
        ------
        ValueError
            If there are fewer than two conditions, or too few components for any bound below 1.
        """
        if self._signs is None and n_conditions >= 2:
            return Bound(0.0, 0.0, 1.0, 1.0)
        return error_bound(_rule(self.wanted), n_conditions, self.n_components, self.per_channel)
