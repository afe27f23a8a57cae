"""Names of axes in xarray objects and files → subjects, repeats, conditions or units."""

from collections.abc import Mapping
from typing import Any

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
#: Coordinates that name the stimulus of each row, the first that there is.
STIMULUS = (
    *("stimulus_id", "image_id", "stimulus", "image", "stimulus_name", "image_name"),
    *("image_file_name", "filename", "condition", "condition_id"),
)
# None of these.
_TIMES = ("time", "time_bin", "sample")
_NAMES = {name: axis for axis, names in _CALLED.items() for name in names}


def axis_of(name: str) -> str | None:
    """Return which axis a name is, None if it is not known."""
    name = name.lower()
    return _NAMES.get(name, _NAMES.get(name.removesuffix("s")))


def check_conditions_first(values: Any, name: str) -> None:
    """Raise ValueError for an xarray object whose conditions, by the names of its dimensions, do not come first."""
    if not (hasattr(values, "dims") and hasattr(values, "coords")):
        return
    dims = list(map(str, values.dims))
    axes = list(map(axis_of, dims))
    is_time = bool(dims) and dims[0].lower().removesuffix("s") in _TIMES
    if "conditions" in axes and (is_time or axes[0] not in ("conditions", None)):
        first = dims[axes.index("conditions")]
        raise ValueError(
            f"{name} have the dimensions ({', '.join(dims)}) and shape {tuple(values.shape)}; conditions come first, so"
            f" pass {name}.transpose({first!r}, ...)"
        )


def check_rdm_axes(rdms: Any, name: str) -> None:
    """Raise ValueError for an xarray object whose dimension of subjects is not the first, or that of pairs the last."""
    if not (hasattr(rdms, "dims") and hasattr(rdms, "coords")):
        return
    dims = list(map(str, rdms.dims))
    subjects = [dim for dim in dims if axis_of(dim) == "subjects"]
    order = [*subjects, "...", *(["pair"] if "pair" in dims else [])]
    if dims[: len(subjects)] != subjects or ("pair" in dims and dims[-1] != "pair"):
        passed = ", ".join("..." if dim == "..." else repr(dim) for dim in order)
        raise ValueError(
            f"{name} has the dimensions ({', '.join(dims)}) and shape {tuple(rdms.shape)}; subjects come first and"
            f" pairs last, so pass {name}.transpose({passed})"
        )
