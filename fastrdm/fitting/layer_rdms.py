"""Layers' RDMs and the subjects that models are fitted on or judged on, as callers pass them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_array, list_names, names_of
from fastrdm.similarity import (
    Protocol,
    SubjectData,
    Target,
    in_range,
    pairs_among,
    part_of,
    take_subjects,
)

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

# Fewer conditions have fewer than three pairs, whose order says nothing.
LEAST_CONDITIONS = 3


@dataclass(frozen=True)
class LayerRdms:
    """Layers' RDMs (layers, pairs) with their names, and the subjects of the same conditions."""

    data: SubjectData
    rdms: Floats
    layers: tuple[str, ...]

    @classmethod
    def read(
        cls,
        rdms: Any,
        target: Any,
        *,
        protocol: str | Protocol | None = None,
        method: str | None = None,
        nan_policy: str | None = None,
    ) -> "LayerRdms":
        """Check the arguments of a fit; ValueError in one sentence for what does not fit together."""
        data = take_subjects(target, protocol, nan_policy)
        if method is not None:
            data = replace(data, protocol=replace(data.protocol, method=method))
        rows = data.take_models(rdms)
        names = tuple(names_of(rdms) or map(str, range(len(rows))))
        if data.nan_policy == "propagate" and np.isnan(rows).any():
            layer = names[int(np.argmax(np.isnan(rows).any(axis=1)))]
            raise ValueError(
                f"the RDM of layer {layer!r} has NaN; a fit leaves out such pairs with nan_policy='omit'"
            )
        return cls(data, in_range(rows, alike=True)[0], names)

    @property
    def is_ordinal(self) -> bool:
        """Whether the protocol's similarity compares ranks."""
        return self.data.similarity.ordinal

    def part(self, conditions: Indices | None, subjects: Indices | None = None) -> "LayerRdms":
        """Return the RDMs of some conditions, and some of the subjects."""
        rdms = self.rdms
        if conditions is not None:
            rdms = np.ascontiguousarray(rdms[:, pairs_among(conditions, self.data.n_conditions)])
        return LayerRdms(part_of(self.data, conditions, subjects), rdms, self.layers)


def layers_in_order(rdms: Any, layers: tuple[str, ...]) -> Any:
    """Return the RDMs of the fitted layers in their order: by name if both have names, else by position."""
    names = names_of(rdms)
    is_dict = isinstance(rdms, Mapping)
    if names is None or not (is_dict or layers != tuple(map(str, range(len(layers))))):
        return rdms
    place = {name: i for i, name in enumerate(names)}
    if missing := [name for name in layers if name not in place]:
        raise ValueError(
            f"rdms lacks layers of the fitted model: {list_names(missing)}; it has {list_names(names)}"
        )
    order = [place[name] for name in layers]
    if is_dict:
        values = list(rdms.values())
        return {name: values[i] for name, i in zip(layers, order, strict=True)}
    return rdms.iloc[order] if hasattr(rdms, "iloc") else rdms[order]


def read_indices(indices: ArrayLike | None, n: int, name: str, least: int) -> Indices | None:
    """Return indices below n in their order; a mask of booleans is allowed too."""
    if indices is None:
        return None
    array = as_array(indices, name)
    if array.dtype == bool and array.shape == (n,):
        array = np.flatnonzero(array)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be indices from 0 to {n - 1} or a mask of {n} booleans, got {array.dtype}"
            f" {array.shape}"
        )
    if len(array) and not (array.min() >= 0 and array.max() < n):
        raise ValueError(f"{name} must be from 0 to {n - 1}, got {array.min()} to {array.max()}")
    if len(np.unique(array)) < len(array):
        raise ValueError(f"{name} holds an index twice")
    if len(array) < least:
        raise ValueError(f"{name} must be at least {least}, got {len(array)}")
    return array.astype(np.intp)


def is_several(target: Any) -> bool:
    """Whether a target is a list of studies' targets."""
    return (
        isinstance(target, (list, tuple))
        and len(target) > 0
        and all(isinstance(each, Target) for each in target)
    )
