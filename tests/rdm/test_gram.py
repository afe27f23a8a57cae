"""Gram matrices: RDMs to the bit of `calc_rdm`, sums of blocks, projections, files."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrdm
from fastrdm import Gram, GramAccumulator, SparseProjection, calc_rdm, gram
from fastrdm.rdm import tiles
from tests.rdm.test_exact import quick, rows

METHODS = ("correlation", "cosine", "euclidean", "sqeuclidean")


def normal(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def answer(function, *arguments, **options):
    """The result, or the error's text; warnings are part of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = function(*arguments, **options)
        except ValueError as error:
            result = str(error)
    return result, [str(each.message) for each in caught]


def same(gram, x, method):
    """Check that RDM, warnings and errors are those of `calc_rdm`."""
    expected, warned = answer(calc_rdm, x, method)
    found, warned_too = answer(gram.rdm, method)
    assert warned == warned_too
    assert type(found) is type(expected), (found, expected)
    if isinstance(expected, str):
        assert found == expected
    else:
        np.testing.assert_array_equal(found, expected)


def hard(dtype):
    """Conditions of every difficult kind."""
    x = normal((16, 300), np.float32).astype(dtype)
    x[1] = 0
    x[2] = 2.5
    x[3] = x[4]
    x[5] = x[6] + dtype(1e-5) * x[7]
    x[8] = 1000 + x[9]
    x[10] *= dtype(1e-25)
    x[11] *= dtype(1e18)
    x[12, 0] = 1e6
    return x


@pytest.mark.parametrize("method", METHODS)
@quick
@given(st.data())
def test_rdms_are_those_of_calc_rdm(kernels, method, data):
    x = data.draw(rows(20_000))
    same(gram(x), x, method)
    same(gram(x, methods=[method]), x, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rdms_of_difficult_conditions(kernels, method, dtype, monkeypatch):
    x = hard(dtype)
    same(gram(x), x, method)
    whole = gram(x)
    monkeypatch.setattr(tiles, "_height", lambda source, *_: min(5, source.n_conditions))
    assert gram(x, max_memory="1GiB") == whole


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_rdms_of_squares_beyond_float64(method, scale):
    x = normal((6, 50)) * scale
    same(gram(x), x, method)
    with pytest.raises(ValueError, match="their squares leave the range of float64"):
        _ = gram(x).products


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, bool])
@pytest.mark.parametrize("shape", [(2, 1), (3, 40), (40, 3), (30, 5000)])
def test_products(kernels, dtype, shape):
    x = (normal(shape) * 3 + 1).astype(dtype)
    found, wide = gram(x), x.astype(np.float64)
    products = wide @ wide.T
    sizes = np.sqrt(np.outer(products.diagonal(), products.diagonal()))
    assert np.all(np.abs(found.products - products) <= (found.error_bound + 1e-13) * sizes)
    np.testing.assert_array_equal(found.products, found.products.T)
    assert (found.n_conditions, found.n_channels) == shape
    if shape[1] <= shape[0]:
        np.testing.assert_array_equal(found.features, wide)
    else:
        assert found.features is None
    h = np.eye(len(x)) - 1 / len(x)
    np.testing.assert_allclose(found.centred(), h @ products @ h, atol=1e-6 * sizes.max())


