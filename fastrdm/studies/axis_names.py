"""Names of axes in files, as other programs write them, and what they mean."""

from collections.abc import Mapping

_UNITS = (
    *("neuroid", "neuron", "voxel", "channel", "unit"),
    *("sensor", "electrode", "feature", "choice", "site"),
)
_PRESENTED = ("presentation", "stimulus", "stimuli", "image", "trial")
# How libraries name axes without a name.
_UNNAMED_AXES = ("dim", "phony_dim", "rdm", "axis")
_LEADING = {
    "subject": "subjects",
    "participant": "subjects",
    "animal": "subjects",
    "monkey": "subjects",
    "session": "sessions",
    "time": "times",
}


def is_unit(axis: str) -> bool:
    """Return whether an axis is that of measured units, such as neurons or voxels."""
    return axis.lower().startswith(_UNITS) or axis == "var"


def is_presented(axis: str) -> bool:
    """Return whether an axis is that of conditions, or of presentations of them."""
    return axis.lower().startswith(_PRESENTED) or axis == "obs"


def is_unnamed(axis: str) -> bool:
    """Return whether a library wrote the name for an axis without one."""
    return axis.lower().startswith(_UNNAMED_AXES)


def leading_name(axis: str) -> str:
    """Return "subjects", "sessions" or "times"; empty if an axis is none of these."""
    return _starting(axis, _LEADING)


def response_axis(axis: str) -> str:
    """Return the name of an axis of responses as in `study.toml`; empty if it is not known."""
    if is_unit(axis):
        return "units"
    known = leading_name(axis) or _starting(axis, {"repe": "repeats", "run": "repeats"})
    return known or ("conditions" if is_presented(axis) or axis.lower() == "conditions" else "")


def _starting(axis: str, names: Mapping[str, str]) -> str:
    return next((own for start, own in names.items() if axis.lower().startswith(start)), "")
