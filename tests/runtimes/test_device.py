"""RDMs made where the network runs, held against those that are made of its activations on the host."""

import sys
import warnings
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest
import reference
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from small_torch import product_sizes
from torch import nn

from fastrdm._base import MissingExtraError
from fastrdm.images import Preprocessing
from fastrdm.networks import Graph, export_onnx
from fastrdm.rdm import calc_rdm
from fastrdm.runtimes import DeviceModel, OnnxModel, device, device_sessions, planning, rdm_graph
from fastrdm.runtimes.rdm_graph import Width
from models.networks import TAPS, efficientnet_lite0, efficientnet_lite0_weights, resnet20

METHODS = ["correlation", "cosine", "euclidean", "sqeuclidean"]
N = 11


def randomise(network, seed=0):
    """Set batch norms as after training, not the identity."""
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.BatchNorm1d)):
            part.running_mean.uniform_(-0.3, 0.3, generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
            if part.affine:
                part.weight.data.uniform_(0.5, 1.5, generator=generator)
                part.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return network.eval()


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        size = width // self.heads
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(qkv[0] @ qkv[1].transpose(-2, -1) * size**-0.5, -1)
        return self.proj((weights @ qkv[2]).transpose(1, 2).reshape(n, tokens, width))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, 4)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Patches, a class token, two blocks."""

    taps = ("blocks.0", "blocks.1", "norm", "head")

    def __init__(self, width=32):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(0.1 * torch.randn(1, 65, width))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def trained_efficientnet():
    pytest.importorskip("efficientnet_lite_pytorch")
    network = efficientnet_lite0()
    network.load_state_dict(torch.load(efficientnet_lite0_weights(), weights_only=True))
    return network


class Norms(nn.Module):
    """Norms after layers with and without bias, after a tapped layer, and without a layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 6, 3, bias=False, groups=3)
        self.norm = nn.BatchNorm2d(6, eps=1e-3)
        self.tapped = nn.Conv2d(6, 5, 3)
        self.after = nn.BatchNorm2d(5)
        self.linear = nn.Linear(80, 7)
        self.plain = nn.BatchNorm1d(7, affine=False)
        self.twice = nn.Linear(7, 4, bias=False)
        self.left, self.right = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(self.first(x))))
        x = self.after(self.tapped(x)).flatten(1)
        x = self.twice(self.plain(self.linear(x)))
        return self.left(x) + self.right(x)


class Filters(nn.Module):
    """Constant over channels, or zero, for black images."""

    def __init__(self):
        super().__init__()
        self.zero = nn.Conv2d(3, 4, 1, bias=False)
        self.constant = nn.Conv2d(3, 1, 1)
        nn.init.constant_(self.constant.bias, 0.1)

    def forward(self, x):
        return self.zero(x).flatten(1) + self.constant(x).flatten(1).repeat(1, 4)


class Extremes(nn.Module):
    """A mean much larger than the spread, roots of negative values, and squares outside float32."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 40, 3)
        self.offset, self.root, self.large, self.small = (nn.Identity() for _ in range(4))

    def forward(self, x):
        total = self.offset(self.conv(x) + 1e4).mean() + self.root(torch.sqrt(x)).mean()
        return total + self.large(x * 1e25).mean() + self.small(x * 1e-21).mean()


class Buffer(nn.Module):
    """A constant that is missing from the state dict."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("mask", torch.rand(6, 6), persistent=False)

    def forward(self, x):
        return self.conv(x) * self.mask


NETWORKS = {
    "resnet20": lambda: randomise(resnet20()),
    # Two layers per block instead of up to 24: exporting the complete network takes half a minute.
    "densenet121": lambda: randomise(torchvision.models.DenseNet(32, (2, 2, 2, 2), 64)),
    "efficientnet_lite0": trained_efficientnet,
    "transformer": Transformer,
}
# Taps, and what is done to 8 × 8 pixels.
SMALL = {
    "norms": (lambda: randomise(Norms()), ["tapped", "after", "plain", "left", "right"], {}),
    "extremes": (Extremes, ["offset", "root", "large", "small"], {"mean": (0.5,) * 3}),
    "filters": (Filters, ["zero", "constant"], {"mean": (0.0,) * 3, "channel_order": "BGR"}),
    "relu": (lambda: nn.Sequential(nn.Conv2d(3, 40, 3), nn.ReLU()), ["0", "1"], {}),
    "buffer": (lambda: nn.Sequential(Buffer()), ["0"], {}),
}


