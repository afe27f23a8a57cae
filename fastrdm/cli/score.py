"""`fastrdm score` and `fastrdm evaluate`."""

import argparse
import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastrdm._base import require
from fastrdm.cli.tables import cell_of, csv_writer, plain
from fastrdm.scoring import LeftOut, score_checkpoints
from fastrdm.scoring import scorer as scoring
from fastrdm.studies import Study, algonauts, find_data, open_studies


def _data(folder: str | None) -> Path:
    root = Path(folder) if folder else find_data()
    if root is None:
        raise ValueError(
            "no data: pass --data DIR or set FASTRDM_DATA; `fastrdm sample DIR` writes a study to try"
        )
    return root


def run_score(arguments: argparse.Namespace) -> int:
    """Score checkpoints against studies."""
    studies = open_studies(_data(arguments.data), arguments.sets, arguments.modality)
    show = not arguments.quiet and sys.stderr.isatty()
    if not arguments.json:
        require("rich", "onnx", "to print tables")
    if arguments.json and _notice(studies):
        print(_notice(studies), file=sys.stderr)
    failed = total = 0
    results: list[scoring.Result] = []
    with contextlib.ExitStack() as stack:
        write_csv = csv_writer(stack, arguments.csv)
        for scored in score_checkpoints(
            arguments.weights,
            arguments.arch,
            studies,
            taps=arguments.taps,
            provider=arguments.provider,
            precision=arguments.precision,
            provider_options=dict(arguments.provider_option),
            batch_size=arguments.batch_size,
            allow_inconsistent=arguments.allow_inconsistent,
            submit=arguments.submit,
            progress=show,
            n_draws=arguments.bootstrap,
            seed=arguments.seed,
            on_start=None if arguments.quiet else _announce,
            on_left_out=_tell_left_out_as_json if arguments.json else _tell_left_out,
        ):
            total += 1
            if scored.error:
                failed += 1
                print(f"fastrdm: error: {scored.error}", file=sys.stderr)
                continue
            results += scored.results
            write_csv(scored.results)
            if arguments.json:
                for result in scored.results:
                    print(json.dumps(plain(result)), flush=True)
            else:
                _print_table(scored.results, studies)
            for path in scored.submissions:
                print(f"wrote {path}", file=sys.stderr)
    if arguments.figure and results:
        from fastrdm.report import plot_scores

        print(f"wrote {plot_scores(results, arguments.figure, _notice(studies))}", file=sys.stderr)
    if failed:
        print(
            f"fastrdm: {failed} of {total} checkpoints could not be scored",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _announce(checkpoint: str) -> None:
    print(f"scoring {checkpoint}", file=sys.stderr, flush=True)


def _tell_left_out(left_out: LeftOut) -> None:
    print(f"fastrdm: warning: {left_out.message}", file=sys.stderr)


def _tell_left_out_as_json(left_out: LeftOut) -> None:
    _tell_left_out(left_out)
    print(json.dumps({"event": "left_out", **dataclasses.asdict(left_out)}), flush=True)


def _notice(studies: Sequence[Study]) -> str:
    synthetic = [study.name for study in studies if study.synthetic]
    return (
        f"SYNTHETIC DATA ({', '.join(synthetic)}): simulated subjects, no brains"
        if synthetic
        else ""
    )


def _print_table(results: Sequence[scoring.Result], studies: Sequence[Study]) -> None:
    """A row a layer, a column a region of a study, and the score that the best layer is chosen by."""
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys((r.set, r.region) for r in results))
    cells = {(r.layer, r.set, r.region): r for r in results}
    scores, best = scoring.layer_scores(results), scoring.best_layers(results)
    ceilings = {(r.set, r.region): r.ceiling for r in results}
    squared = {
        (study.name, region)
        for study in studies
        for region, target in study.targets.items()
        if target.protocol.squared
    }
    mean, sign = (", mean ρ", "; ‡ mean ρ below 0, opposite to the brain") if squared else ("", "")
    title = f"percent of noise ceiling ± SD over subjects{mean}{sign}"
    if not all(math.isnan(r.low) for r in results):
        title = (
            f"percent of noise ceiling [95 % interval over subjects]{mean};"
            f" † ρ above 0, p < 0.05 corrected{sign}"
        )
    table = Table(
        title=title,
        caption=_notice(studies) or None,
        show_footer=True,
        title_justify="left",
    )
    table.add_column("layer", footer="ceiling")
    for study, region in columns:
        table.add_column(
            f"{study}\n{region.upper()}",
            footer=f"{ceilings[study, region]:.4f}",
            justify="right",
            no_wrap=True,
        )
    for modality in scores:
        table.add_column(
            f"score{f', {modality}' if len(scores) > 1 else ''}\nmean of sets",
            justify="right",
            no_wrap=True,
        )
    for layer in dict.fromkeys(r.layer for r in results):
        winner = layer in best.values()
        table.add_row(
            layer,
            *(cell_of(cells[layer, *column], column in squared) for column in columns),
            *(f"{scores[m][layer]:.2f}{' *' if best.get(m) == layer else '  '}" for m in scores),
            style="bold" if winner else None,
        )
    # A pipe or a file has no width to keep to.
    console = Console(width=None if sys.stdout.isatty() else 300)
    # Not wrapped: a path is for copying.
    console.print(results[0].checkpoint, highlight=False, soft_wrap=True, style="bold")
    console.print(table)
    for line in _conclusions(results, studies, scores, best):
        console.print(line, highlight=False)


