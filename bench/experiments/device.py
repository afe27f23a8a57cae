"""Checkpoints per second on a device: python -m bench.experiments.device [--provider cuda] [--checkpoints 60].

RDMs of the eleven taps of ResNet-20 for both of the challenge's studies (92 and 118 conditions; generated pictures
without --images). Each checkpoint is read from a `.pth` in the page cache, folded by another thread while the previous
one runs, copied to the device and run; nothing else is timed. Then the RDMs of some conditions are compared with
float64: torch's network in double precision, and NumPy.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastrdm.images import Preprocessing, list_images
from fastrdm.networks import Graph, export_onnx, load_state_dict
from fastrdm.runtimes import DeviceModel, OnnxModel
from models.networks import resnet20

N_CONDITIONS = (92, 118)
PRECISIONS = ("fp32", "tf32", "bf16")
# Files that are read in turn; all of them stay in the page cache.
FILES = 4


def pictures(n: int, size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Generate coarse coloured shapes with noise."""
    rng = np.random.default_rng(seed)
    height, width = size
    cells = rng.integers(0, 256, (n, 8, 8, 3), np.uint8)
    coarse = cells.repeat(-(-height // 8), 1).repeat(-(-width // 8), 2)[:, :height, :width]
    return coarse // 2 + rng.integers(0, 128, coarse.shape, np.uint8)


def checkpoints(folder: Path) -> list[Path]:
    """Write different weights of ResNet-20, with batch norms as after training."""
    files = []
    for k in range(FILES):
        torch.manual_seed(k)
        network = resnet20()
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                for values, low, high in (
                    (part.running_mean, -0.3, 0.3),
                    (part.running_var, 0.5, 2.0),
                    (part.weight.data, 0.5, 1.5),
                    (part.bias.data, -0.3, 0.3),
                ):
                    values.uniform_(low, high)
        files.append(folder / f"checkpoint{k}.pth")
        torch.save(network.state_dict(), files[-1])
    return files


def weights(file: Path) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in load_state_dict(file).items()}


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


def speed(
    model: DeviceModel, files: list[Path], n: int, stimuli: dict[str, NDArray[np.uint8]]
) -> None:
    """Print checkpoints per second and the time of each step."""
    shown = [model.show(pixels) for pixels in stimuli.values()]
    spent = dict.fromkeys(("wait for folding", "copy", "run"), 0.0)
    with ThreadPoolExecutor(1) as pool:
        # Two buffers: one is filled while the other is copied.
        buffers = [model.fold(weights(file)) for file in files[:2]]
        model.load(buffers[0])
        for images in shown:
            model.rdms(images)

        def fold(k: int) -> Any:
            return model.fold(weights(files[k % len(files)]), into=buffers[k % 2])

        with utilisation(*model.device) as busy:
            begin = time.perf_counter()
            ahead = pool.submit(fold, 0)
            for k in range(n):
                times = [time.perf_counter()]
                folded = ahead.result()
                if k + 1 < n:
                    ahead = pool.submit(fold, k + 1)
                times.append(time.perf_counter())
                model.load(folded)
                times.append(time.perf_counter())
                for images in shown:
                    model.rdms(images)
                times.append(time.perf_counter())
                for what, seconds in zip(spent, np.diff(times), strict=True):
                    spent[what] += seconds / n
            wall = time.perf_counter() - begin
    print(
        f"{n / wall:.2f} checkpoints per second for {' + '.join(stimuli)} conditions ({n} in {wall:.1f} s)"
    )
    print("per checkpoint:", ", ".join(f"{what} {1e3 * s:.1f} ms" for what, s in spent.items()))
    print("GPU utilisation:", busy[0])


def oracle(
    file: Path, preprocessing: Preprocessing, pixels: NDArray[np.uint8]
) -> dict[str, NDArray[np.float64]]:
    """Compute RDMs of the taps in float64."""
    network = resnet20()
    network.load_state_dict(load_state_dict(file))
    network.double().eval()
    gathered: dict[str, list[NDArray[np.float64]]] = {name: [] for name in network.taps}
    handles = [
        network.get_submodule(path).register_forward_hook(
            # The tensor, not a copy: in-place ReLUs after it change it.
            lambda part, args, output, name=name: last.__setitem__(name, output)
        )
        for name, path in network.taps.items()
    ]
    mean, std = (np.array(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    for start in range(0, len(pixels), 8):
        last: dict[str, torch.Tensor] = {}
        batch = (pixels[start : start + 8].transpose(0, 3, 1, 2) / 255 - mean) / std
        with torch.no_grad():
            network(torch.from_numpy(batch))
        for name, values in last.items():
            gathered[name].append(values.flatten(1).numpy().copy())
    for handle in handles:
        handle.remove()
    rdms = {}
    for name, parts in gathered.items():
        rows = np.concatenate(parts)
        rows -= rows.mean(axis=1, keepdims=True)
        rows /= np.sqrt((rows**2).sum(axis=1, keepdims=True))
        rdms[name] = (1 - rows @ rows.T)[np.triu_indices(len(rows), 1)]
    return rdms


def errors(build: Any, file: Path, preprocessing: Preprocessing, pixels: Any) -> None:
    """Print the largest error of each precision's RDMs, over layers and pairs."""
    exact = oracle(file, preprocessing, pixels)
    for precision in PRECISIONS:
        try:
            model = build({} if precision == "fp32" else {"precision": precision})
        # A provider without the precision.
        except (ValueError, TypeError) as error:
            print(f"{precision}: unavailable: {error}")
            continue
        model.load(weights(file))
        rdms = model.rdms(model.show(pixels))
        largest = {layer: float(np.abs(rdms[layer] - exact[layer]).max()) for layer in exact}
        worst = max(largest, key=lambda layer: largest[layer])
        print(f"{precision}: largest error of an RDM {largest[worst]:.1e} (layer {worst})")


def main() -> str | None:
    """Run the benchmark; return an error message."""
    parser = argparse.ArgumentParser(prog="python -m bench.experiments.device", description=__doc__)
    parser.add_argument("--provider", default="cuda", help="as for OnnxModel (default: cuda)")
    parser.add_argument("--checkpoints", type=int, default=60)
    parser.add_argument("--size", type=int, default=224, help="of the images (default: 224)")
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="folders of stimuli")
    parser.add_argument("--conditions", type=int, default=24, help="for measuring errors")
    parser.add_argument("--threads", type=int, help="of one run on the CPU")
    arguments = parser.parse_args()
    if min(arguments.checkpoints, arguments.size) < 1 or arguments.conditions < 2:
        return "at least one checkpoint, one pixel and two conditions are needed"
    with tempfile.TemporaryDirectory() as folder:
        files = checkpoints(Path(folder))
        network = resnet20()
        path = export_onnx(network, Path(folder) / "resnet20.onnx", input_size=arguments.size)
        file = OnnxModel(path, "cpu")

        def build(options: dict[str, Any]) -> DeviceModel:
            chosen = {"n_threads": arguments.threads} | options
            graph = Graph("ResNet-20", path)
            return DeviceModel(graph, file.layers, file.preprocessing, arguments.provider, **chosen)

        try:
            model = build({})
        except ValueError as error:
            return str(error)
        size = file.preprocessing.size
        stimuli = {str(n): pictures(n, size, n) for n in N_CONDITIONS}
        if arguments.images:
            every = [file.preprocessing.pixels(list_images(folder)) for folder in arguments.images]
            stimuli = {str(len(pixels)): pixels for pixels in every}
        print(f"{model!r}, {arguments.size} × {arguments.size} pixels")
        speed(model, files, arguments.checkpoints, stimuli)
        pixels = next(iter(stimuli.values()))[: arguments.conditions]
        errors(build, files[0], file.preprocessing, pixels)
    return None


if __name__ == "__main__":
    sys.exit(main())
