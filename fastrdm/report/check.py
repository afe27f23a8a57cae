"""The report of a checked study: an HTML page or a PNG picture."""

from collections.abc import Sequence
from pathlib import Path

from fastrdm._base import new_file
from fastrdm.report.check_html import check_page
from fastrdm.report.check_png import check_picture
from fastrdm.studies import StudyCheck

_SUFFIXES = (".html", ".htm", ".png")


def check_output(path: str | Path) -> None:
    """Raise ValueError unless a report can be written to a path of this name; FileNotFoundError without its folder."""
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{path} must end in one of: {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; cannot write {path.name}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")


def write_check(checks: StudyCheck | Sequence[StudyCheck], path: str | Path) -> Path:
    """Write the report of checked studies.

    It has what looks wrong, the facts of the stimuli and regions, the RDMs averaged over subjects, and every stimulus
    as the network sees it, with its name and row. A page of HTML holds all pictures, so it can be sent alone.

    Parameters
    ----------
    checks : StudyCheck or sequence of StudyCheck
        As from `check_study`.
    path : path-like
        The file, which ends in `.html`, `.htm` or `.png`. It appears, or replaces an existing file, when it is
        complete.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the file has another suffix.
    FileNotFoundError
        If its folder does not exist.
    """
    checks = [checks] if isinstance(checks, StudyCheck) else list(checks)
    path = Path(path)
    check_output(path)
    if path.suffix.lower() == ".png":
        picture = check_picture(checks)
        with new_file(path) as file:
            picture.save(file, "PNG")
        return path
    page = check_page(checks)
    with new_file(path) as file:
        file.write(page.encode())
    return path
