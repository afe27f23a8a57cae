"""The callback of Lightning: bits, loggers, monitors, resumed and asynchronous trainings."""

import concurrent.futures
import csv
import logging
from pathlib import Path

import pytest
import small_study
import small_training
import torch

import fastrdm

lightning = pytest.importorskip("lightning.pytorch")
from fastrdm.interop.lightning import LightningScoring  # noqa: E402

BEST = "brain/small/it/best"
DEFAULTS = {"enable_checkpointing": False, "log_every_n_steps": 1}


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return small_study.write_study(tmp_path_factory.mktemp("data") / "small")


class SmallLightning(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = small_training.make_network()
        self.loss = torch.nn.CrossEntropyLoss()
        self.order = []

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, _):
        return self.loss(self(batch[0]), batch[1])

    def validation_step(self, batch, _):
        if not self.trainer.sanity_checking:
            self.order.append(dict(self.trainer.callback_metrics))
        self.log("val_loss", self.loss(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def fit(folder, *callbacks, epochs=small_training.EPOCHS, validate=True, resume=None, **options):
    small_training.seed()
    module = SmallLightning()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **DEFAULTS | {"logger": lightning.loggers.CSVLogger(folder, name="csv")} | options,
    )
    loaders = [small_training.loader()] + [small_training.loader()] * validate
    trainer.fit(module, *loaders, ckpt_path=resume)
    return trainer, module


def scored_later(scorer, **options):
    """A callback without a score before the training."""
    return LightningScoring(scorer, at_start=False, **options)


def rows(trainer, name=BEST):
    """Step → value of the metrics.csv."""
    with Path(trainer.logger.log_dir, "metrics.csv").open() as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row.get(name)}


def counting(offset=0):
    """A scorer whose scores count its calls."""
    calls = []

    def scorer(module):
        assert isinstance(module, torch.nn.Module)
        calls.append(module)
        return {BEST: float(len(calls) + offset)}

    scorer.calls = calls
    return scorer


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_scored_training_ends_with_the_same_bits(tmp_path, study, mode):
    scorer = fastrdm.Scorer(study, network="net", mode=mode)
    plain, alone = fit(tmp_path / "plain")
    scoring = LightningScoring(scorer, every_n_steps=1, every_n_epochs=1)
    trainer, module = fit(tmp_path / "scored", scoring)
    assert small_training.bits(module, trainer.optimizers[0]) == small_training.bits(
        alone, plain.optimizers[0]
    )
    assert trainer.callback_metrics["val_loss"] == plain.callback_metrics["val_loss"]
    assert [each.step for each in scoring.history] == list(range(small_training.STEPS + 1))
    assert scoring.history[-1].scores == fastrdm.Scorer(study)(module.net)
    assert scoring.history[-1].scores.keys() == {
        f"brain/small/it/{x}" for x in ("conv", "fc", "best")
    }
    assert rows(trainer) == {each.step: each.scores[BEST] for each in scoring.history}


def test_scores_are_there_before_the_validation(tmp_path):
    _, module = fit(tmp_path, scored_later(counting()))
    assert [float(metrics[BEST]) for metrics in module.order] == [1, 1, 2, 2]


@pytest.mark.parametrize("validate", [True, False])
def test_checkpoints_and_early_stopping_monitor_scores(tmp_path, validate):
    scores = iter([10.0, 30.0, 20.0, 15.0, 14.0])
    scoring = scored_later(lambda module: {BEST: next(scores)})
    best = lightning.callbacks.ModelCheckpoint(
        tmp_path, monitor=BEST, mode="max", filename="{epoch}"
    )
    stop = lightning.callbacks.EarlyStopping(BEST, mode="max", patience=2)
    # Early stopping comes first in the list, and still sees the score of its epoch.
    trainer, _ = fit(
        tmp_path, stop, best, scoring, epochs=5, validate=validate, enable_checkpointing=True
    )
    assert best.best_model_path.endswith("epoch=1.ckpt")
    assert float(best.best_model_score) == 30
    assert trainer.current_epoch == 4
    assert stop.stopped_epoch == 3
    assert len(scoring.history) == 4


def test_checkpoints_of_steps_monitor_scores(tmp_path):
    best = lightning.callbacks.ModelCheckpoint(
        tmp_path, monitor=BEST, mode="max", every_n_train_steps=1, save_top_k=1, filename="{step}"
    )
    scores = iter([1.0, 3.0, 2.0, 0.0])
    scoring = scored_later(lambda module: {BEST: next(scores)}, every_n_steps=1)
    fit(tmp_path, best, scoring, enable_checkpointing=True)
    assert best.best_model_path.endswith("step=2.ckpt")


def test_checkpoints_of_validations_within_an_epoch_monitor_their_scores(tmp_path):
    best = lightning.callbacks.ModelCheckpoint(
        tmp_path, monitor=BEST, mode="max", filename="{step}-{" + BEST + ":.1f}"
    )
    scores = iter([1.0, 3.0, 2.0, 0.0])
    scoring = scored_later(lambda module: {BEST: next(scores)}, every_n_steps=1)
    fit(tmp_path, best, scoring, enable_checkpointing=True, val_check_interval=1)
    assert best.best_model_path.endswith(f"step=2-{BEST}=3.0.ckpt")


