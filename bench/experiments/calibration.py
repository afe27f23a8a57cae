"""Levels of the tests and coverage of the intervals, on data simulated under each null hypothesis.

`python -m bench.experiments.calibration` prints the rates and draws docs/calibration.png;
tests/bench/test_calibration.py checks them against their bounds.
"""

import functools

import numpy as np
from scipy.spatial.distance import pdist

from fastrdm import bootstrap, compare_models, max_statistic, permutation_test, subject_test
from fastrdm.inference import subject_intervals

ALPHA, LEVEL = 0.05, 0.95
FALSE_POSITIVES, COVERAGE = (0.035, 0.065), (0.92, 0.97)
FEATURES = 10


def _values(seed, n_tests, n_subjects=16):
    return np.random.default_rng(seed).normal(size=(n_tests, n_subjects))


def subject_level(test, n=4000):
    """Test against zero over subjects, with normal values around 0."""
    return float(np.mean(subject_test(_values(0, n), test=test, correction=None).p <= ALPHA))


def pair_level(test, n=4000):
    """Test between models over subjects: both have the same mean and share a component of the subject."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(n, 1, 30)) + rng.normal(size=(n, 2, 30))
    if test == "sign-flip":  # the differences of all pairs of models in one call
        differences = values[:, 0] - values[:, 1]
        p = subject_test(differences, alternative="two-sided", n_permutations=1999).p
    else:
        p = [compare_models(pair, test=test, n_permutations=1999).p[0] for pair in values]
    return float(np.mean(np.array(p) <= ALPHA))


def ceiling_level(n=4000):
    """Test against the noise ceiling by sign flips within subjects; each model is as good as the other subjects."""
    rng = np.random.default_rng(2)
    bounds = rng.normal(0.4, 0.1, 16)
    values = bounds + rng.normal(0, 0.1, (n, 16))
    p = subject_test(values, bounds, alternative="less", correction=None).p
    return float(np.mean(p <= ALPHA))


def family_level(n=2000, n_tests=20):
    """Family-wise rate of 20 tests, similar layers of one network, corrected by the maximum statistic."""
    hits = 0
    for seed in range(n):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(1, 12)) + 0.5 * rng.normal(size=(n_tests, 12))
        hits += max_statistic(values)[1].min() <= ALPHA
    return hits / n


def mantel_level(n=2000):
    """Permutation of conditions: the model is independent of the brain, subjects share conditions."""
    hits = 0
    for seed in range(n):
        rng = np.random.default_rng(seed)
        subjects = pdist(rng.normal(size=(14, 4))) + 0.3 * rng.random((5, 91))
        model = pdist(rng.normal(size=(14, 4)))
        hits += permutation_test(subjects, model, n_permutations=399, seed=seed).p[0] <= ALPHA
    return hits / n


@functools.cache
def _simulated(over, n=1000):
    """Scores, t intervals and p of a difference, bootstrapped over the factors that vary between simulations.

    Conditions are points. The brain adds features that are specific to the brain, and a subject adds noise for each
    condition. Two models add equally many features of their own; a third is independent of the brain.
    """
    population = np.random.default_rng(10)
    n_conditions, n_subjects = 118, 15
    fixed = [population.normal(size=(n_conditions, FEATURES)) for _ in range(5)]
    weights = population.uniform(0.5, 1.5, (n_subjects, FEATURES))
    rows = []
    for seed in range(n):
        rng = np.random.default_rng((seed, 11))
        new = over in ("conditions", "both")
        shared, specific, first, second, other = (
            rng.normal(size=f.shape) if new else f for f in fixed
        )
        scale = rng.uniform(0.5, 1.5, weights.shape) if over in ("subjects", "both") else weights
        brain = np.hstack([shared, specific])
        noise = np.zeros((n_subjects, *brain.shape))
        if over != "conditions":
            noise = rng.normal(size=noise.shape)
        subjects = np.array(
            [pdist(np.hstack([w, w]) * brain + e) for w, e in zip(scale, noise, strict=True)]
        )
        models = np.array(
            [*(pdist(np.hstack([shared, 1.5 * e])) for e in (first, second)), pdist(other)]
        )
        result = bootstrap(subjects, models, over, n_draws=200, seed=seed, ceiling=False)
        pair = result.compare_models()
        rows.append(
            {
                "value": result.value,
                "interval": result.interval(LEVEL),
                "lowest": result.interval(2 * LEVEL - 1)[:, 0],
                "difference": pair.estimate[0],
                "difference interval": pair.interval[0],
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _share_within(intervals, truth):
    return float(np.mean((intervals[..., 0] <= truth) & (truth <= intervals[..., 1])))


def bootstrap_coverage(over):
    """Coverage of the mean over simulations by the t intervals of the first two models' scores."""
    rows = _simulated(over)
    return _share_within(rows["interval"][:, :2], rows["value"][:, :2].mean(axis=0))