def test_products_of_difficult_conditions(kernels):
    x = hard(np.float64)
    products = x @ x.T
    sizes = np.sqrt(np.outer(products.diagonal(), products.diagonal()))
    assert np.all(np.abs(gram(x).products - products) <= 1e-13 * sizes)
    wide = hard(np.float32)
    wide = np.tile(wide, 20)
    found, exact = gram(wide), wide.astype(np.float64) @ wide.T.astype(np.float64)
    sizes = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    assert 0 < found.error_bound < 1e-3
    assert np.all(np.abs(found.products - exact) <= 1e-6 * sizes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_permuted_conditions_have_permuted_products(dtype, seed):
    x = hard(dtype)
    order = np.random.default_rng(seed).permutation(len(x))
    np.testing.assert_array_equal(gram(x[order]).products, gram(x).products[np.ix_(order, order)])


def test_stacks_and_labels():
    layers = {"conv": normal((5, 40)), "fc": normal((5, 3))}
    grams = gram(layers)
    assert list(grams) == ["conv", "fc"] and grams["fc"] == gram(layers["fc"])
    assert gram(list(layers.values())) == list(grams.values())
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(layers["fc"], index=list("abcde"))
    assert gram(frame).labels.values == tuple("abcde")
    with pytest.raises(ValueError, match="differ in their condition labels"):
        gram([frame, frame.set_axis(list("abcdf"))])


def test_what_is_not_a_gram():
    with pytest.raises(ValueError, match="'spearman' ranks all channels .*use calc_rdm"):
        gram(normal((4, 5))).rdm("spearman")
    with pytest.raises(ValueError, match="'mahalanobis' .*use calc_rdm"):
        gram(normal((4, 5)), methods=["mahalanobis"])
    with pytest.raises(TypeError, match="methods must be a list of method names"):
        gram(normal((4, 5)), methods="cosine")
    with pytest.raises(ValueError, match="method 'cosines' is not one of"):
        gram(normal((4, 5)), methods=["cosines"])
    with pytest.raises(ValueError, match="made for the methods cosine; add 'correlation'"):
        gram(normal((4, 5)), methods=["cosine"]).rdm("pearson")
    with pytest.raises(ValueError, match=r"NaN at condition 1, channel 2"):
        gram(np.where(np.arange(12).reshape(3, 4) == 6, np.nan, 1.0))
    with pytest.raises(ValueError, match=r"activations\['a'\] have shape \(1, 4\)"):
        gram({"a": normal((1, 4))})
    with pytest.raises(ValueError, match=r"max_memory of 1000 bytes .*the minimum is \d+ bytes"):
        gram(normal((4, 5)), max_memory=1000)


# Sums.


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("method", METHODS)
def test_sums_of_channels(kernels, method, dtype):
    x = (normal((8, 900)) * 9 + 3).astype(dtype)
    x[5] = x[6]
    parts = np.split(x, [1, 100, 640], axis=1)
    total, accumulator = gram(parts[0]), GramAccumulator(8)
    for part in parts[1:]:
        total = total + gram(part)
    for part in parts:
        accumulator.update(part)
    expected = calc_rdm(x, method)
    for found in (total, accumulator.gram()):
        assert found.n_channels == 900
        np.testing.assert_allclose(
            found.products, x.astype(np.float64) @ x.T.astype(np.float64), rtol=1e-6
        )
        np.testing.assert_allclose(
            found.rdm(method), expected, rtol=1e-6, atol=1e-6 if method in METHODS[:2] else 0
        )
        assert fastrdm.square(found.rdm(method))[5, 6] == 0


def test_features_are_kept_while_they_are_few():
    x = normal((9, 12))
    accumulator = GramAccumulator(9)
    accumulator.update(x[:, :4])
    accumulator.update(x[:, 4:9])
    np.testing.assert_array_equal(accumulator.gram().features, x[:, :9])
    accumulator.update(x[:, 9:])
    assert accumulator.gram().features is None


def test_constant_conditions_of_sums():
    x = normal((4, 20))
    x[1] = 3
    x[2] = np.repeat([1, 2], 10)
    both = gram(x[:, :10]) + gram(x[:, 10:])
    with pytest.warns(RuntimeWarning, match="NaN: 1$"):
        np.testing.assert_allclose(both.rdm(), answer(calc_rdm, x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_difficult_conditions(kernels, dtype):
    x = hard(dtype)
    both = gram(x[:, :100]) + gram(x[:, 100:])
    exact = x.astype(np.float64) @ x.T.astype(np.float64)
    sizes = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    assert np.all(np.abs(both.products - exact) <= 1e-6 * sizes)
    for method in METHODS[1:]:
        expected, warned = answer(calc_rdm, x, method)
        found, warned_too = answer(both.rdm, method)
        assert warned == warned_too
        np.testing.assert_allclose(
            found, expected, rtol=1e-6, atol=1e-6 if method == "cosine" else 0
        )


def test_sums_beyond_float64_have_other_rdms():
    x = normal((5, 40))
    x[2] *= 1e-200
    both = gram(x[:, :20]) + gram(x[:, 20:])
    with pytest.raises(ValueError, match="leave the range of float64"):
        both.rdm("euclidean")
    accumulator = GramAccumulator(5)
    accumulator.update(normal((5, 40)))
    with pytest.raises(ValueError, match="so large that their squares leave the range of float64"):
        accumulator.update(normal((5, 40)) * 1e200)
    assert accumulator.n_channels == 40


def test_accumulators_merge_and_refuse():
    x = normal((6, 30))
    first, second = GramAccumulator(6), GramAccumulator(6)
    first.update(x[:, :10])
    assert (first + second).gram() == first.gram()
    second.update(x[:, 10:])
    np.testing.assert_allclose((first + second).gram().products, x @ x.T)
    assert repr(first) == "GramAccumulator(6: 10 channels)"
    with pytest.raises(ValueError, match="has no channels yet"):
        GramAccumulator(6).gram()
    with pytest.raises(ValueError, match="n_conditions must be at least 2, not 1"):
        GramAccumulator(1)
    with pytest.raises(ValueError, match=r"shape \(5, 30\); expected 6 conditions"):
        first.update(x[:5])
    with pytest.raises(ValueError, match="differ in methods or conditions"):
        _ = first + GramAccumulator(6, methods=["cosine"])
    with pytest.raises(ValueError, match="differ in their conditions"):
        _ = gram(x) + gram(x[:4])
    with pytest.raises(ValueError, match="NaN at condition 0, channel 1"):
        first.update(np.where(np.arange(12).reshape(6, 2) == 1, np.nan, 1.0))
    assert first.n_channels == 10


# Projections and memory.


@pytest.mark.parametrize("method", METHODS)
def test_projections(method):
    x = normal((12, 9000), np.float32) + 2
    projection = SparseProjection(1500)
    found = gram(x, projection=projection)
    projector = projection.layer(9000, "", method)
    np.testing.assert_array_equal(
        found.rdm(method), calc_rdm(projector.project(x), projector.method)
    )
    assert found.n_channels == 9000 and found.features is None
    assert found.error_bound == projector.bound(12).eps
    exact = x.astype(np.float64) @ x.T.astype(np.float64)
    assert np.abs(found.products - exact).max() < found.error_bound * exact.max()
    assert gram(x[:, :1500], projection=projection) == gram(x[:, :1500])


def test_constant_conditions_of_projections():
    x = normal((4, 3000), np.float32)
    x[1] = 0.1
    with pytest.warns(RuntimeWarning, match=r"NaN: 1$"):
        rdm = gram(x, projection=SparseProjection(500)).rdm()
    assert np.isnan(fastrdm.square(rdm)[1, 0])


def test_a_mapped_file_within_a_memory_limit(tmp_path):
    x = normal((60, 5000), np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert gram(mapped, max_memory="8MB", n_threads=1) == gram(x)


# Dimensionality.


@pytest.mark.parametrize("shape", [(2, 5), (3, 1), (20, 6), (12, 300)])
def test_dimensionality(shape):
    x = normal(shape)
    values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    assert gram(x).dimensionality() == pytest.approx(values.sum() ** 2 / (values**2).sum())


def test_equal_conditions_have_no_dimensionality():
    assert np.isnan(gram(np.full((4, 6), 0.1)).dimensionality())
    assert np.isnan(gram(np.zeros((4, 6))).dimensionality())


# Files.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_channels", [10, 300, 6000])
def test_files_and_pickles(tmp_path, dtype, n_channels):
    x = np.resize(hard(dtype), (16, n_channels))
    whole = gram(x)
    whole.save(tmp_path / "it.gram")
    assert [path.name for path in tmp_path.iterdir()] == ["it.gram"]
    loaded = Gram.load(tmp_path / "it.gram")
    for again in (loaded, pickle.loads(pickle.dumps(whole)), pickle.loads(pickle.dumps(loaded))):
        assert again == whole
        np.testing.assert_array_equal(again.products, whole.products)
        for method in METHODS:
            same(again, x, method)
    assert loaded != gram(2 * x) and loaded != 1
    assert repr(loaded) == f"<Gram of 16 conditions × {n_channels} channels>"


def test_files_of_sums_projections_and_labels(tmp_path):
    x = normal((5, 4000), np.float32)
    projected = gram(x, projection=SparseProjection(300))
    summed = gram(x[:, :9], methods=["euclidean"]) + gram(x[:, 9:], methods=["euclidean"])
    pandas = pytest.importorskip("pandas")
    labelled = gram(pandas.DataFrame(x, index=list("abcde")))
    for k, each in enumerate((projected, summed, labelled, gram(normal((2, 3)) * 1e200))):
        each.save(tmp_path / f"{k}")
        assert Gram.load(tmp_path / f"{k}") == each


def test_damaged_files(tmp_path):
    path = tmp_path / "it.gram"
    gram(hard(np.float32)).save(path)
    content = path.read_bytes()
    for damaged in (
        content[:-1],
        content[:100],
        content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        content.replace(b'"n_channels"', b'"m_channels"'),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"it\.gram is damaged"):
            Gram.load(path)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="is not a Gram matrix that fastrdm saved"):
        Gram.load(path)
    with pytest.raises(FileNotFoundError):
        Gram.load(tmp_path / "nowhere")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_projections_within_a_memory_limit(dtype):
    x = normal((40, 9000)).astype(dtype)
    projection = SparseProjection(200)
    with pytest.raises(
        ValueError, match=r"too small for projections of 40 .*is \d+ bytes"
    ) as error:
        gram(x, projection=projection, max_memory="1MB", n_threads=1)
    least = int(str(error.value).split()[-2])
    limited = gram(x, projection=projection, max_memory=least, n_threads=1)
    assert limited == gram(x, projection=projection)