def test_a_second_training_begins_a_history(tmp_path):
    scorer = counting()
    scoring = scored_later(scorer, every_n_epochs=5)
    fit(tmp_path / "a", scoring)
    fit(tmp_path / "b", scoring)
    assert [each.scores for each in scoring.history] == [{BEST: 2.0}]


def test_accumulated_batches_are_one_step(tmp_path):
    scoring = scored_later(counting(), every_n_steps=1, every_n_epochs=0, at_end=False)
    fit(tmp_path, scoring, accumulate_grad_batches=2)
    assert [each.step for each in scoring.history] == [1, 2]


def test_an_epoch_that_ends_early_is_scored(tmp_path):
    scoring = scored_later(counting())
    fit(tmp_path, scoring, max_steps=3, epochs=-1)
    assert [(each.step, each.epoch) for each in scoring.history] == [(2, 0), (3, 1)]


@pytest.mark.parametrize("limit", [1, 2])
def test_limited_epochs_are_scored_before_their_validation(tmp_path, limit):
    _, module = fit(tmp_path, scored_later(counting()), limit_train_batches=limit)
    assert [float(metrics[BEST]) for metrics in module.order] == [1, 1, 2, 2]


def test_a_resumed_training_continues_with_its_history(tmp_path):
    whole = LightningScoring(counting())
    keep = {"enable_checkpointing": True}
    fit(tmp_path / "a", whole, epochs=3, **keep)
    first = LightningScoring(counting())
    trainer, _ = fit(tmp_path / "b", first, epochs=1, **keep)
    path = trainer.checkpoint_callback.best_model_path
    resumed = LightningScoring(counting(offset=2))
    fit(tmp_path / "c", resumed, epochs=3, resume=path, **keep)
    assert [each.step for each in resumed.history] == [0, 2, 4, 6]
    assert resumed.history == whole.history


def test_late_scores_are_logged_under_their_step(tmp_path):
    futures = []

    def later(module):
        if futures:
            futures[-1].set_result({BEST: float(len(futures))})
        futures.append(concurrent.futures.Future())
        if len(futures) == small_training.STEPS:
            futures[-1].set_result({BEST: float(len(futures))})
        return futures[-1]

    trainer, _ = fit(tmp_path, scored_later(later, every_n_steps=1))
    assert rows(trainer) == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}


def test_the_tensorboard_logger_has_the_scores(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = lightning.loggers.TensorBoardLogger(tmp_path)
    fit(tmp_path, scored_later(counting()), logger=logger)
    events = accumulator.EventAccumulator(logger.log_dir).Reload()
    assert [(each.step, each.value) for each in events.Scalars(BEST)] == [(2, 1.0), (4, 2.0)]


def test_two_scorers_keep_their_histories(tmp_path, study):
    (tmp_path / "data").mkdir()
    other = fastrdm.Scorer(small_study.write_study(tmp_path / "data" / "other"), network="net")
    options = {"enable_checkpointing": True}

    def pair():
        return scored_later(fastrdm.Scorer(study, network="net")), scored_later(other)

    first = pair()
    trainer, _ = fit(tmp_path / "a", *first, epochs=1, **options)
    resumed = pair()
    path = trainer.checkpoint_callback.best_model_path
    fit(tmp_path / "b", *resumed, epochs=1, resume=path, **options)
    assert [each.history for each in resumed] == [each.history for each in first]
    assert first[0].history != first[1].history


def test_a_module_without_the_network_is_refused_before_the_training(tmp_path, study):
    scoring = LightningScoring(fastrdm.Scorer(study, network="model"))
    with pytest.raises(ValueError, match=r"SmallLightning has no module 'model'.*net, loss"):
        fit(tmp_path, scoring)
    assert scoring._trainer.global_step == 0


def test_monitors_of_asynchronous_scores_are_refused(tmp_path):
    scorer = counting()
    scorer.mode = "async"
    best = lightning.callbacks.ModelCheckpoint(tmp_path, monitor=BEST)
    with pytest.raises(ValueError, match=f"ModelCheckpoint monitors '{BEST}'.*mode='sync'"):
        fit(tmp_path, scored_later(scorer), best, enable_checkpointing=True)
    assert not scorer.calls


def test_monitors_of_unknown_scores_are_refused_before_the_training(tmp_path):
    stop = lightning.callbacks.EarlyStopping("brain/small/v1/best")
    scoring = LightningScoring(counting())
    words = f"EarlyStopping monitors 'brain/small/v1/best', which is not a score.*nearest is {BEST}"
    with pytest.raises(ValueError, match=words):
        fit(tmp_path, scoring, stop)
    assert scoring._trainer.global_step == 0


def test_errors_of_scores_end_the_training_or_are_warnings(tmp_path):
    def failing(module):
        raise MemoryError("cuda:1 has too little memory")

    with pytest.raises(MemoryError, match="too little memory"):
        fit(tmp_path / "a", scored_later(failing))
    with pytest.warns(RuntimeWarning, match="step 2 of the training could not be scored: cuda:1"):
        trainer, _ = fit(tmp_path / "b", scored_later(failing, on_error="warn"))
    assert trainer.global_step == small_training.STEPS
