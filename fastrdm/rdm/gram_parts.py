"""What a Gram matrix consists of: products, what centring them needs, and the digits of RDMs that products lack."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fastrdm._base import pairs_in_order
from fastrdm.rdm.conditions import SMALLEST_SQUARE, Conditions, OutOfRangeError, out_of_range
from fastrdm.rdm.methods import METHODS, RdmMethod
from fastrdm.rdm.numbers import Kind, tie_tolerance
from fastrdm.rdm.products import Floats, Index, Reading

#: Methods of RDMs that follow from products, by name.
GRAM_METHODS = tuple(dict.fromkeys(row.name for row in METHODS.values() if not row.whole))

# Products that are added up before float64, on any kernels.
_CHAIN = 128


class Digits(NamedTuple):
    """Digits of one method's RDM that products lack: some dissimilarities, or all, before they are settled."""

    #: Places in the condensed RDM; None for all.
    places: Index | None
    values: Floats
    #: Whether the root of `values` was taken where the method takes one.
    rooted: bool = False
    #: Why there is no RDM.
    error: str = ""
    #: Conditions without dissimilarities, if `values` are all.
    undefined: Index = np.empty(0, np.intp)


#: Of an RDM for which products have all digits.
NO_DIGITS = Digits(np.empty(0, np.intp), np.empty(0))


