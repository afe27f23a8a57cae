"""Train a network by the paper's recipe: python -m models.train --data DIR|ZIP --out RUN.

Rerun the same command to go on with a run that was stopped or killed. docs/training.md says more.
"""

import argparse
import contextlib
import copy
import math
import os
import pkgutil
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torchvision

from fastrdm.checkpoints import import_arch
from fastrdm.export import export_onnx
from fastrdm.stimuli import Preprocessing
from fastrdm.study import open_studies
from models.augment import AUGMENTATIONS, Normalise
from models.batches import WHERE, Batches
from models.data import ImageSet, find_images, training_pixels
from models.report import Report
from models.run import Row, Run
from models.scoring import Scorer

PRECISIONS: Mapping[str, torch.dtype | None] = {
    "off": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
# Steps between looks at the loss: on a GPU a look waits for the step to end.
_LOOK_EVERY = 20
# What the random numbers of a step are drawn for.
_ORDER, _AUGMENT = 0, 1


def _option(default: Any, text: str, *, free: bool = False, choices: Any = None) -> Any:
    return field(default=default, metadata={"help": text, "free": free, "choices": choices})


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the paper's (Meijer 2019), of ImageNet.

    The paper gives the optimiser's four numbers, the epochs, and that images are resized and normalised as in testing:
    hence no augmentation. It leaves batch size and decay to the reference recipe of PyTorch and torchvision: 256
    images, the learning rate a tenth after every 30 epochs. The last batch of an epoch is what is left, as there.
    """

    arch: str = _option("models.networks:resnet20", "MODULE:CALLABLE that takes num_classes")
    epochs: int = _option(120, "epochs in all; may be raised later", free=True)
    batch_size: int = _option(256, "images a step")
    lr: float = _option(0.1, "learning rate at the start")
    momentum: float = _option(0.9, "of SGD")
    weight_decay: float = _option(1e-4, "of all parameters")
    decay_every: int = _option(
        30, "epochs after which the learning rate is multiplied by --decay-by"
    )
    decay_by: float = _option(0.1, "see --decay-every")
    image_size: int = _option(224, "height and width of the images, resized without a crop")
    augment: str = _option(
        "none",
        "none, as in the paper; flip: half of the images mirrored; crop: a random part of each enlarged, and flip",
        choices=tuple(AUGMENTATIONS),
    )
    seed: int = _option(0, "of weights, order and augmentation")
    amp: str = _option(
        "off", "products in 16 bits under autocast, weights in float32", choices=tuple(PRECISIONS)
    )
    channels_last: bool = _option(False, "keep channels innermost in memory")
    compile: bool = _option(False, "run the network through torch.compile")
    deterministic: bool = _option(False, "on a GPU: only kernels that repeat to the last bit")
    checkpoint_every: int = _option(
        5, "epochs between checkpoints, beside those of epoch 1 and the last", free=True
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "decay_every", "image_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{_flag(name)} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "momentum", "weight_decay", "decay_by"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{_flag(name)} must be a number from 0 on, not {value}")
        if self.seed < 0:
            raise ValueError(f"--seed must be at least 0, not {self.seed}")
        for name in ("augment", "amp"):
            choices = _FIELDS[name].metadata["choices"]
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{_flag(name)} must be one of {', '.join(choices)}, not {getattr(self, name)!r}"
                )

    def rate(self, epochs_done: int) -> float:
        """The learning rate of the epoch that comes after so many: that of torch's `StepLR`."""
        return self.lr * self.decay_by ** (epochs_done // self.decay_every)

    def due(self, epoch: int) -> bool:
        """Whether there is a checkpoint after this epoch."""
        return epoch in (1, self.epochs) or epoch % self.checkpoint_every == 0

    def effects(self, device: torch.device) -> list[str]:
        """What the options change of the numbers, a sentence each."""
        gpu = device.type == "cuda"
        said = {
            f"--amp {self.amp}: products in {self.amp}, another run than one in float32": (
                self.amp != "off"
            ),
            "--channels-last: other kernels, so other last bits; dropout falls on other places": self.channels_last,
            "--compile: fused kernels, so other last bits; dropout falls on other places; each start compiles anew": (
                self.compile
            ),
            "GPU kernels may add in another order each time, so a repeated or resumed run differs in its last bits;"
            " --deterministic forbids that": gpu and not self.deterministic,
            "convolutions round to TF32 where the GPU has it, torch's default": (
                gpu and self.amp == "off" and torch.backends.cudnn.allow_tf32
            ),
        }
        return [text for text, holds in said.items() if holds]


_FIELDS = {each.name: each for each in fields(Recipe)}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


class DivergedError(ValueError):
    """The loss is NaN or infinite."""


class Trainer:
    """A network in training, and all that its next step follows from.

    Parameters
    ----------
    recipe : Recipe
    network : torch.nn.Module
        As `build_network` gives it; changed in place.
    train, val : Batches
        Pixels and labels, on `device`.
    num_classes : int
    device : torch.device

    Attributes
    ----------
    network : torch.nn.Module
    epoch : int
        Epochs done.
    step : int
        Steps done of the next one.
    history : list of dict
        A row of metrics for each epoch done.

    Raises
    ------
    ValueError
        Before work starts: if the network cannot be trained on such images, or the last batch would be of
        one image, which a batch norm cannot normalise; or the device lacks what is asked for.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: torch.nn.Module,
        train: Batches,
        val: Batches,
        num_classes: int,
        device: torch.device,
    ) -> None:
        if len(train) % recipe.batch_size == 1:
            raise ValueError(
                f"--batch-size {recipe.batch_size} leaves a last batch of one image of {len(train)}, whose variance a"
                " batch norm cannot take; choose another"
            )
        _check_precision(recipe.amp, device)
        if recipe.deterministic:
            # What cuBLAS asks for, before it is first used.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(recipe.deterministic)
        torch.backends.cudnn.benchmark = not recipe.deterministic
        # Dropout's numbers are drawn from torch's own generators.
        torch.manual_seed(recipe.seed)
        self.recipe, self.network, self._device = recipe, network, device
        self._train, self._val = train, val
        self._top = min(5, num_classes)
        _probe(network, recipe, num_classes)
        self._format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.network.to(device, memory_format=self._format)
        self._forward = torch.compile(self.network) if recipe.compile else self.network
        self._normalise = Normalise(preprocessing_of(self.network), device)
        self._augment = AUGMENTATIONS[recipe.augment]
        self._loss = torch.nn.CrossEntropyLoss()
        self._optimiser = torch.optim.SGD(
            self.network.parameters(),
            recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16")
        self.epoch = self.step = 0
        self.history: list[Row] = []
        self._begin()

    def _begin(self) -> None:
        # Of the epoch so far: loss × images, images named right, images; on the device, so that no step waits.
        self._sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        self._seconds = 0.0

    def state(self) -> dict[str, Any]:
        """All that the next step follows from, as tensors, numbers and text."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "rng_gpu": torch.cuda.get_rng_state(self._device) if self._on_gpu else None,
            "epoch": self.epoch,
            "step": self.step,
            "sums": self._sums,
            "seconds": self._seconds,
            "history": self.history,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if self._on_gpu and state["rng_gpu"] is not None:
            torch.cuda.set_rng_state(state["rng_gpu"], self._device)
        self.epoch, self.step = state["epoch"], state["step"]
        self._sums = state["sums"].to(self._device)
        self._seconds, self.history = state["seconds"], list(state["history"])

    @property
    def _on_gpu(self) -> bool:
        return bool(self._device.type == "cuda")

    def images_left(self) -> int:
        """Images to train on until the last epoch is done."""
        done = self.epoch * len(self._train) + self.step * self.recipe.batch_size
        return self.recipe.epochs * len(self._train) - done

    def run_epoch(self, stopping: Callable[[], bool], report: Report) -> bool:
        """Train one epoch, or what is left of it, and validate.

        Parameters
        ----------
        stopping : callable
            Asked after each step; True ends the call there, and a later one goes on.
        report : Report
            Told how it goes.

        Returns
        -------
        bool
            Whether the epoch is done; its metrics are then in `history`.

        Raises
        ------
        DivergedError
            If the loss is NaN or infinite.
        """
        if not self._train_epoch(stopping, report):
            return False
        found = self._validate(stopping, report)
        if found is None:
            return False
        loss, right, n = self._sums.tolist()
        self.history.append(
            {
                "epoch": self.epoch + 1,
                "lr": self.recipe.rate(self.epoch),
                "train_loss": loss / n,
                "train_top1": 100 * right / n,
                **found,
                "images_per_s": n / self._seconds,
                "seconds": self._seconds,
                "time": time.time(),
            }
        )
        self.epoch, self.step = self.epoch + 1, 0
        self._begin()
        return True

    def _rng(self, purpose: int, step: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.recipe.seed, purpose, self.epoch, step])

    def _train_epoch(self, stopping: Callable[[], bool], report: Report) -> bool:
        size = self.recipe.batch_size
        order, done = self._rng(_ORDER).permutation(len(self._train)), self.step * size
        report.begin(f"epoch {self.epoch + 1}/{self.recipe.epochs}", done, len(order))
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.rate(self.epoch)
        self.network.train()
        before, clock = self._seconds, time.perf_counter()
        with contextlib.closing(self._train.serve(order[done:], size)) as batches:
            for pixels, labels in batches:
                if stopping():
                    return False
                self._step(pixels, labels)
                self.step += 1
                report.trained(len(labels))
                self._seconds = before + time.perf_counter() - clock
                if self.step % _LOOK_EVERY == 0:
                    self._look(report)
        self._look(report)
        self._seconds = before + time.perf_counter() - clock
        return True

    def _step(self, pixels: torch.Tensor, labels: torch.Tensor) -> None:
        x = self._normalise(self._augment(pixels, self._rng(_AUGMENT, self.step)))
        with self._autocast():
            output = self._forward(x.contiguous(memory_format=self._format))
            loss = self._loss(output, labels)
        self._optimiser.zero_grad()
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimiser)
        self._scaler.update()
        n = len(labels)
        right = (output.detach().argmax(1) == labels).sum()
        self._sums += torch.stack([loss.detach().double() * n, right, torch.full_like(right, n)])

    def _autocast(self) -> Any:
        return torch.autocast(
            self._device.type, PRECISIONS[self.recipe.amp], enabled=self.recipe.amp != "off"
        )

    def _look(self, report: Report) -> None:
        loss, _, n = self._sums.tolist()
        if not n:
            return
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} in epoch {self.epoch + 1}, by step {self.step}; what was written up to epoch"
                f" {self.epoch} stays as it is; another run with a lower --lr than {self.recipe.lr:g} may do"
            )
        report.tell(loss / n, n / self._seconds)

    def _validate(self, stopping: Callable[[], bool], report: Report) -> Row | None:
        report.begin("validation", 0, len(self._val))
        self.network.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        order = np.arange(len(self._val))
        batches = self._val.serve(order, self.recipe.batch_size)
        with contextlib.closing(batches), torch.inference_mode(), self._autocast():
            for pixels, labels in batches:
                if stopping():
                    return None
                x = self._normalise(pixels).contiguous(memory_format=self._format)
                output = self._forward(x).float()
                loss = torch.nn.functional.cross_entropy(output, labels, reduction="sum")
                right = output.topk(self._top).indices == labels[:, None]
                sums += torch.stack([loss.double(), right[:, 0].sum(), right.sum()])
                report.advance(len(labels))
        loss, top1, top5 = (sums / len(order)).tolist()
        return {"val_loss": loss, "val_top1": 100 * top1, "val_top5": 100 * top5}


