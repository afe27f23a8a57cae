"""Activations → RDM."""

import functools

import numpy as np
import pytest
import reference

from bench.peers import contenders as peers

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
    """Operations that an RDM needs: a multiply-add per channel for each pair and each condition with itself."""
    return n_conditions * (n_conditions + 1) * n_channels


@pytest.mark.benchmark(group="correlation RDM, 118 × 802,816 float32")
@pytest.mark.parametrize(
    "contender",
    peers.contenders(
        peers.fastrdm_rdm,
        peers.NUMPY_RDM,
        peers.TORCH_RDM,
        peers.SCIPY_RDM,
        peers.RSATOOLBOX_RDM,
        atol=FLOAT32,
    ),
    indirect=True,
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


@pytest.mark.benchmark(group="correlation RDM, 118 × 500 float32")
@pytest.mark.parametrize(
    "contender",
    peers.contenders(
        peers.fastrdm_rdm,
        peers.NUMPY_RDM,
        peers.TORCH_RDM,
        peers.SCIPY_RDM,
        peers.RSATOOLBOX_RDM,
        peers.MNE_RSA_RDM,
        atol=FLOAT32,
    ),
    indirect=True,
)
def test_few_channels(contender, timed):
    """As many channels as a region has voxels: here the cost of a call counts, not the arithmetic."""
    shape = (118, 500)
    rows, truth = activations(*shape)
    timed(
        rows,
        truth=truth,
        flops=flops(*shape),
        targets={"rsatoolbox": 5, "numpy BLAS": 1, "fastrdm cpp-avx2, by numba": 6},
    )


@pytest.mark.benchmark(group="correlation RDM, 2,000 × 50,000 float32")
@pytest.mark.parametrize(
    "contender",
    peers.contenders(peers.fastrdm_rdm, peers.NUMPY_RDM, peers.TORCH_RDM, atol=FLOAT32),
    indirect=True,
)
def test_many_conditions(contender, timed):
    """Many conditions, where BLAS is at its best; scipy and rsatoolbox would take minutes."""
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
    own = np.einsum("fpc,fpc->p", differences, differences)
    truth = (np.einsum("pc,pc->p", total, total) - own) / (n_folds * (n_folds - 1))
    return rows.reshape(-1, n_channels), truth


@pytest.mark.benchmark(group="crossnobis RDM, 8 folds × 92 conditions × 500 channels")
@pytest.mark.parametrize(
    "contender",
    peers.contenders(peers.fastrdm_crossnobis, peers.RSATOOLBOX_CROSSNOBIS, atol=1e-6),
    indirect=True,
)
def test_crossnobis(contender, timed):
    """Eight runs of the challenge's 92 images in a region of 500 voxels."""
    rows, truth = measurements(8, 92, 500)
    timed(rows, truth=truth, targets={})
