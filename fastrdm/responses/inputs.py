"""Responses in any form, in memory or in files → `MeasuredResponses`."""

from typing import Any

from fastrdm.responses.forms import of_arrays
from fastrdm.responses.reading import are_paths, read_responses
from fastrdm.responses.subjects import MeasuredResponses


def measured(responses: Any, name: str = "responses") -> MeasuredResponses:
    """Return responses of any accepted form as one array (repeats, conditions, units) for each subject.

    Memory is shared with the argument where its type allows.

    Parameters
    ----------
    responses : array_like, path, list, tuple or dict
        An array (subjects, conditions, units), or (subjects, repeats, conditions, units) with NaN where a repeat is
        lacking. A list or tuple of subjects, or a dict of named ones, whose members are (conditions, units) or
        (repeats, conditions, units); units and repeats may differ between them. A single table or array of two axes is
        one subject, (conditions, units). NumPy and masked arrays (masked values are NaN), torch tensors, pandas and
        xarray objects are accepted; the labels of conditions, units and subjects are kept. The axes of an xarray object
        whose dimensions all have known names, such as ``subject``, ``repetition``, ``stimulus``, ``neuroid``, are
        recognised in any order; if only some are known, they must be where the order has them. Paths of files are read
        as by `read_responses`; several files are a subject each.
    name : str
        Name of the argument in errors.

    Returns
    -------
    MeasuredResponses

    Raises
    ------
    ValueError
        If a shape is none of those above or empty, subjects differ in the number or the labels of their conditions, a
        value is infinite, or a subject is NaN throughout.
    """
    if isinstance(responses, MeasuredResponses):
        return responses
    if are_paths(responses):
        return read_responses(responses)
    return of_arrays(responses, name)
