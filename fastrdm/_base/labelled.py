"""Labelled results: RDMs and tables of similarities as pandas or xarray objects, in the kind of the arguments.

Arguments with labels give results with labels; arguments without any, or with a default `RangeIndex`, give arrays.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.conversion import is_plain
from fastrdm._base.labels import condition_names, index_of, listed, stem_of
from fastrdm._base.pair_labels import CONDITION, ENDS, ConditionNames, conditions_of_pairs

PANDAS, XARRAY = "pandas", "xarray"
_PAIR, _RDM = "pair", "rdm"


def kind_of_table(values: Any) -> str | None:
    """Return the library, pandas or xarray, whose object an argument is, or the first member of a list or dict."""
    if type(values) is np.ndarray:
        return None
    if isinstance(values, Mapping) and not _is_xarray(values):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        if is_plain(values):
            return None
        kinds = [kind_of_table(member) for member in values]
        return XARRAY if XARRAY in kinds else next(filter(None, kinds), None)
    if _is_xarray(values):
        return XARRAY
    return PANDAS if hasattr(values, "to_numpy") and hasattr(values, "index") else None


def _is_xarray(values: Any) -> bool:
    """Whether an argument is a DataArray, not a Dataset, which is a mapping of arrays."""
    names = ("dims", "coords", "assign_coords", "ndim")
    return all(hasattr(values, name) for name in names)


def with_pairs(
    rdms: NDArray[Any],
    conditions: ConditionNames,
    kind: str,
    like: Any = None,
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    """Return condensed RDMs (..., pairs) as a Series, DataFrame or DataArray whose pairs are labelled.

    Leading axes are those of `like`, which has them, too. More than two axes in pandas are a plain array.
    """
    names, ends = conditions.ends()
    if kind == XARRAY:
        from xarray import DataArray

        dims, coords = _leading(rdms.ndim - 1, like)
        coords |= {name: (_PAIR, end) for name, end in zip(names, ends, strict=True)}
        return DataArray(rdms, coords, (*dims, _PAIR), name=_RDM, attrs=attrs)
    from pandas import DataFrame, MultiIndex, Series

    if rdms.ndim > 2:
        return rdms
    pairs = MultiIndex.from_arrays(ends, names=names)
    if rdms.ndim == 1:
        return Series(rdms, pairs, name=getattr(like, "name", None))
    return DataFrame(rdms, index_of(like, 0) if hasattr(like, "columns") else None, pairs)


def _leading(n_axes: int, like: Any) -> tuple[list[Any], dict[Any, Any]]:
    """Return names and coordinates of the leading axes, those of an object that has them where there is one."""
    if not n_axes:
        return [], {}
    if not _is_xarray(like):
        return [_RDM, *(f"{_RDM}_axis{i}" for i in range(1, n_axes))], {}
    dims = list(like.dims[:n_axes])
    coords = {
        name: coord
        for name, coord in like.coords.items()
        if coord.dims and set(coord.dims) <= set(dims)
    }
    return dims, coords


def with_squares(rdms: NDArray[Any], like: Any) -> Any:
    """Return square RDMs (..., n, n) of labelled condensed ones as a DataFrame or DataArray, or as they are."""
    kind = kind_of_table(like)
    if kind is None or isinstance(like, (list, tuple, Mapping)):
        return rdms
    found = conditions_of_pairs(like)
    if found is None:
        return rdms
    conditions, _ = found
    if kind == PANDAS:
        from pandas import DataFrame, Index, MultiIndex

        if rdms.ndim > 2:
            return rdms
        if len(conditions.levels) == 1:
            index: Any = Index(conditions.levels[0], name=conditions.names[0])
        else:
            index = MultiIndex.from_arrays(conditions.levels, names=conditions.names)
        return DataFrame(rdms, index, index)
    from xarray import DataArray

    dims, coords = _leading(rdms.ndim - 2, like)
    stem = conditions.names[0] if len(conditions.names) == 1 else CONDITION
    ends = [stem + end for end in ENDS]
    if len(conditions.names) == 1:
        coords |= {end: (end, conditions.levels[0]) for end in ends}
        return DataArray(rdms, coords, (*dims, *ends), name=like.name, attrs=like.attrs)
    from pandas import MultiIndex
    from xarray import Coordinates

    out = DataArray(rdms, coords, (*dims, *ends), name=like.name, attrs=like.attrs)
    for end in ENDS:
        names = [name + end for name in conditions.names]
        index = MultiIndex.from_arrays(conditions.levels, names=names)
        out = out.assign_coords(Coordinates.from_pandas_multiindex(index, stem + end))
    return out


def with_condensed(rdms: NDArray[Any], like: Any) -> Any:
    """Return condensed RDMs (..., pairs) of labelled square ones as a Series or DataArray, or as they are."""
    kind = kind_of_table(like)
    if kind is None or isinstance(like, (list, tuple, Mapping)):
        return rdms
    found = pair_names_of(like, square=True)
    if found is None:
        return rdms
    return with_pairs(rdms, found[0], kind, like, getattr(like, "attrs", None))


def with_values(values: NDArray[Any], like: Any) -> Any:
    """Return values as an object with the labels of another one of the same shape; as they are if it has none."""
    kind = kind_of_table(like)
    if kind is None or isinstance(like, (list, tuple, Mapping)) or not _has_labels(like):
        return values
    if kind == XARRAY:
        return like.copy(data=values)
    axes = (like.index, like.columns) if hasattr(like, "columns") else (like.index,)
    table = type(like)(values, *axes)
    if len(axes) == 1:
        table.name = like.name
    return table


def with_names(table: NDArray[Any], first: Any, second: Any, *names: str) -> Any:
    """Return a table (n1, n2) of two arguments, RDMs for example, with their names; as it is if neither has labels.

    `names` are those of the two axes where an argument has no name for them.
    """
    kinds = [kind_of_table(values) for values in (first, second)]
    if not any(kinds) or not (_has_labels(first) or _has_labels(second)):
        return table
    rows, columns = row_names(first, table.shape[0]), row_names(second, table.shape[1])
    if XARRAY not in kinds:
        from pandas import DataFrame

        return DataFrame(table, rows[1], columns[1])
    from xarray import DataArray

    dims = [found or name for (found, _), name in zip((rows, columns), names, strict=True)]
    if dims[0] == dims[1]:
        dims = [dim + end for dim, end in zip(dims, ENDS, strict=True)]
    coords = {
        dim: listed(labels)
        for dim, (_, labels) in zip(dims, (rows, columns), strict=True)
        if labels is not None and getattr(labels, "nlevels", 1) == 1
    }
    return DataArray(table, coords, dims)


def _has_labels(values: Any) -> bool:
    """Whether an argument, or a member of a list or dict, has labels along any axis."""
    if isinstance(values, Mapping) and not _is_xarray(values):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return not is_plain(values) and any(map(_has_labels, values))
    if kind_of_table(values) is None:
        return False
    axes: Iterable[int] = range(values.ndim)
    if any(index_of(values, axis) is not None for axis in axes):
        return True
    return conditions_of_pairs(values) is not None


def row_names(values: Any, n: int) -> tuple[str | None, Any]:
    """Return name and labels of the first axis of a stack of n RDMs; None where they have none."""
    if isinstance(values, Mapping) and not _is_xarray(values):
        return None, list(map(str, values))
    if isinstance(values, (list, tuple)):
        names = [] if is_plain(values) else [getattr(member, "name", None) for member in values]
        is_named = len(set(names)) == len(names) == n and None not in names
        return None, names if is_named else None
    kind = kind_of_table(values)
    if kind is None:
        return None, None
    if values.ndim < 2:
        name = values.name
        return None, None if kind == XARRAY or name is None else [name]
    index = index_of(values, 0)
    if index is not None and len(index) != n:
        # One square RDM, or products: its rows are conditions.
        return None, None
    dim = str(values.dims[0]) if kind == XARRAY else getattr(values.index, "name", None)
    return dim, index


def axis_labels(values: Any, axis: int) -> tuple[str | None, NDArray[Any] | None]:
    """Return the name of an axis of a pandas or xarray object, and its labels, unless these have several levels."""
    if kind_of_table(values) is None or isinstance(values, (list, tuple, Mapping)):
        return None, None
    index = index_of(values, axis)
    if hasattr(values, "dims"):
        name: str | None = str(values.dims[axis])
        several = getattr(getattr(values, "indexes", {}).get(values.dims[axis]), "nlevels", 1) > 1
    else:
        several = getattr(index, "nlevels", 1) > 1
        name = getattr(index, "name", None)
    return name, None if index is None or several else np.asarray(index)


def names_of(rdms: Any) -> list[str] | None:
    """Return the names of RDMs: keys of a dict, labels of a stack in a pandas or xarray object; None without any."""
    if isinstance(rdms, Mapping) and not _is_xarray(rdms):
        return list(map(str, rdms))
    if kind_of_table(rdms) is None or isinstance(rdms, (list, tuple)):
        return None
    # The rows of one square RDM are conditions.
    is_one = rdms.ndim < 2 or (
        rdms.ndim == 2 and rdms.shape[0] == rdms.shape[1] and conditions_of_pairs(rdms) is None
    )
    index = None if is_one else index_of(rdms, 0)
    return None if index is None else list(map(str, listed(index)))


def pair_names_of(rdms: Any, *, square: bool) -> tuple[ConditionNames, str] | None:
    """Return the conditions of the first labelled RDMs of an argument, and the library of their object."""
    if isinstance(rdms, (list, tuple, Mapping)) and not _is_xarray(rdms):
        members = list(rdms.values()) if isinstance(rdms, Mapping) else rdms
        each = () if is_plain(list(members)) else members
        return next(filter(None, (pair_names_of(one, square=square) for one in each)), None)
    kind = kind_of_table(rdms)
    if kind is None:
        return None
    if not square:
        ends = conditions_of_pairs(rdms)
        return None if ends is None else (ends[0], kind)
    found = condition_names(rdms, -2) or condition_names(rdms, -1)
    if found is None:
        return None
    return replace(found, names=tuple(map(stem_of, found.names))), kind
