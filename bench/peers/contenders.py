"""The contenders: fastrdm under each kernel set, and its peers, each as one function per task.

A function takes the task's inputs and returns the call that is timed, so that what a contender prepares only once
(its own containers, ranks of the subjects for those that can keep them) stays off the clock.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist

import fastrdm

Prepare = Callable[..., Callable[[], Any]]


@dataclass(frozen=True)
class Contender:
    """One row of a task's table.

    `package` must be importable, else the contender is skipped; `atol` is how far its answer may be from the float64
    oracle; `environment` is set while it runs. One that `takes_minutes` is timed once, without a try before.
    """

    name: str
    prepare: Prepare
    package: str
    atol: float = 1e-9
    environment: Mapping[str, str] = field(default_factory=dict)
    takes_minutes: bool = False


def contenders(prepare: Prepare, *peers: Contender, atol: float = 1e-9) -> list[Any]:
    """fastrdm on every kernel set of this machine, the fastest first, then its peers, as parameters of a bench."""
    ours = [
        Contender(
            f"fastrdm {name}-{isa}",
            prepare,
            "fastrdm",
            atol,
            {"FASTRDM_KERNELS": name, "FASTRDM_ISA": isa},
        )
        for name, isa in _kernel_sets()
    ]
    return [pytest.param(c, id=c.name) for c in (*ours, *peers)]


def _kernel_sets() -> list[tuple[str, str]]:
    numba = [("numba", "native")]
    if importlib.util.find_spec("fastrdm._kernels._core") is None:
        return numba
    from fastrdm._kernels import _core

    return [("cpp", isa) for isa in _core.isas()] + numba


# Activations (conditions, channels) → condensed correlation RDM.


def fastrdm_rdm(activations):
    return lambda: fastrdm.calc_rdm(activations)


def numpy_rdm(activations):
    pairs = np.triu_indices(len(activations), 1)

    def call():
        unit = activations - activations.mean(axis=1, keepdims=True)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        return 1 - (unit @ unit.T)[pairs]

    return call


def scipy_rdm(activations):
    return lambda: pdist(activations, "correlation")


def rsatoolbox_rdm(activations):
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    dataset = Dataset(activations)
    return lambda: calc_rdm(dataset, method="correlation").dissimilarities[0]


def mne_rsa_rdm(activations):
    import mne_rsa

    return lambda: mne_rsa.compute_rdm(activations, metric="correlation")


def torch_rdm(activations):
    import torch

    rows = torch.from_numpy(activations)
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    return lambda: (1 - torch.corrcoef(rows)[first, second]).numpy()


NUMPY_RDM = Contender("numpy BLAS", numpy_rdm, "numpy", 1e-5)
SCIPY_RDM = Contender("scipy pdist", scipy_rdm, "scipy")
# Its float32 sums run on over all channels: at 802,816 of them it is off by 3e-5.
RSATOOLBOX_RDM = Contender("rsatoolbox", rsatoolbox_rdm, "rsatoolbox", 1e-4)
MNE_RSA_RDM = Contender("mne-rsa", mne_rsa_rdm, "mne_rsa")
TORCH_RDM = Contender("torch corrcoef", torch_rdm, "torch", 1e-5)


# Activations (conditions, channels) → 4,096 components a condition.


def projector(n_channels):
    return fastrdm.SparseProjection(4096).layer(n_channels, "conv1")


def fastrdm_projection(activations):
    layer = projector(activations.shape[1])
    return lambda: layer.project(activations)


# Measurements (8 folds × conditions, channels) → condensed crossnobis distances, noise left as it is.

FOLDS = 8


def _labels(measurements):
    n = len(measurements) // FOLDS
    return np.repeat(np.arange(FOLDS), n), np.tile(np.arange(n), FOLDS)


def fastrdm_crossnobis(measurements):
    folds, conditions = _labels(measurements)
    return lambda: fastrdm.calc_rdm(measurements, "crossnobis", folds=folds, conditions=conditions)


def rsatoolbox_crossnobis(measurements):
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    folds, conditions = _labels(measurements)
    dataset = Dataset(measurements, obs_descriptors={"fold": folds, "condition": conditions})

    def call():
        rdms = calc_rdm(dataset, method="crossnobis", descriptor="condition", cv_descriptor="fold")
        return rdms.dissimilarities[0] * measurements.shape[1]

    return call


RSATOOLBOX_CROSSNOBIS = Contender("rsatoolbox", rsatoolbox_crossnobis, "rsatoolbox", 1e-6)


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
    """Centred ranks of length 1 by one argsort: right only where no two entries are equal, as in these benches."""
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


# The same → Kendall's τ-b.


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


# A model and subjects → scores and both bounds of each draw, (draws, 3), of each kind of a bootstrap over both.


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


def written_bootstrap(over, n_draws):
    """Oracle: every draw written out, ranked and pooled by SciPy."""
    import reference

    def call(models, subjects):
        draws = _draws(over, n_draws, models, subjects)
        n = {"subjects": len(subjects), "conditions": n_conditions(models)}
        counts = {
            name: [np.bincount(d, minlength=n[name]) for d in draws[name]]
            if name in draws
            else [np.ones(n[name], int)] * n_draws
            for name in n
        }
        ones = {name: [np.ones(size, int)] * n_draws for name, size in n.items()}
        kinds = [(counts["conditions"], counts["subjects"])]
        if over == "both":
            kinds += [
                (ones["conditions"], counts["subjects"]),
                (counts["conditions"], ones["subjects"]),
            ]
        out = np.empty((len(kinds), n_draws, 3))
        for kind, (conditions, times) in enumerate(kinds):
            for d in range(n_draws):
                drawn = np.flatnonzero(times[d])
                rows = np.array(
                    [reference.written(r, conditions[d]) for r in [models[0], *subjects[drawn]]]
                )
                ranks = stats.rankdata(rows, axis=1)
                weights = times[d][drawn]
                total = weights @ ranks[1:]
                pools = stats.rankdata(
                    np.vstack([total, total - weights[:, None] * ranks[1:]]), axis=1
                )
                n_drawn = len(drawn)
                rho = np.corrcoef(np.vstack([ranks, pools]))
                upper = rho[1 : n_drawn + 1, n_drawn + 1]
                lower = np.diagonal(rho[1 : n_drawn + 1, n_drawn + 2 :])
                out[kind, d] = (
                    weights @ rho[0, 1 : n_drawn + 1] / weights.sum(),
                    lower.mean(),
                    upper.mean(),
                )
        return out

    return call


def rsatoolbox_bootstrap(over, n_draws):
    names = {
        "subjects": "eval_bootstrap_rdm",
        "conditions": "eval_bootstrap_pattern",
        "both": "eval_dual_bootstrap",
    }

    def prepare(models, subjects):
        from unittest import mock

        from rsatoolbox import inference
        from rsatoolbox.model import ModelFixed
        from rsatoolbox.rdm import RDMs

        draws = _draws(over, n_draws, models, subjects)
        model, data = ModelFixed("model", RDMs(models)), RDMs(subjects)

        def call():
            # It takes no draws, but asks for each in this order.
            queue = iter([draw[d] for d in range(n_draws) for draw in draws.values()])
            with mock.patch.object(np.random, "randint", lambda low, high, size: next(queue)):
                result = getattr(inference, names[over])(model, data, method="spearman", N=n_draws)
            kinds = result.evaluations.reshape(n_draws, 1, -1)
            ceilings = result.noise_ceiling.reshape(2, n_draws, -1).transpose(1, 0, 2)
            return np.concatenate([kinds, ceilings], axis=1).transpose(2, 0, 1)

        return call

    return Contender("rsatoolbox", prepare, "rsatoolbox", takes_minutes=n_draws >= 200)


# The same → mean similarity, and p of the Mantel test.


def fastrdm_mantel(n_permutations):
    def prepare(models, subjects):
        def call():
            result = fastrdm.permutation_test(subjects, models, n_permutations=n_permutations)
            return [result.estimate[0], result.p[0]]

        return call

    return prepare


def scipy_mantel(n_permutations):
    def prepare(models, subjects):
        from fastrdm.similarity import draw_permutations

        n = n_conditions(models)
        permutations = draw_permutations(0, n_permutations, n)
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
