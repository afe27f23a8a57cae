"""Checkpoints × studies → outcomes, each checkpoint once; kept in a store if there is one."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fastrdm._base import check_writable_file, choose
from fastrdm.networks import RequestedPreprocessing, Selection, Taps, request_preprocessing
from fastrdm.runtimes import Architecture
from fastrdm.scoring.engines import ENGINES
from fastrdm.scoring.jobs import (
    Failed,
    Job,
    NetworkSetup,
    Outcome,
    RunOptions,
    Scored,
    Stamp,
    WorkerSetup,
    kernels_version,
)
from fastrdm.scoring.journal import Journal, StoreJournal, target_records
from fastrdm.scoring.local_pool import LocalPool
from fastrdm.scoring.measures import check_measures, scorers_of
from fastrdm.scoring.plans import Estimate, Plan, Summary, event_of, kind_of
from fastrdm.scoring.records import Pipeline
from fastrdm.scoring.resolver import Resolver
from fastrdm.scoring.scheduler import Event, Notify, WorkerPool, run_jobs
from fastrdm.scoring.sharing import Sharing
from fastrdm.scoring.stopping import stop_signals
from fastrdm.scoring.watching import watched
from fastrdm.studies import Study, collect_studies


class Sweep:
    """Checkpoints, studies and perhaps a store, checked and ready.

    Parameters are those of `sweep`; without a store nothing is kept. `submit` asks for the best layers' RDMs of the
    test images, `watch` accepts labels that match no checkpoint yet, with a warning.
    """

    def __init__(
        self,
        weights: Sequence[str | Path],
        arch: Sequence[str | Architecture] = (),
        data: "str | Path | Study | Sequence[str | Path | Study]" = (),
        *,
        store: str | Path | None = None,
        sets: Sequence[str] | None = None,
        modality: str = "fmri",
        regions: Sequence[str] | None = None,
        measures: str | Sequence[str] | None = None,
        over_time: str | None = None,
        taps: Taps | None = None,
        preprocessing: "RequestedPreprocessing | str | Path | Mapping[str, Any] | None" = None,
        labels: str = "",
        key: str | None = None,
        prefix: str | None = None,
        ema: bool = False,
        allow_missing: Sequence[str] = (),
        engine: str | WorkerPool = "local",
        workers: int | None = None,
        retry_failed: bool = False,
        submit: bool = False,
        watch: bool = False,
        **options: Any,
    ) -> None:
        self.options = RunOptions(**options)
        if store is not None:
            check_writable_file(store, "store")
        selection = Selection.of(key, prefix, ema, allow_missing)
        wanted = request_preprocessing(preprocessing)
        given = (weights, arch, taps, labels, selection, wanted, watch)
        self._resolver = Resolver(*given, self.options.provider)
        asked = None if measures is None else check_measures(measures)
        self.studies = collect_studies(data, sets, modality, regions, asked)
        self.scorers = scorers_of(self.studies, asked, over_time)
        self._retry, self._submit = retry_failed, submit
        if isinstance(engine, str):
            make = choose(engine, ENGINES, "engine")
            limits = {"workers": workers, "start_timeout": self.options.start_timeout}
            engine = make(provider=self.options.provider, **limits)
        self._pool = engine
        self._setups: list[NetworkSetup] | None = None
        # Hashes of the keys of new jobs, which take a fifth of the memory of the keys.
        self._planned: set[int] = set()
        self._journal = Journal()
        if store is not None:
            networks = zip(self._resolver.networks, self._network_setups(True), strict=True)
            pipelines = [network.pipeline(setup, self.options) for network, setup in networks]
            targets = target_records(self.studies, self.scorers)
            self._journal = StoreJournal(store, pipelines, targets)
        self._settings = {
            "weights": [str(path) for path in weights],
            "arch": [each if isinstance(each, str) else each.name for each in arch],
            "options": self.options.facts(),
            "arguments": sys.argv,
        }

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, *error: object) -> None:
        self._resolver.close()
        self._journal.close()

    def _network_setups(self, all_networks: bool) -> list[NetworkSetup]:
        """Export architectures: all of them, or those of files that exist."""
        if self._setups is None:
            wanted = {
                job.network
                for job in self._resolver.jobs()
                if all_networks or Path(job.path).exists()
            }
            if all_networks:
                wanted |= {i for i, n in enumerate(self._resolver.networks) if n.arch is not None}
            self._setups = self._resolver.setups(wanted)
        return self._setups

    def _worker_setup(self, all_networks: bool = False) -> WorkerSetup:
        networks = tuple(
            replace(setup, known=self._journal.known(number))
            for number, setup in enumerate(self._network_setups(all_networks))
        )
        return WorkerSetup(
            networks,
            tuple(self.studies),
            self.scorers,
            self.options,
            kernels_version(),
            self._submit,
        )

    def _jobs(self) -> Iterator[tuple[Job, Stamp, str]]:
        """Yield each present checkpoint with its stamp and state."""
        for job in self._resolver.jobs():
            yield job, *self._state(job)

    def _state(self, job: Job) -> tuple[Stamp, str]:
        stamp = Stamp.of(job.path)
        state = self._journal.state(job, stamp)
        return stamp, "new" if state == "failed" and self._retry else state

    def networks(self) -> set[int]:
        """The numbers of the networks of the present checkpoints."""
        return {job.network for job in self._resolver.jobs()}

    def pipeline(self, network: int) -> Pipeline:
        """How the checkpoints of a network are scored."""
        setup = self._network_setups(False)[network]
        return self._resolver.networks[network].pipeline(setup, self.options)

    def paths(self) -> Iterator[str]:
        """Yield the paths of the present checkpoints."""
        yield from (job.path for job in self._resolver.jobs())

    def plan(self) -> Plan:
        """Count what there is to do."""
        counts: Counter[str] = Counter()
        n_bytes = 0
        self._planned.clear()
        listings = self._resolver.listings()
        missing = [message for listing in listings for _, message in listing.empty]
        for job, stamp, state in self._jobs():
            counts[state] += 1
            if stamp.size < 0:
                missing.append(_missing(job))
            if state == "new":
                self._planned.add(hash(job.key))
                n_bytes += max(0, stamp.size)
        numbers = (counts["new"], counts["done"], counts["failed"])
        left_out = tuple(each for listing in listings for each in listing.left_out)
        return Plan(*numbers, n_bytes, left_out, tuple(missing))

    def estimate(self) -> Estimate:
        """Score the first new checkpoints of each network without keeping them; an error if all of them fail."""
        plan, setup = self.plan(), self._worker_setup()
        n_workers = max(1, len(list(self._pool.launchers(setup))))
        new: dict[int, list[Job]] = {}
        for job, stamp, state in self._jobs():
            if state == "new" and stamp.size >= 0:
                new.setdefault(job.network, []).append(job)
        seconds, memory, errors = 0.0, 0, []
        for jobs in new.values():
            # The first checkpoint includes one-time costs; the second is representative. A process of its own, because
            # this one may have exported the network, and does so no more in the run.
            pool = LocalPool(1, self.options.provider)
            if isinstance(self._pool, LocalPool):
                pool = self._pool.first()
            outcomes = list(run_jobs(pool, setup, iter(jobs[:2])))
            errors += [outcome.error for outcome in outcomes if isinstance(outcome, Failed)]
            if scored := [outcome for outcome in outcomes if isinstance(outcome, Scored)]:
                memory = max(memory, *(outcome.memory for outcome in scored))
                seconds += len(jobs) * scored[-1].seconds / n_workers
        self._pool.close()
        if errors and not seconds:
            raise ValueError(f"nothing could be measured: {errors[0]}")
        return Estimate(plan, seconds, memory, n_workers)

    def run(
        self,
        *,
        watch: bool = False,
        patience: float | None = None,
        on_event: Notify = lambda event: None,
    ) -> Summary:
        """Score what is new, with parameters as for `sweep`; the first signal lets the checkpoints in work finish."""
        start = time.perf_counter()
        plan = self.plan()
        counts: Counter[str] = Counter()
        if plan.new or watch:
            # Not within the signals' handlers: an export ends at once.
            self._network_setups(watch)
        with stop_signals() as is_stopped:
            outcomes = self.outcomes(plan, watch, patience, on_event, is_stopped)
            with contextlib.closing(outcomes):
                for outcome in outcomes:
                    counts[kind_of(outcome)] += 1
            outcome_word = "stopped" if is_stopped() else "finished"
        numbers = (counts["scored"], counts["known"], counts["failed"], counts["elsewhere"])
        seconds = time.perf_counter() - start
        summary = Summary(outcome_word, *numbers, plan, seconds, is_stopped.number)
        facts = asdict(summary)
        del facts["before"]
        if plan.note and not watch:
            facts["note"] = plan.note
        on_event({"event": "end", **facts})
        return summary

    def outcomes(
        self,
        plan: Plan,
        watch: bool = False,
        patience: float | None = None,
        on_event: Notify = lambda event: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Generator[Outcome, None, None]:
        """Score what is new, and yield each outcome in order of completion when it is kept.

        When `is_stopped` returns true, only the checkpoints in work are finished. Folders, globs and lists without a
        checkpoint, and missing files that failed before, come last as failures.
        """
        if not (plan.new or plan.done or plan.failed or watch):
            names = ", ".join(name for source in self._resolver.sources for name in source.weights)
            left_out = "".join(f"; {each.message}" for each in plan.left_out)
            raise ValueError(f"there is no checkpoint in {names}{left_out}")
        on_event({"event": "plan", **asdict(plan), "watch": watch})
        self._journal.begin(self._settings)
        self._journal.add_labels(self._resolver.jobs())
        missing = [] if watch else self._missing("failed")

        def notify(event: Event) -> None:
            if event["event"] == "ready":
                facts = event.pop("facts")
                event["provider"] = facts["provider"]
                self._journal.add_worker(event["worker"], facts)
            on_event(event)

        in_work: set[tuple[str, int]] = set()
        sharing = Sharing(self._journal, self._state, self._planned, on_event)
        jobs = (
            watched(lambda: sharing.present(self._retried_once()), in_work, is_stopped, patience)
            if watch
            else self._new(sharing.present(self._jobs()))
        )
        if plan.new or watch:
            outcomes = run_jobs(
                self._pool,
                self._worker_setup(watch),
                sharing.ready(self._numbered(jobs)),
                is_stopped,
                notify,
            )
            with contextlib.closing(outcomes):
                for outcome in outcomes:
                    if isinstance(outcome, Failed):
                        outcome = replace(outcome, error=outcome.job.explain(outcome.error))
                    for kept in sharing.keep(outcome):
                        in_work.discard(kept.job.key)
                        on_event(event_of(kept))
                        yield kept
        is_finished = not is_stopped()
        if watch and is_finished:
            missing = self._missing("new", "failed")
        for failed in missing:
            on_event(event_of(failed))
            yield failed
        self._journal.end("finished" if is_finished else "stopped")

    def rows(self, *, subjects: bool = False) -> Iterator[dict[str, Any]]:
        """Yield what the store holds for these networks and studies, as `Store.rows`; only each file's last weights."""
        yield from self._journal.rows(subjects)

    def _missing(self, *states: str) -> list[Failed]:
        """Failures of what does not exist and is not tried: of every run, since it may be a mistake."""
        empty = [
            Failed(Job(name, -1), Stamp(), message)
            for listing in self._resolver.listings()
            for name, message in listing.empty
        ]
        return empty + [
            Failed(job, stamp, _missing(job))
            for job, stamp, state in self._jobs()
            if stamp.size < 0 and state in states
        ]

    def _retried_once(self) -> Iterator[tuple[Job, Stamp, str]]:
        """As `_jobs`, but with failures retried at the first call alone."""
        yield from self._jobs()
        self._retry = False

    def _numbered(self, jobs: Iterator[Job | None]) -> Iterator[Job | None]:
        number = 0
        for job in jobs:
            yield job and self._journal.with_scores(replace(job, number=number))
            number += job is not None

    def _new(self, present: Iterator[tuple[Job, Stamp, str]]) -> Iterator[Job]:
        submitted = set()
        for job, _, state in present:
            if state == "new" and not (self._journal.keeps and job.key in submitted):
                submitted.add(job.key)
                yield job


