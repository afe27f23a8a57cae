"""Subjects and models, in the shapes that callers pass → condensed RDMs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastrdm._base import (
    ASYMMETRY,
    Labels,
    as_rdms,
    check_labelled_size,
    checked_triangle,
    in_order_of,
    is_similarity,
    labels_of,
    n_conditions,
    upper_triangle,
    warn_similarities,
)
from fastrdm._kernels import bound_of
from fastrdm.similarity.coefficients import Rows
from fastrdm.similarity.numerics import Floats, blocks_of, is_large, release
from fastrdm.similarity.sides import check_values
from fastrdm.similarity.time_scores import labelled_times


def as_condensed(array: Rows, name: str) -> Rows:
    """Return condensed RDMs as (n, pairs), without a copy if their rows are contiguous; values are not checked."""
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} has shape {array.shape}; expected condensed RDMs, (n, pairs) or (pairs,); for square ones pass"
            f" condense({name})"
        )
    if array.ndim == 2 and array.shape[0] == array.shape[1] and is_square_rdm(array):
        raise ValueError(
            f"{name} with shape {array.shape} looks like one square RDM or similarity matrix; expected condensed RDMs,"
            f" (n, pairs) or (pairs,); pass condense({name})"
        )
    n_conditions(array.shape[-1], name)
    return with_contiguous_rows(array)


def is_square_rdm(array: Rows) -> bool:
    """Return whether (n, n) is symmetric, with zeros, NaN or each row's largest entry on the diagonal."""
    diagonal = array.diagonal()
    special = not np.nan_to_num(diagonal).any() or (
        len(array) > 1 and is_similarity(array, diagonal)
    )
    if not special:
        return False
    # Rounding makes correlations asymmetric.
    largest = np.abs(array[np.isfinite(array)]).max(initial=0.0)
    return np.allclose(array, array.T, rtol=0, atol=ASYMMETRY * largest, equal_nan=True)


def with_contiguous_rows(array: Rows) -> Rows:
    """Return (n, pairs) with contiguous rows, a copy only if needed; one RDM (pairs,) becomes (1, pairs)."""
    rows = array if array.ndim == 2 else array[None]
    if rows.strides[-1] == rows.itemsize and rows.flags.aligned:
        return rows
    return np.ascontiguousarray(rows)


class SubjectRdms(NamedTuple):
    """Subjects' RDMs as they were passed to a function.

    `rdms` are condensed, (subjects, times, pairs), in float64; large RDMs of float32 stay as they are. `is_own` is
    whether they share no memory with the argument, `shape` the argument's shape, `tie_bound` the relative difference
    within which pooled values tie.
    """

    rdms: Rows
    labels: Labels | None
    tie_bound: float
    shape: tuple[int, ...]
    is_own: bool


def as_subjects(
    subject_rdms: Any, name: str = "subject_rdms", *, nan_policy: str = "raise"
) -> SubjectRdms:
    """Return subject RDMs of any form as condensed RDMs (subjects, times, pairs)."""
    array = given = as_rdms(mapped(subject_rdms), name)
    expected = "expected (subjects, n, n), (subjects, pairs), or with a time axis second"
    if array.ndim not in (2, 3, 4):
        raise ValueError(f"{name} has shape {array.shape}; {expected}")
    if (
        array.ndim == 2
        and array.shape[0] == array.shape[1]
        and np.array_equal(array, array.T, equal_nan=True)
    ):
        raise ValueError(
            f"{name} with shape {array.shape} looks like one square RDM; {expected}, so pass rdm[None]"
        )
    square = array.ndim == 4 or (array.ndim == 3 and array.shape[1] == array.shape[2])
    if square:
        array = checked_triangle(array, name)
    n_conditions(array.shape[-1], name)
    array, labels = in_order_of(array, subject_rdms, name, None, square=square)
    if 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; {expected}, none of them empty")
    axes = ("subject", "pair") if array.ndim == 2 else ("subject", "time", "pair")
    check_values(array, name, axes, nan_policy)
    release(given)
    shaped = array if array.ndim == 3 else array[:, None]
    rdms = np.ascontiguousarray(shaped, None if is_large(shaped) else np.float64)
    is_own = isinstance(subject_rdms, (list, tuple, Mapping)) or not np.may_share_memory(
        rdms, given
    )
    return SubjectRdms(rdms, labels, bound_of(given.dtype), given.shape, is_own)


