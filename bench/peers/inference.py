"""Contenders that bootstrap scores and test them by permutation."""

from unittest import mock

import numpy as np
import reference
from scipy import stats

import fastrdm
from bench import library
from bench.peers.contenders import Contender

# A model and subjects → score, lower and upper bound of each draw, (kinds, draws, 3). A bootstrap over both has three
# kinds: subjects and conditions drawn, subjects alone, conditions alone.


def n_conditions(rdms):
    return fastrdm.square(rdms[:1]).shape[-1]


def _draws(over, n_draws, models, subjects):
    sizes = {"subjects": len(subjects), "conditions": n_conditions(models)}
    rng = np.random.default_rng(0)
    draws = {name: rng.integers(n, size=(n_draws, n)) for name, n in sizes.items()}
    return {name: draw for name, draw in draws.items() if over in (name, "both")}


def fastrdm_bootstrap(over, n_draws):
    def prepare(models, subjects):
        draws = _draws(over, n_draws, models, subjects)

        def call():
            result = fastrdm.bootstrap(subjects, models, over, draws=draws)
            return np.concatenate([result.evaluations, result.ceilings], axis=2)

        return call

    return prepare


def reference_bootstrap(over, n_draws):
    """Oracle: SciPy ranks and pools every draw as a matrix of its own."""

    def call(models, subjects):
        draws = _draws(over, n_draws, models, subjects)
        sizes = {"subjects": len(subjects), "conditions": n_conditions(models)}
        once = {name: [np.ones(n, int)] * n_draws for name, n in sizes.items()}
        counts = dict(once)
        for name, draw in draws.items():
            counts[name] = [np.bincount(row, minlength=sizes[name]) for row in draw]
        kinds = [(counts["conditions"], counts["subjects"])]
        if over == "both":
            kinds.append((once["conditions"], counts["subjects"]))
            kinds.append((counts["conditions"], once["subjects"]))
        return np.array(
            [
                [_evaluate(models[0], subjects, *pair) for pair in zip(*kind, strict=True)]
                for kind in kinds
            ]
        )

    return call


def _evaluate(model, subjects, condition_counts, subject_counts):
    """Score, lower and upper bound of one draw: how often each condition and each subject was drawn."""
    drawn = np.flatnonzero(subject_counts)
    rows = [reference.written(rdm, condition_counts) for rdm in [model, *subjects[drawn]]]
    ranks = stats.rankdata(np.array(rows), axis=1)
    weights = subject_counts[drawn]
    total = weights @ ranks[1:]
    pools = stats.rankdata(np.vstack([total, total - weights[:, None] * ranks[1:]]), axis=1)
    end = len(drawn) + 1
    rho = np.corrcoef(np.vstack([ranks, pools]))
    lower = np.diagonal(rho[1:end, end + 1 :]).mean()
    return weights @ rho[0, 1:end] / weights.sum(), lower, rho[1:end, end].mean()


def rsatoolbox_bootstrap(over, n_draws):
    names = {
        "subjects": "eval_bootstrap_rdm",
        "conditions": "eval_bootstrap_pattern",
        "both": "eval_dual_bootstrap",
    }

    def prepare(models, subjects):
        from rsatoolbox import inference
        from rsatoolbox.model import ModelFixed
        from rsatoolbox.rdm import RDMs

        draws = _draws(over, n_draws, models, subjects)
        model, data = ModelFixed("model", RDMs(models)), RDMs(subjects)

        def call():
            # It accepts no draws, but requests them from NumPy in this order.
            queue = iter([draw[d] for d in range(n_draws) for draw in draws.values()])
            with mock.patch.object(np.random, "randint", lambda low, high, size: next(queue)):
                result = getattr(inference, names[over])(model, data, method="spearman", N=n_draws)
            kinds = result.evaluations.reshape(n_draws, 1, -1)
            ceilings = result.noise_ceiling.reshape(2, n_draws, -1).transpose(1, 0, 2)
            return np.concatenate([kinds, ceilings], axis=1).transpose(2, 0, 1)

        return call

    return Contender("rsatoolbox", prepare, "rsatoolbox", takes_minutes=n_draws >= 200)


# A model and subjects → mean similarity and p of the Mantel test.


def fastrdm_mantel(n_permutations):
    def prepare(models, subjects):
        def call():
            result = fastrdm.permutation_test(subjects, models, n_permutations=n_permutations)
            return [result.estimate[0], result.p[0]]

        return call

    return prepare


def scipy_mantel(n_permutations):
    def prepare(models, subjects):
        n = n_conditions(models)
        permutations = library.draw_permutations(0, n_permutations, n)
        matrix = fastrdm.square(models[0])
        first, second = np.triu_indices(n, 1)

        def mean(model):
            return np.mean([stats.spearmanr(model, subject).statistic for subject in subjects])

        def call():
            observed = mean(models[0])
            null = np.array([mean(matrix[p[first], p[second]]) for p in permutations])
            return [
                observed,
                (1 + np.count_nonzero(null >= observed - 1e-12)) / (1 + n_permutations),
            ]

        return call

    return Contender("scipy spearmanr loop", prepare, "scipy", takes_minutes=n_permutations >= 2000)
