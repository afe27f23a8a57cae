"""Contenders that compute RDMs of many neighbourhoods of channels, and compare them with models."""

import numpy as np

import fastrdm
from bench.peers.contenders import Contender

CHANNELS, MODELS = 100, 3


def neighbours(n_channels):
    """Channels of as many centres, near them in an order of all channels, as voxels of a ball are in a volume."""
    rng = np.random.default_rng(0)
    width = min(n_channels, 10 * CHANNELS)
    firsts = np.linspace(0, n_channels - width, n_channels).astype(int)
    size = min(CHANNELS, width)
    return [first + np.sort(rng.choice(width, size, replace=False)) for first in firsts]


def models(n_conditions):
    """Condensed model RDMs."""
    return np.random.default_rng(1).random((MODELS, n_conditions * (n_conditions - 1) // 2))


def fastrdm_rdms(data):
    places = neighbours(data.shape[1])
    return lambda: fastrdm.calc_rdm_searchlight(data, places)


def fastrdm_scores(data):
    places, listed = neighbours(data.shape[1]), models(len(data))
    return lambda: fastrdm.score_searchlight(data, places, listed)


def fastrdm_loop(data):
    places = neighbours(data.shape[1])
    return lambda: np.stack([fastrdm.calc_rdm(data[:, place]) for place in places])


def _rsatoolbox(data):
    from rsatoolbox.util.searchlight import get_searchlight_RDMs

    places, events = neighbours(data.shape[1]), np.arange(len(data))
    centres = np.arange(data.shape[1])
    return lambda: get_searchlight_RDMs(data, centres, places, events, verbose=False)


def rsatoolbox_rdms(data):
    compute = _rsatoolbox(data)
    return lambda: compute().dissimilarities


def rsatoolbox_scores(data):
    from rsatoolbox.rdm import RDMs, compare

    compute, listed = _rsatoolbox(data), RDMs(models(len(data)))
    return lambda: compare(compute(), listed, method="spearman")


LOOP = Contender("fastrdm calc_rdm in a loop", fastrdm_loop, "fastrdm")
RSATOOLBOX_RDMS = Contender("rsatoolbox", rsatoolbox_rdms, "rsatoolbox", takes_minutes=True)
RSATOOLBOX_SCORES = Contender("rsatoolbox", rsatoolbox_scores, "rsatoolbox", takes_minutes=True)
