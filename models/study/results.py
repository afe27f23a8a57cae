"""The results of the study, made from kept RDMs without training: tables, figures and a report.

    python -m models.study.results [--rdms DIR] [--data DIR] [--results models/RESULTS.md]

Every layer of every kept checkpoint is scored against every region of the studies by the challenge's protocol. The
report is accompanied by RESULTS-table.csv, with all layers, and by RESULTS-figure4.png, RESULTS-figure5.png and
RESULTS-curves.png. The same input gives the same bytes.

Other modules add sections to the report. A section is a function ``section(kept, studies, folder)`` of the kept
checkpoints, the studies with brain data and the folder of the report. It returns Markdown that begins with a heading of
the second level, and may write files called RESULTS-… into the folder.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fastrdm._base import new_file, require
from fastrdm.studies import Study, find_data, open_studies
from models.study import claim, submissions
from models.study.checkpoints import (
    Checkpoint,
    Seeds,
    after_the_papers_epochs,
    by_epoch,
    layer_rows,
    score_kept,
)
from models.study.comparison import Published
from models.study.figures import draw_bars, panels
from models.study.kept import FOLDER, Kept, read_kept
from models.study.network_scores import NetworkScores
from models.study.run_facts import facts_of
from models.study.tables import csv_table, markdown
from models.training.curve import draw_lines
from models.training.signals import Signals, run_command

Section = Callable[[Sequence[Kept], Sequence[Study], Path], str]

SECTIONS: tuple[Section, ...] = (claim.section, submissions.section)
"""The sections by other modules, in order."""

RESULTS = Path(__file__).parents[1] / "RESULTS.md"

_PAPERS = "resnet20"


def write_results(
    path: str | Path,
    kept: Sequence[Kept],
    studies: Sequence[Study],
    published: Published | None = None,
) -> None:
    """Score kept checkpoints and write the report, its table and its figures.

    AlexNet's score, the line in the figures, is from `published`. Raise ValueError if a checkpoint lacks RDMs of a
    study.
    """
    require("matplotlib", "plot", "to draw the results")
    path, facts = Path(path), facts_of(kept, studies)
    groups = by_epoch(score_kept(kept, studies))
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(_beside(path, "table.csv"), csv_table(layer_rows(_in_order(groups))))
    pictures = [
        _draw_figure4(_beside(path, "figure4.png"), groups, published),
        _draw_figure5(_beside(path, "figure5.png"), groups, published),
        _draw_curves(_beside(path, "curves.png"), groups),
    ]
    parts = [
        "# Results of the study in small\n\n" + "\n".join(f"- {fact}" for fact in facts),
        _INTRODUCTION.format(table=f"{path.stem}-table.csv"),
        _table(groups),
        *(f"![{text}]({file})" for file, text in filter(None, pictures)),
        *(section(kept, studies, path.parent) for section in SECTIONS),
        _MEANING,
    ]
    _write(path, "\n\n".join(part.strip() for part in parts) + "\n")


def _beside(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}-{name}")


def _write(path: Path, text: str | bytes) -> None:
    with new_file(path) as file:
        file.write(text.encode() if isinstance(text, str) else text)


def _in_order(groups: Sequence[Seeds]) -> list[Checkpoint]:
    return [each for group in groups for each in group.checkpoints]


def _table(groups: Sequence[Seeds]) -> str:
    """The best layers of each network and epoch: means over seeds, with deviations if there are several."""
    places = list(
        dict.fromkeys(
            (r.study, r.region) for each in _in_order(groups) for r in each.scores.results
        )
    )
    studies = list(dict.fromkeys(study for study, _ in places))
    columns: list[tuple[str, str | None]] = []
    for study in studies:
        columns += [(study, region) for of, region in places if of == study] + [(study, None)]
    heads = [f"{study} {region.upper() if region else 'score'}" for study, region in columns]
    lines = []
    for group in groups:
        mean = group.mean()
        epoch = "ImageNet" if group.epoch is None else str(group.epoch)
        line = [group.network, epoch, str(len(group.checkpoints))]
        line += [_mean_and_deviation(group.top1, 1) if group.top1 else "", mean.marked(mean.best)]
        line += [_cell(group, mean, study, region) for study, region in columns]
        overall = [each.scores.mean for each in group.checkpoints]
        lines.append([*line, _mean_and_deviation(overall)])
    head = ["network", "epoch", "seeds", "top-1 %", "best layer", *heads, "mean"]
    return markdown(head, lines, ("network", "best layer"))


def _cell(group: Seeds, mean: NetworkScores, study: str, region: str | None) -> str:
    """Percent of the noise ceiling of a region with its mean ρ, or without a region, the study's score."""
    scores = [each.scores for each in group.checkpoints]
    if region is None:
        return _mean_and_deviation([each.score(study, each.best).percent for each in scores])
    percents = [
        r.percent_nc
        for each in scores
        for r in each.results
        if (r.study, r.region, r.layer) == (study, region, each.best)
    ]
    rho = next(r.mean_rho for r in mean.results if (r.study, r.region) == (study, region))
    return f"{_mean_and_deviation(percents)} ({rho:+.3f})"


def _mean_and_deviation(values: Sequence[float], digits: int = 2) -> str:
    text = f"{np.mean(values):.{digits}f}"
    return f"{text} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else text


def _draw_figure4(
    path: Path, groups: Sequence[Seeds], published: Published | None
) -> tuple[str, str]:
    """Draw the networks after the paper's epochs, and the pretrained ones."""
    named = {
        each.network if each.epoch is None else f"{each.network} ({each.epoch})": each
        for each in after_the_papers_epochs(groups)
    }
    _draw(path, named, "Networks, in brackets the epoch", published)
    return (
        path.name,
        "Figure 4 in small: networks after the last of the paper's epochs that they have",
    )


