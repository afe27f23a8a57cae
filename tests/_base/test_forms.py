"""Similarity matrices given as RDMs."""

import warnings

import numpy as np
import pytest
from scipy.io import savemat

import fastrdm
from fastrdm.studies import algonauts

RNG = np.random.default_rng(0)
# A square array of 15 conditions may be mistaken for condensed RDMs: 15 is a number of pairs.
CORRELATIONS = np.stack([np.corrcoef(RNG.random((15, 60))) for _ in range(4)])
RDMS = 1 - CORRELATIONS
SUBJECTS = RNG.random((4, 105))


def read(tmp_path, similarities, key="EVC_RDMs"):
    other = {"EVC_RDMs": "IT_RDMs", "IT_RDMs": "EVC_RDMs"}[key]
    savemat(tmp_path / "brain.mat", {key: similarities, other: RDMS})
    return tmp_path / "brain.mat"


# Functions that take square RDMs, and the name of the array in warnings.
WAYS = {
    "condense": (lambda s, _: fastrdm.condense(s), "rdms"),
    "condense one": (lambda s, _: fastrdm.condense(s[0]), "rdms"),
    "condense float32": (lambda s, _: fastrdm.condense(s.astype(np.float32)), "rdms"),
    "condense four axes": (lambda s, _: fastrdm.condense(s[:, None]), "rdms"),
    "noise_ceiling": (lambda s, _: fastrdm.noise_ceiling(s), "subject_rdms"),
    "noise_ceiling with times": (
        lambda s, _: fastrdm.noise_ceiling(np.stack([s, s], axis=1)),
        "subject_rdms",
    ),
    "Target": (lambda s, _: fastrdm.Target(s, ceiling=1), "subject_rdms"),
    "Target.score": (lambda s, _: fastrdm.Target(SUBJECTS, ceiling=1).score(s), "rdms"),
    "Target.score one": (lambda s, _: fastrdm.Target(SUBJECTS, ceiling=1).score(s[0]), "rdms"),
    "Target.score dict": (
        lambda s, _: fastrdm.Target(SUBJECTS, ceiling=1).score({"a": s[0], "b": s[1]}),
        "rdms",
    ),
    "bootstrap, models": (lambda s, _: fastrdm.bootstrap(SUBJECTS, s, n_draws=2), "rdms"),
    "bootstrap, subjects": (
        lambda s, _: fastrdm.bootstrap(s, SUBJECTS, n_draws=2),
        "subject_rdms",
    ),
    "permutation_test": (
        lambda s, _: fastrdm.permutation_test(SUBJECTS, s, n_permutations=2),
        "rdms",
    ),
    "algonauts.subject_rdms": (lambda s, _: algonauts.subject_rdms(s, "IT_RDMs"), "IT_RDMs"),
    "write_submission": (lambda s, p: algonauts.write_submission(p, s[0]), "EVC_RDMs"),
    "read_target": (
        lambda s, p: algonauts.read_target(read(p, s), set="none"),
        r"EVC_RDMs of .*brain\.mat",
    ),
    "read_submission": (
        lambda s, p: algonauts.read_submission(read_one(p, s[0])),
        r"IT_RDMs of .*brain\.mat",
    ),
}


def read_one(tmp_path, similarity):
    savemat(tmp_path / "brain.mat", {"EVC_RDMs": RDMS[0], "IT_RDMs": similarity})
    return tmp_path / "brain.mat"


ways = pytest.mark.parametrize("way", WAYS)
SIMILARITIES = {
    "correlations": CORRELATIONS,
    "large": CORRELATIONS * 7,
    "negative correlations alone": np.where(np.eye(15), 1.0, -np.abs(CORRELATIONS)),
}


@ways
@pytest.mark.parametrize("kind", SIMILARITIES)
def test_similarities_warn_once(way, kind, tmp_path):
    call, name = WAYS[way]
    message = rf"^{name} with shape \(.*15, 15\) looks like similarities: .*1 - r"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        call(SIMILARITIES[kind], tmp_path)
    assert len(caught) == 1 and caught[0].filename == __file__


def on_diagonal(rdms, value):
    return np.where(np.eye(15), value, rdms)


DISSIMILARITIES = {
    "zero diagonal": RDMS,
    "zero diagonal, negative distances": -RDMS - 0.1 * (1 - np.eye(15)),
    "NaN diagonal": on_diagonal(RDMS, np.nan),
    "rounded diagonal": RDMS + np.eye(15) * 1e-15,
    "NaN diagonal of similarities": on_diagonal(CORRELATIONS, np.nan),
}


@ways
@pytest.mark.parametrize("kind", DISSIMILARITIES)
def test_dissimilarities_never_warn(way, kind, tmp_path):
    rdms = DISSIMILARITIES[kind].copy()
    diagonal = np.arange(15)
    if kind != "rounded diagonal" and not np.isnan(rdms).any():
        rdms[..., diagonal, diagonal] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WAYS[way][0](rdms, tmp_path)


def test_the_warning_counts_similarities_in_a_stack():
    stack = np.concatenate([RDMS, CORRELATIONS[:1]])
    with pytest.warns(RuntimeWarning, match="on the diagonal in 1 of 5 matrices,") as caught:
        fastrdm.condense(stack)
    assert len(caught) == 1


def test_a_stack_that_is_condensed_in_parts_warns_once(monkeypatch):
    monkeypatch.setattr("fastrdm.similarity.numerics._BLOCK_SIZE", 300)
    target = fastrdm.Target(SUBJECTS, ceiling=1)
    with pytest.warns(RuntimeWarning, match="looks like similarities") as caught:
        target.score(CORRELATIONS)
    assert len(caught) == 1


def test_similarities_with_missing_entries_and_integers():
    missing = CORRELATIONS[0].copy()
    missing[2, 3] = missing[3, 2] = np.nan
    with pytest.warns(RuntimeWarning, match="looks like similarities"):
        fastrdm.condense(missing)
    with pytest.warns(RuntimeWarning, match="looks like similarities"):
        fastrdm.condense([[5, 1, 2], [1, 4, 3], [2, 3, 6]])


def test_a_constant_matrix_is_not_a_similarity():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastrdm.condense(np.ones((4, 4)))


@pytest.mark.parametrize("diagonal", [0, np.nan, 1])
@pytest.mark.parametrize("method", ["spearman", "cosine"])
def test_square_matrices_are_not_condensed_rdms(diagonal, method):
    matrix = np.where(np.eye(15), diagonal, CORRELATIONS[0] if diagonal == 1 else RDMS[0])
    message = r"rdms1 with shape \(15, 15\) looks like one square RDM or similarity matrix"
    with pytest.raises(ValueError, match=message):
        fastrdm.compare(matrix, RNG.random((2, 15)), method)
    with pytest.raises(ValueError, match="looks like one square RDM"):
        fastrdm.rank(matrix)
