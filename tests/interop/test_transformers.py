"""The callback of the Hugging Face Trainer: bits, reports, the best model, resumed and asynchronous trainings."""

import concurrent.futures
import gc

import pytest
import small_study
import small_training
from small_transformer import LabelledImages, SmallTransformer

import fastrdm

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from fastrdm.interop.transformers import TransformersScoring  # noqa: E402

BEST = "brain/small/it/best"


@pytest.fixture(autouse=True, scope="module")
def _quick_garbage_collection():
    """The Trainer collects garbage before each training, which takes a second if much is loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return small_study.write_study(tmp_path_factory.mktemp("data") / "small")


class Reports(transformers.TrainerCallback):
    """Keeps what the Trainer reports, as W&B or TensorBoard would."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append((state.global_step, dict(logs)))


def make(folder, *callbacks, **options):
    small_training.seed()
    arguments = transformers.TrainingArguments(
        str(folder),
        use_cpu=True,
        num_train_epochs=options.pop("epochs", small_training.EPOCHS),
        per_device_train_batch_size=small_training.BATCH,
        disable_tqdm=True,
        **{"report_to": [], "save_strategy": "no", "logging_strategy": "steps", "logging_steps": 1}
        | options,
    )
    images = LabelledImages()
    return transformers.Trainer(
        SmallTransformer(),
        arguments,
        train_dataset=images,
        eval_dataset=images,
        callbacks=list(callbacks),
    )


def fit(folder, scorer, *callbacks, resume=None, log=(), **options):
    scored = {"at_start": False} | {name: options.pop(name) for name in SCORED & options.keys()}
    trainer = make(folder, *callbacks, **options)
    scoring = TransformersScoring(scorer, trainer, **scored)
    trainer.add_callback(scoring)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, scoring


SCORED = {"every_n_steps", "every_n_epochs", "at_start", "at_end", "on_error"}


def counting(module):
    counting.calls += 1
    return {BEST: float(counting.calls)}


@pytest.fixture(autouse=True)
def _no_calls():
    counting.calls = 0


def logged(trainer, name=BEST):
    return {row["step"]: row[name] for row in trainer.state.log_history if name in row}


@pytest.mark.parametrize(
    "options", [{}, {"network": "net"}, {"mode": "async"}], ids=["sync", "network", "async"]
)
def test_a_scored_training_ends_with_the_same_bits(tmp_path, study, options):
    plain = make(tmp_path / "plain", eval_strategy="epoch")
    plain.train()
    trainer, scoring = fit(
        tmp_path / "scored",
        fastrdm.Scorer(study, **options),
        every_n_steps=1,
        every_n_epochs=1,
        at_start=True,
        eval_strategy="epoch",
    )
    assert small_training.bits(trainer.model, trainer.optimizer) == small_training.bits(
        plain.model, plain.optimizer
    )
    for name in ("loss", "eval_loss"):
        assert logged(trainer, name) == logged(plain, name)
    assert [each.step for each in scoring.history] == list(range(small_training.STEPS + 1))
    assert scoring.history[-1].scores == fastrdm.Scorer(study)(trainer.model)
    assert scoring.history[-1].scores.keys() == {
        f"brain/small/it/{x}" for x in ("conv", "fc", "best")
    }
    assert logged(trainer) == {each.step: each.scores[BEST] for each in scoring.history}


def test_reports_have_the_scores_and_all_that_they_had_before(tmp_path):
    reports = Reports()
    trainer, _ = fit(tmp_path, counting, reports, every_n_steps=2, every_n_epochs=0)
    assert [(step, logs[BEST]) for step, logs in reports.logs if BEST in logs] == [(2, 1), (4, 2)]
    assert sorted(logged(trainer, "loss")) == [1, 2, 3, 4]
    assert [logs["epoch"] for _, logs in reports.logs if BEST in logs] == [1, 2]


