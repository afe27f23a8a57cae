"""Axes with names, in xarray objects and files → which axis of responses each is."""

from collections.abc import Sequence

#: Axes of responses, in their order.
AXES = ("subjects", "repeats", "conditions", "units")
# Axes of arrays whose names are not known: of all subjects, and of one.
_OF_ALL = {2: AXES[2:], 3: ("subjects", "conditions", "units"), 4: AXES}
_OF_ONE = {2: AXES[2:], 3: AXES[1:]}


def named_axes(
    names: Sequence[str],
    shape: Sequence[int],
    known: Sequence[str | None],
    axes: Sequence[str],
    source: str,
) -> list[str] | None:
    """Return which axis each axis of an array is; empty for those of length 1 that are not needed.

    None if no name is known, or if the known ones are where an array without names has them, so that the order counts.
    ValueError if the known names contradict it, are repeated, are not among `axes`, or lack conditions or units.
    """
    if not any(known):
        return None
    found = [axis or "" for axis in known]
    kept = [axis for axis, n in zip(known, shape, strict=True) if axis or n != 1]
    if None in kept:
        expected = (_OF_ALL if "subjects" in axes else _OF_ONE).get(len(names), ())
        if len(expected) == len(names) and all(
            axis in (None, at) for axis, at in zip(known, expected, strict=True)
        ):
            return None
    if (
        None in kept
        or len(set(kept)) < len(kept)
        or not {"conditions", "units"} <= set(kept) <= set(axes)
    ):
        listed = ", ".join(f"{name} {n}" for name, n in zip(names, shape, strict=True))
        raise ValueError(
            f"{source} has the axes ({listed}); expected {', '.join(axes)}, each at most once, with conditions and"
            " units"
        )
    return found
