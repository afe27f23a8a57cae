"""Contenders that compare RDMs, score models against subjects and estimate noise ceilings."""

import numpy as np
from scipy import stats

import fastrdm
from bench.peers.contenders import Contender

# RDMs (n1, pairs) × RDMs (n2, pairs) → Spearman's ρ (n1, n2).


def fastrdm_spearman(rdms1, rdms2):
    return lambda: fastrdm.compare(rdms1, rdms2, "spearman")


def fastrdm_score(models, subjects):
    target = fastrdm.Target(subjects)
    return lambda: target.score(models).rho


def numpy_spearman(rdms1, rdms2):
    return lambda: _unit_ranks(rdms1) @ _unit_ranks(rdms2).T


def numpy_prepared_spearman(models, subjects):
    prepared = _unit_ranks(subjects).T.copy()
    return lambda: _unit_ranks(models) @ prepared


def _unit_ranks(rdms):
    """Centred ranks of unit length from one argsort; correct only without ties, as in these benches."""
    n = rdms.shape[1]
    ranks = np.empty_like(rdms)
    values = (np.arange(n) - (n - 1) / 2) / np.sqrt(n * (n**2 - 1) / 12)
    np.put_along_axis(ranks, rdms.argsort(axis=1), values[None], axis=1)
    return ranks


def scipy_loop(rdms1, rdms2):
    return lambda: np.array([[stats.spearmanr(a, b).statistic for b in rdms2] for a in rdms1])


def scipy_matrix(rdms1, rdms2):
    both = np.concatenate([rdms1, rdms2])
    return lambda: stats.spearmanr(both, axis=1).statistic[: len(rdms1), len(rdms1) :]


def rsatoolbox_compare(method):
    def prepare(rdms1, rdms2):
        from rsatoolbox.rdm import RDMs, compare

        first, second = RDMs(rdms1), RDMs(rdms2)
        return lambda: compare(first, second, method=method)

    return prepare


def mne_rsa_spearman(rdms1, rdms2):
    import mne_rsa

    data, models = list(rdms1), list(rdms2)
    return lambda: mne_rsa.rsa(data, models, metric="spearman")


def torch_spearman(rdms1, rdms2):
    import torch

    n = rdms1.shape[1]
    values = torch.from_numpy((np.arange(n) - (n - 1) / 2) / np.sqrt(n * (n**2 - 1) / 12))

    def unit_ranks(rdms):
        return torch.empty_like(rdms).scatter_(1, rdms.argsort(dim=1), values.expand_as(rdms))

    first, second = torch.from_numpy(rdms1), torch.from_numpy(rdms2)
    return lambda: (unit_ranks(first) @ unit_ranks(second).T).numpy()


NUMPY_SPEARMAN = Contender("numpy argsort + BLAS", numpy_spearman, "numpy")
NUMPY_PREPARED_SPEARMAN = Contender("numpy argsort + BLAS", numpy_prepared_spearman, "numpy")
SCIPY_LOOP = Contender("scipy spearmanr loop", scipy_loop, "scipy")
SCIPY_MATRIX = Contender("scipy spearmanr matrix", scipy_matrix, "scipy")
RSATOOLBOX_SPEARMAN = Contender("rsatoolbox", rsatoolbox_compare("spearman"), "rsatoolbox")
MNE_RSA_SPEARMAN = Contender("mne-rsa", mne_rsa_spearman, "mne_rsa")
TORCH_SPEARMAN = Contender("torch argsort", torch_spearman, "torch")


# RDMs × RDMs → Kendall's τ-b.


def fastrdm_tau_b(rdms1, rdms2):
    return lambda: fastrdm.compare(rdms1, rdms2, "tau-b")


def scipy_tau_b(rdms1, rdms2):
    return lambda: np.array([[stats.kendalltau(a, b).statistic for b in rdms2] for a in rdms1])


SCIPY_TAU_B = Contender("scipy kendalltau loop", scipy_tau_b, "scipy")
RSATOOLBOX_TAU_B = Contender("rsatoolbox", rsatoolbox_compare("kendall"), "rsatoolbox")


# Subject RDMs (subjects, pairs) → lower and upper bound, Spearman's ρ with pooled ranks, not squared.


def fastrdm_ceiling(subjects):
    def call():
        ceiling = fastrdm.noise_ceiling(subjects, "spearman", pool="rank", squared=False)
        return ceiling.lower, ceiling.upper

    return call


def scipy_ceiling(subjects):
    def call():
        ranks = stats.rankdata(subjects, axis=1)
        total = ranks.sum(axis=0)
        pooled = stats.rankdata(np.concatenate([total - ranks, total[None]]), axis=1)
        rho = np.corrcoef(ranks, pooled)[: len(ranks), len(ranks) :]
        return np.diagonal(rho).mean(), rho[:, -1].mean()

    return call


def rsatoolbox_ceiling(subjects):
    from rsatoolbox.inference import boot_noise_ceiling
    from rsatoolbox.rdm import RDMs

    rdms = RDMs(subjects)
    return lambda: boot_noise_ceiling(rdms, method="spearman")


SCIPY_CEILING = Contender("scipy rankdata", scipy_ceiling, "scipy")
RSATOOLBOX_CEILING = Contender("rsatoolbox", rsatoolbox_ceiling, "rsatoolbox")
