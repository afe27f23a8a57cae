"""`fastrdm score`: a sweep without a store, whose results are printed."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fastrdm._base import check_writable_folder, require
from fastrdm.cli.arguments import add_bootstrap, add_checkpoints, data_folders, sweep_options
from fastrdm.cli.features import add_features, are_features, feature_scores, label_names_of
from fastrdm.cli.printing import RAW_CELLS, complain, complain_lines, echo, echo_json
from fastrdm.cli.progress import print_estimate

if TYPE_CHECKING:
    from fastrdm.cli.outputs import ScoreFiles
    from fastrdm.scoring import CheckpointScores, LeftOut
    from fastrdm.studies import Study


def add_score(score: argparse.ArgumentParser) -> None:
    """Add the arguments of `score`."""
    score.description = (
        "Score every layer of each checkpoint against every region of each study, print a table, and name the best "
        "layer: the one with the highest score over regions and studies, which for the challenge's data is the "
        "challenge score (mean R² of EVC and IT ÷ mean ceiling). `fastrdm sweep` keeps the results in a store and "
        "continues from there. Features that were saved elsewhere, in .npz, .h5 or .npy files, are scored without a "
        "network."
    )
    add_checkpoints(score)
    add_features(score)
    add_bootstrap(score.add_argument_group("statistics"))
    add = score.add_argument_group("output").add_argument
    add("--csv", metavar="FILE", help="write the results as CSV too, with each subject's rho")
    add("--raw-cells", action="store_true", help=RAW_CELLS)
    figure = "draw the scores; the ending is the format (.png, .pdf, .svg, ...)"
    add("--figure", metavar="FILE", help=figure)
    submit = "write the best layer's RDM of the challenge's test images as a submission"
    add("--submit", metavar="DIR", help=submit)
    weighted = (
        "weigh the layers too: non-negative weights fitted on all other studies are judged on each study, beside the "
        "single best layer; the studies must share a region"
    )
    add("--weighted", action="store_true", help=weighted)
    add("--json", action="store_true", help="print the results as JSON lines instead of the table")
    add("--quiet", action="store_true", help="print no progress")
    score.set_defaults(run=_score)


def _score(arguments: argparse.Namespace) -> int:
    from fastrdm.cli.outputs import ScoreFiles
    from fastrdm.scoring import Sweep, label_names, score_checkpoints
    from fastrdm.studies import collect_studies, synthetic_notice

    options = sweep_options(arguments, "in-process")
    has_features = are_features(arguments)
    choice = {name: options.pop(name) for name in ("sets", "modality", "regions")}
    studies = collect_studies(data_folders(arguments), **choice, measures=options["measures"])
    names_of = label_names_of if has_features else label_names
    labels = names_of(arguments.weights, arguments.labels)
    files = ScoreFiles(arguments.csv, arguments.figure, labels, studies, arguments.raw_cells)
    if arguments.submit:
        check_writable_folder(arguments.submit, "--submit")
    if arguments.dry_run:
        with Sweep(arguments.weights, arguments.arch, studies, **options) as sweep:
            return print_estimate(sweep.estimate(), arguments.json)
    if not arguments.json:
        require("rich", "onnx", "to print tables")
    if not arguments.quiet:
        options |= {"on_start": _announce, "on_ready": _name_provider()}
    notice = synthetic_notice(studies)
    if arguments.json and notice:
        complain(notice)
    if has_features:
        return _print_all(feature_scores(arguments, studies), files, studies, arguments)
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
        repeat=arguments.watch,
        weighted=arguments.weighted,
        on_left_out=partial(_report_left_out, as_json=arguments.json),
        **options,
    )
    return _print_all(scores, files, studies, arguments)


def _print_all(
    scores: "Iterable[CheckpointScores]",
    files: "ScoreFiles",
    studies: "Sequence[Study]",
    arguments: argparse.Namespace,
) -> int:
    """Print and write the results as they come; return the exit status."""
    failed = total = wrong = 0
    is_begun = False
    try:
        for scored in scores:
            is_begun = True
            total += 1
            wrong += bool(scored.error)
            failed += bool(scored.error) and not scored.results
            _print(scored, studies, arguments)
            files.add(scored)
    finally:
        # Also when it is stopped; but files of earlier results stay as they are if nothing could begin.
        if is_begun:
            files.finish()
    if failed:
        complain(f"fastrdm: {failed} of {total} checkpoints could not be scored")
    return 1 if wrong or files.failed else 0


def _print(
    scored: "CheckpointScores", studies: "Sequence[Study]", arguments: argparse.Namespace
) -> None:
    from fastrdm.cli.held_out import held_out_lines, held_out_records
    from fastrdm.cli.tables import plain, print_results

    if arguments.json:
        for result in scored.results:
            echo_json(plain(result) | dict(scored.settings) | dict(scored.labels))
        for record in held_out_records(scored):
            echo_json(record)
    elif scored.results:
        print_results(scored.results, studies, arguments.seed)
        for line in held_out_lines(scored.held_out):
            echo(line)
    if scored.error:
        if arguments.debug:
            complain_lines(scored.traceback)
        complain(f"fastrdm: error: {scored.error}")
    for path in scored.submissions:
        complain(f"wrote {path}")


def _announce(checkpoint: str) -> None:
    complain(f"scoring {checkpoint}")


def _name_provider() -> Callable[[str], None]:
    """Return a function that prints each provider in use once."""
    named: set[str] = set()

    def name(provider: str) -> None:
        if provider not in named:
            complain(f"networks run on {provider}")
        named.add(provider)

    return name


def _report_left_out(left_out: "LeftOut", as_json: bool) -> None:
    complain(f"fastrdm: warning: {left_out.message}")
    if as_json:
        echo_json({"event": "left_out", **dataclasses.asdict(left_out)})
