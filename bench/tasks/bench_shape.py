"""Activations of layers → CKA and Procrustes distances of all pairs."""

import functools

import numpy as np

from bench.peers import shape as peers
from bench.peers.contenders import task

# The taps of a ResNet-20 on images of 32 × 32 pixels.
CHANNELS = (*[16 * 32 * 32] * 4, *[32 * 16 * 16] * 3, *[64 * 8 * 8] * 3, 1000)


@functools.cache
def layers():
    """Non-negative float32 activations (118, channels) with a common part."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((118, 20))
    return [
        np.maximum(
            common @ rng.standard_normal((20, c)) + 6 * rng.standard_normal((118, c)), 0
        ).astype(np.float32)
        for c in CHANNELS
    ]


@functools.cache
def narrow_layers():
    """Eleven layers of 128 channels in float64; scipy rotates channels, so its time grows with their cube."""
    rng = np.random.default_rng(1)
    common = rng.standard_normal((118, 128))
    return [
        common @ rng.standard_normal((128, 128)) / 11 + rng.standard_normal((118, 128))
        for _ in range(11)
    ]


@functools.cache
def cka():
    """Oracle: centred products of each layer in float64, and their cosines."""
    centred = (each.astype(np.float64) - each.mean(axis=0, dtype=np.float64) for each in layers())
    grams = np.stack([(x @ x.T).ravel() for x in centred])
    grams /= np.linalg.norm(grams, axis=1, keepdims=True)
    return grams @ grams.T


@functools.cache
def distances():
    """Oracle: what scipy's rotations leave."""
    return peers.scipy_procrustes(*narrow_layers())()


@task(
    "CKA of 11 × 11 layers, 118 conditions, from activations",
    peers.fastrdm_cka,
    peers.NUMPY_HSIC,
    peers.NUMPY_GRAM,
    peers.RSATOOLBOX_CKA,
    atol=1e-6,
)
def test_cka(contender, timed):
    """All layers of a network with each other; fastrdm's time includes the Gram matrices."""
    timed(*layers(), truth=cka(), targets={"numpy, HSIC of each pair": 50})


@task(
    "CKA of 11 × 11 layers, 118 conditions, from Gram matrices",
    peers.fastrdm_kept_cka,
    peers.NUMPY_HSIC,
    peers.NUMPY_KEPT,
    atol=1e-6,
)
def test_kept_cka(contender, timed):
    """The same if the Gram matrices are there, as they are after RDMs were made; numpy's HSIC has no use for them."""
    timed(*layers(), truth=cka(), targets={"numpy, HSIC of each pair": 50})


@task(
    "Procrustes distances of 11 × 11 layers, 118 × 128",
    peers.fastrdm_procrustes,
    peers.SCIPY_PROCRUSTES,
)
def test_procrustes(contender, timed):
    """All layers of a network with each other; singular values in place of rotations."""
    timed(*narrow_layers(), truth=distances(), targets={"scipy orthogonal_procrustes": 10})
