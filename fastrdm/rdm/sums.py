"""Sums over blocks of channels from which an RDM is computed."""

from dataclasses import dataclass, replace

import numpy as np

from fastrdm import _kernels
from fastrdm.rdm.measures import SMALLEST_SQUARE, Measure, guess_means, out_of_range
from fastrdm.rdm.numbers import Kind, kind_of, tie_tolerance
from fastrdm.rdm.pairs import within
from fastrdm.rdm.products import Floats, Index, Reading, Rows, gram, working_dtype


@dataclass(frozen=True)
class Sums:
    """Sums for one measure: products and sums in float64 for angles, squared distances for distances."""

    n_channels: int
    #: Products (n, n) of the shifted conditions, or their condensed squared distances.
    product: Floats
    #: For each condition: sum over the shifted channels; least and greatest channel.
    sums: Floats
    low: Floats
    high: Floats
    #: Subtracted from each condition; None before the first block.
    shift: Floats | None = None
    #: Whether all blocks have few different values, and whether all their products are exact.
    discrete: bool = True
    exact: bool = True
    #: Whether any block was float32 or narrower.
    single: bool = False

    @classmethod
    def none(cls, n: int, measure: Measure) -> "Sums":
        """Return the sums of no channels."""
        shape = (n, n) if measure.undefined else (n * (n - 1) // 2,)
        low, high = np.full(n, np.inf), np.full(n, -np.inf)
        return cls(0, np.zeros(shape), np.zeros(n), low, high)

    def plus(self, rows: Rows, measure: Measure, n_threads: int | None) -> "Sums":
        """Return the sums with another block added."""
        kind = kind_of(rows)
        seen = replace(
            self,
            n_channels=self.n_channels + rows.shape[1],
            discrete=self.discrete and kind.discrete,
            exact=self.exact and kind.exact,
            single=self.single or working_dtype(rows) == np.float32,
        )
        if not measure.undefined:
            _, squares = within(measure, kind.read(rows), kind, n_threads)
            return replace(seen, product=self.product + squares)
        shift = self.shift
        read = Reading(rows, np.dtype(np.float64))
        if shift is None:
            guessed = measure.centre and not kind.exact
            constant = kind.shift if measure.centre else 0.0
            shift = guess_means(read) if guessed else np.full(len(rows), constant)
        with np.errstate(all="ignore"):
            product, sums = gram(read._replace(shift=shift), n_threads)
        if not np.isfinite(product.diagonal()).all():
            raise out_of_range("large")
        low, high = (np.asarray(v, np.float64) for v in (rows.min(axis=1), rows.max(axis=1)))
        return replace(
            seen,
            product=self.product + product,
            sums=self.sums + sums,
            low=np.minimum(self.low, low),
            high=np.maximum(self.high, high),
            shift=shift,
        )

    def __add__(self, other: "Sums") -> "Sums":
        if not (self.n_channels and other.n_channels):
            return self if self.n_channels else other
        product, sums = other.product, other.sums
        if self.shift is not None and other.shift is not None:
            step = other.shift - self.shift
            if step.any():
                crossed = np.outer(step, sums)
                product = product + (crossed + crossed.T) + other.n_channels * np.outer(step, step)
                sums = sums + other.n_channels * step
        return Sums(
            self.n_channels + other.n_channels,
            self.product + product,
            self.sums + sums,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.shift,
            self.discrete and other.discrete,
            self.exact and other.exact,
            self.single or other.single,
        )

    def rdm(self, measure: Measure) -> tuple[Floats, Index]:
        """Return the condensed RDM, and the conditions without dissimilarities."""
        if measure.undefined:
            rdm, undefined = self._angles(measure)
        else:
            rdm = np.sqrt(self.product) if measure.root else self.product.copy()
            undefined = np.empty(0, np.intp)
        stored = np.dtype(np.float32 if self.single else np.float64)
        # Products for angles are float64 for all activations.
        read = Kind(np.dtype(np.float64) if measure.undefined else stored)
        kind = Kind(stored, self.exact, 0, self.discrete)
        measure.settle(rdm, tie_tolerance(kind, read, len(rdm), stored))
        return rdm, undefined

    def _angles(self, measure: Measure) -> tuple[Floats, Index]:
        n, raw = self.n_channels, self.product.diagonal()
        if measure.centre:
            norms, constant = n * raw - self.sums**2, self.low == self.high
        else:
            norms, constant = raw.copy(), (self.low == 0) & (self.high == 0)
        if np.any(~constant & ~(norms > SMALLEST_SQUARE)):
            raise out_of_range("small")
        norms[constant] = np.nan
        sums = (self.sums, self.sums) if measure.centre else None
        rdm, _ = _kernels.angles(self.product, (norms, norms), sums, n, condensed=True)
        return rdm, np.flatnonzero(constant)
