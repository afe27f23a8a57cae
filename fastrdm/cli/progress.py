"""Output of a sweep: its estimate, and progress bars, JSON lines for batch systems, or failures only while it runs."""

import collections
import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from fastrdm._base import counted, format_bytes, format_seconds, printable, require
from fastrdm.cli.printing import (
    can_show_progress,
    complain,
    complain_lines,
    echo,
    echo_json,
    new_console,
)

if TYPE_CHECKING:
    from fastrdm.scoring import Estimate

Event = dict[str, Any]

# Number of checkpoints in the rate: enough to be steady, few enough to follow a growing cluster.
_WINDOW = 50


@contextlib.contextmanager
def shown(
    events: bool = False, quiet: bool = False, debug: bool = False
) -> Iterator[Callable[[Event], None]]:
    """Show a sweep's events until the context ends.

    Each is printed as a line of JSON if `events`. If `quiet`, or if standard error can show no
    progress, only left-out files, warnings, failures and the end are printed there. Tracebacks of failures are shown if
    `debug`.
    """
    if events:
        yield partial(_print_event, debug=debug)
    elif quiet or not can_show_progress():
        yield Notices(complain, debug, "fastrdm: ")
    else:
        with _live(debug) as show:
            yield show


def _print_event(event: Event, debug: bool) -> None:
    echo_json({name: value for name, value in event.items() if debug or name != "traceback"})


