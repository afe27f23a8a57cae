"""Arrays of torch and of libraries with DLPack: read without a copy, found on devices, and results of their kind."""

import numpy as np
import pytest

import fastrdm
from fastrdm._base import as_array
from fastrdm.tensors import arrays, check_like, device_tensor, in_kind
from tests.shared_array import SharedArray

torch = pytest.importorskip("torch")

X = np.random.default_rng(0).random((6, 20)).astype(np.float32)
CUDA, METAL = (2, 0), (8, 0)


def test_host_arrays_of_other_libraries_are_not_copied():
    shared = SharedArray(X.copy())
    array = as_array(shared, "x")
    shared.array[1, 2] = 7
    assert array[1, 2] == 7
    assert device_tensor(shared, "x") is None


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32, np.uint8])
def test_other_libraries_have_the_results_of_their_values(dtype):
    x = (X * 50).astype(dtype)
    for method in ("correlation", "spearman"):
        expected = fastrdm.calc_rdm(x, method)
        np.testing.assert_array_equal(fastrdm.calc_rdm(SharedArray(x), method), expected)
        stack = fastrdm.calc_rdm([SharedArray(x), x], method)
        np.testing.assert_array_equal(stack, [expected, expected])


def test_arrays_without_a_known_number_of_axes():
    shared = SharedArray(X)
    del shared.ndim, shared.shape
    np.testing.assert_array_equal(fastrdm.calc_rdm([shared, shared])[1], fastrdm.calc_rdm(X))


def test_rdms_of_other_libraries():
    rdms = fastrdm.calc_rdm([X, X[:, :9]])
    shared = SharedArray(rdms)
    np.testing.assert_array_equal(fastrdm.compare(shared, shared), fastrdm.compare(rdms, rdms))
    target = fastrdm.Target(rdms, ceiling=1)
    np.testing.assert_array_equal(target.score(shared).rho, target.score(rdms).rho)
    products = X @ X.T
    np.testing.assert_array_equal(
        fastrdm.cka(SharedArray(products), products), fastrdm.cka(products, products)
    )


def test_a_type_that_numpy_lacks_is_read_by_torch():
    values = torch.tensor(X).bfloat16()

    class Shared:
        ndim, shape = 2, X.shape

        def __dlpack__(self, **options):
            return values.__dlpack__(**options)

        def __dlpack_device__(self):
            return 1, 0

    np.testing.assert_array_equal(
        as_array(Shared(), "x").astype(np.float32), values.float().numpy()
    )


def test_an_array_on_a_device_that_torch_lacks_is_refused():
    message = r"^activations is an array of tests on a device that torch cannot read \(.*\); copy"
    with pytest.raises(ValueError, match=message):
        fastrdm.calc_rdm(SharedArray(X, CUDA))
    with pytest.raises(ValueError, match=r"^rdms1 is an array of tests on a device that torch"):
        fastrdm.compare(SharedArray(X[:, :15], CUDA), X[:, :15])
    with pytest.raises(ValueError, match=r"^rdms is an array of tests that cannot be read: "):
        fastrdm.rank(SharedArray(X[:, :15], METAL))


def test_a_library_that_copies_from_its_device_by_itself():
    class Copied(SharedArray):
        def __array__(self, dtype=None, copy=None):
            return self.array

    np.testing.assert_array_equal(as_array(Copied(X, CUDA), "x"), X)


@pytest.mark.usefixtures("as_device")
def test_arrays_on_a_device_share_their_memory():
    x = X.copy()
    for values in (torch.tensor(x, requires_grad=True), SharedArray(x)):
        tensor = device_tensor(values, "x")
        assert isinstance(tensor, torch.Tensor) and not tensor.requires_grad
    tensor[0, 0] = 5
    assert x[0, 0] == 5
    assert device_tensor(x, "x") is None and device_tensor([1.0], "x") is None
    for refused in (torch.tensor(x).to_sparse(), torch.tensor(x) + 1j, torch.tensor(x).to("meta")):
        assert device_tensor(refused, "x") is None


def test_results_in_kind():
    rdm = fastrdm.calc_rdm(X)
    assert in_kind(rdm, None) is rdm and in_kind(rdm, X) is rdm
    tensor = fastrdm.calc_rdm(X, like=torch.zeros(1))
    assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64
    np.testing.assert_array_equal(tensor.numpy(), rdm)
    shared = fastrdm.calc_rdm(X, like=SharedArray(X))
    assert type(shared) is SharedArray
    np.testing.assert_array_equal(shared.array, rdm)
    named = fastrdm.calc_rdm({"a": X}, like=tensor)
    assert isinstance(named["a"], torch.Tensor) and named["a"].shape == rdm.shape
    assert fastrdm.calc_rdm([X, X], like=tensor).shape == (2, 15)
    on_meta = fastrdm.calc_rdm(X, like=torch.zeros(1, device="meta"))
    assert on_meta.device.type == "meta" and on_meta.shape == rdm.shape


