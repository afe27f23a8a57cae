"""A small version of the paper's study: four networks trained by one recipe, each checkpoint scored against the brains.

    python -m models.study.miniature --data ZIP --brains DIR --out OUT [--networks resnet20 …] [--epochs 10] [--device
    auto]

OUT/NAME is a network's run by `models.train`; OUT/NAME/scored has each checkpoint's scores and submission for
the test images. A second call continues where the first one stopped. The report, `--results`, and the two pictures
beside it are written after each network.
"""

import argparse
import functools
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import torch

import fastrdm
from fastrdm._base import new_file, require
from fastrdm.runtimes import Architecture
from fastrdm.studies import find_data, open_studies, synthetic_notice
from models.networks import NETWORKS, build, check_names
from models.study.candidates import Candidate, Graphs, StudyRun, count_classes, score
from models.study.comparison import Published
from models.study.figures import draw_bars, panels
from models.study.network_scores import NetworkScores
from models.study.tables import markdown
from models.training.curve import draw_lines
from models.training.devices import choose_device, describe_device
from models.training.recipe import Recipe
from models.training.run import EpochMetrics, TrainingRun
from models.training.signals import Signals, run_command
from models.training.train import train

DEFAULT = ("resnet20", "resnet18", "resnet34", "densenet121")
IMAGES = "tiny-imagenet-100.zip"
# Size of the training images.
SIZE = 64
# Sizes of the stimuli. On the studies 92 and 118, a ResNet-20 after 5 epochs scored best on small ones: 9.1 % in
# block1_1 at 32 and 7.7 % in block4 at 48; the best layers at 64, 128 and 224 had 5.9, 3.2 and 3.7 %.
SHOWN = (32, 48, SIZE)

RECIPE = Recipe(
    epochs=10, batch_size=64, image_size=SIZE, augment="flip", decay_every=4, channels_last=True
)
"""The paper's optimiser with 10 epochs of 25,000 images for 120 of 1,281,167; decay and batch are in proportion."""


@dataclass(frozen=True)
class EpochScores:
    """A network after an epoch: its classification metrics and its layers' scores."""

    network: str
    epoch: int
    metrics: EpochMetrics
    scores: NetworkScores


def recipe_of(network: str, epochs: int, seed: int) -> Recipe:
    """Return the miniature's recipe for a network of the registry."""
    return replace(RECIPE, arch=f"models.networks:{network}", epochs=epochs, seed=seed)


def score_run(network: str, run: TrainingRun, scoring: StudyRun) -> list[EpochScores]:
    """Score the checkpoints of a complete run on stimuli of several sizes, in order, and write their submissions.

    Raise ValueError if a checkpoint cannot be scored.
    """
    metrics = {int(row["epoch"]): row for row in run.metrics()}

    @functools.cache
    def exported(n_classes: int) -> Graphs:
        return {
            f"@{size}": replace(
                Architecture.export(build(network, n_classes), input_size=(size, size)),
                name=f"{network}@{size}",
            )
            for size in SHOWN
        }

    def graphs(weights: Path) -> Graphs:
        return exported(count_classes(network, weights))

    found = []
    for epoch, path in run.written().items():
        folder = run.folder / "scored" / "checkpoints" / path.stem
        scores = score(Candidate(path.stem, folder, partial(Path, path), graphs), scoring)
        if scores.error:
            raise ValueError(f"{network} after epoch {epoch} is not scored: {scores.error}")
        named = replace(scores, name=f"{network}, epoch {epoch}")
        found.append(EpochScores(network, epoch, metrics[epoch], named))
    return found


def write_report(
    path: Path,
    checkpoints: Sequence[EpochScores],
    facts: Sequence[str],
    published: Published | None = None,
) -> None:
    """Write the Markdown report, and its pictures NAME-curves.png (scores by epoch) and NAME-figure5.png.

    `facts` is the list at its head; AlexNet's score, the line in the bars, is from `published`.
    """
    curves, bars = (path.with_name(f"{path.stem}-{name}.png") for name in ("curves", "figure5"))
    path.parent.mkdir(parents=True, exist_ok=True)
    top1: dict[str, list[tuple[int, float]]] = {}
    means: dict[str, list[tuple[int, float]]] = {}
    for each in checkpoints:
        top1.setdefault(each.network, []).append((each.epoch, each.metrics["val_top1"]))
        means.setdefault(each.network, []).append((each.epoch, each.scores.mean))
    studies = " and ".join(checkpoints[0].scores.studies)
    lines = {
        "top-1 of the validation images, %": top1,
        f"score of the best layer, % of the noise ceiling, mean of {studies}": means,
    }
    with new_file(curves) as file:
        file.write(draw_lines(lines))
    scores = [each.scores for each in checkpoints]
    title = "Best layers; lines: 95 % intervals over subjects"
    draw_bars(panels(scores, published, ()), bars, title)
    with new_file(path) as file:
        file.write(_report(checkpoints, facts, curves.name, bars.name).encode())


def _report(
    checkpoints: Sequence[EpochScores], facts: Sequence[str], curves: str, bars: str
) -> str:
    studies = checkpoints[0].scores.studies
    values = [f"{name} {of}" for name in studies for of in ("EVC", "IT", "score")]
    best, by_region = [], []
    for each in checkpoints:
        scores, layers = each.scores, each.scores.by_region
        named = [each.network, str(each.epoch)]
        top = [f"{each.metrics[name]:.2f}" for name in ("val_top1", "val_top5")]
        one = dict.fromkeys(layers, scores.best)
        best.append([*named, *top, scores.marked(scores.best), *_numbers(scores, one)])
        marked = [scores.marked(layer, region) for region, layer in layers.items()]
        by_region.append([*named, *marked, *_numbers(scores, layers)])
    best_head = ["network", "epoch", "top-1", "top-5", "best layer", *values, "mean score"]
    region_head = ["network", "epoch", "EVC by", "IT by", *values, "mean score"]
    return _TEMPLATE.format(
        facts="\n".join(f"- {fact}" for fact in facts),
        sizes=f"{', '.join(map(str, SHOWN[:-1]))} and {SHOWN[-1]}",
        best=markdown(best_head, best, _TEXT),
        by_region=markdown(region_head, by_region, _TEXT),
        curves=curves,
        bars=bars,
    )


