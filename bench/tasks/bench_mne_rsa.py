"""mne-rsa's functions, and fastrdm's in their places.

FASTRDM_BENCH_SENSORS=306 makes the searchlight that of a whole MEG helmet, which takes mne-rsa minutes.
"""

import functools
import os

import numpy as np
import pytest
import reference
from scipy import stats
from scipy.spatial.distance import cdist

from bench.peers import mne_functions as peers
from bench.peers.contenders import task

pytest.importorskip("mne_rsa")
SENSORS = int(os.environ.get("FASTRDM_BENCH_SENSORS", "40"))
CONDITIONS, TIMES = 92, 200 if SENSORS >= 306 else 60


@functools.lru_cache(maxsize=1)
def responses(n_conditions, n_sensors, n_times):
    """Float64 noise, with a part that neighbouring times share."""
    rng = np.random.default_rng(n_sensors)
    noise = rng.normal(size=(n_conditions, n_sensors, n_times))
    return noise + np.roll(noise, 1, axis=2) + np.roll(noise, 2, axis=2)


@task("mne-rsa compute_rdm, 92 × 6,120", peers.fastrdm_rdm, peers.MNE_RSA_RDM)
def test_rdm(contender, timed):
    """All sensors × a window of 20 samples."""
    data = responses(CONDITIONS, 306, 20).reshape(CONDITIONS, -1)
    timed(data, truth=reference.calc_rdm(data), targets={"mne-rsa": 5})


@task("mne-rsa compute_rdm_cv, 4 folds of 92 × 6,120", peers.fastrdm_rdm_cv, peers.MNE_RSA_RDM_CV)
def test_cross_validated_rdm(contender, timed):
    """Squared distances between mne-rsa's training patterns and each fold, mean + (fold - mean) / (folds - 1)."""
    data = responses(CONDITIONS, 306, 20).reshape(CONDITIONS, -1)
    folds = np.stack([np.roll(data, k, axis=1) for k in range(peers.FOLDS)])
    pairs = np.triu_indices(CONDITIONS, 1)
    mean, distances = folds.mean(axis=0), []
    for fold in folds:
        training = mean + (fold - mean) / (peers.FOLDS - 1)
        distances.append(cdist(training, fold, "sqeuclidean")[pairs])
    truth = np.mean(distances, axis=0)
    timed(data, truth=truth / data.shape[1], targets={"mne-rsa": 2})


def _rdms():
    rng = np.random.default_rng(0)
    rdms = rng.random((203, CONDITIONS * (CONDITIONS - 1) // 2))
    return rdms + rng.random(rdms.shape[1])


@task(
    "mne-rsa rsa, Spearman, 200 RDMs × 3 models",
    peers.fastrdm_similarity("spearman"),
    peers.mne_rsa_similarity("spearman"),
)
def test_spearman(contender, timed):
    """RDMs of 92 conditions."""
    rdms = _rdms()
    truth = reference.compare(rdms[:-3], rdms[-3:], "spearman")
    timed(rdms, truth=truth, targets={"mne-rsa": 5})


@task(
    "mne-rsa rsa, Kendall's τ-a, 200 RDMs × 3 models",
    peers.fastrdm_similarity("kendall-tau-a"),
    peers.mne_rsa_similarity("kendall-tau-a"),
)
def test_kendall(contender, timed):
    """RDMs of 92 conditions without ties, where τ-a is SciPy's τ-b."""
    rdms = _rdms()
    truth = [[stats.kendalltau(rdm, model).statistic for model in rdms[-3:]] for rdm in rdms[:-3]]
    timed(rdms, truth=np.array(truth), targets={"mne-rsa": 5})


@task(
    f"mne-rsa searchlight, {SENSORS} sensors × {TIMES} times × 92 conditions",
    peers.fastrdm_searchlight("spearman"),
    peers.mne_rsa_searchlight("spearman", takes_minutes=SENSORS >= 306),
)
def test_searchlight(contender, timed):
    """Patches of 10 sensors × 21 samples against three models, by Spearman's ρ; every 97th value is compared."""
    data = responses(CONDITIONS, SENSORS, TIMES)
    timed(data, truth=_oracle(data, _spearman), targets={"mne-rsa, all jobs": 20})


@task(
    f"mne-rsa searchlight, partial, {SENSORS} sensors × {TIMES} times × 92 conditions",
    peers.fastrdm_searchlight("partial"),
    peers.mne_rsa_searchlight("partial", takes_minutes=SENSORS >= 306),
)
def test_partial_searchlight(contender, timed):
    """The same patches, with partial correlations of three models."""
    data = responses(CONDITIONS, SENSORS, TIMES)
    timed(data, truth=_oracle(data, _partial), targets={"mne-rsa, all jobs": 20})


def _oracle(data, similarities):
    """Similarities (models, patches) of every 97th patch."""
    width, models = peers.SAMPLES + 1, np.array(peers.models(len(data)))
    lists, n_times = peers.neighbours(data.shape[1]), data.shape[2] - 2 * (width // 2)
    found = []
    for k in range(0, len(lists) * n_times, peers.EVERY):
        sensor, time = divmod(k, n_times)
        found.append(
            similarities(reference.calc_rdm(data[:, lists[sensor], time : time + width]), models)
        )
    return np.array(found).T


def _spearman(rdm, models):
    return reference.compare(rdm[None], models, "spearman")[0]


def _partial(rdm, models):
    """Correlations of what regressions on the other models leave."""
    found = []
    for k, model in enumerate(models):
        others = np.column_stack([np.delete(models, k, 0).T, np.ones(len(rdm))])
        left = [x - others @ np.linalg.lstsq(others, x, rcond=None)[0] for x in (rdm, model)]
        found.append(np.corrcoef(*left)[0, 1])
    return found
