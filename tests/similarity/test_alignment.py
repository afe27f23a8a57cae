import doctest
import importlib
import tracemalloc

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrdm import calc_rdm, cka, compare, gram
from fastrdm.similarity import alignment

SHAPES = [(4, 1, 1), (5, 1, 3), (20, 3, 50), (20, 50, 80), (61, 61, 60), (118, 300, 7)]

shapes = pytest.mark.parametrize("n, channels1, channels2", SHAPES)
debiasings = pytest.mark.parametrize("debiased", [False, True])
quick = settings(max_examples=40, deadline=None)


def features(n, channels, seed, offset=0.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, channels)) * rng.random(channels) + offset


def oracle(debiased):
    return reference.debiased_cka if debiased else reference.cka


@pytest.mark.parametrize("module", ["alignment", "canonical", "shape_distances"])
def test_examples(module):
    results = doctest.testmod(importlib.import_module(f"fastrdm.similarity.{module}"))
    assert results.attempted
    assert not results.failed


@debiasings
@shapes
def test_equals_the_oracle_on_features(debiased, n, channels1, channels2):
    x, y = features(n, channels1, 1), features(n, channels2, 2, offset=1.0)
    expected = [[oracle(debiased)(x, y)]]
    np.testing.assert_allclose(cka(gram(x), gram(y), debiased), expected, atol=1e-9)


@debiasings
@shapes
def test_float32_within_1e_6(debiased, n, channels1, channels2):
    x, y = (features(n, c, s).astype(np.float32) for c, s in ((channels1, 1), (channels2, 2)))
    expected = oracle(debiased)(x.astype(np.float64), y.astype(np.float64))
    assert cka(gram(x), gram(y), debiased)[0, 0] == pytest.approx(expected, abs=1e-6)


@debiasings
def test_all_pairs_of_two_stacks(debiased):
    first = {f"layer{i}": features(12, c, i) for i, c in enumerate((3, 12, 40))}
    second = [features(12, c, 10 + i) for i, c in enumerate((1, 30))]
    expected = [[oracle(debiased)(x, y) for y in second] for x in first.values()]
    got = cka(gram(first), [gram(y) for y in second], debiased)
    assert got.shape == (3, 2)
    np.testing.assert_allclose(got, expected, atol=1e-9)


@debiasings
def test_blocks_of_rows_add_up(debiased, monkeypatch):
    grams = [gram(features(23, 40, seed)) for seed in range(5)]
    at_once = cka(grams, grams[:2], debiased)
    monkeypatch.setattr(
        alignment, "blocks_of", lambda n, size: [slice(k, min(k + 4, n)) for k in range(0, n, 4)]
    )
    np.testing.assert_allclose(cka(grams, grams[:2], debiased), at_once, rtol=0, atol=1e-13)


@debiasings
def test_of_squared_distances_alone(debiased):
    x, y = features(15, 40, 1), features(15, 4, 2)
    expected = [[oracle(debiased)(x, y)]]
    for method in ("sqeuclidean", "euclidean"):
        rdms = [calc_rdm(each, method) for each in (x, y)]
        np.testing.assert_allclose(
            cka(*rdms, debiased, distances=method), expected, rtol=0, atol=1e-9
        )
        np.testing.assert_allclose(
            cka(gram(x), rdms[1], debiased, distances=method), expected, rtol=0, atol=1e-9
        )


def test_equals_the_whitened_cosine_of_squared_distances():
    layers = [features(30, c, i) for i, c in enumerate((3, 30, 200))]
    rdms = np.stack([calc_rdm(layer, "sqeuclidean") for layer in layers])
    grams = [gram(layer) for layer in layers]
    np.testing.assert_allclose(cka(grams, grams), compare(rdms, rdms, "cosine_cov"), atol=1e-13)


def test_noise_is_1_unless_debiased():
    noise = np.random.default_rng(0).standard_normal((2, 60, 4000))
    grams = [gram(each) for each in noise]
    assert cka(*grams)[0, 0] > 0.98
    assert abs(cka(*grams, debiased=True)[0, 0]) < 0.1


@debiasings
@quick
@given(
    st.integers(4, 12), st.integers(1, 20), st.integers(0, 2**31), st.floats(1e-6, 1e6), st.data()
)
def test_properties(debiased, n, channels, seed, scale, data):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, channels)), rng.standard_normal((n, 5))
    one, other = gram(x), gram(y)
    value = cka(one, other, debiased)[0, 0]
    assert -1 <= value <= 1
    assert debiased or value >= 0
    rotation = np.linalg.qr(rng.standard_normal((channels, channels)))[0]
    moved = gram(scale * (x @ rotation + rng.standard_normal(channels)))
    order = data.draw(st.permutations(range(n)))
    assert cka(moved, other, debiased)[0, 0] == pytest.approx(value, abs=1e-9)
    assert cka(other, one, debiased)[0, 0] == pytest.approx(value, abs=1e-12)
    assert cka(gram(x[order]), gram(y[order]), debiased)[0, 0] == pytest.approx(value, abs=1e-9)
    assert cka(one, one, debiased)[0, 0] == pytest.approx(1, abs=1e-12)


