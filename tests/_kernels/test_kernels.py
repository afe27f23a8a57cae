import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from reference import (
    METHODS,
    concordance,
    exact_ceiling,
    normalise,
    resampled_ceiling,
    written,
)
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

import fastrdm
from fastrdm import _kernels
from fastrdm._kernels import FLOAT64, settle


def run(code, **env):
    kept = {k: v for k, v in os.environ.items() if k not in {"FASTRDM_KERNELS", "FASTRDM_ISA"}}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_compiled_kernels_are_in_use():
    info = fastrdm.kernels()
    assert info.name == os.environ.get("FASTRDM_KERNELS", "cpp")
    assert info.isa == os.environ.get("FASTRDM_ISA", info.available_isas[0])
    assert info.available_isas[-1] == ("portable" if info.name == "cpp" else "native")
    assert info.n_threads >= 1


@pytest.mark.parametrize("name, isa", [("cpp", "portable"), ("numba", "native")])
def test_a_choice_can_be_forced(name, isa):
    result = run(
        "import fastrdm; k = fastrdm.kernels(); print(k.name, k.isa, k.forced)",
        FASTRDM_KERNELS=name,
        FASTRDM_ISA=isa,
    )
    assert result.stdout.split() == [name, isa, "True"], result.stderr


@pytest.mark.parametrize(
    "env, message",
    [
        ({"FASTRDM_KERNELS": "fortran"}, "FASTRDM_KERNELS=fortran is not one of: cpp, numba"),
        ({"FASTRDM_ISA": "sse9"}, "FASTRDM_ISA=sse9 is unavailable; the cpp kernels support"),
        (
            {"FASTRDM_KERNELS": "numba", "FASTRDM_ISA": "avx2"},
            "unavailable; the numba kernels support: native",
        ),
    ],
)
def test_an_impossible_choice_is_an_error(env, message):
    result = run("import fastrdm; fastrdm.kernels()", **env)
    assert result.returncode != 0 and message in result.stderr


WITHOUT_CORE = """
import sys, warnings
sys.modules["fastrdm._kernels._core"] = None
import fastrdm
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(fastrdm.kernels().name, "compiled kernels unavailable" in str(caught[0].message))
"""


def test_without_compiled_kernels_numba_is_used_with_a_warning():
    assert run(WITHOUT_CORE).stdout.split() == ["numba", "True"]


def test_without_compiled_kernels_cpp_cannot_be_forced():
    result = run(WITHOUT_CORE, FASTRDM_KERNELS="cpp")
    assert "FASTRDM_KERNELS=cpp is unavailable" in result.stderr


def test_numba_is_imported_only_when_chosen():
    code = "import sys, fastrdm; fastrdm.kernels(); print('numba' in sys.modules)"
    assert run(code).stdout.split() == ["False"]


def test_importing_fastrdm_imports_numpy_alone():
    """Others take longer to import than `import fastrdm` may: they wait for the call that needs them."""
    before = "import sys, numpy; before = set(sys.modules); import fastrdm; "
    code = before + "print(*{m.partition('.')[0] for m in set(sys.modules) - before})"
    # `multiprocessing` calls the main module by a second name.
    foreign = set(run(code).stdout.split()) - sys.stdlib_module_names - {"__mp_main__"}
    assert foreign <= {"fastrdm", "numpy"}


