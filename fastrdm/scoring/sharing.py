"""Which checkpoints of a sweep run now: each content once in a run, and in one sweep at a time.

A checkpoint waits while another one runs that may have the same content, or while another sweep on the same store has
claimed this content. Contents are compared by their samples, since only workers read whole files.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from fastrdm.scoring.copies import FileSample, Identity, Samples, remember
from fastrdm.scoring.jobs import Elsewhere, Job, Known, Outcome, Scored, Stamp
from fastrdm.scoring.journal import Journal
from fastrdm.scoring.scheduler import Notify

# Seconds of looking for a job before others have their turn, and between two looks at the claims of other sweeps.
_SCAN_S, _POLL_S = 0.2, 1.0

# Pipeline and digest of the sample.
_Content: TypeAlias = tuple[int, str]


@dataclass(frozen=True)
class _Candidate:
    """A job and the sample of its files when it was looked at."""

    job: Job
    sample: FileSample


class Sharing:
    """Holds checkpoints back while another one runs that may have the same content.

    `state_of` returns a checkpoint's current stamp and state; `planned` has the hashes of the keys of the jobs that
    were new when the sweep was planned. `notify` is called with an event "waiting" when the number of checkpoints that
    wait for other sweeps changes.
    """

    def __init__(
        self,
        journal: Journal,
        state_of: Callable[[Job], tuple[Stamp, str]],
        planned: set[int],
        notify: Notify,
    ) -> None:
        self._journal, self._state_of, self._planned = journal, state_of, planned
        self._notify = notify
        self._samples = Samples()
        # Contents that run, each with the candidates that wait for it.
        self._running: dict[_Content, dict[Identity, list[_Candidate]]] = {}
        # What runs, by the number of the job.
        self._candidates: dict[int, _Candidate] = {}
        # What other sweeps have claimed, and who they are.
        self._claimed: list[tuple[Job, _Content]] = []
        self._holders: list[str] = []
        self._again: deque[Job] = deque()
        self._prepared: deque[Job | Outcome] = deque()
        self._hashes: dict[tuple[int, Identity], str] = {}
        # Names of files with scores, by content and SHA-256. They are kept together, because the store looks at all
        # other names of a content.
        self._names: dict[tuple[_Content, str], list[Known]] = {}
        # Results for copies, where no store has them.
        self._scored: dict[_Content, dict[str, Scored]] = {}
        self._polled, self._announced = -math.inf, 0

    def present(self, jobs: Iterator[tuple[Job, Stamp, str]]) -> Iterator[tuple[Job, Stamp, str]]:
        """Pass on checkpoints, and note those that another sweep settled since they were planned."""
        for job, stamp, state in jobs:
            if state != "new" and hash(job.key) in self._planned:
                self._planned.discard(hash(job.key))
                self._prepared.append(self._elsewhere(job, stamp, state))
            yield job, stamp, state

    def ready(self, jobs: Iterator[Job | None]) -> Iterator[Job | Outcome | None]:
        """Yield jobs when they may run, and outcomes of checkpoints that need no worker; None while there are none."""
        looked = time.monotonic()
        is_open = True
        while is_open or self._is_waiting:
            self._poll()
            is_idle = False
            item: Job | Outcome | None = None
            if self._prepared:
                item = self._prepared.popleft()
            elif self._again:
                item = self._admit(self._again.popleft())
            else:
                try:
                    job = next(jobs) if is_open else None
                except StopIteration:
                    is_open = False
                    continue
                is_idle = job is None
                item = job and self._admit(job)
            if item is None and not is_idle and time.monotonic() - looked < _SCAN_S:
                continue
            self._prepared.extend(self._keep_names())
            if is_idle or not self._claimed:
                self._announce(len(self._claimed))
            if item or not self._prepared:
                yield item
            looked = time.monotonic()
        self._announce(0)

    @property
    def _is_waiting(self) -> bool:
        return bool(
            self._prepared
            or self._again
            or self._claimed
            or self._names
            or any(self._running.values())
        )

    def _announce(self, count: int) -> None:
        if count != self._announced and (self._holders or not count):
            self._announced = count
            self._notify({"event": "waiting", "count": count, "holders": self._holders})

    def _poll(self) -> None:
        """Try checkpoints again that other sweeps do not claim any more."""
        if not self._claimed or time.monotonic() - self._polled < _POLL_S:
            return
        self._polled = time.monotonic()
        held = self._journal.claimed()
        self._again.extend(job for job, content in self._claimed if content not in held)
        self._claimed = [(job, content) for job, content in self._claimed if content in held]
        self._holders = sorted({held[content] for _, content in self._claimed})

    def _admit(self, job: Job) -> Job | Outcome | None:
        """A job that may run, or its outcome; None if it has to wait."""
        self._planned.discard(hash(job.key))
        sample = self._samples.take(job.path)
        if sample is None:
            # The worker finds the reason.
            return job
        candidate = _Candidate(job, sample)
        content = self._content(candidate)
        if sha256 := self._hashes.get((content[0], sample.identity)):
            self._add_name(candidate, content, sha256)
            return None
        if content in self._running:
            self._running[content].setdefault(sample.identity, []).append(candidate)
            return None
        self._running[content] = {sample.identity: [candidate]}
        self._start_next(content)
        return self._prepared.popleft() if self._prepared else None

    def _start_next(self, content: _Content) -> None:
        """Claim a content, and prepare one of the candidates that may have it.

        The others wait, because equal samples do not prove equal contents.
        """
        waiting = self._running[content]
        known = self._journal.claim(*content)
        if known is None:
            self._claimed += [(each.job, content) for each in _taken(waiting)]
            del self._running[content]
            return
        for candidate in _taken(waiting):
            # Another sweep may have scored it since its state was read.
            stamp, state = self._state_of(candidate.job)
            if state == "new":
                known = (*known, *self._scored.get(content, ()))
                self._candidates[candidate.job.number] = candidate
                self._prepared.append(replace(candidate.job, known=known))
                return
            self._prepared.append(self._elsewhere(candidate.job, stamp, state))
        self._journal.release(*content)
        del self._running[content]

    def _elsewhere(self, job: Job, stamp: Stamp, state: str) -> Elsewhere:
        error = self._journal.error(job) if state == "failed" else ""
        return Elsewhere(job, stamp, error)

    def keep(self, outcome: Outcome) -> Iterator[Outcome]:
        """Add an outcome of a worker to the journal; yield it, and then those of other names of the same file."""
        is_kept = isinstance(outcome, Elsewhere) or (
            isinstance(outcome, Known) and not outcome.worker
        )
        if is_kept:
            yield outcome
            return
        candidate = self._candidates.pop(outcome.job.number, None)
        content = candidate and self._content(candidate)
        if content and isinstance(outcome, Known) and not self._journal.keeps:
            original = self._scored[content][outcome.sha256]
            outcome = _repeated(original, outcome.job, outcome.stamp, outcome.seconds)
        self._journal.add(outcome)
        if candidate and content:
            self._settle(outcome, candidate, content)
        names = self._keep_names()
        yield outcome
        yield from names

    def _settle(self, outcome: Outcome, candidate: _Candidate, content: _Content) -> None:
        """Note the other names of a file with an outcome, end the claim, and start the next copy."""
        waiting, sha256 = self._running[content], ""
        if isinstance(outcome, Scored | Known):
            sha256 = outcome.sha256
            if isinstance(outcome, Scored) and not self._journal.keeps:
                self._scored.setdefault(content, {})[sha256] = outcome
            if outcome.stamp == candidate.sample.stamp:
                identity = candidate.sample.identity
                remember(self._hashes, (content[0], identity), sha256)
                for name in waiting.pop(identity, ()):
                    self._add_name(name, content, sha256)
        self._journal.release(*content, sha256)
        if waiting:
            self._start_next(content)
        else:
            del self._running[content]

    def _content(self, candidate: _Candidate) -> _Content:
        return self._journal.pipeline(candidate.job.network), candidate.sample.digest

    def _add_name(self, candidate: _Candidate, content: _Content, sha256: str) -> None:
        known = Known(candidate.job, candidate.sample.stamp, sha256)
        self._names.setdefault((content, sha256), []).append(known)

    def _keep_names(self) -> list[Outcome]:
        """Add the names of files with scores to the journal, and return their outcomes."""
        outcomes: list[Outcome] = []
        for (content, sha256), names in self._names.items():
            self._journal.add_names(names)
            if self._journal.keeps:
                outcomes += names
            else:
                scored = self._scored[content][sha256]
                outcomes += [_repeated(scored, each.job, each.stamp) for each in names]
        self._names.clear()
        return outcomes


def _repeated(scored: Scored, job: Job, stamp: Stamp, seconds: float = 0.0) -> Scored:
    """The results of a checkpoint for a copy; without the warnings, which were given."""
    return replace(scored, job=job, stamp=stamp, seconds=seconds, warnings={})


def _taken(waiting: dict[Identity, list[_Candidate]]) -> Iterator[_Candidate]:
    """Take candidates one at a time."""
    while waiting:
        identity, candidates = waiting.popitem()
        candidate = candidates.pop()
        if candidates:
            waiting[identity] = candidates
        yield candidate