def test_tensorboard_has_the_scores(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(tmp_path, counting, report_to=["tensorboard"])
    (path,) = {file.parent for file in tmp_path.rglob("events.out.*")}
    events = accumulator.EventAccumulator(str(path)).Reload()
    found = [(each.step, each.value) for each in events.Scalars(f"train/{BEST}")]
    assert found == [(2, 1.0), (4, 2.0)]


def test_the_best_model_and_early_stopping_depend_on_scores(tmp_path):
    scores = iter([10.0, 30.0, 20.0, 15.0, 14.0])
    # Early stopping comes first in the list, and still sees the score.
    trainer, scoring = fit(
        tmp_path,
        lambda module: {BEST: next(scores)},
        transformers.EarlyStoppingCallback(2),
        epochs=5,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model=BEST,
    )
    assert trainer.state.best_metric == 30
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-4")
    assert [each.step for each in scoring.history] == [2, 4, 6, 8]
    assert logged(trainer) == {2: 10, 4: 30, 6: 20, 8: 15}
    assert BEST not in trainer.evaluate()


def test_evaluations_are_scored_if_the_best_model_depends_on_it(tmp_path):
    trainer, scoring = fit(
        tmp_path,
        counting,
        every_n_epochs=2,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        metric_for_best_model=f"eval_{BEST}",
    )
    assert [each.step for each in scoring.history] == [1, 2, 3, 4]
    assert trainer.state.best_metric == 4


def test_the_end_is_scored_once(tmp_path):
    _, scoring = fit(tmp_path / "a", counting, every_n_epochs=5)
    assert [each.step for each in scoring.history] == [4]
    _, scoring = fit(tmp_path / "b", counting, every_n_epochs=5, at_end=False)
    assert not scoring.history
    _, scoring = fit(tmp_path / "c", counting, max_steps=3)
    assert [each.step for each in scoring.history] == [2, 3]


def test_a_second_training_begins_a_history(tmp_path):
    trainer, scoring = fit(tmp_path, counting, every_n_epochs=5, at_start=True)
    trainer.train()
    assert [each.step for each in scoring.history] == [0, 4]
    assert counting.calls == 4


def test_accumulated_batches_are_one_step(tmp_path):
    _, scoring = fit(
        tmp_path, counting, every_n_steps=1, at_end=False, gradient_accumulation_steps=2
    )
    assert [each.step for each in scoring.history] == [1, 2]


def test_a_resumed_training_continues_the_log(tmp_path):
    keep = {"save_strategy": "epoch", "at_start": True}
    whole, _ = fit(tmp_path / "a", counting, epochs=3, **keep)
    counting.calls = 0
    fit(tmp_path / "b", counting, epochs=1, **keep)
    resumed, _ = fit(
        tmp_path / "b", counting, epochs=3, resume=str(tmp_path / "b" / "checkpoint-2"), **keep
    )
    assert logged(resumed) == logged(whole) == {0: 1, 2: 2, 4: 3, 6: 4}


def test_late_scores_are_logged_under_their_step(tmp_path):
    futures = []

    def later(module):
        if futures:
            futures[-1].set_result({BEST: float(len(futures))})
        futures.append(concurrent.futures.Future())
        if len(futures) == small_training.STEPS:
            futures[-1].set_result({BEST: float(len(futures))})
        return futures[-1]

    reports = Reports()
    trainer, _ = fit(tmp_path, later, reports, every_n_steps=1)
    assert logged(trainer) == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}
    assert [(step, logs["epoch"]) for step, logs in reports.logs if BEST in logs] == [
        (1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0),
    ]  # fmt: skip
    assert sorted(logged(trainer, "loss")) == [1, 2, 3, 4]


@pytest.mark.parametrize(("trainer", "name"), [([], "NoneType"), (["trainer"], "str")])
def test_a_callback_without_a_trainer_is_refused(trainer, name):
    words = (
        f"trainer must be a transformers.Trainer, not {name}; make the trainer first, then call"
        r" trainer.add_callback\(TransformersScoring\(scorer, trainer\)\)"
    )
    with pytest.raises(TypeError, match=words):
        TransformersScoring(counting, *trainer)


def test_a_callback_of_another_trainer_is_refused(tmp_path):
    trainer = make(tmp_path)
    trainer.add_callback(TransformersScoring(counting, make(tmp_path)))
    with pytest.raises(ValueError, match="this TransformersScoring was made for another Trainer"):
        trainer.train()
    assert trainer.state.global_step == counting.calls == 0


def test_unknown_scores_as_metric_are_refused_before_the_training(tmp_path):
    words = f"metric_for_best_model is 'brain/x/it/best', which is not a score.*nearest is {BEST}"
    with pytest.raises(ValueError, match=words):
        fit(
            tmp_path,
            counting,
            at_start=True,
            eval_strategy="epoch",
            metric_for_best_model="brain/x/it/best",
        )
    assert counting.calls == 1


def test_errors_of_scores_end_the_training_or_are_warnings(tmp_path):
    def failing(module):
        raise MemoryError("cuda:1 has too little memory")

    with pytest.raises(MemoryError, match="too little memory"):
        fit(tmp_path / "a", failing)
    with pytest.warns(RuntimeWarning, match="step 2 of the training could not be scored: cuda:1"):
        trainer, _ = fit(tmp_path / "b", failing, on_error="warn")
    assert trainer.state.global_step == small_training.STEPS
