"""The variables of a file that may hold RDMs, and what its format says of them: axes, names of RDMs, condition labels.

rsatoolbox's files hold one stack of RDMs with descriptors, Meadows' one variable for each participant or task with the
names of the stimuli, netCDF (as of Brain-Score) arrays with named axes and coordinates. In all other files, variables
of text with a value for each condition are labels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import numpy as np

from fastrdm._base import CELL, GROUP, NUMBERS, STRUCT, TEXT, Contents, kind_of, list_names
from fastrdm.studies.axis_names import is_presented, is_unit, is_unnamed, leading_name
from fastrdm.studies.label_sets import coordinates_of, label_sets, text_labels, texts_of
from fastrdm.studies.rdm_values import CONDITIONS, PAIRS


def _no_labels(n: int) -> dict[str, tuple[str, ...]]:
    return {}


@dataclass(frozen=True)
class Loaded:
    """A variable's value, with what the file says of it.

    `form` is conditions or pairs, the last axes, if it is known. `axes` are the leading axes, if they are known.
    `names` are those of the RDMs; if they are `subjects`, equal ones are RDMs of one subject. `descriptors` are other
    names of the RDMs, such as their regions. `labels` returns the sets of labels of n conditions, by name. `unclear`
    says why several RDMs may not be those of subjects. `order` is the order of the axes that has the conditions last.
    """

    value: Any
    form: str | None = None
    axes: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    subjects: bool = False
    unclear: str = ""
    descriptors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    order: tuple[int, ...] | None = None
    labels: Callable[[int], Mapping[str, tuple[str, ...]]] = _no_labels


@dataclass(frozen=True)
class Variable:
    """A variable that may hold RDMs, and its description in lists of keys."""

    description: str
    load: Callable[[], Loaded]


@dataclass(frozen=True)
class Variables:
    """The variables of a file by key, and the keys that are read if none is chosen."""

    by_key: Mapping[str, Variable]
    default: tuple[str, ...] = ()


def variables_of(contents: Contents) -> Variables:
    """Return the variables of a file that may hold RDMs."""
    for found in (_rsatoolbox(contents), _meadows_tree(contents), _meadows_arrays(contents)):
        if found is not None:
            return found
    return _arrays(contents)


# rsatoolbox

_SUBJECTS = ("subject", "subjects", "participant", "subject_id", "sub")
# Descriptors by which RDMs differ that are not those of subjects.
_NOT_SUBJECTS = ("roi", "region", "model", "layer", "session", "run", "time", "voxel_index")
_STACK = "dissimilarities"


def _rsatoolbox(contents: Contents) -> Variables | None:
    keys = [
        key
        for key in contents.entries
        if key.rpartition("/")[2] == _STACK
        and f"{key[: -len(_STACK)]}pattern_descriptors" in contents.entries
    ]
    if not keys:
        return None

    def variable(key: str) -> Variable:
        base = key[: -len(_STACK)]

        def load() -> Loaded:
            rdms = np.asarray(contents.read(key))
            patterns = _group(contents, f"{base}pattern_descriptors")
            described = _group(contents, f"{base}rdm_descriptors")
            texts = {name: texts_of(value) for name, value in described.items()}
            # The index is the position, whatever the order of the conditions.
            own = {name: value for name, value in patterns.items() if name != "index"}
            subject = next((name for name in _SUBJECTS if texts.get(name)), None)
            named = next((n for n in (subject, "name", *_NOT_SUBJECTS) if n and texts.get(n)), "")
            names = texts.get(named)
            if names is not None and len(names) != len(rdms):
                names = None
            labels = partial(label_sets, own)
            differing = [name for name in _NOT_SUBJECTS if len(set(texts.get(name) or ())) > 1]
            unclear = f"RDMs that differ in {differing[0]}" if differing and subject is None else ""
            others = {k: v for k, v in texts.items() if v and k != named and len(v) == len(rdms)}
            return Loaded(
                rdms,
                PAIRS,
                ("subjects",),
                names,
                subject is not None,
                unclear,
                others,
                labels=labels,
            )

        return Variable(f"RDMs of rsatoolbox {contents.entries[key].shape}", load)

    return Variables({key: variable(key) for key in keys}, tuple(keys) if len(keys) == 1 else ())


def _group(contents: Contents, key: str) -> Mapping[str, Any]:
    value = contents.read(key) if key in contents.entries else {}
    return value if isinstance(value, Mapping) else {}


# Meadows

_MEADOWS = "rdmutv"


def _meadows_arrays(contents: Contents) -> Variables | None:
    """A `.mat` download: `rdmutv` and `stimuli`, or these followed by an underscore and the participant."""
    entries = contents.entries
    keys = [key for key in entries if key == _MEADOWS or key.startswith(f"{_MEADOWS}_")]
    if not keys:
        return None

    def variable(key: str) -> Variable:
        participant = key[len(_MEADOWS) :]

        def load() -> Loaded:
            stimuli = next((k for k in (f"stimuli{participant}", "stimuli") if k in entries), None)
            own = {"stimuli": contents.read(stimuli)} if stimuli else {}
            names = (participant[1:].replace("_", "-"),) if participant else None
            value = np.asarray(contents.read(key))
            value = value.ravel() if max(value.shape, default=0) == value.size else value
            return Loaded(value, PAIRS, names=names, labels=partial(label_sets, own))

        return Variable(str(entries[key]), load)

    others = _arrays(contents).by_key
    return Variables({**others, **{key: variable(key) for key in keys}}, tuple(keys))


def _meadows_tree(contents: Contents) -> Variables | None:
    """A `.json` download: a task, or the tasks of a participant, or these for each participant."""
    root = contents.root
    if not isinstance(root, Mapping) or contents.entries:
        return None
    tasks = _tasks(root)
    if tasks:
        found = {name: (name, task) for name, task in tasks.items()}
        default = tuple(found) if len(found) == 1 else ()
    else:
        trees = {str(who): _tasks(tree) for who, tree in root.items() if isinstance(tree, Mapping)}
        single = all(len(each) <= 1 for each in trees.values())
        found = {
            who if single else f"{who}/{name}": (who, task)
            for who, each in trees.items()
            for name, task in each.items()
        }
        default = tuple(found) if single else ()
    if not found:
        return None

    def variable(name: str, task: Mapping[str, Any]) -> Variable:
        def load() -> Loaded:
            try:
                rdm = np.asarray(task["rdm"], float)
            except (TypeError, ValueError):
                raise ValueError(
                    f"the rdm of {name} of {contents.path} is not a list of numbers"
                ) from None
            stimuli = [str(each.get("name", "")) for each in task["stimuli"]]
            labels = partial(label_sets, {"stimuli": stimuli})
            return Loaded(rdm, PAIRS, names=(name,), labels=labels)

        return Variable(f"{NUMBERS} {(len(task['rdm']),)}", load)

    return Variables({key: variable(*each) for key, each in found.items()}, default)


def _tasks(tree: Any) -> dict[str, Mapping[str, Any]]:
    """Return the tasks with an RDM by name."""
    if not isinstance(tree, Mapping):
        return {}
    listed = tree.get("tasks")
    tasks: dict[str, Mapping[str, Any]] = {}
    for i, task in enumerate(listed if isinstance(listed, list) else [tree]):
        if not isinstance(task, Mapping) or not isinstance(task.get("rdm"), list):
            continue
        stimuli = task.get("stimuli")
        if isinstance(stimuli, list) and all(isinstance(each, Mapping) for each in stimuli):
            about = task.get("task")
            name = str(about.get("name", "")) if isinstance(about, Mapping) else ""
            tasks[name if name and name not in tasks else f"{name or 'task'}-{i}"] = task
    return tasks


# Arrays with or without named axes


def _arrays(contents: Contents) -> Variables:
    entries = contents.entries
    variables = {
        key: Variable(str(entry), _loader(contents, key))
        for key, entry in entries.items()
        if entry.kind not in (TEXT, GROUP)
    }
    return Variables(variables, _only(contents, variables))


_LEAST_PAIRS = 3


def _only(contents: Contents, variables: Mapping[str, Variable]) -> tuple[str, ...]:
    """Return the key of the only variable that is neither text nor a coordinate, if there is one."""
    entries = contents.entries
    nested = [key for key, entry in entries.items() if entry.is_nested]
    structs = {key[:i] for key in nested for i, letter in enumerate(key) if letter == "."}
    has_axes = any(len(entry.axes) > 1 for entry in entries.values())
    candidates = []
    for key in variables:
        entry = entries[key]
        parent = key.rpartition(".")[0]
        if entry.kind not in (NUMBERS, STRUCT, CELL) or (entry.axes == (key.rpartition("/")[2],)):
            continue
        if entry.kind == NUMBERS and prod(entry.shape) < _LEAST_PAIRS:
            continue
        if len(entry.axes) == 1 and has_axes:
            # A coordinate of another array.
            continue
        if entry.is_nested and _has_rdm(parent, entries):
            continue
        if key in structs and not _has_rdm(key, entries):
            continue
        candidates.append(key)
    if len(candidates) > 1:
        # Lists of labels are cells too.
        candidates = [
            key
            for key in candidates
            if entries[key].kind != CELL or texts_of(contents.read(key)) is None
        ]
    return tuple(candidates) if len(candidates) == 1 else ()


def _has_rdm(key: str, entries: Mapping[str, Any]) -> bool:
    return any(f"{key}.{name}" in entries for name in ("RDM", "rdm"))


def _loader(contents: Contents, key: str) -> Callable[[], Loaded]:
    def load() -> Loaded:
        entry = contents.entries[key]
        value = contents.read(key)
        if entry.axes and kind_of(value) == NUMBERS:
            return _with_axes(contents, key, np.asarray(value), entry.axes)
        return Loaded(value, labels=partial(text_labels, contents, key))

    return load


def _with_axes(contents: Contents, key: str, value: Any, axes: Sequence[str]) -> Loaded:
    """Read the names of axes; ValueError if they are those of responses."""
    named = ", ".join(f"{axis} {n}" for axis, n in zip(axes, value.shape, strict=True))
    presented = [axis for axis in axes if is_presented(axis)]
    responses = [axis for axis in axes if is_unit(axis)]
    if responses or (len(presented) == 1 and value.ndim > 1 and "pair" not in axes[-1].lower()):
        raise ValueError(
            f"{key} of {contents.path} with axes ({named}) holds responses, not RDMs: in a study.toml, name the file"
            " in responses in place of file, or make RDMs of it first, with fastrdm.calc_rdm, and save those"
        )
    order = None
    if len(presented) == 2 and value.ndim > 2:
        order = tuple(sorted(range(value.ndim), key=lambda i: axes[i] in presented))
        axes = [axes[i] for i in order]
    shape = value.shape if order is None else tuple(value.shape[i] for i in order)
    # Without names that tell, the shape does.
    form = PAIRS if "pair" in axes[-1].lower() else None
    if len(axes) > 1 and (axes[-1] == axes[-2] or len(presented) == 2):
        form = CONDITIONS
    is_square = form == CONDITIONS or (form is None and shape[-2:] == shape[-1:] * 2)
    leading = axes[: -2 if is_square else -1]
    known = [leading_name(axis) for axis in leading]
    unknown = [
        axis for axis, own in zip(leading, known, strict=True) if not own and not is_unnamed(axis)
    ]
    return Loaded(
        value,
        form,
        tuple(known) if all(known) and len(known) == len(set(known)) else None,
        unclear=f"an axis {unknown[0]}" if unknown else "",
        order=order,
        labels=partial(label_sets, coordinates_of(contents, axes[-2:] if is_square else ())),
    )


def describe(variables: Variables, most: int = 20) -> str:
    """List the keys of a file with what they hold."""
    texts = [f"{key} {variable.description}" for key, variable in variables.by_key.items()]
    return list_names(texts, most) or "no array"
