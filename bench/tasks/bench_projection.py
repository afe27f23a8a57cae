"""Activations → sparse random projection."""

import functools

import numpy as np
from scipy import sparse

from bench import library
from bench.peers import rdm as peers
from bench.peers.contenders import Contender, task
from bench.tasks.bench_rdm import activations

# Error of float32 sums whose values are in the tens.
FLOAT32 = 1e-3


@functools.lru_cache(maxsize=1)
def projected(n_conditions, n_channels):
    """float32 rows, and the float64 projections of their deviations from their means."""
    rows, _ = activations(n_conditions, n_channels)
    wide = rows.astype(np.float64)
    wide -= wide.mean(axis=1, keepdims=True)
    return rows, wide @ matrix(n_channels, np.float64)


def matrix(n_channels, dtype):
    """Channels × components, as a scipy.sparse matrix."""
    layer = peers.projector(n_channels)
    block, per_channel = library.sign_block(), layer.per_channel
    entries = layer._signs.entries
    place = np.arange(len(entries))[:, None] * block + entries % (2 * block) // 2
    values = (1.0 - 2.0 * (entries & 1)) / np.sqrt(per_channel)
    there = place < n_channels
    return sparse.csr_matrix(
        (values[there].astype(dtype), (place[there], entries[there] // (2 * block))),
        shape=(n_channels, layer.n_components),
    )


def scipy_projection(rows):
    signs = matrix(rows.shape[1], np.float32)

    def call():
        return (rows - rows.mean(axis=1, keepdims=True)) @ signs

    return call


SCIPY_PROJECTION = Contender("scipy.sparse", scipy_projection, "scipy", FLOAT32)


@task(
    "projection, 32 × 802,816 float32 to 4,096 components",
    peers.fastrdm_projection,
    SCIPY_PROJECTION,
    atol=FLOAT32,
)
def test_batch(contender, timed):
    """A batch of a network's first layer, without the means over channels."""
    rows, truth = projected(32, 802_816)
    timed(rows, truth=truth, targets={"scipy.sparse": 3})
