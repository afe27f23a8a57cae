"""Condensed RDMs × models → similarities by mne-rsa's metrics, for blocks of RDMs."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import warn_caller
from fastrdm.interop.mne_rsa.peer import helper, original
from fastrdm.similarity import compare_condensed

Floats = NDArray[np.float64]
# Metric → method of `compare`.
SIMILARITIES = {"spearman": "spearman", "pearson": "corr", "kendall-tau-a": "tau-a"}
# Metric → method of `compare` for the correlations that it consists of.
PARTIAL = {"partial": "corr", "partial-spearman": "spearman"}
METRICS = (*SIMILARITIES, *PARTIAL, "regression")
# Where models depend on each other or an RDM on them beyond these, digits depend on the order of sums, and mne-rsa
# computes: the condition number of the models' correlations, and the part of an RDM's variance that models leave.
_CONDITION, _LEAST_REST = 1e6, 1e-4
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
        self.units: Floats | None = None

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
            sides = zip(self.rows, self.present, strict=True)
            constant = [_constant(model[None], present)[0] for model, present in sides]
            found[:, constant] = np.nan
        return found

    @property
    def method(self) -> str | None:
        """The method of `compare` whose similarities suffice, if there is one."""
        return SIMILARITIES.get(self.metric) or PARTIAL.get(self.metric)

    def _known(self, rdms: Floats) -> Floats:
        if self.metric == "regression":
            return self._regression(rdms)
        similarities = self._pearson if self.metric == "partial" else self._similarities
        found = self.from_similarities(similarities(rdms))
        if self.metric == "kendall-tau-a":
            for k, present in enumerate(self.present):
                found[_constant(rdms, present), k] = np.nan
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
            return compare_condensed(rdms, self.rows, method, nan_policy="omit")

    def _pearson(self, rdms: Floats) -> Floats:
        """Return correlations of finite RDMs with all models, on the pairs that all models have."""
        present, units = self.present[0], self._units()
        result = np.empty((len(rdms), len(self)))
        for part, values in _centred_parts(rdms, present):
            lengths = np.sqrt(np.einsum("ij,ij->i", values, values))
            lengths[_constant(rdms[part], present)] = np.nan
            np.divide(values @ units, lengths[:, None], out=result[part])
        return result

    def _units(self) -> Floats:
        """Return the models (pairs, models), centred and of length 1."""
        if self.units is None:
            design = _centred_models(self.given, self.present[0])
            constant = _constant(self.rows, self.present[0])
            lengths = np.sqrt(np.einsum("ij,ij->j", design, design))
            self.units = design / np.where(constant, np.nan, lengths)
        return self.units

    def _partial(self, found: Floats) -> Floats:
        """Return partial correlations, from correlations of RDMs with the models; NaN where digits depend on rounding.

        With the models' correlations G and those of an RDM c, w = G⁻¹c and s = 1 - c·w, the inverse of all
        correlations by blocks has the partial correlation with model k as w_k / √(s G⁻¹_kk + w_k²).
        """
        if self.prepared is None:
            units = self._units() if self.metric == "partial" else None
            among = self._similarities(self.rows) if units is None else units.T @ units
            sure = np.isfinite(among).all() and np.linalg.cond(among) < _CONDITION
            self.prepared = np.linalg.inv(among) if sure else np.full_like(among, np.nan)
        weights = found @ self.prepared
        rest = 1 - np.sum(found * weights, axis=1, keepdims=True)
        rest[~(rest >= _LEAST_REST)] = np.nan
        return np.asarray(weights / np.sqrt(rest * np.diag(self.prepared) + weights**2))

    def _regression(self, rdms: Floats) -> Floats:
        """Return the weights of a linear regression of all RDMs on all models, with an intercept."""
        present = self.present[0]
        if self.prepared is None:
            self.prepared = _design(_centred_models(self.given, present))
        design, inverse = self.prepared
        result = np.empty((len(rdms), len(self)))
        if inverse is None:
            values = np.concatenate([values for _, values in _centred_parts(rdms, present)])
            result[:] = np.linalg.lstsq(design, values.T, rcond=None)[0].T
            return result
        for part, values in _centred_parts(rdms, present):
            np.matmul(values, inverse, out=result[part])
        return result


def _constant(rdms: Floats, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which RDMs are constant on the pairs that are present."""
    first = int(np.argmax(present))
    return np.asarray(((rdms == rdms[:, first, None]) | ~present).all(axis=1))


def _centred_models(models: Sequence[Any], present: NDArray[np.bool_]) -> Floats:
    """Return models (pairs, models), centred as in mne-rsa, so that what is left of constant ones is the same."""
    design = np.array([model[present] for model in models]).T
    return np.asarray(design - design.mean(axis=0), np.float64)


def _design(design: Floats) -> tuple[Floats, Floats | None]:
    """Return the design and its pseudo-inverse, transposed, or None if that depends on rounding."""
    left, scales, right = np.linalg.svd(design, full_matrices=False)
    if scales[-1] * _DESIGN_CONDITION <= scales[0]:
        return design, None
    return design, np.ascontiguousarray(left / scales @ right)


def _centred_parts(
    rdms: Floats, present: NDArray[np.bool_]
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield some RDMs at a time, centred on the pairs that are present."""
    step = max(1, _CENTRED // rdms[:1].nbytes)
    for first in range(0, len(rdms), step):
        part = slice(first, first + step)
        values = rdms[part] if present.all() else rdms[part][:, present]
        yield part, values - values.mean(axis=1, keepdims=True)


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
