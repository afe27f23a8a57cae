"""Responses of measured units (neurons, voxels, sensors) → checked arrays, reliability and ceilings.

In come responses of subjects to conditions, with repeats, sessions and missing values; out go arrays of one form, and
how reliable each unit is. Nothing here knows of networks.

Read `subjects` first: `MeasuredResponses` hold one array for each subject. `inputs` (`measured`) makes them of anything
that callers pass, with `forms` for arrays and tables, `assemblies` for tables of presentations with coordinates,
`reading` for files, and `axes` for names of their axes; `trials` sorts trials by condition and repeat. `repeats` has
the means over repeats and the z-scores within sessions. `reliability` computes the split-half reliability of each unit,
`ceilings` NSD's ncsnr and the correlations with other subjects; both use the `correlation` of units.
"""

from fastrdm.responses.assemblies import (
    Assembly,
    assembly_of,
    check_same_stimuli,
    responses_of,
)
from fastrdm.responses.ceilings import (
    SubjectCeiling,
    explainable_variance,
    ncsnr,
    subject_ceiling,
)
from fastrdm.responses.inputs import measured
from fastrdm.responses.reading import read_responses
from fastrdm.responses.reliability import ceiling_of, split_half_reliability
from fastrdm.responses.repeats import deviations_of_repeats, mean_of_repeats, session_index
from fastrdm.responses.subjects import MeasuredResponses, per_measurement, per_subject
from fastrdm.responses.trials import stack_trials

__all__ = [
    "Assembly",
    "MeasuredResponses",
    "SubjectCeiling",
    "assembly_of",
    "ceiling_of",
    "check_same_stimuli",
    "deviations_of_repeats",
    "explainable_variance",
    "mean_of_repeats",
    "measured",
    "ncsnr",
    "per_measurement",
    "per_subject",
    "read_responses",
    "responses_of",
    "session_index",
    "split_half_reliability",
    "stack_trials",
    "subject_ceiling",
]
