"""Torch modules that run where they are, held against the same networks in ONNX Runtime and in plain torch."""

import copy
import inspect
import weakref

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from small_torch import (
    IMAGES,
    METHODS,
    PREPARED,
    SIZE,
    model_of,
    product_sizes,
    randomised,
    small,
    worst,
)
from torch import nn

from fastrdm import OnnxModel, TorchModel, calc_rdm, export_onnx
from fastrdm.networks import InconsistentError
from fastrdm.rdm import SparseProjection, UndefinedPairsWarning
from fastrdm.tensors import products as torch_products
from models.networks import build

# Arguments of one of the two models that have no meaning for the other one.
OF_ONNX = {"path", "provider", "provider_options", "probes"}
OF_TORCH = {"module", "device", "channels_last", "compile", "cuda_graph"}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A residual network and a transformer, each as a module and in ONNX Runtime."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=SIZE, depth=2, num_classes=5)
    modules = {
        "resnet20": (randomised(build("resnet20", 10)), None),
        "vit": (vit, ["blocks.*@cls", "tokens=norm@mean"]),
    }
    pairs = {}
    for name, (module, taps) in modules.items():
        file = export_onnx(module, folder / f"{name}.onnx", taps, preprocessing=PREPARED)
        pairs[name] = TorchModel(module, taps, preprocessing=PREPARED), OnnxModel(file, "cpu")
    return pairs


@pytest.mark.parametrize("name", ["resnet20", "vit"])
def test_both_models_have_one_interface(networks, name):
    parameters = [set(inspect.signature(each).parameters) for each in (OnnxModel, TorchModel)]
    assert parameters[0] - OF_ONNX == parameters[1] - OF_TORCH
    for method in ("activations", "rdms", "grams", "run"):
        assert getattr(OnnxModel, method) is getattr(TorchModel, method)
    ours, onnx = networks[name]
    for each in ("layers", "shapes", "preprocessing", "batch_size", "precision", "taken"):
        assert getattr(ours, each) == getattr(onnx, each), each
    assert (ours.provider, ours.architecture) == ("torch:cpu", onnx.architecture)
    assert repr(ours) == repr(onnx).replace("Onnx", "Torch").replace("cpu", "torch:cpu")


@pytest.mark.parametrize("name", ["resnet20", "vit"])
def test_layers_activations_and_rdms_are_those_of_the_exported_network(networks, name):
    ours, onnx = networks[name]
    assert (ours.layers, ours.shapes) == (onnx.layers, onnx.shapes)
    activations = onnx.activations(IMAGES)
    for layer, values in ours.activations(IMAGES).items():
        np.testing.assert_allclose(values, activations[layer], rtol=1e-4, atol=1e-4)
    for method in METHODS:
        expected, sizes = onnx.rdms(IMAGES, method), product_sizes(activations, method)
        for where in ("host", "device"):
            assert worst(ours.rdms(IMAGES, method, where=where), expected, sizes) < 1e-5


def test_methods_of_the_host_and_projections_agree_with_the_exported_network(networks):
    ours, onnx = networks["resnet20"]
    # Rounding exchanges the ranks of nearly equal activations.
    assert worst(ours.rdms(IMAGES, "spearman"), onnx.rdms(IMAGES, "spearman")) < 1e-4
    projection = SparseProjection(500, seed=1)
    layers = ["stem", "fc"]
    expected = onnx.rdms(IMAGES, layers=layers, projection=projection)
    assert worst(ours.rdms(IMAGES, layers=layers, projection=projection), expected) < 1e-5


def test_images_may_be_files_arrays_or_pictures_of_pillow(tmp_path):
    model, files = model_of(small()), []
    for i, image in enumerate(IMAGES):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(files[-1])
    expected = model.rdms(IMAGES)
    assert worst(model.rdms(files), expected) == 0
    assert worst(model.rdms([Image.open(file) for file in files]), expected) == 0


def test_an_operation_in_place_after_a_layer_shows_in_it():
    module = small()
    layers = model_of(module).activations(IMAGES)
    assert (layers["1"] >= 0).all()
    assert (layers["0"] < 0).any()


def test_passes_within_a_memory_limit_give_the_same_rdms():
    model = model_of(small(), batch_size=4)
    whole = model.rdms(IMAGES, where="device")
    for where in ("host", "device"):
        assert worst(model.rdms(IMAGES, where=where, max_memory="120kB"), whole) < 1e-6
    with pytest.raises(
        ValueError, match=r"max_memory of 1000 bytes is too small .*; \d+ bytes suffice"
    ):
        model.rdms(IMAGES, max_memory=1000)


