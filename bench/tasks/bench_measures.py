"""Images → RSA, CKA and ridge regression of all layers from one matrix each, next to the forward pass alone."""

import numpy as np
import pytest

from bench.peers import measures, paths
from bench.stopwatch import Stopwatch
from bench.tasks import stimuli
from bench.tasks.bench_extraction import NEEDED


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    for package in (*NEEDED, "sklearn"):
        pytest.importorskip(package, exc_type=ImportError)
    return measures.Inputs.of(stimuli.make(tmp_path_factory.mktemp("measures")))


@pytest.fixture(scope="module")
def truth(inputs):
    """Oracle in float64; ridge regression on the layers, rotated into as many channels as there are conditions."""
    experiment = inputs.experiment
    activations = paths.hooked(experiment.network, experiment.batch, paths.EAGER_BATCH)
    brains = [measures.centred(subject) for subject in inputs.responses]
    cka, ridge = [], []
    for rows in activations.values():
        layer = measures.centred(rows.astype(np.float64))
        cka.append(measures.cka_of(layer, brains))
        values, vectors = np.linalg.eigh(layer)
        ridge.append(measures.ridge_of(vectors * np.sqrt(np.maximum(values, 0)), inputs))
    return {
        "scores": measures.together(experiment.truth(activations), cka, ridge),
        "logits": activations["fc"],
    }


@pytest.fixture(scope="module")
def yardstick(inputs):
    return measures.alone(inputs, Stopwatch())


@pytest.mark.benchmark(group="118 images → RSA, CKA and ridge of eleven layers, ResNet-20")
@pytest.mark.parametrize(
    "contender", [pytest.param(c, id=c.name) for c in measures.ROUTES], indirect=True
)
def test_images_to_all_measures(contender, paced, inputs, truth, yardstick):
    """Two regions of 15 subjects; responses of 2 subjects × 200 units, 5 folds × 10 penalties."""
    paced(
        inputs,
        truth=truth[contender.answer],
        yardstick=yardstick,
        ours=measures.OURS.name,
        targets={
            "the forward pass alone": 1.25,
            "eager torch + hooks + numpy + scikit-learn": 20,
        },
    )
