"""Reliability and ceiling of each unit, computed when they are first asked for."""

import functools

import numpy as np

from fastrdm.encoding.decomposition import Floats
from fastrdm.responses import MeasuredResponses, ceiling_of, split_half_reliability


class UnitCeilings:
    """Reliability and ceiling of the units of all subjects: (subjects, units), or a list over subjects if they differ.

    Parameters
    ----------
    measured : MeasuredResponses
        Responses with repeats.
    """

    def __init__(self, measured: MeasuredResponses) -> None:
        self.measured = measured

    @functools.cached_property
    def reliability(self) -> Floats | list[Floats]:
        """Reliability of the mean over repeats, from random halves; ValueError if there is one repeat only."""
        found = list(split_half_reliability(self.measured))
        return np.stack(found) if len(set(self.measured.n_units)) == 1 else found

    @functools.cached_property
    def ceiling(self) -> Floats | list[Floats]:
        """The r that a perfect model is expected to reach: √reliability, NaN where that is not positive."""
        if isinstance(self.reliability, list):
            return [np.asarray(ceiling_of(each), np.float64) for each in self.reliability]
        return np.asarray(ceiling_of(self.reliability), np.float64)