def preprocessing_of(network: torch.nn.Module) -> Preprocessing:
    """A network's own preprocessing, or the development kit's."""
    return getattr(network, "preprocessing", None) or Preprocessing()


def build_network(arch: str, num_classes: int, seed: int = 0) -> torch.nn.Module:
    """Build a network for a number of classes; torch's generators stay as they are.

    Parameters
    ----------
    arch : str
        "module:callable" as for `fastrdm.checkpoints.import_arch`; the callable takes `num_classes`.
    num_classes : int
    seed : int
        Of the random weights.

    Returns
    -------
    torch.nn.Module
        With random weights.

    Raises
    ------
    ValueError
        If there is no such callable, or it does not build a network for so many classes.
    """
    # Its errors say what is wrong with the name.
    import_arch(arch)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = pkgutil.resolve_name(arch)(num_classes=num_classes)
    except Exception as error:
        raise ValueError(
            f"--arch {arch} builds no network with num_classes={num_classes}: {type(error).__name__}: {_line(error)}"
        ) from error
    if not isinstance(network, torch.nn.Module):
        raise ValueError(f"--arch {arch} gives a {type(network).__name__}, no torch.nn.Module")
    return network


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _probe(network: torch.nn.Module, recipe: Recipe, num_classes: int) -> None:
    """Raise unless the network, of which nothing changes, can be trained on such images."""
    size = recipe.image_size
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            output = copy.deepcopy(network).train()(torch.zeros(2, 3, size, size))
        except Exception as error:
            raise ValueError(
                f"{recipe.arch} does not run on images of --image-size {size}: {_line(error)}"
            ) from error
    if not isinstance(output, torch.Tensor):
        raise ValueError(
            f"{recipe.arch} gives a {type(output).__name__} in training; networks with auxiliary outputs, such as"
            " GoogLeNet and Inception, are not trained here"
        )
    if output.shape != (2, num_classes):
        raise ValueError(
            f"{recipe.arch} gives {tuple(output.shape)} for two images and {num_classes} classes"
        )


