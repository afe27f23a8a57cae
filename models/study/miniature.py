"""The paper's question in small: four networks trained by one recipe, each checkpoint scored against the brains.

    python -m models.study.miniature --data ZIP --brains DIR --out OUT [--networks resnet20 …] [--epochs 10] [--device
    auto]

OUT/NAME is the run of a network, as `models.training.train` leaves it; OUT/NAME/scored has each checkpoint's scores and
its submission for the test images. A second call goes on where the first one stopped. The report, `--results`, is
written anew as each network is done, with two pictures beside it.
"""

import argparse
import json
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
from fastrdm.studies import find_data, open_studies
from models.networks import NETWORKS, TAPS, build, check_names
from models.study.comparison import Published
from models.study.figures import draw_bars
from models.study.network_scores import NetworkScores
from models.study.replicate import PUBLISHED, Job, Run, count_classes, panels, score
from models.study.sizes import Sizes
from models.training.curve import draw_lines
from models.training.devices import choose_device, describe_device
from models.training.recipe import Recipe
from models.training.run import EpochMetrics, TrainingRun
from models.training.signals import Signals, Stopped
from models.training.train import train

DEFAULT = ("resnet20", "resnet18", "resnet34", "densenet121")
IMAGES = "tiny-imagenet-100.zip"
# The images' own size.
SIZE = 64
# At which stimuli are shown. By the 92 and the 118 set a ResNet-20 after 5 epochs did best on small ones: 9.1 % in
# block1_1 at 32 and 7.7 % in block4 at 48, where the best layers at 64, 128 and 224 had 5.9, 3.2 and 3.7 %.
SHOWN = (32, 48, SIZE)

RECIPE = Recipe(
    epochs=10,
    batch_size=64,
    image_size=SIZE,
    augment="flip",
    decay_every=4,
    channels_last=True,
)
"""The paper's optimiser; its 120 epochs of 1,281,167 images are ten of 25,000, decay and batch in proportion."""


@dataclass(frozen=True)
class Checkpoint:
    """A network after an epoch: how it classifies, and what its layers score."""

    network: str
    epoch: int
    metrics: EpochMetrics
    scores: NetworkScores


def recipe_of(network: str, epochs: int, seed: int) -> Recipe:
    """The miniature's recipe for a network of the registry."""
    return replace(RECIPE, arch=f"models.networks:{network}", epochs=epochs, seed=seed)


def score_run(network: str, run: TrainingRun, scoring: Run) -> list[Checkpoint]:
    """Score the checkpoints of a run that is done, shown the stimuli at several sizes, and write each one's submission.

    Parameters
    ----------
    network : str
        What the results are called by.
    run : TrainingRun
        With its checkpoints.
    scoring : models.study.replicate.Run
        On what, and how.

    Returns
    -------
    list of Checkpoint
        In the order of epochs.

    Raises
    ------
    ValueError
        If a checkpoint cannot be scored.
    """
    metrics = {int(row["epoch"]): row for row in run.metrics()}
    architectures: dict[int, Architecture] = {}

    def opened(weights: Path) -> Sizes:
        if not architectures:
            n_classes = count_classes(network, weights)
            for size in SHOWN:
                shown = build(network, n_classes)
                architectures[size] = Architecture.export(shown, input_size=(size, size))
        return Sizes.open(architectures, weights, **scoring.options)

    graph = json.dumps([network, TAPS[network], SHOWN])
    found = []
    for epoch, path in run.written().items():
        folder = run.folder / "scored" / "checkpoints" / path.stem
        scores = score(Job(path.stem, folder, partial(Path, path), opened, graph), scoring)
        if scores.error:
            raise ValueError(f"{network} after epoch {epoch} is not scored: {scores.error}")
        named = replace(scores, name=f"{network}, epoch {epoch}")
        found.append(Checkpoint(network, epoch, metrics[epoch], named))
    return found


