"""`fastrdm report`: the results of a store as a page to look through."""

import argparse
from pathlib import Path

from fastrdm._base import existing_name, parse_bytes
from fastrdm.cli.json_output import add_json
from fastrdm.cli.printing import complain, echo_json


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report`."""
    parser.description = (
        "Write the results of a store as one page of HTML that needs neither the network nor other files: a table of "
        "checkpoints to sort and filter, the layers of a checkpoint with subjects, intervals and noise ceilings, RDMs "
        "beside the brain's, scores over epochs and time, versions and hashes."
    )
    add = parser.add_argument
    add("store", type=existing_name, metavar="SCORES.db")
    add("-o", "--output", metavar="FILE", help="the page, .html (default: report.html)")
    data = (
        "folder with the studies of the store, for the brain's RDMs and the bounds of noise ceilings (default: "
        "$FASTRDM_DATA, ../shared/data)"
    )
    add("--data", metavar="DIR", help=data)
    rdms = "size of the RDMs in the page, those of the best checkpoints (default: 2MB)"
    add("--rdms", type=_size, default="2MB", metavar="SIZE", help=rdms)
    epoch = (
        "label that counts the progress of a training (default: epoch, step, iteration or update)"
    )
    add("--epoch-label", metavar="NAME", help=epoch)
    add_json(parser, "a JSON object with the path of the page")
    parser.set_defaults(run=_report)


def _size(text: str) -> int:
    try:
        return parse_bytes(text, "--rdms")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _report(arguments: argparse.Namespace) -> int:
    from fastrdm.report import check_report, write_report
    from fastrdm.studies import find_data

    output = arguments.output or "report.html"
    check_report(output, "--output")
    data = Path(arguments.data) if arguments.data else find_data()
    path = write_report(
        arguments.store, output, data=data, rdms=arguments.rdms, progress=arguments.epoch_label
    )
    complain(f"wrote {path}")
    if arguments.json:
        echo_json({"path": str(path)})
    return 0