@dataclass(frozen=True, eq=False)
class Parts:
    """What a Gram matrix consists of: products of conditions divided by a scale and minus a shift.

    `constants` are the values of conditions that are constant over channels, NaN for others. `kind` is that of the
    products, `stored` the type of the activations or float32. `rounding` bounds the error of a product relative to the
    lengths of what was multiplied. `summed` is whether the products are sums of others, `n_original` the number of
    channels before a projection. `raw` are products in float64 of the activations as they are, of narrow layers.
    """

    n_channels: int
    product: Floats
    sums: Floats
    shift: Floats | None
    scale: Floats | None
    constants: Floats
    kind: Kind
    stored: np.dtype[Any]
    rounding: float
    digits: Mapping[str, Digits] = field(default_factory=dict)
    summed: bool = False
    n_original: int = 0
    raw: Floats | None = None

    def conditions(self) -> Conditions:
        """Return the conditions as both sides of the products."""
        read = Reading.of_nothing(len(self.sums), self.n_channels)
        return Conditions(
            self.product.diagonal().copy(),
            self.sums,
            self.shift,
            self.scale,
            ~np.isnan(self.constants),
            self.kind.exact,
            read,
            read,
            np.empty(0, np.intp),
        )

    def values(self, row: RdmMethod) -> tuple[Floats, Index, bool]:
        """Return condensed dissimilarities, conditions without any, and whether their root was taken."""
        measure, digits = row.measure, self.digits[row.name]
        if digits.error:
            raise OutOfRangeError(digits.error)
        if digits.places is None:
            return digits.values.copy(), digits.undefined, digits.rooted
        side = self.conditions()
        operand = measure.operand(side)
        undefined = np.isnan(operand.norms) if measure.undefined else np.zeros(0, np.bool_)
        if self.summed and measure.undefined:
            zero = side.constant if measure.centre else self.constants == 0
            if np.any(~zero & ~(operand.norms > SMALLEST_SQUARE)):
                raise out_of_range("small")
        with np.errstate(all="ignore"):
            product = self.product if measure.centre else self.product.copy()
            compared = measure.compared(side, side, product, True)
        values, _ = measure.condense(operand._replace(near=0.0), operand, compared, True)
        values[digits.places] = digits.values
        return values, np.flatnonzero(undefined), False

    def tolerance(self) -> float:
        """Return the relative difference up to which dissimilarities count as equal."""
        n = len(self.sums)
        return tie_tolerance(self.kind, self.kind, n * (n - 1) // 2, self.stored)

    def error_bound(self) -> float:
        """Return a bound on the error of products of activations, relative to the conditions' lengths."""
        if self.n_original:
            return self.rounding
        if self.raw is not None:
            return rounding_of(Kind(np.dtype(np.float64)), self.n_channels)
        side = self.conditions()
        lengths = side.lengths()
        with np.errstate(all="ignore"):
            ratios = np.sqrt(side.squares / lengths)
        ratio = float(np.max(ratios, initial=0.0, where=lengths > 0))
        if self.shift is None:
            return self.rounding
        # The errors of the product and, through the shift, of both sums.
        return self.rounding * ratio * (3 * ratio + 2) + 2.0**-49

    def plain(self) -> "Parts":
        """Return the parts without a scale."""
        if self.scale is None:
            return self
        scale = self.scale
        with np.errstate(all="ignore"):
            product = self.product * scale[:, None] * scale
            sums = self.sums * scale
            shift = None if self.shift is None else self.shift * scale
        if not np.isfinite(product).all():
            raise out_of_range("large")
        return replace(self, product=product, sums=sums, shift=shift, scale=None)

    def reordered(self, conditions: Index) -> "Parts":
        """Return the parts with the conditions in the order of indices."""
        pairs = pairs_in_order(conditions)
        places, undefined = np.argsort(pairs), np.argsort(conditions)
        grid = np.ix_(conditions, conditions)

        def digits_of(digits: Digits) -> Digits:
            bad = np.sort(undefined[digits.undefined]).astype(np.intp)
            if digits.places is None:
                return digits._replace(values=digits.values[pairs], undefined=bad)
            moved = places[digits.places]
            sort = np.argsort(moved)
            return digits._replace(places=moved[sort], values=digits.values[sort], undefined=bad)

        return replace(
            self,
            product=self.product[grid],
            sums=self.sums[conditions],
            shift=None if self.shift is None else self.shift[conditions],
            scale=None if self.scale is None else self.scale[conditions],
            constants=self.constants[conditions],
            digits={name: digits_of(each) for name, each in self.digits.items()},
            raw=None if self.raw is None else self.raw[grid],
        )

    def moved(self, shift: Floats | None) -> "Parts":
        """Return the parts with another shift."""
        none = np.zeros(len(self.sums))
        step = (none if self.shift is None else self.shift) - (none if shift is None else shift)
        if not step.any():
            return self
        crossed = np.multiply.outer(step, self.sums + self.n_channels / 2 * step)
        product = self.product + (crossed + crossed.T)
        return replace(self, product=product, sums=self.sums + self.n_channels * step, shift=shift)


def rounding_of(kind: Kind, n_channels: int) -> float:
    """Return a bound on the error of a sum of products, relative to the lengths of both rows."""
    if kind.exact:
        return 0.0
    unit = float(np.finfo(kind.dtype).eps) / 2
    return (min(n_channels, _CHAIN) + 8) * unit + n_channels / _CHAIN * 2.0**-53


def added(first: Parts, second: Parts) -> Parts:
    """Return the parts of both channels together."""
    methods = [
        name for name in first.digits if name in second.digits and _adds(first, second, name)
    ]
    digits = {name: _added_digits(first, second, METHODS[name]) for name in methods}
    first = first.plain()
    second = second.plain().moved(first.shift)
    product, sums = first.product + second.product, first.sums + second.sums
    raw = None if first.raw is None or second.raw is None else first.raw + second.raw
    if not np.isfinite(product.diagonal()).all():
        raise out_of_range("large")
    same = first.constants == second.constants
    kinds = (first.kind, second.kind)
    dtype = min((kind.dtype for kind in kinds), key=lambda dtype: dtype.itemsize)
    exact = all(kind.exact for kind in kinds)
    stored = min((first.stored, second.stored), key=lambda dtype: dtype.itemsize)
    return Parts(
        first.n_channels + second.n_channels,
        product,
        sums,
        first.shift,
        None,
        np.where(same, first.constants, np.nan),
        Kind(dtype, exact, 0.0, all(kind.discrete for kind in kinds)),
        stored,
        max(first.rounding, second.rounding),
        digits,
        True,
        _original(first) + _original(second) if first.n_original or second.n_original else 0,
        raw,
    )


def _original(parts: Parts) -> int:
    return parts.n_original or parts.n_channels


def _adds(first: Parts, second: Parts, name: str) -> bool:
    """Whether a method's RDM follows from sums of products; that of centred projections does not."""
    angles = bool(METHODS[name].measure.undefined)
    return not (angles and any(parts.digits[name].places is None for parts in (first, second)))


def _added_digits(first: Parts, second: Parts, row: RdmMethod) -> Digits:
    if row.measure.undefined:
        return NO_DIGITS
    stored = [parts.digits[row.name] for parts in (first, second)]
    errors = [digits.error for digits in stored if digits.error]
    if any(digits.rooted for digits in stored):
        errors.append(str(out_of_range("large or small")))
    if errors:
        return NO_DIGITS._replace(error=errors[0])
    return Digits(None, first.values(row)[0] + second.values(row)[0])