@pytest.fixture(scope="module")
def pixels():
    """Coarse shapes with noise, which networks distinguish."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (N, 8, 8, 3)).repeat(8, 1).repeat(8, 2)
    return ((coarse + rng.integers(0, 256, coarse.shape)) // 2).astype(np.uint8)


@pytest.fixture(scope="module")
def networks():
    """Name → network, each built once."""
    made = {}

    def network(name):
        if name not in made:
            torch.manual_seed(0)
            made[name] = (NETWORKS.get(name) or SMALL[name][0])().eval()
        return made[name]

    return network


@pytest.fixture(scope="module")
def exported(networks, tmp_path_factory):
    """Name of a network → its file, each exported once."""
    files = {}

    def file(name):
        if name not in files:
            path = tmp_path_factory.mktemp(name) / f"{name}.onnx"
            if name in NETWORKS:
                files[name] = export_onnx(networks(name), path, TAPS.get(name), 64)
            else:
                _, taps, options = SMALL[name]
                chosen = Preprocessing((8, 8), **options)
                files[name] = export_onnx(networks(name), path, taps, preprocessing=chosen)
        return files[name]

    return file


def on_device(path, method="correlation", layers=None, **options):
    model = OnnxModel(path, "cpu", n_threads=1)
    chosen = layers or model.layers
    options = {"n_threads": 1} | options
    graph = Graph.from_file(path)
    return DeviceModel(graph, chosen, model.preprocessing, "cpu", method, **options)


def own_weights(path):
    """The weights of a file."""
    return Graph.from_file(path).load()[1]


def noise(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def assert_agree(got, expected, method, tolerance, sizes=None):
    """Differences are relative to `sizes`, by default the largest distances."""
    assert list(got) == list(expected)
    for layer, rdm in expected.items():
        scale = np.abs(rdm).max() if "euclidean" in method else 1
        scale = sizes[layer] if sizes else scale
        assert got[layer].dtype == np.float64
        assert np.abs(got[layer] - rdm).max() <= tolerance * scale, layer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_rdms_on_device_and_host_agree(exported, pixels, name, method, monkeypatch):
    path = exported(name)
    host = OnnxModel(path, "cpu", n_threads=1)
    expected = host.rdms(list(pixels), method)
    sizes = product_sizes(host.activations(list(pixels)), method)
    model = on_device(path, method)
    stimuli = pixels.copy()
    shown = model.show(stimuli)
    stimuli[:] = 0
    whole = model.rdms(shown)
    assert_agree(whole, expected, method, 1e-5)
    # ONNX Runtime has other kernels for a single image, also in the network.
    for height, tolerance in ((1, 3e-6), (4, 1e-6), (7, 1e-6)):
        monkeypatch.setattr(planning, "_MOST_CONDITIONS", height)
        assert_agree(model.rdms(shown), whole, method, tolerance, sizes)


def test_an_alias_of_a_method_and_a_choice_of_layers(exported, pixels):
    path = exported("resnet20")
    model = on_device(path, "pearson", ["block2", "stem"])
    expected = OnnxModel(path, "cpu", n_threads=1).rdms(list(pixels), layers=["block2", "stem"])
    assert_agree(model.rdms(model.show(pixels)), expected, "pearson", 1e-5)
    assert model.layers == ("block2", "stem")
    assert not any(name.startswith("layer3") for name in model._network.weights)
    assert repr(model) == f"<DeviceModel {path}, 2 layers, pearson, on cpu>"


def test_swapped_weights_equal_a_new_model(exported, pixels, tmp_path):
    # Half of its norms cannot be folded.
    name = "densenet121"
    torch.manual_seed(1)
    other = randomise(NETWORKS[name](), seed=1)
    fresh = on_device(export_onnx(other, tmp_path / "other.onnx", TAPS[name], 64))
    model = on_device(exported(name))
    mine, foreign = model.show(pixels), fresh.show(pixels)
    before = model.rdms(mine)
    state = {name: value.numpy() for name, value in other.state_dict().items()}
    model.load(state)
    for layer, rdm in fresh.rdms(foreign).items():
        # Both models can use the same stimuli on the device.
        np.testing.assert_array_equal(model.rdms(foreign)[layer], rdm)
        assert not np.array_equal(before[layer], rdm)
    folded = on_device(exported(name)).fold(state)
    kept = folded.buffer.copy()
    fresh.load(folded)
    np.testing.assert_array_equal(fresh.rdms(mine)["fc"], model.rdms(mine)["fc"])
    fresh.load({name: np.zeros_like(value) for name, value in state.items()})
    np.testing.assert_array_equal(folded.buffer, kept)
    again = fresh.fold(state, into=fresh.fold({name: value + 1 for name, value in state.items()}))
    np.testing.assert_array_equal(again.buffer, kept)


def test_batch_norms_are_folded_if_nothing_else_reads_their_input(exported, networks):
    network, path = networks("norms"), exported("norms")
    model = on_device(path)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    buffer = model.fold(state).buffer
    inputs = model._network.inputs
    parts = ("first", "tapped", "after", "twice", "left", "right")
    norms = ("weight", "bias", "running_mean", "running_var")
    assert {name for name in inputs if not name.startswith("fastrdm/")} <= {
        f"{part}.{what}" for part in parts for what in norms
    }
    conv = torch.nn.utils.fusion.fuse_conv_bn_eval(network.conv, network.norm)
    plain = network.plain
    factor = 1 / torch.sqrt(plain.running_var + plain.eps)
    weight = network.linear.weight * factor[:, None]
    bias = (network.linear.bias - plain.running_mean) * factor
    folded = [name for name in inputs if name.startswith("fastrdm/")]
    fused = [conv.weight, conv.bias, weight, bias]
    for name, tensor in zip(folded, fused, strict=True):
        shape, begin, expected = (
            inputs[name].shape,
            model._sessions.layout.places[name],
            tensor.detach().numpy(),
        )
        got = buffer[begin : begin + expected.nbytes].view(np.float32).reshape(shape)
        assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    left = [node.op_type for node in model._network.model.graph.node]
    assert left.count("BatchNormalization") == 4
    stimuli = noise(9, 8)
    expected = OnnxModel(path, "cpu").rdms(list(stimuli))
    assert_agree(model.rdms(model.show(stimuli)), expected, "correlation", 1e-5)


def test_folding_equals_onnx_runtimes(exported, tmp_path):
    path = exported("resnet20")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    optimised = {onnx.numpy_helper.to_array(i).tobytes() for i in graph.initializer}
    model = on_device(path)
    buffer = model.fold(own_weights(path)).buffer
    for name, given_ in model._network.inputs.items():
        begin = model._sessions.layout.places[name]
        size = int(np.prod(given_.shape)) * given_.dtype.itemsize
        assert buffer[begin : begin + size].tobytes() in optimised, name


@pytest.mark.parametrize(("name", "layer"), [("relu", "1"), ("filters", "zero")])
def test_preprocessing_in_the_graph_equals_preprocessing(exported, name, layer):
    path = exported(name)
    preprocessing = OnnxModel(path).preprocessing
    model = rdm_graph.from_pixels(onnx.load(path), [layer], preprocessing).model
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ("n", 3, 8, 8))
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    stimuli = noise(5, 8)
    given_ = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs()[1:]}
    (got,) = session.run(None, {rdm_graph.PIXELS: stimuli} | given_)
    np.testing.assert_array_equal(got, preprocessing.load(list(stimuli)))


def test_graphs_are_valid(exported):
    model = on_device(exported("transformer"), "euclidean")
    for made in (
        model._network.model,
        rdm_graph.whole(model._network, model.layers, False),
        rdm_graph.rows(model._network, model.layers, True),
        rdm_graph.products(Width(70)),
        rdm_graph.squares(Width(70)),
    ):
        onnx.checker.check_model(made, full_check=True)


@given(channels=st.integers(1, 1200), n_a=st.integers(1, 4), n_b=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_rows_of_any_width_are_multiplied(channels, n_a, n_b):
    width = Width(channels)
    assert 0 <= width.zeros < channels or width.zeros == 0
    rng = np.random.default_rng(channels)
    a, b = (
        np.pad(rng.standard_normal((n, channels), np.float32), ((0, 0), (0, width.zeros)))
        for n in (n_a, n_b)
    )
    given_ = {name: x.reshape(-1, *width.shape) for name, x in (("a", a), ("b", b))}
    session = onnxruntime.InferenceSession(rdm_graph.products(width).SerializeToString())
    exact = a.astype(np.float64) @ b.T.astype(np.float64)
    np.testing.assert_allclose(session.run(None, given_)[0], exact, atol=1e-6 * channels)
    session = onnxruntime.InferenceSession(rdm_graph.squares(width).SerializeToString())
    i, j = rng.integers(0, n_a, 6), rng.integers(0, n_b, 6)
    f, g = rng.random((2, 6), np.float32)
    wide = [(x.astype(np.float64) * y[:, None]) for x, y in ((a[i], f), (b[j], g))]
    exact = np.square(wide[0] - wide[1]).sum(axis=1)
    found = session.run(None, given_ | {"i": i, "j": j, "f": f, "g": g})[0]
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_a_mean_much_larger_than_the_spread(exported):
    path = exported("extremes")
    model, stimuli = on_device(path, layers=["offset"]), noise(6, 8) // 2 + 128
    exact = reference.calc_rdm(OnnxModel(path).activations(list(stimuli))["offset"])
    got = model.rdms(model.show(stimuli))["offset"]
    np.testing.assert_allclose(got, exact, atol=1e-5)


@pytest.mark.parametrize("method", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("height", [2, 8])
def test_distances_of_copies_and_of_near_copies(exported, monkeypatch, method, height):
    monkeypatch.setattr(planning, "_MOST_CONDITIONS", height)
    path, stimuli = exported("relu"), noise(8, 8)
    stimuli[5] = stimuli[2]
    stimuli[7] = stimuli[0]
    stimuli[7, 3, 3, 0] ^= 1
    model = on_device(path, method)
    got = model.rdms(model.show(stimuli))
    for layer, values in OnnxModel(path).activations(list(stimuli)).items():
        exact = calc_rdm(values.astype(np.float64), method)
        near = np.argmin(np.where(exact == 0, np.inf, exact))
        assert exact.min() == 0
        np.testing.assert_array_equal(got[layer] == 0, exact == 0)
        assert exact[near] < 0.01 * exact.max()
        np.testing.assert_allclose(got[layer], exact, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("correlation", {"zero": "constant over channels", "constant": "constant over channels"}),
        ("cosine", {"zero": "that are zero"}),
        ("euclidean", {}),
    ],
)
@pytest.mark.parametrize("height", [2, 5])
def test_conditions_with_undefined_dissimilarities(exported, monkeypatch, method, problem, height):
    monkeypatch.setattr(planning, "_MOST_CONDITIONS", height)
    path, stimuli = exported("filters"), noise(5, 8)
    stimuli[[1, 3]] = 0
    model = on_device(path, method)
    shown = model.show(stimuli)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = model.rdms(shown)
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == len(problem)
    for text, (layer, words) in zip(texts, problem.items(), strict=True):
        assert text.startswith(f"layer {layer!r}: conditions ")
        assert words in text
        assert text.endswith("their pairs are NaN: 1, 3")
    for layer, values in OnnxModel(path).activations(list(stimuli)).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = calc_rdm(values, method)
        np.testing.assert_allclose(got[layer], expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("height", [2, 5])
def test_nan_names_the_layer_and_the_first_image(exported, monkeypatch, method, height):
    monkeypatch.setattr(planning, "_MOST_CONDITIONS", height)
    model, stimuli = on_device(exported("extremes"), method, ["offset", "root"]), noise(5, 8)
    bright = model.show(stimuli // 2 + 128)
    stimuli[:3] = stimuli[:3] // 2 + 128
    problem = "layer 'root' has NaN or infinite activations, first for"
    with pytest.raises(ValueError, match=f"{problem} image 4"):
        model.rdms(model.show(stimuli))
    names = [f"stimulus{i}.png" for i in range(5)]
    with pytest.raises(ValueError, match=rf"{problem} stimulus3\.png"):
        model.rdms(model.show(stimuli, names))
    # The model still works.
    assert np.isfinite(model.rdms(bright)["root"]).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", ["large", "small"])
def test_squares_beyond_float32_are_an_error(exported, method, layer):
    model = on_device(exported("extremes"), method, [layer])
    shown = model.show(noise(4, 8))
    with pytest.raises(ValueError, match=f"{layer!r} has activations whose squares leave float32"):
        model.rdms(shown)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("spearman", "ranks all channels"),
        ("mahalanobis", "whitens all channels"),
        ("crossnobis", "averages measurements"),
        ("no such method", "is not one of: correlation"),
    ],
)
def test_methods_unavailable_on_devices(exported, method, reason):
    with pytest.raises(ValueError, match=f"{method!r} {reason}"):
        on_device(exported("transformer"), method)


@pytest.mark.parametrize("method", ["correlation", "euclidean"])
def test_max_memory(exported, pixels, method):
    path = exported("resnet20")
    stimuli = np.concatenate([pixels, 255 - pixels[:, ::-1]])
    free = on_device(path, method)
    shown = free.show(stimuli)
    expected = free.rdms(shown)
    need = free._needs(len(stimuli))
    whole = need.bytes(need.plan(free.layers, None))
    seen = []
    for bound in (whole, whole // 2, whole // 5):
        model = on_device(path, method, max_memory=bound)
        chosen = need.plan(model.layers, bound)
        assert need.bytes(chosen) <= bound
        assert [layer for group in chosen.groups for layer in group] == list(model.layers)
        seen.append((chosen.height, len(chosen.groups)))
        assert_agree(model.rdms(shown), expected, method, 1e-6)
    assert seen[0] == (len(stimuli), 1)
    assert seen[1][0] < len(stimuli)
    assert seen[2][1] > 1
    with pytest.raises(
        ValueError, match="too small for 22 conditions of a layer of 65536"
    ) as caught:
        on_device(path, method, max_memory="1MB").rdms(shown)
    enough = int(str(caught.value).split("; ")[1].split()[0])
    assert need.bytes(need.plan(free.layers, enough)) <= enough
    with pytest.raises(ValueError, match="too small"):
        need.plan(free.layers, enough - 1)
    with pytest.raises(ValueError, match="'plenty' is not a number of bytes"):
        on_device(path, max_memory="plenty")


def test_smaller_blocks_if_the_device_is_out_of_memory(exported, pixels, monkeypatch):
    model = on_device(exported("resnet20"))
    shown = model.show(pixels)
    expected = model.rdms(shown)
    run, sizes = model._sessions.run, []

    def full(session, inputs, pixels=None, place=slice(0)):
        sizes.append(place.stop - (place.start or 0))
        if sizes[-1] > 3:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9")
        return run(session, inputs, pixels, place)

    monkeypatch.setattr(model._sessions, "run", full)
    assert_agree(model.rdms(shown), expected, "correlation", 1e-6)
    tried = sizes.copy()
    sizes.clear()
    assert_agree(model.rdms(shown), expected, "correlation", 1e-6)
    # Sizes that did not fit are not tried again.
    assert max(tried) == N
    assert max(sizes) <= 3
    monkeypatch.setattr(
        model._sessions, "run", mock.Mock(side_effect=RuntimeError("another error"))
    )
    with pytest.raises(RuntimeError, match="another error"):
        model.rdms(shown)
    bound = on_device(exported("resnet20"), max_memory="1GB")
    monkeypatch.setattr(
        bound._sessions, "run", mock.Mock(side_effect=RuntimeError("out of memory"))
    )
    with pytest.raises(RuntimeError, match="out of memory"):
        bound.rdms(shown)


def test_only_products_are_copied_from_the_device(exported, pixels):
    """Bindings of a simulated device."""
    model = on_device(exported("transformer"), "euclidean", ["head"])
    shown = model.show(pixels)
    session = model._sessions.open(rdm_graph.rows, model._network, ("head",), False)
    fake = mock.Mock()
    binding = fake.io_binding.return_value
    binding.get_outputs.return_value = session.outputs
    fake.get_provider_options.return_value = {"CUDAExecutionProvider": {"device_id": "1"}}
    fake.get_providers.return_value = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    session = session._replace(session=fake)
    model._sessions.memory = device_sessions.DeviceMemory.of(session, "cuda")
    assert model.device == ("cuda", 1)
    weight = next(iter(model._network.inputs))
    model._sessions.run(session, {weight: "a weight"}, shown.pixels, slice(3, 7))
    bound = {call.args[0]: call.args[1:] for call in binding.bind_input.call_args_list}
    assert set(bound) == {rdm_graph.PIXELS, *model._network.inputs} - {weight}
    assert all(where[:2] == ("cuda", 1) for where in bound.values())
    offset = bound[rdm_graph.PIXELS][-1] - shown.pixels.data_ptr()
    assert offset == pixels[:3].nbytes
    assert bound[rdm_graph.PIXELS][3] == (4, 64, 64, 3)
    assert all(address % 64 == 0 for *_, address in list(bound.values())[1:])
    binding.bind_ortvalue_input.assert_called_once_with(weight, "a weight")
    outputs = {call.args[0]: call.args[1:] for call in binding.bind_output.call_args_list}
    assert outputs == {"fastrdm/head/rows": ("cuda", 1), "fastrdm/head/means": ("cpu", 0)}


def test_suitable_providers_and_methods():
    assert device.suits("cuda", "correlation")
    assert device.suits("migraphx", "euclidean")
    assert not device.suits("cpu", "correlation")
    assert not device.suits("cuda", "spearman")
    with pytest.raises(ValueError, match="'no such method' is not one of"):
        device.suits("cuda", "no such method")


@pytest.mark.parametrize(
    ("provider", "kind"),
    [("cpu", "cpu"), ("tensorrt", "cuda"), ("migraphx", "gpu"), ("openvino", "cpu")],
)
def test_memory_of_a_provider(provider, kind):
    session = mock.Mock()
    session.session.get_provider_options.return_value = {}
    session.session.get_providers.return_value = ["SomeExecutionProvider"]
    assert device_sessions.DeviceMemory.of(session, provider) == (kind, 0)


def test_constants_missing_from_checkpoints(exported, networks):
    network, path = networks("buffer"), exported("buffer")
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"buffer\.onnx; missing: 0\.mask"):
        on_device(path).load(state)
    model, stimuli = on_device(path, weights=state.keys()), noise(4, 8)
    model.load(state)
    expected = OnnxModel(path).rdms(list(stimuli))
    assert_agree(model.rdms(model.show(stimuli)), expected, "correlation", 1e-5)


def test_weights_that_do_not_fit(exported):
    model = on_device(exported("transformer"))
    good = {name: np.zeros(shape, np.float32) for name, shape in model._network.weights.items()}
    model.load(good)
    names = list(good)
    wrong = good | {names[0]: np.zeros(3)}
    for name in names[1:6]:
        del wrong[name]
    with pytest.raises(ValueError, match="do not fit") as caught:
        model.load(wrong)
    text = str(caught.value)
    assert (
        f"missing: {', '.join(names[1:4])} and 2 more; of another shape: {names[0]} (3,) for"
        in text
    )
    foreign = on_device(exported("densenet121")).fold(own_weights(exported("densenet121")))
    with pytest.raises(ValueError, match="folded for another network"):
        model.load(foreign)
    with pytest.raises(ValueError, match="folded for another network"):
        model.fold(good, into=foreign)


def test_a_graph_without_weights_needs_a_checkpoint(exported, pixels):
    path = exported("transformer")
    proto, values = Graph.from_file(path).load()
    for initialiser in proto.graph.initializer:
        initialiser.ClearField("raw_data")
        initialiser.data_location = onnx.TensorProto.EXTERNAL
        initialiser.external_data.add(key="location", value="elsewhere")
    empty = Graph("empty", proto.SerializeToString())
    full = OnnxModel(path)
    model = DeviceModel(empty, full.layers, full.preprocessing, "cpu")
    shown = model.show(pixels)
    with pytest.raises(ValueError, match="empty holds no weights; load a checkpoint's first"):
        model.rdms(shown)
    expected = on_device(path).rdms(shown)
    model.load(values)
    assert_agree(model.rdms(shown), expected, "correlation", 1e-7)
    given_ = Graph("given", proto.SerializeToString(), values)
    model = DeviceModel(given_, full.layers, full.preprocessing, "cpu")
    assert_agree(model.rdms(shown), expected, "correlation", 1e-7)


@pytest.mark.parametrize(
    ("shape", "dtype", "match"),
    [
        ((3, 64, 64, 3), np.float32, r"uint8 of shape \(n, 64, 64, 3\), not float32"),
        ((3, 3, 64, 64), np.uint8, r"not uint8 \(3, 3, 64, 64\)"),
        ((64, 64, 3), np.uint8, r"not uint8 \(64, 64, 3\)"),
        ((1, 64, 64, 3), np.uint8, "at least 2 conditions"),
    ],
)
def test_wrong_pixels(exported, shape, dtype, match):
    model = on_device(exported("transformer"))
    with pytest.raises(ValueError, match=match):
        model.show(np.zeros(shape, dtype))
    with pytest.raises(ValueError, match="1 names were given for 2 conditions"):
        model.show(np.zeros((2, 64, 64, 3), np.uint8), ["one.png"])


def test_graphs_that_are_refused(exported, tmp_path):
    path = exported("transformer")
    with pytest.raises(
        ValueError, match=r"layer 'nose' is not an output of the graph, which has: blocks\.0"
    ):
        on_device(path, layers=["nose"])
    preprocessing = OnnxModel(path).preprocessing
    proto = onnx.load(path)
    proto.opset_import[0].version = 17
    with pytest.raises(ValueError, match="opset 17; RDMs on a device need 18 or later"):
        rdm_graph.from_pixels(proto, ["head"], preprocessing)
    proto = onnx.load(path)
    proto.graph.input.add(name="more")
    with pytest.raises(ValueError, match=r"has the inputs \['images', 'more'\]; it must have one"):
        rdm_graph.from_pixels(proto, ["head"], preprocessing)
    proto = onnx.load(path)
    proto.graph.output[-1].type.tensor_type.shape.dim[1].dim_param = "many"
    with pytest.raises(ValueError, match="'head' is not declared as float32"):
        rdm_graph.from_pixels(proto, ["head"], preprocessing)
    (tmp_path / "text.onnx").write_text("no network at all")
    with pytest.raises(ValueError, match=r"text\.onnx cannot be read as an ONNX model"):
        DeviceModel(Graph.from_file(tmp_path / "text.onnx"), ["head"], preprocessing)
    with pytest.raises(ValueError, match="provider 'cuda'; install it with"):
        DeviceModel(Graph.from_file(path), ["head"], preprocessing, "cuda")


def test_a_provider_without_bindings(exported, monkeypatch):
    opened = mock.Mock(session=object(), provider="openvino")
    monkeypatch.setattr(device_sessions, "open_session", lambda *_, **__: opened)
    with pytest.raises(ValueError, match="'openvino' runs without ONNX Runtime here"):
        on_device(exported("transformer"))


def test_missing_onnx(exported, monkeypatch):
    path = exported("transformer")
    preprocessing = OnnxModel(path).preprocessing
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"onnx is needed .*fastrdm\[run\]"):
        DeviceModel(Graph.from_file(path), ["head"], preprocessing, "cpu")
