"""Labels of conditions in the files of targets, matched to the stimuli: they give the order, or confirm it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastrdm._base import suggestion
from fastrdm.images import name_in
from fastrdm.studies.rdm_files import StoredRdms
from fastrdm.studies.rdm_values import reordered
from fastrdm.studies.stimuli import StimulusNames


def order_of(stored: StoredRdms, names: StimulusNames, where: str) -> tuple[str, ...]:
    """Return the names of the stimuli in the order of a target's labels; `where` begins the errors.

    ValueError if the file has no labels, none of its sets of labels names an image for each condition, or two sets name
    them in different orders.
    """
    if not stored.labels:
        raise ValueError(
            f"{where}: {stored.source} has no labels of its {stored.n_conditions} conditions; list the stimuli in a"
            " file for order, or name the variable with the labels in the target's field labels"
        )
    orders: dict[str, tuple[str, ...]] = {}
    problems: dict[str, tuple[int, str]] = {}
    for name, labels in stored.labels.items():
        found = [names.labelled(label) for label in labels]
        if problem := _problem(name, labels, found, names):
            problems[name] = (sum(map(bool, found)), problem)
        else:
            orders[name] = tuple(each[0] for each in found)
    if not orders:
        _, problem = max(problems.values())
        raise ValueError(f"{where}: {problem}, in {stored.source}")
    if len(set(orders.values())) > 1:
        raise ValueError(
            f"{where}: the labels {' and '.join(orders)} of {stored.source} name the stimuli in different orders;"
            " choose one in the target's field labels"
        )
    return next(iter(orders.values()))


def in_order(
    stored: StoredRdms, own: Sequence[str], wanted: Sequence[str], where: str
) -> StoredRdms:
    """Return RDMs with their conditions, the stimuli `own`, in the order that is wanted."""
    if tuple(own) == tuple(wanted):
        return stored
    rdms = reordered(
        stored.rdms, own, wanted, f"{where}: the stimuli of {stored.source} and the other targets"
    )
    place = {name: i for i, name in enumerate(own)}
    order = [place[name] for name in wanted]
    labels = {name: _taken(each, order) for name, each in stored.labels.items()}
    conditions = stored.conditions and _taken(stored.conditions, order)
    return replace(stored, rdms=rdms, labels=labels, conditions=conditions)


def check_order(
    stored: StoredRdms, stimuli: Sequence[Path], names: StimulusNames, where: str, order: str
) -> None:
    """Raise a ValueError if labels that name images contradict the order of the stimuli."""
    wanted = [name_in(path, names.folder) for path in stimuli]
    for name, labels in stored.labels.items():
        if all(label.isdecimal() for label in labels):
            # Numbers may be anything.
            continue
        found = [names.labelled(label) for label in labels]
        if not any(found):
            continue
        for row, (label, images, stimulus) in enumerate(zip(labels, found, wanted, strict=True)):
            if stimulus not in images:
                raise ValueError(
                    f"{where}: row {row} of {stored.source} has the label {label!r} ({name}), but order = {order!r} has"
                    f' {stimulus} there; order = "targets" takes the order of the labels'
                )


def _problem(
    name: str, labels: Sequence[str], found: Sequence[tuple[str, ...]], names: StimulusNames
) -> str:
    """Return why labels do not name the stimuli, empty if they do."""
    for label, images in zip(labels, found, strict=True):
        if not images:
            known = [name_in(path, names.folder) for path in names.images]
            return f"label {label!r} ({name}) is not an image in {names.folder}{suggestion(label, known)}"
        if len(images) > 1:
            return f"label {label!r} ({name}) may be {' or '.join(images[:3])}"
    first: dict[tuple[str, ...], str] = {}
    for label, images in zip(labels, found, strict=True):
        if images in first:
            return f"labels {first[images]!r} and {label!r} ({name}) are both {images[0]}"
        first[images] = label
    return ""


def _taken(values: Sequence[str], order: Sequence[int]) -> tuple[str, ...]:
    return tuple(values[i] for i in order)
