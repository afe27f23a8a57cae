"""Scores of a network in memory → a store, under the file that holds its weights."""

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrdm._base import error_text, list_names
from fastrdm.networks import (
    RequestedPreprocessing,
    Taps,
    check_unchanged,
    choose_taps,
    describe_taps,
    hash_file,
    inspect_module,
    preprocessing_for,
)
from fastrdm.runtimes import module_fingerprint
from fastrdm.scoring.jobs import (
    Failed,
    Job,
    Known,
    Scored,
    Stamp,
    environment_facts,
    kernels_version,
)
from fastrdm.scoring.journal import target_records
from fastrdm.scoring.records import Pipeline, result_rows
from fastrdm.scoring.region_scorers import RegionScorer
from fastrdm.scoring.results import Result
from fastrdm.scoring.store import Store
from fastrdm.studies import Study

if TYPE_CHECKING:
    import torch

# Numbers in the store: of the pipeline, and of the targets by study, region and measure.
_Numbers = tuple[int, dict[tuple[str, str, str], int]]


def module_pipeline(
    name: str,
    module: "torch.nn.Module",
    taps: Taps | None = None,
    preprocessing: RequestedPreprocessing | None = None,
    precision: str = "fp32",
) -> Pipeline:
    """How a torch module is scored where it stands, as in the stores of sweeps with the provider "torch".

    `name` is shown in tables; the other arguments and errors are those of `TorchModel`. The module runs on black
    images, and does not change.
    """
    prepared = preprocessing_for(module, preprocessing)
    chosen = choose_taps(module, inspect_module(module, prepared.size), taps)
    described = {layer: choice.to_dict() for layer, choice in chosen.items()}
    facts = {"layers": list(chosen), "taps": described}
    texts = {f"fastrdm.{key}": json.dumps(value) for key, value in facts.items()}
    graph = module_fingerprint(module, chosen)
    return Pipeline(
        name, graph, prepared.to_json(), precision, kernels_version(), describe_taps(texts)
    )


class CheckpointStore:
    """A store for a network that is scored in memory and saved to files.

    It has the rows that a sweep over these files would write. Nothing is open between calls, which may come from any
    thread, and other processes may use the file meanwhile.

    Parameters
    ----------
    path : path-like
        The store, created if it does not exist.
    pipeline : Pipeline
        How the network is scored: its key tells these results from others of the same files.
    studies, scorers : sequence
        The studies, and their regions under each measure, as from `scorers_of`.
    provider : str
        What the network runs on, such as "torch:cuda:0", recorded with the results.

    Raises
    ------
    ValueError
        If a noise ceiling is NaN.
    StoreError
        As for `Store`.
    """

    def __init__(
        self,
        path: str | Path,
        pipeline: Pipeline,
        studies: Sequence[Study],
        scorers: Sequence[RegionScorer],
        provider: str,
    ) -> None:
        self.path = Path(path)
        self._pipeline, self._facts = pipeline, environment_facts(provider)
        self._targets = target_records(studies, scorers)
        self._call(lambda store, numbers: None)

    def _call(self, work: Callable[[Store, _Numbers], Any]) -> Any:
        with Store(self.path, write=True) as store:
            return work(
                store, (store.add_pipeline(self._pipeline), store.add_targets(self._targets))
            )

    def recognise(self, file: str | Path, labels: Mapping[str, str]) -> bool:
        """Whether the weights in a file have all scores; if they have, the file gets its row.

        A file with the size and time that it had when it was scored is not read.
        """
        job = Job(str(file), 0, labels)

        def work(store: Store, numbers: _Numbers) -> bool:
            pipeline, targets = numbers[0], list(numbers[1].values())
            stamp = Stamp.of(file)
            if store.state(job.path, stamp, pipeline, targets) == "done":
                return True
            sha256 = _hash(file)
            known = store.known(pipeline, targets)
            is_known = bool((known == np.array(bytes.fromhex(sha256), known.dtype)).any())
            if is_known:
                store.recognise([Known(job, stamp, sha256)], pipeline)
            return is_known

        return bool(self._call(work))

    def add(
        self,
        file: str | Path,
        results: Sequence[Result],
        labels: Mapping[str, str],
        *,
        seconds: float = 0.0,
        warnings: Sequence[Warning] = (),
    ) -> None:
        """Add the results of the weights in a file, in one transaction.

        Parameters
        ----------
        file : path-like
            Its path as given is the checkpoint's name in the store.
        results : sequence of Result
            For all layers against all regions, as from `fastrdm.Scorer.results`; their `checkpoint` does not matter.
        labels : mapping of str to str
            Columns of tables, such as the epoch.
        seconds : float
            How long scoring took.
        warnings : sequence of Warning
            Its warnings.

        Raises
        ------
        ValueError
            If results are of other regions than those of this store.
        WeightsError
            If the file does not exist, or is written to meanwhile.
        StoreError
            If the store cannot be written; then it has none of these results.
        """
        rows = result_rows(results)
        names = [(each.study, each.region, each.measure) for each in self._targets]
        if others := [key for key in rows if key not in names]:
            raise ValueError(
                f"{self.path} is open for {list_names(map('/'.join, names))}, but there are results of"
                f" {list_names(map('/'.join, others))}"
            )
        scored = Scored(
            Job(str(file), 0, labels),
            Stamp.of(file),
            _hash(file),
            tuple(dict.fromkeys(each.layer for each in results)),
            {},
            seconds=seconds,
            warnings={str(each): type(each) for each in warnings},
        )

        def work(store: Store, numbers: _Numbers) -> None:
            environment = store.add_environment(self._facts)
            run = store.begin_run({"weights": [str(file)]})
            store.record(scored, *numbers, run, environment, rows)
            store.end_run(run, "finished")

        self._call(work)

    def fail(self, file: str | Path, error: Exception, labels: Mapping[str, str]) -> None:
        """Record why a file has no scores."""
        text = "".join(traceback.format_exception(error))
        failed = Failed(Job(str(file), 0, labels), Stamp.of(file), error_text(error), text)

        def work(store: Store, numbers: _Numbers) -> None:
            run = store.begin_run({"weights": [str(file)]})
            store.fail(failed, numbers[0], run)
            store.end_run(run, "finished")

        self._call(work)

    def rows(self) -> list[dict[str, Any]]:
        """Return the results of these studies by this pipeline, as `Store.rows`; only each file's last weights."""

        def work(store: Store, numbers: _Numbers) -> list[dict[str, Any]]:
            names = list(store.columns())
            rows = store.rows(pipelines=[numbers[0]], targets=list(numbers[1].values()))
            return [dict(zip(names, row, strict=True)) for row in rows]

        found: list[dict[str, Any]] = self._call(work)
        return found


def _hash(file: str | Path) -> str:
    with check_unchanged(file):
        return hash_file(file)
