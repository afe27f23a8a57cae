"""rsatoolbox's evaluations by `fastrdm.interop.rsatoolbox`, in the same objects and with the same random draws."""

import functools
import os

import numpy as np
import pytest

import fastrdm
from bench.peers import evaluations as peers
from bench.peers.contenders import task
from bench.tasks import rdms

pytest.importorskip("rsatoolbox")

# rsatoolbox takes up to a second for each draw.
N_DRAWS = int(os.environ.get("FASTRDM_BENCH_DRAWS", "20"))
N_CENTRES = 10 * N_DRAWS
SHAPE = "3 models × 15 subjects, 118 conditions"


def _bench(name, method):
    return task(
        f"rsatoolbox {name}, {N_DRAWS:,} draws, {method}, {SHAPE}",
        peers.evaluation(peers.OURS, name, method, N=N_DRAWS),
        peers.peer(peers.evaluation(peers.INFERENCE, name, method, N=N_DRAWS)),
    )


def _time(timed, name, method, target):
    # rsatoolbox is its own oracle: the draws are the same.
    timed(
        rdms.models(3), rdms.subjects(), truth=_truth(name, method), targets={"rsatoolbox": target}
    )


@functools.cache
def _truth(name, method):
    call = peers.evaluation(peers.INFERENCE, name, method, N=N_DRAWS)
    return call(rdms.models(3), rdms.subjects())()


@_bench("eval_bootstrap", "spearman")
def test_bootstrap(contender, timed):
    """Conditions and RDMs drawn, with noise ceilings."""
    _time(timed, "eval_bootstrap", "spearman", 100)


@_bench("eval_bootstrap", "cosine")
def test_bootstrap_of_cosines(contender, timed):
    """From products of all pairs of RDMs."""
    _time(timed, "eval_bootstrap", "cosine", 10)


@task(
    f"rsatoolbox eval_bootstrap, {N_DRAWS:,} draws, corr_cov, 3 models × 15 subjects, 90 conditions",
    peers.evaluation(peers.OURS, "eval_bootstrap", "corr_cov", N=N_DRAWS),
    peers.peer(peers.evaluation(peers.INFERENCE, "eval_bootstrap", "corr_cov", N=N_DRAWS)),
)
def test_bootstrap_of_whitened_correlations(contender, timed):
    """Double centring with missing pairs in closed form; rsatoolbox fails from 100 conditions."""
    models, subjects = (_fewer(x) for x in (rdms.models(3), rdms.subjects()))
    timed(models, subjects, truth=_whitened_truth(), targets={"rsatoolbox": 100})


@functools.cache
def _whitened_truth():
    call = peers.evaluation(peers.INFERENCE, "eval_bootstrap", "corr_cov", N=N_DRAWS)
    return call(_fewer(rdms.models(3)), _fewer(rdms.subjects()))()


def _fewer(vectors):
    return fastrdm.condense(fastrdm.square(vectors)[:, :90, :90])


@_bench("eval_dual_bootstrap", "spearman")
def test_dual_bootstrap(contender, timed):
    """Three bootstraps on the same draws."""
    _time(timed, "eval_dual_bootstrap", "spearman", 100)


@task(
    f"rsatoolbox crossval, 6 folds, weighted model, spearman, {SHAPE}",
    peers.cross_validation(peers.OURS, "spearman", "Weighted"),
    peers.peer(peers.cross_validation(peers.INFERENCE, "spearman", "Weighted")),
)
def test_cross_validation(contender, timed):
    """Fits of three weights from the same random starts."""
    timed(rdms.models(3), rdms.subjects(), truth=_folds_truth(), targets={"rsatoolbox": 5})


@functools.cache
def _folds_truth():
    call = peers.cross_validation(peers.INFERENCE, "spearman", "Weighted")
    return call(rdms.models(3), rdms.subjects())()


@task(
    f"rsatoolbox evaluate_models_searchlight, {N_CENTRES:,} centres, corr, 3 models, 118 conditions",
    peers.searchlight_evaluation(peers.OURS, "corr"),
    peers.peer(peers.searchlight_evaluation(peers.SEARCHLIGHT, "corr")),
)
def test_searchlight_evaluation(contender, timed):
    """`eval_fixed` of models at each centre."""
    centres = np.random.default_rng(3).random((N_CENTRES, rdms.PAIRS))
    truth = peers.searchlight_evaluation(peers.SEARCHLIGHT, "corr")(rdms.models(3), centres)()
    timed(rdms.models(3), centres, truth=truth, targets={"rsatoolbox": 20})
