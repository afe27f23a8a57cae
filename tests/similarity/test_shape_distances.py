import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrdm import angular_distance, bures_similarity, gram, procrustes

SHAPES = [(2, 1, 3), (3, 2, 9), (5, 1, 1), (20, 3, 50), (20, 50, 80), (40, 40, 39), (118, 300, 7)]

shapes = pytest.mark.parametrize("n, channels1, channels2", SHAPES)
quick = settings(max_examples=40, deadline=None)


def features(n, channels, seed, offset=0.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, channels)) * (0.1 + rng.random(channels)) + offset


def moved(x, rng, scale=1.0):
    rotation = np.linalg.qr(rng.standard_normal((x.shape[1], x.shape[1])))[0]
    return scale * (x @ rotation + rng.standard_normal(x.shape[1]))


@shapes
def test_equals_scipy_on_features(n, channels1, channels2):
    x, y = features(n, channels1, 1), features(n, channels2, 2, offset=1.0)
    square, cosine = reference.procrustes(x, y)
    one, other = gram(x), gram(y)
    assert procrustes(one, other)[0, 0] == pytest.approx(square, rel=1e-9)
    assert procrustes(one, other, squared=False)[0, 0] == pytest.approx(np.sqrt(square), rel=1e-9)
    assert bures_similarity(one, other)[0, 0] == pytest.approx(cosine, abs=1e-9)
    angle = np.arccos(min(cosine, 1))
    assert angular_distance(one, other)[0, 0] == pytest.approx(angle, abs=1e-7)


@shapes
def test_float32_within_1e_6(n, channels1, channels2):
    x, y = (features(n, c, s).astype(np.float32) for c, s in ((channels1, 1), (channels2, 2)))
    square, cosine = reference.procrustes(x.astype(np.float64), y.astype(np.float64))
    assert procrustes(gram(x), gram(y))[0, 0] == pytest.approx(square, rel=1e-6)
    assert bures_similarity(gram(x), gram(y))[0, 0] == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize(("channels1", "channels2"), [(3, 50), (30, 60), (19, 19)])
def test_equals_roots_of_products(channels1, channels2):
    x, y = features(20, channels1, 1), features(20, channels2, 2)
    # Roots of zero eigenvalues cost the oracle half of its digits.
    assert bures_similarity(gram(x), gram(y))[0, 0] == pytest.approx(
        reference.bures(x, y), abs=1e-6
    )


def test_all_pairs_of_two_stacks():
    first = {f"layer{i}": features(12, c, i) for i, c in enumerate((3, 12, 40))}
    second = [features(12, c, 10 + i) for i, c in enumerate((1, 30))]
    expected = np.array([[reference.procrustes(x, y)[0] for y in second] for x in first.values()])
    got = procrustes(gram(first), [gram(y) for y in second])
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_products_alone_and_features_agree():
    x, y = features(20, 6, 1), features(20, 9, 2)
    np.testing.assert_allclose(procrustes(x @ x.T, y @ y.T), procrustes(gram(x), gram(y)))


@quick
@given(st.integers(2, 12), st.integers(1, 20), st.integers(0, 2**31), st.floats(0.01, 100))
def test_properties(n, channels, seed, scale):
    rng = np.random.default_rng(seed)
    x, y, z = (rng.standard_normal((n, c)) for c in (channels, 5, 3))
    order = rng.permutation(n)
    grams = [gram(each) for each in (x, y, z)]
    distances = procrustes(grams, grams, squared=False)
    angles = angular_distance(grams, grams)
    for values in (distances, angles):
        assert (values >= 0).all()
        np.testing.assert_array_equal(values, values.T)
        np.testing.assert_allclose(values.diagonal(), 0, atol=1e-7)
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            assert values[i, j] <= values[i, k] + values[k, j] + 1e-9
    assert (angles <= np.pi / 2 + 1e-12).all()
    assert angular_distance(gram(moved(x, rng, scale)), grams[1])[0, 0] == pytest.approx(
        angles[0, 1], abs=1e-7
    )
    assert procrustes(gram(moved(x, rng)), grams[1], squared=False)[0, 0] == pytest.approx(
        distances[0, 1], abs=1e-7
    )
    permuted = procrustes(gram(x[order]), gram(y[order]), squared=False)[0, 0]
    assert permuted == pytest.approx(distances[0, 1], abs=1e-7)