class Notices:
    """Lines about a sweep's events: left-out files, warnings, failures, waiting for other sweeps, and the end.

    Of warnings that differ by the checkpoint alone, the first is printed, and their number at the end.
    """

    def __init__(self, show: Callable[[str], None], debug: bool, prefix: str = "") -> None:
        self._show, self._debug, self._prefix = show, debug, prefix
        self._warnings: collections.Counter[str] = collections.Counter()
        self._is_waiting = False
        self._providers: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Print the lines of an event."""
        for note in event.get("left_out", ()):
            self._show(f"{self._prefix}warning: {note['message']}")
        checkpoint = event.get("checkpoint", "")
        for text in event.get("warnings", ()):
            kind = text.replace(f"{checkpoint}: ", "").replace(checkpoint or "\n", "…")
            self._warnings[kind] += 1
            if self._warnings[kind] == 1:
                self._show(
                    f"{self._prefix}warning: {text if checkpoint in text else f'{checkpoint}: {text}'}"
                )
        if event["event"] == "ready" and "provider" in event:
            self._providers.add(event["provider"])
        if event["event"] == "waiting":
            if event["count"] and not self._is_waiting:
                self._show(f"{self._prefix}{_waiting_text(event)}")
            self._is_waiting = bool(event["count"])
        elif event["event"] == "failed":
            if self._debug:
                complain_lines(event["traceback"])
            self._show(f"{self._prefix}error: {event['error']}")
        elif event["event"] == "end":
            for text, n in self._warnings.items():
                if n > 1:
                    self._show(f"{self._prefix}warning: {counted(n, 'checkpoint')}: {text}")
            self._show(event.get("note") or f"{self._prefix}{_end_of(event, self._providers)}")


def print_estimate(estimate: "Estimate", as_json: bool, as_event: bool = False) -> int:
    """Print an estimate; return 1 if something that was named does not exist, else 0."""
    plan = estimate.plan
    if as_json or as_event:
        event = {"event": "estimate"} if as_event else {}
        echo_json({**event, **dataclasses.asdict(estimate)})
        return int(bool(plan.missing))
    for note in plan.left_out:
        complain(f"fastrdm: warning: {note.message}")
    for missing in plan.missing:
        complain(f"fastrdm: error: {missing}")
    echo(
        f"{plan.new} to score, {format_bytes(plan.n_bytes)}; {plan.done} done, {plan.failed} failed"
    )
    if plan.new:
        workers = counted(estimate.workers, "worker")
        echo(
            f"about {format_seconds(estimate.seconds)} with {workers}, each of up to"
            f" {format_bytes(estimate.memory)}: measured on the first checkpoints, which are not stored"
        )
    return int(bool(plan.missing))


def _end_of(event: Event, providers: Collection[str]) -> str:
    known = f", {event['known']} known under other names" if event["known"] else ""
    if event["elsewhere"]:
        known += f", {event['elsewhere']} scored by another sweep"
    more = "" if event["outcome"] == "finished" else "; run the same command to continue"
    place = f" on {', '.join(sorted(providers))}" if providers else ""
    return (
        f"{event['outcome']}: {event['scored']} scored{known}, {event['failed']} failed in"
        f" {format_seconds(event['seconds'])}{place}{more}"
    )


def _waiting_text(event: Event) -> str:
    holders = " and ".join(event["holders"])
    return (
        f"waiting for {counted(event['count'], 'checkpoint')} that another sweep scores: {holders}"
    )


class Board:
    """State of the display: counts, rate and each worker's current checkpoint."""

    def __init__(self) -> None:
        self.total, self.done, self.failed = 0, 0, 0
        self.n_claimed = 0
        self.is_open = False
        self.workers: dict[str, str] = {}
        self._queues: dict[str, collections.deque[str]] = {}
        self._times: collections.deque[float] = collections.deque(maxlen=_WINDOW)

    def see(self, event: Event) -> None:
        """Update the state with an event."""
        kind, worker = event["event"], event.get("worker", "")
        if kind == "plan":
            self.total, self.is_open = event["new"], event["watch"]
            self._times.append(time.monotonic())
        elif kind == "ready":
            provider = f", {event['provider']}" if "provider" in event else ""
            self.workers[worker] = f"ready on {event['host']}{provider}"
            self._queues[worker] = collections.deque()
        elif kind == "lost":
            self.workers.pop(worker, None)
            self._queues.pop(worker, None)
        elif kind == "given":
            self._queues[worker].append(event["checkpoint"])
            self.workers[worker] = self._queues[worker][0]
        elif kind == "waiting":
            self.n_claimed = event["count"]
        elif kind in ("scored", "known", "elsewhere", "failed"):
            self.done += kind != "failed"
            self.failed += kind == "failed"
            self.total = max(self.total, self.done + self.failed)
            self._times.append(time.monotonic())
            if queue := self._queues.get(worker):
                with contextlib.suppress(ValueError):
                    queue.remove(event["checkpoint"])
                self.workers[worker] = queue[0] if queue else "waiting"

    @property
    def rate(self) -> float:
        """Recent checkpoints per second."""
        span = self._times[-1] - self._times[0] if self._times else 0.0
        return (len(self._times) - 1) / span if span else 0.0

    @property
    def text(self) -> str:
        """Counts, rate and time left, in one line."""
        left = self.total - self.done - self.failed
        parts = [f"{self.done} done", f"{self.failed} failed", f"{left} to go"]
        if self.n_claimed:
            parts.append(f"waiting for {self.n_claimed} of another sweep")
        if self.rate:
            parts.append(f"{self.rate:.2f}/s")
            parts.append("watching" if self.is_open else f"{format_seconds(left / self.rate)} left")
        return ", ".join(parts)


@contextlib.contextmanager
def _live(debug: bool) -> Iterator[Callable[[Event], None]]:
    rich = require("rich.progress", "run", "to show progress")
    console = new_console(sys.stderr, stderr=True)
    board = Board()

    def show_line(line: str) -> None:
        console.print(printable(line), soft_wrap=True)

    notices = Notices(show_line, debug)
    text = rich.TextColumn("{task.description}", markup=False)
    columns = (rich.SpinnerColumn(), rich.BarColumn(), text)
    with rich.Progress(*columns, console=console, transient=True) as bars:
        main = bars.add_task("", total=None)
        lines: dict[str, Any] = {}

        def show(event: Event) -> None:
            board.see(event)
            notices(event)
            completed = board.done + board.failed
            total = board.total or None
            bars.update(main, description=board.text, total=total, completed=completed)
            for name in [name for name in lines if name not in board.workers]:
                bars.remove_task(lines.pop(name))
            for name, state in board.workers.items():
                if name not in lines:
                    lines[name] = bars.add_task("", total=None)
                bars.update(lines[name], description=printable(f"{name}: {state}"))

        yield show
