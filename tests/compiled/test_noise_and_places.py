"""Noise-normalised distances and searchlights of the library for C and C++, against plain NumPy."""

import os

import numpy as np
import pytest
import scipy.stats

if os.name != "posix":
    pytest.skip("loads the shared library by its POSIX name", allow_module_level=True)
from c_library import DTYPES, INVALID, METHODS, OK, RANGE, SIMILARITIES


def pairs_of(x):
    first, second = np.triu_indices(len(x), 1)
    return x[first].astype(float) - x[second]


def crossnobis(folds, precision):
    """The mean over pairs of different folds of (x_f - y_f) P (x_g - y_g)."""
    apart = np.stack([pairs_of(fold) for fold in folds])
    products = np.einsum("fpc,cd,gpd->fgp", apart, precision, apart)
    n = len(folds)
    return (products.sum(axis=(0, 1)) - np.einsum("ffp->p", products)) / (n * (n - 1))


@pytest.fixture(scope="module")
def noise():
    samples = np.random.default_rng(3).standard_normal((40, 7))
    return np.linalg.inv(samples.T @ samples / 40)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("offset", [0, 100])
def test_distances_of_whitened_conditions_and_of_folds(library, noise, dtype, offset):
    folds = (np.random.default_rng(0).standard_normal((3, 9, 7)) + offset).astype(dtype)
    folds[0, 3] = folds[0, 4]
    found = np.empty(36)
    kind = (DTYPES[dtype],)
    assert library("mahalanobis_rdm", folds[0], kind, 9, 7, 7, noise, found) == OK, library.error
    apart = pairs_of(folds[0])
    expected = np.sqrt(np.einsum("pc,cd,pd->p", apart, noise, apart))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    # Distances of equal conditions are exactly 0, and depend on no other condition.
    assert found[26 - 5] == 0
    order = np.random.default_rng(1).permutation(9)
    turned, square = np.empty(36), np.zeros((9, 9))
    square[np.triu_indices(9, 1)] = found
    library("mahalanobis_rdm", folds[0][order], kind, 9, 7, 7, noise, turned)
    expected = (square + square.T)[np.ix_(order, order)][np.triu_indices(9, 1)]
    np.testing.assert_array_equal(turned, expected)
    for precision, matrix in ((noise, noise), (None, np.eye(7))):
        status = library("crossnobis_rdm", folds, kind, 3, 9, 7, precision, found)
        assert status == OK, library.error
        np.testing.assert_allclose(found, crossnobis(folds, matrix), rtol=1e-10, atol=1e-10)


def test_crossnobis_of_integers_is_exact(library):
    folds = np.random.default_rng(0).integers(0, 50, (3, 5, 6)).astype(np.float32)
    found = np.empty(10)
    assert library("crossnobis_rdm", folds, (0,), 3, 5, 6, None, found) == OK
    np.testing.assert_array_equal(found, crossnobis(folds, np.eye(6)))


def dissimilarities(x, method):
    """The condensed RDM of (conditions, channels), by formulas."""
    x = x.astype(float)
    if method == "spearman":
        x = scipy.stats.rankdata(x, axis=1)
    if method in ("correlation", "spearman"):
        x = x - x.mean(axis=1, keepdims=True)
    if method in ("sqeuclidean", "euclidean"):
        squares = (pairs_of(x) ** 2).sum(axis=1)
        return squares if method == "sqeuclidean" else np.sqrt(squares)
    with np.errstate(invalid="ignore"):
        x = x / np.sqrt((x**2).sum(axis=1, keepdims=True))
    return 1 - (x @ x.T)[np.triu_indices(len(x), 1)]


NEIGHBOURS = [[0, 1, 2, 3], [9, 2, 5], [7, 8, 0, 1, 4, 5], [3, 6]]


def indices(lists):
    starts = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return np.concatenate(lists).astype(np.int64), starts, len(lists)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "integers"])
def test_searchlights(library, method, kind):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (8, 14)) if kind == "integers" else rng.standard_normal((8, 14)) + 3
    x = x.astype("float32" if kind == "integers" else kind)
    # A condition without an angle or without variance in the last place, in rows that are apart.
    x[2, [3, 6]] = 0
    dtype = (DTYPES[x.dtype.name],)
    places = indices(NEIGHBOURS)
    data = (x, dtype, 8, 10, 14, *places, (METHODS.index(method),))
    found = np.empty((4, 28))
    assert library("searchlight_rdms", *data, found) == OK, library.error
    expected = np.stack([dissimilarities(x[:, place], method) for place in NEIGHBOURS])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert np.isnan(found).any() == (method in ("correlation", "cosine", "spearman"))
    models = rng.random((2, 28))
    for number, similarity in enumerate(SIMILARITIES):
        scores = np.empty((4, 2))
        assert library("searchlight_scores", *data, models, 2, (number,), scores) == OK
        alone = np.full((4, 2), np.nan)
        whole = ~np.isnan(found).any(axis=1)
        rdms = np.ascontiguousarray(found[whole])
        part = np.empty((len(rdms), 2))
        library("compare", rdms, len(rdms), models, 2, 28, (number,), part)
        alone[whole] = part
        np.testing.assert_array_equal(scores, alone, err_msg=similarity)


