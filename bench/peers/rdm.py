"""Contenders that make RDMs and projections of activations."""

import numpy as np
from scipy.spatial.distance import pdist

import fastrdm
from bench.peers.contenders import Contender

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
# It sums all channels in float32; with 802,816 channels the error is 3e-5.
RSATOOLBOX_RDM = Contender("rsatoolbox", rsatoolbox_rdm, "rsatoolbox", 1e-4)
MNE_RSA_RDM = Contender("mne-rsa", mne_rsa_rdm, "mne_rsa")
TORCH_RDM = Contender("torch corrcoef", torch_rdm, "torch", 1e-5)


# Activations (conditions, channels) → 4,096 components a condition.


def projector(n_channels):
    return fastrdm.SparseProjection(4096).layer(n_channels, "conv1")


def fastrdm_projection(activations):
    layer = projector(activations.shape[1])
    return lambda: layer.project(activations)


# Measurements (8 folds × conditions, channels) → condensed crossnobis distances, without noise normalisation.

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