def difference_level(over):
    """Test of the difference between two models that are equally good in the population."""
    rows = _simulated(over)
    return 1 - _share_within(rows["difference interval"], rows["difference"].mean())


def zero_level(over):
    """Test against zero of a model that is independent of the brain; its mean over simulations is subtracted."""
    rows = _simulated(over)
    return float(np.mean(rows["lowest"][:, 2] >= rows["value"][:, 2].mean()))


def percentile_coverage(n=2000, n_subjects=40):
    """Coverage of percentile intervals of the bootstrap over subjects."""
    interval = subject_intervals(_values(3, n, n_subjects), n_draws=1999)
    return float(np.mean((interval[:, 0] <= 0) & (interval[:, 1] >= 0)))


def bca_coverage(n=1000, n_subjects=40):
    """Coverage of BCa intervals of the bootstrap over subjects, on eight conditions."""
    rng = np.random.default_rng(4)
    model = pdist(rng.normal(size=(8, 4)))
    results = [
        bootstrap(
            model + rng.normal(0, 2, (n_subjects, 28)),
            model,
            "subjects",
            n_draws=999,
            seed=seed,
            ceiling=False,
        )
        for seed in range(n)
    ]
    intervals = np.array([result.interval(LEVEL, "bca")[0] for result in results])
    return _share_within(intervals, np.mean([result.value[0] for result in results]))


LEVELS = {
    **{
        f"zero, {t}": functools.partial(subject_level, t)
        for t in ("sign-flip", "t-test", "wilcoxon")
    },
    **{
        f"pair, {t}": functools.partial(pair_level, t)
        for t in ("sign-flip", "t-test", "wilcoxon", "bootstrap")
    },
    "ceiling, sign-flip": ceiling_level,
    "family of 20, max": family_level,
    "Mantel": mantel_level,
    **{
        f"{name}, bootstrap over {o}": functools.partial(level, o)
        for name, level in (("zero", zero_level), ("difference", difference_level))
        for o in ("subjects", "conditions", "both")
    },
}
COVERAGES = {
    **{
        f"t, bootstrap over {o}": functools.partial(bootstrap_coverage, o)
        for o in ("subjects", "conditions", "both")
    },
    "bca, 40 subjects": bca_coverage,
    "percentile, 40 subjects": percentile_coverage,
}


def draw(levels, coverages, path):
    """Draw each rate as a point and its bounds as a band."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, rates, nominal, bounds, title in (
        (axes[0], levels, ALPHA, FALSE_POSITIVES, "false positives at α = 0.05"),
        (axes[1], coverages, LEVEL, COVERAGE, "coverage of 95 % intervals"),
    ):
        places = range(len(rates))[::-1]
        axis.axvspan(*bounds, color="0.9")
        axis.axvline(nominal, color="0.5", linewidth=0.8)
        axis.plot(list(rates.values()), places, "o")
        axis.set_yticks(places, list(rates))
        axis.set_title(title)
        axis.set_xlim(*(0, 0.1) if nominal == ALPHA else (0.9, 1))
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    measured = [{name: rate() for name, rate in rates.items()} for rates in (LEVELS, COVERAGES)]
    for rates in measured:
        for name, rate in rates.items():
            print(f"{name:40}{rate:.4f}")
    draw(*measured, "docs/calibration.png")