def write_report(
    path: Path,
    checkpoints: Sequence[Checkpoint],
    facts: Sequence[str],
    published: Published | None = None,
) -> None:
    """Write the report and its pictures: the checkpoints' scores by epoch, and figure 5 in small.

    Parameters
    ----------
    path : Path
        The report, in Markdown; the pictures are beside it, as NAME-curves.png and NAME-figure5.png.
    checkpoints : sequence of Checkpoint
        One or more.
    facts : sequence of str
        What stands at the report's head.
    published : Published, optional
        Where AlexNet's score is, the line in the bars.
    """
    curves, bars = (path.with_name(f"{path.stem}-{what}.png") for what in ("curves", "figure5"))
    path.parent.mkdir(parents=True, exist_ok=True)
    networks = list(dict.fromkeys(each.network for each in checkpoints))
    sets = checkpoints[0].scores.sets
    lines = {
        "top-1 of the validation images, %": {
            name: [(c.epoch, c.metrics["val_top1"]) for c in checkpoints if c.network == name]
            for name in networks
        },
        f"score of the best layer, % of the noise ceiling, mean of {' and '.join(sets)}": {
            name: [(c.epoch, c.scores.mean) for c in checkpoints if c.network == name]
            for name in networks
        },
    }
    with new_file(curves) as file:
        file.write(draw_lines(lines))
    scores = [each.scores for each in checkpoints]
    draw_bars(
        panels(scores, published, ()), bars, "Best layers; whiskers: population SD over subjects"
    )
    with new_file(path) as file:
        file.write(_report(checkpoints, facts, curves.name, bars.name).encode())


def _report(checkpoints: Sequence[Checkpoint], facts: Sequence[str], curves: str, bars: str) -> str:
    values = [
        f"{name} {of}" for name in checkpoints[0].scores.sets for of in ("EVC", "IT", "score")
    ]
    best = [["network", "epoch", "top-1", "top-5", "best layer", *values, "mean score"]]
    by_region = [["network", "epoch", "EVC by", "IT by", *values, "mean score"]]
    for each in checkpoints:
        scores, own = each.scores, each.scores.by_region
        named = [each.network, str(each.epoch)]
        top = [f"{each.metrics[name]:.2f}" for name in ("val_top1", "val_top5")]
        one = dict.fromkeys(own, scores.best)
        best.append([*named, *top, scores.marked(scores.best), *_numbers(scores, one)])
        layers = [scores.marked(layer, region) for region, layer in own.items()]
        by_region.append([*named, *layers, *_numbers(scores, own)])
    return _TEMPLATE.format(
        facts="\n".join(f"- {fact}" for fact in facts),
        sizes=", ".join(map(str, SHOWN[:-1])) + f" and {SHOWN[-1]}",
        best=_markdown(best),
        by_region=_markdown(by_region),
        curves=curves,
        bars=bars,
    )


def _numbers(scores: NetworkScores, layers: Mapping[str, str]) -> list[str]:
    """Percentages of the regions by their layers and their score, set by set, and the mean score."""
    found = {(r.set, r.region, r.layer): r.percent_nc for r in scores.results}
    numbers = [
        number
        for name in scores.sets
        for number in (
            *(found[name, region, layer] for region, layer in layers.items()),
            scores.score(name, layers).percent,
        )
    ]
    return [f"{number:.2f}" for number in (*numbers, scores.mean_of(layers))]


def _markdown(table: Sequence[Sequence[str]]) -> str:
    rule = [
        "---" if name in ("network", "best layer", "EVC by", "IT by") else "---:"
        for name in table[0]
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (table[0], rule, *table[1:]))


