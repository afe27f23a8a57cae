"""Arguments of `calc_rdm` → checked rows, noises and labels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import (
    CHANNELS,
    as_array,
    as_floats,
    check_choice,
    check_conditions_first,
    common_labels,
    depth,
    issue,
    labels_of,
    list_names,
    warn_caller,
)
from fastrdm.rdm.folds import Folds
from fastrdm.rdm.methods import METHODS, RdmMethod
from fastrdm.rdm.products import Rows, is_half
from fastrdm.rdm.sources import AnyMember, Member, TensorMember
from fastrdm.rdm.whitening import ESTIMATORS, FoldNoise, Noise, Noises, Precision, Residuals
from fastrdm.tensors import device_tensor, host_advice

# A list of this many arrays of one shape may hold batches or conditions instead of layers.
_MANY = 8
# Typical numbers of conditions of such arrays: up to the first, or a multiple of the second, like batch sizes and
# numbers of feature maps.
_FEW_CONDITIONS, _BATCH = 64, 32


class UndefinedPairsWarning(RuntimeWarning):
    """Conditions without dissimilarities.

    Attributes
    ----------
    conditions : tuple of int
        Their indices.
    layer : str
        The layer of a network; empty for other activations.
    """

    def __init__(self, message: str, conditions: Sequence[int] = (), layer: str = "") -> None:
        super().__init__(message)
        self.conditions = tuple(map(int, conditions))
        self.layer = layer


def check_options(method: str, row: RdmMethod, given: set[str]) -> None:
    """Raise ValueError for an option that the method does not take, or one that it lacks."""
    for name in sorted(given - row.takes):
        takers = [other for other in METHODS if name in METHODS[other].takes]
        verb = "does" if len(takers) == 1 else "do"
        raise ValueError(
            f"method {method!r} takes no {name}; {' and '.join(map(repr, takers))} {verb}"
        )
    if {"precision", "residuals"} <= given:
        raise ValueError("precision and residuals were both given; pass only one of them")
    if row.needs and not given & set(row.needs.split(" or ")):
        raise ValueError(f"method {method!r} needs {row.needs}")


def members_of(activations: Any, in_place: bool) -> tuple[list[AnyMember], bool]:
    """Return the arrays with an RDM each, and whether they are a stack."""
    named = isinstance(activations, Mapping)
    if not (named or _is_list_of_arrays(activations)):
        return [member_of(activations, "activations", in_place)], False
    if not len(activations):
        raise ValueError("activations is an empty dict; pass at least one layer")
    keys = list(activations) if named else range(len(activations))
    names = [f"activations[{key!r}]" for key in keys]
    members = [
        member_of(activations[key], name, in_place) for key, name in zip(keys, names, strict=True)
    ]
    n = members[0].shape[0]
    for member in members:
        if member.shape[0] != n:
            hint = "" if named else "; join batches of one layer with np.concatenate"
            raise ValueError(
                f"{member.name} has {member.shape[0]} conditions and {names[0]} {n}; all members of a stack need"
                f" the same conditions{hint}"
            )
    if not named:
        _warn_of_parts(activations)
    return members, True


def _warn_of_parts(activations: Sequence[Any]) -> None:
    """Warn if the arrays of a list may be batches or conditions of one layer instead of layers."""
    n = len(activations)
    if n < _MANY:
        return
    shapes = {tuple(a.shape) if hasattr(a, "shape") else np.shape(a) for a in activations}
    if len(shapes) != 1:
        return
    shape = shapes.pop()
    if shape[0] <= max(_FEW_CONDITIONS, n) or shape[0] % _BATCH == 0:
        warn_caller(
            f"activations is a list of {n} arrays with shape {shape}, taken for {n} layers of {shape[0]} conditions:"
            " pass np.concatenate(activations) if they are batches of one layer, np.stack(activations) if each is a"
            " condition, or a dict if they are layers"
        )


def aligned(activations: Any, members: list[AnyMember], options: dict[str, Any]) -> list[Any]:
    """Return precision, residuals, folds and conditions in the order of the activations, with labels checked."""
    noises = [_in_order(options[name], activations, name) for name in ("precision", "residuals")]
    folds, conditions = options["folds"], options["conditions"]
    if type(activations) is np.ndarray and folds is None and noises[0] is noises[1] is None:
        return [None] * 4
    arrays = activations
    if isinstance(activations, Mapping):
        arrays = list(activations.values())
    elif not _is_list_of_arrays(activations):
        arrays = [activations]
    what = "condition" if folds is None else "measurement"
    rows = [labels_of(a, 0, m.name, what) for a, m in zip(arrays, members, strict=True)]
    common_labels(
        [*rows, labels_of(folds, 0, "folds", what), labels_of(conditions, 0, "conditions", what)]
    )
    for noise, name in zip(noises, ("precision", "residuals"), strict=True):
        each = noise if _is_list_of_arrays(noise) else [noise] * len(members)
        for value, array, member in zip(each, arrays, members, strict=False):
            labels = [labels_of(value, -1, f"the columns of {name}", CHANNELS)]
            if name == "precision":
                labels.append(labels_of(value, -2, f"the rows of {name}", CHANNELS))
            if depth(array) == 2:
                labels.append(labels_of(array, -1, f"the columns of {member.name}", CHANNELS))
            common_labels(labels)
    return noises + [
        value if value is None else as_array(value, name)
        for value, name in ((folds, "folds"), (conditions, "conditions"))
    ]


def _in_order(option: Any, activations: Any, name: str) -> Any:
    """Return an option for each layer of a dict as a list in the dict's order."""
    if not (isinstance(option, Mapping) and isinstance(activations, Mapping)):
        return option
    if option.keys() != activations.keys():
        raise ValueError(
            f"{name} is a dict of {list(option)}, but activations of {list(activations)}; use the same names"
        )
    return [option[key] for key in activations]


