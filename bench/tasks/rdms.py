"""The RDMs that the benches compare: 15 subjects who share some geometry, and models that have some of it."""

import functools

import numpy as np
from scipy import stats

PAIRS = 118 * 117 // 2


@functools.cache
def subjects():
    """15 condensed RDMs of 118 conditions with a common part, no two entries of one equal."""
    return _rdms(15, seed=1)


@functools.cache
def models(n):
    """The same for `n` models."""
    return _rdms(n, seed=2)


def who_see(rdm, seed):
    """15 subjects whose common part is an RDM."""
    return _rdms(15, seed, stats.rankdata(rdm) / len(rdm))


def spearman(rdms1, rdms2):
    """Oracle: Spearman's ρ of each with each, Pearson's r of scipy's average ranks in float64."""
    ranks = stats.rankdata(np.concatenate([rdms1, rdms2]), axis=1)
    return np.corrcoef(ranks)[: len(rdms1), len(rdms1) :]


def _rdms(n, seed, common=None):
    if common is None:
        common = np.random.default_rng(0).random(PAIRS)
    rdms = common + 2 * np.random.default_rng(seed).random((n, PAIRS))
    assert all(len(np.unique(row)) == PAIRS for row in rdms)
    return rdms
