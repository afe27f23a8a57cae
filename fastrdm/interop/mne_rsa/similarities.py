"""Condensed RDMs × models → similarities by mne-rsa's metrics, for blocks of RDMs."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import warn_caller
from fastrdm.interop.mne_rsa.peer import helper, original
from fastrdm.similarity import compare

Floats = NDArray[np.float64]
# Metric → method of `compare`.
SIMILARITIES = {"spearman": "spearman", "pearson": "corr", "kendall-tau-a": "tau-a"}
# Metric → method of `compare` for the correlations that it consists of.
PARTIAL = {"partial": "corr", "partial-spearman": "spearman"}
METRICS = (*SIMILARITIES, *PARTIAL, "regression")
# Beyond this condition number, digits of an inverse depend on the order of sums, and mne-rsa computes.
_CONDITION = 1e8
# Of the models of a regression: beyond it, LAPACK decides for each model matrix which directions count.
_DESIGN_CONDITION = 1e4
# Bytes of RDMs that are centred together, in the cache.
_CENTRED = 1 << 18


class ModelRdms:
    """Models of one comparison, prepared for any number of RDMs.

    Parameters
    ----------
    rdms : list of ndarray, shape (pairs,)
        Condensed.
    metric : str
        One of mne-rsa's.
    ignore_nan : bool
        Whether pairs with NaN are left out.

    Attributes
    ----------
    usable : bool
        Whether the kernels compute this; otherwise mne-rsa does.
    """

    def __init__(self, rdms: Sequence[Any], metric: Any, ignore_nan: bool) -> None:
        self.given, self.metric, self.ignore_nan = list(rdms), metric, bool(ignore_nan)
        shapes = {np.shape(rdm) for rdm in self.given}
        kinds = {np.asarray(rdm).dtype.kind for rdm in self.given}
        self.usable: bool = (
            isinstance(metric, str)
            and metric in METRICS
            and len(shapes) == 1
            and _is_condensed(np.size(self.given[0]))
            and kinds <= set("biuf")
            and not (metric in PARTIAL and len(self.given) < 2)
        )
        if not self.usable:
            return
        self.rows = np.array(self.given, np.float64)
        missing = np.isnan(self.rows)
        enough = self.rows.shape[1] - missing.sum(axis=1) > 2
        self.usable = bool(
            enough.all()
            and not np.isinf(self.rows).any()
            and (self.ignore_nan or not missing.any())
        )
        if metric not in SIMILARITIES:
            # Models are compared on the pairs that all have.
            missing[:] = missing.any(axis=0)
            self.usable = self.usable and bool((~missing[0]).sum() > 2)
        self.present = ~missing
        self.rows[missing] = np.nan
        self.prepared: Any = None

    def __len__(self) -> int:
        return len(self.given)

    def compare(self, rdms: Floats) -> Floats:
        """Return similarities (RDMs, models) of condensed RDMs (RDMs, pairs)."""
        result = np.empty((len(rdms), len(self)))
        finite = np.isfinite(rdms).all(axis=1)
        if self.ignore_nan and self.metric in ("spearman", "pearson"):
            finite = ~np.isinf(rdms).any(axis=1)
        if finite.any():
            part = rdms if finite.all() else rdms[finite]
            result[finite] = self._known(part)
        for k in np.flatnonzero(~finite):
            result[k] = self.theirs(rdms[k])
        return result

    def theirs(self, rdm: Floats) -> Any:
        """Return mne-rsa's own similarities of one RDM."""
        return next(original("rsa_gen")([rdm], self.given, self.metric, self.ignore_nan))

    def from_similarities(self, found: Floats) -> Floats:
        """Return this metric's values of similarities (RDMs, models) by `method`; NaN where mne-rsa has to compute."""
        if self.metric in PARTIAL:
            return self._partial(found)
        if self.metric == "kendall-tau-a":
            constant = [np.ptp(model[there]) == 0 for model, there in self._each()]
            found[:, constant] = np.nan
        return found

    @property
    def method(self) -> str | None:
        """The method of `compare` whose similarities suffice, if there is one."""
        return SIMILARITIES.get(self.metric) or PARTIAL.get(self.metric)

    def _known(self, rdms: Floats) -> Floats:
        if self.metric == "regression":
            return self._regression(rdms)
        found = self.from_similarities(self._similarities(rdms))
        if self.metric == "kendall-tau-a":
            for k, present in enumerate(self.present):
                found[np.ptp(rdms[:, present], axis=1) == 0, k] = np.nan
        if self.metric in PARTIAL:
            for row in np.flatnonzero(np.isnan(found).any(axis=1)):
                found[row] = self.theirs(rdms[row])
        return found

    def _similarities(self, rdms: Floats) -> Floats:
        """Return similarities of finite RDMs, each model on its own pairs."""
        method = str(self.method)
        with warnings.catch_warnings():
            # Constant RDMs are NaN, as in mne-rsa.
            warnings.simplefilter("ignore", RuntimeWarning)
            found = compare(not_square(rdms), not_square(self.rows), method, nan_policy="omit")
            return np.asarray(found)[: len(rdms), : len(self)]

    def _each(self) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
        yield from zip(self.rows, self.present, strict=True)

    def _partial(self, found: Floats) -> Floats:
        """Return partial correlations from those of RDMs with models, and of models with each other."""
        k = len(self)
        if self.prepared is None:
            self.prepared = self._similarities(self.rows)
        every = np.empty((len(found), k + 1, k + 1))
        every[:, 0, 0] = 1
        every[:, 0, 1:] = every[:, 1:, 0] = found
        every[:, 1:, 1:] = self.prepared
        result = np.full((len(found), k), np.nan)
        fine = np.flatnonzero(np.isfinite(every).all(axis=(1, 2)))
        fine = fine[np.linalg.cond(every[fine]) < _CONDITION]
        if len(fine):
            inverse = np.linalg.inv(every[fine])
            scale = np.sqrt(np.diagonal(inverse, axis1=1, axis2=2))
            result[fine] = -inverse[:, 0, 1:] / (scale[:, :1] * scale[:, 1:])
        return result

    def _regression(self, rdms: Floats) -> Floats:
        """Return the weights of a linear regression of all RDMs on all models, with an intercept."""
        present = self.present[0]
        if self.prepared is None:
            self.prepared = _design([model[present] for model in self.given])
        design, inverse = self.prepared
        if inverse is None:
            values = _centred(rdms, present)
            return np.asarray(np.linalg.lstsq(design, values.T, rcond=None)[0].T)
        result = np.empty((len(rdms), len(self)))
        step = max(1, _CENTRED // rdms[:1].nbytes)
        for first in range(0, len(rdms), step):
            part = slice(first, first + step)
            np.matmul(_centred(rdms[part], present), inverse, out=result[part])
        return result


def _design(models: Sequence[Any]) -> tuple[Floats, Floats | None]:
    """Return centred models (pairs, models), and their pseudo-inverse, transposed, if it does not depend on rounding.

    The models are centred as in mne-rsa, so that what is left of constant ones is the same.
    """
    design = np.array(models).T
    design = np.asarray(design - design.mean(axis=0), np.float64)
    left, scales, right = np.linalg.svd(design, full_matrices=False)
    if scales[-1] * _DESIGN_CONDITION <= scales[0]:
        return design, None
    return design, np.ascontiguousarray(left / scales @ right)


def _centred(rdms: Floats, present: NDArray[np.bool_]) -> Floats:
    values = rdms if present.all() else rdms[:, present]
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def not_square(rows: Floats) -> Floats:
    """Return RDMs (n, pairs); with one more if n is the number of pairs, since `compare` takes no square RDM."""
    return np.concatenate([rows, rows[:1]]) if len(rows) == rows.shape[1] else rows


def _is_condensed(n_pairs: int) -> bool:
    n = round((1 + (1 + 8 * n_pairs) ** 0.5) / 2)
    return bool(n * (n - 1) // 2 == n_pairs)


def warn_undefined(values: Floats, name: str) -> None:
    """Warn of RDMs, rows of similarities (RDMs, models), that have none to some model."""
    missing = int(np.isnan(values).any(axis=1).sum())
    if missing:
        warn_caller(
            f"{name}: {missing} of {len(values)} RDMs have no similarity to a model, because one of both is constant or"
            " has NaN: NaN in the results"
        )


def condenser() -> Any:
    """Return mne-rsa's function that brings an RDM into condensed form, with its errors for other arrays."""
    return helper("rdm", "_ensure_condensed")
