"""The RDMs that the benches compare: 15 subjects with a common geometry, and models that partly share it."""

import functools

import numpy as np
from scipy import stats

PAIRS = 118 * 117 // 2


@functools.cache
def subjects():
    """15 condensed RDMs of 118 conditions with a common part, without ties."""
    return _rdms(15, seed=1)


@functools.cache
def models(n):
    """`n` such RDMs, the models."""
    return _rdms(n, seed=2)


def subjects_of(rdm, seed):
    """15 subjects with `rdm` as their common part."""
    return _rdms(15, seed, stats.rankdata(rdm) / len(rdm))


def spearman(rdms1, rdms2):
    """Oracle: Spearman's ρ of each pair, Pearson's r of scipy's average ranks in float64."""
    ranks = stats.rankdata(np.concatenate([rdms1, rdms2]), axis=1)
    return np.corrcoef(ranks)[: len(rdms1), len(rdms1) :]


def _rdms(n, seed, common=None):
    if common is None:
        common = np.random.default_rng(0).random(PAIRS)
    rdms = common + 2 * np.random.default_rng(seed).random((n, PAIRS))
    assert all(len(np.unique(row)) == PAIRS for row in rdms)
    return rdms
