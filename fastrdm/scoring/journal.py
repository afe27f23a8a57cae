"""Where a sweep's outcomes go, and what is known of checkpoints: a store, or nothing."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.images import hash_images
from fastrdm.scoring.jobs import Failed, Job, Known, Outcome, Scored, Stamp
from fastrdm.scoring.records import Pipeline, TargetRecord
from fastrdm.scoring.region_scorers import RegionScorer
from fastrdm.scoring.shared_store import SharedStore
from fastrdm.studies import Study


class Journal:
    """Keeps nothing: every checkpoint is new."""

    keeps = False

    def state(self, job: Job, stamp: Stamp) -> str:
        """Whether a checkpoint is "done", "failed", or "new"."""
        return "new"

    def with_scores(self, job: Job) -> Job:
        """The job with the scores that its file already has."""
        return job

    def known(self, network: int) -> NDArray[np.bytes_]:
        """SHA-256 of the weights of a network that have all scores, sorted."""
        return np.empty(0, "S32")

    def error(self, job: Job) -> str:
        """Why a checkpoint failed."""
        return ""

    def pipeline(self, network: int) -> int:
        """Number of a network's pipeline."""
        return network

    def claim(self, pipeline: int, sample: str) -> tuple[str, ...] | None:
        """Claim the contents with a sample; None if another sweep has the claim.

        Returns the SHA-256 of such contents that have all scores.
        """
        return ()

    def release(self, pipeline: int, sample: str, sha256: str = "") -> None:
        """End a claim; `sha256` is that of the content if it has scores now."""

    def claimed(self) -> dict[tuple[int, str], str]:
        """Claims of other sweeps, by pipeline and sample, with the names of their holders."""
        return {}

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Begin a run."""

    def end(self, outcome: str) -> None:
        """End the run."""

    def add_labels(self, jobs: Iterable[Job]) -> None:
        """Add the labels of checkpoints that are scored already, or will be."""

    def add_worker(self, name: str, facts: Mapping[str, Any]) -> None:
        """Add a worker and its environment."""

    def add(self, outcome: Outcome) -> None:
        """Add an outcome."""

    def add_names(self, names: Sequence[Known]) -> None:
        """Add names of one content that has scores, under one network."""

    def rows(self, subjects: bool) -> Iterator[dict[str, Any]]:
        """Yield the results kept."""
        yield from ()

    def close(self) -> None:
        """Close the store."""


class StoreJournal(Journal):
    """Keeps outcomes in a store."""

    keeps = True

    def __init__(
        self,
        path: str | Path,
        pipelines: Sequence[Pipeline],
        targets: Sequence[TargetRecord],
    ) -> None:
        self._store = SharedStore(path, write=True)
        try:
            self._targets = self._store.add_targets(targets)
            self._pipelines = [self._store.add_pipeline(pipeline) for pipeline in pipelines]
        except BaseException:
            self._store.close()
            raise
        self._run = 0
        self._environments: dict[str, int] = {}
        self._numbers = list(self._targets.values())

    def state(self, job: Job, stamp: Stamp) -> str:
        """As for `Journal`."""
        return self._store.state(job.path, stamp, self._pipelines[job.network], self._numbers)

    def with_scores(self, job: Job) -> Job:
        """As for `Journal`."""
        pipeline = self._pipelines[job.network]
        sha256, numbers = self._store.scored_targets(
            job.path, Stamp.of(job.path), pipeline, self._numbers
        )
        keys = (key for key, number in self._targets.items() if number in numbers)
        return replace(job, scored=frozenset(keys), scored_sha256=sha256)

    def known(self, network: int) -> NDArray[np.bytes_]:
        """As for `Journal`."""
        return self._store.known(self._pipelines[network], self._numbers)

    def error(self, job: Job) -> str:
        """As for `Journal`."""
        return self._store.error(job.path, self._pipelines[job.network])

    def pipeline(self, network: int) -> int:
        """As for `Journal`."""
        return self._pipelines[network]

    def claim(self, pipeline: int, sample: str) -> tuple[str, ...] | None:
        """As for `Journal`."""
        return self._store.claim(pipeline, sample, self._numbers)

    def release(self, pipeline: int, sample: str, sha256: str = "") -> None:
        """As for `Journal`."""
        self._store.release(pipeline, sample, sha256)

    def claimed(self) -> dict[tuple[int, str], str]:
        """As for `Journal`."""
        return self._store.claimed()

    def begin(self, settings: Mapping[str, Any]) -> None:
        """As for `Journal`."""
        self._store.share()
        self._run = self._store.begin_run(settings)

    def end(self, outcome: str) -> None:
        """As for `Journal`."""
        self._store.end_run(self._run, outcome)

    def add_labels(self, jobs: Iterable[Job]) -> None:
        """As for `Journal`."""
        self._store.add_labels((job.path, job.labels) for job in jobs if job.labels)

    def add_worker(self, name: str, facts: Mapping[str, Any]) -> None:
        """As for `Journal`."""
        self._environments[name] = self._store.add_environment(facts)

    def add(self, outcome: Outcome) -> None:
        """Add an outcome in one transaction."""
        pipeline = self._pipelines[outcome.job.network]
        if isinstance(outcome, Scored):
            environment = self._environments[outcome.worker]
            self._store.record(outcome, pipeline, self._targets, self._run, environment)
        elif isinstance(outcome, Known):
            self._store.recognise([outcome], pipeline)
        elif isinstance(outcome, Failed):
            self._store.fail(outcome, pipeline, self._run)

    def add_names(self, names: Sequence[Known]) -> None:
        """Add names in one transaction."""
        self._store.recognise(names, self._pipelines[names[0].job.network])

    def rows(self, subjects: bool) -> Iterator[dict[str, Any]]:
        """As for `Journal`."""
        columns = list(self._store.columns(subjects=subjects))
        rows = self._store.rows(subjects=subjects, pipelines=self._pipelines, targets=self._numbers)
        for row in rows:
            yield dict(zip(columns, row, strict=True))

    def close(self) -> None:
        """As for `Journal`."""
        self._store.close()


def target_records(studies: Sequence[Study], scorers: Sequence[RegionScorer]) -> list[TargetRecord]:
    """What a store needs of regions; a ValueError if a ceiling is NaN."""
    return [record for study in studies for record in _records_of(study, scorers)]


def _records_of(study: Study, scorers: Sequence[RegionScorer]) -> list[TargetRecord]:
    stimuli = hash_images(list(study.stimuli), study.background)
    records = []
    for scorer in scorers:
        if scorer.study != study.name:
            continue
        if math.isnan(scorer.ceiling):
            raise ValueError(
                f"the ceiling of {scorer.region} of the study {study.name!r} is NaN because its subjects have NaN and"
                ' nan_policy is "propagate", so no layer can have a score; use nan_policy="omit"'
            )
        record = TargetRecord(
            study.name,
            scorer.region,
            stimuli,
            scorer.data,
            json.dumps({**scorer.facts, **scorer.protocol.facts()}, sort_keys=True),
            scorer.ceiling,
            scorer.n_subjects,
            study.synthetic,
            scorer.measure,
        )
        records.append(record)
    return records
