"""The ResNet-20 trained by `models.train`, its scores during training, and submissions of its checkpoints."""

import contextlib
import csv
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.proof.record import failure
from bench.proof.setting import EPOCHS, Setting, pictures
from fastrdm import TorchModel
from fastrdm.images import Preprocessing
from fastrdm.studies.algonauts import write_submission
from models.networks import resnet20
from models.training.run import TrainingRun

# Seconds for the submissions, and for a training run to write its state when it is stopped.
_RESERVED, _PATIENCE = 20.0, 15.0
_TRAIN_IMAGES, _VAL_IMAGES = 40, 8
# Runs a module of the checkout with the installed package, not with the checkout's source folder of the same name.
_RUN = (
    "import runpy, sys; sys.path.append(sys.path.pop(0));"
    " runpy.run_module('models.train', run_name='__main__', alter_sys=True)"
)
_KEPT = ("metrics.csv", "scores.csv", "config.json")


def training(setting: Setting) -> Iterator[dict[str, Any]]:
    """A row for each epoch that is scored; files of the run and its submissions go to the folder of the proof."""
    with tempfile.TemporaryDirectory() as folder:
        images, run = _images(setting, Path(folder)), Path(folder) / "run"
        status, returncode = _train(setting, images, run)
        for name in _KEPT:
            if (run / name).is_file():
                shutil.copyfile(run / name, setting.out / name)
        metrics, scores = (_by_epoch(run / name) for name in ("metrics.csv", "scores.csv"))
        yield {
            "epoch": max(metrics, default=0),
            "status": status,
            "seconds": sum(float(row["seconds"]) for row in metrics.values()),
            "images/s": max((float(row["images_per_s"]) for row in metrics.values()), default=0.0),
            **({"error": "see training.log"} if returncode else {}),
        }
        files = TrainingRun(run).written()
        # The last one, too, if the training was stopped.
        for epoch in sorted(files.keys() & {*EPOCHS, max(files, default=0)}):
            top1 = metrics.get(epoch, {}).get("val_top1", "nan")
            row: dict[str, Any] = {"epoch": epoch, "top-1": float(top1)}
            if epoch not in scores:
                yield row | {"error": "not scored; see training.log"}
                continue
            found = {name: _number(text) for name, text in scores[epoch].items() if name != "epoch"}
            layer = next(value for name, value in found.items() if name.startswith("best layer"))
            row |= found
            try:
                row["submission"] = _submit(setting, files[epoch], str(layer), epoch)
            except Exception as error:
                row |= failure(error)
            yield row


def _train(setting: Setting, images: Path, run: Path) -> tuple[str, int]:
    """Train until the last epoch or the limit; return how it ended, and a status that is not 0 if it failed."""
    amounts = setting.amounts
    command = [sys.executable, "-c", _RUN, "--data", images, "--out", run]
    command += ["--image-size", amounts.image_size, "--batch-size", "128", "--augment", "crop"]
    # "auto" is the GPU, whatever torch is built for.
    device = "cpu" if setting.device.type == "cpu" else "auto"
    command += ["--epochs", amounts.epochs, "--device", device, "--no-plots"]
    command += ["--score", setting.data, "--score-size", amounts.image_size]
    command += ["--score-sets", ",".join(each.name for each in setting.studies)]
    command += ["--score-modality", "fmri", "--channels-last"]
    if setting.device.type == "cuda":
        command += ["--amp", "bf16"]
    limit = max(1.0, setting.left() - _RESERVED - _PATIENCE)
    with (setting.out / "training.log").open("w") as log:
        words = [str(word) for word in command]
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
        try:
            status = process.wait(limit)
            return f"ended with status {status}" if status else "complete", status
        except subprocess.TimeoutExpired:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            return f"stopped after {limit:.0f} s", 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _images(setting: Setting, folder: Path) -> Path:
    """The images to train on: all of the given zip, those of some classes, or drawn ones."""
    amounts = setting.amounts
    if setting.zip is not None and not amounts.n_classes:
        return setting.zip
    part = folder / "images.zip"
    with zipfile.ZipFile(part, "w") as archive:
        if setting.zip is None:
            _draw(archive, amounts.n_classes or 10)
        else:
            _copy_part(setting.zip, archive, amounts.n_classes)
    return part


def _copy_part(source: Path, archive: zipfile.ZipFile, n_classes: int) -> None:
    """Copy some images of the first classes."""
    with zipfile.ZipFile(source) as whole:
        by_class: dict[tuple[str, str], list[str]] = {}
        for name in sorted(whole.namelist()):
            parts = Path(name).parts
            for split in {"train", "val"} & set(parts[:-2]):
                label = parts[parts.index(split) + 1]
                by_class.setdefault((split, label), []).append(name)
        chosen = sorted({label for _, label in by_class})[:n_classes]
        for (split, label), names in by_class.items():
            if label in chosen:
                n = _TRAIN_IMAGES if split == "train" else _VAL_IMAGES
                for k, name in enumerate(names[:n]):
                    suffix = Path(name).suffix
                    archive.writestr(f"{split}/{label}/{k}{suffix}", whole.read(name))


def _draw(archive: zipfile.ZipFile, n_classes: int) -> None:
    """Draw images of classes that differ in colour."""
    from PIL import Image

    for label in range(n_classes):
        drawn = pictures(_TRAIN_IMAGES + _VAL_IMAGES, 64)
        drawn[..., label % 3] //= 1 + label // 3
        for k, pixels in enumerate(drawn):
            split = "train" if k < _TRAIN_IMAGES else "val"
            with archive.open(f"{split}/class{label}/{k}.png", "w") as file:
                Image.fromarray(pixels).save(file, "PNG")


def _submit(setting: Setting, file: Path, layer: str, epoch: int) -> str:
    """Write the submission of a checkpoint: the RDM of its best layer for the images without brain data."""
    images = setting.studies[0].test_stimuli
    if not images:
        return ""
    state = torch.load(file, map_location="cpu", weights_only=True)
    network = resnet20(len(state["fc.bias"]))
    network.load_state_dict(state)
    size = setting.amounts.image_size
    model = TorchModel(
        network, preprocessing=Preprocessing((size, size)), device=str(setting.device)
    )
    rdm: NDArray[np.float64] = model.rdms(images, layers=[layer])[layer]
    _, archive = write_submission(setting.out / "submissions" / f"epoch_{epoch:03d}", rdm)
    return str(archive.relative_to(setting.out))


def _by_epoch(path: Path) -> dict[int, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {int(row["epoch"]): row for row in csv.DictReader(file)}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
