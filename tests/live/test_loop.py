"""Scores in plain training loops: when, under which step, and without a change of the training."""

import concurrent.futures

import pytest
import small_study
import small_training
import torch

import fastrdm
from fastrdm.live import LoopScoring, Schedule, ScoreHistory, StepScores

KEYS = {"brain/small/it/conv", "brain/small/it/fc", "brain/small/it/best"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return small_study.write_study(tmp_path_factory.mktemp("data") / "small")


def counting(module):
    """A scorer whose scores count its calls."""
    counting.calls += 1
    return {"brain/a/it/best": float(counting.calls)}


@pytest.fixture(autouse=True)
def _no_calls():
    counting.calls = 0


def run(scoring, epochs=3, steps=2):
    with scoring:
        for _ in range(epochs):
            for _ in range(steps):
                scoring.after_step()
            scoring.after_epoch()
    return [each.step for each in scoring.history]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, [0, 2, 4, 6]),
        ({"every_n_epochs": 2, "at_start": False}, [4, 6]),
        ({"every_n_epochs": 2, "at_end": False, "at_start": False}, [4]),
        ({"every_n_steps": 4, "at_start": False}, [4, 6]),
        ({"every_n_steps": 4, "at_end": False, "at_start": False}, [4]),
        ({"every_n_steps": 3, "every_n_epochs": 1, "at_start": False}, [2, 3, 4, 6]),
        ({"every_n_epochs": 0, "at_end": False}, [0]),
        ({"every_n_epochs": 3}, [0, 6]),
    ],
)
def test_steps_that_are_scored(options, steps):
    logged = []
    scoring = LoopScoring(
        counting,
        torch.nn.Linear(1, 1),
        log=lambda scores, step: logged.append((step, scores)),
        **options,
    )
    assert run(scoring) == steps
    assert logged == [(step, {"brain/a/it/best": i + 1.0}) for i, step in enumerate(steps)]
    assert counting.calls == len(steps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every_n_epochs": -1}, "every_n_epochs must be at least 0, not -1"),
        ({"every_n_steps": 1.5}, "every_n_steps must be an integer, not 1.5"),
        ({"every_n_epochs": 0, "at_start": False, "at_end": False}, "nothing would be scored"),
        ({"on_error": "ignore"}, "on_error 'ignore' is not one of: raise, warn"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        LoopScoring(counting, torch.nn.Linear(1, 1), **options)


def test_a_study_is_not_a_scorer():
    with pytest.raises(TypeError, match=r"scorer must be a fastrdm.Scorer, not str"):
        LoopScoring("study", torch.nn.Linear(1, 1))


def test_steps_outside_the_context_are_refused():
    scoring = LoopScoring(counting, torch.nn.Linear(1, 1))
    with pytest.raises(RuntimeError, match=r"with LoopScoring\(…\) as scoring"):
        scoring.after_step()


def train(scorer, **options):
    small_training.seed()
    network = small_training.make_network()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    scoring = LoopScoring(scorer or counting, network, **options)
    loss_of = torch.nn.CrossEntropyLoss()
    with scoring:
        for _ in range(small_training.EPOCHS):
            for images, labels in small_training.loader():
                optimizer.zero_grad()
                loss_of(network(images), labels).backward()
                optimizer.step()
                if scorer:
                    scoring.after_step()
            if scorer:
                scoring.after_epoch()
    return scoring.history, small_training.bits(network, optimizer)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_scored_training_ends_with_the_same_bits(study, mode):
    _, plain = train(None)
    history, scored = train(fastrdm.Scorer(study, mode=mode), every_n_steps=1, every_n_epochs=1)
    assert scored == plain
    assert [each.step for each in history] == list(range(small_training.STEPS + 1))
    assert all(each.scores.keys() == KEYS for each in history)
    assert history[0].scores != history[-1].scores


def test_a_resumed_loop_continues_with_its_history():
    whole = LoopScoring(counting, torch.nn.Linear(1, 1))
    run(whole, epochs=2)
    counting.calls = 0
    first = LoopScoring(counting, torch.nn.Linear(1, 1))
    run(first, epochs=1)
    resumed = LoopScoring(counting, torch.nn.Linear(1, 1))
    resumed.load_state_dict(first.state_dict())
    run(resumed, epochs=1)
    assert resumed.history == whole.history
    assert (resumed.step, resumed.epoch) == (4, 2)


def test_the_state_can_be_loaded_as_weights_only(tmp_path):
    scoring = LoopScoring(counting, torch.nn.Linear(1, 1))
    run(scoring)
    torch.save(scoring.state_dict(), tmp_path / "state.pt")
    resumed = LoopScoring(counting, torch.nn.Linear(1, 1))
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.history == scoring.history


def test_late_scores_are_logged_under_their_step_and_in_order():
    futures = [concurrent.futures.Future() for _ in range(3)]
    given, logged = iter(futures), []
    history = ScoreHistory(lambda module: next(given), logged.append)
    module = torch.nn.Linear(1, 1)
    for step in (1, 2, 3):
        history.score(module, step, 0)
    futures[1].set_result({"a": 2.0})
    history.collect()
    assert not logged
    futures[0].set_result({"a": 1.0})
    history.collect()
    assert logged == [StepScores(1, 0, {"a": 1.0}), StepScores(2, 0, {"a": 2.0})]
    assert history.of_step(2) == {"a": 2.0}
    assert history.of_step(3) == {}
    futures[2].set_result({"a": 3.0})
    history.collect(wait=True)
    assert [each.step for each in history.steps] == [1, 2, 3]


def test_an_interrupted_loop_logs_what_is_complete():
    done, late = concurrent.futures.Future(), concurrent.futures.Future()
    answers, logged = iter([done, late]), []
    scoring = LoopScoring(
        lambda module: next(answers),
        torch.nn.Linear(1, 1),
        every_n_steps=1,
        at_start=False,
        log=lambda scores, step: logged.append(step),
    )

    def loop():
        with scoring:
            scoring.after_step()
            scoring.after_step()
            done.set_result({})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert logged == [1]


def failing(module):
    raise ValueError("no layer 'x'")


def late_failure(module):
    future = concurrent.futures.Future()
    future.set_exception(MemoryError("cuda:1 has too little memory"))
    return future


def test_an_error_of_late_scores_does_not_replace_that_of_the_loop():
    late = concurrent.futures.Future()

    def loop():
        with LoopScoring(lambda module: late, torch.nn.Linear(1, 1)):
            late.set_exception(MemoryError("cuda:1 has too little memory"))
            raise KeyboardInterrupt

    words = "step 0 of the training could not be scored: cuda:1"
    with pytest.warns(RuntimeWarning, match=words), pytest.raises(KeyboardInterrupt):
        loop()


@pytest.mark.parametrize(("scorer", "kind"), [(failing, ValueError), (late_failure, MemoryError)])
def test_errors_end_the_loop(scorer, kind):
    with pytest.raises(kind):
        run(LoopScoring(scorer, torch.nn.Linear(1, 1)))


def test_a_scorer_without_scores_is_refused():
    with pytest.raises(TypeError, match="scorer must return a dict of numbers, not NoneType"):
        run(LoopScoring(lambda module: None, torch.nn.Linear(1, 1)))


@pytest.mark.parametrize(
    ("scorer", "words"),
    [(failing, "no layer 'x'"), (late_failure, "cuda:1 has too little memory")],
)
def test_errors_can_be_warnings(scorer, words):
    scoring = LoopScoring(scorer, torch.nn.Linear(1, 1), on_error="warn", at_start=False)
    with pytest.warns(RuntimeWarning, match=f"step 2 of the training .* {words}"):
        assert run(scoring, epochs=1) == []


def test_a_schedule_without_numbers_is_every_epoch():
    assert Schedule() == Schedule(every_n_epochs=1, every_n_steps=0)
    assert Schedule(every_n_steps=5) == Schedule(every_n_epochs=0, every_n_steps=5)


def test_scores_of_a_step_print_as_one_line():
    found = StepScores(300, 2.5, {"brain/92/it/fc": 40.0, "brain/92/it/best": 45.25})
    assert str(found) == "step 300, epoch 2.5: brain/92/it/best 45.2"
    assert str(StepScores(1, 0, {"a": 1.0})) == "step 1, epoch 0: 1 score"
