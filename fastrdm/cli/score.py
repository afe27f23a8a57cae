"""`fastrdm score`: a sweep without a store, whose results are printed."""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fastrdm._base import check_writable_folder, require
from fastrdm.cli.arguments import add_bootstrap, add_checkpoints, data_folders, sweep_options
from fastrdm.cli.features import add_features, are_features, feature_scores, label_names_of
from fastrdm.cli.json_output import JsonRows, add_json
from fastrdm.cli.printing import (
    RAW_CELLS,
    can_show_progress,
    complain,
    complain_lines,
    echo,
)
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
        "continues from there. Features that were saved elsewhere, in .npz, .h5 or .npy files or in a "
        "folder by Net2Brain or thingsvision, are scored without a network."
    )
    add_checkpoints(score)
    add_features(score)
    add_bootstrap(score.add_argument_group("statistics"))
    output = score.add_argument_group("output")
    add = output.add_argument
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
    add_json(output, "a JSON object with the results, failures and left-out files")
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
    document = JsonRows("results", "held_out", "failures", "left_out", "submissions")
    with document if arguments.json else contextlib.nullcontext():
        if has_features:
            scores = feature_scores(arguments, studies)
        else:
            scores = score_checkpoints(
                arguments.weights,
                arguments.arch,
                studies,
                submit=arguments.submit,
                progress=not arguments.quiet and can_show_progress(),
                n_draws=arguments.bootstrap,
                seed=arguments.seed,
                watch=arguments.watch,
                patience=arguments.patience,
                repeat=arguments.watch,
                weighted=arguments.weighted,
                on_left_out=partial(_report_left_out, document),
                **options,
            )
        show = (
            partial(_add_json, document)
            if arguments.json
            else partial(_print, studies, arguments.seed, set())
        )
        return _show_all(scores, files, show, arguments.debug)


def _show_all(
    scores: "Iterable[CheckpointScores]",
    files: "ScoreFiles",
    show: "Callable[[CheckpointScores], None]",
    debug: bool,
) -> int:
    """Show and write the results as they come; return the exit status."""
    failed = total = wrong = 0
    is_begun = False
    try:
        for scored in scores:
            is_begun = True
            total += 1
            wrong += bool(scored.error)
            failed += bool(scored.error) and not scored.results
            show(scored)
            if scored.error:
                if debug:
                    complain_lines(scored.traceback)
                complain(f"fastrdm: error: {scored.error}")
            for path in scored.submissions:
                complain(f"wrote {path}")
            files.add(scored)
    finally:
        # Also when it is stopped; but files of earlier results stay as they are if nothing could begin.
        if is_begun:
            files.finish()
    if failed:
        complain(f"fastrdm: {failed} of {total} checkpoints could not be scored")
    return 1 if wrong or files.failed else 0


def _print(
    studies: "Sequence[Study]", seed: int, said: set[str], scored: "CheckpointScores"
) -> None:
    from fastrdm.cli.held_out import held_out_lines
    from fastrdm.cli.tables import print_results

    if scored.results:
        print_results(scored.results, studies, seed, said)
        for line in held_out_lines(scored.held_out):
            echo(line)


def _add_json(document: JsonRows, scored: "CheckpointScores") -> None:
    from fastrdm.cli.held_out import held_out_records
    from fastrdm.cli.tables import plain

    for result in scored.results:
        document.add(plain(result) | dict(scored.settings) | dict(scored.labels))
    document.more["held_out"] += held_out_records(scored)
    document.more["submissions"] += map(str, scored.submissions)
    if scored.error:
        failure = {"checkpoint": scored.checkpoint, "error": scored.error}
        document.more["failures"].append(failure)


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


def _report_left_out(document: JsonRows, left_out: "LeftOut") -> None:
    complain(f"fastrdm: warning: {left_out.message}")
    document.more["left_out"].append(dataclasses.asdict(left_out))
