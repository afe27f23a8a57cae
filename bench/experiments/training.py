"""Images per second in training: python -m bench.experiments.training [--device cuda] [--data DIR|ZIP].

ResNet-20 with flips, on the same images: the input pipeline of `models.train` alone; training steps on one
batch that is ready (forward, backward, update), which the pipeline has to outrun; both together; and the plain loop of
torchvision's reference: `ImageFolder`, a `DataLoader` with a worker for each processor, `Resize`, `ToTensor`,
`Normalize`, and loss and accuracy read after each step. First, the pipeline's images are compared with those of that
loop. Decoding, which is done once, is timed separately. Without --data the images are generated.
"""

import argparse
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from bench.proof.setting import pictures
from models.training.augment import AUGMENTATIONS, Normalise
from models.training.batches import WHERE, Batches
from models.training.data import find_images, training_pixels
from models.training.devices import choose_device, describe_device
from models.training.network import build_network
from models.training.recipe import PRECISIONS, Recipe
from models.training.report import TrainingReport
from models.training.trainer import Trainer

# The pipeline should be this many times as fast as the steps.
TARGET = 5
N_WARM_UP = 3


@contextlib.contextmanager
def utilisation(kind: str, number: int) -> Iterator[list[str]]:
    """Measure the share of the time in which a kernel ran; yields a list that holds a sentence after the context."""
    report: list[str] = []
    program = shutil.which("nvidia-smi")
    if kind != "cuda" or program is None:
        yield report
        report.append("not measured: needs a CUDA device and nvidia-smi")
        return
    query = ["-i", str(number), "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with tempfile.TemporaryFile("w+") as file:
        process = subprocess.Popen(
            [program, *query, "-lms", "200"], stdout=file, stderr=subprocess.DEVNULL
        )
        try:
            yield report
        finally:
            process.terminate()
            process.wait()
        file.seek(0)
        samples = [float(line) for line in file.read().split()]
    if samples:
        report.append(
            f"{np.mean(samples):.0f} % (nvidia-smi's utilization.gpu, mean of {len(samples)} samples, 200 ms apart)"
        )
    else:
        report.append("not measured: nvidia-smi returned nothing")


def generate(folder: Path, size: int, n: int) -> Path:
    """Write JPEG files of 1.5 times the size."""
    side = size * 3 // 2
    for split, count in (("train", n), ("val", 20)):
        for i, pixels in enumerate(pictures(count, side)):
            path = folder / split / f"class{i % 10}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=90)
    return folder


def unpack(data: Path, folder: Path) -> Path:
    """Return the images as a folder, which `ImageFolder` needs."""
    if data.is_dir():
        return data
    with zipfile.ZipFile(data) as archive:
        archive.extractall(folder)
    inside = [path for path in folder.iterdir() if path.is_dir()]
    return inside[0] if len(inside) == 1 else folder


@dataclass
class TrainingBench:
    """What all measurements share: options, images and the network."""

    recipe: Recipe
    device: torch.device
    data: Path
    n_steps: int
    batches: tuple[Batches, Batches]
    n_classes: int

    @cached_property
    def network(self) -> torch.nn.Module:
        return build_network(self.recipe.arch, self.n_classes)

    @cached_property
    def trainer(self) -> Trainer:
        """Moves the network to the device."""
        return Trainer(self.recipe, self.network, *self.batches, self.n_classes, self.device)

    @cached_property
    def normalise(self) -> Normalise:
        return Normalise(self.network.preprocessing, self.device)

    @cached_property
    def plain(self) -> list[object]:
        """torchvision's input pipeline."""
        size, preprocessing = self.recipe.image_size, self.network.preprocessing
        return [
            transforms.Resize((size, size)),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]

    @cached_property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.recipe.channels_last else torch.contiguous_format

    def pace(self, steps: Iterator[int], n: int) -> float:
        """Images per second of `n` steps after the warm-up; a step yields its number of images."""
        for _ in itertools.islice(steps, N_WARM_UP):
            pass
        self.wait()
        begin = time.perf_counter()
        images = sum(itertools.islice(steps, n))
        self.wait()
        return images / (time.perf_counter() - begin)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def check_images(self) -> None:
        """Compare the pipeline's images with torchvision's."""
        folder = ImageFolder(self.data / "train", transforms.Compose(self.plain))
        some = np.random.default_rng(0).permutation(len(folder))[:64]
        ((rows, labels),) = self.batches[0].iterate(some, 64)
        expected = torch.stack([folder[i][0] for i in some])
        if [folder[i][1] for i in some] != labels.tolist():
            raise ValueError("the labels differ from ImageFolder's")
        error = float((self.normalise(rows).cpu() - expected).abs().max())
        print(f"largest difference from torchvision's input: {error:.1e}")
        if error > 1e-6:
            raise ValueError("the images differ from torchvision's")

    def pipeline(self) -> Iterator[int]:
        """The input pipeline alone."""
        rng, train = np.random.default_rng(0), self.batches[0]
        while True:
            order = rng.permutation(len(train))
            for x, _ in train.iterate(order, self.recipe.batch_size):
                yield len(self.normalise(AUGMENTATIONS["flip"](x, rng)))

    @cached_property
    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)

    @cached_property
    def scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.device.type, enabled=self.recipe.amp == "fp16")

    def update(self, x: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Forward, backward and update; return output and loss."""
        dtype = PRECISIONS[self.recipe.amp]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            output = self.network(x.contiguous(memory_format=self.layout))
            loss = torch.nn.functional.cross_entropy(output, truth)
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return output, loss

    def steps(self) -> Iterator[int]:
        """Training steps on one batch that is ready."""
        size = self.recipe.batch_size
        pixels, truth = next(iter(self.batches[0].iterate(np.arange(size), size)))
        x = self.normalise(pixels).contiguous(memory_format=self.layout)
        self.trainer.network.train()
        while True:
            self.update(x, truth)
            yield len(x)

    def train(self) -> float:
        """Images per second of `models.train`."""
        times: list[float] = []
        last = N_WARM_UP + self.n_steps

        def stopping() -> bool:
            if len(times) in (N_WARM_UP, last):
                self.wait()
            times.append(time.perf_counter())
            return len(times) > last

        with utilisation(self.device.type, self.device.index or 0) as busy:
            while self.trainer.run_epoch(stopping, TrainingReport()):
                pass
        pace = self.n_steps * self.recipe.batch_size / (times[last] - times[N_WARM_UP])
        print(f"models.train: {pace:.0f} images/s; time the GPU computes: {busy[0]}")
        return pace

    def reference(self, n_workers: int) -> Iterator[int]:
        """The loop of torchvision's reference."""
        flipping = transforms.Compose([transforms.RandomHorizontalFlip(), *self.plain])
        loader = DataLoader(
            ImageFolder(self.data / "train", flipping),
            self.recipe.batch_size,
            shuffle=True,
            num_workers=n_workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=n_workers > 0,
        )
        while True:
            for x, truth in loader:
                x, truth = (each.to(self.device, non_blocking=True) for each in (x, truth))
                output, loss = self.update(x, truth)
                # As the reference does after each step.
                loss.item()
                top = output.topk(min(5, self.n_classes)).indices
                (top == truth[:, None]).float().mean().item()
                yield len(x)


def open_bench(
    recipe: Recipe, device: torch.device, options: argparse.Namespace, folder: Path
) -> TrainingBench:
    """Decode the images and print what is measured."""
    size, n_images = recipe.image_size, (N_WARM_UP + options.steps + 1) * recipe.batch_size
    data = options.data and unpack(options.data, folder / "unpacked")
    data = data or generate(folder / "generated", size, n_images)
    images = find_images(data)
    if len(images.train) < n_images:
        raise ValueError(
            f"{data} has {len(images.train)} training images, but {n_images} are needed; lower --steps"
        )
    splits, begin = (images.train, images.val), time.perf_counter()
    pixels = [training_pixels(split, size, folder=folder) for split in splits]
    pace = sum(map(len, splits)) / (time.perf_counter() - begin)
    train, val = (
        Batches(array, split.labels, device, options.where)
        for array, split in zip(pixels, splits, strict=True)
    )
    n_classes = len(images.classes)
    print(
        f"ResNet-20, {n_classes} classes, {len(images.train)} images of {size} × {size}"
        f" {'on the device' if train.resident else 'mapped'}, batches of {recipe.batch_size}, amp {recipe.amp},"
        f" {'channels last' if recipe.channels_last else 'NCHW'}, on {describe_device(device)}"
    )
    print(f"decoding, once: {pace:.0f} images/s with {os.cpu_count()} processors")
    return TrainingBench(recipe, device, data, options.steps, (train, val), n_classes)


def measure(bench: TrainingBench, n_workers: int) -> None:
    """Print images per second of the parts, of the whole and of the reference."""
    bench.check_images()
    pipeline = bench.pace(bench.pipeline(), max(bench.n_steps, 200))
    print(f"input pipeline alone: {pipeline:.0f} images/s")
    steps = bench.pace(bench.steps(), bench.n_steps)
    print(f"forward, backward and update alone: {steps:.0f} images/s")
    ratio = pipeline / steps
    verdict = "at least" if ratio >= TARGET else "BELOW"
    print(f"the pipeline is {ratio:.1f} times as fast, {verdict} {TARGET}")
    whole = bench.train()
    reference = bench.pace(bench.reference(n_workers), bench.n_steps)
    print(f"torchvision's reference loop, {n_workers} workers: {reference:.0f} images/s")
    print(f"models.train is {whole / reference:.2f} times as fast")


def main() -> str | None:
    """Run the bench; return an error message, or None."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.experiments.training", description=__doc__
    )
    parser.add_argument("--device", default="auto", help="as for models.train")
    parser.add_argument("--data", type=Path, help="folder or zip (default: generated images)")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="timed steps (default: 20)")
    parser.add_argument("--where", choices=WHERE, default="auto", help="as for models.train")
    parser.add_argument("--amp", choices=tuple(PRECISIONS), default="off")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="workers of the DataLoader"
    )
    options = parser.parse_args()
    try:
        device = choose_device(options.device)
        recipe = Recipe(
            image_size=options.image_size,
            batch_size=options.batch_size,
            augment="flip",
            amp=options.amp,
            channels_last=options.channels_last,
            epochs=1_000_000,
        )
        with tempfile.TemporaryDirectory() as folder:
            measure(open_bench(recipe, device, options, Path(folder)), options.workers)
    except (ValueError, OSError) as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
