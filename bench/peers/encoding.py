"""Contenders that predict responses of held-out conditions from activations."""

import numpy as np

import fastrdm
from bench.peers.contenders import Contender

# Activations (conditions, channels), responses (conditions, units) and the fold of each condition → predictions
# (conditions, units), each penalty of each unit chosen within the training conditions.

ALPHAS = np.logspace(2, 11, 10)
COMPONENTS = 25


def fastrdm_ridge(activations, responses, folds):
    measured = fastrdm.Responses(responses)

    def call():
        score = measured.score(
            fastrdm.gram(activations), folds=folds, alphas=ALPHAS, keep_predictions=True
        )
        return score.predictions[0, 0]

    return call


def by_folds(fit, activations, responses, folds):
    """Predictions of a peer: `fit` takes training activations and responses and returns an estimator."""
    predictions = np.empty(responses.shape)
    for fold in np.unique(folds):
        test = folds == fold
        estimator = fit(activations[~test], responses[~test])
        predictions[test] = estimator.predict(activations[test])
    return predictions


def sklearn_ridge(activations, responses, folds):
    from sklearn.linear_model import RidgeCV

    def fit(layer, measured):
        return RidgeCV(ALPHAS, alpha_per_target=True).fit(layer, measured)

    return lambda: by_folds(fit, activations, responses, folds)


def himalaya_ridge(activations, responses, folds):
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV

    set_backend("numpy")

    def fit(layer, measured):
        return KernelRidgeCV(ALPHAS, fit_intercept=True, cv=5).fit(layer, measured)

    return lambda: by_folds(fit, activations, np.float32(responses), folds)


# The choice of penalties by five inner folds instead of one condition at a time is not that of the oracle everywhere.
INNER_FOLDS = 0.5
SKLEARN_RIDGE = Contender("scikit-learn RidgeCV", sklearn_ridge, "sklearn", 1e-4)
HIMALAYA_RIDGE = Contender("himalaya KernelRidgeCV, NumPy", himalaya_ridge, "himalaya", INNER_FOLDS)


# The same for one fold, by partial least squares with 25 components.


def fastrdm_pls(activations, responses, folds):
    measured = fastrdm.Responses(responses)
    one = np.where(folds == 0, 0, -1)

    def call():
        score = measured.score(
            fastrdm.gram(activations),
            "pls",
            folds=one,
            n_components=COMPONENTS,
            keep_predictions=True,
        )
        return score.predictions[0, 0][folds == 0]

    return call


def sklearn_pls(activations, responses, folds):
    from sklearn.cross_decomposition import PLSRegression

    test = folds == 0

    def call():
        model = PLSRegression(COMPONENTS, scale=False).fit(activations[~test], responses[~test])
        return model.predict(activations[test])

    return call


SKLEARN_PLS = Contender(
    "scikit-learn PLSRegression", sklearn_pls, "sklearn", 1e-4, takes_minutes=True
)
