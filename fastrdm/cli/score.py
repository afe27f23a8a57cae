"""`fastrdm score`: a sweep without a store, whose results are printed."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from functools import partial

from fastrdm._base import require
from fastrdm.cli.arguments import add_bootstrap, add_checkpoints, data_folders, sweep_options
from fastrdm.cli.progress import print_estimate
from fastrdm.cli.tables import csv_writer, plain, print_results
from fastrdm.scoring import (
    CheckpointScores,
    LeftOut,
    Result,
    Sweep,
    score_checkpoints,
)
from fastrdm.studies import Study, collect_studies, synthetic_notice


def add_score(score: argparse.ArgumentParser) -> None:
    """Add the arguments of `score`."""
    score.description = (
        "Score every layer of each checkpoint against every region of each study, print a table, and name the best "
        "layer. `fastrdm sweep` keeps the results in a store and continues from there."
    )
    add_checkpoints(score)
    add_bootstrap(score.add_argument_group("statistics"))
    add = score.add_argument_group("output").add_argument
    add("--csv", metavar="FILE", help="write the results as CSV too, with each subject's rho")
    figure = "draw the scores; the ending is the format (.png, .pdf, .svg, ...)"
    add("--figure", metavar="FILE", help=figure)
    submit = "write the best layer's RDM of the challenge's test images as a submission"
    add("--submit", metavar="DIR", help=submit)
    add("--json", action="store_true", help="print the results as JSON lines instead of the table")
    add("--quiet", action="store_true", help="print no progress")
    score.set_defaults(run=_score)


def _score(arguments: argparse.Namespace) -> int:
    options = sweep_options(arguments, "in-process")
    choice = (options.pop(name) for name in ("sets", "modality", "regions"))
    studies = collect_studies(data_folders(arguments), *choice)
    if arguments.dry_run:
        with Sweep(arguments.weights, arguments.arch, studies, **options) as sweep:
            return print_estimate(sweep.estimate(), arguments.json)
    if not arguments.json:
        require("rich", "onnx", "to print tables")
    if not arguments.quiet:
        options["on_start"] = _announce
    notice = synthetic_notice(studies)
    if arguments.json and notice:
        print(notice, file=sys.stderr)
    scores = score_checkpoints(
        arguments.weights,
        arguments.arch,
        studies,
        submit=arguments.submit,
        progress=not arguments.quiet and sys.stderr.isatty(),
        n_draws=arguments.bootstrap,
        seed=arguments.seed,
        watch=arguments.watch,
        patience=arguments.patience,
        on_left_out=partial(_report_left_out, as_json=arguments.json),
        **options,
    )
    failed = total = 0
    results: list[Result] = []
    with csv_writer(arguments.csv, arguments.labels) as write_csv:
        for scored in scores:
            total += 1
            failed += bool(scored.error)
            results += scored.results
            write_csv(scored)
            _print(scored, studies, arguments.json)
    if arguments.figure and results:
        from fastrdm.report import plot_scores

        print(f"wrote {plot_scores(results, arguments.figure, notice)}", file=sys.stderr)
    if failed:
        print(f"fastrdm: {failed} of {total} checkpoints could not be scored", file=sys.stderr)
    return 1 if failed else 0


def _print(scored: CheckpointScores, studies: Sequence[Study], as_json: bool) -> None:
    if scored.error:
        print(f"fastrdm: error: {scored.error}", file=sys.stderr)
    elif as_json:
        for result in scored.results:
            print(json.dumps(plain(result) | dict(scored.labels)), flush=True)
    else:
        print_results(scored.results, studies)
    for path in scored.submissions:
        print(f"wrote {path}", file=sys.stderr)


def _announce(checkpoint: str) -> None:
    print(f"scoring {checkpoint}", file=sys.stderr, flush=True)


def _report_left_out(left_out: LeftOut, as_json: bool) -> None:
    print(f"fastrdm: warning: {left_out.message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"event": "left_out", **dataclasses.asdict(left_out)}), flush=True)
