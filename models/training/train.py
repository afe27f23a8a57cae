"""Train a network by the paper's recipe: python -m models.train --data DIR|ZIP --out RUN.

To continue a run that was stopped or killed, rerun the same command. docs/training.md has the details.
"""

import argparse
import contextlib
import json
import re
import shlex
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torchvision

from fastrdm._base import one_line
from fastrdm.networks import Taps, export_onnx
from fastrdm.studies import open_studies
from models.training.batches import WHERE, Batches
from models.training.data import TrainingImages, find_images, training_pixels
from models.training.devices import choose_device, describe_device
from models.training.network import build_network, preprocessing_of, scored_preprocessing
from models.training.recipe import FIELDS, Recipe, flag
from models.training.report import TrainingReport
from models.training.run import EpochMetrics, TrainingRun
from models.training.scoring import RunScorer, ScoringOptions
from models.training.signals import Signals, run_command
from models.training.trainer import Trainer


def fit(
    trainer: Trainer,
    run: TrainingRun,
    report: TrainingReport,
    *,
    stopping: Callable[[], bool] = lambda: False,
    on_checkpoint: Callable[[int, Path], None] = lambda epoch, path: None,
    plots: bool = True,
) -> bool:
    """Train until the recipe's last epoch; write checkpoints, state and metrics.

    If `stopping`, called after each step, returns True, the state is written, even within an epoch, and the result is
    False. `on_checkpoint` is called with the epoch and path of each new checkpoint. Without `plots`, nothing is written
    for TensorBoard.
    """
    recipe = trainer.recipe
    board = run.tensorboard(trainer.history) if plots else contextlib.nullcontext(_ignore)
    with board as add, report.training(trainer.images_left()):
        run.write_metrics(trainer.history)
        while trainer.epoch < recipe.epochs:
            if not trainer.run_epoch(stopping, report):
                run.save(trainer.state())
                return False
            path = None
            if recipe.due(trainer.epoch):
                path = run.write_checkpoint(trainer.epoch, trainer.network)
            run.save(trainer.state())
            run.write_metrics(trainer.history)
            row = trainer.history[-1]
            add(row)
            report.line(
                f"epoch {trainer.epoch}/{recipe.epochs}  loss {row['train_loss']:.3f}  val loss {row['val_loss']:.3f}"
                f"  top-1 {row['val_top1']:.2f} %  top-5 {row['val_top5']:.2f} %  {row['images_per_s']:.0f} images/s"
                f"  ETA {report.eta()}"
            )
            if path:
                on_checkpoint(trainer.epoch, path)
    return True


def _ignore(row: EpochMetrics) -> None:
    pass


def train(
    data: str | Path,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    device: str = "auto",
    where: str = "auto",
    cache: str | Path | None = None,
    score: str | Path | None = None,
    score_sets: Sequence[str] | None = None,
    score_modality: str | None = None,
    score_regions: Sequence[str] | None = None,
    score_taps: Taps | None = None,
    score_size: int | None = None,
    score_device: str | None = None,
    score_mode: str | None = None,
    plots: bool = True,
    signals: Signals | None = None,
) -> bool:
    """Train a network, or continue the run in the folder `out`; return False if a signal stopped it.

    Arguments are as for `find_images` (data), `choose_device`, `Batches` (where), `training_pixels` (cache) and
    `fastrdm.open_studies` (score: studies against which each new checkpoint is scored; score_sets, score_regions;
    score_modality is "both" by default). `score_taps` are the layers to score, as for `fastrdm.export_onnx`, and
    `score_size` is the height and width of the stimuli, by default those of the network. `score_device` is as for
    `choose_device`, by default the device of the training, and `score_mode` is "async" (the default) or "sync", as for
    `fastrdm.Scorer`. Without `plots`, neither TensorBoard's files nor `curve.png` are written.

    Unsuitable arguments, images or folders raise ValueError, OSError or MissingExtraError before work starts;
    DivergedError is raised if the loss becomes NaN or infinite.
    """
    recipe, report, signals = recipe or Recipe(), TrainingReport(), signals or Signals()
    chosen = choose_device(device)
    options = None
    if score is not None:
        options = ScoringOptions(
            open_studies(score, score_sets, score_modality or "both", score_regions),
            str(choose_device(score_device, "--score-device") if score_device else chosen),
            score_taps,
            score_size,
            score_mode or "async",
            plots,
        )
    images = find_images(data)
    run = TrainingRun(out)
    with run.locked():
        environment = {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "device": describe_device(chosen),
        }
        changeable = [name for name, each in FIELDS.items() if each.metadata["changeable"]]
        first = run.agree(_config(recipe, images, environment), changeable)
        state = run.load()
        network = build_network(recipe.arch, len(images.classes), recipe.seed)
        # The network is still on the CPU and unchanged.
        with _scoring(run, network, recipe.arch, options, report) as scorer:
            export(network, run, score_taps, score_size, report)
            resize = preprocessing_of(network).resize
            batches = {}
            for split in (images.train, images.val):
                pixels = training_pixels(split, recipe.image_size, resize, cache, say=report.line)
                batches[split.name] = Batches(pixels, split.labels, chosen, where)
            trainer = Trainer(
                recipe, network, **batches, num_classes=len(images.classes), device=chosen
            )
            if state is not None:
                trainer.restore(state)
            _introduce(trainer, images, chosen, batches["train"].resident, report)
            _compare_environments(first["surroundings"], environment, report)
            return _fit_and_score(trainer, run, report, signals, scorer, plots)


