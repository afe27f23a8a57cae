"""Images → RDMs of all layers → scores of two regions, next to the forward pass alone."""

import functools
from dataclasses import dataclass

import numpy as np
import pytest

from bench.peers import paths
from bench.stopwatch import Stopwatch
from bench.tasks import stimuli

# Packages that build, export and run the network and read the data; the bench is skipped without one of them.
NEEDED = ("torch", "torchvision", "onnxscript", "onnx", "onnxruntime", "PIL", "h5py")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    for package in NEEDED:
        pytest.importorskip(package, exc_type=ImportError)
    return stimuli.make(tmp_path_factory.mktemp("path"))


@dataclass(frozen=True)
class Truth:
    """The right answers: scores (layers, regions), those of each checkpoint, the last layer's output."""

    experiment: stimuli.Experiment

    @functools.cached_property
    def _first(self):
        return self._of(self.experiment.network)

    @functools.cached_property
    def _second(self):
        return self._of(self.experiment.other)

    def _of(self, network):
        activations = paths.hooked(network, self.experiment.batch, paths.EAGER_BATCH)
        return self.experiment.truth(activations), activations["fc"]

    @property
    def scores(self):
        return self._first[0]

    @property
    def scores_by_turns(self):
        by_turns = (self._first[0], self._second[0])
        # From the second checkpoint on.
        return np.stack([by_turns[(i + 1) % 2] for i in range(paths.N_TIMED)])

    @property
    def logits(self):
        return self._first[1]


@pytest.fixture(scope="module")
def truth(experiment):
    return Truth(experiment)


@pytest.fixture(scope="module")
def yardstick(experiment):
    return paths.FORWARD.prepare(experiment, Stopwatch())


@pytest.mark.benchmark(group="118 images → eleven RDMs → scores on EVC and IT, ResNet-20")
@pytest.mark.parametrize(
    "contender", [pytest.param(c, id=c.name) for c in paths.ROUTES], indirect=True
)
def test_images_to_scores(contender, paced, peak_memory, experiment, truth, yardstick):
    """The cost of a checkpoint from its stimuli to its scores."""
    paced(
        experiment,
        truth=getattr(truth, contender.answer),
        yardstick=yardstick,
        ours=paths.OURS.name,
        targets={
            "the forward pass alone": 1.2,
            "the forward pass alone, by the next checkpoint": 1.15,
            "eager torch + hooks + numpy + scipy": 3,
            "fp32 on the CPU, by openvino bf16": 1.5,
            "scores in fp32, by openvino bf16": 0.1,
            "peak memory": 3,
            "peak memory, by max_memory=1GiB": 1.3,
        },
    )
    if contender.memory is not None:
        peak_memory("bench.path_memory", experiment.written(), *contender.memory)
