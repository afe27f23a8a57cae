"""Responses simulated from a known layer: does every measure find the layer, and the ceiling its reliability?

    python -m bench.experiments.known_layer [--studies 100]

Each study has a chain of random layers, of which subjects' units see the middle one, with noise of known reliability.
Prints, for each measure, in how many studies this layer scored highest; the ceilings found beside the true one; and how
often the intervals over subjects contain the score that many subjects have. tests/bench/test_known_layer.py checks a
short run.
"""

import argparse
from dataclasses import dataclass

import numpy as np

import fastrdm
from fastrdm.inference import subject_intervals

N_CONDITIONS, N_UNITS, N_REPEATS = 60, 20, 4
WIDTHS = (300, 200, 150, 100, 40)
TRUE_LAYER = 2
RELIABILITY = 0.7


@dataclass(frozen=True)
class SimulatedStudy:
    """Layers, and responses (subjects, repeats, conditions, units) whose means have the reliability `RELIABILITY`."""

    layers: list
    responses: np.ndarray


def simulate(rng, n_subjects, n_conditions=N_CONDITIONS):
    """A study; other random numbers are other networks, conditions and subjects."""
    x = rng.standard_normal((n_conditions, 200))
    layers = []
    for width in WIDTHS:
        x = np.maximum(x @ rng.standard_normal((x.shape[1], width)) / np.sqrt(x.shape[1]), 0)
        layers.append(x)
        x = x - x.mean(axis=0)
    return SimulatedStudy(layers, measure(rng, layers[TRUE_LAYER], n_subjects))


def measure(rng, layer, n_subjects):
    """Responses of subjects whose units weight the channels of a layer at random."""
    weights = rng.standard_normal((n_subjects, layer.shape[1], N_UNITS))
    signal = (layer - layer.mean(axis=0)) @ weights
    signal /= signal.std(axis=1, ddof=1, keepdims=True)
    # The mean of m repeats has the reliability 1 / (1 + noise² / m).
    noise = np.sqrt(N_REPEATS * (1 / RELIABILITY - 1))
    shape = (n_subjects, N_REPEATS, *signal.shape[1:])
    return signal[:, None] + noise * rng.standard_normal(shape)


def scores_of(study):
    """Measure → scores (layers, subjects), and the responses."""
    grams = [fastrdm.gram(layer) for layer in study.layers]
    responses = fastrdm.Responses(study.responses)
    target = fastrdm.Target.from_responses(study.responses, "sqeuclidean")
    rdms = [gram.rdm("sqeuclidean") for gram in grams]
    brains = [fastrdm.gram(mean) for mean in responses.means]
    return {
        "rsa": target.score(np.stack(rdms)).rho,
        "cka": fastrdm.cka(grams, brains),
        "cka debiased": fastrdm.cka(grams, brains, debiased=True),
        "angular": -fastrdm.angular_distance(grams, brains),
        "ridge": np.median(responses.score(grams, "ridge").r, axis=2),
        "pls": np.median(responses.score(grams, "pls", n_components=10).r, axis=2),
    }, responses


def winners(n_studies, n_subjects=6, seed=0):
    """Measure → share of studies in which the true layer has the highest mean score; and the ceilings found."""
    found, ceilings = {}, []
    for k in range(n_studies):
        scores, responses = scores_of(simulate(np.random.default_rng((seed, k)), n_subjects))
        ceilings.append(np.mean(responses.reliability))
        for name, values in scores.items():
            found.setdefault(name, []).append(values.mean(axis=1).argmax() == TRUE_LAYER)
    return {name: float(np.mean(wins)) for name, wins in found.items()}, np.array(ceilings)


def coverage(n_studies, n_subjects=25, seed=1):
    """Measure → how often the 95 % interval over subjects contains the population's mean, for one network."""
    rng = np.random.default_rng(seed)
    layer = simulate(rng, 1).layers[TRUE_LAYER]
    gram = fastrdm.gram(layer)
    rdm = gram.rdm("sqeuclidean")

    def values(n):
        measured = measure(rng, layer, n)
        target = fastrdm.Target.from_responses(measured, "sqeuclidean")
        score = fastrdm.Responses(measured).score(gram)
        return {"rsa": target.score(rdm).rho, "ridge": np.median(score.r[0], axis=1)}

    population = {name: float(v.mean()) for name, v in values(2000).items()}
    covered = {name: [] for name in population}
    for _ in range(n_studies):
        for name, v in values(n_subjects).items():
            ((low, high),) = subject_intervals(v.reshape(1, -1))
            covered[name].append(low <= population[name] <= high)
    return {name: float(np.mean(inside)) for name, inside in covered.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=100)
    arguments = parser.parse_args()
    found, reliabilities = winners(arguments.studies)
    for name, share in found.items():
        print(
            f"{name:<14} the true layer scored highest in {share:.0%} of {arguments.studies} studies"
        )
    error = reliabilities.std() / np.sqrt(len(reliabilities))
    print(f"reliability {reliabilities.mean():.4f} ± {error:.4f} (true: {RELIABILITY})")
    for name, share in coverage(4 * arguments.studies).items():
        print(f"{name:<14} intervals over subjects contain the population's mean in {share:.1%}")


if __name__ == "__main__":
    main()
