"""Images → RDMs of every layer → scores of two regions, beside the forward pass alone."""

from dataclasses import dataclass

import numpy as np
import pytest

from bench import paths, stimuli
from bench.stopwatch import Stopwatch

# What the network is built, exported and run with, and what reads the data; without one there is nothing to compare.
NEEDED = ("torch", "torchvision", "onnxscript", "onnx", "onnxruntime", "PIL", "h5py")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    for package in NEEDED:
        pytest.importorskip(package, exc_type=ImportError)
    return stimuli.make(tmp_path_factory.mktemp("path"))


@dataclass(frozen=True)
class Truth:
    """What answers are held against: scores (layers, regions), and the last layer's activations."""

    scores: np.ndarray
    logits: np.ndarray


@pytest.fixture(scope="module")
def truth(experiment):
    activations = paths.hooked(experiment.network, experiment.batch, paths.EAGER_BATCH)
    return Truth(experiment.truth(activations), activations["fc"])


@pytest.fixture(scope="module")
def yardstick(experiment):
    return paths.FORWARD.prepare(experiment, Stopwatch())


@pytest.mark.benchmark(group="118 images → eleven RDMs → scores on EVC and IT, ResNet-20")
@pytest.mark.parametrize(
    "contender", [pytest.param(c, id=c.name) for c in paths.ROUTES], indirect=True
)
def test_images_to_scores(contender, paced, peak_memory, experiment, truth, yardstick):
    """What a checkpoint costs from its stimuli to its scores."""
    paced(
        experiment,
        truth=getattr(truth, contender.answer),
        yardstick=yardstick,
        ours=paths.OURS.name,
        targets={
            "the forward pass alone": 1.2,
            "eager torch + hooks + numpy + scipy": 3,
            "peak memory": 3,
            "peak memory, by max_memory=1GiB": 1.3,
        },
    )
    if contender.memory is not None:
        peak_memory("bench.path_memory", experiment.written(), *contender.memory)
