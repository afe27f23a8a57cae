"""Activations and responses → predictions of held-out conditions."""

import functools

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import RidgeCV

from bench.peers import encoding as peers
from bench.peers.contenders import task

# What fastrdm promises on float32 input is 1e-6 of the values; the standard deviation of these predictions is 2.
FLOAT32 = 2e-6
N_CONDITIONS, N_CHANNELS, N_UNITS, N_FOLDS, N_COMMON = 600, 100_000, 400, 5, 40


@functools.lru_cache(maxsize=1)
def data():
    """Float32 activations with a common part of falling strength, which units respond to, and the folds."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((N_CONDITIONS, N_COMMON), np.float32)
    common /= np.sqrt(1 + np.arange(N_COMMON, dtype=np.float32))
    rows = rng.standard_normal((N_CONDITIONS, N_CHANNELS), np.float32)
    rows += common @ rng.standard_normal((N_COMMON, N_CHANNELS), np.float32)
    responses = common @ rng.standard_normal((N_COMMON, N_UNITS))
    responses += rng.standard_normal((N_CONDITIONS, N_UNITS))
    return rows, responses, np.arange(N_CONDITIONS) % N_FOLDS


@functools.lru_cache(maxsize=1)
def rotated():
    """The activations in float64, rotated into as many channels as there are conditions, which predicts the same."""
    rows, _, _ = data()
    products = np.zeros((N_CONDITIONS, N_CONDITIONS))
    for start in range(0, N_CHANNELS, 10_000):
        block = rows[:, start : start + 10_000].astype(np.float64)
        products += block @ block.T
    values, vectors = np.linalg.eigh(products)
    return vectors * np.sqrt(np.maximum(values, 0))


@functools.lru_cache(maxsize=1)
def ridge_truth():
    """Predictions by scikit-learn in float64."""
    _, responses, folds = data()

    def fit(layer, measured):
        return RidgeCV(peers.ALPHAS, alpha_per_target=True).fit(layer, measured)

    return peers.by_folds(fit, rotated(), responses, folds)


@functools.lru_cache(maxsize=1)
def pls_truth():
    """Predictions of the first fold by scikit-learn in float64."""
    _, responses, folds = data()
    test, layer = folds == 0, rotated()
    model = PLSRegression(peers.COMPONENTS, scale=False).fit(layer[~test], responses[~test])
    return model.predict(layer[test])


@task(
    "ridge, 5 folds × 10 penalties, 600 × 100,000 float32 onto 400 units",
    peers.fastrdm_ridge,
    peers.SKLEARN_RIDGE,
    peers.HIMALAYA_RIDGE,
    atol=FLOAT32,
)
def test_ridge(contender, timed):
    """The penalty of each unit is chosen within the training conditions; the matrix of products is timed too."""
    timed(
        *data(),
        truth=ridge_truth(),
        targets={"scikit-learn RidgeCV": 20, "himalaya KernelRidgeCV, NumPy": 3},
    )


@task(
    "PLS, 25 components, one fold of 600 × 100,000 float32 onto 400 units",
    peers.fastrdm_pls,
    peers.SKLEARN_PLS,
    atol=FLOAT32,
)
def test_pls(contender, timed):
    """The first of the five folds is held out; the matrix of products is timed too."""
    timed(*data(), truth=pls_truth(), targets={"scikit-learn PLSRegression": 50})