# Around 1, the padding of rows to 12, the tiles and panels of 3 to 32, the stripes of 96.
ROWS = [1, 2, 11, 12, 13, 31, 33, 95, 97, 118]
# Around 1, vectors, the blocks of 512 and 768, the shares of 1536.
COLUMNS = [1, 3, 17, 511, 513, 767, 769, 1535, 1537, 3073]
SHAPES = [(n, 530) for n in ROWS] + [(14, f) for f in COLUMNS]
THREADS = range(1, 9)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def numbers(shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_products(got, a, b, tolerance):
    """Against float64, by the lengths of the rows."""
    lengths = np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    assert np.all(np.abs(got - a @ b.T) <= tolerance * lengths)


@shapes
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_gram(kernels, shape, dtype, tolerance):
    x = numbers(shape, dtype=dtype) + dtype(2)
    shift = np.linspace(1, 3, len(x)).astype(dtype).astype(np.float64)
    product, sums = _kernels.gram(x, shift)
    wide = x.astype(np.float64) - shift[:, None]
    scale = np.abs(x).max() * shape[1]
    assert np.all(np.abs(product - wide @ wide.T) <= tolerance * scale * np.abs(x).max())
    np.testing.assert_array_equal(product, product.T)
    np.testing.assert_allclose(sums, wide.sum(axis=1), atol=tolerance * scale)


@pytest.mark.parametrize("step", [1, 5, 512, 1024])
def test_gram_of_rows_within_wider_ones(kernels, step):
    """Rows are read in place, without the values between them."""
    wide = np.full((13, 700 + step), np.nan, np.float32)
    x = wide[:, step // 2 : step // 2 + 700]
    x[:] = numbers(x.shape)
    np.testing.assert_array_equal(_kernels.gram(x)[0], _kernels.gram(x.copy())[0])


DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)


@pytest.mark.parametrize("shape", [(5, 9000), (118, 4099), (1030, 300), (520, 3000)], ids=str)
@dtypes
def test_a_product_depends_on_its_two_rows_alone(kernels, shape, dtype):
    """Not on threads, on the place of the rows, on other rows, or on whether there is one matrix or two."""
    x = numbers(shape).astype(dtype)
    shift = x[:, 0].astype(np.float64)
    product, sums = _kernels.gram(x, shift)
    order = np.random.default_rng(0).permutation(len(x))
    part = order[: len(x) // 2]
    for n_threads in (1, 2, 7):
        again, other_sums = _kernels.gram(x[order], shift[order], n_threads=n_threads)
        np.testing.assert_array_equal(again, product[np.ix_(order, order)])
        np.testing.assert_array_equal(other_sums, sums[order])
        fewer, _ = _kernels.gram(x[part], shift[part], n_threads=n_threads)
        np.testing.assert_array_equal(fewer, product[np.ix_(part, part)])
        across = _kernels.cross(x[part], x, n_threads, shift_a=shift[part], shift_b=shift)
        np.testing.assert_array_equal(across, product[part])


@pytest.mark.parametrize("n_threads", [13, 16, 64])
def test_sums_of_rows_with_more_threads_than_tiles(kernels, n_threads):
    x = numbers((100, 20_000), dtype=np.float32)
    _, expected = _kernels.gram(x, n_threads=1)
    made = np.full((100, 100), np.nan), np.full(100, np.nan)
    chosen = _kernels.active()
    width = _kernels.share(20_000, 4)
    chosen.run("gram", n_threads, x, np.zeros(100), width, False, *made)
    np.testing.assert_array_equal(made[1], expected)


@dtypes
def test_products_may_be_added_up_share_by_share(kernels, dtype):
    x = numbers((13, 30_000)).astype(dtype)
    width = _kernels.share(x.shape[1], max(4, x.itemsize))
    made = None
    for start in range(0, x.shape[1], width):
        part = np.ascontiguousarray(x[:, start : start + width])
        made = _kernels.gram(part, share=width, add_to=made)
    product, sums = _kernels.gram(x)
    np.testing.assert_array_equal(made[0], product)
    np.testing.assert_array_equal(made[1], sums)


@dtypes
@pytest.mark.parametrize("n_columns", COLUMNS)
def test_differences(kernels, dtype, n_columns):
    x = numbers((9, n_columns)).astype(dtype)
    pairs = np.array([(i, j) for i in range(9) for j in range(9)], np.int32)
    shift, factor = (
        np.linspace(a, b, 9).astype(np.float32).astype(float) for a, b in ((-1, 1), (1, 3))
    )
    wide = (x.astype(np.float64) - shift[:, None]) * factor[:, None]
    expected = ((wide[:, None] - wide) ** 2).sum(axis=2)
    for n_threads in (1, 2, 7):
        found = np.zeros(81)
        _kernels.differences(
            x, x, pairs, found, n_threads, shifts=(shift, shift), factors=(factor, factor)
        )
        square = found.reshape(9, 9)
        np.testing.assert_allclose(square, expected, rtol=1e-5, atol=1e-12)
        np.testing.assert_array_equal(square, square.T)
        assert not square.diagonal().any()


@dtypes
def test_distinct(kernels, dtype):
    x = np.random.default_rng(0).integers(0, 50, (20, 30)).astype(dtype)
    assert set(_kernels.distinct(x, 51).tolist()) == set(range(50))
    assert _kernels.distinct(x, 50) is None
    assert _kernels.distinct(np.zeros((3, 4), dtype), 2).tolist() == [0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0), (40, 512), (117, 1999)])