def _check_precision(amp: str, device: torch.device) -> None:
    if amp == "fp16" and device.type != "cuda":
        raise ValueError("--amp fp16 needs a GPU; --amp bf16 runs on the CPU, too")
    if amp == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"--amp bf16: {name} has no bfloat16; --amp fp16 is for such")


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


class Stopped(BaseException):
    """Ctrl-C or SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """Ctrl-C and SIGTERM within a context: raised as `Stopped`, or noted for the next step to end on.

    A second one is raised in any case.
    """

    def __init__(self) -> None:
        self.number = 0
        self._patient = False

    def __enter__(self) -> "Signals":
        handled = (signal.SIGINT, signal.SIGTERM)
        self._before = {each: signal.signal(each, self._handle) for each in handled}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number or not self._patient:
            raise Stopped(number)
        self.number = number

    @contextlib.contextmanager
    def noted(self) -> Iterator[Callable[[], bool]]:
        """Note signals instead of raising them; gives what says whether one came."""
        self._patient = True
        try:
            yield lambda: bool(self.number)
        finally:
            self._patient = False


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
        As for `models.data.find_images`.
    out : path
        The run's folder.
    recipe : Recipe, optional
        The paper's by default.
    device : str
        As for `choose_device`.
    where : {"auto", "device", "host"}
        As for `models.batches.Batches`.
    cache : path, optional
        Folder for decoded images, as for `models.data.training_pixels`.
    score : path, optional
        Studies as for `fastrdm.study.open_studies`: each checkpoint is scored against them as it is written.
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
        report.line(f"{path.name} is not written, so --score cannot be used: {_line(error)}")
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
    return [name for name, each in _FIELDS.items() if each.metadata["free"]]


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
        prog="python -m models.train",
        description="Train a network by the paper's recipe; rerun to go on with a run that was stopped.",
    )
    parser.add_argument(
        "--data", required=True, metavar="DIR|ZIP", help="train/CLASS/… and val/CLASS/…"
    )
    parser.add_argument("--out", required=True, metavar="RUN", help="the run's folder")
    recipe = parser.add_argument_group("recipe", "The defaults are the paper's, of ImageNet.")
    for name, each in _FIELDS.items():
        assert each.default is not MISSING
        kind: dict[str, Any] = {"type": type(each.default), "metavar": "X"}
        if isinstance(each.default, bool):
            kind = {"action": "store_true"}
        elif each.metadata["choices"]:
            kind = {"choices": each.metadata["choices"]}
        text = each.metadata["help"]
        if not isinstance(each.default, bool):
            text += f" (default: {each.default})"
        recipe.add_argument(_flag(name), default=each.default, help=text, **kind)
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
        recipe = Recipe(**{name: options.pop(name) for name in _FIELDS})
        with signals:
            if train(recipe=recipe, signals=signals, **options):
                return 0
        number = signals.number
    except Stopped as stopped:
        number = stopped.number
    except (ValueError, OSError, ImportError) as error:
        print(f"models.train: error: {error}", file=sys.stderr)
        return 1
    words = ["python", "-m", "models.train", *(sys.argv[1:] if argv is None else argv)]
    print(f"stopped; to go on: {shlex.join(words)}", file=sys.stderr)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
