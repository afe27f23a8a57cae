"""The responses of a region in numbers, for the check of a study."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.encoding import Responses
from fastrdm.studies.response_facts import ResponseFacts
from fastrdm.studies.study import Study


@dataclass(frozen=True)
class ResponseSummary:
    """What is known of the responses of a region.

    Attributes
    ----------
    name, source : str
        The region; the variables and files of its responses.
    subjects : tuple of str
        Names of the subjects; their numbers if they have none.
    n_conditions : int
        Number of stimuli.
    n_units, n_repeats : tuple of int
        Of each subject.
    measures : tuple of str
        What the region is scored by.
    reading : ResponseFacts
        What was understood of the files: times, sessions, masks, and how rows were matched to the stimuli.
    reliability : tuple of float
        For each subject, the median over units of the split-half reliability of repeats; NaN for one repeat.
    ceiling : tuple of float
        For each subject, the median over units of its root, the r that a perfect model is expected to reach.
    n_constant : tuple of int
        For each subject, the number of units with one response to all stimuli.
    n_lacking : tuple of int
        For each subject, the number of units that lack all repeats of some stimulus.
    """

    name: str
    source: str
    subjects: tuple[str, ...]
    n_conditions: int
    n_units: tuple[int, ...]
    n_repeats: tuple[int, ...]
    measures: tuple[str, ...]
    reading: ResponseFacts
    reliability: tuple[float, ...]
    ceiling: tuple[float, ...]
    n_constant: tuple[int, ...]
    n_lacking: tuple[int, ...]

    def subject(self, index: int) -> str:
        """Return the number of a subject, counted from 0, and its name if it has one."""
        name = self.subjects[index]
        return f"subject {index}" if name == str(index) else f"subject {index} {name!r}"


def summarise_responses(study: Study, region: str) -> ResponseSummary:
    """Return the responses of a region in numbers."""
    responses, reading = study.responses[region], study.facts.get(region, ResponseFacts())
    return ResponseSummary(
        region,
        study.sources.get(region, ""),
        responses.subjects,
        responses.n_conditions,
        tuple(n // reading.n_times for n in responses.n_units),
        responses.n_repeats,
        study.measures[region],
        reading,
        *_reliability(responses),
        tuple(len(constant_units(means)) for means in responses.means),
        tuple(len(lacking_units(means)) for means in responses.means),
    )


def constant_units(means: NDArray[Any]) -> NDArray[np.intp]:
    """Return the units with one response to all stimuli that they have; a unit without any is not among them."""
    least, most = np.fmin.reduce(means, axis=0), np.fmax.reduce(means, axis=0)
    return np.flatnonzero(least == most)


def lacking_units(means: NDArray[Any]) -> NDArray[np.intp]:
    """Return the units that lack all repeats of some stimulus."""
    return np.flatnonzero(np.isnan(means).any(axis=0))


def _reliability(responses: Responses) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the median reliability and ceiling of each subject's units."""
    nothing = (math.nan,) * responses.n_subjects
    if min(responses.n_repeats) < 2:
        return nothing, nothing
    with warnings.catch_warnings():
        # Units without a reliability are suspicions.
        warnings.simplefilter("ignore", RuntimeWarning)
        return _medians(list(responses.reliability)), _medians(list(responses.ceiling))


def _medians(values: list[NDArray[np.float64]]) -> tuple[float, ...]:
    known = [each[~np.isnan(each)] for each in values]
    return tuple(float(np.median(each)) if len(each) else math.nan for each in known)
