"""What the campaigns share: tallies, arguments, checkpoints of a small network, processes of sweeps, comparisons."""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import subprocess
import sys

# A sweep takes seconds. Beside other programs on a busy machine it may take minutes, but not this long.
DEADLINE_S = 600.0


class Tally:
    """What a campaign did, and the problems that it found with their descriptions."""

    def __init__(self, *problems):
        self.done = collections.Counter()
        self.problems = collections.Counter(dict.fromkeys(problems, 0))
        self.details = []

    def add(self, problem, detail, times=1):
        """Count a problem, and print its description."""
        if times:
            self.problems[problem] += times
            self.details.append(f"{problem}: {detail}")
            print(f"  {problem}: {detail}", flush=True)

    @property
    def text(self):
        return tally_line(self.done, self.problems)

    @property
    def status(self):
        """The exit status of the campaign: 1 if it found a problem."""
        return int(any(self.problems.values()))


def tally_line(done, problems):
    """A line that `run_all` reads: numbers of what was done and of problems, by name."""
    done, problems = (
        ", ".join(f"{name} {number}" for name, number in numbers.items())
        for numbers in (done, problems)
    )
    return f"tally: {done}; {problems}"


def parser_of(description, n=30):
    """The arguments that all campaigns of rounds have: rounds, checkpoints (`n` by default) and seed."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--checkpoints", type=int, default=n)
    parser.add_argument("--seed", type=int, default=0)
    return parser


class SweepProcess:
    """A sweep in a process, whose events go to a file."""

    def __init__(self, place, *arguments, cache, store="scores.db", environment=(), **options):
        command = [sys.executable, "-m", "fastrdm", "sweep", "runs", "--arch", "net.onnx"]
        command += ["--data", "study", "--store", str(store), "--events", *arguments]
        self._events, self._errors = (place / f"output{len(list(place.glob('output*')))}-{name}"
                                      for name in ("events", "errors"))  # fmt: skip
        with self._events.open("wb") as events, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=place,
                env={**os.environ, "FASTRDM_CACHE": str(cache), **dict(environment)},
                stdout=events,
                stderr=errors,
                **options,
            )

    def wait(self, seconds=DEADLINE_S):
        """The exit status; None, and the process is killed, if it does not end within a time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    @property
    def events(self):
        # The last line of a killed sweep may be incomplete.
        lines = self._events.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line]

    def paths(self, *events):
        """The checkpoints of events of some names, in their order."""
        return [event["checkpoint"] for event in self.events if event["event"] in events]

    @property
    def errors(self):
        return self._errors.read_text(errors="replace")[-2000:]


def make(folder, n):
    """Write net.onnx, study/ and n checkpoints in runs/ into a folder, and return it."""
    import small_sweep

    folder.mkdir()
    return small_sweep.make(folder, n)


def linked(made, place, names=("runs", "net.onnx", "study")):
    """Make a folder with links to what `make` wrote."""
    place.mkdir()
    for name in names:
        (place / name).symlink_to(made / name)
    return place


def undisturbed(made, place):
    """The rows that a sweep stores by itself, by checkpoint, and the size of its store in bytes."""
    sweep = SweepProcess(linked(made, place), "--engine", "in-process", cache=made / "cache")
    if sweep.wait() != 0:
        raise RuntimeError(f"an undisturbed sweep failed: {sweep.errors}")
    return rows_of(place / "scores.db"), (place / "scores.db").stat().st_size


def rows_of(store):
    """The rows of each checkpoint with subjects; a missing or empty store has none."""
    from fastrdm.scoring import Store

    found = collections.defaultdict(list)
    if store.exists() and store.stat().st_size:
        with Store(store) as opened:
            for row in opened.rows(subjects=True):
                found[row[0]].append(repr(row[1:]))
    return dict(found)


def compare(tally, where, found, expected):
    """Count checkpoints that are lost, rows that are doubled, and checkpoints whose rows have changed."""
    for path in expected.keys() | found.keys():
        rows, wanted = found.get(path, []), expected.get(path, [])
        if not rows:
            tally.add("lost", f"{where}: {path}")
        elif len(rows) != len(set(rows)):
            tally.add("doubled", f"{where}: {path} has {len(rows)} rows")
        elif sorted(rows) != sorted(wanted):
            tally.add("changed", f"{where}: {path}")


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def remove(path):
    with contextlib.suppress(OSError):
        path.unlink()
