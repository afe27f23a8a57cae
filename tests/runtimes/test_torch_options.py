"""The interface that `TorchModel` shares with `OnnxModel`, its options, and what it does not change or refuses."""

import contextlib
import copy
import functools
import threading
from typing import ClassVar

import numpy as np
import pytest
import torch
from small_torch import IMAGES, PREPARED, model_of, randomised, small, worst
from torch import nn

from fastrdm import TorchModel, export_onnx
from fastrdm.networks import InconsistentError
from fastrdm.runtimes import Workspace, torch_rdms, torch_states
from fastrdm.tensors import check_precision, free_bytes


@pytest.fixture
def eager(monkeypatch):
    """torch.compile traces, but the code that it generates is PyTorch's own operations."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", functools.partial(real, backend="aot_eager"))


def test_run_takes_a_batch_of_normalised_images():
    model, batch = model_of(small(), batch_size=4), PREPARED.load(IMAGES)
    expected = model.activations(IMAGES)
    for layer, values in model.run(batch, ["3", "0"]).items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[layer], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"must be float32 of shape \(n, 3, 32, 32\), not float64"):
        model.run(batch.astype(np.float64))
    with pytest.raises(ValueError, match="has no layer '7'"):
        model.run(batch, ["7"])


@pytest.mark.parametrize("where", ["host", "device"])
def test_progress_is_shown_on_standard_error(capsys, where):
    model = model_of(small(), batch_size=4)
    quiet = model.rdms(IMAGES, where=where)
    assert capsys.readouterr().err == ""
    assert worst(model.rdms(IMAGES, progress=True, where=where), quiet) == 0
    assert "Sequential" in capsys.readouterr().err
    model.grams(IMAGES, None, True, where=where)
    assert "Sequential" in capsys.readouterr().err
    model.activations(IMAGES, None, True)
    assert "Sequential" in capsys.readouterr().err


def test_threads_are_set_while_the_module_runs_and_restored():
    seen, before = [], torch.get_num_threads()
    module = small()
    module[0].register_forward_hook(lambda *args: seen.append(torch.get_num_threads()))
    model = model_of(module, n_threads=before + 1)
    seen.clear()
    model.rdms(IMAGES)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    for name in ("n_threads", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} must be"):
            model_of(module, **{name: 0})


def test_models_can_share_a_workspace():
    workspace = Workspace()
    one, other = model_of(small(), workspace=workspace), model_of(small(), workspace=workspace)
    assert worst(one.rdms(IMAGES), other.rdms(IMAGES)) == 0


@pytest.mark.parametrize(
    "options", [{"channels_last": True}, {"compile": True}, {}], ids=["channels", "compile", "bf16"]
)
def test_a_copy_follows_the_weights_of_the_module_until_others_are_loaded(eager, options):
    module = small() if options else small().bfloat16()
    model = model_of(module, **options)
    copied = copy.deepcopy(module).float()
    assert worst(model.rdms(IMAGES), model_of(copied).rdms(IMAGES)) < 1e-6
    with torch.no_grad():
        module[0].weight.mul_(-1)
        module[1].running_mean.add_(0.25)
    expected = model_of(copy.deepcopy(module).float())
    for where in ("host", "device"):
        assert worst(model.rdms(IMAGES, where=where), expected.rdms(IMAGES, where=where)) < 1e-6
    activations = expected.activations(IMAGES)
    for layer, values in model.activations(IMAGES).items():
        np.testing.assert_allclose(values, activations[layer], rtol=1e-4, atol=1e-5)
    model.load(copied.state_dict())
    assert worst(model.rdms(IMAGES), model_of(copied).rdms(IMAGES)) < 1e-6


def test_compiling_gives_the_same_rdms_with_operations_in_place(eager):
    plain, compiled = model_of(small()), model_of(small(), compile=True, batch_size=4)
    for where in ("host", "device"):
        expected = plain.rdms(IMAGES, where=where)
        assert worst(compiled.rdms(IMAGES, where=where), expected) < 1e-6
        assert list(compiled.rdms(IMAGES, layers=["3"], where=where)) == ["3"]
    assert (compiled.activations(IMAGES)["1"] >= 0).all()


@pytest.mark.slow
def test_compiled_code_gives_the_same_rdms():
    compiled = model_of(small(), compile=True)
    assert worst(compiled.rdms(IMAGES), model_of(small()).rdms(IMAGES)) < 1e-5


def test_a_failing_compiler_is_one_sentence(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler was found\nin PATH")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", functools.partial(real, backend=broken))
    with pytest.raises(
        ValueError, match=r"^torch.compile failed for Sequential: .*; omit compile=True$"
    ) as caught:
        model_of(small(), compile=True).rdms(IMAGES)
    assert "\n" not in str(caught.value)


def test_several_sets_share_batches():
    model, pixels = model_of(small()), PREPARED.pixels(IMAGES)
    sets = [model.show(pixels[:4]), model.show(pixels[4:], [f"b{k}" for k in range(5)])]
    together = [each.rdms() for each in model.start_sets(sets)]
    for shown, rdms in zip(sets, together, strict=True):
        assert worst(rdms, model.start(shown).rdms()) < 1e-6
    small_batches = model_of(small(), batch_size=3).start_sets(sets, "euclidean")
    for shown, pending in zip(sets, small_batches, strict=True):
        assert worst(pending.rdms(), model.start(shown, "euclidean").rdms()) < 1e-6
    with pytest.raises(ValueError, match="is unavailable on devices"):
        model.start_sets(sets, "spearman")


class FakeGraph:
    """Instead of a CUDA graph: `replay` runs the recorded function and overwrites its results in place."""

    recorded: ClassVar[list] = []

    def __init__(self):
        self.recorded.append(self)

    def replay(self):
        for of_set, new in zip(self.values, self.function(), strict=True):
            for layer, products in of_set.items():
                for name in ("products", "sums", "low", "high"):
                    getattr(products, name).copy_(getattr(new[layer], name))


@pytest.fixture
def graphs(monkeypatch):
    """CUDA graphs are imitated on the CPU; yields those that were recorded."""
    real, recording = torch_rdms._products, []

    def products(*args):
        values = real(*args)
        for graph in recording:
            graph.values, graph.function = values, functools.partial(real, *args)
        return values

    @contextlib.contextmanager
    def record(graph, capture_error_mode):
        recording.append(graph)
        yield
        recording.clear()

    monkeypatch.setattr(FakeGraph, "recorded", [])
    monkeypatch.setattr(torch_rdms, "_products", products)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return FakeGraph.recorded


def test_a_recorded_graph_is_replayed_with_other_weights(graphs):
    module, other = small(), small()
    with torch.no_grad():
        other[0].weight.mul_(-1)
    # Everything but the graph itself runs on the CPU.
    model, plain = model_of(module, channels_last=True), model_of(other)
    model._session.options = model._session.options._replace(cuda_graph=True)
    pixels = PREPARED.pixels(IMAGES)
    sets = [model.show(pixels[:4]), model.show(pixels[4:])]
    expected = [each.rdms() for each in model_of(module).start_sets(sets)]
    for _ in range(2):
        pending = model.start_sets(sets)
        assert max(worst(a.rdms(), b) for a, b in zip(pending, expected, strict=True)) < 1e-6
    model.load(other.state_dict())
    pending = model.start_sets(sets)
    model.load(module.state_dict())
    # Products were copied to the host before the next weights were loaded.
    assert worst(pending[0].rdms(), plain.start(sets[0]).rdms()) < 1e-6
    assert len(graphs) == 1
    model.start(sets[0], layers=["3"])
    model.start(sets[0], layers=["3"])
    model.start(sets[1], layers=["3"])
    assert len(graphs) == 3
    model.rdms(IMAGES, where="device")
    assert len(graphs) == 3
    del pending, sets[0]
    assert len(model._device_rdms_of._graphs) == 1


class Caching(nn.Module):
    """Keeps a value computed from its weights in evaluation mode, as LeViT does."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3)
        self.kept = {}

    def train(self, mode=True):
        if mode:
            self.kept = {}
        return super().train(mode)

    def forward(self, images):
        if "scale" not in self.kept:
            self.kept["scale"] = self.inner.weight.mean() + 1
        return self.inner(images) * self.kept["scale"] + images.mean((1, 2, 3), True)


