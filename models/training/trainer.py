"""A network in training, step by step, and all that its next step follows from."""

import contextlib
import copy
import math
import os
import pkgutil
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from fastrdm.images import Preprocessing
from fastrdm.runtimes import import_arch
from models.training.augment import AUGMENTATIONS, Normalise
from models.training.batches import Batches
from models.training.recipe import PRECISIONS, Recipe
from models.training.report import Report
from models.training.run import Row

# Steps between looks at the loss: on a GPU a look waits for the step to end.
_LOOK_EVERY = 20


# What the random numbers of a step are drawn for.
_ORDER, _AUGMENT = 0, 1


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
        check_precision(recipe.amp, device)
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
        "module:callable" as for `fastrdm.runtimes.import_arch`; the callable takes `num_classes`.
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
            f"--arch {arch} builds no network with num_classes={num_classes}: {type(error).__name__}: {one_line(error)}"
        ) from error
    if not isinstance(network, torch.nn.Module):
        raise ValueError(f"--arch {arch} gives a {type(network).__name__}, no torch.nn.Module")
    return network


def one_line(error: BaseException) -> str:
    """An error's message on one line, its beginning at least."""
    return " ".join(str(error).split())[:200]


def _probe(network: torch.nn.Module, recipe: Recipe, num_classes: int) -> None:
    """Raise unless the network, of which nothing changes, can be trained on such images."""
    size = recipe.image_size
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            output = copy.deepcopy(network).train()(torch.zeros(2, 3, size, size))
        except Exception as error:
            raise ValueError(
                f"{recipe.arch} does not run on images of --image-size {size}: {one_line(error)}"
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


def check_precision(amp: str, device: torch.device) -> None:
    """Raise ValueError for 16 bits that a device has not."""
    if amp == "fp16" and device.type != "cuda":
        raise ValueError("--amp fp16 needs a GPU; --amp bf16 runs on the CPU, too")
    if amp == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"--amp bf16: {name} has no bfloat16; --amp fp16 is for such")
