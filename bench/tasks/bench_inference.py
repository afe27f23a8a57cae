"""How sure a score is: bootstraps with ceilings, and the Mantel test, on the same draws."""

import functools
import os

import numpy as np
import pytest

from bench.peers import contenders as peers
from bench.tasks import rdms
from fastrdm.similarity import draw_permutations

# Of 1,000 draws, what a paper reports, rsatoolbox takes two to six minutes, of 10,000 permutations SciPy as long.
N_DRAWS = int(os.environ.get("FASTRDM_BENCH_DRAWS", "50"))
N_PERMUTATIONS = 10 * N_DRAWS


def _bench(over):
    return pytest.mark.benchmark(
        group=f"bootstrap over {over}, {N_DRAWS:,} draws with ceilings, 1 model × 15 subjects, 118 conditions"
    )


def _contenders(over):
    return pytest.mark.parametrize(
        "contender",
        peers.contenders(
            peers.fastrdm_bootstrap(over, N_DRAWS), peers.rsatoolbox_bootstrap(over, N_DRAWS)
        ),
        indirect=True,
    )


def _bootstrap(timed, over):
    # The oracle is the numbers written out, by a method without a kernel of its own: what Spearman's coefficient is
    # of ranks.
    truth = _truth(over)
    timed(rdms.models(1), rdms.subjects(), truth=truth, targets={"rsatoolbox": 300})


@functools.cache
def _truth(over):
    return peers.written_bootstrap(over, N_DRAWS)(rdms.models(1), rdms.subjects())


@_bench("subjects")
@_contenders("subjects")
def test_subjects(contender, timed):
    """`eval_bootstrap_rdm`."""
    _bootstrap(timed, "subjects")


@_bench("conditions")
@_contenders("conditions")
def test_conditions(contender, timed):
    """`eval_bootstrap_pattern`."""
    _bootstrap(timed, "conditions")


@_bench("both")
@_contenders("both")
def test_both(contender, timed):
    """`eval_dual_bootstrap`: three bootstraps on the same draws."""
    _bootstrap(timed, "both")


@pytest.mark.benchmark(
    group=f"Mantel test, {N_PERMUTATIONS:,} permutations, 1 model × 15 subjects, 118 conditions"
)
@pytest.mark.parametrize(
    "contender",
    peers.contenders(peers.fastrdm_mantel(N_PERMUTATIONS), peers.scipy_mantel(N_PERMUTATIONS)),
    indirect=True,
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
    moved = np.array([matrix[p[first], p[second]] for p in draw_permutations(0, N_PERMUTATIONS, n)])
    observed = rdms.spearman(models, subjects).mean()
    hits = np.count_nonzero(rdms.spearman(moved, subjects).mean(axis=1) >= observed - 1e-12)
    return observed, (1 + hits) / (1 + N_PERMUTATIONS)
