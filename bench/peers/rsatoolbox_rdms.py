"""RDMs and similarities by rsatoolbox's signatures: its own functions, and fastrdm's."""

import importlib
import warnings

import numpy as np

from bench.peers.contenders import Contender

OURS = "fastrdm.interop.rsatoolbox"
THEIRS = "rsatoolbox.rdm"


def calculation(package, method, **options):
    """Return a contender's `prepare`: measurements (folds, conditions, channels) → an RDM."""

    def prepare(measurements):
        from rsatoolbox.data import Dataset

        n_folds, n, n_channels = measurements.shape
        labels = {
            "condition": np.tile([f"c{i:04d}" for i in range(n)], n_folds),
            "run": np.repeat(np.arange(n_folds), n),
        }
        data = Dataset(measurements.reshape(-1, n_channels), obs_descriptors=labels)
        function = importlib.import_module(package).calc_rdm
        return lambda: function(data, method, "condition", **options).dissimilarities[0]

    return prepare


def comparison(package, method, covariance=None):
    """Return a contender's `prepare`: two stacks of RDMs → similarities."""

    def prepare(first, second):
        from rsatoolbox.rdm import RDMs

        sides = RDMs(first), RDMs(second)
        function = importlib.import_module(package).compare

        def call():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return function(*sides, method, covariance)

        return call

    return prepare


def peer(prepare, atol=1e-9):
    """Return rsatoolbox's contender."""
    return Contender("rsatoolbox", prepare, "rsatoolbox", atol)