def _missing(job: Job) -> str:
    return job.explain(f"{job.path}: no such file")


def sweep(
    weights: "str | Path | Sequence[str | Path]",
    arch: "str | Architecture | Sequence[str | Architecture]" = (),
    data: "str | Path | Study | Sequence[str | Path | Study]" = (),
    *,
    store: str | Path,
    watch: bool = False,
    patience: float | None = None,
    on_event: Notify = lambda event: None,
    **options: Any,
) -> Summary:
    """Score checkpoints against studies into a store, each once; a later call continues from there.

    Sweeps that run on one store at the same time share the checkpoints, and each waits for what the others score. A
    checkpoint's results are stored in one transaction. SIGINT, SIGTERM and SIGHUP end a sweep after the checkpoints in
    work; a sweep that was killed, or that filled the disk, has lost nothing that it reported. A checkpoint that cannot
    be scored, or that kills its worker, is stored as a failure and stops no other. Worker processes do not import the
    caller's main module, so a script needs no ``if __name__ == "__main__"``.

    Parameters
    ----------
    weights : path-like or sequence of them
        Files, folders, globs, `.txt` lists of paths, or manifests (`fastrdm.scoring.manifest`). A folder that holds
        the index of weights in several files is one checkpoint.
    arch : str, Architecture or sequence of them
        As for `score_checkpoints`.
    data : path-like, Study or sequence of them
        Folders as for `open_studies`, or studies.
    store : path-like
        The file of results, as for `fastrdm.Store`.
    watch : bool
        Whether to wait for checkpoints that appear later, and score each when its file is complete.
    patience : float, optional
        Seconds without work after which watching ends; by default it continues until a signal.
    on_event : callable
        Called with a dict when there is a plan, a worker is ready or lost, a checkpoint is given to a worker, scored,
        recognised under another name, scored by another sweep (``"elsewhere"``) or failed, when the sweep waits for
        others, and at the end; ``"scored"`` follows the transaction.
    **options
        ``sets``, ``modality``, ``regions`` as for `open_studies`; ``measures``, names of `MEASURES` ("rsa", ...) for
        all regions, by default those of each study, else "rsa"; ``over_time``, "each" or "mean" for all regions with
        several time points, by default as the studies say; ``taps``; ``preprocessing``, as for
        `fastrdm.networks.request_preprocessing`: a `Preprocessing`, "timm", "transformers", a file, or a dict of
        fields that replace the network's own; ``labels``, a regular expression searched in each path, whose named
        groups become labels; ``key``, ``prefix``, ``ema``, ``allow_missing``, which weights
        of a file are taken, as for `fastrdm.runtimes.open_checkpoint`; ``engine``: "local", "ray", "in-process" or a
        `fastrdm.scoring.scheduler.WorkerPool`; ``workers``; ``start_timeout``, seconds until a worker must be
        ready (120); ``retry_failed``; ``keep_rdms``; ``keep_grams``; ``max_memory``; ``projection``, the number of
        components or a `SparseProjection`, as for `OnnxModel.grams`; ``provider``, ``precision``,
        ``provider_options``, ``batch_size``, ``allow_inconsistent``, ``n_threads`` as for `OnnxModel`, or
        ``provider="torch"``, ``"torch:cuda:1"``, ... to run ``"module:callable"`` as a `TorchModel`.

    Raises
    ------
    ValueError, FileNotFoundError
        Before work starts: if a checkpoint, architecture, study, measure or provider does not exist, or a region lacks
        the data of a measure.
    StoreError
        If the store cannot be opened or written.
    """
    weights = [weights] if isinstance(weights, str | Path) else weights
    arch = [arch] if isinstance(arch, str | Architecture) else arch
    with Sweep(weights, arch, data, store=store, watch=watch, **options) as ready:
        return ready.run(watch=watch, patience=patience, on_event=on_event)
