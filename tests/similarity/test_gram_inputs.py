import numpy as np
import pandas as pd
import pytest

from fastrdm import angular_distance, bures_similarity, calc_rdm, cca, cka, gram, procrustes, square

FUNCTIONS = [cka, procrustes, angular_distance, bures_similarity, cca]

functions = pytest.mark.parametrize("function", FUNCTIONS)


def features(n, channels, seed):
    return np.random.default_rng(seed).standard_normal((n, channels))


@functions
def test_forms_of_the_same_grams(function):
    layers = {"a": features(8, 20, 0), "b": features(8, 30, 1)}
    grams = gram(layers)
    products = np.stack([each.products for each in grams.values()])
    expected = function(grams, grams["b"])
    assert expected.shape == (2, 1)
    for form in (
        list(grams.values()),
        tuple(grams.values()),
        products,
        list(products),
        products.tolist(),
        {"a": grams["a"], "b": products[1]},
        [pd.DataFrame(each) for each in products],
    ):
        np.testing.assert_allclose(function(form, grams["b"]), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(function(products, products[1]), expected, rtol=0, atol=1e-12)


@functions
def test_one_object_twice_equals_two_objects(function):
    grams = [gram(features(8, channels, channels)) for channels in (1, 5, 20)]
    got = function(grams, grams)
    np.testing.assert_allclose(got, function(grams, list(grams)), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(got, got.T)


@functions
def test_different_numbers_of_conditions(function):
    grams = {"conv1": gram(features(8, 20, 0)), "fc": gram(features(9, 20, 0))}
    with pytest.raises(
        ValueError, match=r"grams1\['conv1'\] has 8 conditions and grams1\['fc'\] 9"
    ):
        function(grams, grams["conv1"])
    with pytest.raises(ValueError, match=r"grams1 has 8 conditions and grams2\['fc'\] 9"):
        function(grams["conv1"], {"fc": grams["fc"]})


@functions
def test_different_labels_of_conditions(function):
    first = gram(pd.DataFrame(features(3, 4, 0), index=["cat", "dog", "cup"]))
    second = gram(pd.DataFrame(features(3, 4, 0), index=["cat", "cup", "dog"]))
    with pytest.warns(RuntimeWarning, match="grams1 has its conditions in another order than gr"):
        found = function(first, second)
    np.testing.assert_allclose(found, function(first, second.reordered([0, 2, 1])), rtol=1e-12)
    with pytest.raises(ValueError, match="grams1 and grams2 differ in .*; only in grams1: 'cup'; "):
        function(first, gram(pd.DataFrame(features(3, 4, 0), index=["cat", "dog", "hat"])))
    assert function(first, gram(features(3, 4, 1))).shape == (1, 1)


def test_labels_of_distances_are_compared_with_those_of_grams():
    values = features(3, 4, 0)
    first = gram(pd.DataFrame(values, index=["cat", "dog", "cup"]))
    names = ["cup", "dog", "cat"]
    rdm = pd.DataFrame(square(calc_rdm(values, "sqeuclidean")), names, names)
    with pytest.warns(RuntimeWarning, match="grams1 has its conditions in another order than gr"):
        found = cka(first, rdm, distances="sqeuclidean")
    assert found.iloc[0, 0] < 0.99
    rdm = rdm.set_axis(["cat", "dog", "cup"], axis=0).set_axis(["cat", "dog", "cup"], axis=1)
    moved = rdm.iloc[[2, 0, 1], [2, 0, 1]]
    with pytest.warns(RuntimeWarning, match="another order"):
        assert cka(first, moved, distances="sqeuclidean").iloc[0, 0] > 1 - 1e-12


@functions
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (np.ones((8, 20)), r"grams1 has shape \(8, 20\); expected Gram .* pass fastrdm.gram\(gra"),
        (np.ones((2, 3, 8, 8)), r"grams1 has shape \(2, 3, 8, 8\)"),
        (np.ones(8), r"grams1 has shape \(8,\)"),
        (np.ones((1, 1)), r"grams1 has shape \(1, 1\)"),
        (np.arange(9.0).reshape(3, 3), r"grams1 with shape \(3, 3\) is not symmetric"),
        (1 - np.eye(3), r"grams1 with shape \(3, 3\) has zeros on its diagonal, as an RDM has"),
        ({"a": 1 - np.eye(3)}, r"grams1\['a'\] with shape \(3, 3\) has zeros"),
        (np.stack([np.eye(3), 1 - np.eye(3)]), r"grams1\[1\] with shape \(3, 3\) has zeros"),
        (np.full((2, 2), np.nan), "grams1 has 4 values that are not finite.* condition 0"),
        ({}, "grams1 is empty"),
        ([], "grams1 is empty"),
        (np.ones((0, 3, 3)), r"grams1 has shape \(0, 3, 3\)"),
        ([np.ones((2, 3, 3)), np.eye(3)], r"grams1\[0\] holds 2 matrices"),
        ({"a": {"b": 1}}, r"grams1\['a'\] is a dict of 1"),
    ],
)
def test_refused_arguments(function, argument, message):
    with pytest.raises(ValueError, match=message):
        function(argument, np.eye(3))


@pytest.mark.parametrize("function", [procrustes, angular_distance, bures_similarity, cca])
def test_negative_eigenvalues(function):
    # Cross-validated products may have them; CKA needs no roots.
    products = np.diag([1.0, -1.0, 2.0, 1.0])
    with pytest.raises(ValueError, match=r"grams2\['a'\] has a negative eigenvalue, -0\.\d+"):
        function(np.eye(4), {"a": products})
    assert np.isfinite(cka(np.eye(4), products)).all()


def test_forms_of_distances():
    layers = [features(5, 20, seed) for seed in range(10)]
    rdms = np.stack([calc_rdm(each, "sqeuclidean") for each in layers])
    expected = cka([gram(each) for each in layers], gram(layers[0]))
    # Ten condensed RDMs of ten pairs are no square RDM.
    assert rdms.shape == (10, 10)
    for form in (rdms, list(rdms), square(rdms), dict(enumerate(rdms)), list(square(rdms))):
        for one in (rdms[0], rdms[:1], square(rdms[0]), {"V4": square(rdms[0])}):
            got = cka(form, one, distances="sqeuclidean")
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("argument", "distances", "message"),
    [
        (np.ones(3), "cosine", "distances 'cosine' is not one of: sqeuclidean, euclidean"),
        (np.ones(5), "sqeuclidean", "grams1: 5 pairs are not a condensed RDM"),
        (np.ones((1, 1, 3, 3)), "sqeuclidean", r"grams1 has shape \(1, 1, 3, 3\); expected RDMs"),
        (np.ones((2, 2, 3)), "sqeuclidean", r"grams1 has shape \(2, 2, 3\)"),
        (np.array([1.0, -2.0, 1.0]), "euclidean", "negative distances, down to -2; squared"),
        (np.array([1.0, np.nan, 1.0]), "euclidean", "not finite: NaN at RDM 0, pair 1"),
        (np.ma.masked_equal([1.0, 2.0, 3.0], 2), "euclidean", "1 masked value"),
    ],
)
def test_refused_distances(argument, distances, message):
    with pytest.raises(ValueError, match=message):
        cka(argument, np.ones(3), distances=distances)
