"""`fastrdm check`: what was understood of studies, and what looks wrong."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastrdm._base import existing_name
from fastrdm.cli.arguments import (
    add_preprocessing,
    comma_separated,
    data_folders,
    preprocessing_of_arguments,
)
from fastrdm.cli.json_output import add_json, echo_json_rows
from fastrdm.cli.printing import complain, echo

if TYPE_CHECKING:
    from fastrdm.images import Preprocessing
    from fastrdm.studies import StudyCheck


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    parser.description = (
        "Report what was understood of studies and everything that looks wrong, and write a page with their stimuli as "
        "the network sees them, beside their names and rows. The exit status is 1 if a part cannot be scored."
    )
    add = parser.add_argument
    folders = "a study.toml or its folder, challenge data, a folder of studies (default: $FASTRDM_DATA, ../shared/data)"
    add("data", nargs="*", type=existing_name, metavar="STUDY", help=folders)
    names = "studies to check, e.g. 92,118 (default: all)"
    add("--sets", type=comma_separated, metavar="A,B", help=names)
    modality = "of the challenge's data (default: fmri)"
    add("--modality", choices=("fmri", "meg", "both"), default="fmri", help=modality)
    network = (
        "show the stimuli as this exported network sees them (default: 224 × 224, not cropped)"
    )
    add("--network", metavar="FILE.onnx", help=network)
    add_preprocessing(parser)
    output = "the page or picture, .html or .png (default: check-NAME.html for each study)"
    add("--output", metavar="FILE", help=output)
    add_json(parser, "a JSON array with an object for each study")
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    from fastrdm.report import check_output, write_check
    from fastrdm.studies import check_studies

    if arguments.output:
        check_output(arguments.output)
    checks = check_studies(
        data_folders(arguments), arguments.sets, arguments.modality, _preprocessing(arguments)
    )
    if arguments.json:
        echo_json_rows(check.to_dict() for check in checks)
    else:
        for number, check in enumerate(checks):
            for line in (*_lines(check), *[""] * (number < len(checks) - 1)):
                echo(line)
    # Studies that cannot be opened have nothing to show.
    opened = [check for check in checks if check.study is not None]
    for path, shown in _files(opened, arguments.output).items():
        complain(f"wrote {write_check(shown, path)}")
    return 1 if any(check.errors for check in checks) else 0


def _preprocessing(arguments: argparse.Namespace) -> "Preprocessing | None":
    """Return how the network sees the images; None if nothing says so."""
    wanted = preprocessing_of_arguments(arguments)
    if not (arguments.network or wanted):
        return None
    from fastrdm.images import Preprocessing
    from fastrdm.networks import OnnxFile, request_preprocessing

    own = Preprocessing()
    if arguments.network:
        own = OnnxFile.read(Path(arguments.network)).preprocessing()
    request = request_preprocessing(wanted)
    if request is None or isinstance(request, Preprocessing):
        return request or own
    return request.of(own, arguments.network or "the network of fastrdm check")


def _files(checks: "Sequence[StudyCheck]", output: str | None) -> "dict[Path, list[StudyCheck]]":
    """Return the studies in each file."""
    if output:
        return {Path(output): list(checks)} if checks else {}
    return {Path(f"check-{_file_name(check.name)}.html"): [check] for check in checks}


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "study"


def _lines(check: "StudyCheck") -> list[str]:
    """Return the lines of a report."""
    from fastrdm.cli.columns import aligned
    from fastrdm.report import check_tables

    tables = check_tables(check)
    lines = [f"study {check.name}", *(f"  {label:13}{text}" for label, text in tables.facts)]
    if check.regions:
        lines += ["", *(f"  {line}" for line in aligned(lambda: tables.regions))]
        lines += [f"  {note}" for note in (*tables.notes, *tables.sources)]
    if tables.responses:
        lines += ["", *(f"  {line}" for line in aligned(lambda: tables.responses))]
        lines += [f"  {note}" for note in tables.response_notes]
    if tables.subjects:
        lines += ["", "  r of each subject with the mean RDM of the others"]
        numbers = set(tables.subjects[0][1:])
        lines += [f"  {line}" for line in aligned(lambda: tables.subjects, right=numbers)]
    lines += ["", *(f"  error: {text}" for text in check.errors)]
    lines += [f"  warning: {found.kind}: {found.text}" for found in check.suspicions]
    if not (check.errors or check.suspicions):
        lines.append("  nothing looks wrong")
    return [*lines, "  (rows and subjects are counted from 0)"]