def test_gram_confines_non_finite_values_to_their_row(kernels, bad, place):
    x = numbers((118, 2000), dtype=np.float32)
    x[place] = bad
    finite = np.isfinite(_kernels.gram(x)[0])
    other = np.arange(118) != place[0]
    assert finite[np.ix_(other, other)].all() and not finite[place[0]].any()


@shapes
def test_cross(kernels, shape):
    a, b = numbers(shape, 1), numbers((15, shape[1]), 2)
    for n_threads in (1, 2, 8):
        assert_products(_kernels.cross(a, b, n_threads), a, b, 1e-14)
        assert_products(_kernels.cross(b, a, n_threads), b, a, 1e-14)


WIDE = {
    "ties": lambda x: np.round(x),
    "one value": lambda x: np.zeros_like(x),
    "all magnitudes": lambda x: np.sign(x) * 10 ** (x * 60),
    "alike in the upper 32 bits": lambda x: 1 + np.round(x * 9) * 2.0**-52,
    "denormal": lambda x: x * 1e-310,
    "infinities and zeros": lambda x: np.select(
        [x > 1, x < -1, x > 0], [np.inf, -np.inf, 0.0], -0.0
    ),
}


@shapes
@pytest.mark.parametrize("values", WIDE)
def test_rank(kernels, shape, values):
    x = WIDE[values](numbers(shape))
    expected = rankdata(x, axis=1)
    for n_threads in (1, 2, 8):
        np.testing.assert_array_equal(_kernels.rank(x, n_threads), expected)


@dtypes
def test_guess_means(kernels, dtype):
    x = numbers((5, 40)).astype(dtype)
    np.testing.assert_allclose(_kernels.guess_means(x), x.astype(float).mean(axis=1), atol=1e-12)
    long = np.repeat(np.arange(3).astype(dtype)[:, None], 5000, axis=1)
    np.testing.assert_array_equal(_kernels.guess_means(long), [0, 1, 2])


def test_project(kernels):
    """Two blocks of channels, with one entry for each channel of a block."""
    n_channels, n_components, block = 300, 7, _kernels.SIGN_BLOCK
    rng = np.random.default_rng(0)
    components, signs = rng.integers(0, n_components, 2 * block), rng.integers(0, 2, 2 * block)
    place = np.arange(2 * block) % block
    entries = (components * 2 * block + 2 * place + signs).reshape(2, block).astype(np.uint32)
    matrix = np.zeros((n_components, 2 * block))
    matrix[components, np.arange(2 * block)] = 1 - 2.0 * signs
    x, shift = numbers((18, n_channels), dtype=np.float32), np.arange(18.0)
    out = np.empty((18, n_components), np.float32)
    sums = _kernels.project(x, entries, shift, 0.5, out)
    shifted = x.astype(float) - shift[:, None]
    np.testing.assert_allclose(out, 0.5 * shifted @ matrix[:, :n_channels].T, atol=1e-3)
    np.testing.assert_allclose(sums, shifted.sum(axis=1), atol=1e-2)


