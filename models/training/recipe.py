"""The settings of a training run, with the paper's as defaults."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from fastrdm._base import check_choice, check_integer
from models.training.augment import AUGMENTATIONS

PRECISIONS: Mapping[str, torch.dtype | None] = {
    "off": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def _option(default: Any, text: str, *, changeable: bool = False, choices: Any = None) -> Any:
    metadata = {"help": text, "changeable": changeable, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run; the defaults are the paper's for ImageNet (Meijer 2019).

    The paper reports the optimiser's parameters, the number of epochs, and that images are resized and normalised as in
    testing, hence no augmentation. Batch size and decay are those of the reference recipe of PyTorch and torchvision:
    256 images, and a tenth of the learning rate after every 30 epochs. As there, the last batch of an epoch has the
    remaining images.
    """

    arch: str = _option("models.networks:resnet20", "MODULE:CALLABLE that takes num_classes")
    epochs: int = _option(120, "total number of epochs; may be raised later", changeable=True)
    batch_size: int = _option(256, "images per step")
    lr: float = _option(0.1, "initial learning rate")
    momentum: float = _option(0.9, "momentum of SGD")
    weight_decay: float = _option(1e-4, "weight decay of all parameters")
    decay_every: int = _option(
        30, "epochs between multiplications of the learning rate by --decay-by"
    )
    decay_by: float = _option(0.1, "see --decay-every")
    image_size: int = _option(224, "height and width of the images, resized without a crop")
    augment: str = _option(
        "none",
        "none, as in the paper; flip: mirror half of the images; crop: enlarge a random part of each image, and flip",
        choices=tuple(AUGMENTATIONS),
    )
    seed: int = _option(0, "seed of weights, order and augmentation")
    amp: str = _option(
        "off", "16-bit products under autocast, weights in float32", choices=tuple(PRECISIONS)
    )
    channels_last: bool = _option(False, "use the channels-last memory format")
    compile: bool = _option(False, "run the network through torch.compile")
    deterministic: bool = _option(
        False, "on a GPU: use only kernels with bit-identical repetitions"
    )
    checkpoint_every: int = _option(
        5, "epochs between checkpoints, besides those of epoch 1 and the last", changeable=True
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "decay_every", "image_size", "checkpoint_every"):
            check_integer(getattr(self, name), flag(name), 1)
        for name in ("lr", "momentum", "weight_decay", "decay_by"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{flag(name)} must be a finite number of at least 0, not {value}")
        check_integer(self.seed, "--seed", 0)
        for name in ("augment", "amp"):
            check_choice(getattr(self, name), FIELDS[name].metadata["choices"], flag(name))

    def rate(self, epochs_done: int) -> float:
        """Return the learning rate after a number of epochs, as torch's `StepLR`."""
        return self.lr * self.decay_by ** (epochs_done // self.decay_every)

    def due(self, epoch: int) -> bool:
        """Return whether there is a checkpoint after this epoch."""
        return epoch in (1, self.epochs) or epoch % self.checkpoint_every == 0

    def effects(self, device: torch.device) -> list[str]:
        """Return how the options change the results, one sentence for each."""
        gpu = device.type == "cuda"
        effects = {
            f"--amp {self.amp}: products in {self.amp}; results differ from a run in float32": self.amp
            != "off",
            "--channels-last: other kernels, so other last bits; dropout differs": self.channels_last,
            "--compile: fused kernels, so other last bits; dropout differs; each start compiles again": self.compile,
            "GPU kernels may sum in any order, so a repeated or resumed run differs in its last bits; --deterministic"
            " prevents that": gpu and not self.deterministic,
            "convolutions use TF32 if the GPU supports it, torch's default": (
                gpu and self.amp == "off" and torch.backends.cudnn.allow_tf32
            ),
        }
        return [text for text, applies in effects.items() if applies]


FIELDS = {each.name: each for each in fields(Recipe)}


def flag(name: str) -> str:
    """Return the command-line option of a field."""
    return f"--{name.replace('_', '-')}"
