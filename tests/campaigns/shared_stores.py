"""Starts several sweeps at once on one store, round after round, and compares the results with those of one sweep.

    python tests/campaigns/shared_stores.py --rounds 50 --sweeps 2
    python tests/campaigns/shared_stores.py --rounds 50 --sweeps 3 --kill

With `--kill`, every second round kills one of the sweeps at a random moment; the others must score what it had claimed.
The campaign counts

- twice: checkpoints that several sweeps of a round scored, or one sweep several times
- lost: checkpoints without rows at the end of a round, or that a sweep which ended had not waited for
- doubled: rows that the store holds twice
- changed: checkpoints whose rows differ from those of one sweep
- wrong_status: sweeps that ended with another exit status than 0, except killed ones
- hung: sweeps that do not end within a deadline
"""

import collections
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaigns.common import (
    DEADLINE_S,
    SweepProcess,
    Tally,
    compare,
    linked,
    make,
    parser_of,
    rows_of,
    undisturbed,
)

COUNTS = ("twice", "lost", "doubled", "changed", "wrong_status", "hung")
# Imports take a second or more, and each checkpoint milliseconds.
LATEST_KILL_S = 8.0


def run_round(tally, made, place, expected, started, killed_after=None):
    """Wait for sweeps that have been started on one store, compare it, and count what they scored twice."""
    if killed_after is not None:
        started[0].wait(killed_after)
    end = time.monotonic() + DEADLINE_S
    scored = collections.Counter()
    for number, sweep in enumerate(started):
        where = f"{place.name}, sweep {number + 1}"
        is_killed = killed_after is not None and number == 0
        status = sweep.wait(max(1.0, end - time.monotonic()))
        if status is None:
            tally.add("hung", where)
            continue
        if status and not is_killed:
            tally.add("wrong_status", f"{where}: {status}: {sweep.errors}")
        events = sweep.events
        scored.update(sweep.paths("scored"))
        if not is_killed and events:
            last = events[-1]
            done = events[0].get("done", 0) + last.get("scored", 0) + last.get("elsewhere", 0)
            tally.add("lost", f"{where} ended after {done}", abs(len(expected) - done))
    twice = sum(n - 1 for n in scored.values())
    tally.add("twice", f"{place.name}: {[path for path in scored if scored[path] > 1]}", twice)
    compare(tally, place.name, rows_of(place / "scores.db"), expected)
    tally.done["rounds"] += 1
    tally.done["most twice in a round"] = max(tally.done["most twice in a round"], twice)


def campaign(
    rounds, sweeps, n=30, engine="local", kill=False, seed=0, disturbed=None, arguments=()
):
    """Run rounds of some sweeps on n checkpoints; return the tally.

    `disturbed` makes a context for a folder and a random generator, that of a round, with the sweeps' environment.
    """
    tally, rng = Tally(*COUNTS), random.Random(seed)
    disturbed = disturbed or (lambda place, rng: contextlib.nullcontext({}))
    with tempfile.TemporaryDirectory(prefix="fastrdm-shared-") as name:
        folder = Path(name)
        made = make(folder / "made", n)
        expected, _ = undisturbed(made, folder / "alone")
        for number in range(rounds):
            after = rng.uniform(0, LATEST_KILL_S) if kill and number % 2 else None
            place = linked(made, folder / f"round{number}")
            chosen = ("--engine", engine, *arguments)
            with disturbed(place, rng) as environment:
                started = [
                    SweepProcess(place, *chosen, cache=made / "cache", environment=environment)
                    for _ in range(sweeps)
                ]
                run_round(tally, made, place, expected, started, after)
            print(f"round {number + 1} of {rounds} is done", flush=True)
    return tally


def main():
    """Run the campaign; the exit status is 1 if it found a problem."""
    parser = parser_of(__doc__)
    parser.add_argument("--sweeps", type=int, default=2, help="sweeps in each round")
    parser.add_argument("--engine", default="local", choices=("local", "ray", "in-process"))
    parser.add_argument("--kill", action="store_true", help="kill one sweep of every second round")
    chosen = parser.parse_args()
    tally = campaign(
        chosen.rounds, chosen.sweeps, chosen.checkpoints, chosen.engine, chosen.kill, chosen.seed
    )
    print(tally.text)
    return tally.status


if __name__ == "__main__":
    sys.exit(main())
