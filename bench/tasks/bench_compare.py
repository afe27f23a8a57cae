"""RDMs × RDMs → similarities."""

import functools

import numpy as np
import pytest

import fastrdm
from bench.peers import comparison as peers
from bench.peers.contenders import task
from bench.tasks import rdms


@task(
    "compare spearman, 200 × 200 RDMs of 118 conditions",
    peers.fastrdm_spearman,
    peers.NUMPY_SPEARMAN,
    peers.TORCH_SPEARMAN,
    peers.SCIPY_MATRIX,
    peers.RSATOOLBOX_SPEARMAN,
)
def test_spearman(contender, timed):
    """All layers of one network with all layers of another."""
    first, second = rdms.models(200), rdms.models(400)[200:]
    timed(
        first, second, truth=rdms.spearman(first, second), targets={"fastrdm cpp-avx2, by numba": 6}
    )


@functools.cache
def tied():
    """200 models and 15 subjects rounded to three decimals, and scipy's τ-b of each pair."""
    models, subjects = (np.round(r, 3) for r in (rdms.models(200), rdms.subjects()))
    return models, subjects, peers.scipy_tau_b(models, subjects)()


@task(
    "compare tau-b, 200 × 15 RDMs of 118 conditions",
    peers.fastrdm_tau_b,
    peers.SCIPY_TAU_B,
    peers.RSATOOLBOX_TAU_B,
)
def test_tau_b(contender, timed):
    """Kendall's τ with ties, which the peers count again for each pair of RDMs."""
    if contender.package == "fastrdm":
        try:
            fastrdm.compare(rdms.subjects(), rdms.subjects(), "tau-b")
        except ValueError as error:
            pytest.skip(f"this fastrdm has no tau-b: {error}")
    models, subjects, truth = tied()
    timed(
        models,
        subjects,
        truth=truth,
        targets={"rsatoolbox": 30, "fastrdm cpp-avx2, by numba": 6},
    )
