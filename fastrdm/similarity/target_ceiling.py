"""The noise ceiling of a target, also for models that lack pairs."""

import math

import numpy as np

from fastrdm._base import list_names, warn_caller
from fastrdm.similarity.ceiling import NoiseCeiling, ceiling_of
from fastrdm.similarity.coefficients import Floats, Mask
from fastrdm.similarity.protocol import Protocol

# Number of cached ceilings of models that lack pairs.
_CACHE_SIZE = 256


class TargetCeiling:
    """Noise ceilings of subjects (subjects, times, pairs), computed as the protocol says."""

    def __init__(
        self, subjects: Floats, protocol: Protocol, nan_policy: str, tie_bound: float
    ) -> None:
        self.subjects, self.protocol = subjects, protocol
        self.nan_policy, self.tie_bound = nan_policy, tie_bound
        self._cache: dict[bytes, float] = {}

    def compute(self, missing: Mask | None = None) -> NoiseCeiling:
        """Return both bounds, optionally without some pairs."""
        subjects = self.subjects
        if missing is not None:
            subjects = subjects.copy()
            subjects[:, :, missing] = np.nan
        return ceiling_of(subjects, self.protocol, self.nan_policy, self.tie_bound)[0]

    def bound(self, ceiling: NoiseCeiling, name: str) -> float:
        """Return the protocol's bound; ValueError if it is not positive."""
        bound: float = getattr(ceiling, self.protocol.bound)
        unknown = self.nan_policy == "propagate" and bool(np.isnan(self.subjects).any())
        if not (bound > 0 or unknown):
            raise ValueError(
                f"the {self.protocol.bound} noise ceiling of {name} is {bound:.4g}: its subjects do not agree, so no"
                " score can be a percentage of it; pass ceiling="
            )
        return bound

    def of_models(self, models: Floats, ceiling: float, is_computed: bool) -> Floats:
        """Return the ceiling over the pairs of each model, where `ceiling` is over all pairs; NaN if it is unknown."""
        ceilings = np.full(len(models), ceiling)
        if self.nan_policy != "omit":
            return ceilings
        # A sum is NaN if a term is; in the usual case this avoids the mask.
        with np.errstate(all="ignore"):
            suspects = np.flatnonzero(np.isnan(models.sum(axis=1)))
        if len(suspects):
            present = ~np.isnan(self.subjects).all(axis=(0, 1))
        for i in suspects:
            missing = np.isnan(models[i]) & present
            if missing.any():
                ceilings[i] = self._without(missing) if is_computed else math.nan
        return ceilings

    def _without(self, missing: Mask) -> float:
        key = np.packbits(missing).tobytes()
        if key not in self._cache:
            bound: float = getattr(self.compute(missing), self.protocol.bound)
            if len(self._cache) == _CACHE_SIZE:
                self._cache.clear()
            self._cache[key] = bound if bound > 0 else math.nan
        return self._cache[key]

    def warn_unknown(self, unknown: Mask, name: str, is_computed: bool) -> None:
        """Warn of models with an unknown ceiling."""
        reason = (
            f"over the remaining pairs the {self.protocol.bound} noise ceiling is not positive"
            if is_computed
            else "the ceiling was given for all pairs; omit ceiling= to compute it over each model's pairs"
        )
        warn_caller(
            f"percent_nc of {name} is NaN for models that lack pairs (rdms: model"
            f" {list_names(np.flatnonzero(unknown), 5)}): {reason}"
        )


def check_ceiling(ceiling: float, name: str, protocol: Protocol) -> None:
    """Raise ValueError for a ceiling that is not between 0 and 1."""
    if not (np.isfinite(ceiling) and ceiling > 0):
        raise ValueError(f"the ceiling of {name} must be a positive number, got {ceiling}")
    if ceiling > 1:
        kind = "squared correlation" if protocol.squared else "correlation"
        percent = f"; it looks like percent, so pass {ceiling / 100:g}" if ceiling <= 100 else ""
        raise ValueError(
            f"the ceiling of {name} is {ceiling:g}, but a {kind} is at most 1{percent}"
        )