def test_values_that_a_module_computed_from_its_weights_are_not_kept():
    module, other = Caching().eval(), Caching().eval()
    fresh = [copy.deepcopy(module), copy.deepcopy(other)]
    # With a gradient, so that the copy protocol of tensors refuses it.
    module(torch.zeros(1, 3, 8, 8))
    assert module.kept["scale"].requires_grad
    model = TorchModel(nn.Sequential(module), ["0"], preprocessing=PREPARED)
    for weights in (fresh[1], fresh[0], fresh[1]):
        expected = TorchModel(nn.Sequential(weights), ["0"], preprocessing=PREPARED)
        model.load(nn.Sequential(weights).state_dict())
        assert worst(model.rdms(IMAGES), expected.rdms(IMAGES)) < 1e-6
        values = model.activations(IMAGES)["0"]
        np.testing.assert_allclose(values, expected.activations(IMAGES)["0"], rtol=1e-5, atol=1e-5)


class Merging(nn.Conv2d):
    """Adds its second weights to the first in evaluation mode, as LoRA does, and takes them out in training mode."""

    def __init__(self):
        super().__init__(3, 4, 3)
        self.second = nn.Parameter(torch.rand(4, 3, 3, 3))
        self.merged = False

    def train(self, mode=True):
        if self.merged == mode:
            self.weight.data.add_(self.second.data, alpha=-1 if mode else 1)
            self.merged = not mode
        return super().train(mode)

    def forward(self, images):
        weight = self.weight if self.merged else self.weight + self.second
        return self._conv_forward(images, weight, self.bias)


