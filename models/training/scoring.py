"""Networks in training scored against brain data, and their scores kept under the files of their checkpoints."""

import contextlib
import copy
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from fastrdm._base import one_line, recorded_warnings, require
from fastrdm.live import Scorer
from fastrdm.networks import Taps, load_weights
from fastrdm.runtimes import TorchModel
from fastrdm.scoring import RSA, CheckpointStore, Result, module_pipeline, scorers_of
from fastrdm.studies import Study, synthetic_notice
from models.training.curve import draw_curve
from models.training.network import scored_preprocessing
from models.training.run import TrainingRun
from models.training.score_table import ScoreTable, results_by_epoch

# Results, and warnings of scoring.
_Outcome: TypeAlias = tuple[tuple[Result, ...], Sequence[Warning]]


@dataclass(frozen=True)
class ScoringOptions:
    """How a network is scored: the studies, and arguments of `fastrdm.Scorer`.

    `taps` are its layers, by default the network's own; `size` is the height and width of the stimuli, by default those
    of its preprocessing. In `mode` "async", a copy of the weights is scored while the training goes on. Without
    `curve`, there is no `curve.png`.
    """

    studies: Sequence[Study]
    device: str
    taps: Taps | None = None
    size: int | None = None
    mode: str = "async"
    curve: bool = True


class RunScorer:
    """Scores a network in training at its checkpoints, into `scores.db`, `scores.csv` and `curve.png`.

    Results that the store holds for the same weights, network and studies are not computed again. Used as a context, it
    ends with the last score that has begun. `report` is called with one line for each checkpoint, scored or not. Errors
    do not stop the training.

    Raise ValueError if the network does not run on the stimuli or lacks a layer, an option is not valid, or `scores.db`
    is not a store. The network does not change.
    """

    def __init__(
        self,
        run: TrainingRun,
        network: torch.nn.Module,
        arch: str,
        options: ScoringOptions,
        report: Callable[[str], None],
    ) -> None:
        if options.curve:
            require("matplotlib", "plot", "to draw the curve of scores")
        self._run, self._network, self._report = run, network, report
        self._studies, self._curve = options.studies, options.curve
        preprocessing = scored_preprocessing(network, options.size)
        chosen: dict[str, Any] = {"taps": options.taps, "preprocessing": preprocessing}
        self._scorer = Scorer(
            options.studies, measures=[RSA], device=options.device, mode=options.mode, **chosen
        )
        # Also finds what cannot be scored before the training begins.
        TorchModel(copy.deepcopy(network), **chosen, device="cpu")
        self._store = CheckpointStore(
            run.folder / "scores.db",
            module_pipeline(arch, network, **chosen),
            options.studies,
            scorers_of(options.studies, [RSA]),
            f"torch:{options.device}",
        )
        self._table: ScoreTable | None = None
        self._pool = ThreadPoolExecutor(1, "scoring")

    def __enter__(self) -> "RunScorer":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        self._scorer.close()

    def submit(self, epoch: int, path: Path) -> None:
        """Score the network as it is now, whose weights are in a file; in mode "async" while the training goes on."""
        self._score(epoch, path, lambda: self._network)

    def catch_up(self, checkpoints: Mapping[int, Path]) -> None:
        """Score the checkpoints of earlier starts that have no scores."""
        # Not the network itself, which is trained on.
        spare = functools.cache(lambda: copy.deepcopy(self._network))
        for epoch, path in checkpoints.items():

            def loaded(path: Path = path) -> torch.nn.Module:
                load_weights(spare(), path)
                return spare()

            self._score(epoch, path, loaded)
        # The files of a run that was killed may lack scores that the store has.
        self._pool.submit(self._write)

    def finish(self) -> None:
        """Wait for all scores."""
        self._pool.submit(lambda: None).result()

    def report_table(self) -> None:
        """Report the scores of all epochs, if there are any."""
        if self._table is not None:
            for line in self._table.lines():
                self._report(line)

    def _score(self, epoch: int, path: Path, network: Callable[[], torch.nn.Module]) -> None:
        start = time.perf_counter()
        # No error of scoring may stop the training.
        try:
            if self._store.recognise(path, _labels(path)):
                return
            wait = self._begin(epoch, network())
        except Exception as error:
            self._pool.submit(self._fail, epoch, path, error)
        else:
            self._pool.submit(self._keep, epoch, path, wait, start)

    def _begin(self, epoch: int, network: torch.nn.Module) -> Callable[[], _Outcome]:
        """Score a network, or begin to; return the function that returns results and warnings."""
        if self._scorer.mode == "async":
            pending = self._scorer.submit(network, epoch)
            return lambda: _recorded(pending.results)
        outcome = _recorded(lambda: self._scorer.results(network, epoch))
        return lambda: outcome

    def _keep(self, epoch: int, path: Path, wait: Callable[[], _Outcome], start: float) -> None:
        try:
            results, warnings = wait()
            seconds = time.perf_counter() - start
            self._store.add(path, results, _labels(path), seconds=seconds, warnings=warnings)
        except Exception as error:
            self._fail(epoch, path, error)
        else:
            self._write(epoch)

    def _write(self, epoch: int | None = None) -> None:
        """Write the table and the curve of what the store holds, and report the scores of an epoch."""
        try:
            rows = self._store.rows()
            if not rows:
                return
            self._table = ScoreTable(results_by_epoch(rows), self._studies)
            if epoch is not None:
                self._report(f"epoch {epoch} scored: {self._table.sentence(epoch)}")
            self._run.write("scores.csv", self._table.csv())
            if self._curve:
                self._run.write("curve.png", draw_curve(rows, synthetic_notice(self._studies)))
        except Exception as error:
            self._report(f"scores.csv and curve.png could not be written: {one_line(error)}")

    def _fail(self, epoch: int, path: Path, error: Exception) -> None:
        self._report(f"epoch {epoch} could not be scored: {one_line(error)}")
        # If it is the store that cannot be written, the line above says so.
        with contextlib.suppress(Exception):
            self._store.fail(path, error, _labels(path))


def _labels(path: Path) -> dict[str, str]:
    return {"epoch": path.stem.removeprefix("epoch_")}


def _recorded(score: Callable[[], tuple[Result, ...]]) -> _Outcome:
    with recorded_warnings() as caught:
        results = score()
    return results, caught
