"""A variable of a file → its RDMs, condensed, with named leading axes; sessions are averaged."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import NUMBERS, STRUCT, kind_of, list_names
from fastrdm.studies.rdm_values import LEADING, condensed, leading_axes

# Leading axes of arrays, unless others are named.
_ARRAY_AXES = ("subjects", "times")

# How one array becomes (..., pairs): the array and its name in errors.
_Condense = Callable[[Any, str], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class RdmStack:
    """Condensed RDMs (..., pairs), the names of their leading axes if they are known, and names of the RDMs.

    Shared names are those of several RDMs each, such as a region's; they do not name subjects.
    """

    rdms: NDArray[np.floating[Any]]
    axes: tuple[str, ...] | None = None
    names: NDArray[Any] | None = None
    is_shared: bool = False

    @property
    def lead(self) -> tuple[int, ...]:
        """Shape of the leading axes."""
        return self.rdms.shape[:-1]


def stack_of(
    value: Any,
    name: str,
    *,
    axes: Sequence[str] = (),
    expected: int | None = None,
    form: str | None = None,
    nan_policy: str = "raise",
) -> RdmStack:
    """Return the RDMs of an array, or of the elements of MATLAB's structs and cells.

    Arguments and errors are those of `condensed`. The RDM of a struct is its field `RDM`, or else its only field of
    numbers; `name` is its name.
    """

    def condense(array: Any, label: str) -> NDArray[np.floating[Any]]:
        named = axes if set(axes) - set(LEADING) else ()
        return condensed(
            array, label, axes=named, expected=expected, form=form, nan_policy=nan_policy
        )

    stack = _stacked(value, name, condense, 0)
    is_array = not isinstance(value, Mapping) and kind_of(value) == NUMBERS
    if is_array and len(stack.lead) <= len(_ARRAY_AXES):
        return replace(stack, axes=_ARRAY_AXES[: len(stack.lead)])
    if len(leading_axes(axes)) == len(stack.lead) == 2 and stack.lead[0] == 1 < stack.lead[1]:
        # MATLAB's rows and columns have two axes whether there are sessions or not.
        raise ValueError(
            f"{name} has shape {stack.lead}, one axis longer than 1, but axes = {list(axes)} names two; name that axis"
            " alone"
        )
    return stack


def _stacked(value: Any, name: str, condense: _Condense, depth: int) -> RdmStack:
    if depth > 4:
        raise ValueError(f"{name} has structs or cells in more than 4 levels")
    if isinstance(value, Mapping):
        raise ValueError(f"{name} is a group; name one of its members: {list_names(value, 10)}")
    array = np.asarray(value)
    if array.dtype.names:
        members, names = _fields(array, name)
    elif array.dtype == object:
        members, names = array, None
    elif array.dtype.kind in "USM":
        raise ValueError(f"{name} is text with shape {array.shape}, not RDMs")
    else:
        return RdmStack(condense(array, name))
    if members.size == 0:
        raise ValueError(f"{name} has shape {members.shape}, without an RDM")
    stacks = [
        _stacked(members[index], _element(name, index, members.shape), condense, depth + 1)
        for index in np.ndindex(members.shape)
    ]
    if members.size > 1:
        stacks = [without_single_axes(stack) for stack in stacks]
    shapes = [stack.rdms.shape for stack in stacks]
    if odd := next((i for i, shape in enumerate(shapes) if shape != shapes[0]), 0):
        which = [
            _element(name, tuple(map(int, np.unravel_index(i, members.shape))), members.shape)
            for i in (0, odd)
        ]
        raise ValueError(
            f"the RDMs of {name} differ in size: {which[0]} has {shapes[0][-1]} pairs, shape {shapes[0]}, and"
            f" {which[1]} {shapes[odd][-1]}, shape {shapes[odd]}"
        )
    rdms = np.stack([stack.rdms for stack in stacks]).reshape(*members.shape, *shapes[0])
    if members.size == 1:
        # A single struct or cell adds no axis to the RDMs that it holds.
        (single,) = stacks
        if names is not None and prod(single.lead) == 1:
            single = replace(single, names=names.reshape(single.lead))
        return single
    is_shared = names is not None and rdms.size > members.size * rdms.shape[-1]
    if names is not None:
        names = names.reshape(*members.shape, *[1] * (rdms.ndim - 1 - members.ndim))
        names = np.broadcast_to(names, rdms.shape[:-1])
    elif all(stack.names is not None for stack in stacks):
        names = np.array([name for s in stacks for name in np.ravel(np.asarray(s.names))], object)
        names = names.reshape(rdms.shape[:-1])
    return RdmStack(rdms, names=names, is_shared=is_shared)


def without_single_axes(stack: RdmStack) -> RdmStack:
    """Return a stack without leading axes of length 1, such as that of a row vector."""
    lead = tuple(n for n in stack.lead if n > 1)
    names = None if stack.names is None else stack.names.reshape(lead)
    return RdmStack(stack.rdms.reshape(*lead, -1), None, names, stack.is_shared)


def _element(name: str, index: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Name an element as MATLAB does: ``"RDMs(1,2) of file"``."""
    if len(index) == 0 or prod(shape) == 1:
        return name
    key, of, source = name.partition(" of ")
    return f"{key}({','.join(str(i + 1) for i in index)}){of}{source}"


