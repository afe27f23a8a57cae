"""Objects of fastrdm and other libraries that are no arrays, and what of them to pass in their place."""

import os
from typing import Any

# Attributes by which an object is recognised, and what holds its numbers.
_KNOWN = (
    (("dissimilarities", "pattern_descriptors"), "{}.dissimilarities"),
    (("measurements", "obs_descriptors"), "{}.measurements"),
    (("X", "obs", "var_names"), "{}.to_df()"),
    (("dataobj", "affine"), "fastrdm.searchlight.from_volume({}, mask)"),
    (("get_data", "info"), "{}.get_data()"),
    (("products", "error_bound"), "{}.rdm(method)"),
    (("rdms", "source", "to_xarray"), "{}.rdms, or {}.to_xarray() with its conditions"),
)


def refusal_of(values: Any, name: str) -> ValueError | None:
    """Return the error of a path, or of an object or list of objects whose numbers are elsewhere; None for others."""
    if isinstance(values, (str, os.PathLike)):
        return ValueError(
            f"{name} is {os.fspath(values)!r}, not an array; read a file before, as by numpy.load or fastrdm.read_rdms"
        )
    if isinstance(values, (list, tuple)) and values and not isinstance(values[0], str):
        return refusal_of(values[0], f"{name}[0]")
    kind = type(values)
    for attributes, advice in _KNOWN:
        if all(hasattr(values, each) for each in attributes):
            library = kind.__module__.partition(".")[0]
            what = f"{name} is an object of type {kind.__name__} ({library}), not an array"
            return ValueError(f"{what}; pass {advice.replace('{}', name)}")
    return None
