"""The Gram matrix of a layer: products of all pairs of conditions, and what follows from them."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import Labels, common_labels
from fastrdm.rdm.conditions import SMALLEST_SQUARE, out_of_range, uncentred
from fastrdm.rdm.gram_file import read_gram, write_gram
from fastrdm.rdm.gram_parts import GRAM_METHODS, Parts, added
from fastrdm.rdm.inputs import warn_undefined
from fastrdm.rdm.labelled_results import labelled_rdm
from fastrdm.rdm.methods import METHODS, method_named
from fastrdm.rdm.products import Floats, Index, Reading
from fastrdm.rdm.products import gram as multiply
from fastrdm.tensors import check_like, in_kind


class Gram:
    """Products of all pairs of conditions of one layer, from `gram` or `GramAccumulator`.

    Every score that depends on the activations through their products follows from it: RDMs, CKA, shape distances,
    ridge and PLS regressions, the dimensionality.

    Attributes
    ----------
    n_conditions, n_channels : int
    products : ndarray of float64, shape (conditions, conditions)
        Products over channels, K = X Xᵀ, not centred; read-only. Computed at the first use and kept.
    features : ndarray or None, shape (conditions, channels)
        The activations, if they have no more channels than conditions; else None.
    labels : Labels or None
        Of the conditions, from pandas and xarray objects.
    methods : tuple of str
        Methods of the RDMs that it has all digits for.
    error_bound : float
        Bound on the error of a product, relative to the lengths of both conditions: K_ij is wrong by at most
        `error_bound` √(K_ii K_jj). It follows from the precision of products and from how many, up to 128, are added up
        before float64; typical errors are a hundredth of it. 0 for products that are exact. For projections it is
        the eps of `Projector.bound`, with the probability given there; infinity if there are too few components.
    """

    def __init__(
        self, parts: Parts, features: Floats | None = None, labels: Labels | None = None
    ) -> None:
        self.parts = parts
        parts.product.setflags(write=False)
        if features is not None:
            features.setflags(write=False)
        self.features = features
        self.labels = labels

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return len(self.parts.sums)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.parts.n_original or self.parts.n_channels

    @property
    def error_bound(self) -> float:
        """Bound on the error of a product, relative to the lengths of both conditions."""
        return self._with_raw().error_bound()

    def _with_raw(self) -> Parts:
        """Return the parts, with products in float64 of narrow layers."""
        parts, features = self.parts, self.features
        single = parts.kind.dtype == np.float32 and not parts.kind.exact
        if features is None or not single or parts.raw is not None:
            return parts
        raw, _ = multiply(Reading(features, np.dtype(np.float64)), None)
        return replace(parts, raw=raw)

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods of the RDMs that it has all digits for."""
        return tuple(name for name in GRAM_METHODS if name in self.parts.digits)

    def __repr__(self) -> str:
        return f"<Gram of {self.n_conditions} conditions × {self.n_channels} channels>"

    @functools.cached_property
    def products(self) -> Floats:
        """Products over channels, not centred; ValueError if they exceed the range of float64."""
        parts, side = self._with_raw(), self.parts.conditions()
        with np.errstate(all="ignore"):
            products = parts.raw
            if products is None:
                products = uncentred(side, side, parts.product, scaled=False)
        if products is parts.product or products is parts.raw:
            products = products.view()
        squares = products.diagonal()
        zero = parts.constants == 0
        if not (np.isfinite(products).all() and np.all(zero | (squares > SMALLEST_SQUARE))):
            raise out_of_range("large or so small")
        products.setflags(write=False)
        return products

    def centred(self) -> Floats:
        """Return the products of activations minus the mean of each channel over conditions: H K H."""
        means = self.products.mean(axis=0)
        return np.asarray(self.products - (means + means[:, None]) + means.mean())

    def dimensionality(self) -> float:
        """Return the participation ratio (tr K_c)² / tr K_c² of the products K_c of centred activations.

        Between 1, if all variance of the conditions is along one axis, and the smaller of n_conditions − 1 and
        n_channels, if it is the same along all; NaN if all conditions are equal. See Gao et al. (2017), A theory of
        multineuronal dimensionality, dynamics and measurement, bioRxiv 214262.

        Examples
        --------
        >>> import numpy as np, fastrdm
        >>> round(fastrdm.gram(np.eye(5)).dimensionality(), 6)
        4.0
        """
        products = self.centred()
        trace = float(np.trace(products))
        # Rounding leaves something of equal conditions.
        if not trace > 2.0**-40 * float(np.trace(self.products)):
            return float("nan")
        scaled = products / trace
        return 1 / float(np.vdot(scaled, scaled))

    @overload
    def rdm(self, method: str = ..., *, like: None = ...) -> Floats: ...
    @overload
    def rdm(self, method: str = ..., *, like: Any) -> Any: ...
    def rdm(self, method: str = "correlation", *, like: Any = None) -> Any:
        """Return the condensed RDM, to the bit that of `calc_rdm` for the same activations.

        Parameters
        ----------
        method : str
            A method that the table of `calc_rdm` marks for blocks.
        like : array, optional
            An array of the kind that the result is to be, as for `calc_rdm`. Without it, the result is a NumPy array.

        Returns
        -------
        ndarray of float64, shape (pairs,)
            If the conditions of a pandas or xarray object were labelled, a Series or DataArray, as from `calc_rdm`,
            whose labels are text.

        Raises
        ------
        ValueError
            If the method needs the activations themselves (use `calc_rdm`), the Gram was made for other methods, or as
            for `calc_rdm`.

        Warns
        -----
        RuntimeWarning
            As `calc_rdm`, of conditions without dissimilarities.
        """
        row = method_named(method)
        check_like(like)
        if row.whole:
            raise ValueError(f"method {method!r} {row.whole}; use calc_rdm instead")
        if row.name not in self.parts.digits:
            raise ValueError(
                f"the Gram was made for the methods {', '.join(self.methods)}; add {row.name!r} to methods when it is"
                " made"
            )
        values, undefined = self.settled(row.name)
        warn_undefined("", row.measure.undefined, undefined)
        if like is not None:
            return in_kind(values, like)
        return labelled_rdm(values, self.labels, row.name)

    def settled(self, method: str) -> tuple[Floats, Index]:
        """Return the RDM of one of `methods`, and the conditions without dissimilarities."""
        row = METHODS[method]
        measure = row.measure
        values, undefined, rooted = self.parts.values(row)
        if measure.root and not rooted:
            np.sqrt(values, out=values)
        measure.settle(values, self.parts.tolerance())
        return values, undefined

    def reordered(self, conditions: ArrayLike) -> "Gram":
        """Return the Gram with its conditions, and their labels, in another order: to the bit that of such activations.

        Parameters
        ----------
        conditions : array_like of int, shape (conditions,)
            Index of each condition in its new place; each occurs once.

        Raises
        ------
        ValueError
            If the indices are not a permutation of the conditions.
        """
        order = np.asarray(conditions)
        n = self.n_conditions
        if order.shape != (n,) or not np.array_equal(np.sort(order), np.arange(n)):
            raise ValueError(
                f"conditions must hold each index from 0 to {n - 1} once, got shape {order.shape}"
            )
        order = order.astype(np.intp)
        labels = self.labels
        if labels is not None:
            labels = replace(labels, values=tuple(labels.values[i] for i in order))
        features = None if self.features is None else self.features[order]
        return Gram(self.parts.reordered(order), features, labels)

    def __add__(self, other: "Gram") -> "Gram":
        """Add the Gram of other channels of the same conditions.

        Distances have the digits of both; angles below 2⁻⁷ have those of the products.
        """
        if not isinstance(other, Gram):
            return NotImplemented
        if self.n_conditions != other.n_conditions:
            raise ValueError(f"{self!r} and {other!r} differ in their conditions")
        labels = common_labels([self.labels, other.labels])
        return Gram(added(self._with_raw(), other._with_raw()), _joined(self, other), labels)

    def __eq__(self, other: object) -> bool:
        """Whether products, methods, features and labels are the same."""
        return isinstance(other, Gram) and _same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": self.parts, "features": self.features, "labels": self.labels}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["parts"], state["features"], state["labels"])  # type: ignore[misc]

    def save(self, path: str | Path) -> None:
        """Write the Gram to a file, which appears when it is complete; `Gram.load` reads it.

        Raises
        ------
        ValueError
            If `path` is a folder.
        OSError
            If it cannot be written.
        """
        write_gram(Path(path), self.parts, self.features, self.labels)

    @classmethod
    def load(cls, path: str | Path) -> "Gram":
        """Read a Gram that was saved, to the bit.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, incomplete, of a later version, or not a Gram.
        """
        return cls(*read_gram(Path(path)))


def _joined(first: Gram, second: Gram) -> Floats | None:
    """Features of both, if they are known and not too many."""
    n = first.n_channels + second.n_channels
    if first.features is None or second.features is None or n > first.n_conditions:
        return None
    return np.concatenate([first.features, second.features], axis=1)


def _same(first: Gram, second: Gram) -> bool:
    a, b = first.parts, second.parts
    arrays = [
        (getattr(a, name), getattr(b, name))
        for name in ("product", "sums", "shift", "scale", "constants", "raw")
    ]
    arrays.append((first.features, second.features))
    if a.digits.keys() != b.digits.keys() or first.labels != second.labels:
        return False
    for name in a.digits:
        arrays += [
            (getattr(a.digits[name], what), getattr(b.digits[name], what))
            for what in ("places", "values")
        ]
    facts = [
        (
            parts.n_channels,
            parts.kind,
            parts.stored,
            parts.summed,
            [d.error for d in parts.digits.values()],
        )
        for parts in (a, b)
    ]
    return facts[0] == facts[1] and all(
        (x is y is None)
        or (x is not None and y is not None and np.array_equal(x, y, equal_nan=True))
        for x, y in arrays
    )
