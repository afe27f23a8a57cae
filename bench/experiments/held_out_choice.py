"""Bias of a layer's score on the data on which it was chosen, and none on held-out data; coverage of intervals.

All layers of a simulated network are equally similar to the brain, so that the score of whichever is chosen is known:
a new layer's similarity to new subjects on new conditions.

`python -m bench.experiments.held_out_choice` prints a table;
tests/bench/test_held_out_choice.py checks it against its bounds.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist

from fastrdm import SelectedRdm, WeightedRdm, compare, cross_validate

COVERAGE = (0.92, 0.97)
FEATURES = 10


@dataclass(frozen=True)
class Case:
    """Numbers of conditions, subjects, layers and folds of conditions; whether layers are chosen or weighted."""

    n_conditions: int
    n_subjects: int
    n_layers: int
    n_folds: int
    is_weighted: bool = False


CASES = {
    "92 conditions, 15 subjects, 11 layers": Case(92, 15, 11, 5),
    "60 conditions, 8 subjects, 8 layers": Case(60, 8, 8, 5),
    "40 conditions, 12 subjects, 30 layers": Case(40, 12, 30, 5),
    "40 conditions, 12 subjects, 8 layers, weighted": Case(40, 12, 8, 5, is_weighted=True),
}


@dataclass(frozen=True)
class Rates:
    """Means over runs, with the standard errors of `truth` and `held_out`, and the coverage of 95 % intervals."""

    truth: float
    truth_error: float
    held_out: float
    held_out_error: float
    same_data: float
    coverage: float


def draw_data(rng, n_conditions, n_subjects, n_layers):
    """RDMs of layers and subjects that share features; each adds features of its own.

    Subjects differ in how much of the shared features they have. Conditions are points, drawn anew.
    """
    shared = rng.normal(size=(n_conditions, FEATURES))

    def rdm(gain, n_specific):
        specific = rng.normal(size=(n_conditions, n_specific))
        return pdist(np.hstack([gain * shared, specific]), "sqeuclidean")

    layers = [rdm(1, FEATURES) for _ in range(n_layers)]
    subjects = [rdm(gain, 2 * FEATURES) for gain in rng.uniform(0.5, 1.1, n_subjects)]
    return np.stack(layers), np.stack(subjects)


def run(case, n_runs, seed=0):
    """Cross-validate in each of many simulated studies."""
    model = WeightedRdm() if case.is_weighted else SelectedRdm()
    rows, truth = [], []
    for i in range(n_runs):
        rng = np.random.default_rng((seed, i))
        layers, subjects = draw_data(rng, case.n_conditions, case.n_subjects, case.n_layers)
        result = cross_validate(model, layers, subjects, case.n_folds, seed=i)
        rows.append((result.score, result.same_data, *result.interval()))
        # Pairs within a fold: the expectation of a rank correlation depends on their number.
        for _ in range(4):
            new = draw_data(rng, case.n_conditions // case.n_folds, case.n_subjects, 1)
            truth.append(compare(*new).mean())
    held_out, same_data, low, high = np.array(rows).T
    # The weights' optimum is not known; its intervals are to cover the mean over runs.
    known = held_out if case.is_weighted else np.array(truth)
    value = known.mean()
    return Rates(
        truth=value,
        truth_error=known.std() / np.sqrt(len(known)),
        held_out=held_out.mean(),
        held_out_error=held_out.std() / np.sqrt(n_runs),
        same_data=same_data.mean(),
        coverage=float(np.mean((low <= value) & (value <= high))),
    )


def run_studies(n_runs, seed=0, n_layers=11):
    """Choose the layer on one study of 92 conditions, and judge it on another of 118: means as for `run`."""
    rows = []
    for i in range(n_runs):
        rng = np.random.default_rng((seed, i))
        first, second = (draw_data(rng, n, 15, n_layers) for n in (92, 118))
        fitted = SelectedRdm().fit(*first)
        chosen = compare(fitted.predict(second[0]), second[1]).mean()
        every = compare(*second).mean(axis=1)
        rows.append((every.mean(), chosen, every.max()))
    truth, held_out, same_data = np.array(rows).T
    errors = (each.std() / np.sqrt(n_runs) for each in (truth, held_out - truth))
    return Rates(
        truth.mean(), next(errors), held_out.mean(), next(errors), same_data.mean(), np.nan
    )


if __name__ == "__main__":
    header = ("truth", "held out", "± error", "same data", "coverage")
    print(f"{'':50}" + "".join(f"{name:>11}" for name in header))
    found = {name: run(case, 1000) for name, case in CASES.items()}
    found["chosen on 92 conditions, judged on 118"] = run_studies(300)
    for name, rates in found.items():
        error = float(np.hypot(rates.truth_error, rates.held_out_error))
        values = (rates.truth, rates.held_out, error, rates.same_data, rates.coverage)
        print(f"{name:50}" + "".join(f"{value:11.4f}" for value in values))
