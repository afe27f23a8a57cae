"""Images a second in training: python -m bench.experiments.training [--device cuda] [--data DIR|ZIP] [--image-size 64].

ResNet-20 with flips, three ways on the same images: the input pipeline of `models.training.train` alone; its steps on
one batch that lies ready (forward, backward, update), which the pipeline has to outrun; and both together. Beside them
the plain loop of torchvision's reference: `ImageFolder`, a `DataLoader` with a worker for each processor, `Resize`,
`ToTensor`, `Normalize`, and loss and accuracy read after each step. Before, the pipeline's images are held against that
loop's. Decoding, which is done once, is timed by itself. Without --data the images are drawn.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from bench.experiments.device import pictures, utilisation
from models.training.augment import AUGMENTATIONS, Normalise
from models.training.batches import WHERE, Batches
from models.training.data import find_images, training_pixels
from models.training.recipe import Recipe
from models.training.report import Report
from models.training.train import choose_device, describe_device
from models.training.trainer import Trainer, build_network

TARGET = 5
WARM = 3


def drawn(folder: Path, size: int, n: int) -> Path:
    """Write a set of JPEG files of 1.5 times the size."""
    side = size * 3 // 2
    for split, count in (("train", n), ("val", 20)):
        for i, pixels in enumerate(pictures(count, (side, side), count)):
            own = folder / split / f"class{i % 10}"
            own.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(own / f"{i}.jpg", quality=90)
    return folder


def unpacked(data: Path, folder: Path) -> Path:
    """The set as a folder, which `ImageFolder` needs."""
    if data.is_dir():
        return data
    with zipfile.ZipFile(data) as archive:
        archive.extractall(folder)
    inside = [path for path in folder.iterdir() if path.is_dir()]
    return inside[0] if len(inside) == 1 else folder


def pace(steps: Iterator[int], device: torch.device, n: int) -> float:
    """Images a second of the `n` steps after some to warm up; a step gives its number of images."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in itertools.islice(steps, WARM):
        pass
    wait()
    begin = time.perf_counter()
    images = sum(itertools.islice(steps, n))
    wait()
    return images / (time.perf_counter() - begin)


def endless(make: Callable[[], Iterator[int]]) -> Iterator[int]:
    while True:
        yield from make()


