"""Activations on a device: the answers, errors and warnings of the host; here the CPU is the device."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrdm
from fastrdm.tensors import rows as device_rows
from tests.rdm.test_gram import hard, normal
from tests.shared_array import SharedArray

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("as_device")

METHODS = ("correlation", "cosine", "euclidean", "sqeuclidean")
N = 14


def precise(x, method):
    """The RDM in extended precision."""
    x = np.asarray(x).reshape(len(x), -1).astype(np.longdouble)
    i, j = np.triu_indices(len(x), 1)
    if method in ("euclidean", "sqeuclidean"):
        squares = ((x[i] - x[j]) ** 2).sum(axis=1)
        return np.sqrt(squares) if method == "euclidean" else squares
    if method == "correlation":
        x = np.where((x == x[:, :1]).all(axis=1, keepdims=True), 0, x - x.mean(1, keepdims=True))
    with np.errstate(invalid="ignore"):
        x = x / np.sqrt((x * x).sum(axis=1, keepdims=True))
    return ((x[i] - x[j]) ** 2).sum(axis=1) / 2


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


def near(n_channels):
    """Conditions that differ by a millionth."""
    return (normal((1, n_channels)) + 1e-6 * normal((N, n_channels))).astype(np.float32)


def poor():
    """Conditions of whose mean a sample tells little."""
    return np.concatenate([np.zeros((N, 8)), 1e6 + normal((N, 900))], axis=1).astype(np.float32)


LAYERS = {
    "float32": lambda: normal((N, 700), np.float32),
    "float64": lambda: normal((N, 5, 7)),
    "float16": lambda: normal((N, 300), np.float16),
    "far from 0": lambda: (1e4 + normal((N, 700))).astype(np.float32),
    "one channel": lambda: normal((N, 1), np.float32),
    "near": lambda: near(2000),
    "poor guess": poor,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", LAYERS)
def test_rdms_are_right(layer, method):
    x = LAYERS[layer]()
    expected = quiet(precise, x, method)
    found = quiet(fastrdm.calc_rdm, torch.tensor(x), method)
    if layer == "one channel" and method == "correlation":
        assert np.isnan(found).all()
        return
    size = 1 if method in ("correlation", "cosine") else expected.max()
    assert np.abs(found - expected).max() <= 1e-10 * size
    far = expected > 1e-30
    assert np.abs(found[far] / expected[far] - 1).max(initial=0) <= 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_rdms_without_float64_are_right(method, monkeypatch):
    monkeypatch.setattr(device_rows, "has_double", lambda device: False)
    for layer in ("float32", "float16", "far from 0", "near"):
        x = LAYERS[layer]()
        expected = precise(x, method)
        found = fastrdm.calc_rdm(torch.tensor(x), method)
        size = 1 if method in ("correlation", "cosine") else expected.max()
        assert np.abs(found - expected).max() <= 1e-6 * size


@pytest.mark.parametrize("method", METHODS)
def test_every_difficult_condition(method):
    x = hard(np.float64)
    host = quiet(fastrdm.calc_rdm, x, method)
    found = quiet(fastrdm.calc_rdm, torch.tensor(x), method)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(host))
    np.testing.assert_allclose(found, host, rtol=1e-7, atol=1e-12 * np.nanmax(host))
    np.testing.assert_array_equal(found == 0, host == 0)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_integers_have_the_bits_of_the_host(method, data):
    shape = data.draw(st.tuples(st.integers(2, 20), st.integers(1, 60)))
    most = data.draw(st.sampled_from([1, 2, 9, 1000]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = rng.integers(-most * data.draw(st.booleans()), most + 1, shape)
    x = x.astype(data.draw(st.sampled_from(["float32", "float64", "int32", "float16"])))
    expected = quiet(fastrdm.calc_rdm, x, method)
    found = quiet(fastrdm.calc_rdm, torch.tensor(x), method)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), n_channels=st.integers(2, 90))
def test_equal_conditions_have_equal_dissimilarities(method, seed, n_channels):
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 4, 9)
    x = rng.standard_normal((4, n_channels))[which]
    rdm = fastrdm.square(quiet(fastrdm.calc_rdm, torch.tensor(x), method))
    for i in range(9):
        for j in np.flatnonzero(which == which[i]):
            assert rdm[i, j] == 0
            np.testing.assert_array_equal(rdm[i], rdm[j])


@pytest.mark.parametrize("method", METHODS)
def test_permuted_conditions_and_channels(method):
    x, order = normal((N, 300), np.float32), np.random.default_rng(0).permutation(N)
    rdm = fastrdm.square(fastrdm.calc_rdm(torch.tensor(x), method))
    permuted = fastrdm.square(fastrdm.calc_rdm(torch.tensor(x[order]), method))
    np.testing.assert_allclose(permuted, rdm[np.ix_(order, order)], rtol=1e-12, atol=1e-13)


def test_tensors_in_any_order_of_memory():
    x = normal((6, 4, 5, 3), np.float32)
    expected = fastrdm.calc_rdm(torch.tensor(x))
    tensor = torch.tensor(x).to(memory_format=torch.channels_last)
    np.testing.assert_allclose(fastrdm.calc_rdm(tensor), expected, atol=1e-13)
    rows = device_rows.DeviceRows(tensor, "x")
    assert rows._rows.data_ptr() == tensor.data_ptr() and rows.shape == (6, 60)
    strided = torch.tensor(np.repeat(x, 2, axis=3))[..., ::2]
    np.testing.assert_allclose(fastrdm.calc_rdm(strided), expected, atol=1e-13)
    rows = torch.tensor(x.reshape(6, -1).T.copy()).T
    np.testing.assert_allclose(fastrdm.calc_rdm(rows), expected, atol=1e-13)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float8_e5m2"])
def test_types_of_tensors(dtype):
    values = torch.tensor(normal((7, 40))) * 3
    tensor = values > 0 if dtype == "bool" else values.to(getattr(torch, dtype))
    expected = quiet(fastrdm.calc_rdm, tensor.double().numpy())
    np.testing.assert_allclose(fastrdm.calc_rdm(tensor), expected, atol=1e-13)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_unsigned_integers(dtype, monkeypatch):
    """Some versions of torch cannot index them."""
    converted, blocks = [], device_rows.DeviceRows._blocks
    monkeypatch.setattr(
        device_rows.DeviceRows,
        "_blocks",
        lambda rows, size: converted.append(rows._rows.dtype) or blocks(rows, size),
    )
    x = np.random.default_rng(0).integers(0, 60_000, (7, 2000)).astype(dtype)
    found = fastrdm.calc_rdm(torch.tensor(x), "euclidean")
    np.testing.assert_allclose(found, precise(x, "euclidean").astype(float), rtol=1e-12)
    assert set(converted) == {torch.float64}


def test_stacks_of_host_and_device():
    x = normal((6, 50), np.float32)
    device, host = torch.tensor(x), x[:, :20]
    stack = fastrdm.calc_rdm([device, host], "cosine")
    np.testing.assert_array_equal(stack[0], fastrdm.calc_rdm(device, "cosine"))
    np.testing.assert_array_equal(stack[1], fastrdm.calc_rdm(host, "cosine"))
    named = fastrdm.calc_rdm({"a": device, "b": SharedArray(x)}, out=np.empty((2, 15)))
    np.testing.assert_array_equal(named["a"], named["b"])
    grams = fastrdm.gram({"a": device, "b": host})
    assert [gram.n_channels for gram in grams.values()] == [50, 20]


def test_tensors_in_a_surrounding_autocast():
    tensor = torch.tensor(normal((6, 900), np.float32))
    expected = fastrdm.calc_rdm(tensor)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(fastrdm.calc_rdm(tensor), expected)
    tensor.requires_grad_()
    np.testing.assert_array_equal(fastrdm.calc_rdm(tensor), expected)
    assert tensor.grad is None


@pytest.mark.parametrize("method", METHODS)
def test_grams_have_the_rdms_of_calc_rdm(method):
    for x in (hard(np.float64), normal((9, 5)), np.eye(6)):
        gram = fastrdm.gram(torch.tensor(x))
        expected = quiet(fastrdm.calc_rdm, torch.tensor(x), method)
        np.testing.assert_array_equal(quiet(gram.rdm, method), expected)


@pytest.mark.parametrize("shape", [(9, 300), (9, 5)])
def test_products_of_grams(shape, tmp_path):
    x = 3 + normal(shape, np.float32)
    gram, host = fastrdm.gram(torch.tensor(x)), fastrdm.gram(x.astype(np.float64))
    np.testing.assert_allclose(gram.products, host.products, rtol=1e-12)
    assert gram.methods == host.methods and gram.error_bound < 1e-11
    assert (gram.features is None) == (host.features is None)
    if gram.features is not None:
        np.testing.assert_array_equal(gram.features, x)
    gram.save(tmp_path / "a.gram")
    assert fastrdm.Gram.load(tmp_path / "a.gram") == gram
    np.testing.assert_allclose(fastrdm.cka(gram, host), [[1]])
    total = gram + fastrdm.gram(torch.tensor(x[:, ::-1].copy()))
    np.testing.assert_allclose(total.products, 2 * host.products, rtol=1e-12)


def test_accumulators_take_blocks_on_a_device():
    x = normal((8, 90), np.float32)
    total, rdm = fastrdm.GramAccumulator(8), fastrdm.RdmAccumulator(8)
    for start in range(0, 90, 40):
        block = x[:, start : start + 40]
        total.update(torch.tensor(block))
        rdm.update(block if start else torch.tensor(block))
    np.testing.assert_allclose(total.gram().products, x.astype(float) @ x.T.astype(float))
    np.testing.assert_allclose(rdm.rdm(), precise(x, "correlation").astype(float), atol=1e-13)
    with pytest.raises(ValueError, match=r"activations have shape \(7, 90\); expected 8"):
        total.update(torch.tensor(x[:7]))


def test_blocks_of_channels_change_nothing(monkeypatch):
    x = normal((N, 999), np.float32)
    x[3] = x[4]
    expected = fastrdm.calc_rdm(torch.tensor(x), "euclidean")
    monkeypatch.setattr(device_rows, "_BLOCK", 64 * (N + 1))
    monkeypatch.setattr(device_rows, "_PAIRS", 2)
    found = fastrdm.calc_rdm(torch.tensor(x), "euclidean")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    least = 3 * 8 * (N + 1) ** 2 + 8 * (N + 1) * 256
    limited = fastrdm.calc_rdm(torch.tensor(x), "euclidean", max_memory=least)
    np.testing.assert_allclose(limited, expected, rtol=1e-12)
    message = (
        rf"^max_memory of {least - 1} bytes is too small for 14 conditions × 999 channels on cpu;"
        rf" the minimum is {least} bytes$"
    )
    with pytest.raises(ValueError, match=message):
        fastrdm.gram(torch.tensor(x), max_memory=least - 1)


@pytest.mark.parametrize("method", ["spearman", "mahalanobis", "crossnobis"])
def test_methods_for_the_host_are_refused(method):
    x = normal((6, 8), np.float32)
    options = {"mahalanobis": {"precision": np.eye(8)}, "crossnobis": {"folds": [0, 0, 0, 1, 1, 1]}}
    message = rf"^method '{method}' is not computed on a device, and activations is on cpu; pass"
    with pytest.raises(ValueError, match=rf"{message} activations\.cpu\(\)$"):
        fastrdm.calc_rdm(torch.tensor(x), method, **options.get(method, {}))
    with pytest.raises(ValueError, match=r"activations\['b'\] is on cpu; copy activations\['b'\]"):
        fastrdm.calc_rdm({"a": x, "b": SharedArray(x)}, method, **options.get(method, {}))


def test_projections_are_refused():
    x = torch.tensor(normal((6, 80), np.float32))
    with pytest.raises(ValueError, match=r"^a projection is not computed on a device, and act"):
        fastrdm.gram(x, projection=fastrdm.SparseProjection(16))


def test_errors_are_those_of_the_host():
    x = normal((5, 3, 4), np.float32)
    for change in ([1], [1, 2]):
        bad = x.copy()
        for i in change:
            bad[i, 2, 1] = np.nan if i == 1 else np.inf
        with pytest.raises(ValueError) as host:
            fastrdm.calc_rdm(bad)
        for tensor in (
            torch.tensor(bad),
            torch.tensor(bad).permute(0, 2, 1).contiguous().mT,
            torch.tensor(bad).half(),
        ):
            with pytest.raises(ValueError) as device:
                fastrdm.calc_rdm({"fc": tensor})
            assert str(device.value) == str(host.value).replace(
                "activations", "activations['fc']", 1
            )
    for shape in ((5,), (1, 4), (5, 0)):
        with pytest.raises(ValueError, match=r"activations have shape .*; expected \(conditions"):
            fastrdm.calc_rdm(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"activations\['b'\] has 4 conditions and"):
        fastrdm.calc_rdm({"a": x, "b": torch.tensor(x[:4])})


def test_squares_out_of_range_are_refused():
    x = normal((5, 30))
    for factor in (1e200, 1e-200):
        message = r"^activations has squares beyond the numbers of cpu; pass activations\.cpu\(\)$"
        with pytest.raises(ValueError, match=message):
            fastrdm.calc_rdm(torch.tensor(x * factor))


def test_constant_conditions_warn_as_on_the_host():
    x = normal((6, 30), np.float32)
    x[2], x[4] = 0.1, 0
    for method, constant in (("correlation", "2, 4"), ("cosine", "4")):
        with pytest.warns(fastrdm.rdm.UndefinedPairsWarning, match=f"NaN: {constant}$") as caught:
            found = fastrdm.calc_rdm(torch.tensor(x), method)
        assert caught[0].filename == __file__
        host = quiet(fastrdm.calc_rdm, x, method)
        np.testing.assert_allclose(found, host, atol=1e-6)


def test_a_device_without_enough_memory(monkeypatch):
    def fail(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(device_rows.DeviceRows, "_doubles", fail)
    message = (
        r"^cpu has too little memory for the products of activations, 5 conditions × 30 channels;"
        r" pass max_memory$"
    )
    with pytest.raises(MemoryError, match=message):
        fastrdm.calc_rdm(torch.tensor(normal((5, 30))))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA or ROCm")
def test_a_gpu():
    x = normal((118, 5000), np.float32)
    x[3] = x[77]
    order = np.random.default_rng(0).permutation(118)
    for method in METHODS:
        rdm = fastrdm.calc_rdm(torch.tensor(x, device="cuda"), method)
        expected = fastrdm.calc_rdm(x.astype(np.float64), method)
        np.testing.assert_allclose(rdm, expected, rtol=1e-9, atol=1e-12)
        permuted = fastrdm.calc_rdm(torch.tensor(x[order], device="cuda"), method)
        squares = fastrdm.square(rdm)[np.ix_(order, order)]
        np.testing.assert_array_equal(fastrdm.square(permuted), squares)
