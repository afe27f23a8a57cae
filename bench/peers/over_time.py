"""Contenders that score time points and test clusters of them."""

import itertools

import numpy as np
import reference
from scipy import stats

import fastrdm
from bench.peers.contenders import Contender

# Cluster-forming threshold of t: p = 0.05 of one time point and 12 subjects.
THRESHOLD = 1.7958848187036696

N_SUBJECTS = 12

# Models and subjects (subjects × times, pairs) → rho (models, times, subjects).


def _by_subject(subjects):
    return subjects.reshape(N_SUBJECTS, -1, subjects.shape[1])


def fastrdm_scores(models, subjects):
    target = fastrdm.Target(_by_subject(subjects), over_time="each")
    return lambda: target.score(models).rho


def spearman_loop(models, subjects):
    """Oracle: SciPy, one pair of RDMs after the other."""

    def call():
        return np.array(
            [
                [
                    [stats.spearmanr(model, rdm).statistic for rdm in rdms]
                    for rdms in _by_subject(subjects).transpose(1, 0, 2)
                ]
                for model in models
            ]
        )

    return call


SPEARMAN_LOOP = Contender("scipy spearmanr loop", spearman_loop, "scipy", takes_minutes=True)


# Values (1, times, subjects) → first, last, mass and p of each cluster, one-sided, from all flips.


def fastrdm_clusters(values):
    def call():
        found = fastrdm.cluster_test(values, threshold=THRESHOLD)
        return np.stack([found.first, found.last, found.mass, found.p], axis=1)

    return call


def numpy_clusters(values):
    """Oracle: NumPy, one flip after the other."""
    signs = np.array(list(itertools.product([1, -1], repeat=values.shape[2])))

    def call():
        rows = reference.cluster_test(values, signs, THRESHOLD, "greater", True)
        return np.array([row[1:] for row in rows], float)

    return call


def mne_clusters(values):
    import mne

    def call():
        # More permutations than flips: all of them are taken.
        _, clusters, p, _ = mne.stats.permutation_cluster_1samp_test(
            values[0].T, THRESHOLD, 1 << 20, 1, out_type="indices", verbose="error"
        )
        t = stats.ttest_1samp(values[0], 0, axis=1).statistic
        rows = [
            (times[0], times[-1], t[times].sum(), each)
            for (times,), each in zip(clusters, p, strict=True)
        ]
        return np.array(sorted(rows), float)

    return call


NUMPY_CLUSTERS = Contender("NumPy, flip by flip", numpy_clusters, "numpy", takes_minutes=True)
# It counts a flip with an equal mass only if it has equal bits: p may be one flip of 4,096 lower.
MNE_CLUSTERS = Contender("MNE-Python", mne_clusters, "mne", atol=3e-4)