def test_many_places_are_scored_in_blocks_with_any_number_of_threads(library):
    rng = np.random.default_rng(0)
    x, models = rng.standard_normal((60, 50)), rng.random((2, 1770))
    places = indices([rng.choice(50, 8, replace=False) for _ in range(700)])
    rdms, scores = np.empty((700, 1770)), np.empty((700, 2))
    expected = np.empty((700, 2))
    assert library("searchlight_rdms", x, (1,), 60, 50, 50, *places, (0,), rdms) == OK
    assert library("compare", rdms, 700, models, 2, 1770, (0,), expected) == OK
    for n_threads in (1, 3):
        context = library.context(n_threads=n_threads)
        data = (x, (1,), 60, 50, 50, *places, (0,), models, 2, (0,), scores)
        assert library("searchlight_scores", *data, context=context) == OK
        library["context_destroy"](context)
        np.testing.assert_array_equal(scores, expected)


def misuses():
    """Name, the arguments that work, and (place, value, words of the sentence)."""
    x, out = np.ones((4, 6)) + np.arange(6), np.full(6, -1.0)
    yield (
        "mahalanobis_rdm",
        [x, (1,), 4, 6, 6, np.eye(6), out],
        [
            (0, None, "activations is null"),
            (1, (4,), "dtype must be"),
            (2, 1, "n_conditions must be from 2"),
            (2, -4, "n_conditions must be from 2"),
            (3, 0, "n_channels must be from 1"),
            (4, 5, "stride must be from 6"),
            (5, None, "precision is null"),
            (5, np.full((6, 6), np.nan), "precision has NaN or infinity"),
            (
                5,
                np.eye(6) + np.eye(6, k=1),
                "precision is not symmetric: entries (1, 0) and (0, 1)",
            ),
            (5, -np.eye(6), "precision is not positive definite: row 0"),
            (5, np.ones((6, 6)), "precision is not positive definite: row 1"),
            (6, None, "rdm is null"),
            (0, np.full((4, 6), np.inf), "activations has NaN or infinity in condition 0"),
        ],
    )
    yield (
        "crossnobis_rdm",
        [np.stack([x, x]), (1,), 2, 4, 6, None, out],
        [
            (0, None, "measurements is null"),
            (1, (-1,), "dtype must be"),
            (2, 1, "n_folds must be from 2"),
            (2, 1 << 40, "n_folds must be from 2"),
            (3, 0, "n_conditions must be from 2"),
            (4, -6, "n_channels must be from 1"),
            (5, np.zeros((6, 6)), "precision is not positive definite"),
            (6, None, "rdm is null"),
            (0, np.full((2, 4, 6), np.nan), "measurements has NaN or infinity"),
        ],
    )
    neighbours, starts = np.array([0, 1, 5, 2]), np.array([0, 2, 4])
    places = [
        (0, None, "data is null"),
        (2, 1, "n_conditions must be from"),
        (2, 1 << 40, "n_conditions must be from"),
        (3, 0, "n_channels must be from 1"),
        (4, 0, "stride must be from 6"),
        (5, None, "neighbours is null"),
        (5, np.array([0, 1, 6, 2]), "neighbours[2] is 6, and data have 6 channels"),
        (5, np.array([0, -1, 5, 2]), "neighbours[1] is -1, and data have 6 channels"),
        (6, None, "starts is null"),
        (6, np.array([1, 2, 4]), "starts[0] must be 0, got 1"),
        (6, np.array([0, 2, 2]), "starts must rise, got 2 and 2 at centre 1"),
        (6, np.array([0, 1 << 62, 2]), "starts must rise"),
        (7, 0, "n_centres must be from 1"),
        (8, (5,), "method must be one of"),
        (0, np.full((4, 6), np.nan), "data has NaN or infinity in condition 0, channel 0"),
    ]
    data = [x, (1,), 4, 6, 6, neighbours, starts, 2, (0,)]
    yield "searchlight_rdms", [*data, np.full((2, 6), -1.0)], [*places, (9, None, "rdms is null")]
    models = np.arange(6.0)
    yield (
        "searchlight_scores",
        [*data, models, 1, (0,), np.full((2, 1), -1.0)],
        [
            *places,
            (2, 2, "n_conditions must be from 3"),
            (9, None, "models is null"),
            (9, models * np.nan, "models has NaN or infinity"),
            (10, 0, "n_models must be from 1"),
            (11, (6,), "similarity must be one of"),
            (12, None, "scores is null"),
        ],
    )


@pytest.mark.parametrize("name", [name for name, *_ in misuses()])
def test_misuse_is_one_sentence_and_writes_nothing(library, name):
    (arguments, wrong), *_ = [rest for each, *rest in misuses() if each == name]
    for place, value, words in wrong:
        given = list(arguments)
        given[place] = value
        assert library(name, *given) == INVALID, words
        assert words in library.error and "\n" not in library.error
    assert (arguments[-1] == -1).all()
    assert library(name, *arguments) == OK and not library.error


def test_numbers_beyond_the_range_of_squares(library):
    x = np.random.default_rng(0).standard_normal((2, 4, 6)) * 1e200
    out, places = np.empty((1, 6)), indices([[0, 1]])
    assert library("searchlight_rdms", x, (1,), 4, 6, 6, *places, (0,), out) == RANGE
    assert library("crossnobis_rdm", x, (1,), 2, 4, 6, None, out) == RANGE
    precision = np.eye(6) * 1e300
    assert library("mahalanobis_rdm", x * 1e100, (1,), 4, 6, 6, precision, out) == RANGE
    assert "range of float64" in library.error
    assert library("mahalanobis_rdm", x, (1,), 4, 6, 6, np.eye(6), out) == OK