def _fields(array: NDArray[Any], name: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the RDMs of a struct array, and their names if it has any."""
    fields = {field.lower(): field for field in array.dtype.names or ()}
    if "rdm" in fields:
        field = fields["rdm"]
    else:
        numeric = [
            each
            for each in fields.values()
            if array.size
            and np.size(array[each].flat[0]) > 2
            and _may_hold_rdms(array[each].flat[0])
        ]
        if len(numeric) != 1:
            raise ValueError(
                f"{name} is a struct with shape {array.shape} without a field RDM; its fields are"
                f" {', '.join(fields.values()) or 'none'}"
            )
        (field,) = numeric
    names = None
    if "name" in fields:
        texts = [_text(each) for each in array[fields["name"]].flat]
        if all(texts):
            names = np.array(texts, object).reshape(array.shape)
    return array[field], names


def _may_hold_rdms(value: Any) -> bool:
    """Return whether a field without a name for RDMs holds a square or condensed one, or a struct."""
    kind, shape = kind_of(value), np.shape(value)
    if kind != NUMBERS:
        return kind == STRUCT
    return len(shape) == 2 and (shape[0] == shape[1] > 2 or (1 in shape and max(shape) > 2))


def _text(value: Any) -> str:
    array = np.asarray(value)
    return str(array.flat[0]).strip() if array.size == 1 and array.dtype.kind in "UO" else ""


def arranged(
    stack: RdmStack, axes: Sequence[str], name: str
) -> tuple[NDArray[np.floating[Any]], tuple[str, ...] | None]:
    """Return RDMs as (subjects, pairs) or (subjects, times, pairs), averaged over sessions, and names of subjects.

    Parameters
    ----------
    stack : RdmStack
        RDMs with leading axes of any length.
    axes : sequence of str
        Names of the axes, or nothing: a single axis longer than 1 is subjects; two axes of an array are subjects and
        times, unless the file names them.
    name : str
        Name of the RDMs in errors.

    Raises
    ------
    ValueError
        If the axes are not those that are named, or several are longer than 1 and none is named.
    """
    named = leading_axes(axes) or stack.axes
    if (
        named is not None
        and len(named) == 2
        and "subjects" in named
        and sum(n > 1 for n in stack.lead) == 1
    ):
        stack, named = _regrouped(stack, named)
    keeps_times = named is not None and "times" in named
    names, rdms = None if stack.is_shared else stack.names, stack.rdms
    if named is None:
        long = [n for n in stack.lead if n > 1]
        if len(long) > 1:
            raise ValueError(
                f"{name} has shape {stack.lead} with several axes longer than 1; name them in their order, such as"
                f" axes = {_example(len(long))}: sessions are averaged, times are kept{_choice(stack.names)}"
            )
        rdms = rdms.reshape(-1, rdms.shape[-1])
        return rdms, None if names is None else tuple(map(str, names.ravel()))
    if len(named) != len(stack.lead):
        lead = tuple(n for n in stack.lead if n > 1)
        lead = lead or (1,) * len(named)
        if len(named) != len(lead):
            raise ValueError(
                f"{name} has shape {stack.lead}, {len(lead)} axes longer than 1, but axes = {list(axes)} names"
                f" {len(named)}"
            )
        rdms = rdms.reshape(*lead, rdms.shape[-1])
        names = None if names is None else names.reshape(lead)
    for missing in (axis for axis in LEADING if axis not in named):
        rdms, named = rdms[None], (missing, *named)
        names = None if names is None else names[None]
    order = [named.index(axis) for axis in LEADING]
    rdms = rdms.transpose(*order, rdms.ndim - 1)
    subjects = None
    if names is not None:
        rows = names.transpose(order).reshape(len(rdms), -1)
        subjects = tuple(_common(list(map(str, row))) for row in rows)
    # One session is not averaged, so that its precision is kept.
    rdms = rdms[:, 0] if rdms.shape[1] == 1 else rdms.mean(axis=1, dtype=np.float64)
    return (rdms if keeps_times else rdms[:, 0]), subjects


def _choice(names: NDArray[Any] | None) -> str:
    """Return, as the end of a sentence, that RDMs may be chosen by their names, if they have any."""
    if names is None:
        return ""
    return f"; if an axis is neither, choose RDMs by their names ({list_names(dict.fromkeys(names.flat), 3)})"


def _example(n: int) -> str:
    return '["subjects", "sessions"]' if n == 2 else '["subjects", "sessions", "times"]'


def _regrouped(stack: RdmStack, axes: tuple[str, ...]) -> tuple[RdmStack, tuple[str, ...]]:
    """Give RDMs in one axis, with as many of each subject, an axis of subjects and the other one of `axes`."""
    if stack.names is None or stack.is_shared:
        return stack, axes
    names = [str(name) for name in stack.names.ravel()]
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    counts = {len(each) for each in rows.values()}
    if len(counts) != 1 or len(rows) == len(names):
        return stack, axes
    flat = stack.rdms.reshape(len(names), -1)[list(rows.values())]
    tiled = np.array([[name] * counts.copy().pop() for name in rows], object)
    (other,) = (axis for axis in axes if axis != "subjects")
    return RdmStack(flat, names=tiled), ("subjects", other)


def _common(names: list[str]) -> str:
    """Return the beginning that names have in common, without the separator or number that ends it."""
    if len(set(names)) == 1:
        return names[0]
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same).rstrip(" |:,;-_#(.0123456789") or names[0]