def _numbers(scores: NetworkScores, layers: Mapping[str, str]) -> list[str]:
    """For each study the regions' percentages with their layers and the score; then the mean score."""
    percent = {(r.study, r.region, r.layer): r.percent_nc for r in scores.results}
    numbers: list[float] = []
    for study in scores.studies:
        numbers += [percent[study, region, layer] for region, layer in layers.items()]
        numbers.append(scores.score(study, layers).percent)
    return [f"{number:.2f}" for number in (*numbers, scores.mean_of(layers))]


_TEXT = ("network", "best layer", "EVC by", "IT by")

_TEMPLATE = """# The miniature

{facts}

Made by `make replicate-mini`. Stimuli have {sizes} pixels; block4@48 is block4 with 48 × 48 pixels. A network's
best layer is the one with the best mean score over the studies, as in the paper; a score is 100 × mean R² of EVC and IT
/ mean noise ceiling. ‡ marks a layer whose mean ρ is below 0 in a study, so it is opposite to the brain there.

{best}
The submission for the 78 test images has for each region the layer with that region's best mean over the studies:

{by_region}
![Validation accuracy and score by epoch]({curves})

![Figure 5 in small]({bars})

## What it shows, and what it does not

It shows the whole chain on real images and real brains: training by the paper's optimiser, scores of checkpoints with
the paper's choice of a layer, submissions for the test images; and the relation of score and accuracy in early
training. Layers and sizes are chosen on the subjects in the tables; on other subjects and images, scores may be lower.

It does not test the paper's claim. The networks have seen 25,000 images of 100 classes at 64 × 64 pixels, a fiftieth of
ImageNet's images and a twelfth of their area, for a few epochs. The paper's 15.53 % refer to the test images, whose
brain data is not published, after training on ImageNet. Each network has one seed: differences smaller than the
intervals are meaningless.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    work = partial(_miniature, _parser().parse_args(argv))
    return run_command("miniature", work, "miniature: stopped; rerun the command to continue")


def _miniature(arguments: argparse.Namespace, signals: Signals) -> bool:
    for package, extra in (("onnxruntime", "onnx"), ("matplotlib", "plot"), ("rich", "onnx")):
        require(package, extra, "for the miniature")
    check_names(arguments.networks)
    root = find_data()
    data, brains = arguments.data or (root and root / IMAGES), arguments.brains or root
    if data is None or brains is None:
        raise ValueError(
            f"no data: set FASTRDM_DATA to a folder with {IMAGES} and the challenge's data,"
            " or pass --data and --brains"
        )
    device = choose_device(arguments.device)
    store = Path(arguments.out) / "scores.db"
    options = {"precision": "fp32"}
    scoring = StudyRun(open_studies(brains, modality="fmri"), store, options, by_region=True)
    facts = [
        f"**Date:** {date.today().isoformat()}",
        f"**Machine:** {describe_device(device)}, {platform.machine()}",
        f"**Versions:** fastrdm {fastrdm.__version__}, torch {torch.__version__}",
        f"**Recipe:** SGD {RECIPE.lr:g}, momentum {RECIPE.momentum:g}, weight decay {RECIPE.weight_decay:g}, a tenth of"
        f" the rate after every {RECIPE.decay_every} epochs, batches of {RECIPE.batch_size}, half of the images"
        f" mirrored, {SIZE} × {SIZE} pixels, channels last in memory, seed {arguments.seed}",
    ]
    if notice := synthetic_notice(scoring.studies):
        facts.append(f"**{notice}**")
    published = Published.find(brains)
    checkpoints: list[EpochScores] = []
    for name in arguments.networks:
        folder = Path(arguments.out) / name
        recipe = recipe_of(name, arguments.epochs, arguments.seed)
        settings = {"device": arguments.device, "cache": arguments.cache, "score_size": SIZE}
        if not train(data, folder, recipe, signals=signals, **settings):
            return False
        checkpoints += score_run(name, TrainingRun(folder), scoring)
        write_report(Path(arguments.results), checkpoints, facts, published)
        print(f"{name} is complete; wrote {arguments.results}", file=sys.stderr)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.study.miniature",
        description="Train small networks on small images by the paper's recipe, and score their checkpoints. "
        "A second call continues where the first one stopped.",
    )
    add, there = parser.add_argument, "FASTRDM_DATA, or ../shared/data"
    add("--data", metavar="DIR|ZIP", help=f"images to train on (default: {IMAGES} in {there})")
    add("--brains", metavar="DIR", help=f"the challenge's data, or studies (default: {there})")
    add("--out", default="mini-out", metavar="OUT", help="default: %(default)s")
    report = "the report (default: %(default)s)"
    add("--results", default="models/RESULTS.md", metavar="FILE", help=report)
    names = f"of {', '.join(NETWORKS)} (default: {' '.join(DEFAULT)})"
    add("--networks", nargs="+", default=DEFAULT, metavar="NAME", help=names)
    add("--epochs", type=int, default=RECIPE.epochs, help="default: %(default)s")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--device", default="auto", help="auto, cpu, cuda[:N] or rocm[:N] (default: auto)")
    add("--cache", metavar="DIR", help="folder for decoded images")
    return parser


if __name__ == "__main__":
    sys.exit(main())
