"""A module that is scored in training, and all random states, are as before to the bit, also after errors."""

import contextlib
import copy
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.fx
from small_live import PREPARED, SmallNetwork
from small_study import write_study
from torch import nn

from fastrdm import Scorer


class Restless(SmallNetwork):
    """Draws from all random states, keeps values in attributes, and has a generator of its own."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)
        self.numbers = np.random.default_rng(3)
        self.seen = []
        self.cache = {}
        self.hooks = 0

    def forward(self, images):
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(1)
        torch.rand(1, generator=self.generator)
        self.numbers.random()
        self.seen.append(len(images))
        self.cache["shape"] = images.shape
        self.last = images.mean()
        return super().forward(images)


class Failing(Restless):
    """Fails in evaluation mode, after it has drawn numbers."""

    def forward(self, images):
        found = super().forward(images)
        if not self.training:
            raise RuntimeError("no memory of this image")
        return found


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("preserving") / "small")


def state(module, optimiser):
    """All that determines the next step of a training, as bytes and values."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        "tensors": {name: value.detach().numpy().tobytes() for name, value in tensors.items()},
        "ids": {name: (id(value), value.data_ptr()) for name, value in tensors.items()},
        "gradients": [(id(p.grad), p.grad.numpy().tobytes()) for p in module.parameters()],
        "requires": [p.requires_grad for p in module.parameters()],
        "modes": [part.training for part in module.modules()],
        "hooks": [len(part._forward_hooks) for part in module.modules()],
        "attributes": [sorted(vars(part)) for part in module.modules()],
        "optimiser": repr(optimiser.state_dict()),
        "random": (
            random.getstate(),
            repr(np.random.get_state()),  # noqa: NPY002
            torch.get_rng_state().numpy().tobytes(),
        ),
        "settings": (
            torch.is_grad_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
            torch.get_default_dtype(),
            torch.get_num_threads(),
        ),
    }


def step(module, optimiser):
    """A step of a training with augmentation, dropout and batch norm."""
    images = torch.rand(4, 3, 20, 20)
    if random.random() < 0.5:
        images = images.flip(-1)
    images += float(np.random.rand())  # noqa: NPY002
    optimiser.zero_grad()
    module(images).square().mean().backward()
    optimiser.step()


def begin(kind):
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    module = kind()
    module.conv1.eval()
    module.conv2.bias.requires_grad_(True)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    step(module, optimiser)
    return module, optimiser


@pytest.mark.parametrize("kind", [SmallNetwork, Restless, Failing])
def test_everything_is_as_before(study, kind):
    module, optimiser = begin(kind)
    scorer = Scorer(study, preprocessing=PREPARED)
    for _ in range(2):
        before = state(module, optimiser)
        seen = list(getattr(module, "seen", []))
        raises = pytest.raises(ValueError, match="no memory of this image")
        with raises if kind is Failing else contextlib.nullcontext():
            scorer(module)
        assert state(module, optimiser) == before
        assert getattr(module, "seen", []) == seen
        step(module, optimiser)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("kind", [SmallNetwork, Restless])
def test_a_training_ends_with_the_same_bits(study, kind, mode):
    if mode == "async" and kind is Restless:
        pytest.skip("a module that draws random numbers is refused")
    ends = []
    for scorer in (None, Scorer(study, preprocessing=PREPARED, mode=mode)):
        module, optimiser = begin(kind)
        pending = []
        for _ in range(4):
            step(module, optimiser)
            if scorer is not None:
                pending.append(scorer(module))
        if kind is Restless:
            ends.append((module.numbers.random(), module.generator.get_state().tolist()))
        ends.append(
            [value.detach().numpy().tobytes() for value in module.state_dict().values()]
            + [random.random(), np.random.rand(), torch.rand(1).item()]  # noqa: NPY002
        )
        if mode == "async" and scorer is not None:
            assert len({tuple(each.result().items()) for each in pending}) == 4
    half = len(ends) // 2
    assert ends[:half] == ends[half:]


def test_buffers_that_a_forward_pass_changes_are_restored_and_refused(study):
    class Counting(SmallNetwork):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.tensor([0.0, float("nan")]))
            self.counts = False

        def forward(self, images):
            if self.counts:
                self.total.add_(len(images))
            return super().forward(images)

    torch.manual_seed(0)
    module = Counting()
    scorer = Scorer(study, preprocessing=PREPARED)
    scorer(module)
    module.counts = True
    for each in (scorer, Scorer(study, preprocessing=PREPARED)):
        with pytest.raises(ValueError, match=r"changes its \w+ in evaluation mode \(total\)"):
            each(module)
        assert module.total[0] == 0


class Bounded(SmallNetwork):
    """Bounds the norms of weights when it runs, as EEGNet does: in new memory, or in place."""

    in_place = False

    def forward(self, images):
        weight = self.conv2.weight
        bounded = torch.renorm(weight.data, 2, 0, 0.2)
        if self.in_place:
            weight.data.copy_(bounded)
        else:
            weight.data = bounded
        return super().forward(images)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_weights_that_get_new_memory_when_they_are_used_are_restored(study, mode):
    module, optimiser = begin(Bounded)
    with Scorer(study, preprocessing=PREPARED, mode=mode) as scorer:
        for _ in range(3):
            with torch.no_grad():
                module.conv2.weight.normal_()
            before = state(module, optimiser)
            found = scorer(module)
            assert state(module, optimiser) == before
            expected = Scorer(study, preprocessing=PREPARED)(module)
            assert (found.result() if mode == "async" else found) == expected


