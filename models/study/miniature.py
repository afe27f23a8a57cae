"""A small version of the paper's study: four networks trained by one recipe, each checkpoint scored against the brains.

    python -m models.study.miniature --data ZIP --brains DIR --out OUT [--networks resnet20 …] [--epochs 10] [--seeds 3]
    [--device auto]

OUT/NAME-seedN is a run by `models.train`, and OUT/rdms keeps the RDMs of its checkpoints. After each run,
`models.study.results` makes the report of all kept RDMs. A second call continues where the first one stopped. On a CPU
with the same number of threads, a repeated or continued run gives the same RDMs, tables and figures.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fastrdm._base import check_integer, require
from fastrdm.studies import find_data, open_studies
from models.networks import NETWORKS, check_names
from models.study.comparison import Published
from models.study.keep import SIZES, Showing, keep_run
from models.study.kept import read_kept
from models.study.results import write_results
from models.training.devices import choose_device
from models.training.recipe import Recipe
from models.training.run import TrainingRun
from models.training.signals import Signals, run_command
from models.training.train import train

DEFAULT = ("resnet20", "resnet18", "resnet34", "densenet121")
SEVERAL = ("resnet20", "resnet18")
"""The networks with several seeds: the paper's, and the one from which it differs by a block."""

IMAGES = "tiny-imagenet-100.zip"
# Size of the training images.
SIZE = 64

RECIPE = Recipe(
    epochs=10, batch_size=64, image_size=SIZE, augment="flip", decay_every=3, channels_last=True
)
"""The paper's optimiser with 10 epochs of 25,000 images for 120 of 1,281,167; decay and batch are in proportion."""


def recipe_of(network: str, epochs: int, seed: int) -> Recipe:
    """Return the miniature's recipe for a network of the registry, with the paper's schedule scaled to the epochs."""
    check_integer(epochs, "--epochs", 1)
    paper = Recipe()
    decay_every = math.ceil(epochs * paper.decay_every / paper.epochs)
    arch = f"models.networks:{network}"
    return replace(RECIPE, arch=arch, epochs=epochs, decay_every=decay_every, seed=seed)


def runs_of(networks: Sequence[str], n_seeds: int) -> list[tuple[str, int]]:
    """Return networks with seeds in the order of training: all networks once, then those of `SEVERAL` again."""
    check_integer(n_seeds, "--seeds", 1)
    names = list(dict.fromkeys(networks))
    return [(n, seed) for seed in range(n_seeds) for n in names if seed == 0 or n in SEVERAL]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    work = partial(_miniature, _parser().parse_args(argv))
    return run_command("miniature", work, "miniature: stopped; rerun the command to continue")


def _miniature(arguments: argparse.Namespace, signals: Signals) -> bool:
    require("matplotlib", "plot", "for the miniature")
    check_names(arguments.networks)
    root, out = find_data(), Path(arguments.out)
    data, brains = arguments.data or (root and root / IMAGES), arguments.brains or root
    if data is None or brains is None:
        raise ValueError(
            f"no data: set FASTRDM_DATA to a folder with {IMAGES} and the challenge's data,"
            " or pass --data and --brains"
        )
    device = str(choose_device(arguments.device))
    results = Path(arguments.results or out / "RESULTS.md")
    runs = runs_of(arguments.networks, arguments.seeds)
    recipes = [recipe_of(network, arguments.epochs, seed) for network, seed in runs]
    studies = open_studies(brains, modality="fmri")
    showing, published = Showing(studies, SIZES, device), Published.find(brains)
    settings = {"device": device, "cache": arguments.cache, "score_size": SIZE}
    for (network, seed), recipe in zip(runs, recipes, strict=True):
        name = f"{network}-seed{seed}"
        if not train(data, out / name, recipe, signals=signals, **settings):
            return False
        epochs = list(TrainingRun(out / name).written())
        keep_run(out / name, name, showing, epochs, out / "rdms")
        write_results(results, read_kept(out / "rdms"), studies, published)
        print(f"{name} is complete; wrote {results}", file=sys.stderr)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.study.miniature",
        description="Train small networks on small images by the paper's recipe, keep the RDMs of their checkpoints, "
        "and score them. A second call continues where the first one stopped.",
    )
    add, there = parser.add_argument, "FASTRDM_DATA, or ../shared/data"
    add("--data", metavar="DIR|ZIP", help=f"images to train on (default: {IMAGES} in {there})")
    add("--brains", metavar="DIR", help=f"the challenge's data, or studies (default: {there})")
    add("--out", default="mini-out", metavar="OUT", help="default: %(default)s")
    add("--results", metavar="FILE", help="the report (default: OUT/RESULTS.md)")
    names = f"of {', '.join(NETWORKS)} (default: {' '.join(DEFAULT)})"
    add("--networks", nargs="+", default=DEFAULT, metavar="NAME", help=names)
    add("--epochs", type=int, default=RECIPE.epochs, help="default: %(default)s")
    seeds = f"number of seeds of {' and '.join(SEVERAL)}; others have one (default: %(default)s)"
    add("--seeds", type=int, default=3, metavar="N", help=seeds)
    add("--device", default="auto", help="auto, cpu, cuda[:N] or rocm[:N] (default: auto)")
    add("--cache", metavar="DIR", help="folder for decoded images")
    return parser


if __name__ == "__main__":
    sys.exit(main())
