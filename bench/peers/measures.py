"""The contenders of images → RSA, CKA and ridge regression of all layers.

As in `bench.peers.paths`, but a call takes an `Inputs` and answers with the scores of each layer: percent of the noise
ceiling in both regions, CKA with each subject's responses, and the median over units of r for each subject.
"""

from dataclasses import dataclass, replace

import numpy as np

import fastrdm
from bench.peers.paths import EAGER_BATCH, FORWARD, Route, hooked
from bench.tasks import stimuli
from fastrdm.images import Preprocessing
from fastrdm.runtimes import host_rdms, model_arguments

N_SUBJECTS, N_UNITS, N_FOLDS = 2, 200, 5
ALPHAS = np.logspace(0, 9, 10)
# Other runtimes change activations by 1e-6, and with them, rarely, the penalty that a unit chooses.
FLOAT32 = 5e-3

STAGES = {
    (model_arguments, "cached_pixels"): "decode",
    (Preprocessing, "normalise"): "decode",
    (host_rdms, "run"): "forward",
    (host_rdms, "gram"): "Gram",
    (fastrdm.Gram, "rdm"): "RDM",
    (fastrdm.Target, "score"): "score",
    (fastrdm, "cka"): "CKA",
    (fastrdm.Responses, "score"): "ridge",
}


@dataclass(frozen=True)
class Inputs:
    """The experiment, and the responses (subjects, images, units) of units that see layout and colours."""

    experiment: stimuli.Experiment
    responses: np.ndarray

    @classmethod
    def of(cls, experiment):
        rng = np.random.default_rng(0)
        pixels = experiment.pixels.reshape(len(experiment.images), 8, 28, 8, 28, 3)
        seen = pixels.mean(axis=(2, 4)).reshape(len(pixels), -1)
        seen = (seen - seen.mean(axis=0)) / seen.std()
        signal = seen @ rng.standard_normal((N_SUBJECTS, seen.shape[1], N_UNITS))
        noise = rng.standard_normal(signal.shape) * signal.std()
        return cls(experiment, signal + noise)

    @property
    def source(self):
        return f"{self.experiment.source}, simulated responses"

    def first(self, n):
        return replace(self, experiment=self.experiment.first(n), responses=self.responses[:, :n])

    def folds(self):
        return np.arange(self.responses.shape[1]) % N_FOLDS


def together(rsa, cka, ridge):
    """One array of all scores: RSA is in percent, the others are fractions."""
    return np.concatenate([np.asarray(rsa) / 100, cka, ridge], axis=1)


def fastrdm_measures(inputs, watch):
    n_threads = fastrdm.kernels().n_threads
    model = fastrdm.OnnxModel(inputs.experiment.onnx, "cpu", n_threads=n_threads)
    targets = inputs.experiment.targets.values()
    responses = fastrdm.Responses(inputs.responses)
    brains = [fastrdm.gram(subject) for subject in inputs.responses]

    def call():
        grams = model.grams(inputs.experiment.images, methods=("correlation",))
        models = np.stack([gram.rdm("correlation") for gram in grams.values()])
        rsa = np.stack([target.score(models).percent_nc for target in targets], axis=1)
        ridge = responses.score(grams, folds=inputs.folds(), alphas=ALPHAS).r
        return together(rsa, fastrdm.cka(grams, brains), np.median(ridge, axis=2))

    return watch.observing(STAGES, call)


def centred(rows):
    """Products of all pairs of conditions, of channels minus their means."""
    rows = rows - rows.mean(axis=0)
    return rows @ rows.T


def cka_of(layer, brains):
    """CKA of a centred Gram matrix with others."""
    norm = np.linalg.norm(layer)
    return [np.sum(layer * brain) / (norm * np.linalg.norm(brain)) for brain in brains]


def ridge_of(layer, inputs):
    """Median over units of the r of scikit-learn's held-out predictions, for each subject."""
    # One subject at a time, because the coefficients of 200 units for 802,816 channels take 1.3 GB.
    return [_median_r(_held_out(layer, units, inputs.folds()), units) for units in inputs.responses]


def _held_out(layer, units, folds):
    from sklearn.linear_model import RidgeCV

    predicted = np.empty(units.shape)
    for fold in range(N_FOLDS):
        test = folds == fold
        model = RidgeCV(ALPHAS, alpha_per_target=True).fit(layer[~test], units[~test])
        predicted[test] = model.predict(layer[test])
    return predicted


def _median_r(predicted, units):
    a, b = predicted - predicted.mean(axis=0), units - units.mean(axis=0)
    return np.median((a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0)))


def eager_measures(inputs, watch):
    experiment = inputs.experiment
    images = experiment.batch

    def call():
        with watch.stage("forward"):
            activations = hooked(experiment.network, images, EAGER_BATCH)
        with watch.stage("score"):
            rsa = experiment.truth(activations)
        with watch.stage("CKA"):
            brains = [centred(subject) for subject in inputs.responses]
            cka = [cka_of(centred(rows), brains) for rows in activations.values()]
        with watch.stage("ridge"):
            ridge = [ridge_of(rows, inputs) for rows in activations.values()]
        return together(rsa, cka, ridge)

    return call


def alone(inputs, watch):
    return FORWARD.prepare(inputs.experiment, watch)


OURS = Route("fastrdm, RSA + CKA + ridge", fastrdm_measures, "fastrdm", FLOAT32, rounds=7)
EAGER = Route(
    "eager torch + hooks + numpy + scikit-learn", eager_measures, "sklearn", FLOAT32, rounds=1
)
ROUTES = (replace(FORWARD, prepare=alone), OURS, EAGER)