def main() -> str | None:
    """Run the bench; what is returned is an error."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.experiments.training", description=__doc__
    )
    parser.add_argument("--device", default="auto", help="as for models.training.train")
    parser.add_argument("--data", type=Path, help="folder or zip (default: drawn images)")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="timed, of each (default: 20)")
    parser.add_argument(
        "--where", choices=WHERE, default="auto", help="as for models.training.train"
    )
    parser.add_argument("--amp", choices=("off", "bf16", "fp16"), default="off")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the DataLoader")
    given = parser.parse_args()
    try:
        device = choose_device(given.device)
        recipe = Recipe(
            image_size=given.image_size,
            batch_size=given.batch_size,
            augment="flip",
            amp=given.amp,
            channels_last=given.channels_last,
            epochs=1_000_000,
        )
        with tempfile.TemporaryDirectory() as folder:
            return compare(recipe, device, given, Path(folder))
    except (ValueError, OSError) as error:
        return str(error)


def compare(
    recipe: Recipe, device: torch.device, given: argparse.Namespace, folder: Path
) -> str | None:
    """Print the paces; what is returned is an error."""
    size, n = recipe.image_size, given.steps
    n_wanted = (WARM + n + 1) * recipe.batch_size
    data = (
        unpacked(given.data, folder / "unpacked")
        if given.data
        else drawn(folder / "drawn", size, n_wanted)
    )
    images = find_images(data)
    n_classes = len(images.classes)
    if len(images.train) < n_wanted:
        return f"{data} has {len(images.train)} images to train on, and {n_wanted} are needed; lower --steps"
    begin = time.perf_counter()
    pixels = {s.name: training_pixels(s, size, folder=folder) for s in (images.train, images.val)}
    seconds = time.perf_counter() - begin
    n_images = len(images.train) + len(images.val)
    batches = [
        Batches(pixels[s.name], s.labels, device, given.where) for s in (images.train, images.val)
    ]
    print(
        f"ResNet-20, {n_classes} classes, {len(images.train)} images of {size} × {size}"
        f" {'on the device' if batches[0].resident else 'mapped'}, batches of {recipe.batch_size}, amp {recipe.amp},"
        f" {'channels last' if recipe.channels_last else 'NCHW'}, on {describe_device(device)}"
    )
    print(f"decoded once: {n_images / seconds:.0f} images/s with {os.cpu_count()} processors")

    network = build_network(recipe.arch, n_classes)
    preprocessing = network.preprocessing
    plain = transforms.Compose(
        [
            transforms.Resize((size, size)),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    normalise = Normalise(preprocessing, device)
    theirs = ImageFolder(data / "train", plain)
    few = np.random.default_rng(0).permutation(len(theirs))[:64]
    ((rows, labels),) = batches[0].serve(few, 64)
    expected = torch.stack([theirs[i][0] for i in few])
    if [theirs[i][1] for i in few] != labels.tolist():
        return "the labels differ from ImageFolder's"
    error = float((normalise(rows).cpu() - expected).abs().max())
    print(f"largest difference from torchvision's input: {error:.1e}")
    if error > 1e-6:
        return "the images differ from torchvision's"

    trainer = Trainer(recipe, network, *batches, num_classes=n_classes, device=device)
    rng = np.random.default_rng(0)

    def pipeline() -> Iterator[int]:
        order = rng.permutation(len(batches[0]))
        for x, _ in batches[0].serve(order, recipe.batch_size):
            yield len(normalise(AUGMENTATIONS["flip"](x, rng)))

    alone = pace(endless(pipeline), device, max(n, 200))
    print(f"input pipeline alone: {alone:.0f} images/s")

    batch = next(iter(batches[0].serve(np.arange(recipe.batch_size), recipe.batch_size)))
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    loss_of = torch.nn.CrossEntropyLoss()
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16")
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.amp)

    def update(x: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(device.type, kind, enabled=kind is not None):
            output = network(x)
            loss = loss_of(output, truth)
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        return output, loss

    def ready() -> Iterator[int]:
        x = normalise(batch[0]).contiguous(memory_format=layout)
        while True:
            update(x, batch[1])
            yield len(x)

    network.train()
    step = pace(ready(), device, n)
    print(f"forward, backward and update alone: {step:.0f} images/s")
    ratio = alone / step
    print(
        f"the pipeline is {ratio:.1f} times as fast, {'at least' if ratio >= TARGET else 'BELOW'} {TARGET}"
    )

    times: list[float] = []

    def stopping() -> bool:
        if len(times) in (WARM, WARM + n) and device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter())
        return len(times) > WARM + n

    with utilisation(device.type, device.index or 0) as busy:
        while trainer.run_epoch(stopping, Report()):
            pass
    ours = n * recipe.batch_size / (times[WARM + n] - times[WARM])
    print(f"models.training.train: {ours:.0f} images/s; time the GPU computes: {busy[0]}")

    flipping = transforms.Compose([transforms.RandomHorizontalFlip(), plain])
    loader = DataLoader(
        ImageFolder(data / "train", flipping),
        recipe.batch_size,
        shuffle=True,
        num_workers=given.workers,
        pin_memory=device.type == "cuda",
        persistent_workers=given.workers > 0,
    )

    def reference() -> Iterator[int]:
        for x, truth in loader:
            x, truth = x.to(device, non_blocking=True), truth.to(device, non_blocking=True)
            output, loss = update(x.contiguous(memory_format=layout), truth)
            # As the reference does after each step.
            loss.item()
            (output.topk(min(5, n_classes)).indices == truth[:, None]).float().mean().item()
            yield len(x)

    theirs_pace = pace(endless(reference), device, n)
    print(f"torchvision's reference loop, {given.workers} workers: {theirs_pace:.0f} images/s")
    print(f"models.training.train is {ours / theirs_pace:.2f} times as fast")
    return None


if __name__ == "__main__":
    sys.exit(main())
