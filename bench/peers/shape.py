"""Contenders that compare activations of layers by CKA and by Procrustes distances."""

import numpy as np
from scipy.linalg import orthogonal_procrustes

import fastrdm
from bench.peers.contenders import Contender

# Activations of layers, each (conditions, channels) → CKA (layers, layers).


def fastrdm_cka(*layers):
    def call():
        grams = fastrdm.gram(dict(enumerate(layers)))
        return fastrdm.cka(grams, grams)

    return call


def fastrdm_kept_cka(*layers):
    grams = fastrdm.gram(dict(enumerate(layers)))
    return lambda: fastrdm.cka(grams, grams)


def _each_pair(measure, layers):
    return lambda: np.array([[measure(x, y) for y in layers] for x in layers])


def _centred(gram):
    n = len(gram)
    centring = np.eye(n, dtype=gram.dtype) - np.ones((n, n), gram.dtype) / n
    return centring @ gram @ centring


def numpy_hsic_cka(*layers):
    """Three HSICs for each pair, each of two Gram matrices."""

    def hsic(x, y):
        return np.sum(_centred(x @ x.T) * _centred(y @ y.T))

    return _each_pair(lambda x, y: hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y)), layers)


def numpy_gram_cka(*layers):
    """Two Gram matrices for each pair, centred by their means."""

    def centred(x):
        gram = x @ x.T
        means = gram.mean(axis=0)
        return gram - means - means[:, None] + means.mean()

    def cka(x, y):
        k, m = centred(x), centred(y)
        return np.sum(k * m) / (np.linalg.norm(k) * np.linalg.norm(m))

    return _each_pair(cka, layers)


def numpy_kept_cka(*layers):
    """The Gram matrices are made once and kept; only centring and products are timed."""
    grams = [x.astype(np.float64) @ x.T for x in layers]

    def cka(k, m):
        k, m = _centred(k), _centred(m)
        return np.sum(k * m) / (np.linalg.norm(k) * np.linalg.norm(m))

    return _each_pair(cka, grams)


def rsatoolbox_cka(*layers):
    """The whitened cosine of squared Euclidean RDMs, which equals CKA."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, compare, concat

    datasets = [Dataset(x) for x in layers]

    def call():
        rdms = concat([calc_rdm(dataset, method="euclidean") for dataset in datasets])
        return compare(rdms, rdms, method="cosine_cov")

    return call


NUMPY_HSIC = Contender("numpy, HSIC of each pair", numpy_hsic_cka, "numpy", 1e-5)
NUMPY_GRAM = Contender("numpy, Gram matrices of each pair", numpy_gram_cka, "numpy", 1e-5)
NUMPY_KEPT = Contender("numpy, kept Gram matrices", numpy_kept_cka, "numpy")
RSATOOLBOX_CKA = Contender("rsatoolbox cosine_cov", rsatoolbox_cka, "rsatoolbox", 1e-6)


# Activations of layers, each (conditions, channels) → squared Procrustes distances (layers, layers).


def fastrdm_procrustes(*layers):
    def call():
        grams = fastrdm.gram(dict(enumerate(layers)))
        return fastrdm.procrustes(grams, grams)

    return call


def scipy_procrustes(*layers):
    def distance(x, y):
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        rotation, _ = orthogonal_procrustes(x, y)
        return np.sum((x @ rotation - y) ** 2)

    return _each_pair(distance, layers)


SCIPY_PROCRUSTES = Contender("scipy orthogonal_procrustes", scipy_procrustes, "scipy")