def _is_list_of_arrays(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and depth(values) > 2


def member_of(activations: Any, name: str, in_place: bool = False) -> AnyMember:
    """Return activations of one RDM: those on a device as a tensor there, others as `as_rows`."""
    check_conditions_first(activations, name)
    tensor = device_tensor(activations, name)
    if tensor is None:
        return Member(as_rows(activations, name, in_place), name)
    _check_shape(tuple(tensor.shape), name)
    return TensorMember(tensor, name, host_advice(activations, name))


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) < 2 or shape[0] < 2 or 0 in shape:
        single = len(shape) >= 2 and shape[0] == 1 and name != "activations"
        hint = "; join batches of one layer with np.concatenate" if single else ""
        raise ValueError(
            f"{name} have shape {shape}; expected (conditions >= 2, channels >= 1, ...){hint}"
        )


def as_rows(activations: ArrayLike, name: str, in_place: bool = False) -> Rows:
    """Return activations as (conditions, channels), in a type that can be read block by block."""
    array = as_array(activations, name)
    if not (array.dtype.kind in "iub" or is_half(array)):
        array = as_floats(array, name)
    _check_shape(array.shape, name)
    rows = array.reshape(len(array), -1)
    if in_place and not np.may_share_memory(rows, array):
        raise ValueError(
            f"{name} have shape {array.shape} and strides {array.strides}, which need a copy of the whole array, beyond"
            " max_memory; pass them as (conditions, channels)"
        )
    return rows


def noises_of(
    precision: Any,
    residuals: Any,
    estimator: str | None,
    members: list[AnyMember],
    stacked: bool,
    folds: Folds | None,
) -> Sequence[Noises | None]:
    """Return the noise of each member, with its shape checked: one for all, one each, or one for each fold."""
    if estimator is not None:
        check_choice(estimator, ESTIMATORS, "estimator")
    if estimator is not None and residuals is None:
        raise ValueError("estimator applies to residuals; pass residuals as well")
    if precision is None and residuals is None:
        return [None] * len(members)
    name, values = ("residuals", residuals) if precision is None else ("precision", precision)

    def one(value: Any, name: str) -> Precision | Residuals:
        return Precision(value, name) if residuals is None else Residuals(value, estimator, name)

    def noise(value: Any, name: str) -> Noises:
        several = isinstance(value, Mapping) or _is_list_of_arrays(value)
        if folds is None or not (several or (residuals is None and np.ndim(value) == 3)):
            return Noise(one(value, name))
        return FoldNoise([one(*named) for named in _by_fold(value, name, folds)])

    if not (stacked and _is_list_of_arrays(values)):
        noises = [noise(values, name)] * len(members)
    elif len(values) == len(members):
        names = [member.name.replace("activations", name, 1) for member in members]
        noises = [noise(*named) for named in zip(values, names, strict=True)]
    else:
        raise ValueError(
            f"{name}: {len(values)} for a stack of {len(members)}; pass one for each member, or one for all"
        )
    for member, checked in zip(members, noises, strict=True):
        for source in checked.sources:
            source.check(member.shape[1], member.name)
    return noises


def _by_fold(value: Any, name: str, folds: Folds) -> Iterator[tuple[Any, str]]:
    if isinstance(value, Mapping):
        if set(value) != set(folds.names):
            raise ValueError(f"{name} has folds {list(value)}; the folds are {folds.names}")
        value = [value[fold] for fold in folds.names]
    if len(value) != len(folds.names):
        raise ValueError(
            f"{name}: {len(value)} for {len(folds.names)} folds; pass one for each fold"
        )
    for fold, array in zip(folds.names, value, strict=True):
        yield array, f"{name} of fold {fold!r}"


def warn_undefined(name: str, reason: str, conditions: NDArray[np.intp]) -> None:
    """Warn the caller of a public function of conditions without dissimilarities."""
    if not len(conditions):
        return
    prefix = f"{name}: " if name else ""
    text = f"{prefix}{reason}, their pairs are NaN: {list_names(conditions, 10)}"
    issue(UndefinedPairsWarning(text, conditions.tolist()), stacklevel=3)