@pytest.mark.parametrize("options", [{}, {"channels_last": True}])
def test_weights_that_evaluation_mode_changes_stay(options):
    module = nn.Sequential(Merging()).train()
    before = copy.deepcopy(module.state_dict())
    plain = nn.Sequential(nn.Conv2d(3, 4, 3))
    plain.load_state_dict(
        {"0.weight": before["0.weight"] + before["0.second"], "0.bias": before["0.bias"]}
    )
    model, expected = model_of(module, ["0"], **options), model_of(plain, ["0"]).rdms(IMAGES)
    assert worst(model.rdms(IMAGES), expected) < 1e-6
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not module[0].merged
    model.load(before)
    assert worst(model.rdms(IMAGES), expected) < 1e-6


class Branching(nn.Module):
    """Chooses its path by the values of the images, which cannot be exported."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return torch.stack([self.inner(x) if x.mean() > 0 else -self.inner(x) for x in images])


def test_a_network_that_cannot_be_exported_runs(tmp_path):
    with pytest.raises(ValueError, match="cannot be exported"):
        export_onnx(nn.Sequential(Branching()), tmp_path / "x.onnx", ["0"], preprocessing=PREPARED)
    module = Branching()
    rdms = TorchModel(nn.Sequential(module), ["0"], preprocessing=PREPARED).rdms(IMAGES)
    with torch.no_grad():
        values = module(torch.from_numpy(PREPARED.load(IMAGES))).flatten(1)
    upper = np.triu_indices(len(IMAGES), 1)
    np.testing.assert_allclose(rdms["0"], 1 - np.corrcoef(values.numpy())[upper], atol=1e-6)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        values = self.inner(images)
        return values + torch.rand_like(values)


@pytest.mark.parametrize("options", [{}, {"channels_last": True}])
def test_the_random_state_stays_although_a_module_draws(options):
    module = nn.Sequential(Noisy())
    with pytest.raises(InconsistentError, match="differ from run to run"):
        model_of(module, ["0"])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.warns(RuntimeWarning, match="differ from run to run") as caught:
        model = model_of(module, ["0"], allow_inconsistent=True, **options)
        model.rdms(IMAGES)
        model.run(PREPARED.load(IMAGES))
    assert {warning.filename for warning in caught} == {__file__}
    assert torch.equal(torch.rand(3), expected)


# What is refused, in one sentence.


def out_of_memory(*args):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nGPU 0 has …")


SHORT = "^cpu has too little memory for Sequential; pass max_memory or a smaller batch_size$"


@pytest.mark.parametrize("call", ["rdms", "grams", "activations", "run", "start"])
@pytest.mark.parametrize("error", [out_of_memory, None])
def test_too_little_memory_names_the_network_and_the_device(call, error):
    def mps(*args):
        raise RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)")

    module = small()
    model, pixels = model_of(module), PREPARED.pixels(IMAGES)
    arguments = {"run": PREPARED.load(IMAGES), "start": model.show(pixels)}
    module.forward = error or mps
    with pytest.raises(MemoryError, match=SHORT):
        getattr(model, call)(arguments.get(call, IMAGES))
    with pytest.raises(MemoryError, match=SHORT):
        model_of(module)


def test_a_module_that_was_moved_is_refused():
    module = small()
    model = model_of(module)
    module[3].to("meta")
    with pytest.raises(
        ValueError,
        match=r"^'3.weight' of Sequential is on meta, but TorchModel was made for cpu; move it back, or make a new"
        r" TorchModel$",
    ):
        model.rdms(IMAGES)


def test_a_module_that_uses_tensors_of_another_device_is_refused():
    def elsewhere(*args):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!\nmore"
        )

    module = small()
    model, sentence = model_of(module), "Sequential uses tensors on another device than cpu"
    module.forward = elsewhere
    for call in (lambda: model.rdms(IMAGES), lambda: model_of(module)):
        with pytest.raises(ValueError, match=sentence) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_module_on_several_devices_is_refused(monkeypatch):
    class Elsewhere:
        device = "cuda:1"

    module = small()
    monkeypatch.setattr(module, "buffers", lambda: [Elsewhere()])
    with pytest.raises(ValueError, match=r"has weights on several devices \(cpu, cuda:1\)"):
        model_of(module)


class Reassigning(nn.Module):
    """Replaces a buffer by a new one in each run; another one is NaN."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 2, 3)
        self.register_buffer("runs", torch.zeros(1))
        self.register_buffer("empty", torch.full((2,), torch.nan))

    def forward(self, images):
        self.runs = self.runs + 1
        return self.inner(images)


