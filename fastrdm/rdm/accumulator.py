"""RDMs from blocks of channels: `RdmAccumulator`."""

from numpy.typing import ArrayLike

from fastrdm._base import Labels, check_finite, common_labels, labels_of
from fastrdm.rdm.inputs import as_rows, warn_undefined
from fastrdm.rdm.measures import OutOfRangeError
from fastrdm.rdm.methods import method_named
from fastrdm.rdm.products import Floats
from fastrdm.rdm.sums import Sums


class RdmAccumulator:
    """RDM from blocks of channels in any order, so that activations never have to be in memory as a whole.

    Parameters
    ----------
    n_conditions : int
        Number of conditions, at least 2.
    method : str
        A method that the table of `calc_rdm` marks for blocks.
    n_threads : int, optional
        Number of threads; by default one for each processor available to the process.

    Raises
    ------
    ValueError
        If there are fewer than two conditions, or the method is unknown or cannot be computed from blocks.

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
            raise ValueError(f"method {method!r} {self._method.whole}; use calc_rdm instead")
        if n_conditions < 2:
            raise ValueError(f"n_conditions is {n_conditions}; an RDM needs at least 2")
        self.method = method
        self.n_conditions = n_conditions
        self._n_threads = n_threads
        self._sums = Sums.none(n_conditions, self._method.measure)
        self._labels: Labels | None = None

    @property
    def n_channels(self) -> int:
        """Number of channels added so far."""
        return self._sums.n_channels

    def update(self, activations: ArrayLike) -> None:
        """Add a block of channels.

        Parameters
        ----------
        activations : array_like, shape (n_conditions, channels, ...)
            As in `calc_rdm`.

        Raises
        ------
        ValueError
            If the shape does not fit, labels of pandas or xarray objects differ from those of earlier blocks, or values
            are NaN, infinite or have squares beyond the range of float64. Earlier blocks are kept.
        """
        rows = as_rows(activations, "activations")
        if len(rows) != self.n_conditions:
            raise ValueError(
                f"activations have shape {rows.shape}; expected {self.n_conditions} conditions"
            )
        labels = common_labels(
            [self._labels, labels_of(activations, 0, "activations", "condition")]
        )
        try:
            self._sums = self._sums.plus(rows, self._method.measure, self._n_threads)
        except OutOfRangeError:
            check_finite(rows, "activations", ("condition", "channel"))
            raise
        self._labels = labels

    def __add__(self, other: "RdmAccumulator") -> "RdmAccumulator":
        """Merge two accumulators of different channels of the same conditions."""
        if not isinstance(other, RdmAccumulator):
            return NotImplemented
        if (self.method, self.n_conditions) != (other.method, other.n_conditions):
            raise ValueError(f"{self!r} and {other!r} differ in method or conditions")
        merged = RdmAccumulator(self.n_conditions, self.method, n_threads=self._n_threads)
        merged._labels = common_labels([self._labels, other._labels])
        merged._sums = self._sums + other._sums
        return merged

    def __repr__(self) -> str:
        return f"RdmAccumulator({self.n_conditions}, {self.method!r}: {self.n_channels} channels)"

    def rdm(self) -> Floats:
        """Return the condensed RDM of all channels added so far, with the warnings of `calc_rdm`.

        Raises
        ------
        ValueError
            If no channels were added.
        """
        if not self.n_channels:
            raise ValueError(f"{self!r} has no channels yet")
        rdm, undefined = self._sums.rdm(self._method.measure)
        warn_undefined("", self._method.measure.undefined, undefined)
        return rdm
