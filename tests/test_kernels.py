import os
import subprocess
import sys

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
from fastrdm.ties import FLOAT64, settle


def run(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_compiled_kernels_are_in_force():
    info = fastrdm.kernels()
    assert info.name == "cpp"
    assert info.isa == info.available_isas[0]
    assert info.available_isas[-1] == "portable"
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
        ({"FASTRDM_ISA": "sse9"}, "FASTRDM_ISA=sse9 is not one that the cpp kernels have here"),
        (
            {"FASTRDM_KERNELS": "numba", "FASTRDM_ISA": "avx2"},
            "not one that the numba kernels have here: native",
        ),
    ],
)
def test_an_impossible_choice_is_an_error(env, message):
    result = run("import fastrdm; fastrdm.kernels()", **env)
    assert result.returncode != 0 and message in result.stderr


WITHOUT_CORE = """
import sys, warnings
sys.modules["fastrdm._core"] = None
import fastrdm
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(fastrdm.kernels().name, "compiled kernels are not here" in str(caught[0].message))
"""


def test_without_compiled_kernels_numba_serves_and_says_so():
    assert run(WITHOUT_CORE).stdout.split() == ["numba", "True"]


def test_without_compiled_kernels_cpp_cannot_be_forced():
    result = run(WITHOUT_CORE, FASTRDM_KERNELS="cpp")
    assert "FASTRDM_KERNELS=cpp cannot be had" in result.stderr


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
@pytest.mark.parametrize("centre_columns", [False, True])
def test_gram(kernels, shape, dtype, tolerance, centre_columns):
    x = numbers(shape, dtype=dtype) + dtype(2)
    shift = None if centre_columns else np.linspace(1, 3, len(x)).astype(dtype).astype(np.float64)
    product, sums = _kernels.gram(x, shift, centre_columns=centre_columns)
    wide = x.astype(np.float64)
    wide -= wide.mean(axis=0) if centre_columns else shift[:, None]
    scale = np.abs(x).max() * shape[1]
    assert np.all(np.abs(product - wide @ wide.T) <= tolerance * scale * np.abs(x).max())
    np.testing.assert_array_equal(product, product.T)
    np.testing.assert_allclose(sums, wide.sum(axis=1), atol=tolerance * scale)


@pytest.mark.parametrize("step", [1, 5, 512, 1024])
def test_gram_of_rows_within_wider_ones(kernels, step):
    """Rows are read where they lie: what is between them is not."""
    wide = np.full((13, 700 + step), np.nan, np.float32)
    x = wide[:, step // 2 : step // 2 + 700]
    x[:] = numbers(x.shape)
    np.testing.assert_array_equal(_kernels.gram(x)[0], _kernels.gram(x.copy())[0])


@pytest.mark.parametrize("shape", [(5, 9000), (118, 4099), (1030, 300)], ids=str)
def test_gram_does_not_depend_on_threads(kernels, shape):
    x = numbers(shape, dtype=np.float32)
    for n_threads in THREADS:
        product, sums = _kernels.gram(x, n_threads=n_threads)
        assert_products(product, x.astype(np.float64), x.astype(np.float64), 1e-6)
        np.testing.assert_allclose(sums, x.sum(axis=1, dtype=np.float64), atol=1e-2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0), (40, 512), (117, 1999)])
def test_gram_keeps_what_is_not_finite_to_its_row(kernels, bad, place):
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
def test_condensing(kernels, n):
    x = numbers((n, 40))
    upper = np.triu_indices(n, 1)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    angles = _kernels.condense_angles(x @ x.T)
    np.testing.assert_allclose(angles, 1 - (unit @ unit.T)[upper], atol=1e-14)
    distances = _kernels.condense_distances(x @ x.T)
    expected = pdist(x, "sqeuclidean") if n > 1 else np.empty(0)
    np.testing.assert_allclose(distances, expected, atol=1e-12)


def test_condensing_clips_rounding_and_passes_nan(kernels):
    gram = np.array([[1, 1 + 1e-15, np.nan], [1 + 1e-15, 1, -1 - 1e-15], [np.nan, -1 - 1e-15, 1]])
    np.testing.assert_array_equal(_kernels.condense_angles(gram), [0, np.nan, 2])
    np.testing.assert_array_equal(_kernels.condense_distances(gram)[:2], [0, np.nan])


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