def test_a_buffer_that_is_replaced_in_evaluation_is_put_back():
    module = Reassigning()
    runs = module.runs
    with pytest.raises(
        ValueError, match=r"Reassigning changes its buffers in evaluation mode \(runs\)"
    ):
        model_of(module, ["inner"])
    assert module.runs is runs
    assert runs == 0


def test_a_module_that_has_to_be_copied_and_cannot_is_refused():
    module = small()
    module.lock = threading.Lock()
    with pytest.raises(ValueError, match=r"^Sequential cannot be copied, .* needs: cannot pickle"):
        model_of(module, channels_last=True)
    assert model_of(module).layers == ("0", "1", "3")


def test_memory_errors_pass_others_on():
    with pytest.raises(KeyError, match="x"), torch_states.memory_named("net", torch.device("cpu")):
        raise KeyError("x")


def test_extra_state_of_modules_is_not_a_weight():
    class Extra(nn.Conv2d):
        def get_extra_state(self):
            return {"version": 1}

        def set_extra_state(self, state):
            pass

    module = nn.Sequential(Extra(3, 4, 3))
    model = model_of(module, ["0"])
    model.load(module.state_dict())
    assert worst(model.rdms(IMAGES), model_of(randomised(module), ["0"]).rdms(IMAGES)) == 0


def test_a_module_compiled_in_place_runs_as_it_is():
    x, module = torch.zeros(2, 3, 32, 32), nn.Sequential(small(), nn.Identity()).eval()
    expected = model_of(module, ["0.0", "0.3"]).rdms(IMAGES)
    for part in (module, module[0]):
        part.compile(backend="eager")
        module(x)
    compiled = module._compiled_call_impl
    assert worst(model_of(module, ["0.0", "0.3"]).rdms(IMAGES), expected) == 0
    assert module._compiled_call_impl is compiled
    module[0] = torch.compile(small(), backend="eager")
    with pytest.raises(
        ValueError, match=r"^'0' of Sequential is wrapped by torch.compile; .*Scorer$"
    ):
        model_of(module)


def test_a_precision_that_a_device_lacks_is_refused(monkeypatch):
    class Device:
        type = "cuda"

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "V100")
    with pytest.raises(
        ValueError, match="^precision 'tf32' needs an NVIDIA GPU from Ampere on, not V100$"
    ):
        check_precision("tf32", Device())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    with pytest.raises(ValueError, match="^precision 'bf16' is not available on cpu$"):
        model_of(small(), precision="bf16")


def test_too_little_memory_for_products_is_one_sentence(monkeypatch):
    model = model_of(small())
    shown = model.show(PREPARED.pixels(IMAGES))
    monkeypatch.setattr(torch, "cat", out_of_memory)
    with pytest.raises(MemoryError, match=SHORT):
        model.start(shown)


class FakeAccelerator:
    """The random state and the memory of a device that is not here."""

    def __init__(self, takes_device):
        self.state, self.takes_device = "before", takes_device

    def get_rng_state(self, *device):
        assert len(device) == self.takes_device
        return self.state

    def set_rng_state(self, state, *device):
        assert len(device) == self.takes_device
        self.state = state


@pytest.mark.parametrize(("kind", "takes_device"), [("mps", 0), ("xpu", 1), ("cuda", 1)])
def test_random_states_of_devices_are_restored(monkeypatch, kind, takes_device):
    fake = FakeAccelerator(takes_device)
    fake.is_current_stream_capturing = lambda: False
    monkeypatch.setattr(torch, kind, fake)
    with pytest.raises(KeyError), torch_states.random_kept(torch.device(kind)):
        fake.state = "another"
        raise KeyError
    assert fake.state == "before"


def test_free_memory_is_that_of_the_device(monkeypatch):
    fake = FakeAccelerator(1)
    fake.mem_get_info = lambda device: (100, 1000)
    fake.memory_reserved, fake.memory_allocated = (lambda device: 30), (lambda device: 10)
    for kind in ("xpu", "cuda"):
        monkeypatch.setattr(torch, kind, fake)
        assert free_bytes(torch.device(kind)) == 120
    mps = FakeAccelerator(0)
    mps.recommended_max_memory, mps.current_allocated_memory = (lambda: 50), (lambda: 20)
    monkeypatch.setattr(torch, "mps", mps)
    assert free_bytes(torch.device("mps")) == 30
    assert free_bytes(torch.device("cpu")) is None
