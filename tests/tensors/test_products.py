"""Products of 16-bit activations, which only GPUs take without a conversion, and on devices without float64."""

import numpy as np
import pytest
import torch

from fastrdm.tensors import products
from fastrdm.tensors.products import _CHUNK, LayerProducts


def largest_error(layer, rows):
    """Of a product, relative to the lengths of both conditions."""
    exact = rows.double().numpy()
    lengths = np.linalg.norm(exact, axis=1)
    return (np.abs(layer.products.numpy() - exact @ exact.T) / np.outer(lengths, lengths)).max()


def normal_rows(n_channels, dtype):
    """Activations of 5 conditions."""
    return torch.randn(5, n_channels, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.fixture(params=["unknown", "not on this device"])
def without_out_dtype(request, monkeypatch):
    """A product that does not take `out_dtype`."""
    plain = torch.bmm

    def bmm(a, b, **options):
        if options:
            raise TypeError if request.param == "unknown" else NotImplementedError
        return plain(a, b)

    monkeypatch.setattr(torch, "bmm", bmm)


@pytest.mark.usefixtures("without_out_dtype")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_products_without_out_dtype_are_exact_for_16_bits(dtype, autocast):
    """Networks run under autocast, which would round the products too."""
    rows = normal_rows(2 * _CHUNK + 7, dtype)
    layer = LayerProducts(5, torch.device("cpu"))
    with torch.autocast("cpu", dtype, enabled=autocast):
        layer._add_chunks(rows)
    assert largest_error(layer, rows) < 1e-5 < _CHUNK * 2.0**-24
    np.testing.assert_allclose(layer.sums.numpy(), rows.double().numpy().sum(1), atol=1e-2)


@pytest.mark.usefixtures("without_out_dtype")
def test_memory_for_products_of_chunks_is_bounded(monkeypatch):
    monkeypatch.setattr(products, "_BLOCK", 3 * 5 * 5)
    sizes, single = [], products._single_products

    def recorded(chunks):
        sizes.append(len(chunks))
        return single(chunks)

    monkeypatch.setattr(products, "_single_products", recorded)
    rows = normal_rows(7 * _CHUNK + 1, torch.bfloat16)
    layer = LayerProducts(5, torch.device("cpu"))
    layer._add_chunks(rows)
    assert sorted(sizes) == [1, 1, 3, 3]
    assert largest_error(layer, rows) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mean", [0, 100])
def test_devices_without_float64_have_its_digits(dtype, mean, monkeypatch):
    monkeypatch.setattr(products, "has_double", lambda device: False)
    rows = (mean + normal_rows(1000, torch.float32)).to(dtype)
    layer = LayerProducts(5, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        layer.add(rows)
    assert largest_error(layer, rows) <= layer.rounding < 1e-12