def _fit_and_score(
    trainer: Trainer,
    run: TrainingRun,
    report: TrainingReport,
    signals: Signals,
    scorer: RunScorer | None,
    plots: bool,
) -> bool:
    """As `fit`, with the checkpoints of earlier starts scored before, and new ones during the training."""
    submit: Callable[[int, Path], None] = lambda epoch, path: None  # noqa: E731
    if scorer:
        # A later checkpoint belongs to an epoch that is repeated.
        scorer.catch_up({e: path for e, path in run.written().items() if e <= trainer.epoch})
        submit = scorer.submit
    with signals.deferred() as stopping:
        done = fit(trainer, run, report, stopping=stopping, on_checkpoint=submit, plots=plots)
    if done and scorer:
        scorer.finish()
        scorer.report_table()
    return done


def _scoring(
    run: TrainingRun,
    network: torch.nn.Module,
    arch: str,
    options: ScoringOptions | None,
    report: TrainingReport,
) -> contextlib.AbstractContextManager[RunScorer | None]:
    """A context with the scorer of a run; None without options."""
    if options is None:
        return contextlib.nullcontext()
    return RunScorer(run, network, arch, options, report.line)


def export(
    network: torch.nn.Module,
    run: TrainingRun,
    taps: Taps | None,
    size: int | None,
    report: TrainingReport,
) -> None:
    """Write a network's graph to the run's folder for ONNX Runtime, unless it exists, or report why there is none.

    `taps` are its layers, by default the network's own; `size` is the height and width of the input, by default those
    of the network's preprocessing. Both are in the file's name.
    """
    height, width = scored_preprocessing(network, size).size
    path = run.folder / f"network-{height}x{width}{_named(taps)}.onnx"
    try:
        if not path.is_file():
            with torch.random.fork_rng(devices=[]):
                export_onnx(network, path, taps, input_size=(height, width))
    except (ValueError, ImportError) as error:
        report.line(
            f"there is no {path.name}, because the network cannot be exported: {one_line(error)[:200]}"
        )


def _named(taps: Taps | None) -> str:
    """Taps as part of a file's name, which differs for different taps."""
    if taps is None:
        return ""
    text = json.dumps(taps)
    words = re.sub(r"[^\w.,=]+", "-", ",".join(taps)).strip("-")[:60]
    return f"-{words}-{zlib.crc32(text.encode()):08x}"


def _config(
    recipe: Recipe, images: TrainingImages, environment: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "recipe": asdict(recipe),
        "data": {
            "classes": images.classes,
            "train_images": len(images.train),
            "val_images": len(images.val),
            "train_sha256": images.train.fingerprint,
            "val_sha256": images.val.fingerprint,
        },
        "surroundings": dict(environment),
    }