_TEMPLATE = """# The miniature

{facts}

Made by `make replicate-mini`. Stimuli are shown at {sizes} pixels; block4@48 is block4 of 48 × 48 pixels. A network's
best layer is the one with the best mean score over the image sets, as in the paper; a score is 100 × mean R² of EVC and
IT / mean noise ceiling. ‡ marks a layer whose mean ρ is below 0 in some set, which is opposite to the brain there.

{best}

The submission for the 78 test images has for each region the layer with that region's best mean over the sets:

{by_region}

![Validation accuracy and score by epoch]({curves})

![Figure 5 in small]({bars})

## What it shows, and what it does not

It shows the whole chain on real images and real brains: training by the paper's optimiser, checkpoints scored by the
paper's choice of a layer, submissions for the test images; and how scores go with accuracy in early training. Layers
and sizes are chosen by the subjects that the tables show: on other subjects and images scores may be lower.

It does not test the paper's claim. The networks have seen 25,000 images of 100 classes at 64 × 64 pixels, a fiftieth of
ImageNet's images and a twelfth of their area, for a few epochs; the paper's 15.53 % are of the test set, whose brains
are not published, after training on ImageNet. There is one seed for each network: differences that are smaller than the
whiskers say nothing.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if all is done, 1 for a failure told in one line, 130 or 143 when stopped."""
    given = _parser().parse_args(argv)
    signals = Signals()
    try:
        with signals:
            done = _miniature(given, signals)
        number = signals.number
    except Stopped as stopped:
        done, number = False, stopped.number
    except (ValueError, OSError, ImportError) as error:
        print(f"miniature: error: {error}", file=sys.stderr)
        return 1
    if not done:
        print("miniature: stopped; the same command goes on", file=sys.stderr)
        return 128 + number
    return 0


def _miniature(given: argparse.Namespace, signals: Signals) -> bool:
    for package, extra in (("onnxruntime", "onnx"), ("matplotlib", "plot"), ("rich", "onnx")):
        require(package, extra, "for the miniature")
    check_names(given.networks)
    root = find_data()
    data, brains = given.data or (root and root / IMAGES), given.brains or root
    if data is None or brains is None:
        raise ValueError(
            f"no data: set FASTRDM_DATA to a folder with {IMAGES} and the challenge's data,"
            " or pass --data and --brains"
        )
    device = choose_device(given.device)
    scoring = Run(open_studies(brains, modality="fmri"), by_region=True)
    facts = [
        f"**Date:** {date.today().isoformat()}",
        f"**Machine:** {describe_device(device)}, {platform.machine()}",
        f"**Versions:** fastrdm {fastrdm.__version__}, torch {torch.__version__}",
        f"**Recipe:** SGD {RECIPE.lr:g}, momentum {RECIPE.momentum:g}, weight decay {RECIPE.weight_decay:g}, a tenth of"
        f" the rate after every {RECIPE.decay_every} epochs, batches of {RECIPE.batch_size}, half of the images"
        f" mirrored, {SIZE} × {SIZE} pixels, channels last in memory, seed {given.seed}",
    ]
    if synthetic := [study.name for study in scoring.studies if study.synthetic]:
        facts.append(f"**SYNTHETIC DATA** ({', '.join(synthetic)}): simulated subjects, no brains")
    table = Path(brains) / PUBLISHED
    published = Published.read(table) if table.is_file() else None
    checkpoints: list[Checkpoint] = []
    for name in given.networks:
        folder = Path(given.out) / name
        recipe = recipe_of(name, given.epochs, given.seed)
        if not train(
            data,
            folder,
            recipe,
            device=given.device,
            cache=given.cache,
            score_size=SIZE,
            signals=signals,
        ):
            return False
        checkpoints += score_run(name, TrainingRun(folder), scoring)
        write_report(Path(given.results), checkpoints, facts, published)
        print(f"{name} is done; wrote {given.results}", file=sys.stderr)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.study.miniature",
        description="Train small networks on small images by the paper's recipe, and score their checkpoints. "
        "A second call goes on where the first one stopped.",
    )
    parser.add_argument(
        "--data",
        metavar="DIR|ZIP",
        help=f"images to train on (default: {IMAGES} in FASTRDM_DATA, or ../shared/data)",
    )
    parser.add_argument(
        "--brains",
        metavar="DIR",
        help="the challenge's data, or studies (default: FASTRDM_DATA, or ../shared/data)",
    )
    parser.add_argument("--out", default="mini-out", metavar="OUT", help="default: mini-out")
    parser.add_argument(
        "--results",
        default="models/RESULTS.md",
        metavar="FILE",
        help="the report (default: models/RESULTS.md)",
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        default=DEFAULT,
        metavar="NAME",
        help=f"of {', '.join(NETWORKS)} (default: {' '.join(DEFAULT)})",
    )
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda[:N] or rocm[:N] (default: auto)"
    )
    parser.add_argument("--cache", metavar="DIR", help="folder for decoded images")
    return parser


if __name__ == "__main__":
    sys.exit(main())
