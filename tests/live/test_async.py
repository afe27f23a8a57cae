"""Mode async: scores of copies of the weights, in the order of the calls, beside a training that is not disturbed."""

import contextlib
import queue
import sys
import threading
import time
import warnings

import pytest
import torch
from small_live import PREPARED, SmallNetwork, build
from small_study import write_study
from torch import nn

from fastrdm import Scorer
from fastrdm.live import snapshots


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("async") / "small")


class Gate:
    """Holds back the thread that scores until it is opened."""

    def __init__(self, monkeypatch):
        self.opened, self.n_begun = threading.Event(), 0
        original = snapshots.LayerScoring.scores

        def scores(scoring, model, *arguments, **options):
            self.n_begun += 1
            assert self.opened.wait(60)
            return original(scoring, model, *arguments, **options)

        monkeypatch.setattr(snapshots.LayerScoring, "scores", scores)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.opened.set()


def later(study, **options):
    return Scorer(study, preprocessing=PREPARED, mode="async", **options)


def test_the_weights_at_the_call_are_scored(study, gate):
    module = build()
    expected = Scorer(study, preprocessing=PREPARED)
    gate.opened.set()
    before = expected(module)
    gate.opened.clear()
    pending = later(study)(module, "step 1")
    assert not pending.done()
    assert repr(pending) == "<PendingScores 'step 1', pending>"
    with torch.no_grad():
        module.conv1.weight.normal_()
        module.norm.running_mean.fill_(2)
    gate.opened.set()
    assert pending.result(60) == before
    assert pending.done()
    assert repr(pending) == "<PendingScores 'step 1', finished>"
    assert [r.checkpoint for r in pending.results()] == ["step 1"] * len(pending.results())
    assert expected(module) != before


def test_finished_calls_are_returned_once_and_in_order(study, gate):
    module = build()
    scorer = later(study, max_pending=3)
    calls = [scorer(module, step) for step in range(3)]
    assert scorer.finished() == []
    with pytest.raises(TimeoutError, match="3 calls of the Scorer did not finish within 0.01 s"):
        scorer.wait(0.01)
    with pytest.raises(TimeoutError, match="pending> after waiting for"):
        calls[0].result(0.01)
    heard = queue.SimpleQueue()
    calls[2].add_done_callback(lambda pending: heard.put(pending.label))
    gate.opened.set()
    calls[1].result()
    assert scorer.wait() == [calls[0], calls[2]]
    assert heard.get(timeout=60) == 2
    assert scorer.wait() == scorer.finished() == []


def test_a_call_waits_while_the_most_copies_are_pending(study, gate):
    module = build()
    scorer = later(study, max_pending=1)
    first = scorer(module, 0)
    threading.Timer(0.2, gate.opened.set).start()
    second = scorer(module, 1)
    assert first.done()
    assert second.result() == first.result()


def test_an_error_is_that_of_its_call_alone(study):
    class Breaking(SmallNetwork):
        def forward(self, images):
            if self.fc.bias[0] > 10:
                raise RuntimeError("the bias is too large")
            return super().forward(images)

    torch.manual_seed(0)
    module = Breaking()
    scorer = later(study)
    first = scorer(module, 0)
    with torch.no_grad():
        module.fc.bias[0] = 11
    second = scorer(module, 1)
    with torch.no_grad():
        module.fc.bias[0] = 0
    third = scorer(module, 2)
    first.result()
    with pytest.raises(RuntimeError, match="the bias is too large"):
        second.result()
    assert repr(second) == "<PendingScores 1, failed>"
    assert "too large" in str(second.exception())
    assert third.exception() is None
    with torch.no_grad():
        module.fc.bias[0] = 11
    scorer(module, 7)
    with pytest.warns(RuntimeWarning, match="the scores of 7 failed: .*the bias is too large"):
        scorer.close()
    with pytest.raises(ValueError, match="the Scorer is closed"):
        scorer(module)


def test_nan_weights_are_an_error_of_one_sentence(study):
    module = build()
    torch.nn.init.constant_(module.conv2.weight, float("nan"))
    with later(study) as scorer, pytest.raises(ValueError, match="'conv2' has NaN"):
        # The first call opens the module, which NaN does not prevent.
        scorer(module).result()


def test_a_module_that_draws_random_numbers_is_refused(study):
    class Drawing(SmallNetwork):
        def forward(self, images):
            torch.rand(1)
            return super().forward(images)

    module, before = Drawing(), torch.get_rng_state()
    with pytest.raises(ValueError, match="Drawing draws random numbers in evaluation mode"):
        later(study)(module)
    assert torch.equal(torch.get_rng_state(), before)


def test_results_waits_and_submit_needs_the_mode(study):
    module = build()
    sync = Scorer(study, preprocessing=PREPARED)
    with later(study) as scorer:
        assert scorer.flat(scorer.results(module)) == sync(module)
        assert scorer.submit(module).result() == sync(module)
    with pytest.raises(ValueError, match="submit needs a Scorer with mode='async'"):
        sync.submit(module)


