"""Checkpoints × studies → scores in a store, each once, whatever happens on the way."""

import contextlib
import json
import math
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from fastrdm.images import hash_images
from fastrdm.networks import Taps, is_complete
from fastrdm.scoring import scheduler
from fastrdm.scoring.local_pool import LocalEngine
from fastrdm.scoring.manifest import Found, LeftOut, sources
from fastrdm.scoring.ray_pool import RayEngine
from fastrdm.scoring.records import Stamp, Subjects
from fastrdm.scoring.resolver import groups_of
from fastrdm.scoring.scheduler import Engine
from fastrdm.scoring.store import Store
from fastrdm.scoring.worker import Load, Network, Outcome, Task, kernels_version
from fastrdm.studies import Study, open_studies

Event = dict[str, Any]

# How often a folder is looked at; how long a file must have been left alone to be taken for complete; and to be tried
# though its format says that it has no end.
_WATCH_S, _SETTLED_S, _LEFT_S = 5.0, 3.0, 60.0


@dataclass(frozen=True)
class Plan:
    """What there is to do, before it is done.

    Attributes
    ----------
    new, done, failed : int
        Checkpoints that will be scored, that are scored, and that failed before and did not change since.
    n_bytes : int
        Size of the new ones' files.
    left_out : tuple of LeftOut
        What folders and globs hold beside checkpoints.
    missing : tuple of str
        A sentence for each file that is named and not there, and each folder, glob or list without a checkpoint.
    """

    new: int = 0
    done: int = 0
    failed: int = 0
    n_bytes: int = 0
    left_out: tuple[LeftOut, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """What a sweep did.

    Attributes
    ----------
    outcome : {"finished", "stopped"}
        Whether it came to its end, or a signal stopped it.
    scored, known, failed : int
        Checkpoints scored, found to be scored under another name, and that could not be; what is named and not there
        is among these each time.
    before : Plan
        What there was to do.
    seconds : float
        From the first checkpoint to the last.
    """

    outcome: str
    scored: int
    known: int
    failed: int
    before: Plan
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a sweep would take, measured on the first new checkpoint of each network.

    Attributes
    ----------
    plan : Plan
    seconds : float
        With the engine's workers, opening included.
    memory : int
        Bytes that a worker took at most.
    workers : int
    """

    plan: Plan
    seconds: float
    memory: int
    workers: int


class Sweep:
    """Checkpoints, studies and a store, checked and ready.

    Parameters
    ----------
    weights, arch, data, store and others
        As for `sweep`.
    """

    def __init__(
        self,
        weights: Sequence[str | Path],
        arch: Sequence[str] = (),
        data: "str | Path | Study | Sequence[str | Path | Study]" = (),
        *,
        store: str | Path,
        sets: Sequence[str] | None = None,
        modality: str = "fmri",
        taps: Taps | None = None,
        labels: str = "",
        engine: str | Engine = "local",
        workers: int | None = None,
        provider: str = "auto",
        precision: str | None = None,
        provider_options: Mapping[str, str] | None = None,
        batch_size: int = 32,
        allow_inconsistent: bool = False,
        keep_rdms: bool = False,
        retry_failed: bool = False,
    ) -> None:
        self._sources = sources(weights, arch, taps, labels)
        self._groups = groups_of(self._sources)
        self.studies = _studies(data, sets, modality)
        self._retry, self._provider = retry_failed, provider
        self._options = {
            "provider": provider,
            "precision": precision,
            "provider_options": provider_options,
            "batch_size": batch_size,
            "allow_inconsistent": allow_inconsistent,
        }
        if isinstance(engine, str) and engine not in ENGINES:
            raise ValueError(f"engine {engine!r} is not one of: {', '.join(ENGINES)}")
        make = ENGINES[engine] if isinstance(engine, str) else None
        self._engine = make(workers=workers, provider=provider) if make else cast("Engine", engine)
        self._keep_rdms = keep_rdms
        self.store = Store(store, write=True)
        try:
            self._stimuli = tuple(
                hash_images(list(study.stimuli), study.background) for study in self.studies
            )
            self._targets = self._add_targets()
            self._numbers = list(self._targets.values())
            self._networks = [group.network() for group in self._groups]
            self._methods = [
                self.store.add_method(
                    group.method(network, precision, batch_size if allow_inconsistent else None)
                )
                for group, network in zip(self._groups, self._networks, strict=True)
            ]
        except BaseException:
            self.store.close()
            raise
        self._settings = {
            "weights": [str(each) for each in weights],
            "arch": list(arch),
            "options": self._options,
            "arguments": sys.argv,
        }

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, *error: object) -> None:
        self.store.close()

    def _add_targets(self) -> dict[tuple[str, str], int]:
        numbers = {}
        for study, stimuli in zip(self.studies, self._stimuli, strict=True):
            for region, target in study.targets.items():
                if math.isnan(target.ceiling):
                    raise ValueError(
                        f"the ceiling of {region} of the study {study.name!r} is NaN, as its subjects have NaN and"
                        ' nan_policy is "propagate", so that no layer can have a score; take "omit"'
                    )
                protocol = {"nan_policy": target.nan_policy, **target.protocol.facts()}
                numbers[study.name, region] = self.store.add_target(
                    Subjects(
                        study.name,
                        region,
                        stimuli,
                        target.sha256,
                        json.dumps(protocol, sort_keys=True),
                        target.ceiling,
                        target.n_subjects,
                        study.synthetic,
                    )
                )
        return numbers

    def _load(self) -> Load:
        networks = tuple(
            Network(n.architecture, n.taps, n.preprocessing, self.store.known(m, self._numbers))
            for n, m in zip(self._networks, self._methods, strict=True)
        )
        return Load(
            networks,
            tuple(self.studies),
            self._stimuli,
            self._options,
            kernels_version(),
            self._keep_rdms,
        )

    def _found(self) -> Iterator[tuple[Task, Stamp, str]]:
        """Each checkpoint with what the store knows of it."""
        for number, (group, method) in enumerate(zip(self._groups, self._methods, strict=True)):
            for found in group.found():
                path = found.path
                stamp = Stamp.of(path)
                state = self.store.state(path, stamp, method, self._numbers)
                if state == "failed" and self._retry:
                    state = "new"
                labels = group.source.labels_of(path)
                yield Task(path, number, labels, row=found.row), stamp, state

    def _empty(self) -> list[tuple[str, str]]:
        """Folders, globs and lists without a checkpoint, and what is wrong with each."""
        return [each for source in self._sources for each in source.listing().empty]

    def plan(self) -> Plan:
        """Count what there is to do."""
        counts: Counter[str] = Counter()
        n_bytes = 0
        missing = [message for _, message in self._empty()]
        for task, stamp, state in self._found():
            counts[state] += 1
            if stamp.size < 0:
                missing.append(_missing(task))
            if state == "new":
                n_bytes += max(0, stamp.size)
        left_out = [each for source in self._sources for each in source.listing().left_out]
        return Plan(
            counts["new"],
            counts["done"],
            counts["failed"],
            n_bytes,
            tuple(left_out),
            tuple(missing),
        )

    def estimate(self) -> Estimate:
        """Score the first new checkpoints of each network, without storing them, to say what all would take.

        Raises
        ------
        ValueError
            If none of them could be scored; with the reason of the first.
        """
        plan, load = self.plan(), self._load()
        n_workers = max(1, len(list(self._engine.hands(load))))
        first: dict[int, list[Task]] = {}
        counts: Counter[int] = Counter()
        for task, stamp, state in self._found():
            if state == "new" and stamp.size >= 0:
                counts[task.network] += 1
                # The second is like those that follow: the first pays for what is done once.
                if len(own := first.setdefault(task.network, [])) < 2:
                    own.append(task)
        seconds, memory, error = 0.0, 0, ""
        measured = 0
        for number, tasks in first.items():
            took = []
            for outcome in scheduler.run(LocalEngine(1, self._provider), load, iter(tasks)):
                if outcome.report is None:
                    error = error or outcome.error
                else:
                    took.append(outcome.report.seconds)
                    memory = max(memory, outcome.memory)
            if took:
                measured += 1
                seconds += counts[number] * took[-1] / n_workers
        self._engine.close()
        if first and not measured:
            raise ValueError(f"nothing could be measured: {error}")
        return Estimate(plan, seconds, memory, n_workers)

    def run(
        self,
        *,
        watch: bool = False,
        patience: float | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> Summary:
        """Score what is new.

        Parameters
        ----------
        watch, patience, on_event
            As for `sweep`.

        Returns
        -------
        Summary
        """
        start = time.perf_counter()
        plan = self.plan()
        if not (plan.new or plan.done or plan.failed or watch):
            names = ", ".join(each for source in self._sources for each in source.weights)
            told = "".join(f"; {each.message}" for each in plan.left_out)
            raise ValueError(f"there is no checkpoint in {names}{told}")
        on_event({"event": "plan", **asdict(plan), "watch": watch})
        counts: Counter[str] = Counter()
        run = self.store.begin_run(self._settings)
        tell = [] if watch else self._known_missing()
        environments: dict[str, int] = {}

        def notify(event: Event) -> None:
            if event["event"] == "ready":
                environments[event["worker"]] = self.store.add_environment(event.pop("facts"))
            on_event(event)

        in_hand: set[tuple[str, int]] = set()
        with _signals() as is_stopped:
            tasks = self._watched(in_hand, is_stopped, patience) if watch else self._new(in_hand)
            if plan.new or watch:
                outcomes = scheduler.run(self._engine, self._load(), tasks, is_stopped, notify)
                with contextlib.closing(outcomes):
                    for outcome in outcomes:
                        event = self._enter(outcome, run, environments)
                        in_hand.discard(outcome.task.key)
                        counts[event["event"]] += 1
                        on_event(event)
            outcome_ = "stopped" if is_stopped() else "finished"
        if watch and outcome_ == "finished":
            tell = [(t.path, _missing(t)) for t, stamp, _ in self._found() if stamp.size < 0]
        for path, error in tell:
            counts["failed"] += 1
            on_event({"event": "failed", "checkpoint": path, "worker": "", "error": error})
        self.store.end_run(run, outcome_)
        summary = Summary(
            outcome_,
            counts["scored"],
            counts["known"],
            counts["failed"],
            plan,
            time.perf_counter() - start,
        )
        facts = asdict(summary)
        del facts["before"]
        on_event({"event": "end", **facts})
        return summary

    def _known_missing(self) -> list[tuple[str, str]]:
        """What is not there and is not tried again, and the sentence for it: it is told each time."""
        known = [
            (task.path, _missing(task))
            for task, stamp, state in self._found()
            if stamp.size < 0 and state == "failed"
        ]
        return self._empty() + known

    def _new(self, in_hand: set[tuple[str, int]]) -> Iterator[Task | None]:
        # The store is asked again now: another sweep may have done it since it was planned.
        for task, _, state in self._found():
            if state == "new" and task.key not in in_hand:
                in_hand.add(task.key)
                yield task

    def _watched(
        self,
        in_hand: set[tuple[str, int]],
        is_stopped: Callable[[], bool],
        patience: float | None,
    ) -> Iterator[Task | None]:
        """New checkpoints as they become complete, and None as long as there is none."""
        seen: dict[str, tuple[Stamp, float]] = {}
        last = time.monotonic()
        while not is_stopped():
            waiting = {}
            for task, stamp, state in self._found():
                if state != "new" or task.key in in_hand or stamp.size < 0:
                    continue
                before, since = seen.get(task.path, (None, 0.0))
                since = since if before == stamp else time.monotonic()
                # By this clock or the file's own, which may be another machine's.
                age = max(time.monotonic() - since, time.time() - stamp.mtime_ns / 1e9)
                if age > _LEFT_S or (age > _SETTLED_S and is_complete(task.path)):
                    in_hand.add(task.key)
                    yield task
                else:
                    waiting[task.path] = stamp, since
            seen = waiting
            # What failed is tried again once a sweep, not at each look.
            self._retry = False
            looked = time.monotonic()
            while time.monotonic() - looked < _WATCH_S and not is_stopped():
                if in_hand or seen:
                    last = time.monotonic()
                elif patience is not None and time.monotonic() - last > patience:
                    return
                yield None

    def _enter(self, outcome: Outcome, run: int, environments: Mapping[str, int]) -> Event:
        task, report = outcome.task, outcome.report
        method = self._methods[task.network]
        told: Event = {"checkpoint": task.path, "worker": outcome.worker}
        if report is None:
            error = Found(task.path, task.row).named(outcome.error)
            self.store.fail(task.path, outcome.stamp, method, run, error, outcome.traceback)
            return {"event": "failed", **told, "error": error}
        told |= {"sha256": report.sha256, "seconds": round(report.seconds, 3)}
        if not report.studies:
            self.store.recognise(report, method)
            return {"event": "known", **told}
        self.store.record(report, method, self._targets, run, environments[outcome.worker])
        return {"event": "scored", **told, "warnings": list(report.warnings)}


def _missing(task: Task) -> str:
    return Found(task.path, task.row).named(f"{task.path}: no such file")


def _studies(data: Any, sets: Sequence[str] | None, modality: str) -> list[Study]:
    given = [data] if isinstance(data, str | Path | Study) else list(data)
    if not given:
        raise ValueError("data is empty; name a folder with studies, or give studies")
    found: list[Study] = []
    for each in given:
        found += [each] if isinstance(each, Study) else open_studies(each, None, modality)
    names = [study.name for study in found]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"several studies have the name {twice[0]!r}")
    if sets is None:
        return found
    if unknown := [name for name in sets if name not in names]:
        raise ValueError(f"no study named {unknown[0]!r}; there are: {', '.join(names)}")
    return [found[names.index(name)] for name in sets]


ENGINES: Mapping[str, Callable[..., Engine]] = {"local": LocalEngine, "ray": RayEngine}


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Whether a signal asks to stop; what is in hand is finished, unless a second one comes."""
    asked = threading.Event()

    def stop(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sweep(
    weights: "str | Path | Sequence[str | Path]",
    arch: "str | Sequence[str]" = (),
    data: "str | Path | Study | Sequence[str | Path | Study]" = (),
    *,
    store: str | Path,
    watch: bool = False,
    patience: float | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    **options: Any,
) -> Summary:
    """Score checkpoints against studies, each once, into a store that any later call goes on with.

    A checkpoint's results are stored in one transaction. SIGINT and SIGTERM end a sweep when what is in hand is
    finished; a sweep that was killed, or whose disk was full, has lost nothing that it reported. A checkpoint that
    cannot be scored, or whose worker dies of it, is entered as a failure and stops no other. Worker processes import
    the caller's main module, which therefore must not sweep when it is imported.

    Parameters
    ----------
    weights : path-like or sequence of them
        Files, folders, globs, `.txt` files with a path a line, or manifests (`fastrdm.scoring.manifest`).
    arch : str or sequence of str
        As for `score_checkpoints`.
    data : path-like, Study or sequence of them
        Folders as for `open_studies`, or studies.
    store : path-like
        The file of results, as for `fastrdm.Store`.
    watch : bool
        Whether to go on with checkpoints that appear later, once their files are complete.
    patience : float, optional
        Seconds without anything to do after which watching ends; None watches until a signal.
    on_event : callable
        Called with a dict when there is a plan, a worker is ready or lost, a checkpoint is given to one, scored, known
        under another name or failed, and at the end; ``"scored"`` comes after the transaction.
    **options
        ``sets``, ``modality`` as for `open_studies`; ``taps``; ``labels``, a regular expression whose named groups are
        searched in each path; ``engine``, "local", "ray" or an engine of
        `fastrdm.scoring.scheduler`; ``workers``; ``provider``, ``precision``,
        ``provider_options``, ``batch_size``, ``allow_inconsistent`` as for `OnnxModel`; ``keep_rdms``;
        ``retry_failed``.

    Returns
    -------
    Summary

    Raises
    ------
    ValueError, FileNotFoundError
        Before work starts: if there is no checkpoint, architecture, study or provider as asked for.
    StoreError
        If the store cannot be opened, or written any more.
    """
    given = [weights] if isinstance(weights, str | Path) else weights
    with Sweep(given, [arch] if isinstance(arch, str) else arch, data, store=store, **options) as s:
        return s.run(watch=watch, patience=patience, on_event=on_event)
