"""Variance that layers explain alone and together."""

import numpy as np
import pytest

import fastrdm


def data(n_layers=3, n=120, n_units=4, seed=0):
    rng = np.random.default_rng(seed)
    layers = {name: rng.standard_normal((n, 8)) for name in "abc"[:n_layers]}
    return layers, rng


@pytest.mark.parametrize("method", ["banded", "stacked"])
@pytest.mark.parametrize("n_layers", [2, 3])
def test_shares_add_up(method, n_layers):
    layers, rng = data(n_layers)
    responses = layers["a"][:, :4] + layers["b"][:, :4] + rng.standard_normal((2, 120, 4))
    measured = fastrdm.Responses(responses)
    found = fastrdm.partition_variance(fastrdm.gram(layers), measured, method, folds=4)
    assert found.layers == tuple(layers)
    assert found.r2.shape == found.parts.shape == (2**n_layers - 1, 2, 4)
    np.testing.assert_allclose(found.parts.sum(axis=0), found.total, rtol=0, atol=1e-12)
    for names, r2 in zip(found.combinations, found.r2, strict=True):
        some = {name: fastrdm.gram(layers[name]) for name in names}
        np.testing.assert_array_equal(r2, measured.score(some, method, folds=4).r2[0])
    whole = found.combinations.index(tuple(layers))
    without_a = found.combinations.index(tuple(name for name in layers if name != "a"))
    np.testing.assert_allclose(found.unique("a"), found.r2[whole] - found.r2[without_a])
    assert len(str(found).splitlines()) == 2**n_layers + 1


def test_known_shares_are_found():
    rng = np.random.default_rng(2)
    common, a, b = rng.standard_normal((3, 2000, 1))
    layers = {"a": np.hstack([common, a]), "b": np.hstack([common, b])}
    # Of the variance, 0.4 is common, 0.3 unique to a, 0.1 to b; 0.2 is noise.
    signal = np.sqrt(0.4) * common + np.sqrt(0.3) * a + np.sqrt(0.1) * b
    responses = fastrdm.Responses(signal + np.sqrt(0.2) * rng.standard_normal((2000, 5)))
    found = fastrdm.partition_variance(fastrdm.gram(layers), responses)
    for share, expected in (
        (found.total, 0.8),
        (found.unique("a"), 0.3),
        (found.unique("b"), 0.1),
        (found.shared("b", "a"), 0.4),
    ):
        np.testing.assert_allclose(share.mean(), expected, rtol=0, atol=0.04)


def test_units_may_differ_between_subjects():
    layers, rng = data(2)
    several = [rng.standard_normal((120, 3)), rng.standard_normal((120, 2))]
    found = fastrdm.partition_variance(fastrdm.gram(layers), fastrdm.Responses(several), weights=1)
    assert [each.shape for each in found.parts] == [(3, 3), (3, 2)]
    assert [each.shape for each in found.unique("b")] == [(3,), (2,)]
    assert "2 subjects" in str(found)


def test_wrong_arguments_are_refused():
    layers, rng = data(3)
    grams = fastrdm.gram(layers | {"d": layers["a"]})
    measured = fastrdm.Responses(rng.standard_normal((120, 2)))
    with pytest.raises(ValueError, match="grams has 4 of the two or three layers"):
        fastrdm.partition_variance(grams, measured)
    with pytest.raises(ValueError, match="grams has 1 of"):
        fastrdm.partition_variance(grams["a"], measured)
    pair = {"a": grams["a"], "b": grams["b"]}
    with pytest.raises(ValueError, match="method 'pls' is not one of: banded, stacked"):
        fastrdm.partition_variance(pair, measured, "pls")
    found = fastrdm.partition_variance(pair, measured, weights=0)
    with pytest.raises(ValueError, match="layer 'c' is not one of: a, b"):
        found.unique("c")
    with pytest.raises(ValueError, match="name at least one of the layers"):
        found.shared()
