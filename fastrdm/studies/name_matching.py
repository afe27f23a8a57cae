"""Rows of other data, matched to the stimuli of a study by the names of their images."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names
from fastrdm.images import SUFFIXES
from fastrdm.studies.stimuli import StimulusNames
from fastrdm.studies.study import Study

_NAMED = 4


def rows_of_study(study: Study, names: Sequence[str], source: str) -> NDArray[np.intp]:
    """Return the row of each stimulus of a study, given the name of each row's image.

    A name is the path or the file name of an image, with or without its suffix, or with that of another format.
    Rows of other images are ignored.

    Parameters
    ----------
    study : Study
    names : sequence of str
        Names of the images of the rows.
    source : str
        What has these names, in errors.

    Returns
    -------
    ndarray of int, shape (stimuli,)

    Raises
    ------
    ValueError
        If a stimulus has no row or several, or a name may be several stimuli.
    """
    known = _stimulus_names(study)
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        images = _images(name, known)
        if len(images) > 1:
            raise ValueError(
                f"{source}: the name {name!r} of row {row} may be {' or '.join(images[:3])} of the study {study.name!r}"
            )
        for image in images:
            found.setdefault(image, []).append(row)
    missing = [name for name in study.names if name not in found]
    if missing:
        listed = f"{list_names(missing, _NAMED)}; its names are {list_names(names, _NAMED)}"
        raise ValueError(
            f"{source} has no row for {len(missing)} of {len(study.stimuli)} stimuli of the study {study.name!r}:"
            f" {listed}"
        )
    for name, rows in found.items():
        if len(rows) > 1:
            raise ValueError(
                f"{source} has several rows for {name} of the study {study.name!r}: {list_names(rows, _NAMED)}, named"
                f" {list_names((names[row] for row in rows), _NAMED)}"
            )
    return np.array([found[name][0] for name in study.names], np.intp)


def _stimulus_names(study: Study) -> StimulusNames:
    # Paths in the folder of the names, whatever the folder of the study is.
    return StimulusNames([Path(name) for name in study.names], Path())


def _images(name: str, known: StimulusNames) -> tuple[str, ...]:
    images = known.labelled(name)
    suffix = PurePosixPath(name).suffix
    if not images and suffix.lower() in SUFFIXES:
        return known.labelled(name.removesuffix(suffix))
    return images
