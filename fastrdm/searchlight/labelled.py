"""Results of labelled data with labels: of places, of windows of time, and of pairs of conditions or models."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    ConditionNames,
    axis_labels,
    kind_of_table,
    row_names,
    with_pairs,
)
from fastrdm.searchlight.neighbourhoods import Neighbourhoods
from fastrdm.searchlight.places import Patches


class Axis(NamedTuple):
    """An axis of results: its name, length and labels, None if it has none."""

    name: str
    n: int
    labels: Any = None


def leading_axes(data: Any, neighbours: Any, patches: Patches, windows: Any) -> list[Axis]:
    """Return the axes of places, without `neighbours` none, and of windows, without them none.

    A place has the label of the channel at its centre, if the neighbourhoods know it; a window the mean of the times of
    its first and last sample.
    """
    axes: list[Axis] = []
    if neighbours is not None:
        name, channels = axis_labels(data, 1)
        axis = Axis("place", patches.centres.n)
        if isinstance(neighbours, Neighbourhoods) and channels is not None:
            axis = Axis(name or "place", axis.n, channels[neighbours.centres])
        axes.append(axis)
    if windows is not None:
        name, times = axis_labels(data, -1)
        axis = Axis("window", patches.n_windows)
        if patches.windows is not None and times is not None and times.dtype.kind in "iuf":
            ends = np.array([[each[0], each[-1]] for each in patches.windows.lists])
            axis = Axis(name or "time", axis.n, times[ends].mean(axis=1))
        axes.append(axis)
    return axes


def with_leading(
    values: NDArray[Any], data: Any, axes: list[Axis], last: Axis, others: Any = None
) -> Any:
    """Return similarities (*axes, last) as a table or DataArray, if data or `others` are one; else as they are."""
    kinds = [kind_of_table(each) for each in (data, others)]
    if "xarray" in kinds:
        from xarray import DataArray

        axes = [*axes, last]
        return DataArray(values, _coords(axes), [axis.name for axis in axes])
    if "pandas" not in kinds or values.ndim != 2:
        return values
    from pandas import DataFrame

    return DataFrame(values, _index(axes[0]), last.labels)


def with_conditions(
    rdms: NDArray[Any], data: Any, axes: list[Axis], names: ConditionNames | None, method: str
) -> Any:
    """Return RDMs (*axes, pairs) with labels, if the conditions of data have labels; else as they are."""
    kind = kind_of_table(data)
    if names is None or kind is None or (kind == "pandas" and rdms.ndim != 2):
        return rdms
    if kind == "pandas":
        table = with_pairs(rdms, names, kind)
        return table if axes[0].labels is None else table.set_axis(_index(axes[0]))
    from xarray import DataArray

    dims = [axis.name for axis in axes]
    like = DataArray(np.broadcast_to(0.0, rdms.shape[:-1]), _coords(axes), dims)
    return with_pairs(rdms, names, kind, like, {"method": method})


def axis_of_models(models: Any, n: int) -> Axis:
    """Return the axis of models, with their names."""
    name, labels = row_names(models, n)
    return Axis(name or "model", n, labels)


def _coords(axes: list[Axis]) -> dict[str, Any]:
    return {axis.name: axis.labels for axis in axes if axis.labels is not None}


def _index(axis: Axis) -> Any:
    from pandas import Index

    return None if axis.labels is None else Index(axis.labels, name=axis.name)