def test_passes_free_the_rows_of_a_layer_once_they_are_multiplied(monkeypatch):
    rows_of, alive = [], []
    plain = torch_products.LayerProducts.add

    def add(self, rows):
        alive.append(sum(each() is not None for each in rows_of))
        rows_of.append(weakref.ref(rows if rows._base is None else rows._base))
        plain(self, rows)

    monkeypatch.setattr(torch_products.LayerProducts, "add", add)
    model = model_of(small(), batch_size=4)
    model.rdms(IMAGES, where="device", max_memory="120kB")
    assert len(alive) > len(model.layers) and not any(alive)


@pytest.mark.parametrize("doubles", [True, False])
def test_products_are_those_of_the_activations(monkeypatch, doubles):
    monkeypatch.setattr(torch_products, "has_double", lambda device: doubles)
    rows = torch.randn(7, 1000, generator=torch.Generator().manual_seed(0)).relu()
    products = torch_products.LayerProducts(7, torch.device("cpu"))
    products.add(rows[:, :333])
    products.add(rows[:, 333:])
    values = torch_products.split(products.flat().numpy(), 7)
    exact = rows.numpy().astype(np.float64)
    np.testing.assert_allclose(values.products, exact @ exact.T, rtol=1e-12)
    np.testing.assert_allclose(values.sums, exact.sum(1), rtol=1e-12)
    np.testing.assert_array_equal(values.low, exact.min(1))
    np.testing.assert_array_equal(values.high, exact.max(1))


def test_copies_and_constant_conditions_are_treated_as_by_calc_rdm():
    pixels = PREPARED.pixels(IMAGES)
    pixels[5] = pixels[1]
    model = model_of(small(), taps=["0"])
    rdm = model.start(model.show(pixels)).rdms()["0"]
    activations = model.activations(list(pixels))["0"]
    np.testing.assert_allclose(rdm, calc_rdm(activations), atol=1e-6)
    first, second = np.triu_indices(9, 1)
    assert list(zip(first[rdm == 0], second[rdm == 0], strict=True)) == [(1, 5)]
    dead = small()
    nn.init.zeros_(dead[3].weight)
    nn.init.ones_(dead[3].bias)
    with pytest.warns(UndefinedPairsWarning, match="layer '3': conditions constant over channels"):
        rdms = model_of(dead).rdms(IMAGES, where="device")
    assert np.isnan(rdms["3"]).all()


def test_loading_weights_replaces_those_of_a_copy():
    module, other = small(), small()
    with torch.no_grad():
        other[0].weight.mul_(-1)
    before = copy.deepcopy(module.state_dict())
    model, expected = model_of(module), model_of(other).rdms(IMAGES, where="device")
    first = model.rdms(IMAGES, where="device")
    folded = model.fold({x: v.numpy() for x, v in other.state_dict().items()} | {"epoch": 3})
    model.load(folded)
    assert worst(model.rdms(IMAGES, where="device"), expected) == 0
    model.load(before)
    assert worst(model.rdms(IMAGES, where="device"), first) == 0
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(ValueError, match="the weights for Sequential lack 0.weight"):
        model.load({x: v for x, v in before.items() if x != "0.weight"})
    with pytest.raises(ValueError, match=r"'0.bias' has shape \(2,\), but Sequential needs \(6,\)"):
        model.load(before | {"0.bias": torch.zeros(2)})
    with pytest.raises(ValueError, match="folded for another network"):
        model.load(
            model_of(nn.Sequential(nn.Conv2d(3, 2, 3)), ["0"]).fold(
                nn.Sequential(nn.Conv2d(3, 2, 3)).state_dict()
            )
        )


def test_a_module_is_left_as_it_was_and_read_anew_by_each_call():
    module = small().train()
    module[3].eval()
    before = copy.deepcopy(module.state_dict())
    torch.manual_seed(5)
    model = model_of(module)
    first = model.rdms(IMAGES)
    assert torch.equal(torch.rand(3), torch.manual_seed(5) and torch.rand(3))
    assert [part.training for part in module] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())
    with torch.no_grad():
        module[0].weight.mul_(-1)
    assert worst(model.rdms(IMAGES), first) > 0


@pytest.mark.parametrize("options", [{"channels_last": True}, {"precision": "bf16"}])
def test_options_change_no_more_than_rounding(options):
    plain = model_of(small()).rdms(IMAGES, where="device")
    other = model_of(small(), **options)
    assert worst(other.rdms(IMAGES, where="device"), plain) < (
        0.02 if "precision" in options else 1e-6
    )
    assert other.activations(IMAGES)["0"].dtype == np.float32


def test_an_outer_autocast_does_not_change_numbers():
    model = model_of(small())
    plain = model.rdms(IMAGES, where="device")
    with torch.autocast("cpu", torch.bfloat16):
        assert worst(model.rdms(IMAGES, where="device"), plain) == 0


