import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from fastrdm import _kernels, compare

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
methods = pytest.mark.parametrize("method", ["spearman", "corr", "cosine"])


def rdms(n, pairs, seed, ties=False):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 9, (n, pairs)).astype(float) if ties else rng.random((n, pairs))


@methods
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n1, n2, pairs", [(1, 1, 3), (1, 15, 4186), (7, 3, 45), (30, 31, 190)])
def test_equals_the_oracle(kernels, method, ties, n1, n2, pairs):
    a, b = rdms(n1, pairs, 1, ties), rdms(n2, pairs, 2, ties)
    np.testing.assert_allclose(compare(a, b, method), reference.compare(a, b, method), atol=1e-9)


@quick
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 600)),
        elements=st.floats(allow_nan=False)
        | st.sampled_from([0.0, -0.0, 1.0, 1.0 + 2**-52, 5e-324, -5e-324, np.inf, -np.inf]),
    )
)
def test_ranks_are_scipys(kernels, x):
    np.testing.assert_array_equal(_kernels.rank(x), stats.rankdata(x, axis=1))


@pytest.mark.parametrize(
    "name", ["sorted", "reversed", "organ pipe", "equal", "low bits", "two values"]
)
def test_ranks_of_adversarial_rows(kernels, name):
    n = 5000
    row = {
        "sorted": np.arange(n) / n,
        "reversed": -np.arange(n) / n,
        "organ pipe": np.minimum(np.arange(n), np.arange(n)[::-1]) / n,
        "equal": np.full(n, 0.3),
        "low bits": 1 + np.random.default_rng(0).permutation(n) * 2.0**-52,
        "two values": np.random.default_rng(0).integers(0, 2, n) * 1.0,
    }[name][None]
    np.testing.assert_array_equal(_kernels.rank(row), stats.rankdata(row, axis=1))


@quick
@given(st.integers(0, 2**32 - 1))
def test_spearman_ignores_monotone_maps(kernels, seed):
    a, b = rdms(2, 300, seed, ties=True), rdms(3, 300, seed + 1)
    np.testing.assert_allclose(compare(np.exp(a) - 5, b**3), compare(a, b), atol=1e-12)


@methods
def test_symmetric_and_one_with_itself(kernels, method):
    a = rdms(6, 45, 3)
    similarity = compare(a, a, method)
    np.testing.assert_array_equal(similarity, similarity.T)
    np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-12)


@methods
def test_scale_does_not_matter(kernels, method):
    a, b = rdms(2, 45, 3), rdms(2, 45, 4)
    for scale in (1e-300, 1e300):
        np.testing.assert_allclose(compare(a * scale, b, method), compare(a, b, method), atol=1e-9)


@pytest.mark.parametrize("method, value", [("spearman", 0.3), ("corr", 0.1), ("cosine", 0.0)])
def test_an_rdm_without_a_correlation_gives_nan(kernels, method, value):
    a = rdms(3, 45, 3)
    a[1] = value
    result = compare(a, rdms(2, 45, 4), method)
    assert np.isnan(result[1]).all() and np.isfinite(result[[0, 2]]).all()


def test_single_condensed_rdms():
    assert compare(rdms(1, 45, 1)[0], rdms(4, 45, 2)).shape == (1, 4)


def test_square_rdms_are_refused_with_what_to_pass():
    with pytest.raises(ValueError, match=r"rdms1 has shape \(2, 5, 5\).*condense\(rdms1\)"):
        compare(np.zeros((2, 5, 5)), rdms(1, 10, 0))
    with pytest.raises(
        ValueError, match=r"rdms2 .*\(3, 3\) looks like one square RDM.*condense\(rdms2\)"
    ):
        compare(rdms(1, 3, 0), 1 - np.eye(3))


def test_lengths_that_are_no_rdm_or_differ():
    with pytest.raises(ValueError, match="rdms1: 44 pairs are no condensed RDM"):
        compare(rdms(2, 44, 0), rdms(2, 44, 0))
    with pytest.raises(ValueError, match=r"rdms1 has 45 pairs \(10 conditions\) and rdms2 10 \(5"):
        compare(rdms(2, 45, 0), rdms(2, 10, 0))


def test_nan_is_named():
    a = rdms(3, 45, 0)
    a[2, 7] = np.nan
    with pytest.raises(ValueError, match="rdms2 has 1 values.*NaN at RDM 2, pair 7"):
        compare(rdms(2, 45, 0), a)


def test_unknown_method():
    with pytest.raises(ValueError, match="'euclid' is not one of: spearman, corr"):
        compare(rdms(2, 45, 0), rdms(2, 45, 0), "euclid")
