"""The time axis of a region: its time points have scores of their own, or similarities are averaged over time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names, warn_caller
from fastrdm.scoring import store_values as values

if TYPE_CHECKING:
    # Not imported: who reads a store does not need it.
    from fastrdm.similarity import Target


@dataclass(frozen=True)
class TimeAxis:
    """Times of the time points, and their noise ceilings; NaN where subjects do not agree."""

    times: tuple[float, ...]
    ceilings: tuple[float, ...]

    @property
    def mean_ceiling(self) -> float:
        """Mean of the known ceilings; NaN without any."""
        known = [each for each in self.ceilings if not math.isnan(each)]
        return float(np.mean(known)) if known else math.nan

    def facts(self) -> dict[str, Any]:
        """What a store keeps of the axis, in JSON, which has no NaN."""
        ceilings = [None if math.isnan(each) else each for each in self.ceilings]
        return {"over_time": "each", "times": list(self.times), "ceilings": ceilings}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "TimeAxis | None":
        """The axis from `facts`; None without one, RowError if it cannot be."""
        if facts.get("over_time") != "each":
            return None
        times, ceilings = facts.get("times"), facts.get("ceilings")
        if not (isinstance(times, list) and isinstance(ceilings, list)):
            raise values.RowError("the protocol of a target has no times and ceilings")
        if len(times) != len(ceilings) or len(set(map(str, times))) < len(times):
            raise values.RowError("the times and ceilings of a target differ in number")
        return cls(
            tuple(values.number(time, "a time") for time in times),
            tuple(values.number(each, "a ceiling of a time") for each in ceilings),
        )


def has_axis(target: "Target | None", over_time: str | None) -> bool:
    """Whether time points of a target have scores of their own: as asked, else as the target says."""
    from fastrdm.similarity import check_over_time

    if over_time is not None:
        check_over_time(over_time)
    chosen = over_time or (target.over_time if target else "mean")
    return target is not None and target.n_times > 1 and chosen == "each"


def axis_of(target: "Target", ceilings: NDArray[np.float64], where: str) -> TimeAxis:
    """The time axis of a target, with a warning that names the time points without a ceiling."""
    from fastrdm.similarity import time_texts

    times = np.arange(target.n_times, dtype=np.float64) if target.times is None else target.times
    if (missing := np.flatnonzero(~(ceilings > 0))).size:
        texts = time_texts(times)
        warn_caller(
            f"{where} has no noise ceiling at times {list_names([texts[i] for i in missing], 5)}, because its subjects"
            " do not agree there; percentages of these times are missing"
        )
    known = np.where(ceilings > 0, ceilings, math.nan)
    return TimeAxis(tuple(times.tolist()), tuple(known.tolist()))