def test_two_and_three_conditions():
    x, y = features(2, 5, 1), features(2, 1, 2)
    assert cka(gram(x), gram(y))[0, 0] == pytest.approx(1)
    x, y = features(3, 5, 1), features(3, 1, 2)
    assert cka(gram(x), gram(y))[0, 0] == pytest.approx(reference.cka(x, y))


@pytest.mark.parametrize("n", [2, 3])
def test_debiased_needs_four_conditions(n):
    grams = {"conv1": gram(features(n, 5, 1))}
    with pytest.raises(ValueError, match=r"at least 4 conditions; grams1\['conv1'\] has " + str(n)):
        cka(grams, grams, debiased=True)


@debiasings
@pytest.mark.parametrize("channels", [3, 100])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e30, 1e-30])
def test_constant_activations_are_nan_with_one_warning(debiased, channels, constant):
    grams = gram({"dead": np.full((9, channels), constant), "fc": features(9, 4, 1)})
    with pytest.warns(RuntimeWarning, match=r"NaN where .*: grams1\['dead'\]$") as caught:
        got = cka(grams, grams, debiased)
    assert len(caught) == 1
    np.testing.assert_array_equal(np.isnan(got), [[True, True], [True, False]])


@debiasings
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [3, 5000])
def test_equal_conditions_are_nan(debiased, dtype, channels):
    equal = np.tile(features(1, channels, 3, offset=2.0), (25, 1)).astype(dtype)
    with pytest.warns(RuntimeWarning, match="NaN where .*: grams2$"):
        assert np.isnan(cka(gram(features(25, 4, 1)), gram(equal), debiased)).all()


@pytest.mark.parametrize("channels", [9, 50])
def test_equal_distances_have_no_debiased_cka(channels):
    simplex = np.zeros((9, channels))
    simplex[np.arange(9), np.arange(9)] = 0.3
    other = gram(features(9, 4, 1))
    expected = reference.cka(simplex, features(9, 4, 1))
    assert cka(gram(simplex), other)[0, 0] == pytest.approx(expected)
    with pytest.warns(
        RuntimeWarning, match="all distances between conditions are equal: grams1, grams2"
    ):
        assert np.isnan(cka(gram(simplex), gram(simplex + 0), debiased=True)).all()


@debiasings
@pytest.mark.parametrize("scale", [1e-70, 1e70])
def test_extreme_scales(debiased, scale):
    x, y = features(10, 30, 1), features(10, 3, 2)
    got = cka(gram(x * scale), gram(y), debiased)
    np.testing.assert_allclose(got, [[oracle(debiased)(x, y)]], atol=1e-9)
    rdm = calc_rdm(x, "euclidean") * scale**2
    got = cka(rdm, gram(y), debiased, distances="euclidean")
    np.testing.assert_allclose(got, [[oracle(debiased)(x, y)]], atol=1e-9)


@debiasings
def test_a_large_offset_of_features_costs_no_digits(debiased):
    x, y = features(20, 6, 1), features(20, 40, 2)
    got = cka(gram(x + 2.0**20), gram(y), debiased)
    np.testing.assert_allclose(got, [[oracle(debiased)(x, y)]], atol=1e-9)


@debiasings
def test_rank_deficient_activations(debiased):
    x, y = features(20, 2, 1) @ features(2, 300, 3), features(20, 40, 2)
    np.testing.assert_allclose(
        cka(gram(x), gram(y), debiased), [[oracle(debiased)(x, y)]], atol=1e-9
    )


@debiasings
def test_memory_is_bounded(debiased):
    products = [features(1200, 1200, seed) for seed in range(3)]
    grams = [each @ each.T for each in products]
    tracemalloc.start()
    got = cka(grams, list(grams), debiased)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One block of centred products, and what checks of one array need.
    assert peak < 32e6 + 4 * grams[0].nbytes
    np.testing.assert_allclose(got.diagonal(), 1)


@debiasings
def test_layers_and_neurons(data_root, debiased):
    """Two halves of the neurons of V4, and one of them with noise."""
    path = data_root / "responses" / "cowley2023_v4" / "responses_210325.npy"
    if not path.is_file():
        pytest.skip(f"no responses at {path}")
    means = np.nanmean(np.load(path), axis=2).T
    halves = means[:, :25], means[:, 25:]
    noisy = halves[0] + 10 * np.random.default_rng(0).standard_normal(halves[0].shape)
    got = cka([gram(x) for x in halves], [gram(halves[0]), gram(noisy)], debiased)
    expected = [[oracle(debiased)(x, y) for y in (halves[0], noisy)] for x in halves]
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert got[1, 0] > got[1, 1] > 0