def _introduce(
    trainer: Trainer,
    images: TrainingImages,
    device: torch.device,
    resident: bool,
    report: TrainingReport,
) -> None:
    recipe = trainer.recipe
    report.line(
        f"{recipe.arch}, {len(images.classes)} classes, {len(images.train)} + {len(images.val)} images of"
        f" {recipe.image_size} × {recipe.image_size} {'on the device' if resident else 'read from the cache'},"
        f" batches of {recipe.batch_size}, augmentation {recipe.augment}, on {describe_device(device)}"
    )
    for effect in recipe.effects(device):
        report.line(effect)
    if trainer.epoch >= recipe.epochs:
        report.line(f"{trainer.epoch} epochs are done; use --epochs to train longer")
    elif trainer.epoch or trainer.step:
        report.line(f"continuing after epoch {trainer.epoch}, step {trainer.step} of the next")


def _compare_environments(
    before: Mapping[str, str], now: Mapping[str, str], report: TrainingReport
) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            report.line(
                f"the run began with {name} {before.get(name)} and continues with {value}: its last bits may differ"
                " from those of an uninterrupted run"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.train",
        description="Train a network by the paper's recipe; rerun to continue a run that was stopped.",
    )
    add = parser.add_argument
    add("--data", required=True, metavar="DIR|ZIP", help="train/CLASS/… and val/CLASS/…")
    add("--out", required=True, metavar="RUN", help="the run's folder")
    recipe = parser.add_argument_group("recipe", "The defaults are the paper's for ImageNet.")
    for name, each in FIELDS.items():
        text, choices = each.metadata["help"], each.metadata["choices"]
        if isinstance(each.default, bool):
            recipe.add_argument(flag(name), action="store_true", help=text)
            continue
        kind: dict[str, Any] = {"type": type(each.default), "metavar": "X"}
        if choices:
            kind = {"choices": choices}
        text += f" (default: {each.default})"
        recipe.add_argument(flag(name), default=each.default, help=text, **kind)
    add("--device", default="auto", help="auto, cpu, cuda[:N] or rocm[:N] (default: auto)")
    where = (
        "where decoded images are kept; auto: on a GPU with twice as much memory free, else on disk"
    )
    add("--where", choices=WHERE, default="auto", help=where)
    cache = "folder for decoded images (default: FASTRDM_CACHE, or the user's cache)"
    add("--cache", metavar="DIR", help=cache)
    plots = (
        "write neither TensorBoard's files nor curve.png; needs neither tensorboard nor matplotlib"
    )
    add("--no-plots", dest="plots", action="store_false", help=plots)
    _add_scoring(parser.add_argument_group("scoring"))
    return parser


def _add_scoring(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--score", metavar="DIR", help="score each checkpoint against the studies in this folder")
    sets = "names of the studies to score against, such as 92,118 (default: all)"
    add("--score-sets", type=_names, metavar="A,B", help=sets)
    modality = (
        "which of the challenge's data: fmri (EVC, IT), meg (early, late) or both (default: both)"
    )
    add("--score-modality", choices=("fmri", "meg", "both"), help=modality)
    regions = "names of the regions to score against, such as evc,it (default: all)"
    add("--score-regions", type=_names, metavar="A,B", help=regions)
    taps = "layers to score, each [NAME=]LAYER[@TOKENS], as for `fastrdm score --taps` (default: the network's own)"
    add("--score-taps", type=_names, metavar="A,B", help=taps)
    size = "height and width of the stimuli (default: the network's preprocessing)"
    add("--score-size", type=int, metavar="N", help=size)
    device = "where to score: as --device (default: where the network is trained)"
    add("--score-device", metavar="X", help=device)
    mode = "async: score a copy of the weights while the training goes on; sync: the training waits (default: async)"
    add("--score-mode", choices=("async", "sync"), help=mode)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _check_scoring(options: Mapping[str, Any]) -> None:
    """Refuse options of scoring without `--score`, but for `--score-size`, which is also that of the exported graph."""
    names = "sets", "modality", "regions", "taps", "device", "mode"
    for name in (f"score_{each}" for each in names):
        if options[name] is not None and options["score"] is None:
            raise ValueError(f"{flag(name)} needs --score DIR")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = vars(_parser().parse_args(argv))
    words = ["python", "-m", "models.train", *(sys.argv[1:] if argv is None else argv)]

    def work(signals: Signals) -> bool:
        _check_scoring(options)
        recipe = Recipe(**{name: options.pop(name) for name in FIELDS})
        return train(recipe=recipe, signals=signals, **options)

    return run_command("models.train", work, f"stopped; to continue: {shlex.join(words)}")


if __name__ == "__main__":
    sys.exit(main())
