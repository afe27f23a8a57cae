"""What a checkpoint costs beside its images, on the CPU: python -m bench.experiments.swap_overhead [--checkpoints 12].

The ResNet-20 is built once, and takes the weights of one `.pth` after the other. For each file, three steps are timed:
reading, hashing and folding it, which another thread does while the network runs in a sweep; loading the result; and
RDMs of all taps. Then the same checkpoints run as in a sweep, with the next one prepared meanwhile. The overhead is the
time of a checkpoint there, less that of its RDMs with the weights in place. Processor time holds on a busy machine too.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from bench.proof.networks import states
from bench.proof.setting import pictures
from fastrdm.networks import ANY_FITTING, hash_file
from fastrdm.runtimes import PreparedWeights, SwappedTorch, TorchArchitecture

ARCH = "models.networks:resnet20"
# Files that are read in turn; all of them stay in the page cache.
N_FILES = 4


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[float, float, Any]:
    """Return milliseconds of a call, on the clock and of processors, and its result."""
    start, used = time.perf_counter(), time.process_time()
    result = call(*arguments)
    return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - used), result


def measure(
    network: SwappedTorch, files: Sequence[Path], n_images: int
) -> dict[str, tuple[float, float]]:
    """Return medians in milliseconds by step: on the clock, and of processors."""
    pixels = pictures(n_images, network.model.preprocessing.size[0])
    steps: dict[str, list[tuple[float, float]]] = {}

    def prepare(file: Path) -> PreparedWeights:
        hash_file(file)
        return network.prepare(str(file), ANY_FITTING, print)

    def add(step: str, call: Callable[..., Any], *arguments: Any) -> Any:
        *times, result = timed(call, *arguments)
        steps.setdefault(step, []).append((times[0], times[1]))
        return result

    def swapped(opening: Future[PreparedWeights], following: Path) -> Future[PreparedWeights]:
        weights = opening.result()
        ahead = pool.submit(prepare, following)
        weights.load()
        network.model.rdms(pixels)
        weights.release()
        return ahead

    with ThreadPoolExecutor(1) as pool:
        network.model.rdms(pixels)
        opening = pool.submit(prepare, files[0])
        for k, file in enumerate(files):
            # In turn, so that other work on the machine slows all of them down.
            opening = add("in a sweep", swapped, opening, files[(k + 1) % len(files)])
            wait([opening])
            add("RDMs", network.model.rdms, pixels)
            weights = add("prepare", prepare, file)
            add("load", weights.load)
            weights.release()
    return {
        step: (
            statistics.median(wall for wall, _ in times),
            statistics.median(cpu for _, cpu in times),
        )
        for step, times in steps.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=12)
    parser.add_argument("--images", type=int, default=118)
    arguments = parser.parse_args()
    built, _, architecture = timed(TorchArchitecture.inspect, ARCH)
    network = SwappedTorch(architecture, "torch:cpu")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"checkpoint{k}.pth") for k in range(N_FILES)]
        for file, state in zip(files, states(architecture.build(), N_FILES), strict=True):
            torch.save(state, file)
        chosen = [files[k % N_FILES] for k in range(arguments.checkpoints)]
        found = measure(network, chosen, arguments.images)
    print(
        f"{ARCH}, {arguments.images} images, {len(network.model.layers)} layers, torch {torch.__version__} with"
        f" {torch.get_num_threads()} threads; inspected in {built:.0f} ms, once"
    )
    found["overhead"] = tuple(
        whole - alone for whole, alone in zip(found["in a sweep"], found["RDMs"], strict=True)
    )
    for name, (wall, cpu) in found.items():
        print(f"{name}: {wall:.0f} ms on the clock, {cpu:.0f} ms of processors")


if __name__ == "__main__":
    main()
