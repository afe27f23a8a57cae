"""Names of axes in xarray objects and files → subjects, repeats, conditions or units."""

from collections.abc import Mapping

# What the axes are called in xarray objects and files, in singular or plural.
_CALLED: Mapping[str, tuple[str, ...]] = {
    "subjects": ("subject", "participant", "monkey", "animal"),
    "repeats": ("repeat", "repetition", "trial", "session", "run"),
    "conditions": (
        "condition",
        "stimulus",
        "stimuli",
        "stimulus_id",
        "image",
        "presentation",
        "obs",
    ),
    "units": (
        "unit",
        "neuron",
        "neuroid",
        "voxel",
        "vertex",
        "vertices",
        "channel",
        "sensor",
        "electrode",
        "var",
    ),
}
_NAMES = {name: axis for axis, names in _CALLED.items() for name in names}


def axis_of(name: str) -> str | None:
    """Return which axis a name is, None if it is not known."""
    name = name.lower()
    return _NAMES.get(name, _NAMES.get(name.removesuffix("s")))
