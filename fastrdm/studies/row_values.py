"""What a study says of each row of responses: its stimulus, session or repeat, from a file, a column or a variable."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    CELL,
    NUMBERS,
    TEXT,
    counted,
    open_contents,
    read_column,
    read_lines,
    suggestion,
)
from fastrdm.studies.label_sets import texts_of
from fastrdm.studies.response_files import SubjectRows

_TEXTS = (".txt", ".tsv", ".csv", ".1d")


def of_subject(given: str | Sequence[str], index: int, n_subjects: int, where: str) -> str:
    """Return what a field names for a subject: the same for all, or one of a list with one for each."""
    if isinstance(given, str):
        return given
    if len(given) not in (1, n_subjects):
        raise ValueError(
            f"{where} is a list of {len(given)}, but there {'is' if n_subjects == 1 else 'are'}"
            f" {counted(n_subjects, 'subject')}; name one for all, or one for each"
        )
    return given[0] if len(given) == 1 else given[index]


def labels_of_rows(
    given: str | None, stimulus: str | None, subject: SubjectRows, folder: Path, where: str
) -> dict[str, tuple[str, ...]]:
    """Return sets of labels of a subject's rows by name: of a file or variable that is named, else the file's own.

    `stimulus` names the column of a `.csv` file, "stimulus" by default, or the variable if no labels are named.
    """
    given = given or stimulus
    if given is None:
        return dict(subject.labels)
    values: Any
    if (folder / given).is_file():
        values = _of_file(folder / given, stimulus or "stimulus", f"{where}labels = {given!r}")
    elif given in subject.labels:
        values = subject.labels[given]
    else:
        values = _of_variable(given, subject, f"{where}labels = {given!r}", "a file beside it")
    texts = texts_of(values)
    if texts is None:
        raise ValueError(f"{where}labels = {given!r} is not a list of text")
    if len(texts) != subject.n_rows:
        raise ValueError(
            f"{where}labels = {given!r} has {len(texts)} labels, but {subject.source} has {subject.n_rows} rows, shape"
            f" {subject.shape} with axes {', '.join(subject.axes)}"
        )
    return {given: tuple(texts)}


def values_of_rows(
    given: str, table: str | None, column: str, subject: SubjectRows, folder: Path, where: str
) -> NDArray[Any]:
    """Return a label for each row, such as its session, or for each repeat or measurement.

    `given` names a column of the `.csv` file `table`, a variable of the file, or a file: of a `.csv` file, the column
    `column` is read. The result has the shape (rows,), (repeats,) or (repeats, rows).
    """
    values: Any
    columns = table if table is not None and table.lower().endswith(".csv") else None
    path = folder / given
    if path.is_file():
        values = _of_file(path, column, f"{where} = {given!r}")
    elif columns is not None and (found := _column(folder / columns, given, where)) is not None:
        values = found
    else:
        nor = f"a column of {columns}, nor a file beside it" if columns else "a file beside it"
        values = _of_variable(given, subject, f"{where} = {given!r}", nor)
    array = np.asarray(values)
    if array.dtype == object:
        array = np.asarray(texts_of(array) or array)
    n_repeats, n_rows = subject.values.shape[:2]
    if array.shape not in ((n_repeats, n_rows), (n_repeats,)) and array.size == max(
        array.shape, default=0
    ):
        array = array.ravel()
    if array.shape not in ((n_rows,), (n_repeats,), (n_repeats, n_rows)):
        raise ValueError(
            f"{where} = {given!r} has shape {array.shape}; expected one for each of the {n_rows} rows of"
            f" {subject.source}{f', or of its {n_repeats} repeats' if n_repeats > 1 else ''}"
        )
    return array


def read_list(path: Path, column: str, name: str) -> list[str]:
    """Return the lines of a text file, or a column of a `.csv` file; ValueError if it has none."""
    lines = read_lines(path, name)
    if path.suffix.lower() != ".csv":
        return [line.strip() for line in lines if line.strip()]
    found = read_column(lines, column, name)
    if found is None:
        raise ValueError(
            f"{name} has no column named {column}; its first line is {(lines or [''])[0][:200]!r}"
        )
    return [each.strip() for each in found]


def _column(path: Path, column: str, where: str) -> list[str] | None:
    if not path.is_file():
        return None
    found = read_column(read_lines(path, str(path)), column, str(path))
    return None if found is None else [each.strip() for each in found]


def _of_file(path: Path, column: str, name: str) -> Any:
    """Return the lines, the column, or the only array of a file."""
    if path.suffix.lower() in _TEXTS:
        return read_list(path, column, name)
    return only_array(path, name)


def only_array(path: Path, name: str) -> Any:
    """Return the only array of numbers or text of a file; ValueError if there are several, or none."""
    contents = open_contents(path)
    keys = [key for key, entry in contents.entries.items() if entry.kind in (NUMBERS, TEXT)]
    if len(keys) != 1:
        held = ", ".join(keys) or "none"
        raise ValueError(f"{name} must hold one array, of numbers or text; it holds {held}")
    return contents.read(keys[0])


def _of_variable(given: str, subject: SubjectRows, name: str, nor: str) -> Any:
    entries = subject.contents.entries
    if given not in entries:
        raise ValueError(
            f"{name} is neither a variable of {subject.contents.path.name} nor {nor}; the file holds"
            f" {', '.join(entries) or 'none'}{suggestion(given, entries)}"
        )
    value = subject.contents.read(given)
    cells = np.asarray(value)
    if subject.element is not None and entries[given].kind == CELL and subject.element < cells.size:
        # Each subject has an element of its own.
        value = cells.ravel()[subject.element]
    return _numbers(value)


def _numbers(value: Any) -> Any:
    """Return whole numbers, which MATLAB stores as floats, as integers."""
    array = np.asarray(value)
    is_whole = array.dtype.kind == "f" and np.array_equal(array, np.round(array))
    return array.astype(np.int64) if is_whole else value