def time_labels(
    subject_rdms: Any, given: SubjectRdms, name: str, *, must_fit: bool
) -> Floats | None:
    """Return the labels of the time axis of subjects' RDMs as times, None without labels.

    Labels that cannot be times are a ValueError if they `must_fit`; otherwise they are ignored.
    """
    shape = given.shape
    is_square = len(shape) == 4 or (len(shape) == 3 and shape[1] == shape[2])
    if len(shape) - is_square < 3:
        return None
    try:
        labels = labels_of(subject_rdms, -3 if is_square else -2, name, "time")
        if labels is None:
            return None
        return labelled_times(labels, given.rdms.shape[1])
    except ValueError:
        if must_fit:
            raise
        return None


def mapped(rdms: Any) -> Any:
    """Return a contiguous HDF5 dataset as a mapped array, and any other argument as it is."""
    if type(rdms).__module__.partition(".")[0] != "h5py" or not hasattr(rdms, "chunks"):
        return rdms
    kind, place = rdms.dtype, rdms.id.get_offset()
    is_readable = kind.kind == "f" and kind.isnative and place is not None
    if (
        not is_readable
        or rdms.chunks
        or rdms.external
        or rdms.is_virtual
        or rdms.file.driver != "sec2"
    ):
        return rdms
    rdms.file.flush()
    return np.memmap(rdms.file.filename, kind, "r", place, rdms.shape)


def as_models(
    rdms: Any, n_pairs: int, subjects_name: str, labels: Labels | None, name: str = "rdms"
) -> Rows:
    """Return model RDMs of any form as (models, pairs), float32 or float64; values are not checked.

    Models whose conditions are labelled are brought into the order of the subjects'. ValueError if a shape does not fit
    the subjects' pairs, an RDM is asymmetric, or labels are not the subjects'.
    """
    array = as_rdms(rdms, name)
    n = n_conditions(n_pairs)
    if array.shape == (n, n) and n == n_pairs:
        raise ValueError(
            f"{name} with shape {array.shape} may be one square RDM or {n} condensed ones; pass 3 axes"
        )
    square = array.shape[-2:] == (n, n) and array.ndim in (2, 3)
    if not square and array.shape[-1:] != (n_pairs,):
        own = array.ndim > 1 and array.shape[-1] == array.shape[-2]
        check_labelled_size(n_pairs, rdms, name, labels, square=own)
    if square:
        array = _condense(array, name)
    elif array.ndim not in (1, 2) or array.shape[-1] != n_pairs:
        raise ValueError(
            f"{name} has shape {array.shape}; {subjects_name} has {n} conditions, so expected ({n}, {n}), ({n_pairs},),"
            f" (models, {n}, {n}) or (models, {n_pairs})"
        )
    array, _ = in_order_of(array, rdms, name, labels, square=square)
    return with_contiguous_rows(array)


def _condense(rdms: Rows, name: str) -> Rows:
    """Condense square RDMs in blocks, because condensing needs memory for several copies."""
    n = rdms.shape[-1]
    blocks = list(blocks_of(len(rdms), n * n))
    if rdms.ndim == 2 or len(blocks) <= 1:
        return checked_triangle(rdms, name)
    out = np.empty((len(rdms), n * (n - 1) // 2), rdms.dtype)
    for block in blocks:
        out[block] = upper_triangle(rdms[block], name)
    warn_similarities(rdms, name)
    return out