def test_similarities(kernels):
    a, b = (np.zeros((n, _kernels.padded(50))) for n in (5, 13))
    a[:, :50], b[:, :50] = numbers((5, 50), 1), numbers((13, 50), 2)
    left, right = (_kernels.Prepared(x, (x**2).sum(axis=1)) for x in (a, b))
    lengths = np.sqrt(np.outer(left.squares, right.squares))
    expected = a @ b.T / lengths
    for n_threads in (1, 2, 8):
        got = _kernels.similarities(left, right, n_threads=n_threads)
        np.testing.assert_allclose(got, expected, atol=1e-14)
    paired = _kernels.similarities(left, left, paired=True)
    np.testing.assert_allclose(paired, np.ones((5, 1)))


@pytest.mark.parametrize("n_columns", [2, 3, 17, 63, 64, 65, 127, 129, 513])
@pytest.mark.parametrize("values", ["ties", "one value", "all magnitudes"])
def test_concordance(kernels, n_columns, values):
    a, b = (rankdata(WIDE[values](numbers((n, n_columns), n)), axis=1) for n in (3, 5))
    expected = [[concordance(x, y) for y in b] for x in a]
    for n_threads in (1, 2, 8):
        counts, untied_a, untied_b = _kernels.concordance(a, b, n_threads)
        np.testing.assert_array_equal(counts, expected)
        np.testing.assert_array_equal(untied_a, [concordance(x, x) for x in a])
        np.testing.assert_array_equal(untied_b, [concordance(x, x) for x in b])


@pytest.mark.parametrize("n", ROWS)
def test_dissimilarities_from_products(kernels, n):
    x = numbers((n, 40)) + 1
    upper, centred = np.triu_indices(n, 1), x - x.mean(axis=1, keepdims=True)
    for rows, sums, channels in ((x, None, 1), (centred, x.sum(axis=1), 40)):
        norms = channels * (x * x).sum(axis=1) - (0 if sums is None else sums**2)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        given = (x @ x.T, (norms, norms), None if sums is None else (sums, sums), channels)
        angles, n_near = _kernels.angles(*given, condensed=True)
        np.testing.assert_allclose(angles, 1 - (unit @ unit.T)[upper], atol=1e-13)
        assert n_near == 0
        np.testing.assert_array_equal(_kernels.angles(*given)[0].reshape(n, n)[upper], angles)
    norms = (x * x).sum(axis=1)
    distances, _ = _kernels.distances(x @ x.T, (norms, norms), condensed=True)
    expected = pdist(x, "sqeuclidean") if n > 1 else np.empty(0)
    np.testing.assert_allclose(distances, expected, atol=1e-12)


def test_dissimilarities_are_within_their_bounds_and_near_ones_marked(kernels):
    gram = np.array([[1, 1 + 1e-15, np.nan], [1 + 1e-15, 1, -1 - 1e-15], [np.nan, -1 - 1e-15, 1]])
    norms = np.ones(3)
    angles, n_near = _kernels.angles(gram, (norms, norms), near=0.1, condensed=True)
    np.testing.assert_array_equal(angles, [0, np.nan, 2])
    assert n_near == 1 and np.signbit(angles[0])
    distances, n_near = _kernels.distances(gram, (norms, norms), near=0.1, condensed=True)
    np.testing.assert_array_equal(distances[:2], [0, np.nan])
    assert n_near == 1 and np.signbit(distances[0])


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**-200, 1.0, 2.0**230, 2.0**900])
def test_equal_fractions_have_equal_angles(kernels, scale):
    """1 / √(3 · 27), 3 / √(27 · 27) and 9 / 81 are one number."""
    fractions = [(1, 3, 27), (3, 27, 27), (9, 81, 81), (-1, 3, 27)]
    found = [
        _kernels.angles(np.array([[p * scale]]), (np.array([a * scale]), np.array([b * scale])))[0][
            0
        ]
        for p, a, b in fractions
    ]
    assert len(set(found[:3])) == 1 and found[3] == pytest.approx(2 - found[0], abs=1e-15)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (2, 63, 65), (7, 300, 301), (0, 4, 4)])
