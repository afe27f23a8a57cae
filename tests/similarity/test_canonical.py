import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrdm import cca, gram

SHAPES = [(3, 1, 1), (20, 3, 50), (20, 50, 80), (40, 12, 15), (118, 60, 7)]


def features(n, channels, seed, offset=0.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, channels)) * (0.1 + rng.random(channels)) + offset


@pytest.mark.parametrize("n_components", [1, 3, None])
@pytest.mark.parametrize("regularisation", [1e-3, 0.1, 10])
@pytest.mark.parametrize("n, channels1, channels2", SHAPES)
def test_equals_the_oracle_on_features(n, channels1, channels2, regularisation, n_components):
    x, y = features(n, channels1, 1), features(n, channels2, 2, offset=1.0)
    options = {"n_components": n_components, "regularisation": regularisation}
    # The oracle has zeros for the correlations that are lacking.
    lacking = {"n_components": min(n_components or n - 1, n - 1, channels1, channels2)}
    expected = reference.cca(x, y, **(options | lacking))
    assert cca(gram(x), gram(y), **options)[0, 0] == pytest.approx(expected, abs=1e-9)
    x, y = x.astype(np.float32), y.astype(np.float32)
    expected = reference.cca(*(f.astype(np.float64) for f in (x, y)), **(options | lacking))
    assert cca(gram(x), gram(y), **options)[0, 0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n_components", [1, 3, None])
def test_without_regularisation_equals_qr_of_features(n_components):
    x, y = features(40, 5, 1), features(40, 9, 2)
    expected = reference.cca(x, y, n_components, 0)
    got = cca(gram(x), gram(y), n_components=n_components, regularisation=0)
    assert got[0, 0] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(1, 20), st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_properties(n, channels, seed, scale):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, channels)), rng.standard_normal((n, 5))
    one, other = gram(x), gram(y)
    value = cca(one, other)[0, 0]
    assert 0 <= value <= 1
    rotation = np.linalg.qr(rng.standard_normal((channels, channels)))[0]
    moved = gram(scale * (x @ rotation + rng.standard_normal(channels)))
    order = rng.permutation(n)
    assert cca(moved, other)[0, 0] == pytest.approx(value, abs=1e-9)
    assert cca(other, one)[0, 0] == pytest.approx(value, abs=1e-9)
    assert cca(gram(x[order]), gram(y[order]))[0, 0] == pytest.approx(value, abs=1e-9)


def test_without_regularisation_it_does_not_change_under_invertible_matrices():
    x, y = features(30, 5, 1), features(30, 7, 2)
    mixed = x @ np.random.default_rng(0).standard_normal((5, 5))
    got = cca([gram(x), gram(mixed)], gram(y), regularisation=0)
    assert got[0, 0] == pytest.approx(got[1, 0], abs=1e-9)
    assert cca(gram(x), gram(mixed), regularisation=0)[0, 0] == pytest.approx(1)


def test_as_many_channels_as_conditions_need_regularisation():
    x, y = gram(features(10, 30, 1)), gram(features(10, 40, 2))
    assert cca(x, y, regularisation=0)[0, 0] == pytest.approx(1)
    assert cca(x, y)[0, 0] < 0.95


@pytest.mark.parametrize("channels", [3, 100])
def test_constant_activations_are_nan_with_one_warning(channels):
    grams = gram({"dead": np.full((9, channels), 0.1), "fc": features(9, 4, 1)})
    with pytest.warns(RuntimeWarning, match=r"CCA is NaN where .*: grams1\['dead'\]$") as caught:
        got = cca(grams, grams)
    assert len(caught) == 1
    np.testing.assert_array_equal(np.isnan(got), [[True, True], [True, False]])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_components": 0}, "n_components must be at least 1, not 0"),
        ({"n_components": 2.5}, "n_components must be an integer, not 2.5"),
        ({"regularisation": -1}, "regularisation must be a number of at least 0, not -1"),
        ({"regularisation": np.nan}, "regularisation must be a number of at least 0, not nan"),
    ],
)
def test_refused_options(option, message):
    with pytest.raises(ValueError, match=message):
        cca(np.eye(4), np.eye(4), **option)
