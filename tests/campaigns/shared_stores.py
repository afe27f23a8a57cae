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

import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
COUNTS = ("twice", "lost", "doubled", "changed", "wrong_status", "hung")
# A round takes seconds, and minutes on a busy machine.
DEADLINE_S = 600.0
# Imports take a second or more, and each checkpoint milliseconds.
LATEST_KILL_S = 8.0


def prepare(folder: Path, n: int) -> None:
    """Write what the sweeps need into a folder."""
    import small_sweep

    small_sweep.make(folder, n)


def start(place: Path, number: int, engine: str) -> "tuple[subprocess.Popen[bytes], IO[bytes]]":
    """Start a sweep, whose events go to a file."""
    events = (place / f"events{number}.jsonl").open("w+b")
    command = [sys.executable, "-m", "fastrdm", "sweep", "runs", "--arch", "net.onnx"]
    command += ["--data", "study", "--store", "scores.db", "--json", "--engine", engine]
    with (place / f"errors{number}.txt").open("wb") as errors:
        environment = {**os.environ, "FASTRDM_CACHE": str(place.parent / "cache")}
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=events, stderr=errors
        )
    return process, events


def rows_of(store: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of each checkpoint."""
    from fastrdm.scoring import Store

    found = collections.defaultdict(list)
    with Store(store) as opened:
        for row in opened.rows():
            found[row[0]].append(row)
    return dict(found)


def run_round(
    made: Path,
    place: Path,
    sweeps: int,
    engine: str,
    expected: dict[str, list[tuple[Any, ...]]] | None,
    killed_after: float | None = None,
) -> "collections.Counter[str]":
    """Run sweeps at once in a new folder, and count the problems; without `expected`, only those of a single sweep."""
    place.mkdir()
    for name in ("runs", "net.onnx", "study"):
        (place / name).symlink_to(made / name)
    tally: collections.Counter[str] = collections.Counter()
    started = [start(place, number, engine) for number in range(sweeps)]
    if killed_after is not None:
        time.sleep(killed_after)
        started[0][0].kill()
    end = time.monotonic() + DEADLINE_S
    scored: collections.Counter[str] = collections.Counter()
    n_files = len(list((made / "runs").iterdir()))
    for number, (process, events) in enumerate(started):
        is_killed = killed_after is not None and number == 0
        try:
            status = process.wait(max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            tally["hung"] += 1
            continue
        tally["wrong_status"] += bool(status and not is_killed)
        with events:
            events.seek(0)
            # The last line of a killed sweep may be incomplete.
            lines = [line for line in events.read().split(b"\n")[:-1] if line]
        found = [json.loads(line) for line in lines]
        scored.update(event["checkpoint"] for event in found if event["event"] == "scored")
        if not is_killed and found:
            last = found[-1]
            done = found[0].get("done", 0) + last.get("scored", 0) + last.get("elsewhere", 0)
            tally["lost"] += abs(n_files - done)
    tally["twice"] += sum(n - 1 for n in scored.values())
    rows = rows_of(place / "scores.db")
    tally["lost"] += n_files - len(rows)
    tally["doubled"] += sum(len(each) - len(set(each)) for each in rows.values())
    if expected is not None:
        tally["changed"] += sum(rows[path] != expected[path] for path in rows)
    return tally


def campaign(
    rounds: int,
    sweeps: int,
    n: int = 30,
    engine: str = "local",
    kill: bool = False,
    seed: int = 0,
    show: bool = False,
) -> tuple["collections.Counter[str]", int]:
    """Run rounds; return the numbers of problems, and the most checkpoints that a round scored twice."""
    rng = random.Random(seed)
    total: collections.Counter[str] = collections.Counter(dict.fromkeys(COUNTS, 0))
    most = 0
    with tempfile.TemporaryDirectory(prefix="fastrdm-shared-") as folder:
        made = Path(folder, "made")
        made.mkdir()
        prepare(made, n)
        total += run_round(made, Path(folder, "alone"), 1, engine, None)
        expected = rows_of(Path(folder, "alone", "scores.db"))
        for number in range(rounds):
            after = rng.uniform(0, LATEST_KILL_S) if kill and number % 2 else None
            place = Path(folder, f"round{number}")
            tally = run_round(made, place, sweeps, engine, expected, after)
            total.update(tally)
            most = max(most, tally["twice"])
            if show:
                problems = ", ".join(f"{name} {tally[name]}" for name in COUNTS if tally[name])
                print(f"round {number + 1} of {rounds}: {problems or 'good'}", flush=True)
                if problems:
                    for text in sorted(place.glob("errors*.txt")):
                        print(text.read_text(errors="replace")[-2000:], flush=True)
    return total, most


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; the exit status is 1 if it found a problem."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--sweeps", type=int, default=2, help="sweeps in each round")
    parser.add_argument("--checkpoints", type=int, default=30)
    parser.add_argument("--engine", default="local", choices=("local", "ray", "in-process"))
    parser.add_argument("--kill", action="store_true", help="kill one sweep of every second round")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    total, most = campaign(
        chosen.rounds,
        chosen.sweeps,
        chosen.checkpoints,
        chosen.engine,
        chosen.kill,
        chosen.seed,
        show=True,
    )
    print(", ".join(f"{name} {total[name]}" for name in COUNTS))
    print(f"scored twice in one round: at most {most}")
    return int(any(total[name] for name in COUNTS))


if __name__ == "__main__":
    raise SystemExit(main())