def test_wrapped_modules_have_the_layers_of_the_network_inside():
    for wrapped in (nn.DataParallel(small()), torch.compile(small())):
        assert model_of(wrapped).layers == ("0", "1", "3")


class Counting(nn.Module):
    """Counts its runs in a buffer."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 2, 3)
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, images):
        self.runs += 1
        return self.inner(images)


def test_what_cannot_be_scored_is_refused_in_one_sentence():
    module = Counting()
    with pytest.raises(
        ValueError, match=r"Counting changes its buffers in evaluation mode \(runs\)"
    ):
        model_of(module, ["inner"])
    assert module.runs == 0
    with pytest.raises(TypeError, match=r"must be a torch.nn.Module, not dict"):
        model_of({})
    with pytest.raises(ValueError, match="device 'cuda:99' is not available"):
        model_of(small(), device="cuda:99")
    with pytest.raises(ValueError, match="device 'gpu' is not available"):
        model_of(small(), device="gpu")
    with pytest.raises(ValueError, match="precision 'tf32' needs a CUDA device, not cpu"):
        model_of(small(), precision="tf32")
    with pytest.raises(ValueError, match="cuda_graph=True needs a CUDA device, not cpu"):
        model_of(small(), cuda_graph=True)
    split = small()
    split[3].to("meta")
    with pytest.raises(ValueError, match="Sequential has weights on the meta device"):
        model_of(split)
    unused = small()
    unused.spare = nn.Identity()
    with pytest.raises(ValueError, match="has no module 'nowhere'"):
        model_of(unused, ["nowhere"])
    with pytest.raises(ValueError, match="has no layer '5'; nearest"):
        model_of(small()).rdms(IMAGES, layers=["5"])
    with pytest.raises(
        ValueError,
        match="method 'spearman' ranks all channels of a condition and is unavailable on devices",
    ):
        model_of(small()).rdms(IMAGES, "spearman", where="device")
    with pytest.raises(
        ValueError,
        match="method 'spearman' ranks all channels of a condition and is unavailable on devices",
    ):
        model = model_of(small())
        model.start(model.show(PREPARED.pixels(IMAGES)), "spearman")
    with pytest.raises(ValueError, match=r"pixels must be uint8 of shape \(n, 32, 32, 3\)"):
        model_of(small()).show(np.zeros((4, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="2 names were given for 9 conditions"):
        model_of(small()).show(PREPARED.pixels(IMAGES), ["a", "b"])


class Once(nn.Module):
    """Skips its second layer for some images."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, images):
        values = self.first(images)
        return self.second(values) if len(images) < 5 else values


def test_a_tap_that_never_runs_is_named():
    with pytest.raises(ValueError, match="the layer 'second' of Once did not run for these images"):
        model_of(Once(), ["second"]).rdms(IMAGES)
    idle = small()
    idle.add_module("idle", nn.Identity())
    idle.forward = lambda images: nn.Sequential(*list(idle)[:5])(images)
    with pytest.raises(ValueError, match="'idle' does not run in the forward pass"):
        model_of(idle, ["idle"])


@pytest.mark.parametrize("where", ["host", "device"])
def test_nan_activations_name_the_layer_and_the_image(where):
    module = small()
    with torch.no_grad():
        module[3].bias[0] = torch.nan
    with pytest.raises(ValueError, match="layer '3' has NaN.* first for image 1"):
        model_of(module, allow_inconsistent=True).rdms(IMAGES, where=where)


def test_answers_that_depend_on_the_batch_are_refused():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            return self.inner(images - images.mean(0, keepdim=True))

    with pytest.raises(InconsistentError, match=r"layer 'inner' of Joined .* differ in a batch"):
        model_of(Joined(), ["inner"])


def test_too_little_memory_of_a_device_is_one_sentence(monkeypatch):
    model = model_of(small())

    def fail(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(model._session, "module", small())
    model._session.module.forward = fail
    with pytest.raises(
        MemoryError, match="cpu has too little memory for Sequential; pass max_memory"
    ):
        model.rdms(IMAGES, where="device")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("graph", [False, True])
def test_rdms_on_a_gpu_are_those_of_the_cpu(precision, graph):
    module = small()
    expected = model_of(module).rdms(IMAGES)
    model = model_of(
        module, device="cuda", precision=precision, cuda_graph=graph, channels_last=graph
    )
    limit = {"fp32": 1e-5, "tf32": 2e-3, "bf16": 2e-2}[precision]
    assert worst(model.rdms(IMAGES), expected) < limit
    shown = model.show(PREPARED.pixels(IMAGES))
    for scale in (1.0, -1.0):
        weights = {x: v * scale if x == "0.weight" else v for x, v in module.state_dict().items()}
        model.load(weights)
        other = small()
        other.load_state_dict(weights)
        assert worst(model.start(shown).rdms(), model_of(other).rdms(IMAGES)) < limit
