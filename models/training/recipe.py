"""How a network is trained: the paper's numbers as named defaults."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from models.training.augment import AUGMENTATIONS

PRECISIONS: Mapping[str, torch.dtype | None] = {
    "off": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


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
                raise ValueError(f"{flag(name)} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "momentum", "weight_decay", "decay_by"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{flag(name)} must be a number from 0 on, not {value}")
        if self.seed < 0:
            raise ValueError(f"--seed must be at least 0, not {self.seed}")
        for name in ("augment", "amp"):
            choices = FIELDS[name].metadata["choices"]
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{flag(name)} must be one of {', '.join(choices)}, not {getattr(self, name)!r}"
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


FIELDS = {each.name: each for each in fields(Recipe)}


def flag(name: str) -> str:
    """The option that sets a field."""
    return f"--{name.replace('_', '-')}"
