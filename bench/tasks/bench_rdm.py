"""Activations → RDM."""

import functools

import numpy as np
import reference

from bench.peers import rdm as peers
from bench.peers.contenders import task

FLOAT32 = 1e-6  # what fastrdm promises on float32 input


@functools.lru_cache(maxsize=1)
def activations(n_conditions, n_channels):
    """Non-negative float32 rows, alike in groups of eight, and their RDM by the float64 oracle."""
    rng = np.random.default_rng(n_channels)
    rows = rng.random((n_conditions, n_channels), np.float32)
    for group in range(8):
        rows[group::8] += rng.random(n_channels, np.float32)
    return rows, reference.calc_rdm(rows)


def flops(n_conditions, n_channels):
    """Operations of an RDM: a multiply-add per channel for each pair, each condition paired with itself included."""
    return n_conditions * (n_conditions + 1) * n_channels


@task(
    "correlation RDM, 118 × 802,816 float32",
    peers.fastrdm_rdm,
    peers.NUMPY_RDM,
    peers.TORCH_RDM,
    peers.SCIPY_RDM,
    peers.RSATOOLBOX_RDM,
    atol=FLOAT32,
)
def test_early_layer(contender, timed, extra_memory):
    """The first convolutional layers of a VGG at the 118 images of the Algonauts challenge."""
    shape = (118, 802_816)
    rows, truth = activations(*shape)
    timed(
        rows,
        truth=truth,
        flops=flops(*shape),
        targets={
            "share of the FMA peak": 0.70,
            "numpy BLAS": 6,
            "scipy pdist": 50,
            "extra memory": 0.05,
            "fastrdm cpp-avx2, by numba": 6,
        },
    )
    extra_memory(*shape)


@task(
    "correlation RDM, 118 × 500 float32",
    peers.fastrdm_rdm,
    peers.NUMPY_RDM,
    peers.TORCH_RDM,
    peers.SCIPY_RDM,
    peers.RSATOOLBOX_RDM,
    peers.MNE_RSA_RDM,
    atol=FLOAT32,
)
def test_few_channels(contender, timed):
    """As many channels as a region has voxels: the overhead of a call dominates, not the arithmetic."""
    shape = (118, 500)
    rows, truth = activations(*shape)
    timed(
        rows,
        truth=truth,
        flops=flops(*shape),
        targets={"rsatoolbox": 5, "numpy BLAS": 1, "fastrdm cpp-avx2, by numba": 6},
    )


@task(
    "correlation RDM, 2,000 × 50,000 float32",
    peers.fastrdm_rdm,
    peers.NUMPY_RDM,
    peers.TORCH_RDM,
    atol=FLOAT32,
)
def test_many_conditions(contender, timed):
    """Many conditions, the best case for BLAS; scipy and rsatoolbox would take minutes."""
    shape = (2_000, 50_000)
    rows, truth = activations(*shape)
    timed(
        rows,
        truth=truth,
        flops=flops(*shape),
        targets={"numpy BLAS": 2.5, "fastrdm cpp-avx2, by numba": 6},
    )


@functools.lru_cache(maxsize=1)
def measurements(n_folds, n_conditions, n_channels):
    """Patterns with noise, conditions in the same order in each fold, and their cross-validated distances."""
    rng = np.random.default_rng(5)
    patterns = rng.standard_normal((n_conditions, n_channels))
    rows = patterns + 2 * rng.standard_normal((n_folds, n_conditions, n_channels))
    first, second = np.triu_indices(n_conditions, 1)
    differences = rows[:, first] - rows[:, second]
    total = differences.sum(axis=0)
    same_fold = np.einsum("fpc,fpc->p", differences, differences)
    truth = (np.einsum("pc,pc->p", total, total) - same_fold) / (n_folds * (n_folds - 1))
    return rows.reshape(-1, n_channels), truth


@task(
    "crossnobis RDM, 8 folds × 92 conditions × 500 channels",
    peers.fastrdm_crossnobis,
    peers.RSATOOLBOX_CROSSNOBIS,
    atol=1e-6,
)
def test_crossnobis(contender, timed):
    """Eight runs of the challenge's 92 images in a region of 500 voxels."""
    rows, truth = measurements(8, 92, 500)
    timed(rows, truth=truth, targets={})
