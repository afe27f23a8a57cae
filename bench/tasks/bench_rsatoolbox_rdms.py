"""RDMs and similarities by `fastrdm.interop.rsatoolbox`, in rsatoolbox's objects: averages, descriptors and all.

``OMP_NUM_THREADS=1 python -m pytest bench/tasks/bench_rsatoolbox_rdms.py --benchmark-only`` times both on one thread.
"""

import functools

import numpy as np
import pytest

from bench.peers import rsatoolbox_rdms as peers
from bench.peers.contenders import task

pytest.importorskip("rsatoolbox")


@functools.cache
def measurements():
    """8 runs of 92 conditions in 1,000 channels, all positive, as rates are."""
    return np.random.default_rng(0).gamma(2.0, 1.0, (8, 92, 1000))


@functools.cache
def stacks():
    """20 and 15 RDMs of 92 conditions without ties."""
    rng = np.random.default_rng(1)
    return rng.random((20, 4186)), rng.random((15, 4186))


def _calculation(method, **options):
    return task(
        f"rsatoolbox calc_rdm {method}, 92 conditions × 8 runs × 1,000 channels",
        peers.calculation(peers.OURS, method, **options),
        peers.peer(peers.calculation(peers.THEIRS, method, **options)),
    )


def _comparison(method, atol=1e-9):
    return task(
        f"rsatoolbox compare {method}, 20 × 15 RDMs of 92 conditions",
        peers.comparison(peers.OURS, method),
        peers.peer(peers.comparison(peers.THEIRS, method), atol),
        atol=atol,
    )


def _time_rdm(timed, method, target, **options):
    # rsatoolbox is its own oracle.
    truth = peers.calculation(peers.THEIRS, method, **options)(measurements())()
    timed(measurements(), truth=truth, targets={"rsatoolbox": target})


def _time_similarities(timed, method, target):
    truth = peers.comparison(peers.THEIRS, method)(*stacks())()
    timed(*stacks(), truth=truth, targets={"rsatoolbox": target})


@_calculation("correlation")
def test_correlation(contender, timed):
    """Averages over runs first."""
    _time_rdm(timed, "correlation", 2)


@_calculation("crossnobis", cv_descriptor="run")
def test_crossnobis(contender, timed):
    """Each run against the others, without noise normalisation."""
    _time_rdm(timed, "crossnobis", 4, cv_descriptor="run")


@_calculation("poisson_cv", cv_descriptor="run")
def test_poisson_cv(contender, timed):
    """The last run against the others."""
    _time_rdm(timed, "poisson_cv", 10, cv_descriptor="run")


@_comparison("spearman")
def test_spearman(contender, timed):
    """Ranks of each RDM once."""
    _time_similarities(timed, "spearman", 20)


@_comparison("tau-a")
def test_tau_a(contender, timed):
    """rsatoolbox sorts for each pair of RDMs."""
    _time_similarities(timed, "tau-a", 10)


@_comparison("cosine_cov")
def test_whitened_cosine(contender, timed):
    """Without a covariance of the patterns."""
    _time_similarities(timed, "cosine_cov", 3)


@_comparison("bures", 1e-6)
def test_bures(contender, timed):
    """The root of each first RDM's second-moment matrix is computed once."""
    _time_similarities(timed, "bures", 2)
