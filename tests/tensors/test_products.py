"""Products of 16-bit activations, which only GPUs take without a conversion."""

import numpy as np
import pytest
import torch

from fastrdm.tensors.products import _CHUNK, LayerProducts


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
    exact = rows.double().numpy()
    lengths = np.linalg.norm(exact, axis=1)
    error = np.abs(layer.products.numpy() - exact @ exact.T) / np.outer(lengths, lengths)
    assert error.max() < _CHUNK["half"] * 2.0**-24
    np.testing.assert_allclose(layer.sums.numpy(), exact.sum(1), atol=1e-2)
