"""Responses of measured units (neurons, voxels, sensors) → checked arrays, reliability and ceilings.

In come responses of subjects to conditions, with repeats, sessions and missing values; out go arrays of one form, and
how reliable each unit is. Nothing here knows of networks.

Read `subjects` first: `measured` takes responses in any form and returns one array for each subject. `repeats` has the
means over repeats and the z-scores within sessions.
"""

from fastrdm.responses.subjects import MeasuredResponses, measured

__all__ = ["MeasuredResponses", "measured"]
