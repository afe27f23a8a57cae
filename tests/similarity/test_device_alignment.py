"""CKA of products on a device: the host's answers, errors and warnings; here the CPU is the device."""

import numpy as np
import pytest

import fastrdm
from fastrdm.similarity import alignment
from tests.shared_array import SharedArray

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("as_device")

RNG = np.random.default_rng(0)
LAYERS = [RNG.random((12, n_channels)) for n_channels in (5, 40, 300)]
PRODUCTS = np.array([3e5 * x @ x.T for x in LAYERS])


@pytest.fixture
def computed(monkeypatch):
    """Whether the device computed each CKA."""
    found, align = [], alignment.align_on_device

    def recorded(*arguments):
        result = align(*arguments)
        found.append(result is not None)
        return result

    monkeypatch.setattr(alignment, "align_on_device", recorded)
    return found


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_answers_of_the_host(debiased, dtype, computed):
    products = PRODUCTS.astype(dtype)
    expected = fastrdm.cka(products, products[:2], debiased)
    tensor = torch.tensor(products)
    for first, second in ((tensor, tensor[:2]), (SharedArray(products), tensor[:2])):
        found = fastrdm.cka(first, second, debiased)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    one = fastrdm.cka(tensor[0], tensor[1], debiased)
    np.testing.assert_allclose(one, expected[:1, 1:], rtol=1e-12)
    np.testing.assert_array_equal(tensor, products)
    assert computed == [False, True, True, True]
    itself = fastrdm.cka(tensor, tensor, debiased, like=tensor)
    np.testing.assert_allclose(itself.diagonal(), 1)


def test_products_of_tensors_stay_on_the_device(computed):
    x, y = (torch.tensor(layer) for layer in LAYERS[:2])
    found = fastrdm.cka(fastrdm.gram(x, like=x), fastrdm.gram(y, like=x))
    expected = fastrdm.cka(fastrdm.gram(LAYERS[0]), fastrdm.gram(LAYERS[1]))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert computed == [True, False]


def test_other_forms_are_compared_on_the_host(computed):
    tensor, gram = torch.tensor(PRODUCTS), fastrdm.gram(LAYERS[0])
    expected = fastrdm.cka(PRODUCTS, gram)
    np.testing.assert_array_equal(fastrdm.cka(tensor, gram), expected)
    np.testing.assert_array_equal(fastrdm.cka(list(tensor), gram), expected)
    rdms = fastrdm.calc_rdm(LAYERS, "euclidean")
    expected = fastrdm.cka(rdms, rdms, distances="euclidean")
    tensor = torch.tensor(rdms)
    np.testing.assert_array_equal(fastrdm.cka(tensor, tensor, distances="euclidean"), expected)
    assert not any(computed)


def test_errors_and_warnings_are_those_of_the_host():
    bad = PRODUCTS.copy()
    bad[1, 2, 3] = bad[1, 3, 2] = np.nan
    lopsided = PRODUCTS[0] + np.arange(12) * 1e5
    rdm = fastrdm.square(fastrdm.calc_rdm(LAYERS[0]))
    for products, message in (
        (bad, r"^grams1\[1\] has 2 values that are not finite; the first is NaN at"),
        (lopsided, "^grams1 with shape .* is not symmetric"),
        (rdm, "^grams1 with shape .* has zeros on its diagonal"),
        (PRODUCTS[0, :5], "expected Gram matrices or square products"),
        (PRODUCTS[0, :5, :5], "^grams1 has 5 conditions and grams2"),
    ):
        with pytest.raises(ValueError, match=message):
            fastrdm.cka(torch.tensor(products), torch.tensor(PRODUCTS[0]))
    with pytest.raises(ValueError, match="debiased CKA needs at least 4 conditions"):
        small = torch.tensor(PRODUCTS[0, :3, :3])
        fastrdm.cka(small, small, debiased=True)
    equal = torch.tensor(np.array([PRODUCTS[0], np.ones((12, 12))]))
    with pytest.warns(RuntimeWarning, match=r"CKA is NaN where conditions do not .*: grams1\[1\]"):
        found = fastrdm.cka(equal, torch.tensor(PRODUCTS))
    assert np.isnan(found[1]).all() and not np.isnan(found[0]).any()