def _draw_figure5(
    path: Path, groups: Sequence[Seeds], published: Published | None
) -> tuple[str, str] | None:
    """Draw the checkpoints of the ResNet-20, or of the first network if there is none."""
    trained = [each for each in groups if each.epoch is not None]
    if not trained:
        path.unlink(missing_ok=True)
        return None
    found = {each.network for each in trained}
    network = _PAPERS if _PAPERS in found else trained[0].network
    names = {f"epoch {each.epoch}": each for each in trained if each.network == network}
    _draw(path, names, f"Checkpoints of {network}", published)
    return path.name, f"Figure 5 in small: checkpoints of {network}"


def _draw(path: Path, named: dict[str, Seeds], title: str, published: Published | None) -> None:
    scores = [each.mean(name) for name, each in named.items()]
    drawn = []
    for panel in panels(scores, published, ()):
        marks = {
            name: [c.scores.score(panel.study, c.scores.best).percent for c in each.checkpoints]
            for name, each in named.items()
            if len(each.checkpoints) > 1
        }
        drawn.append(replace(panel, marks=marks))
    seeds = ", mean over seeds" if any(panel.marks for panel in drawn) else ""
    lines = "Lines: 95 % intervals over subjects; dots: subjects"
    draw_bars(drawn, path, f"{title}: best layers{seeds}\n{lines}")


def _draw_curves(path: Path, groups: Sequence[Seeds]) -> tuple[str, str] | None:
    """Draw accuracy and score by epoch: the mean over seeds of each network, and thin lines for the seeds."""
    trained = [(each, each.epoch) for each in groups if each.epoch is not None]
    if not trained:
        path.unlink(missing_ok=True)
        return None
    headings = (
        "top-1 of the validation images, %",
        "score of the best layer, % of the noise ceiling",
    )
    values: tuple[Callable[[Checkpoint], float | None], ...] = (
        lambda each: each.top1,
        lambda each: each.scores.mean,
    )
    means: dict[str, dict[str, list[tuple[int, float]]]] = {}
    runs: dict[str, dict[str, dict[int | None, list[tuple[int, float]]]]] = {}
    for heading, value_of in zip(headings, values, strict=True):
        for group, epoch in trained:
            known = {e.kept.seed: v for e in group.checkpoints if (v := value_of(e)) is not None}
            if known:
                points = means.setdefault(heading, {}).setdefault(group.network, [])
                points.append((epoch, float(np.mean(list(known.values())))))
            own = runs.setdefault(heading, {}).setdefault(group.network, {})
            for seed, value in known.items():
                own.setdefault(seed, []).append((epoch, value))
    thin = {
        heading: {name: list(own.values()) for name, own in of.items()}
        for heading, of in runs.items()
    }
    ticks = sorted({epoch for _, epoch in trained})
    _write(path, draw_lines(means, runs=thin, ticks=ticks))
    return path.name, "Accuracy and score by epoch, each seed thin and their mean bold"


_INTRODUCTION = """## Scores

Each layer exists once for each size of the images: block1@48 is block1 with 48 × 48 pixels. The best layer is the
paper's, that with the best mean score over the studies, chosen for each seed by itself; block1@32 ×2 is the best of
two seeds. A score is 100 × mean R² over the regions / mean noise ceiling. Values are means over seeds ± sample
standard deviations over seeds, in percent of the noise ceiling. In brackets is the mean ρ with its sign. R² is
positive for negative correlations too, so it can be large although the subjects do not agree in sign. ‡ marks
best layers with a mean ρ below 0 in a region. [{table}]({table}) has the scores of all layers."""

_MEANING = """## What it shows, and what it does not

It shows the whole chain on real images and brains: training by the paper's optimiser and schedule, the challenge's
score of every layer of each checkpoint, and the paper's choice of a layer. It shows how scores go with accuracy in
training, and how far seeds of the same network differ; smaller differences between networks mean nothing.

It does not repeat the paper's experiment. The networks trained here have seen 64 × 64 pixels, a twelfth of the
paper's area, and a small part of ImageNet's images and classes. The paper's 15.53 % refer to the test images, whose
brain data is not published.

The table and the figures choose layers and sizes on the subjects and images that score them, so their values are
optimistic. Where the mean ρ is near 0, as often for IT of the study 118, a percentage is no agreement with the
brain: some subjects correlate positively and others negatively, and squares hide that."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    work = partial(_results, _parser().parse_args(argv))
    return run_command("results", work, "results: stopped")


def _results(arguments: argparse.Namespace, signals: Signals) -> bool:
    root = Path(arguments.data) if arguments.data else find_data()
    if root is None:
        raise ValueError("no data: use --data DIR or set FASTRDM_DATA")
    kept = read_kept(arguments.rdms)
    studies = open_studies(root, modality="fmri")
    write_results(arguments.results, kept, studies, Published.find(root))
    print(f"{len(kept)} checkpoints scored; wrote {arguments.results}", file=sys.stderr)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.study.results",
        description="Score kept RDMs of checkpoints against the brains, and write the report, its table and figures.",
    )
    add = parser.add_argument
    add("--rdms", default=str(FOLDER), metavar="DIR", help="kept RDMs (default: %(default)s)")
    data = "the challenge's data, or studies (default: $FASTRDM_DATA, ../shared/data)"
    add("--data", metavar="DIR", help=data)
    report = "the report (default: %(default)s)"
    add("--results", default=str(RESULTS), metavar="FILE", help=report)
    return parser


if __name__ == "__main__":
    sys.exit(main())
