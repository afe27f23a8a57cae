"""Arrays of RDMs, square or condensed → checked condensed RDMs with their leading axes, also in another order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    ASYMMETRY,
    as_floats,
    check_choice,
    condense,
    n_conditions,
    warn_similarities,
)
from fastrdm.similarity import check_values

#: Names of axes: those that precede the conditions, and those of the conditions.
LEADING = ("subjects", "sessions", "times")
CONDITIONS, PAIRS = "conditions", "pairs"

_LEAST = 3


def check_axes(axes: Sequence[str], where: str) -> None:
    """Refuse names of axes that are unknown or repeated."""
    if isinstance(axes, str):
        raise ValueError(f"{where}axes = {axes!r} must be a list, such as [{axes!r}]")
    for name in axes:
        check_choice(name, (*LEADING, CONDITIONS, PAIRS), f"{where}axes: the name")
    for name in LEADING:
        if list(axes).count(name) > 1:
            raise ValueError(f"{where}axes = {list(axes)} names {name} twice")
    trailing = [name for name in axes if name not in LEADING]
    if trailing not in ([], [CONDITIONS] * 2, [PAIRS]):
        raise ValueError(
            f"{where}axes = {list(axes)} must name conditions twice, pairs once, or neither"
        )


def leading_axes(axes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of axes that are not those of the conditions."""
    return tuple(name for name in axes if name in LEADING)


def pairs_of(n: int) -> int | None:
    """Return the number of conditions of n pairs if there is one, at least 3."""
    try:
        found = n_conditions(n)
    except ValueError:
        return None
    return found if found >= _LEAST else None


def condensed_square(
    rdms: NDArray[Any], name: str, axes: Sequence[str], nan_policy: str
) -> NDArray[np.floating[Any]]:
    """Check square RDMs (..., n, n), whose diagonal is not read, and condense them; `axes` name all axes."""
    warn_similarities(rdms, name)
    n = rdms.shape[-1]
    # The diagonal is not used, and some files hold NaN there.
    rdms = rdms.copy()
    rdms[..., np.arange(n), np.arange(n)] = 0
    check_values(rdms, name, tuple(axes), nan_policy)
    return condense(rdms, name)


def condensed(
    array: Any,
    name: str,
    *,
    axes: Sequence[str] = (),
    expected: int | None = None,
    form: str | None = None,
    nan_policy: str = "raise",
) -> NDArray[np.floating[Any]]:
    """Return an array of RDMs as (..., pairs), checked.

    Parameters
    ----------
    array : ndarray
        (..., n, n) or (..., pairs), or a column (pairs, 1); or axes in any order, if `axes` names all of them.
    name : str
        Name of the array in errors.
    axes : sequence of str
        Names of the axes, if conditions or pairs are among them.
    expected : int, optional
        Number of conditions, if it is known.
    form : {"conditions", "pairs"}, optional
        The form, if the file's format determines it.
    nan_policy : str
        As for `Target`.

    Raises
    ------
    ValueError
        If the array has no form of RDMs, or two forms, or its values are not those of RDMs.
    """
    rdms = as_floats(array, name, masked_as_nan=True)
    if set(axes) - set(LEADING):
        rdms, form = _named(rdms, name, axes)
    elif form is None:
        if rdms.ndim == 2 and rdms.shape[1] == 1 and pairs_of(rdms.shape[0]):
            rdms = rdms.T
        form = _form(rdms, name, expected)
    if form == PAIRS and pairs_of(rdms.shape[-1] if rdms.ndim else 0) is None:
        raise ValueError(
            f"{name} has shape {rdms.shape}; a condensed RDM has n (n - 1) / 2 entries for n >= {_LEAST} conditions"
        )
    # What the leading axes are is decided later.
    names = [f"RDM axis {i}" for i in range(rdms.ndim)]
    if 0 in rdms.shape:
        raise ValueError(f"{name} has shape {rdms.shape}, without an RDM")
    if form == CONDITIONS:
        if not set(axes) - set(LEADING):
            _check_conditions_last(rdms, name)
        lead = ["subject", "time"] if rdms.ndim < 5 else names
        return condensed_square(rdms, name, (*lead[: rdms.ndim - 2], "row", "column"), nan_policy)
    lead = ["subject", "time"] if rdms.ndim < 4 else names
    check_values(rdms, name, (*lead[: rdms.ndim - 1], "pair"), nan_policy)
    return np.ascontiguousarray(rdms)


def _check_conditions_last(rdms: NDArray[Any], name: str) -> None:
    """Raise a ValueError if (n, n, n) has the conditions first."""
    if rdms.ndim != 3 or len(set(rdms.shape)) > 1:
        return
    same = np.isclose(rdms, np.swapaxes(rdms, 0, 1), equal_nan=True).all()
    if same and not np.isclose(rdms, np.swapaxes(rdms, 1, 2), equal_nan=True).all():
        raise ValueError(
            f"{name} with shape {rdms.shape} is symmetric in its first two axes, not in its last two; name its axes:"
            ' axes = ["conditions", "conditions", "subjects"]'
        )


