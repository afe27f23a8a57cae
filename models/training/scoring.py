"""Checkpoints scored against brain data by a thread beside the training."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastrdm._base import one_line, require
from fastrdm.runtimes import Architecture
from fastrdm.scoring import Store, Sweep
from fastrdm.studies import Study, synthetic_notice
from models.training.curve import draw_curve
from models.training.run import TrainingRun

# The training uses the other processors.
_THREADS = 1
_LABELS = r"epoch_(?P<epoch>\d+)\.pth$"


class Scorer:
    """Scores checkpoints in the order in which they are submitted, into `scores.db`, and draws `curve.png`.

    Each checkpoint is a sweep of its own, so results that the store holds for the same weights, graph and studies are
    not computed again. Used as a context, it drops at the end what has not begun. `graph` is a file of `export_onnx`;
    `report` is called with one line for each checkpoint, scored or not. Errors do not stop the training.

    Raise ValueError if other weights cannot replace those in the graph, or `scores.db` is not a store.
    """

    def __init__(
        self, run: TrainingRun, graph: Path, studies: Sequence[Study], report: Callable[[str], None]
    ) -> None:
        require("onnxruntime", "onnx", "to score checkpoints")
        require("matplotlib", "plot", "to draw the curve of scores")
        self._architecture = Architecture.read(graph)
        self._run, self._studies, self._report = run, studies, report
        self._store = run.folder / "scores.db"
        if self._store.exists():
            Store(self._store).close()
        self._pool = ThreadPoolExecutor(1, "scoring")

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, epoch: int, path: Path) -> None:
        """Score a checkpoint after those submitted before."""
        self._pool.submit(self._score, epoch, path)

    def finish(self) -> None:
        """Wait for all submitted checkpoints."""
        self._pool.submit(lambda: None).result()

    def _score(self, epoch: int, path: Path) -> None:
        events: list[dict[str, Any]] = []
        try:
            with Sweep(
                [path],
                [self._architecture],
                self._studies,
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
                self._run.write("curve.png", draw_curve(rows, synthetic_notice(self._studies)))
                best = _best([row for row in rows if int(row["epoch"]) == epoch])
                self._report(f"epoch {epoch} scored: {best}")
        # No error of scoring may stop the training.
        except Exception as error:
            self._report(f"epoch {epoch} could not be scored: {one_line(error)}")


def _best(rows: Sequence[dict[str, Any]]) -> str:
    scored = [row for row in rows if not math.isnan(row["percent_nc"])]
    if not scored:
        return "no layer has a score, their RDMs are constant"
    best = max(scored, key=lambda row: float(row["percent_nc"]))
    sign = (
        f", opposite to the brain (mean ρ {best['mean_rho']:.3f})" if best["mean_rho"] < 0 else ""
    )
    region = f"{best['region'].upper()}, {best['study']}"
    return f"best {best['percent_nc']:.2f} % of the noise ceiling of {region}, by {best['layer']}{sign}"
