"""What a proof measures: the device, the stimuli with their subjects, and how much of each."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fastrdm
from fastrdm.images import Preprocessing
from fastrdm.similarity import Target
from fastrdm.studies import Study
from fastrdm.studies.algonauts import image_sets
from fastrdm.tensors import check_precision

PRECISIONS = ("fp32", "tf32", "bf16")
SETS = {"118": 118, "92": 92}
"""Study → its number of images."""
_N_SUBJECTS = 15
# Epochs to score; the first and the last of a run have checkpoints, too.
EPOCHS = (1, 5, 10, 30, 60, 120)


@dataclass(frozen=True)
class Amounts:
    """How much to measure; the defaults are those of a GPU.

    `size` is the height and width of the stimuli, `parity_size` that for all networks. `n_checkpoints` are timed for
    each way to run them, `channels` has the activations of which `calc_rdm` makes an RDM, and `n_classes` limits those
    to train on (0: all).
    """

    size: int = 224
    parity_size: int = 224
    n_parity: int = 12
    n_checkpoints: int = 60
    conditions: tuple[int, ...] = (1000, 10_000)
    channels: int = 802_816
    epochs: int = 120
    n_classes: int = 0
    image_size: int = 64


QUICK = Amounts(
    size=32,
    # The smallest images for Inception-v3 have 75 × 75 pixels.
    parity_size=80,
    n_parity=3,
    n_checkpoints=2,
    conditions=(30, 60),
    channels=8192,
    epochs=2,
    n_classes=3,
    image_size=32,
)
"""For a rehearsal of every section on a CPU."""


@dataclass(frozen=True)
class Setting:
    """What the sections need to know. `data` is the folder of the studies; `zip` has the images to train on."""

    device: torch.device
    out: Path
    data: Path
    studies: tuple[Study, ...]
    amounts: Amounts = field(default_factory=Amounts)
    zip: Path | None = None
    deadline: float = float("inf")

    @property
    def preprocessing(self) -> Preprocessing:
        """That of all stimuli."""
        return Preprocessing((self.amounts.size, self.amounts.size))

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those of fp32, tf32 and bf16 that the device has."""
        return tuple(each for each in PRECISIONS if _has(self.device, each))

    def pixels(self) -> dict[str, NDArray[np.uint8]]:
        """Stimuli of each study."""
        return {each.name: self.preprocessing.pixels(each.stimuli) for each in self.studies}

    def left(self) -> float:
        """Seconds until the end of the section."""
        return self.deadline - time.monotonic()

    def wait(self) -> None:
        """Wait until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _has(device: torch.device, precision: str) -> bool:
    try:
        check_precision(precision, device)
    except ValueError:
        return False
    return True


def studies_in(images: Path | None, folder: Path) -> tuple[Path, tuple[Study, ...]]:
    """Open the challenge's two image sets in a folder, with simulated subjects if it has no targets.

    Without a folder, images are drawn. What has to be written is written to `folder`. Returns the folder of the studies
    and the studies. Raise ValueError if the folder lacks one of the sets.
    """
    sets = image_sets(images) if images else {}
    if images and (lacking := [name for name in SETS if name not in sets]):
        raise ValueError(f"{images} has no Training_Data/{lacking[0]}_Image_Set")
    data = images
    if not all(name in sets and "fmri" in sets[name].targets for name in SETS):
        data = folder
        shown = {name: each.images for name, each in sets.items()} or {
            name: drawn(folder / f"{name}-images", n) for name, n in {**SETS, "78": 78}.items()
        }
        for name in SETS:
            _write(folder / name, name, shown[name], shown.get("78", ()))
    assert data is not None
    return data, tuple(fastrdm.open_studies(data, list(SETS)))


def _write(folder: Path, name: str, stimuli: Sequence[Path], test: Sequence[Path]) -> None:
    """Write a study whose subjects see the layout and the colours of the images."""
    for kind, paths in (("stimuli", stimuli), ("test_stimuli", test)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for path in paths:
            (folder / kind / path.name).write_bytes(path.read_bytes())
    small = Preprocessing((8, 8)).pixels(list(stimuli)).astype(np.float64)
    features = {"evc": small.mean(axis=3).reshape(len(small), -1), "it": small.mean(axis=(1, 2))}
    rdms = {}
    for k, (region, rows) in enumerate(features.items()):
        rdm = fastrdm.calc_rdm(rows)
        noise = np.random.default_rng(k).standard_normal((_N_SUBJECTS, len(rdm)))
        rdms[region] = fastrdm.square((rdm - rdm.mean()) / rdm.std() + 2 * noise + 20)
    np.savez(folder / "targets.npz", **rdms)
    tables = [f'[targets.{region}]\nfile = "targets.npz"\nkey = "{region}"\n' for region in rdms]
    head = f'name = "{name}"\nsynthetic = true\norder = "sorted"\n'
    head += 'test_stimuli = "test_stimuli"\n' if test else ""
    (folder / "study.toml").write_text("\n".join([head, *tables]))


def drawn(folder: Path, n: int) -> list[Path]:
    """Draw images with coarse coloured shapes and noise."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"image_{i + 1:03d}.png" for i in range(n)]
    for path, image in zip(paths, pictures(n, 64), strict=True):
        Image.fromarray(image).save(path)
    return paths


def pictures(n: int, size: int) -> NDArray[np.uint8]:
    """Pixels (n, size, size, 3) of coarse coloured shapes with noise."""
    rng = np.random.default_rng(n)
    cells = rng.integers(0, 256, (n, 8, 8, 3), np.uint8)
    repeats = -(-size // 8)
    coarse = cells.repeat(repeats, 1).repeat(repeats, 2)[:, :size, :size] // 2
    return coarse + rng.integers(0, 128, (min(n, 64), size, size, 3), np.uint8)[np.arange(n) % 64]


def scores(rdms: dict[str, Any], targets: dict[str, Target]) -> dict[tuple[str, str], float]:
    """Percent of the noise ceiling of each layer and region."""
    stack = np.stack(list(rdms.values()))
    return {
        (layer, region): float(value)
        for region, target in targets.items()
        for layer, value in zip(rdms, target.score(stack).percent_nc, strict=True)
    }