def test_devices_without_float64_have_results_in_float32(monkeypatch):
    monkeypatch.setattr(arrays, "has_double", lambda device: False)
    assert fastrdm.calc_rdm(X, like=torch.zeros(1)).dtype == torch.float32


GRAMS = fastrdm.gram([X, X[:, :9]])
RDMS = fastrdm.calc_rdm([X, X[:, :9]])
IN_KIND = {
    "calc_rdm": lambda **o: fastrdm.calc_rdm(X, **o),
    "gram": lambda **o: fastrdm.gram(X, **o) if o else fastrdm.gram(X).products,
    "Gram.rdm": lambda **o: GRAMS[0].rdm("cosine", **o),
    "compare": lambda **o: fastrdm.compare(RDMS, RDMS, **o),
    "cka": lambda **o: fastrdm.cka(GRAMS, GRAMS, **o),
    "procrustes": lambda **o: fastrdm.procrustes(GRAMS, GRAMS, **o),
    "angular_distance": lambda **o: fastrdm.angular_distance(GRAMS, GRAMS, **o),
    "bures_similarity": lambda **o: fastrdm.bures_similarity(GRAMS, GRAMS, **o),
    "cca": lambda **o: fastrdm.cca(GRAMS, GRAMS, **o),
    "Target.score": lambda **o: fastrdm.Target(RDMS, ceiling=1).score(RDMS, **o).rho,
}


@pytest.mark.parametrize("way", IN_KIND)
def test_every_function_takes_like(way):
    call = IN_KIND[way]
    expected = call()
    assert type(expected) is np.ndarray
    found = call(like=torch.zeros(1))
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), expected)
    with pytest.raises(ValueError, match=r"^like must be an array of NumPy, torch or .*, not str$"):
        call(like="torch")


def test_scores_over_time_in_kind():
    rdms = np.random.default_rng(1).random((3, 4, 15))
    target = fastrdm.Target(rdms)
    plain = target.score(RDMS, over_time="each")
    score = target.score(RDMS, over_time="each", like=torch.zeros(1))
    for name in ("rho", "r2", "percent_nc", "times", "lower"):
        values = getattr(score, name)
        assert isinstance(values, torch.Tensor)
        np.testing.assert_array_equal(values.numpy(), getattr(plain, name))
    assert str(score) == str(plain) and score.best() == plain.best()


def test_out_and_like_exclude_each_other():
    with pytest.raises(ValueError, match="out and like were both given; pass only one of them"):
        fastrdm.calc_rdm(X, out=np.empty(15), like=X)


def test_products_in_kind():
    stack = fastrdm.gram([X, X[:, :4]], like=torch.zeros(1))
    named = fastrdm.gram({"a": X}, like=SharedArray(X))
    assert [type(each) for each in stack] == [torch.Tensor] * 2
    np.testing.assert_array_equal(named["a"].array, fastrdm.gram(X).products)
    projected = fastrdm.gram(X, projection=fastrdm.SparseProjection(8), like=stack[0])
    expected = fastrdm.gram(X, projection=fastrdm.SparseProjection(8)).products
    np.testing.assert_array_equal(projected.numpy(), expected)
    with pytest.raises(ValueError, match="methods and like were both given; products are the same"):
        fastrdm.gram(X, methods=["cosine"], like=X)


def test_a_library_that_cannot_take_results():
    class Library:
        @staticmethod
        def from_dlpack(array):
            raise BufferError("no float64")

    class Shared(SharedArray):
        def __array_namespace__(self, api_version=None):
            return Library

    message = r"^results cannot be arrays of tests, as asked for by like: no float64$"
    with pytest.raises(ValueError, match=message):
        fastrdm.calc_rdm(X, like=Shared(X))


def test_results_for_a_device_that_torch_cannot_use():
    message = (
        r"^results cannot be arrays of tests, as asked for by like: torch has no name for .* 99 "
    )
    with pytest.raises(ValueError, match=message):
        fastrdm.calc_rdm(X, like=SharedArray(X, (99, 0)))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"^results cannot be arrays of tests, as asked for"):
            fastrdm.calc_rdm(X, like=SharedArray(X, CUDA))


def test_check_like():
    check_like(None)
    with pytest.raises(ValueError, match="like must be an array, not the class Tensor"):
        check_like(torch.Tensor)
    with pytest.raises(ValueError, match="not list"):
        check_like([1.0])