@pytest.mark.parametrize("channels", [4, 19, 100])
def test_equal_shapes_have_distance_0_with_all_digits(channels):
    x = features(20, channels, 1)
    turned = gram(moved(x, np.random.default_rng(0)))
    size = np.linalg.norm(x - x.mean(axis=0))
    assert procrustes(gram(x), turned, squared=False)[0, 0] < 1e-10 * size
    assert angular_distance(gram(x), turned)[0, 0] < 1e-10


@pytest.mark.parametrize("change", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize(("channels1", "channels2"), [(30, 30), (5, 8), (8, 5)])
def test_near_shapes_keep_their_digits(change, channels1, channels2):
    common = np.zeros((20, 30))
    common[:, : min(channels1, channels2)] = features(20, min(channels1, channels2), 1)
    x = common[:, :channels1] + change * features(20, channels1, 2)
    y = common[:, :channels2] + change * features(20, channels2, 3)
    square, _ = reference.procrustes(x, y)
    assert procrustes(gram(x), gram(y))[0, 0] == pytest.approx(square, rel=1e-6)


def test_rank_deficient_activations():
    x, y = features(30, 4, 1) @ features(4, 500, 3), features(30, 80, 2)
    square, cosine = reference.procrustes(x, y)
    assert procrustes(gram(x), gram(y))[0, 0] == pytest.approx(square, rel=1e-9)
    assert bures_similarity(gram(x), gram(y))[0, 0] == pytest.approx(cosine, abs=1e-9)


def test_rank_deficient_float32_activations():
    """Products in float32 make eigenvalues of both signs from those that are 0."""
    x, y = features(30, 4, 1) @ features(4, 8000, 3), features(30, 10, 2) @ features(10, 8000, 4)
    square, cosine = reference.procrustes(*(principal_components(f) for f in (x, y)))
    x, y = x.astype(np.float32), y.astype(np.float32)
    assert procrustes(gram(x), gram(y))[0, 0] == pytest.approx(square, rel=1e-6)
    assert bures_similarity(gram(x), gram(y))[0, 0] == pytest.approx(cosine, abs=1e-6)


def principal_components(x):
    axes, lengths, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return axes * lengths


def test_rank_deficient_products_of_float32():
    x, y = features(30, 4, 1) @ features(4, 500, 3), features(30, 80, 2)
    products = (x @ x.T).astype(np.float32)
    _, cosine = reference.procrustes(x, y)
    assert bures_similarity(products, y @ y.T)[0, 0] == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize("channels", [3, 100])
@pytest.mark.parametrize("constant", [0.0, 0.1])
@pytest.mark.parametrize("function", [angular_distance, bures_similarity])
def test_constant_activations_are_nan_with_one_warning(function, channels, constant):
    grams = gram({"dead": np.full((9, channels), constant), "fc": features(9, 4, 1)})
    with pytest.warns(RuntimeWarning, match=r"conditions do not differ: grams1\['dead'\]$") as w:
        got = function(grams, grams)
    assert len(w) == 1
    np.testing.assert_array_equal(np.isnan(got), [[True, True], [True, False]])


def test_constant_activations_have_a_procrustes_distance():
    x = features(9, 4, 1)
    grams = gram({"dead": np.full((9, 50), 0.1), "fc": x})
    size = np.sum((x - x.mean(axis=0)) ** 2)
    np.testing.assert_allclose(procrustes(grams, grams), [[0, size], [size, 0]], atol=1e-12)


@pytest.mark.parametrize("scale", [1e-70, 1e70])
@pytest.mark.parametrize("channels", [3, 30])
def test_extreme_scales(scale, channels):
    x, y = features(10, channels, 1), features(10, 8, 2)
    square, cosine = reference.procrustes(x, y)
    got = procrustes(gram(x * scale), gram(y * scale))[0, 0]
    assert got == pytest.approx(square * scale**2, rel=1e-9)
    assert bures_similarity(gram(x * scale), gram(y))[0, 0] == pytest.approx(cosine, abs=1e-9)
