"""Uncertainty of scores: bootstraps with ceilings, and the Mantel test, on the same draws."""

import functools
import os

import numpy as np

from bench import library
from bench.peers import inference as peers
from bench.peers.contenders import task
from bench.tasks import rdms

# With 1,000 draws, as papers report, rsatoolbox takes two to six minutes, and so does SciPy with 10,000 permutations.
N_DRAWS = int(os.environ.get("FASTRDM_BENCH_DRAWS", "50"))
N_PERMUTATIONS = 10 * N_DRAWS


def _bench(over):
    return task(
        f"bootstrap over {over}, {N_DRAWS:,} draws with ceilings, 1 model × 15 subjects, 118 conditions",
        peers.fastrdm_bootstrap(over, N_DRAWS),
        peers.rsatoolbox_bootstrap(over, N_DRAWS),
    )


def _bootstrap(timed, over):
    timed(rdms.models(1), rdms.subjects(), truth=_truth(over), targets={"rsatoolbox": 300})


@functools.cache
def _truth(over):
    return peers.reference_bootstrap(over, N_DRAWS)(rdms.models(1), rdms.subjects())


@_bench("subjects")
def test_subjects(contender, timed):
    """`eval_bootstrap_rdm`."""
    _bootstrap(timed, "subjects")


@_bench("conditions")
def test_conditions(contender, timed):
    """`eval_bootstrap_pattern`."""
    _bootstrap(timed, "conditions")


@_bench("both")
def test_both(contender, timed):
    """`eval_dual_bootstrap`: three bootstraps on the same draws."""
    _bootstrap(timed, "both")


@task(
    f"Mantel test, {N_PERMUTATIONS:,} permutations, 1 model × 15 subjects, 118 conditions",
    peers.fastrdm_mantel(N_PERMUTATIONS),
    peers.scipy_mantel(N_PERMUTATIONS),
)
def test_mantel(contender, timed):
    """The mean similarity over subjects, and its p."""
    targets = {"scipy spearmanr loop": 300}
    timed(rdms.models(1), rdms.subjects(), truth=_mantel_truth(), targets=targets)


@functools.cache
def _mantel_truth():
    models, subjects = rdms.models(1), rdms.subjects()
    n = peers.n_conditions(models)
    first, second = np.triu_indices(n, 1)
    matrix = np.zeros((n, n))
    matrix[first, second] = matrix[second, first] = models[0]
    permutations = library.draw_permutations(0, N_PERMUTATIONS, n)
    permuted = np.array([matrix[p[first], p[second]] for p in permutations])
    observed = rdms.spearman(models, subjects).mean()
    hits = np.count_nonzero(rdms.spearman(permuted, subjects).mean(axis=1) >= observed - 1e-12)
    return observed, (1 + hits) / (1 + N_PERMUTATIONS)
