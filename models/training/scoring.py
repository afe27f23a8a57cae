"""Checkpoints scored against the brains while training goes on, by a thread beside it."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fastrdm._base import require
from fastrdm.networks import Probes, hash_file
from fastrdm.runtimes import Architecture
from fastrdm.scoring import Result, score_model
from fastrdm.studies import Study
from models.training.curve import draw_curve
from models.training.run import TrainingRun

# Training has the other processors.
_THREADS = 1


@dataclass(frozen=True, kw_only=True)
class EpochResult(Result):
    """A layer's score after an epoch: whose weights' file has this SHA-256, by the graph of this one."""

    epoch: int
    sha256: str
    graph: str


class Scorer:
    """Scores checkpoints in the order in which they are given, and keeps `scores.csv` and `curve.png`.

    What stands in `scores.csv` is not computed again: results of the same weights, graph and study. A context, at
    whose end what has not begun is left for the next start.

    Parameters
    ----------
    run : TrainingRun
        Whose folder is written to.
    graph : path
        The network, from `export_onnx`.
    studies : sequence of Study
    say : callable
        Told in one line what was found, and what went wrong: that does not stop the training.

    Raises
    ------
    ValueError
        If other weights cannot take the place of those in the graph, or `scores.csv` is none.
    MissingExtraError
        If ONNX Runtime or matplotlib is not installed.
    """

    def __init__(
        self, run: TrainingRun, graph: Path, studies: Sequence[Study], say: Callable[[str], None]
    ) -> None:
        require("onnxruntime", "onnx", "to score checkpoints")
        require("matplotlib", "plot", "to draw the curve of scores")
        self._architecture, self._probes = Architecture.read(graph), Probes()
        self._run, self._studies, self._say = run, studies, say
        self._results = _read(run.folder / "scores.csv")
        self._pool = ThreadPoolExecutor(1, "scoring")

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, epoch: int, path: Path) -> None:
        """Score a checkpoint when those before it are done."""
        self._pool.submit(self._score, epoch, path)

    def finish(self) -> None:
        """Wait until all is scored."""
        self._pool.submit(lambda: None).result()

    def _score(self, epoch: int, path: Path) -> None:
        try:
            sha256 = hash_file(path)
            own = (epoch, sha256, self._architecture.fingerprint)
            known = {
                result.set
                for result in self._results
                if (result.epoch, result.sha256, result.graph) == own
            }
            studies = [study for study in self._studies if study.name not in known]
            if not studies:
                return
            model = self._architecture.open(
                path, provider="cpu", n_threads=_THREADS, probes=self._probes
            )
            found = [
                EpochResult(**asdict(result), epoch=epoch, sha256=sha256, graph=own[2])
                for result in score_model(model, studies, path.name)
            ]
            names = {study.name for study in studies}
            # Of this epoch, results of other weights are out of date.
            kept = [
                result
                for result in self._results
                if result.epoch != epoch
                or (result.set not in names and (result.sha256, result.graph) == own[1:])
            ]
            self._results = sorted([*kept, *found], key=lambda result: result.epoch)
            self._run.write("scores.csv", _write(self._results))
            title = _notice(self._studies)
            self._run.write("curve.png", draw_curve(self._results, title))
            self._say(f"epoch {epoch} scored: {_best(found)}")
        # Whatever it is, training goes on.
        except Exception as error:
            self._say(f"epoch {epoch} could not be scored: {error}")


def _best(results: Sequence[Result]) -> str:
    scored = [result for result in results if not math.isnan(result.percent_nc)]
    if not scored:
        return "no layer has a score, their RDMs are constant"
    best = max(scored, key=lambda result: result.percent_nc)
    sign = f", opposite to the brain (mean ρ {best.mean_rho:.3f})" if best.mean_rho < 0 else ""
    share = f"{best.percent_nc:.2f} % of the noise ceiling of {best.region.upper()}, {best.set}"
    return f"best {share}, by {best.layer}{sign}"


def _notice(studies: Sequence[Study]) -> str:
    names = [study.name for study in studies if study.synthetic]
    return f"SYNTHETIC DATA ({', '.join(names)}): simulated subjects, no brains" if names else ""


def _write(results: Sequence[EpochResult]) -> str:
    text = io.StringIO()
    names = [each.name for each in fields(EpochResult)]
    writer = csv.DictWriter(
        text, ["epoch", *(n for n in names if n != "epoch")], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(asdict(result) for result in results)
    return text.getvalue()


def _read(path: Path) -> list[EpochResult]:
    if not path.is_file():
        return []
    kinds: dict[str, Any] = {each.name: each.type for each in fields(EpochResult)}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                EpochResult(**{name: kinds[name](text) for name, text in row.items()})
                for row in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no table of scores ({error!r}); remove it to score again"
        ) from None
