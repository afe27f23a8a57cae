"""Train a network by the paper's recipe: python -m models.training.train --data DIR|ZIP --out RUN.

Rerun the same command to go on with a run that was stopped or killed. docs/training.md says more.
"""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import Any

import torch
import torchvision

from fastrdm.networks import export_onnx
from fastrdm.studies import open_studies
from models.training.batches import WHERE, Batches
from models.training.data import ImageSet, find_images, training_pixels
from models.training.recipe import FIELDS, Recipe, flag
from models.training.report import Report
from models.training.run import Run
from models.training.scoring import Scorer
from models.training.signals import Signals, Stopped
from models.training.trainer import Trainer, build_network, one_line, preprocessing_of


def choose_device(word: str = "auto") -> torch.device:
    """Find the device that a word names.

    Parameters
    ----------
    word : str
        "cpu", "cuda" or "rocm", the latter two with the GPU's number where it is not the first, as in "cuda:1"; "auto"
        is the first GPU that torch sees, else the CPU.

    Returns
    -------
    torch.device
        ROCm's GPUs are called "cuda", as torch does.

    Raises
    ------
    ValueError
        If it is not there.
    """
    kind, _, number = word.partition(":")
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    built_for = "rocm" if torch.version.hip else "cuda" if torch.version.cuda else "cpu"
    if word == "auto":
        return torch.device("cuda:0" if n_gpus else "cpu")
    if word == "cpu":
        return torch.device("cpu")
    if kind not in ("cuda", "rocm") or not (number or "0").isdecimal():
        raise ValueError(f"--device must be auto, cpu, cuda[:N] or rocm[:N], not {word!r}")
    if kind != built_for or int(number or 0) >= n_gpus:
        raise ValueError(
            f"--device {word} is not here: torch {torch.__version__} is built for {built_for} and sees {n_gpus} GPUs"
        )
    return torch.device(f"cuda:{int(number or 0)}")


