"""A network in training: its steps, epochs and state."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from models.training.augment import AUGMENTATIONS, Normalise
from models.training.batches import Batches
from models.training.devices import check_precision
from models.training.network import check_network, preprocessing_of
from models.training.recipe import PRECISIONS, Recipe
from models.training.report import TrainingReport
from models.training.run import EpochMetrics

# Steps between checks of the loss: on a GPU a check waits for the end of the step.
_CHECK_EVERY = 20
# Streams of random numbers.
_ORDER, _AUGMENT = 0, 1


class DivergedError(ValueError):
    """The loss is NaN or infinite."""


class Trainer:
    """A network in training, which changes in place, and its state.

    `epoch` and `step` count what is complete; `history` has the metrics of each complete epoch. Raise ValueError if the
    network cannot be trained on such images, the last batch would have one image, which batch norm cannot normalise, or
    the device lacks the precision.
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
                f"--batch-size {recipe.batch_size} leaves a last batch of one image of {len(train)}, which batch norm"
                " cannot normalise; choose another size"
            )
        check_precision(recipe.amp, device)
        if recipe.deterministic:
            # cuBLAS reads this before its first use.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(recipe.deterministic)
        torch.backends.cudnn.benchmark = not recipe.deterministic
        # Dropout draws from torch's generators.
        torch.manual_seed(recipe.seed)
        self.recipe, self.network, self._device = recipe, network, device
        self._train, self._val = train, val
        self._top = min(5, num_classes)
        check_network(network, recipe, num_classes)
        self._format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.network.to(device, memory_format=self._format)
        self._forward = torch.compile(self.network) if recipe.compile else self.network
        self._normalise = Normalise(preprocessing_of(self.network), device)
        self._augment = AUGMENTATIONS[recipe.augment]
        self._optimiser = torch.optim.SGD(
            self.network.parameters(),
            recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16")
        self.epoch = self.step = 0
        self.history: list[EpochMetrics] = []
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        # Sums of the epoch: loss × images, images classified correctly, images. They stay on the device, so no
        # step waits for them.
        self._sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        self._seconds = 0.0

    def state(self) -> dict[str, Any]:
        """Return everything that determines the next step, as tensors, numbers and text."""
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
        """Continue from a result of `state`."""
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
        """Return the number of images to train on before the last epoch ends."""
        done = self.epoch * len(self._train) + self.step * self.recipe.batch_size
        return self.recipe.epochs * len(self._train) - done

    def run_epoch(self, stopping: Callable[[], bool], report: TrainingReport) -> bool:
        """Train for one epoch, or the rest of it, and validate; return whether it is complete.

        If `stopping`, called after each step, returns True, the call ends and a later call continues. Raise
        DivergedError if the loss is NaN or infinite.
        """
        if not self._train_epoch(stopping, report):
            return False
        validation = self._validate(stopping, report)
        if validation is None:
            return False
        loss, correct, n = self._sums.tolist()
        self.history.append(
            {
                "epoch": self.epoch + 1,
                "lr": self.recipe.rate(self.epoch),
                "train_loss": loss / n,
                "train_top1": 100 * correct / n,
                **validation,
                "images_per_s": n / self._seconds,
                "seconds": self._seconds,
                "time": time.time(),
            }
        )
        self.epoch, self.step = self.epoch + 1, 0
        self._begin_epoch()
        return True

    def _rng(self, purpose: int, step: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.recipe.seed, purpose, self.epoch, step])

    def _train_epoch(self, stopping: Callable[[], bool], report: TrainingReport) -> bool:
        size = self.recipe.batch_size
        order, done = self._rng(_ORDER).permutation(len(self._train)), self.step * size
        report.begin(f"epoch {self.epoch + 1}/{self.recipe.epochs}", done, len(order))
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.rate(self.epoch)
        self.network.train()
        before, clock = self._seconds, time.perf_counter()
        with contextlib.closing(self._train.iterate(order[done:], size)) as batches:
            for pixels, labels in batches:
                if stopping():
                    return False
                self._step(pixels, labels)
                self.step += 1
                report.trained(len(labels))
                self._seconds = before + time.perf_counter() - clock
                if self.step % _CHECK_EVERY == 0:
                    self._check_loss(report)
        self._check_loss(report)
        self._seconds = before + time.perf_counter() - clock
        return True

    def _step(self, pixels: torch.Tensor, labels: torch.Tensor) -> None:
        x = self._normalise(self._augment(pixels, self._rng(_AUGMENT, self.step)))
        with self._autocast():
            output = self._forward(x.contiguous(memory_format=self._format))
            loss = torch.nn.functional.cross_entropy(output, labels)
        self._optimiser.zero_grad()
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimiser)
        self._scaler.update()
        n = len(labels)
        correct = (output.detach().argmax(1) == labels).sum()
        self._sums += torch.stack(
            [loss.detach().double() * n, correct, torch.full_like(correct, n)]
        )

    def _autocast(self) -> Any:
        return torch.autocast(
            self._device.type, PRECISIONS[self.recipe.amp], enabled=self.recipe.amp != "off"
        )

    def _check_loss(self, report: TrainingReport) -> None:
        loss, _, n = self._sums.tolist()
        if not n:
            return
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} in epoch {self.epoch + 1}, by step {self.step}; files up to epoch {self.epoch} are"
                f" kept; a new run with a lower --lr than {self.recipe.lr:g} may converge"
            )
        report.update(loss / n, n / self._seconds)

    def _validate(
        self, stopping: Callable[[], bool], report: TrainingReport
    ) -> EpochMetrics | None:
        report.begin("validation", 0, len(self._val))
        self.network.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        order = np.arange(len(self._val))
        batches = self._val.iterate(order, self.recipe.batch_size)
        with contextlib.closing(batches), torch.inference_mode(), self._autocast():
            for pixels, labels in batches:
                if stopping():
                    return None
                x = self._normalise(pixels).contiguous(memory_format=self._format)
                output = self._forward(x).float()
                loss = torch.nn.functional.cross_entropy(output, labels, reduction="sum")
                correct = output.topk(self._top).indices == labels[:, None]
                sums += torch.stack([loss.double(), correct[:, 0].sum(), correct.sum()])
                report.advance(len(labels))
        loss, top1, top5 = (sums / len(order)).tolist()
        return {"val_loss": loss, "val_top1": 100 * top1, "val_top5": 100 * top5}
