"""Gram matrices of networks' layers, on the host and where the network runs."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from fastrdm import (
    GramAccumulator,
    OnnxModel,
    Preprocessing,
    TorchModel,
    calc_rdm,
    export_onnx,
    gram,
)
from fastrdm.rdm import SparseProjection, UndefinedPairsWarning

METHODS = ("correlation", "cosine", "euclidean", "sqeuclidean")
PREPARED = Preprocessing((9, 9), "pil-bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
PICTURES = list(np.random.default_rng(0).integers(0, 256, (7, 20, 15, 3), dtype=np.uint8))
# The same picture, and one that is almost the same.
PICTURES += [PICTURES[0], PICTURES[1] // 2 * 2]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(392, 5)).eval()


TAPS = {"conv": "0", "relu": "1", "fc": "3"}


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
    file = tmp_path_factory.mktemp("network") / "network.onnx"
    return export_onnx(network, file, TAPS, preprocessing=PREPARED)


@pytest.fixture(scope="module", params=["onnx", "torch"])
def model(request, path, network):
    if request.param == "onnx":
        return OnnxModel(path, "cpu", batch_size=4, n_threads=1)
    return TorchModel(network, TAPS, preprocessing=PREPARED, batch_size=4)


def test_grams_are_those_of_the_activations(model):
    activations, grams = model.activations(PICTURES), model.grams(PICTURES)
    assert list(grams) == ["conv", "relu", "fc"]
    for layer, found in grams.items():
        assert found == gram(activations[layer])
        assert (found.features is None) == (layer != "fc")
    for method in METHODS:
        rdms = model.rdms(PICTURES, method, ["fc", "conv"])
        assert list(rdms) == ["fc", "conv"]
        for layer, rdm in rdms.items():
            np.testing.assert_array_equal(grams[layer].rdm(method), rdm)
            np.testing.assert_array_equal(calc_rdm(activations[layer], method), rdm)


def test_arguments_of_grams(model):
    only = model.grams(PICTURES, ["fc"], methods=["pearson"])
    assert list(only) == ["fc"] and only["fc"].methods == ("correlation",)
    with pytest.raises(ValueError, match="has no layer 'fd'"):
        model.grams(PICTURES, ["fd"])
    with pytest.raises(ValueError, match="'spearman' .*use calc_rdm"):
        model.grams(PICTURES, methods=["spearman"])
    with pytest.raises(ValueError, match="where 'here' is not one of: auto, host, device"):
        model.grams(PICTURES, where="here")
    with pytest.raises(ValueError, match="a projection is computed on the host"):
        model.grams(PICTURES, where="device", projection=SparseProjection(4))


def test_grams_within_a_memory_limit(path):
    model = OnnxModel(path, "cpu", batch_size=4, n_threads=1)
    whole, parts = model.grams(PICTURES), model.grams(PICTURES, max_memory=40_000)
    activations = model.activations(PICTURES)
    for layer, found in parts.items():
        np.testing.assert_allclose(found.products, whole[layer].products, rtol=1e-6, atol=1e-5)
        for method in METHODS:
            np.testing.assert_allclose(
                found.rdm(method), whole[layer].rdm(method), rtol=1e-6, atol=1e-6
            )
        total = GramAccumulator(len(PICTURES))
        total.update(activations[layer])
        assert found.n_channels == total.n_channels
    with pytest.raises(ValueError, match=r"max_memory of 700 bytes .*; \d+ bytes suffice"):
        model.grams(PICTURES, max_memory=700)


def test_projected_grams(model):
    projection = SparseProjection(100)
    grams, activations = model.grams(PICTURES, projection=projection), model.activations(PICTURES)
    expected = {x: values.reshape(len(values), -1) for x, values in activations.items()}
    assert grams == gram(expected, projection=projection)
    for method in METHODS:
        for layer, rdm in model.rdms(PICTURES, method, projection=projection).items():
            np.testing.assert_array_equal(grams[layer].rdm(method), rdm)


def test_what_is_not_finite_is_named(network, path):
    broken = nn.Sequential(*network)
    broken[3] = nn.Linear(392, 5)
    broken[3].weight.data[:] = torch.inf
    model = TorchModel(broken, TAPS, preprocessing=PREPARED)
    names = [f"face {k}" for k in range(len(PICTURES))]
    for where in ("host", "device"):
        with pytest.raises(ValueError, match=r"layer 'fc' has NaN.*, first for face 0"):
            model.grams(PICTURES, names=names, where=where)


def test_constant_conditions_warn_when_they_are_compared(model):
    black = [*PICTURES, np.zeros((20, 15, 3), np.uint8)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grams = model.grams(black)
    layer = np.full((3, 4), 2.0)
    assert grams["conv"].n_conditions == 10
    with pytest.warns(UndefinedPairsWarning):
        gram(layer).rdm()


@pytest.mark.parametrize("max_memory", [None, 300_000])
def test_grams_of_a_device_are_those_of_the_host(path, max_memory):
    model = OnnxModel(path, "cpu", n_threads=1)
    host = model.grams(PICTURES)
    device = model.grams(PICTURES, where="device", max_memory=max_memory)
    for layer, found in device.items():
        close(found, host[layer])
    other = model.grams(PICTURES, where="device", methods=["correlation"])
    for layer, rdm in model.rdms(PICTURES, where="device").items():
        np.testing.assert_array_equal(other[layer].rdm(), rdm)


def test_grams_of_a_torch_device_are_those_of_the_host(network):
    model = TorchModel(network, TAPS, preprocessing=PREPARED)
    host, device = model.grams(PICTURES), model.grams(PICTURES, where="device")
    for layer, found in device.items():
        close(found, host[layer])
        for method in METHODS:
            rdm = model.rdms(PICTURES, method, where="device")[layer]
            np.testing.assert_array_equal(found.rdm(method), rdm)


def close(found, expected):
    sizes = np.sqrt(np.outer(*2 * [expected.products.diagonal()]))
    assert np.all(np.abs(found.products - expected.products) <= 1e-6 * sizes)
    assert found.n_channels == expected.n_channels
    assert found.dimensionality() == pytest.approx(expected.dimensionality(), rel=1e-5)
    for method in METHODS:
        rdm = expected.rdm(method)
        size = rdm.max() if method in METHODS[2:] else 1
        np.testing.assert_allclose(found.rdm(method), rdm, rtol=0, atol=1e-5 * size)
