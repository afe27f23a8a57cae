import importlib
import tracemalloc
import warnings

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from fastrdm import _kernels, compare
from fastrdm.similarity.comparison import rank
from fastrdm.similarity.table import SIMILARITIES

TRIANGLES = [n * (n - 1) // 2 for n in range(2, 101)]  # 1 … 4950

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
methods = pytest.mark.parametrize("method", reference.METHODS)


def rdms(n, pairs, seed, ties=False):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 9, (n, pairs)).astype(float) if ties else rng.random((n, pairs))


@methods
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n1, n2, pairs", [(1, 1, 3), (1, 3, 780), (7, 3, 45), (9, 11, 190)])
def test_equals_the_oracle(kernels, method, ties, n1, n2, pairs):
    a, b = rdms(n1, pairs, 1, ties), rdms(n2, pairs, 2, ties)
    np.testing.assert_allclose(compare(a, b, method), reference.compare(a, b, method), atol=1e-9)


def test_every_method_is_under_test():
    assert set(SIMILARITIES) == {*reference.METHODS, "kendall", "pearson"}


@pytest.mark.parametrize("alias, method", [("kendall", "tau-b"), ("pearson", "corr")])
def test_aliases(alias, method):
    a, b = rdms(3, 45, 1, ties=True), rdms(2, 45, 2)
    np.testing.assert_array_equal(compare(a, b, alias), compare(a, b, method))


@quick
@given(st.integers(2, 300), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_concordance_equals_the_plain_count(kernels, n, values1, values2, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, values1, (2, n)) * 1.0, rng.integers(0, values2, (3, n)) * 1.0
    counts, untied_a, untied_b = _kernels.concordance(_kernels.rank(a), _kernels.rank(b))
    np.testing.assert_array_equal(counts, [[reference.concordance(x, y) for y in b] for x in a])
    np.testing.assert_array_equal(untied_a, [reference.concordance(x, x) for x in a])
    np.testing.assert_array_equal(untied_b, [reference.concordance(y, y) for y in b])


# Lengths around those at which the compiled kernel adds a level to its tree.
@pytest.mark.parametrize("n", [511, 512, 4095, 4096, 32767, 32768, 65535, 65536])
def test_concordance_of_long_rows_equals_scipy(kernels, n):
    rng = np.random.default_rng(n)
    a, b = rng.random((1, n)), np.round(rng.random((2, n)), 3)
    b[1] = rng.random(n) + a[0]
    counts, untied_a, untied_b = _kernels.concordance(_kernels.rank(a), _kernels.rank(b))
    tau = counts[0] / np.sqrt(untied_a * untied_b)
    np.testing.assert_allclose(tau, [stats.kendalltau(a[0], y).statistic for y in b], atol=1e-14)


def test_concordance_does_not_depend_on_threads(kernels):
    a, b = (_kernels.rank(rdms(n, 300, n, ties=True)) for n in (19, 37))
    one, *more = (_kernels.concordance(a, b, n_threads) for n_threads in (1, 2, 3, 8))
    for other in more:
        for expected, got in zip(one, other, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_the_compiled_concordance_refuses_values_that_are_not_ranks():
    core = pytest.importorskip("fastrdm._kernels._core")
    out, untied = np.empty((1, 1), np.int64), np.empty(1, np.int64)
    for bad in (0.5, 4.0, np.nan):
        with pytest.raises(ValueError, match="average ranks"):
            core.concordance(
                np.array([[1.0, 2, bad]]), np.ones((1, 3)), out, untied, untied, 1, "portable"
            )


@methods
def test_equals_rsatoolbox(method):
    rsatoolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    a, b = rdms(3, 190, 1, ties=True), rdms(4, 190, 2)
    expected = rsatoolbox.rdm.compare(rsatoolbox.rdm.RDMs(a), rsatoolbox.rdm.RDMs(b), method)
    np.testing.assert_allclose(compare(a, b, method), expected, atol=1e-9)


@quick
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 600)),
        elements=st.floats(allow_nan=False)
        | st.sampled_from([0.0, -0.0, 1.0, 1.0 + 2**-52, 5e-324, -5e-324, np.inf, -np.inf]),
    )
)
def test_ranks_equal_scipy(kernels, x):
    np.testing.assert_array_equal(_kernels.rank(x), stats.rankdata(x, axis=1))


