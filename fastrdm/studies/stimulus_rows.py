"""Rows of responses, matched to the stimuli by name; repeated presentations become repeats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import counted, list_names, suggestion
from fastrdm.images import name_in
from fastrdm.studies.response_files import SubjectRows
from fastrdm.studies.stimuli import StimulusNames

_NAMED = 4


@dataclass(frozen=True, eq=False)
class StimulusRows:
    """Which rows are those of each stimulus.

    Attributes
    ----------
    rows : ndarray of int, shape (presentations, stimuli)
        The row of each presentation, −1 where there is none.
    left_out : tuple of str
        Names of images that have rows but are not stimuli.
    """

    rows: NDArray[np.intp]
    left_out: tuple[str, ...] = ()

    @property
    def is_identity(self) -> bool:
        """Whether the rows are the stimuli, in order."""
        return len(self.rows) == 1 and np.array_equal(self.rows[0], np.arange(self.rows.shape[1]))


def images_of_rows(
    labels: Mapping[str, tuple[str, ...]], names: StimulusNames, chosen: bool, source: str
) -> tuple[str, ...] | None:
    """Return the name of the image that each row's label means; None if there are no labels of images.

    Several sets of labels must mean the same images. If they were `chosen`, all labels must name images.
    """
    found: dict[str, tuple[str, ...]] = {}
    problems: dict[str, tuple[int, str]] = {}
    for name, texts in labels.items():
        if not chosen and all(text.isdecimal() for text in texts):
            # Numbers may be anything.
            continue
        images = {text: names.labelled(text) for text in dict.fromkeys(texts)}
        odd = next((text for text, each in images.items() if len(each) != 1), None)
        if odd is None:
            found[name] = tuple(images[text][0] for text in texts)
            continue
        n_known = sum(map(bool, images.values()))
        problems[name] = (n_known, _problem(odd, images[odd], name, names))
    if len(set(found.values())) > 1:
        raise ValueError(
            f"the labels {' and '.join(found)} of {source} name the images of the rows differently; choose one in the"
            " field labels"
        )
    if found:
        return next(iter(found.values()))
    n_known, problem = max(problems.values(), default=(0, ""))
    if chosen or n_known:
        raise ValueError(f"{source}: {problem}")
    return None


def _problem(label: str, images: Sequence[str], name: str, names: StimulusNames) -> str:
    if images:
        return f"label {label!r} ({name}) may be {' or '.join(images[:3])}"
    known = [name_in(path, names.folder) for path in names.images]
    return f"label {label!r} ({name}) is not an image in {names.folder}{suggestion(label, known)}"


def rows_of_stimuli(
    images: Sequence[str], wanted: Sequence[str], repeats: NDArray[Any] | None, source: str
) -> StimulusRows:
    """Return the rows of each stimulus that is wanted, in the order of presentation or of the labels `repeats`.

    ValueError if a stimulus has no row, or two rows are the same repeat of a stimulus.
    """
    by_image: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        by_image.setdefault(image, []).append(row)
    missing = [name for name in wanted if name not in by_image]
    if missing:
        raise ValueError(
            f"{source} has no row for {len(missing)} of {counted(len(wanted), 'image')}: {list_names(missing, _NAMED)}"
        )
    known = set(wanted)
    left_out = tuple(image for image in by_image if image not in known)
    if repeats is None:
        n = max(len(by_image[name]) for name in wanted)
        rows = np.full((n, len(wanted)), -1, np.intp)
        for i, name in enumerate(wanted):
            rows[: len(by_image[name]), i] = by_image[name]
        return StimulusRows(rows, left_out)
    order, index = np.unique(repeats, return_inverse=True)
    rows = np.full((len(order), len(wanted)), -1, np.intp)
    for i, name in enumerate(wanted):
        for row in by_image[name]:
            if (other := rows[index[row], i]) >= 0:
                raise ValueError(
                    f"rows {other} and {row} of {source} are both repeat {order[index[row]]} of {name}"
                )
            rows[index[row], i] = row
    return StimulusRows(rows[(rows >= 0).any(axis=1)], left_out)


def gathered(subject: SubjectRows, rows: StimulusRows) -> NDArray[np.floating[Any]]:
    """Return responses (repeats, stimuli, units, times), NaN where a presentation is lacking."""
    values = subject.values
    if rows.is_identity and values.shape[1] == rows.rows.shape[1]:
        return values
    values = values[:, rows.rows]
    values[:, rows.rows < 0] = np.nan
    return values.reshape(-1, *values.shape[2:])


def gathered_labels(labels: NDArray[Any], subject: SubjectRows, rows: StimulusRows) -> NDArray[Any]:
    """Return labels of rows, repeats or measurements as (repeats, stimuli), as `gathered` returns the responses."""
    n_repeats, n_rows = subject.values.shape[:2]
    if labels.shape == (n_rows,):
        whole = np.broadcast_to(labels, (n_repeats, n_rows))
    elif labels.shape == (n_repeats,):
        whole = np.broadcast_to(labels[:, None], (n_repeats, n_rows))
    else:
        whole = labels
    # A presentation that is lacking is NaN, so that its label has no influence; it gets that of another one.
    present = rows.rows >= 0
    first = rows.rows[np.argmax(present, axis=0), np.arange(present.shape[1])]
    found = whole[:, np.where(present, rows.rows, first)]
    return found.reshape(-1, found.shape[-1])
