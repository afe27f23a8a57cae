"""Checkpoints scored against brain data by a thread beside the training."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastrdm._base import one_line, require
from fastrdm.runtimes import Architecture
from fastrdm.scoring import RSA, Store, Sweep
from fastrdm.studies import Study, synthetic_notice
from models.training.curve import draw_curve
from models.training.run import TrainingRun
from models.training.score_table import ScoreTable, results_by_epoch

# The training uses the other processors.
_THREADS = 1
_LABELS = r"epoch_(?P<epoch>\d+)\.pth$"


class RunScorer:
    """Scores checkpoints in the order in which they are submitted, into `scores.db`, `scores.csv` and `curve.png`.

    Each checkpoint is a sweep of its own, so results that the store holds for the same weights, graph and studies are
    not computed again. Used as a context, it drops at the end what has not begun. `graph` is a file of `export_onnx`;
    `report` is called with one line for each checkpoint, scored or not. Errors do not stop the training. Without
    `curve`, there is no `curve.png`.

    Raise ValueError if other weights cannot replace those in the graph, or `scores.db` is not a store.
    """

    def __init__(
        self,
        run: TrainingRun,
        graph: Path,
        studies: Sequence[Study],
        report: Callable[[str], None],
        *,
        curve: bool = True,
    ) -> None:
        require("onnxruntime", "onnx", "to score checkpoints")
        if curve:
            require("matplotlib", "plot", "to draw the curve of scores")
        self._curve = curve
        self._architecture = Architecture.read(graph)
        self._run, self._studies, self._report = run, studies, report
        self._store = run.folder / "scores.db"
        self._table: ScoreTable | None = None
        if self._store.exists():
            Store(self._store).close()
        self._pool = ThreadPoolExecutor(1, "scoring")

    def __enter__(self) -> "RunScorer":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, epoch: int, path: Path) -> None:
        """Score a checkpoint after those submitted before."""
        self._pool.submit(self._score, epoch, path)

    def finish(self) -> None:
        """Wait for all submitted checkpoints."""
        self._pool.submit(lambda: None).result()

    def report_table(self) -> None:
        """Report the scores of all epochs, if there are any."""
        if self._table is not None:
            for line in self._table.lines():
                self._report(line)

    def _score(self, epoch: int, path: Path) -> None:
        events: list[dict[str, Any]] = []
        try:
            with Sweep(
                [path],
                [self._architecture],
                self._studies,
                measures=[RSA],
                store=self._store,
                labels=_LABELS,
                engine="in-process",
                provider="cpu",
                n_threads=_THREADS,
                retry_failed=True,
            ) as sweep:
                summary = sweep.run(on_event=events.append)
                rows = list(sweep.rows())
            if summary.failed:
                error = next(event["error"] for event in events if event["event"] == "failed")
                self._report(f"epoch {epoch} could not be scored: {error}")
            elif summary.scored or summary.known:
                if self._curve:
                    self._run.write("curve.png", draw_curve(rows, synthetic_notice(self._studies)))
                self._table = ScoreTable(results_by_epoch(rows), self._studies)
                self._run.write("scores.csv", self._table.csv())
                self._report(f"epoch {epoch} scored: {self._table.sentence(epoch)}")
        # No error of scoring may stop the training.
        except Exception as error:
            self._report(f"epoch {epoch} could not be scored: {one_line(error)}")
