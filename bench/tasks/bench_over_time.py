"""MEG: scores of each time point, and clusters of time points under all sign flips."""

import functools

import numpy as np

from bench.peers import over_time as peers
from bench.peers.contenders import task

N_TIMES, N_SUBJECTS = 100, peers.N_SUBJECTS


@functools.cache
def _rdms():
    rng = np.random.default_rng(0)
    models = rng.random((3, 4186))
    return models, rng.random((N_SUBJECTS * N_TIMES, 4186)) + models[0]


@functools.cache
def _values():
    rng = np.random.default_rng(1)
    values = rng.normal(0, 0.1, (1, N_TIMES, N_SUBJECTS))
    values[0, 40:60] += 0.08
    return values


@functools.cache
def _scores():
    return peers.spearman_loop(*_rdms())()


@functools.cache
def _clusters():
    return peers.numpy_clusters(_values())()


@task(
    f"score of each time point, 3 models × {N_SUBJECTS} subjects × {N_TIMES} times, 92 conditions",
    peers.fastrdm_scores,
    peers.SPEARMAN_LOOP,
)
def test_scores(contender, timed):
    """The subjects are ranked once."""
    timed(*_rdms(), truth=_scores(), targets={"scipy spearmanr loop": 200})


@task(
    f"cluster test, all {1 << N_SUBJECTS:,} sign flips of {N_SUBJECTS} subjects × {N_TIMES} times",
    peers.fastrdm_clusters,
    peers.NUMPY_CLUSTERS,
    peers.MNE_CLUSTERS,
)
def test_clusters(contender, timed):
    """Start, end, mass and p of each cluster."""
    timed(_values(), truth=_clusters(), targets={"NumPy, flip by flip": 100, "MNE-Python": 5})
