"""A target of responses in a `study.toml`: its files become responses to the stimuli, in their order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import counted, read_column, read_lines
from fastrdm.images import name_in
from fastrdm.responses import MeasuredResponses, measured
from fastrdm.studies.response_facts import ResponseFacts
from fastrdm.studies.response_files import SubjectRows, read_subjects
from fastrdm.studies.row_values import labels_of_rows, of_subject, values_of_rows
from fastrdm.studies.stimuli import StimulusNames
from fastrdm.studies.stimulus_rows import (
    StimulusRows,
    gathered,
    gathered_labels,
    images_of_rows,
    rows_of_stimuli,
)
from fastrdm.studies.time_values import times_of
from fastrdm.studies.unit_masks import read_mask


@dataclass(frozen=True, eq=False)
class RegionResponses:
    """Responses of a region's subjects to the stimuli of a study, in their order.

    Attributes
    ----------
    measured : MeasuredResponses
        Arrays (repeats, stimuli, units × times), z-scored within sessions if the study says so.
    facts : ResponseFacts
        What was understood of the files.
    sessions : tuple of ndarray or None, shape (repeats, stimuli)
        For each subject, the session of each measurement, if it is known.
    kept : tuple of ndarray or None
        For each subject, the indices of the units that its mask keeps.
    """

    measured: MeasuredResponses
    facts: ResponseFacts
    sessions: tuple[NDArray[Any] | None, ...]
    kept: tuple[NDArray[np.intp] | None, ...]

    def sessions_of_all(self, where: str) -> list[NDArray[Any]]:
        """Return the sessions of each subject; ValueError if they are not known."""
        known = [each for each in self.sessions if each is not None]
        if len(known) < len(self.sessions):
            raise ValueError(f'{where} = "sessions" needs sessions, which are not named')
        return known


class ResponseFiles:
    """The files of a target of responses, read when its order or its responses are asked for.

    `fields` are those of the target's table, `where` precedes their names in errors.
    """

    def __init__(self, region: str, fields: Mapping[str, Any], folder: Path, where: str) -> None:
        self.region, self.fields, self.folder, self.where = region, fields, folder, where
        given = fields["responses"]
        self.paths = [folder / each for each in ([given] if isinstance(given, str) else given)]
        for path, name in zip(
            self.paths, [given] if isinstance(given, str) else given, strict=True
        ):
            if not path.is_file():
                raise FileNotFoundError(f"{where}responses = {name!r} is not a file beside it")
        axes, subject = fields.get("axes", ()), fields.get("subject")
        self.subjects = read_subjects(self.paths, fields.get("key"), axes, where, subject)

    @property
    def source(self) -> str:
        """The variables and files."""
        sources = list(dict.fromkeys(each.source for each in self.subjects))
        return sources[0] if len(sources) == 1 else f"{sources[0]} … {sources[-1]}"

    @property
    def times(self) -> Sequence[float] | None:
        """The times of the responses: of the fields, or of a variable of the first file; None if there are none."""
        given = self.fields.get("times")
        n_times = self._n_times()
        if isinstance(given, list):
            return given
        if n_times == 1 and given is None:
            return None
        first = self.subjects[0]
        return times_of(first.contents, given, n_times, first.source, f"{self.where}times")

    def order(self, names: StimulusNames) -> tuple[str, ...]:
        """Return the names of the stimuli in the order in which the first subject's labels name them."""
        images = self._images(0, names)
        if images is None:
            raise ValueError(
                f"{self.where}responses: {self.subjects[0].source} has no labels of its rows; list the stimuli in a"
                " file for order, or name the labels in the target's field labels"
            )
        return tuple(dict.fromkeys(images))

    def responses(
        self, stimuli: Sequence[Path], names: StimulusNames, left_out: Callable[[], str]
    ) -> RegionResponses:
        """Return the responses to the stimuli; `left_out` may explain a wrong number of them."""
        wanted = [name_in(path, names.folder) for path in stimuli]
        n_times = self._n_times()
        rows, are_matched = [], []
        for i in range(len(self.subjects)):
            images = self._images(i, names)
            are_matched.append(images is not None)
            rows.append(self._rows(i, images, wanted, left_out))
        sessions = tuple(self._sessions(i, each) for i, each in enumerate(rows))
        kept = tuple(map(self._kept, range(len(self.subjects))))
        arrays = []
        for subject, each, units in zip(self.subjects, rows, kept, strict=True):
            values = gathered(subject, each)
            values = values if units is None else values[:, :, units]
            arrays.append(values.reshape(*values.shape[:2], -1))
        found = self._measured(arrays)
        all_known = all(each is not None for each in sessions)
        is_zscored = bool(self.fields.get("zscore", all_known))
        if is_zscored:
            found = found.zscored(list(sessions) if all_known else None)
        facts = ResponseFacts(
            n_times,
            all(are_matched),
            is_zscored,
            tuple(0 if each is None else len(np.unique(each)) for each in sessions),
            tuple(
                0 if units is None else subject.values.shape[2] - len(units)
                for subject, units in zip(self.subjects, kept, strict=True)
            ),
            tuple(dict.fromkeys(name for each in rows for name in each.left_out)),
        )
        return RegionResponses(found, facts, sessions, kept)

    def _n_times(self) -> int:
        n_times = {int(each.values.shape[3]) for each in self.subjects}
        if len(n_times) > 1:
            raise ValueError(
                f"{self.where}responses: the subjects differ in their numbers of times, {sorted(n_times)}"
            )
        return n_times.pop()

    def _measured(self, arrays: Sequence[NDArray[np.floating[Any]]]) -> MeasuredResponses:
        names = [each.name for each in self.subjects]
        named: Any = list(arrays)
        if all(names) and len(set(names)) == len(names):
            named = dict(zip(names, arrays, strict=True))
        return measured(named, f"{self.where}responses")

    def _images(self, i: int, names: StimulusNames) -> tuple[str, ...] | None:
        """The image of each row of a subject; None if its rows have no labels of images."""
        subject = self.subjects[i]
        stimulus = self.fields.get("stimulus")
        given = self._field("labels", i) or self._beside(i)
        labels = labels_of_rows(given, stimulus, subject, self.folder, self.where)
        chosen = (given or stimulus) is not None
        try:
            return images_of_rows(labels, names, chosen, subject.source)
        except ValueError as error:
            raise ValueError(f"{self.where}labels: {error}") from None

    def _beside(self, i: int) -> str | None:
        """The `.csv` file with the name of a subject's file, if it has the column of the stimuli."""
        path = self.subjects[i].contents.path.with_suffix(".csv")
        if not path.is_file():
            return None
        column = self.fields.get("stimulus", "stimulus")
        found = read_column(read_lines(path, str(path)), column, str(path))
        return None if found is None else str(path.relative_to(self.folder))

    def _rows(
        self,
        i: int,
        images: Sequence[str] | None,
        wanted: Sequence[str],
        left_out: Callable[[], str],
    ) -> StimulusRows:
        subject = self.subjects[i]
        repeats = self._field("repeats", i)
        if images is not None:
            order = None
            if repeats is not None:
                order = self._values(repeats, i, "repeats", "repeat")
                if order.shape != (subject.n_rows,):
                    raise ValueError(
                        f"{self.where}repeats has shape {order.shape}; expected one for each of {subject.n_rows} rows"
                    )
            return rows_of_stimuli(
                images, wanted, order, f"{self.where}responses: {subject.source}"
            )
        if repeats is not None:
            raise ValueError(
                f"{self.where}repeats needs labels that name the stimulus of each row, and {subject.source} has none"
            )
        if subject.n_rows != len(wanted):
            raise ValueError(
                f"{self.where}responses: {self._miscounted(subject, len(wanted), left_out)}"
            )
        return StimulusRows(np.arange(len(wanted))[None])

    @staticmethod
    def _miscounted(subject: SubjectRows, n_stimuli: int, left_out: Callable[[], str]) -> str:
        shape, axes = subject.shape, subject.axes
        named = ", ".join(f"{name} {n}" for name, n in zip(axes, shape, strict=True))
        text = (
            f"{subject.source} has {counted(subject.n_rows, 'condition')} (axes {named}), but the study has {n_stimuli}"
            f" stimuli{left_out()}"
        )
        if n_stimuli in shape:
            swapped = list(axes)
            at, other = shape.index(n_stimuli), axes.index("conditions")
            swapped[at], swapped[other] = swapped[other], swapped[at]
            listed = ", ".join(f'"{name}"' for name in swapped)
            text += f"; the conditions seem to be another axis: axes = [{listed}]"
        return text

    def _sessions(self, i: int, rows: StimulusRows) -> NDArray[Any] | None:
        subject = self.subjects[i]
        given = self._field("sessions", i)
        labels = subject.sessions
        if given is not None:
            labels = self._values(given, i, "sessions", "session")
        return None if labels is None else gathered_labels(labels, subject, rows)

    def _kept(self, i: int) -> NDArray[np.intp] | None:
        field = "masks" if "masks" in self.fields else "mask"
        given = self._field(field, i)
        if given is None:
            return None
        path, name = self.folder / given, f"{self.where}{field} = {given!r}"
        if not path.is_file():
            raise FileNotFoundError(f"{name} is not a file beside it")
        return read_mask(path, self.subjects[i].values.shape[2], name)

    def _field(self, name: str, i: int) -> str | None:
        """What a field names for a subject."""
        given = self.fields.get(name)
        if given is None:
            return None
        return of_subject(given, i, len(self.subjects), f"{self.where}{name}")

    def _values(self, given: str, i: int, name: str, column: str) -> NDArray[Any]:
        table = self._field("labels", i) or self._beside(i)
        subject = self.subjects[i]
        return values_of_rows(given, table, column, subject, self.folder, f"{self.where}{name}")
