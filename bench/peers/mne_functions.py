"""mne-rsa's functions, and fastrdm's in their places.

Each contender's call is the same line with `fastrdm.interop.mne_rsa` or `mne_rsa`.
"""

import numpy as np

from bench.peers.contenders import Contender

NEIGHBOURS, SAMPLES, FOLDS, MODELS = 10, 20, 4, 3
# The answers of a searchlight that are compared with the oracle.
EVERY = 97


def models(n_conditions):
    """Condensed model RDMs."""
    rng = np.random.default_rng(n_conditions)
    return list(rng.random((MODELS, n_conditions * (n_conditions - 1) // 2)))


def neighbours(n_sensors):
    """The nearest sensors of each, on a sphere."""
    positions = np.random.default_rng(n_sensors).normal(size=(n_sensors, 3))
    positions /= np.linalg.norm(positions, axis=1, keepdims=True)
    return [np.argsort(-row)[:NEIGHBOURS].tolist() for row in positions @ positions.T]


def patches(shape):
    """Patches of 10 sensors × 21 samples: mne-rsa's have an odd number."""
    import mne
    import mne_rsa

    mne.set_log_level("ERROR")
    return mne_rsa.searchlight(
        shape, spatial_radius=neighbours(shape[1]), temporal_radius=SAMPLES // 2
    )


def _rdm(package):
    return lambda data: lambda: package().compute_rdm(data)


def _rdm_cv(package):
    def prepare(data):
        folds = np.stack([np.roll(data, k, axis=1) for k in range(FOLDS)])
        return lambda: package().compute_rdm_cv(folds, "sqeuclidean") / data.shape[1]

    return prepare


def _similarity(package, metric):
    return lambda rdms: lambda: package().rsa(list(rdms[:-MODELS]), list(rdms[-MODELS:]), metric)


def _searchlight(package, metric, n_jobs=1):
    def prepare(data):
        listed = models(len(data))

        def call():
            found = package().rsa_array(
                data, listed, patches(data.shape), rsa_metric=metric, n_jobs=n_jobs
            )
            # mne-rsa 0.9 has the models last.
            by_model = np.moveaxis(found, -1, 0) if found.shape[-1] == MODELS else found
            return by_model.reshape(MODELS, -1)[:, ::EVERY]

        return call

    return prepare


def _ours():
    import fastrdm.interop.mne_rsa

    return fastrdm.interop.mne_rsa


def _theirs():
    import mne_rsa

    return mne_rsa


fastrdm_rdm = _rdm(_ours)
fastrdm_rdm_cv = _rdm_cv(_ours)
MNE_RSA_RDM = Contender("mne-rsa", _rdm(_theirs), "mne_rsa")
MNE_RSA_RDM_CV = Contender("mne-rsa", _rdm_cv(_theirs), "mne_rsa")


def fastrdm_similarity(metric):
    return _similarity(_ours, metric)


def mne_rsa_similarity(metric):
    return Contender("mne-rsa", _similarity(_theirs, metric), "mne_rsa")


def fastrdm_searchlight(metric):
    return _searchlight(_ours, metric)


def mne_rsa_searchlight(metric, takes_minutes=False):
    return Contender(
        "mne-rsa, all jobs",
        _searchlight(_theirs, metric, n_jobs=-1),
        "mne_rsa",
        takes_minutes=takes_minutes,
    )