def describe_device(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cpu":
        return f"CPU ({torch.get_num_threads()} threads)"
    kind = "ROCm" if torch.version.hip else "CUDA"
    return f"{torch.cuda.get_device_name(device)} ({kind})"


def fit(
    trainer: Trainer,
    run: Run,
    report: Report,
    *,
    stopping: Callable[[], bool] = lambda: False,
    on_checkpoint: Callable[[int, Path], None] = lambda epoch, path: None,
) -> bool:
    """Train until the recipe's last epoch, writing all that is due.

    Parameters
    ----------
    trainer : Trainer
        As it was built, or restored.
    run : Run
        Where to write to.
    report : Report
    stopping : callable
        Asked after each step; when it says True, the state is written, in the middle of an epoch too.
    on_checkpoint : callable
        Given each epoch whose checkpoint was written, and its path.

    Returns
    -------
    bool
        Whether the last epoch is done.

    Raises
    ------
    DivergedError
        If the loss is NaN or infinite; what was written stays.
    """
    recipe = trainer.recipe
    with run.tensorboard(trainer.history) as add, report.training(trainer.images_left()):
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


def train(
    data: str | Path,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    device: str = "auto",
    where: str = "auto",
    cache: str | Path | None = None,
    score: str | Path | None = None,
    score_size: int | None = None,
    signals: Signals | None = None,
) -> bool:
    """Train a network, or go on with a run.

    Parameters
    ----------
    data : path
        As for `models.training.data.find_images`.
    out : path
        The run's folder.
    recipe : Recipe, optional
        The paper's by default.
    device : str
        As for `choose_device`.
    where : {"auto", "device", "host"}
        As for `models.training.batches.Batches`.
    cache : path, optional
        Folder for decoded images, as for `models.training.data.training_pixels`.
    score : path, optional
        Studies as for `fastrdm.open_studies`: each checkpoint is scored against them as it is written.
    score_size : int, optional
        Height and width of the stimuli; by default the network's preprocessing's.
    signals : Signals, optional
        Where signals are noted.

    Returns
    -------
    bool
        Whether the last epoch is done; if not, a signal came.

    Raises
    ------
    ValueError, OSError, MissingExtraError
        One sentence, before work starts: if an argument, the images or the folder are not as they should be.
    DivergedError
        If the loss becomes NaN or infinite.
    """
    recipe, report, signals = recipe or Recipe(), Report(), signals or Signals()
    chosen = choose_device(device)
    studies = open_studies(score, modality="both") if score is not None else []
    images = find_images(data)
    run = Run(out)
    with run.held():
        surroundings = {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "device": describe_device(chosen),
        }
        first = run.agree(_config(recipe, images, surroundings), _free())
        state = run.load()
        network = build_network(recipe.arch, len(images.classes), recipe.seed)
        preprocessing = preprocessing_of(network)
        splits = {
            split.name: Batches(
                training_pixels(
                    split, recipe.image_size, preprocessing.resize, cache, say=report.line
                ),
                split.labels,
                chosen,
                where,
            )
            for split in (images.train, images.val)
        }
        # While the network is on the CPU, and as it was built.
        graph = export(run, network, score_size, report, needed=bool(studies))
        trainer = Trainer(recipe, network, **splits, num_classes=len(images.classes), device=chosen)
        if state is not None:
            trainer.restore(state)
        _introduce(trainer, images, chosen, splits["train"].resident, report)
        for name, now in surroundings.items():
            if first["surroundings"].get(name) != now:
                report.line(
                    f"the run began with {name} {first['surroundings'].get(name)} and goes on with {now}:"
                    " its last bits may differ from those of a run without a break"
                )
        with contextlib.ExitStack() as stack:
            submit: Callable[[int, Path], None] = lambda epoch, path: None  # noqa: E731
            if studies and graph is not None:
                scorer = stack.enter_context(Scorer(run, graph, studies, report.line))
                for epoch, path in run.written().items():
                    # A newer one is of an epoch that is repeated.
                    if epoch <= trainer.epoch:
                        scorer.submit(epoch, path)
                submit = scorer.submit
            with signals.noted() as stopping:
                done = fit(trainer, run, report, stopping=stopping, on_checkpoint=submit)
            if done and studies:
                scorer.finish()
    return done


def export(
    run: Run, network: torch.nn.Module, size: int | None, report: Report, *, needed: bool
) -> Path | None:
    """Write the network's graph beside its checkpoints, for which `fastrdm score --arch` takes it.

    Parameters
    ----------
    run : Run
        Where the graph of this size is written to, unless it is there.
    network : torch.nn.Module
        Its taps are the graph's, or its direct children.
    size : int, optional
        Height and width of the input; by default those of the network's preprocessing.
    report : Report
    needed : bool
        Whether a network that cannot be exported is an error, or told and left.

    Returns
    -------
    Path or None
        The ONNX file.

    Raises
    ------
    ValueError, MissingExtraError
        As for `fastrdm.export_onnx`.
    """
    height, width = (size, size) if size else preprocessing_of(network).size
    path = run.folder / f"network-{height}x{width}.onnx"
    if path.is_file():
        return path
    try:
        with torch.random.fork_rng(devices=[]):
            return export_onnx(network, path, input_size=(height, width))
    except (ValueError, ImportError) as error:
        if needed:
            raise
        report.line(f"{path.name} is not written, so --score cannot be used: {one_line(error)}")
        return None


def _config(recipe: Recipe, images: ImageSet, surroundings: Mapping[str, str]) -> dict[str, Any]:
    return {
        "recipe": asdict(recipe),
        "data": {
            "classes": images.classes,
            "train_images": len(images.train),
            "val_images": len(images.val),
            "train_sha256": images.train.fingerprint,
            "val_sha256": images.val.fingerprint,
        },
        "surroundings": dict(surroundings),
    }


def _free() -> list[str]:
    return [name for name, each in FIELDS.items() if each.metadata["free"]]


def _introduce(
    trainer: Trainer, images: ImageSet, device: torch.device, resident: bool, report: Report
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
        report.line(f"{trainer.epoch} epochs are done; --epochs raises their number")
    elif trainer.epoch or trainer.step:
        report.line(f"goes on after epoch {trainer.epoch}, step {trainer.step} of the next")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.training.train",
        description="Train a network by the paper's recipe; rerun to go on with a run that was stopped.",
    )
    parser.add_argument(
        "--data", required=True, metavar="DIR|ZIP", help="train/CLASS/… and val/CLASS/…"
    )
    parser.add_argument("--out", required=True, metavar="RUN", help="the run's folder")
    recipe = parser.add_argument_group("recipe", "The defaults are the paper's, of ImageNet.")
    for name, each in FIELDS.items():
        assert each.default is not MISSING
        kind: dict[str, Any] = {"type": type(each.default), "metavar": "X"}
        if isinstance(each.default, bool):
            kind = {"action": "store_true"}
        elif each.metadata["choices"]:
            kind = {"choices": each.metadata["choices"]}
        text = each.metadata["help"]
        if not isinstance(each.default, bool):
            text += f" (default: {each.default})"
        recipe.add_argument(flag(name), default=each.default, help=text, **kind)
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda[:N] or rocm[:N] (default: auto)"
    )
    parser.add_argument(
        "--where",
        choices=WHERE,
        default="auto",
        help="where the decoded images lie; auto: on a GPU with room for twice as many, else on disk (default: auto)",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="folder for decoded images (default: FASTRDM_CACHE, or the user's own)",
    )
    parser.add_argument(
        "--score", metavar="DIR", help="score each checkpoint against the studies there, meanwhile"
    )
    parser.add_argument(
        "--score-size",
        type=int,
        metavar="N",
        help="height and width of the stimuli (default: the network's preprocessing)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the status is 0, 1 for a failure told in one line, 130 or 143 when stopped."""
    given = _parser().parse_args(argv)
    options = vars(given)
    signals = Signals()
    try:
        recipe = Recipe(**{name: options.pop(name) for name in FIELDS})
        with signals:
            if train(recipe=recipe, signals=signals, **options):
                return 0
        number = signals.number
    except Stopped as stopped:
        number = stopped.number
    except (ValueError, OSError, ImportError) as error:
        print(f"models.training.train: error: {error}", file=sys.stderr)
        return 1
    words = ["python", "-m", "models.training.train", *(sys.argv[1:] if argv is None else argv)]
    print(f"stopped; to go on: {shlex.join(words)}", file=sys.stderr)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