def _conclusions(
    results: Sequence[scoring.Result],
    studies: Sequence[Study],
    scores: dict[str, dict[str, float]],
    best: dict[str, str],
) -> Iterator[str]:
    for modality, layer in best.items():
        name = f" ({modality})" if len(scores) > 1 else ""
        yield f"* best layer{name}: {layer}, {scores[modality][layer]:.2f} % of the noise ceiling"
    for remark in scoring.sign_remarks(results):
        yield f"‡ {remark}"
    for study in studies:
        for region, layer in study.truth.items():
            own = [r for r in results if (r.set, r.region) == (study.name, region)]
            if own and Path(own[0].checkpoint).name == study.truth_network:
                found = max(own, key=lambda r: -math.inf if math.isnan(r.value) else r.value).layer
                verdict = "found" if found == layer else f"NOT found: {found} is best"
                yield f"  known answer: {region.upper()} was simulated from {layer}: {verdict}"


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Score a submission as the challenge does."""
    evaluation = algonauts.evaluate(arguments.submission, arguments.target, arguments.set)
    uncertainty = _uncertainty(evaluation, arguments.bootstrap, arguments.seed)
    if arguments.json:
        record = evaluation.to_dict()
        for name, facts in uncertainty.items():
            record[name] |= {**facts, "draws": arguments.bootstrap, "seed": arguments.seed}
        print(json.dumps(record))
        return 0
    source = (
        f"published for the {evaluation.set} images"
        if evaluation.set
        else "computed from the subjects"
    )
    print(f"noise ceilings {source}")
    more = f"{'95 % interval':>18}{'p, sign flips':>15}{'corrected':>12}" if uncertainty else ""
    print(
        f"{'':7}{'R²':>8}{'± SD':>9}{'mean ρ':>10}{'ceiling':>9}{'% of ceiling':>14}{'p':>12}{more}"
    )
    for name, region in evaluation.regions.items():
        line = (
            f"{name.upper():7}{region.r2:8.4f}{region.std:9.4f}{region.mean_rho:9.4f}"
            f"{'‡' if region.mean_rho < 0 else ' '}{region.ceiling:9.4f}"
            f"{region.percent_nc:14.4f}{region.p:12.4e}"
        )
        if name in uncertainty:
            facts = uncertainty[name]
            low, high = facts["interval"]
            interval = f"[{low:.2f}, {high:.2f}]"
            line += f"{interval:>18}{facts['p_sign_flip']:15.4e}{facts['p_corrected']:12.4e}"
        print(line)
    score = evaluation.score
    print(f"{'score':7}{score.r2:8.4f}{'':28}{score.percent_nc:14.4f}")
    if any(region.mean_rho < 0 for region in evaluation.regions.values()):
        print(
            "‡ mean ρ below 0: the submission is opposite to the brain, which the score does not show"
        )
    if uncertainty:
        print(
            "p is the challenge's own, of ρ², which is never below 0; sign flips test over subjects that ρ is above 0,"
            "\ncorrected for both regions. The interval, of % of ceiling, is of subjects resampled"
            f" {arguments.bootstrap} times, seed {arguments.seed}."
        )
    return 0


def _uncertainty(
    evaluation: algonauts.Evaluation, n_draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Interval of the percentage, and sign-flip tests, by region; none of one subject or without draws."""
    from fastrdm.inference import max_statistic, subject_intervals

    regions = evaluation.regions
    rho = [[region.rho] for region in regions.values()]
    if n_draws == 0 or any(len(one[0]) < 2 for one in rho):
        return {}
    p, corrected = (values.tolist() for values in max_statistic(rho, seed=seed))
    return {
        name: {
            "interval": [
                100 * bound / region.ceiling
                for bound in subject_intervals(
                    [[r**2 for r in region.rho]], n_draws=n_draws, seed=seed
                )[0].tolist()
            ],
            "p_sign_flip": p[i],
            "p_corrected": corrected[i],
        }
        for i, (name, region) in enumerate(regions.items())
    }