def adversarial(n):
    rng = np.random.default_rng(0)
    noise = rng.random(n)
    return {
        "sorted": np.arange(n) / n,
        "reversed": -np.arange(n) / n,
        "organ pipe": np.minimum(np.arange(n), np.arange(n)[::-1]) / n,
        "equal": np.full(n, 0.3),
        "low bits": 1 + rng.permutation(n) * 2.0**-52,
        "two values": rng.integers(0, 2, n) * 1.0,
        "few values": rng.integers(0, 9, n) * 1.0,
        "outlier": np.where(np.arange(n) == n // 3, 1e300, noise),
        "two crowds": np.where(noise < 0.5, noise * 1e-12, 1 + noise * 1e-12),
        "geometric": rng.permutation(2.0 ** np.linspace(-1070, 1020, n)),
        "denormal": rng.integers(-n, n, n) * 5e-324,
        "whole range": rng.choice([-1.0, 1.0], n) * np.finfo(float).max * noise,
        "signed zeros": rng.choice([-0.0, 0.0, 1.0, -1.0], n),
    }


@pytest.mark.parametrize("name", adversarial(1))
@pytest.mark.parametrize("n", [3, 190, 5000, 9000, 140_000])
def test_ranks_of_adversarial_rows(kernels, name, n):
    row = adversarial(n)[name][None]
    expected = stats.rankdata(row, axis=1)
    np.testing.assert_array_equal(_kernels.rank(row), expected)
    assert_centred(row, expected)


def assert_centred(rows, ranks):
    prepared = _kernels.centred_ranks(rows)
    n = rows.shape[1]
    np.testing.assert_array_equal(prepared.values[:, :n], 2 * ranks - (n + 1))
    assert not prepared.values[:, n:].any()
    np.testing.assert_allclose(prepared.squares, ((2 * ranks - (n + 1)) ** 2).sum(1), rtol=1e-15)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@quick
@given(data=st.data(), pairs=st.sampled_from(TRIANGLES))
def test_centred_ranks_equal_scipy(kernels, kind, data, pairs):
    pool = data.draw(
        st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1)
    )
    pool += [0.0, -0.0, 1e-45, -1e-45]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows = rng.choice(np.array(pool, kind), (2, pairs))
    rows[1] += rng.random(pairs)
    assert_centred(rows, stats.rankdata(rows, axis=1).astype(np.float64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_ranks_of_a_row_that_is_not_finite_have_no_square(kernels, bad):
    rows = rdms(3, 190, 1)
    rows[1, 77] = bad
    prepared = _kernels.centred_ranks(rows)
    np.testing.assert_array_equal(np.isnan(prepared.squares), [False, True, False])
    similarity = _kernels.rank_similarities(rows, prepared)
    np.testing.assert_array_equal(np.isnan(similarity).sum(axis=1), [1, 3, 1])


@quick
@given(st.sampled_from(TRIANGLES[1:]), st.booleans(), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_spearman_equals_scipy(kernels, pairs, ties, n_threads, seed):
    a, b = rdms(2, pairs, seed, ties), rdms(3, pairs, seed + 1)
    a[:, 0] = 10  # none is constant
    expected = reference.compare(a, b)
    np.testing.assert_allclose(compare(a, b, n_threads=n_threads), expected, atol=1e-12)
    assert np.abs(compare(a, b)).max() <= 1


@methods
def test_neither_threads_nor_other_rdms_change_a_bit(kernels, method):
    a, b = rdms(29, 300, 1, ties=True), rdms(17, 300, 2)
    a[0] = a[1]
    whole = compare(a, b, method, n_threads=1)
    for n_threads in range(2, 9):
        np.testing.assert_array_equal(compare(a, b, method, n_threads=n_threads), whole)
    alone = np.concatenate([compare(row, b, method) for row in a])
    np.testing.assert_array_equal(alone, whole)
    np.testing.assert_array_equal(compare(b, a, method), whole.T)


def test_two_rdms_with_many_do_not_depend_on_threads(kernels):
    a, b = rdms(2, 780, 1), rdms(2500, 780, 2)
    np.testing.assert_array_equal(compare(a, b, n_threads=8), compare(a, b, n_threads=1))
    np.testing.assert_array_equal(compare(a, b, n_threads=8), compare(b, a).T)


@methods
def test_blocks_change_nothing(kernels, method, monkeypatch):
    a, b = rdms(13, 45, 1), rdms(3, 45, 2)
    gaps = with_gaps(a, 3)
    whole, omitted = compare(a, b, method), compare(gaps, b, method, nan_policy="omit")
    monkeypatch.setattr(importlib.import_module("fastrdm.similarity.numerics"), "_BLOCK_SIZE", 100)
    np.testing.assert_array_equal(compare(a, b, method), whole)
    np.testing.assert_allclose(compare(gaps, b, method, nan_policy="omit"), omitted, atol=1e-15)
    with pytest.raises(ValueError, match="rdms1 has a value.*NaN at RDM 9, pair 3"):
        compare(np.where(np.arange(585).reshape(13, 45) == 408, np.nan, a), b, method)


@methods
def test_float32_and_strided_rdms(kernels, method):
    a, b = rdms(4, 45, 1).astype(np.float32), rdms(3, 45, 2)
    expected = compare(a.astype(float), b, method)
    np.testing.assert_array_equal(compare(a, b, method), expected)
    np.testing.assert_array_equal(compare(np.asfortranarray(a), b, method), expected)
    wide = np.repeat(a, 2, axis=0)[::2]
    np.testing.assert_array_equal(compare(wide, b, method), expected)
    np.testing.assert_array_equal(compare(a[::-1], b, method)[::-1], expected)


@methods
def test_many_rdms_are_not_copied(method):
    a, b = rdms(3000, 4950, 1).astype(np.float32), rdms(2, 4950, 2)
    if method.startswith("tau"):
        a = a[:600]
    compare(a[:2], b, method)
    tracemalloc.start()
    compare(a, b, method)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Blocks of 32 MB; several exist at the same time.
    assert peak < (1e6 if method in ("spearman", "rho-a") else 2e8)


@methods
def test_no_rdms(method):
    assert compare(np.empty((0, 45)), rdms(2, 45, 1), method).shape == (0, 2)
    assert compare(rdms(2, 45, 1), np.empty((0, 45)), method).shape == (2, 0)


@quick
@given(st.integers(0, 2**32 - 1))
def test_spearman_ignores_monotone_maps(kernels, seed):
    a, b = rdms(2, 300, seed, ties=True), rdms(3, 300, seed + 1)
    np.testing.assert_allclose(compare(np.exp(a) - 5, b**3), compare(a, b), atol=1e-12)


@pytest.mark.parametrize("method", ["rho-a", "tau-a", "tau-b"])
@quick
@given(st.integers(0, 2**32 - 1))
def test_rank_methods_ignore_monotone_maps_and_follow_the_sign(kernels, method, seed):
    a, b = rdms(2, 190, seed, ties=True), rdms(3, 190, seed + 1)
    expected = compare(a, b, method)
    np.testing.assert_array_equal(compare(np.exp(a) - 5, b**3, method), expected)
    np.testing.assert_allclose(compare(-a, b, method), -expected, atol=1e-15)


def test_rank_keeps_the_shape(kernels):
    a = rdms(3, 45, 1, ties=True)
    np.testing.assert_array_equal(rank(a), stats.rankdata(a, axis=1))
    np.testing.assert_array_equal(rank(a[1].astype(np.float32)), stats.rankdata(a[1]))
    with pytest.raises(ValueError, match="rdms has a value.*infinity at RDM 2, pair 4"):
        rank(np.where(np.arange(135).reshape(3, 45) == 94, np.inf, a))


@methods
def test_similarities_are_symmetric_and_1_on_the_diagonal(kernels, method):
    a = rdms(6, 45, 3)
    similarity = compare(a, a, method)
    np.testing.assert_array_equal(similarity, similarity.T)
    np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-12)


@methods
def test_scale_does_not_matter(kernels, method):
    a, b = rdms(2, 45, 3), rdms(2, 45, 4)
    for scale in (1e-300, 1e300):
        np.testing.assert_allclose(compare(a * scale, b, method), compare(a, b, method), atol=1e-9)


@pytest.mark.parametrize(
    "method, value",
    [
        ("spearman", 0.3),
        ("tau-b", 0.3),
        ("corr", 0.1),
        ("cosine", 0.0),
        ("corr_cov", 0.1),
        ("cosine_cov", 0.0),
    ],
)
def test_an_rdm_without_a_correlation_is_nan(kernels, method, value):
    a = rdms(3, 45, 3)
    a[1] = value
    word = "zero" if method.startswith("cosine") else "constant"
    with pytest.warns(RuntimeWarning, match=rf"is {word} \(rdms1: RDM 1\)$") as caught:
        result = compare(a, rdms(2, 45, 4), method)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert np.isnan(result[1]).all() and np.isfinite(result[[0, 2]]).all()


@pytest.mark.parametrize("method", ["rho-a", "tau-a"])
def test_a_constant_rdm_has_similarity_0_if_ties_do_not_count(kernels, method):
    assert (compare(np.ones((1, 45)), rdms(2, 45, 4), method) == 0).all()


def test_one_warning_names_the_constant_rdms_of_both_sides():
    a, b = rdms(9, 45, 1), rdms(3, 45, 2)
    a[1:8], b[2] = 0.5, 0.1
    named = "rdms1: RDM 1; RDM 2; RDM 3; RDM 4; RDM 5 and 2 more, rdms2: RDM 2"
    with pytest.warns(RuntimeWarning, match=rf"\({named}\)$") as caught:
        compare(a, b)
    assert len(caught) == 1


def test_rdms_constant_on_their_common_pairs_are_named():
    a, b = rdms(3, 45, 1), rdms(3, 45, 2)
    a[1, :40] = 0.5
    b[2, 40:] = np.nan
    with pytest.warns(
        RuntimeWarning, match="pairs that both have, 1 times, first rdms1 RDM 1 with rdms2 RDM 2"
    ):
        result = compare(a, b, nan_policy="omit")
    np.testing.assert_array_equal(np.argwhere(np.isnan(result)), [[1, 2]])


@methods
@pytest.mark.parametrize("nan_policy", ["omit", "propagate"])
def test_missing_pairs_do_not_warn(method, nan_policy):
    a, b = rdms(3, 45, 1), rdms(3, 45, 2)
    a[1], b[2, 4] = np.nan, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(a, b, method, nan_policy=nan_policy)


def with_gaps(rdms, seed):
    """Put NaN into different pairs of each RDM, none into the first, the same into the last two."""
    rng = np.random.default_rng(seed)
    gaps = rng.random(rdms.shape) < 0.2
    gaps[0], gaps[-1] = False, gaps[-2]
    return np.where(gaps, np.nan, rdms)


@methods
@pytest.mark.parametrize("ties", [False, True])
def test_omit_equals_the_oracle(kernels, method, ties):
    a, b = with_gaps(rdms(4, 66, 1, ties), 3), with_gaps(rdms(5, 66, 2, ties), 4)
    result = compare(a, b, method, nan_policy="omit")
    np.testing.assert_allclose(result, reference.compare_omitting(a, b, method), atol=1e-9)


@methods
def test_omit_does_not_affect_other_rdms(kernels, method):
    a, b = rdms(4, 45, 1), rdms(3, 45, 2)
    whole = compare(a, b, method)
    a[2, 3:9] = np.nan
    rest = [0, 1, 3]
    result = compare(a, b, method, nan_policy="omit")
    np.testing.assert_allclose(result[rest], whole[rest], atol=1e-14)
    assert np.isfinite(result[2]).all() and (result[2] != whole[2]).all()
    alone = [[compare(x, y, method, nan_policy="omit")[0, 0] for y in b] for x in a]
    np.testing.assert_allclose(result, alone, atol=1e-14)


@methods
def test_propagate_affects_only_the_rdm_with_nan(kernels, method):
    a, b = rdms(4, 45, 1), rdms(3, 45, 2)
    whole = compare(a, b, method)
    a[2, 3] = b[1, 0] = np.nan
    result = compare(a, b, method, nan_policy="propagate")
    assert np.isnan(result[2]).all() and np.isnan(result[:, 1]).all()
    rest = np.ix_([0, 1, 3], [0, 2])
    np.testing.assert_allclose(result[rest], whole[rest], atol=1e-14)


@methods
@pytest.mark.parametrize("nan_policy", ["omit", "propagate"])
def test_policies_agree_without_nan(kernels, method, nan_policy):
    a, b = rdms(4, 45, 1), rdms(3, 45, 2)
    expected = compare(a, b, method)
    np.testing.assert_array_equal(compare(a, b, method, nan_policy=nan_policy), expected)


@methods
def test_rdms_without_a_common_pair_have_nan(kernels, method):
    a, b = rdms(2, 45, 1), rdms(2, 45, 2)
    a[0], a[1, :20], b[0, 20:] = np.nan, np.nan, np.nan
    result = compare(a, b, method, nan_policy="omit")
    np.testing.assert_array_equal(np.isnan(result), [[True, True], [True, False]])


@pytest.mark.parametrize("nan_policy", ["raise", "omit", "propagate"])
def test_infinity_is_an_error_under_every_policy(nan_policy):
    a = rdms(3, 45, 0)
    a[1, 4] = -np.inf
    if nan_policy != "raise":
        a[0, 0] = np.nan
    with pytest.raises(ValueError, match="rdms1 has a value.*infinity at RDM 1, pair 4"):
        compare(a, rdms(2, 45, 0), nan_policy=nan_policy)


def test_unknown_policy():
    with pytest.raises(ValueError, match="nan_policy 'drop' is not one of: raise, omit, propagate"):
        compare(rdms(2, 45, 0), rdms(2, 45, 0), nan_policy="drop")


def test_single_condensed_rdms():
    assert compare(rdms(1, 45, 1)[0], rdms(4, 45, 2)).shape == (1, 4)


def test_square_rdms_are_refused_with_advice():
    with pytest.raises(ValueError, match=r"rdms1 has shape \(2, 5, 5\).*condense\(rdms1\)"):
        compare(np.zeros((2, 5, 5)), rdms(1, 10, 0))
    with pytest.raises(
        ValueError, match=r"rdms2 .*\(3, 3\) looks like one square RDM.*condense\(rdms2\)"
    ):
        compare(rdms(1, 3, 0), 1 - np.eye(3))


def test_invalid_and_different_lengths_are_refused():
    with pytest.raises(ValueError, match="rdms1: 44 pairs are not a condensed RDM"):
        compare(rdms(2, 44, 0), rdms(2, 44, 0))
    with pytest.raises(ValueError, match=r"rdms1 has 45 pairs \(10 conditions\) and rdms2 10 \(5"):
        compare(rdms(2, 45, 0), rdms(2, 10, 0))


def test_nan_is_named():
    a = rdms(3, 45, 0)
    a[2, 7] = np.nan
    with pytest.raises(ValueError, match="rdms2 has a value.*NaN at RDM 2, pair 7"):
        compare(rdms(2, 45, 0), a)


def test_unknown_method():
    with pytest.raises(ValueError, match="'euclid' is not one of: spearman, rho-a"):
        compare(rdms(2, 45, 0), rdms(2, 45, 0), "euclid")
