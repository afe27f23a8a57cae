"""Layers with more channels than can be kept: sparse random projections, and what they do to dissimilarities."""

import hashlib
import math
import numbers
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels
from fastrdm._base import as_floats, check_fraction, check_integer

# Densities by name, of so many channels.
_DENSITIES: dict[str, Callable[[int], float]] = {
    "li": lambda n_channels: n_channels**-0.5,
    "achlioptas": lambda n_channels: 1 / 3,
}
# What an entry of 32 bits has room for beside the channel's place and the sign.
_MOST_COMPONENTS = 2**32 // (2 * _kernels.SIGN_BLOCK)
# Entries that are drawn at once.
_DRAWN = 1 << 20


class Projected(NamedTuple):
    """How an RDM is made of projections, and how good it is."""

    #: Whether each condition's mean over channels is taken off before it is projected, for projections do not keep it.
    centre: bool
    #: Method of `calc_rdm` for the projections.
    method: str
    #: eps, by which squared lengths are wrong → how wrong a dissimilarity is.
    error: Callable[[float], float]
    #: How many squared lengths must be right within eps for one dissimilarity to be.
    n_lengths: int


def _of_angles(eps: float) -> float:
    # With those of u + v and u − v, of length 1 before, the product u·v is right within eps; it is divided by lengths
    # whose product is between 1 − eps and 1 + eps.
    return min(2.0, 2 * eps / (1 - eps))


_CORRELATION = Projected(True, "cosine", _of_angles, 4)

PROJECTED: dict[str, Projected] = {
    "correlation": _CORRELATION,
    "pearson": _CORRELATION,
    "cosine": Projected(False, "cosine", _of_angles, 4),
    "sqeuclidean": Projected(False, "sqeuclidean", lambda eps: eps, 1),
    "euclidean": Projected(False, "euclidean", lambda eps: 1 - math.sqrt(1 - eps), 1),
}
"""Method → how its RDM is made of projections."""


class Bound(NamedTuple):
    """How far a layer's dissimilarities may be from those of its projections.

    Attributes
    ----------
    eps : float
        Squared Euclidean distances are right within a factor 1 ± eps.
    error : float
        Dissimilarities of the method are: those of ``sqeuclidean`` and ``euclidean`` relative to their size, 1 − r and
        1 − cosine absolutely.
    probability : float
        Of each dissimilarity to keep within that, by Dasgupta & Gupta (2003). They prove it for dense matrices; it
        holds here as far as no handful of channels makes up a difference.
    certain : float
        The same by Chebyshev's inequality, for any activations whatever.
    """

    eps: float
    error: float
    probability: float
    certain: float


def n_components_for(n_conditions: int, eps: float) -> int:
    """Components that keep squared distances of conditions within a factor 1 ± eps, whatever the channels.

    The least k ≥ 4 ln(n) / (eps² / 2 − eps³ / 3): each of the n conditions' distances then fails with a probability of
    at most 2 / n². scikit-learn's `johnson_lindenstrauss_min_dim` is this, rounded down.

    Parameters
    ----------
    n_conditions : int
    eps : float
        Between 0 and 1.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If there are fewer than two conditions, or eps is not between 0 and 1.

    References
    ----------
    Dasgupta & Gupta (2003), An elementary proof of a theorem of Johnson and Lindenstrauss, Random Struct. Algorithms
    22, theorem 2.1.
    """
    check_fraction(eps, "eps")
    return math.ceil(4 * _log(n_conditions) / (eps**2 / 2 - eps**3 / 3))


def _log(n_conditions: int) -> float:
    if n_conditions < 2:
        raise ValueError(f"n_conditions must be at least 2, not {n_conditions}")
    return math.log(n_conditions)


class _Signs(NamedTuple):
    """A sparse matrix of signs (components, channels), and its products with a channel of ones."""

    entries: NDArray[np.uint32]
    of_ones: NDArray[np.float32]

    @property
    def n_bytes(self) -> int:
        return self.entries.nbytes + self.of_ones.nbytes