def _named(rdms: NDArray[Any], name: str, axes: Sequence[str]) -> tuple[NDArray[Any], str]:
    """Bring axes that are all named into the order: leading ones as named, then conditions or pairs."""
    if len(axes) != rdms.ndim:
        squeezed = rdms.reshape([n for n in rdms.shape if n != 1])
        if len(axes) != squeezed.ndim:
            raise ValueError(
                f"{name} has shape {rdms.shape}, {rdms.ndim} axes, but axes = {list(axes)} names {len(axes)}"
            )
        rdms = squeezed
    order = sorted(range(rdms.ndim), key=lambda i: axes[i] not in LEADING)
    form = CONDITIONS if CONDITIONS in axes else PAIRS
    out = rdms.transpose(order)
    n, shape = out.shape[-1], rdms.shape
    if form == CONDITIONS and (out.shape[-2] != n or n < _LEAST):
        raise ValueError(
            f"{name} has shape {shape}, but axes = {list(axes)} needs two equal axes of conditions, at least {_LEAST}"
        )
    if form == PAIRS and pairs_of(n) is None:
        raise ValueError(
            f"{name} has shape {shape}, but {n}, named pairs in axes = {list(axes)}, is not n (n - 1) / 2 for"
            f" n >= {_LEAST} conditions"
        )
    return out, form


def _form(rdms: NDArray[Any], name: str, expected: int | None) -> str:
    """Return whether the last axes are conditions twice, or pairs; ValueError if neither or undecided."""
    shape = rdms.shape
    last = shape[-1] if shape else 0
    sizes: dict[str, int] = {}
    if rdms.ndim >= 2 and shape[-2] == last >= _LEAST:
        sizes[CONDITIONS] = last
    if (n := pairs_of(last)) is not None and rdms.ndim <= 3:
        sizes[PAIRS] = n
    fitting = [form for form, size in sizes.items() if size == expected]
    if len(fitting) == 1:
        return fitting[0]
    if not sizes:
        raise ValueError(f"{name} has shape {shape}; {_expected(shape)}")
    if len(sizes) == 2:
        return _by_values(rdms, name)
    (form,) = sizes
    if form == PAIRS and rdms.ndim == 3 and shape[0] == shape[1]:
        raise ValueError(f"{name} has shape {shape}; {_expected(shape)}")
    first = pairs_of(shape[0]) if rdms.ndim == 2 else None
    if form == PAIRS and first is not None and (shape[0] > last or expected == first):
        raise ValueError(
            f"{name} with shape {shape} may be {shape[0]} RDMs of {sizes[PAIRS]} conditions, or {last} RDMs of {first}"
            ' conditions; name its axes: axes = ["subjects", "pairs"] or ["pairs", "subjects"]'
        )
    return form


def _expected(shape: tuple[int, ...]) -> str:
    text = (
        "expected (subjects, n, n) or (subjects, times, n, n) for n >= 3 conditions, or condensed RDMs,"
        " (subjects, pairs) or (pairs,)"
    )
    if len(shape) in (3, 4) and shape[0] == shape[1]:
        named = '"subjects"' if len(shape) == 3 else '"times", "subjects"'
        return f'{text}; the conditions seem to come first: axes = ["conditions", "conditions", {named}]'
    if len(shape) == 2 and pairs_of(shape[0]):
        return f'{text}; the pairs seem to come first: axes = ["pairs", "subjects"]'
    return text


def _by_values(rdms: NDArray[Any], name: str) -> str:
    """Tell square RDMs from condensed ones of n pairs by the symmetry and the diagonal."""
    diagonal = np.diagonal(rdms, axis1=-2, axis2=-1)
    finite = rdms[np.isfinite(rdms)]
    tolerance = ASYMMETRY * float(np.abs(finite).max(initial=0.0))
    symmetric = np.allclose(rdms, np.swapaxes(rdms, -1, -2), rtol=0, atol=tolerance, equal_nan=True)
    known = diagonal[~np.isnan(diagonal)]
    constant = known.size == 0 or np.ptp(known) <= tolerance
    if symmetric and (constant or rdms.ndim > 2):
        return CONDITIONS
    if not (symmetric or constant):
        return PAIRS
    n = rdms.shape[-1]
    why = (
        "is symmetric, but its diagonal varies"
        if symmetric
        else "is not symmetric, but its diagonal is constant"
    )
    raise ValueError(
        f"{name} with shape {rdms.shape} {why}: it may be square RDMs of {n} conditions, or {rdms.shape[-2]} condensed"
        f' RDMs of {pairs_of(n)} conditions; name its axes, such as axes = ["conditions", "conditions"] or'
        ' ["subjects", "pairs"]'
    )


def reordered(
    rdms: NDArray[Any], labels: Sequence[str], wanted: Sequence[str], what: str
) -> NDArray[Any]:
    """Return condensed RDMs with the conditions in another order; ValueError if the labels are not the same."""
    if set(labels) != set(wanted) or len(labels) != len(wanted):
        odd = next(iter(set(labels) ^ set(wanted)), "")
        raise ValueError(f"{what} differ: {odd!r} is only in one of them")
    place = {label: i for i, label in enumerate(labels)}
    order = np.array([place[label] for label in wanted])
    n = len(order)
    index = np.zeros((n, n), np.intp)
    index[np.triu_indices(n, 1)] = np.arange(n * (n - 1) // 2)
    index += index.T
    return rdms[..., index[np.ix_(order, order)][np.triu_indices(n, 1)]]
