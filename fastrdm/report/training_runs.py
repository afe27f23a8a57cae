"""Which checkpoints are of one training run, and the label that says how far it had come."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

# Labels that count the progress of a training, the usual one first.
_PROGRESS = ("epoch", "step", "iteration", "update")
Facts = tuple[str, str, str, Mapping[str, Any]]


def progress_label(labels: Sequence[Mapping[str, Any]], wanted: str | None = None) -> str | None:
    """The label that counts the progress of a training: `wanted`, or one with a usual name; None without one.

    ValueError if `wanted` does not exist, or has values that are no numbers.
    """
    values: dict[str, list[Any]] = {}
    for each in labels:
        for name, value in each.items():
            values.setdefault(name, []).append(value)
    numeric = [name for name in values if not any(isinstance(v, str) for v in values[name] if v)]
    if wanted is None:
        usual = {name.casefold(): name for name in reversed(numeric)}
        return next((usual[name] for name in _PROGRESS if name in usual), None)
    if wanted not in values:
        raise ValueError(f"no checkpoint has the label {wanted!r}; labels are {', '.join(values)}")
    if wanted not in numeric:
        raise ValueError(f"the label {wanted!r} has values that are not numbers")
    return wanted


def runs_of(checkpoints: Sequence[Facts], progress: str | None) -> list[int]:
    """The number of the training run of each checkpoint.

    Checkpoints of one run have the same network, settings and labels that tell runs apart. Where several of them have
    the same progress, the folders of their files tell runs apart too.
    """
    told_apart = _labels_of_runs(checkpoints, progress)
    keys: list[tuple[Any, ...]] = [
        (arch, settings, *(labels.get(name) for name in told_apart))
        for _, arch, settings, labels in checkpoints
    ]
    by_run: dict[tuple[Any, ...], list[Any]] = {}
    for key, (*_, labels) in zip(keys, checkpoints, strict=True):
        by_run.setdefault(key, []).append(labels.get(progress) if progress else None)
    several = {key for key, found in by_run.items() if len(set(found)) < len(found)}
    keys = [
        (*key, str(PurePath(path).parent)) if key in several else key
        for key, (path, *_) in zip(keys, checkpoints, strict=True)
    ]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def _labels_of_runs(checkpoints: Sequence[Facts], progress: str | None) -> list[str]:
    """Labels that differ between checkpoints of the same progress, such as a seed.

    A label with a value for nearly each checkpoint, such as a loss, is a result of the training.
    """
    found = []
    for name in dict.fromkeys(name for *_, labels in checkpoints for name in labels):
        if name == progress:
            continue
        values: dict[Any, set[Any]] = {}
        for *_, labels in checkpoints:
            at = labels.get(progress) if progress else None
            values.setdefault(at, set()).add(labels.get(name))
        n_values = len(set().union(*values.values()))
        if any(len(each) > 1 for each in values.values()) and 2 * n_values <= len(checkpoints):
            found.append(name)
    return found
