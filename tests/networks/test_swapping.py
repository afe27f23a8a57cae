import numpy as np
import pytest
import torch
from torch.nn import functional

from fastrdm.networks import export_onnx, load_weights
from fastrdm.runtimes import Architecture, OnnxModel

nn = torch.nn


class Base(nn.Module):
    """A convolution, whose weights each network below uses differently."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.out = nn.Identity()
        self.begin()

    def begin(self):
        pass


class Tied(Base):
    """One weight in two modules, and one module in two places."""

    def begin(self):
        self.same = self.conv
        self.again = nn.Conv2d(3, 4, 3)
        self.again.weight = self.conv.weight

    def forward(self, x):
        return self.out(self.conv(x) * self.again(x) + self.same(x))


class Parametrised(Base):
    def begin(self):
        self.conv = nn.utils.parametrizations.weight_norm(self.conv)

    def forward(self, x):
        return self.out(self.conv(x))


class Buffers(Base):
    """Buffers inside and outside the state dict: integers, 16 bits, a scalar, empty; a literal; an auxiliary head."""

    def begin(self):
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.5), persistent=False)
        self.register_buffer("index", torch.tensor([3, 1, 0]))
        self.small = nn.Parameter(torch.rand(3, 1, 1).half())
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.auxiliary = nn.Linear(4, 2)

    def forward(self, x):
        y = self.conv((x - self.mean) / self.std)[:, self.index] - torch.tensor([0.5])
        return self.out(y * self.small * self.scale + self.empty.sum())


class Attribute(Base):
    """A constant that is not a buffer."""

    def begin(self):
        self.mean = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)

    def forward(self, x):
        return self.out(self.conv(x - self.mean))


class Cache(Base):
    """Keeps values computed from its weights, as LeViT and TinyViT do in evaluation mode."""

    def begin(self):
        self.cache, self.numbers, self.kept = {}, [], None

    def forward(self, x):
        if "twice" not in self.cache:
            self.cache["twice"] = self.conv.weight * 2
        if self.kept is None:
            self.kept = self.conv.bias * 2
        if not self.numbers:
            self.numbers.append(3.0)
            self.new = 2.0
        return self.out(functional.conv2d(x, self.cache["twice"], self.kept) * self.numbers[0])


class Alias(Base):
    def begin(self):
        self.alias = self.conv.weight.data

    def forward(self, x):
        return self.out(functional.conv2d(x, self.alias, self.conv.bias))


class View(Base):
    def begin(self):
        self.small = nn.Conv2d(3, 2, 3)
        self.small.weight = nn.Parameter(self.conv.weight.data[:2])

    def forward(self, x):
        return self.out(self.conv(x)[:, :2] * self.small(x))


class Complex(Base):
    def begin(self):
        self.filter = nn.Parameter(torch.randn(4, 6, 4, dtype=torch.complex64))

    def forward(self, x):
        return self.out(torch.fft.irfft2(torch.fft.rfft2(self.conv(x)) * self.filter))


def seeded(network, seed):
    torch.manual_seed(seed)
    return network()


def changed(network, path):
    """Write weights that all differ."""
    weights = seeded(network, 1).state_dict()
    for value in weights.values():
        if value.is_floating_point():
            value += 0.25
    torch.save(weights, path)
    return path


def outputs(model):
    batch = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    return model.run(batch)["out"]


@pytest.mark.parametrize("network", [Tied, Parametrised, Buffers, Attribute, Cache])
def test_nothing_of_the_old_weights_stays(network, tmp_path):
    architecture = Architecture.export(lambda: seeded(network, 0), ["out"], 8)
    model = architecture.open(changed(network, tmp_path / "a.pth"), provider="cpu")
    fresh = seeded(network, 2)
    load_weights(fresh, tmp_path / "a.pth")
    path = export_onnx(fresh, tmp_path / "fresh.onnx", ["out"], 8)
    np.testing.assert_array_equal(outputs(model), outputs(OnnxModel(path, "cpu")))
    with torch.no_grad():
        batch = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
        expected = fresh.eval()(torch.from_numpy(batch))
    np.testing.assert_allclose(outputs(model), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "ran", "match"),
    [
        (Attribute, False, "it holds 'mean', which is neither parameter nor buffer"),
        (
            Cache,
            True,
            "which is neither parameter nor buffer and may have been computed from weights",
        ),
        (Alias, False, "it holds 'alias', which is neither parameter nor buffer"),
        (View, False, "'small.weight' and 'conv.weight' share memory"),
        (Complex, False, "it holds 'filter' in another form"),
    ],
)
def test_a_network_whose_graph_could_keep_old_weights(network, ran, match, tmp_path):
    module = seeded(network, 0).eval()
    if ran:
        with torch.no_grad():
            module(torch.zeros(1, 3, 8, 8))
    path = export_onnx(module, tmp_path / "a.onnx", ["out"], 8)
    with pytest.raises(
        ValueError, match=f"weights in the graph of .*a.onnx cannot be replaced: .*{match}"
    ):
        Architecture.read(path)
    assert outputs(OnnxModel(path)).shape[0] == 3


def test_a_new_network_that_could_keep_old_weights():
    text = (
        "weights in the graph of Alias cannot be replaced: 'alias' and 'conv.weight' share memory"
    )
    with pytest.raises(ValueError, match=text):
        Architecture.export(Alias, ["out"], 8)


def test_export_leaves_no_trace_in_the_network(tmp_path):
    module = seeded(Cache, 0)
    before = list(vars(module))
    export_onnx(module, tmp_path / "a.onnx", ["out"], 8)
    assert list(vars(module)) == before
    assert (module.cache, module.numbers, module.kept) == ({}, [], None)
