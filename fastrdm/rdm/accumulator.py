"""Gram matrices and RDMs from blocks of channels: `GramAccumulator` and `RdmAccumulator`."""

from collections.abc import Iterable

from numpy.typing import ArrayLike

from fastrdm import _kernels
from fastrdm._base import check_finite, check_integer, common_labels, labels_of
from fastrdm.rdm.conditions import OutOfRangeError
from fastrdm.rdm.gram_making import gram_of
from fastrdm.rdm.gram_matrix import Gram
from fastrdm.rdm.grams import chosen_methods
from fastrdm.rdm.inputs import member_of, warn_undefined
from fastrdm.rdm.labelled_results import labelled_rdm
from fastrdm.rdm.methods import method_named
from fastrdm.rdm.products import Floats
from fastrdm.rdm.sources import Member, TensorMember
from fastrdm.rdm.tensor_grams import tensor_gram


class GramAccumulator:
    """Gram matrix from blocks of channels in any order, so that activations never have to be in memory as a whole.

    Products of blocks are computed and summed in float64.

    Parameters
    ----------
    n_conditions : int
        Number of conditions, at least 2.
    methods : iterable of str, optional
        As for `gram`.
    n_threads : int, optional
        Number of threads; by default one for each processor available to the process.

    Raises
    ------
    ValueError
        If there are fewer than two conditions, or a method needs more than products.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> activations = np.random.default_rng(0).random((10, 600))
    >>> first, second = fastrdm.GramAccumulator(10), fastrdm.GramAccumulator(10)
    >>> first.update(activations[:, :100])
    >>> second.update(activations[:, 100:])
    >>> bool(np.allclose((first + second).gram().products, activations @ activations.T))
    True
    """

    def __init__(
        self,
        n_conditions: int,
        *,
        methods: Iterable[str] | None = None,
        n_threads: int | None = None,
    ) -> None:
        check_integer(n_conditions, "n_conditions", 2)
        self.n_conditions = n_conditions
        self._methods = chosen_methods(methods)
        self._n_threads = n_threads
        self._gram: Gram | None = None

    @property
    def n_channels(self) -> int:
        """Number of channels added so far."""
        return 0 if self._gram is None else self._gram.n_channels

    def update(self, activations: ArrayLike) -> None:
        """Add a block of channels.

        Parameters
        ----------
        activations : array_like, shape (n_conditions, channels, ...)
            As in `gram`.

        Raises
        ------
        ValueError
            If the shape does not fit, labels of pandas or xarray objects differ from those of earlier blocks, or values
            are NaN, infinite or have squares beyond the range of float64. Earlier blocks are kept.
        """
        member = member_of(activations, "activations")
        if member.shape[0] != self.n_conditions:
            raise ValueError(
                f"activations have shape {member.shape}; expected {self.n_conditions} conditions"
            )
        labels = labels_of(activations, 0, "activations", "condition")
        if self._gram is not None:
            common_labels([self._gram.labels, labels])
        if isinstance(member, TensorMember):
            block = tensor_gram(member, self._methods, labels, None)
        else:
            threads = self._n_threads or _kernels.kernels().n_threads
            block = gram_of(member, self._methods, labels, None, threads, wide=True)
        try:
            self._gram = block if self._gram is None else self._gram + block
        except OutOfRangeError:
            if isinstance(member, Member):
                check_finite(member.rows, "activations", ("condition", "channel"))
            raise

    def __add__(self, other: "GramAccumulator") -> "GramAccumulator":
        """Merge two accumulators of different channels of the same conditions."""
        if not isinstance(other, GramAccumulator):
            return NotImplemented
        if (self._methods, self.n_conditions) != (other._methods, other.n_conditions):
            raise ValueError(f"{self!r} and {other!r} differ in methods or conditions")
        merged = GramAccumulator(
            self.n_conditions, methods=self._methods, n_threads=self._n_threads
        )
        both = [each for each in (self._gram, other._gram) if each is not None]
        merged._gram = both[0] + both[1] if len(both) == 2 else next(iter(both), None)
        return merged

    def __repr__(self) -> str:
        return f"GramAccumulator({self.n_conditions}: {self.n_channels} channels)"

    def gram(self) -> Gram:
        """Return the Gram matrix of all channels added so far.

        Raises
        ------
        ValueError
            If no channels were added.
        """
        if self._gram is None:
            raise ValueError(f"{self!r} has no channels yet")
        return self._gram


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
        chosen = method_named(method)
        if chosen.whole:
            raise ValueError(f"method {method!r} {chosen.whole}; use calc_rdm instead")
        if n_conditions < 2:
            raise ValueError(f"n_conditions is {n_conditions}; an RDM needs at least 2")
        self.method = method
        self._grams = GramAccumulator(n_conditions, methods=[method], n_threads=n_threads)

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return self._grams.n_conditions

    @property
    def n_channels(self) -> int:
        """Number of channels added so far."""
        return self._grams.n_channels

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
        self._grams.update(activations)

    def __add__(self, other: "RdmAccumulator") -> "RdmAccumulator":
        """Merge two accumulators of different channels of the same conditions."""
        if not isinstance(other, RdmAccumulator):
            return NotImplemented
        if (self.method, self.n_conditions) != (other.method, other.n_conditions):
            raise ValueError(f"{self!r} and {other!r} differ in method or conditions")
        merged = RdmAccumulator(self.n_conditions, self.method)
        merged._grams = self._grams + other._grams
        return merged

    def __repr__(self) -> str:
        return f"RdmAccumulator({self.n_conditions}, {self.method!r}: {self.n_channels} channels)"

    def rdm(self) -> Floats:
        """Return the condensed RDM of all channels added so far, with the labels and warnings of `calc_rdm`.

        Raises
        ------
        ValueError
            If no channels were added.
        """
        if not self.n_channels:
            raise ValueError(f"{self!r} has no channels yet")
        row = method_named(self.method)
        gram = self._grams.gram()
        rdm, undefined = gram.settled(row.name)
        warn_undefined("", row.measure.undefined, undefined)
        labelled: Floats = labelled_rdm(rdm, gram.labels, row.name)
        return labelled