@pytest.mark.parametrize("channels", [(0, 1, 2), (2, 1, 0), (1, 1, 0)])
def test_normalise(kernels, shape, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    table = numbers((3, 256), dtype=np.float32)
    for n_threads in (1, 2, 8):
        out = np.full((shape[0], 3, *shape[1:]), np.nan, np.float32)
        _kernels.normalise(pixels, table, channels, out, n_threads)
        np.testing.assert_array_equal(out, normalise(pixels, table, channels))


def resampling(n, seed=0, n_draws=7):
    """RDMs of n conditions, one of them tied, and draws of conditions and of subjects."""
    rng = np.random.default_rng(seed)
    a, b = (rng.random((rows, n * (n - 1) // 2)) for rows in (2, 4))
    a[1], b[2] = np.round(a[1] * 3), np.round(b[2] * 3)
    conditions, subjects = (
        np.array(
            [np.bincount(rng.integers(k, size=k), minlength=k) for _ in range(n_draws)], np.int32
        )
        for k in (n, len(b))
    )
    conditions[0], subjects[0], subjects[1] = 1, 1, [0, 4, 0, 0]
    return a, b, conditions, subjects


@pytest.mark.parametrize("n", [5, 12, 33])
@pytest.mark.parametrize("method", ["spearman", "rho-a"])
def test_resampled_similarities(kernels, n, method):
    a, b, counts, _ = resampling(n)
    expected = [
        [[METHODS[method](written(x, c), written(y, c)) for y in b] for x in a] for c in counts
    ]
    results = [
        _kernels.resampled_similarities(a, b, counts, untied=method == "rho-a", n_threads=n_threads)
        for n_threads in (1, 2, 8)
    ]
    np.testing.assert_allclose(results[0], expected, atol=1e-13)
    assert all(np.array_equal(results[0], result) for result in results[1:])
    paired = _kernels.resampled_similarities(
        a, b[:2].copy(), counts, paired=True, untied=method == "rho-a"
    )
    np.testing.assert_array_equal(paired[..., 0], np.einsum("dii->di", results[0][:, :, :2]))


@pytest.mark.parametrize("method", ["spearman", "rho-a"])
@pytest.mark.parametrize("pool", ["rank", "raw"])
@pytest.mark.parametrize("over", ["conditions", "subjects", "both"])
def test_resampled_ceilings(kernels, method, pool, over):
    n = 14
    _, rows, conditions, subjects = resampling(n)
    given = (None if over == "subjects" else conditions, None if over == "conditions" else subjects)
    expected = [
        resampled_ceiling(
            rows,
            np.ones(n, int) if given[0] is None else conditions[d],
            np.ones(len(rows), int) if given[1] is None else subjects[d],
            method,
            pool,
        )
        for d in range(len(conditions))
    ]
    results = [
        _kernels.resampled_ceilings(
            rows, n, *given, ranked=pool == "rank", untied=method == "rho-a", n_threads=n_threads
        )
        for n_threads in (1, 2, 8)
    ]
    np.testing.assert_allclose(results[0], expected, atol=1e-13)
    assert all(np.array_equal(results[0], result, equal_nan=True) for result in results[1:])


@pytest.mark.parametrize("method", ["spearman", "rho-a"])
@pytest.mark.parametrize("low", [1, -5])
def test_resampled_pools_are_ranked_as_the_exact_mean(kernels, method, low):
    n, rng = 9, np.random.default_rng(3)
    rows = rng.integers(low, 6, size=(5, n * (n - 1) // 2)).astype(float)
    times = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 1, 1], [3, 2, 0, 0, 0], [5, 0, 0, 0, 0]], np.int32)
    expected = [exact_ceiling(rows, method, t) for t in times]
    for unit in (1, 10, 7, 1e-3):
        bounds = _kernels.resampled_ceilings(
            rows / unit, n, None, times, ranked=False, untied=method == "rho-a"
        )
        np.testing.assert_allclose(bounds, expected, atol=1e-13)


def test_a_distant_subject_changes_no_pool_that_it_is_not_in(kernels):
    n, rng = 9, np.random.default_rng(3)
    rows = rng.random((5, n * (n - 1) // 2))
    counts = np.ones((1, 5), np.int32)
    before = _kernels.resampled_ceilings(rows, n, None, counts, ranked=False)
    rows[2] *= 1e17
    after = _kernels.resampled_ceilings(rows, n, None, counts, ranked=False)
    assert after[0, 0, 2] == before[0, 0, 2]


@pytest.mark.parametrize("n", [5, 60, 135])
@pytest.mark.parametrize("kind", ["even", "crowded", "signed", "whole"])
@pytest.mark.parametrize("within", [FLOAT64, 1e-5, 0.01])
def test_pools_tie_by_the_rule(kernels, n, kind, within):
    rng = np.random.default_rng(n)
    values = rng.random((2, n * (n - 1) // 2))
    if kind == "crowded":
        values = 1 + within * values
        values[:, 0] = 1e9
    elif kind == "signed":
        values -= 0.5
    elif kind == "whole":
        values = np.round(values * 9) / 7 * (1 + within * rng.random(values.shape) / 2)
    counts = np.ones((1, n), np.int32)
    bounds = _kernels.resampled_ceilings(values, n, counts, None, ranked=False, within=within)
    # Of two, the pool without one is the other.
    pools = settle(values[::-1].copy(), within)
    expected = [METHODS["spearman"](*pair) for pair in zip(values, pools, strict=True)]
    np.testing.assert_allclose(bounds[0, 0], expected, atol=1e-12)


def test_a_draw_of_one_condition_has_no_similarity(kernels):
    a, b, _, _ = resampling(5)
    counts = np.array([[5, 0, 0, 0, 0], [3, 2, 0, 0, 0]], np.int32)
    assert np.isnan(_kernels.resampled_similarities(a, b, counts)).all()
    assert np.isnan(_kernels.resampled_ceilings(b, 5, counts, None, ranked=True)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_permuted_similarities(kernels, dtype):
    n, rng = 13, np.random.default_rng(0)
    n_pairs = n * (n - 1) // 2
    squares = rng.normal(size=(2, n, n)).astype(dtype)
    squares += squares.transpose(0, 2, 1).copy()
    values = np.zeros((3, _kernels.padded(n_pairs)), dtype)
    values[:, :n_pairs] = rng.normal(size=(3, n_pairs))
    lengths = [
        (x.astype(np.float64) ** 2).sum(axis=-1)
        for x in (squares[:, *np.triu_indices(n, 1)], values)
    ]
    permutations = np.array([rng.permutation(n) for _ in range(31)], np.int32)
    expected = [
        [
            [
                x[np.ix_(p, p)][np.triu_indices(n, 1)].astype(np.float64) @ y[:n_pairs]
                for y in values
            ]
            / np.sqrt(own * lengths[1])
            for x, own in zip(squares, lengths[0], strict=True)
        ]
        for p in permutations
    ]
    prepared = _kernels.Prepared(values, lengths[1])
    for n_threads in (1, 2, 8):
        result = _kernels.permuted_similarities(
            squares, lengths[0], permutations, prepared, n_threads
        )
        np.testing.assert_allclose(result, expected, atol=1e-13)


def test_delayed_threads_do_not_block_each_other(kernels):
    """More threads than processors, and others beside them: each share waits for its turn."""
    x = numbers((92, 60_000), dtype=np.float32)
    expected = _kernels.gram(x, n_threads=1)[0]
    with ThreadPoolExecutor(1 if "numba" in kernels else 4) as pool:
        for product, _ in pool.map(lambda n: _kernels.gram(x, n_threads=n), [2, 3, 5, 8] * 6):
            np.testing.assert_array_equal(product, expected)