def test_changed_attributes_reach_the_copy(study):
    class Scaled(SmallNetwork):
        factor = 1.0

        def forward(self, images):
            return super().forward(images ** getattr(self, "power", 1))

    torch.manual_seed(0)
    module = Scaled()
    sync, scorer = Scorer(study, preprocessing=PREPARED), later(study)
    first = scorer(module).result()
    module.power = 2
    second = scorer(module).result()
    assert second == sync(module) != first


def test_filters_of_warnings_and_output_are_those_of_the_training(study, gate, capsys):
    """`catch_warnings` in two threads would leave wrong filters behind."""
    module = build()
    torch.nn.init.zeros_(module.conv2.weight)
    scorer = later(study)
    filters, show = list(warnings.filters), warnings.showwarning
    pending = scorer(module)
    gate.opened.set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        while not pending.done():
            assert sys.stdout is not None
            print("training goes on")
            time.sleep(0.001)
    assert caught == []
    assert (warnings.filters, warnings.showwarning) == (filters, show)
    assert "training goes on" in capsys.readouterr().out
    with pytest.warns(RuntimeWarning, match="'conv2'"):
        pending.result()
    pending.result()


def test_work_for_a_gpu_is_given_to_it_by_the_calling_thread(study, monkeypatch):
    """As on a CUDA device, with the device path of the CPU in place of a stream."""
    module = build()
    expected = Scorer(study, preprocessing=PREPARED)(module)
    threads = []
    monkeypatch.setattr(snapshots, "_launches", lambda device: True)
    monkeypatch.setattr(snapshots, "free_bytes", lambda device: 2**28)
    monkeypatch.setattr(
        snapshots.Snapshots, "_beside", lambda *_: contextlib.nullcontext(threads.append(1))
    )
    scorer = later(study)
    monkeypatch.setattr(scorer._scoring, "_where", "device")
    seen = []
    module.conv1.register_forward_hook(
        lambda *_: seen.append(threading.current_thread() is threading.main_thread())
    )
    calls = []
    for step in range(3):
        with torch.no_grad():
            module.fc.weight.normal_()
        calls.append((scorer(module, step), Scorer(study, preprocessing=PREPARED)(module)))
    for pending, sync in calls:
        assert pending.result() == pytest.approx(sync, abs=1e-3)
    assert calls[0][0].result()["brain/small/it/conv1"] == pytest.approx(
        expected["brain/small/it/conv1"], abs=1e-3
    )
    assert len(threads) == 3
    assert seen
    assert all(seen)
    with pytest.raises(ValueError, match="leave projection out, or pass device='cpu'"):
        later(study, projection=4)(module)


def test_a_copy_drops_what_a_network_computes_from_its_weights(study):
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 3)
            self.cached = {}

        def forward(self, images):
            if self.training:
                self.cached.clear()
            weight = self.cached.setdefault("weight", self.conv1.weight.exp())
            return nn.functional.conv2d(self.conv1(images), weight[:, :1].repeat(1, 4, 1, 1))

    torch.manual_seed(0)
    module = nn.Sequential(Caching(), nn.ReLU())
    sync, scorer = Scorer(study, preprocessing=PREPARED), later(study)
    for _ in range(2):
        with torch.no_grad():
            module[0].conv1.weight.normal_()
        assert scorer(module).result() == sync(module)


def test_a_hook_of_another_object_is_not_copied(study):
    class Logger:
        def __init__(self):
            self.lock, self.seen = threading.Lock(), 0

        def see(self, module, args, output):
            self.seen += 1

    module, logger = build(), Logger()
    module.conv1.register_forward_hook(logger.see)
    assert later(study)(module).result() == Scorer(study, preprocessing=PREPARED)(module)
    assert logger.seen


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_training_on_a_gpu_has_the_same_bits_and_scores(study, device):
    def train(scorer, wait):
        torch.manual_seed(0)
        module = SmallNetwork().cuda()
        optimiser = torch.optim.SGD(module.parameters(), 0.1)
        found = []
        for _ in range(5):
            optimiser.zero_grad()
            module(torch.rand(4, 3, 20, 20, device="cuda")).square().mean().backward()
            optimiser.step()
            if scorer is not None:
                found.append(scorer(module))
                if wait:
                    found[-1] = found[-1].result()
        weights = [value.cpu().numpy().tobytes() for value in module.state_dict().values()]
        return [*weights, torch.rand(1, device="cuda").item()], found

    expected, _ = train(None, False)
    with later(study, device=device) as scorer:
        bits, pending = train(scorer, False)
        assert bits == expected
        assert train(scorer, True)[1] == [each.result() for each in pending]
    bits, found = train(Scorer(study, preprocessing=PREPARED, device=device), False)
    assert bits == expected
    for ours, theirs in zip(found, pending, strict=True):
        assert ours == pytest.approx(theirs.result(), abs=1e-3)