def test_weights_that_are_changed_in_place_are_restored_and_refused_when_a_module_is_opened(study):
    module, optimiser = begin(Bounded)
    module.in_place = True
    with torch.no_grad():
        module.conv2.weight.normal_()
    before = state(module, optimiser)
    with pytest.raises(ValueError, match=r"Bounded changes its weights .*\(conv2.weight\)"):
        Scorer(study, preprocessing=PREPARED)(module)
    assert state(module, optimiser) == before


def test_tensors_and_nested_containers_in_attributes_are_restored(study):
    class Counting(SmallNetwork):
        def __init__(self):
            super().__init__()
            self.total = torch.zeros(2)
            self.seen = {"images": [[]]}

        def forward(self, images):
            self.total += len(images)
            self.seen["images"][0].append(len(images))
            return super().forward(images)

    module = Counting()
    module(torch.rand(3, 3, 20, 20))
    total, seen = module.total, module.seen["images"][0]
    Scorer(study, preprocessing=PREPARED)(module)
    assert module.total is total
    assert total.tolist() == [3, 3]
    assert module.seen["images"][0] is seen
    assert seen == [3]


def test_threads_can_score_modules_at_once(study):
    modules = [SmallNetwork() for _ in range(3)]
    scorer = Scorer(study, preprocessing=PREPARED)
    expected = [scorer(module) for module in modules]
    output, drawn = sys.stdout, torch.get_rng_state()
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(scorer, modules)) == expected
    assert sys.stdout is output
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_graphs_of_torch_fx_and_expanded_buffers_can_be_scored(study, mode):
    module = SmallNetwork()
    expected = Scorer(study, preprocessing=PREPARED)(module)
    module.register_buffer("expanded", torch.ones(1).expand(5))
    for each in (module, torch.fx.symbolic_trace(module)):
        found = Scorer(study, preprocessing=PREPARED, mode=mode)(each)
        assert (found.result() if mode == "async" else found) == expected


def _with_sparse_buffer():
    module = SmallNetwork()
    module.register_buffer("mask", torch.eye(3).to_sparse())
    return module


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: torch.jit.script(SmallNetwork()), "RecursiveScriptModule is a TorchScript module"),
        (_with_sparse_buffer, "'mask' of SmallNetwork is sparse"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "Sequential has lazy layers without weights"),
    ],
    ids=["script", "sparse", "lazy"],
)
def test_modules_that_cannot_be_scored_are_errors_of_one_sentence(study, build, message):
    with pytest.raises(ValueError, match=message):
        Scorer(study, preprocessing=PREPARED)(build())


def test_autocast_around_a_call_changes_neither_the_scores_nor_the_gradients(study):
    def gradients(scorer):
        torch.manual_seed(0)
        module = SmallNetwork()
        images = torch.rand(4, 3, 20, 20)
        scores = None
        with torch.autocast("cpu", torch.bfloat16):
            if scorer is not None:
                scores = scorer(module)
            module(images).float().square().mean().backward()
        return [p.grad.numpy().tobytes() for p in module.parameters()], scores

    scorer = Scorer(study, preprocessing=PREPARED)
    torch.manual_seed(0)
    expected = scorer(SmallNetwork())
    found, scores = gradients(scorer)
    assert scores == expected
    assert found == gradients(None)[0]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_module_can_be_scored_in_inference_mode_and_trained_afterwards(study, mode):
    module, optimiser = begin(SmallNetwork)
    scorer = Scorer(study, preprocessing=PREPARED, mode=mode)
    with torch.inference_mode():
        first = scorer(module)
    second = scorer(module)
    step(module, optimiser)
    if mode == "async":
        first, second = first.result(), second.result()
    assert first == second


def test_settings_of_torch_do_not_change_the_scores(study):
    torch.manual_seed(0)
    module = SmallNetwork()
    scorer = Scorer(study, preprocessing=PREPARED)
    expected = scorer(module)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert Scorer(study, preprocessing=PREPARED)(module) == expected
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)


class Parts(nn.Module):
    """A network with a part that is itself a network."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, images):
        return self.head(self.stem(images).mean((2, 3)))


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda module: torch.compile(module, backend="eager"),
        nn.DataParallel,
        lambda module: nn.DataParallel(torch.compile(module, backend="eager")),
        lambda module: module.compile(backend="eager") or module,
        lambda module: (
            setattr(module, "stem", torch.compile(module.stem, backend="eager")) or module
        ),
        lambda module: setattr(module, "stem", nn.DataParallel(module.stem)) or module,
        lambda module: module.stem.compile(backend="eager") or module,
    ],
    ids=["compiled", "parallel", "both", "in place", "part", "parallel part", "part in place"],
)
def test_wrappers_are_left_out_and_stay(study, wrap, mode):
    torch.manual_seed(0)
    module = Parts()
    wrapped = wrap(copy.deepcopy(module))
    images = torch.rand(4, 3, 20, 20)
    module(images)
    wrapped(images)
    expected = Scorer(study, preprocessing=PREPARED)(module)
    frames = _compiled_frames()
    names = [name for name, _ in wrapped.named_modules()]
    found = Scorer(study, preprocessing=PREPARED, mode=mode)(wrapped)
    assert (found.result() if mode == "async" else found) == expected
    assert [name for name, _ in wrapped.named_modules()] == names
    wrapped(images)
    assert _compiled_frames() == frames


def _compiled_frames():
    dynamo = sys.modules.get("torch._dynamo")
    return dict(dynamo.utils.counters["frames"]) if dynamo else {}
