"""Products of chunks of channels in float32: of 16-bit activations, and on devices without float64."""

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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("argument", ["unknown", "not on this device"])
def test_products_without_out_dtype_are_exact_for_16_bits(dtype, argument, monkeypatch):
    plain = torch.bmm

    def bmm(a, b, **options):
        if options:
            raise TypeError if argument == "unknown" else NotImplementedError
        return plain(a, b)

    monkeypatch.setattr(torch, "bmm", bmm)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 2 * _CHUNK["half"] + 7, generator=generator).to(dtype)
    layer = LayerProducts(5, torch.device("cpu"))
    layer._add_chunks(rows, _CHUNK["half"])
    assert largest_error(layer, rows) < _CHUNK["half"] * 2.0**-24
    np.testing.assert_allclose(layer.sums.numpy(), rows.double().numpy().sum(1), atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_products_in_a_precision_of_16_bits_are_not_rounded_to_it(dtype, monkeypatch):
    """Networks run under autocast, which would round the products too."""
    monkeypatch.setattr(products, "has_double", lambda device: False)
    rows = torch.randn(5, 1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    layer = LayerProducts(5, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        layer.add(rows)
    assert largest_error(layer, rows) <= layer.rounding < 1e-5


def test_memory_for_products_of_chunks_is_bounded(monkeypatch):
    monkeypatch.setattr(products, "has_double", lambda device: False)
    monkeypatch.setattr(products, "_BLOCK", 3 * 5 * 5)
    sizes, single = [], products._single_products

    def recorded(chunks):
        sizes.append(len(chunks))
        return single(chunks)

    monkeypatch.setattr(products, "_single_products", recorded)
    rows = torch.randn(5, 7 * _CHUNK["single"] + 1, generator=torch.Generator().manual_seed(0))
    layer = LayerProducts(5, torch.device("cpu"))
    layer.add(rows)
    assert sorted(sizes) == [1, 1, 3, 3]
    assert largest_error(layer, rows) <= layer.rounding