@dataclass(frozen=True)
class SparseProjection:
    r"""Random projections of layers' channels to few components, which keep distances and angles.

    A condition's activations x become R x, where each of the k components of R adds up some channels with random
    signs. Every entry of R is :math:`\pm\sqrt{s / k}` with probability 1 / 2s each and else 0; 1 / s is the density.
    The k / s entries of a channel are spread evenly: one in each of as many stripes of the components, anywhere in
    it (Kane & Nelson 2014). Then, for any activations and however sparse R is,

    - :math:`\lVert R x \rVert^2` has the mean :math:`\lVert x \rVert^2` and a standard deviation of at most
      :math:`\sqrt{2 / k}` of it (2.2 % for 4,096 components; a hair more where stripes differ in width), as if R
      were dense. With entries drawn each by itself, few channels that make up most of x would add to that.
    - A squared distance is right within a factor 1 ± eps with a probability of at least 1 − 2 / (k eps²). As far as
      no handful of channels makes up a difference it is 1 − 2 exp(−k (eps² / 4 − eps³ / 6)), the bound of Dasgupta &
      Gupta (2003) for dense matrices.
    - Where lengths are right within eps, cosines and correlations are right within ± 2 eps / (1 − eps). Their
      standard deviation is about :math:`(1 - r^2) / \sqrt{k}`, at most 0.016 for 4,096 components.

    Pearson's r is the cosine of activations less their mean over channels, and a projection does not keep that mean:
    it is taken off before, and the cosine is taken after. `Projector` does the one and says the other. `PROJECTED`
    lists the methods that have a bound; ranks and whitening have none.

    Parameters
    ----------
    n_components : int, optional
        Components k. Layers with no more channels are left as they are.
    eps : float, optional
        In place of `n_components`: that of `n_components_for` these many conditions.
    n_conditions : int, optional
        For `eps`.
    density : {"li", "achlioptas"} or float
        Share of R that is not 0: ``"li"`` one in the root of the channels (Li, Hastie & Church 2006),
        ``"achlioptas"`` one third (Achlioptas 2003), or a number up to 1. It is rounded to whole entries a channel, at
        least one. Work and memory grow with it: 4 bytes for each entry, which for 4,096 components of 802,816 channels
        is 16 MB with ``"li"`` and 4.4 GB with ``"achlioptas"``. A call takes at most 1 KiB for each component besides.
    seed : int
        Any whole number. The matrix of a layer follows from the seed, the layer's name and its channels, in every
        process and on every platform.

    Raises
    ------
    ValueError
        If not just one of `n_components` and `eps` is given, `eps` without `n_conditions` or the reverse, or a
        number is out of range.

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
                f"eps and n_conditions go together; here they are {self.eps} and {self.n_conditions}"
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
        if not 1 <= self._k <= _MOST_COMPONENTS:
            raise ValueError(
                f"n_components must be between 1 and {_MOST_COMPONENTS}, not {self._k}"
            )

    @property
    def _k(self) -> int:
        assert self.n_components is not None
        return int(self.n_components)

    def layer(
        self, n_channels: int, name: str | int = "", method: str = "correlation"
    ) -> "Projector":
        """What projects the activations of a layer.

        The matrix is made at the first call for a name and number of channels, and kept: 4 million entries take some
        50 ms.

        Parameters
        ----------
        n_channels : int
            Of a condition, all axes of the layer together.
        name : str or int
            The layer's name or index. Layers of differing names have matrices of their own.
        method : {"correlation", "pearson", "cosine", "sqeuclidean", "euclidean"}
            Of the RDM that is wanted.

        Returns
        -------
        Projector

        Raises
        ------
        ValueError
            If the method has no bound for projections, or there are no channels.
        """
        if method not in PROJECTED:
            raise ValueError(
                f"method {method!r} has no error bound for projections; those that have are: {', '.join(PROJECTED)}"
            )
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
        made = PROJECTED[method].method
        return Projector(name, n_channels, self._k, method, made, per_channel, self._signs[key])


def _draw(seed: int, name: str, n_channels: int, n_components: int, per_channel: int) -> _Signs:
    """Signs of a layer's channels, in the form of the kernel.

    Only whole numbers are drawn and reckoned with, which are the same everywhere; NumPy's distributions may change
    from one version to the next, its bits do not.
    """
    text = f"{seed}\0{name}\0{n_channels}"
    key = hashlib.blake2b(text.encode(), digest_size=16).digest()
    bits = np.random.Philox(key=int.from_bytes(key, "little"))
    stripes = (np.arange(per_channel + 1) * n_components // per_channel).astype(np.uint64)
    first, width = stripes[:-1], np.diff(stripes)
    block = _kernels.SIGN_BLOCK
    place = 2 * np.arange(block, dtype=np.uint64)[:, None]
    entries = np.empty((-(-n_channels // block), block * per_channel), np.uint32)
    at_once = max(1, _DRAWN // entries.shape[1])
    for start in range(0, len(entries), at_once):
        some = entries[start : start + at_once]
        words = bits.random_raw(some.size // 2).astype("<u8").view("<u4")
        drawn = words.reshape(len(some), block, per_channel).astype(np.uint64)
        component = first + ((drawn >> 1) * width >> 31)
        some[:] = (component * (2 * block) + place + (drawn & 1)).reshape(some.shape)
    of_ones = np.empty((1, n_components), np.float32)
    _kernels.project(np.ones((1, n_channels), np.float32), entries, np.zeros(1), 1.0, of_ones)
    return _Signs(entries, of_ones[0])


@dataclass(frozen=True)
class Projector:
    """What projects the activations of one layer; `SparseProjection.layer` makes it.

    Attributes
    ----------
    name : str or int
        The layer's.
    n_channels : int
        Channels of a condition.
    n_components : int
        What becomes of them: the same number where there are few enough.
    wanted : str
        Method of the RDM that is wanted of the layer.
    method : str
        Method for the RDM of the projections: ``"cosine"`` for ``"correlation"``, whose means are taken off here.
    per_channel : int
        Entries of the matrix for each channel; 0 where nothing is projected.
    """

    name: str | int
    n_channels: int
    n_components: int
    wanted: str
    method: str
    per_channel: int
    _signs: _Signs | None = field(repr=False, compare=False)

    @property
    def n_bytes(self) -> int:
        """Memory that the layer's matrix takes."""
        return 0 if self._signs is None else self._signs.n_bytes

    def project(
        self,
        activations: ArrayLike,
        *,
        out: NDArray[np.float32] | None = None,
        n_threads: int | None = None,
    ) -> NDArray[np.float32]:
        """Project some conditions, all or a batch; what becomes of one does not depend on the others by a bit.

        Parameters
        ----------
        activations : array_like, shape (n, channels, ...)
            float32 in C order is read where it lies; of others a copy is made.
        out : ndarray of float32, shape (n, n_components), optional
            In C order; where the result is put.
        n_threads : int, optional
            Threads to use; the processors of this process by default. It does not change a bit either.

        Returns
        -------
        ndarray of float32, shape (n, n_components)
            `out`, or a new array; of a layer with few channels the activations themselves. Exactly 0 for a condition
            that is constant over channels, where the mean is taken off.

        Raises
        ------
        ValueError
            If the activations are of another number of channels, or masked, NaN, infinite or too large for sums in
            float32; if `out` has another shape, type or order.
        """
        what = f"activations of layer {self.name!r}"
        array = as_floats(activations, what)
        if array.ndim < 2 or math.prod(array.shape[1:]) != self.n_channels:
            raise ValueError(
                f"{what} have shape {array.shape}; the projection is of {self.n_channels} channels a condition"
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
        self._fill(out, rows, self._signs, n_threads)
        # Whatever is not finite reaches a component: every channel has one.
        finite = np.isfinite(out).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"{what} are NaN, infinite or too large for float32, first in row {np.argmin(finite)}"
            )
        return out

    def _fill(
        self,
        out: NDArray[np.float32],
        rows: NDArray[np.float32],
        signs: _Signs,
        n_threads: int | None,
    ) -> None:
        scale = 1 / math.sqrt(self.per_channel)
        centre = PROJECTED[self.wanted].centre
        with np.errstate(all="ignore"):
            # Each row is read less a guess of its mean, so that none loses digits to a large mean, and what the guess
            # missed is taken off the sums.
            guess = _kernels.guess_means(rows) if centre else np.zeros(len(rows))
            shift = guess.astype(np.float32).astype(np.float64)
            sums = _kernels.project(rows, signs.entries, shift, scale, out, n_threads)
            if centre:
                out -= np.multiply.outer(sums * (scale / self.n_channels), signs.of_ones)

    def bound(self, n_conditions: int) -> Bound:
        """How right the dissimilarities of so many conditions are.

        Parameters
        ----------
        n_conditions : int

        Returns
        -------
        Bound

        Raises
        ------
        ValueError
            If there are fewer than two conditions, or too few components for any bound below 1.
        """
        # Dasgupta & Gupta's eps² / 2 − eps³ / 3.
        needed = 4 * _log(n_conditions) / self.n_components
        if self._signs is None:
            return Bound(0.0, 0.0, 1.0, 1.0)
        if needed >= 1 / 6:
            raise ValueError(
                f"{self.n_components} components have no bound for {n_conditions} conditions;"
                f" it takes more than {math.floor(24 * _log(n_conditions))}"
            )
        eps = 0.5 + math.cos((2 * math.pi - math.acos(1 - 12 * needed)) / 3)
        widths = np.diff(np.arange(self.per_channel + 1) * self.n_components // self.per_channel)
        variance = 2 * float(np.mean(1 / widths)) / self.per_channel
        _, _, error, n_lengths = PROJECTED[self.wanted]
        return Bound(
            eps,
            error(eps),
            max(0.0, 1 - n_lengths * 2 / n_conditions**2),
            max(0.0, 1 - n_lengths * variance / eps**2),
        )
