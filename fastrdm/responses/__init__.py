"""Responses of measured units (neurons, voxels, sensors) → checked arrays, reliability and ceilings.

In come responses of subjects to conditions, with repeats, sessions and missing values; out go arrays of one form, and
how reliable each unit is. Nothing here knows of networks.
"""

__all__: list[str] = []
