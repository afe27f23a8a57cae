"""`fastrdm sweep`: many checkpoints into a store."""

import argparse
from collections.abc import Callable

from fastrdm._base import existing_name
from fastrdm.cli import progress
from fastrdm.cli.arguments import add_checkpoints, data_folders, sweep_options
from fastrdm.cli.json_output import add_json
from fastrdm.cli.printing import echo_json


def add_sweep(sweep: argparse.ArgumentParser) -> None:
    """Add the arguments of `sweep`."""
    sweep.description = (
        "Score every layer of every checkpoint against every region of each study, into a store. "
        "The same command continues where a run was stopped or killed."
    )
    add_checkpoints(sweep)
    store = sweep.add_argument_group("store")
    file = "file for the results, which later runs of the command add to; `fastrdm table` prints it"
    store.add_argument("--store", type=existing_name, required=True, metavar="SCORES.db", help=file)
    retry = "retry unchanged checkpoints that failed before"
    store.add_argument("--retry-failed", action="store_true", help=retry)
    store.add_argument("--keep-rdms", action="store_true", help="store RDMs too, in float32")
    grams = "store Gram matrices of layers too, the products of all pairs of images"
    store.add_argument("--keep-grams", action="store_true", help=grams)
    output = sweep.add_argument_group("output")
    quiet = "print only the files left out, warnings, failures and the end"
    output.add_argument("--quiet", action="store_true", help=quiet)
    forms = output.add_mutually_exclusive_group()
    add_json(forms, "at the end a JSON object with the counts, failures and left-out files")
    events = "print each event when it happens as a line of JSON, for batch systems"
    forms.add_argument("--events", action="store_true", help=events)
    sweep.set_defaults(run=_sweep)


def _sweep(arguments: argparse.Namespace) -> int:
    from fastrdm.scoring import Sweep

    options = sweep_options(arguments, "local")
    for name in ("store", "keep_rdms", "keep_grams", "retry_failed", "watch"):
        options[name] = getattr(arguments, name)
    with Sweep(arguments.weights, arguments.arch, data_folders(arguments), **options) as sweep:
        if arguments.dry_run:
            return progress.print_estimate(sweep.estimate(), arguments.json, arguments.events)
        with progress.shown(arguments.events, arguments.quiet, arguments.debug) as show:
            record = _Record(show)
            summary = sweep.run(watch=arguments.watch, patience=arguments.patience, on_event=record)
        # Counted again: of the checkpoints that failed before, some may have been scored since.
        unscored = summary.failed or (summary.before.failed and sweep.plan().failed)
    if arguments.json:
        echo_json({"store": arguments.store, **record.facts})
    if summary.outcome == "stopped":
        return 128 + summary.signal
    return 1 if unscored else 0


class _Record:
    """Passes the events of a sweep on, and keeps the facts that `--json` prints."""

    def __init__(self, show: Callable[[progress.Event], None]) -> None:
        self._show = show
        self.facts: progress.Event = {}

    def __call__(self, event: progress.Event) -> None:
        """Show an event, and keep what it adds to the facts."""
        self._show(event)
        if event["event"] == "plan":
            before = {"scored": event["done"], "failed": event["failed"]}
            self.facts |= {"before": before, "left_out": event["left_out"], "failures": []}
        elif event["event"] == "failed":
            failure = {name: event[name] for name in ("checkpoint", "error")}
            self.facts["failures"].append(failure)
        elif event["event"] == "end":
            self.facts |= {name: value for name, value in event.items() if name != "event"}
