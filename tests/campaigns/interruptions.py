"""Interrupts sweeps of 30 checkpoints at random moments, resumes them, and compares them with an undisturbed sweep.

    python tests/campaigns/interruptions.py --count 300 --engines local ray

An interruption is a signal at a random moment of a sweep's life, from its imports to its end:

=================  ================================================================================
kill-main          SIGKILL of the sweep
kill-workers       SIGKILL of its workers; the sweep goes on
kill-both          SIGKILL of the sweep and its workers, in random order
stop-cont          SIGSTOP and SIGCONT of the sweep, its workers, or both; the sweep goes on
term, int, hup     the signal, once
term-all, int-all  the signal for the sweep and its workers, as batch systems and terminals send it
int-twice          SIGINT, and again up to half a second later
=================  ================================================================================

A sweep that an interruption ends is started again with the same command, until one ends by itself. Then the store must
hold what an undisturbed sweep stores. The campaign counts

- lost: checkpoints that were reported and are not stored, or are missing when all is done
- doubled: checkpoints that were scored again after they had been stored, and rows that are there twice
- changed: checkpoints whose rows differ from the undisturbed ones
- hung: sweeps that do not end within a deadline, and workers that outlive them
- wrong_status: exit statuses that do not tell what happened
- failed: checkpoints that became failures

The seed decides kinds, engines and moments; what happens at a moment depends on the machine.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaigns.common import Tally, compare, rows_of
from campaigns.processes import birth_of, children_of, is_alive, send
from small_study import write_study
from small_sweep import write_checkpoints

N_CHECKPOINTS = 30
# A sweep takes seconds. Beside other programs on a busy machine it may take minutes, but not this long.
DEADLINE_S = 300.0
ORPHANS_S = 60.0
# Sweeps into one store that are interrupted; the next one may finish.
MAX_DISTURBED = 8

ENDING = {
    "term": signal.SIGTERM,
    "term-all": signal.SIGTERM,
    "int": signal.SIGINT,
    "int-all": signal.SIGINT,
    "int-twice": signal.SIGINT,
    "hup": signal.SIGHUP,
}
KINDS = ("kill-main", "kill-workers", "kill-both", "stop-cont", *ENDING)
# What an interpreter prints that SIGINT ends, with status 1, before it runs a program.
EARLY = ("Failed to import the site module", "Could not import runpy module")
COUNTS = ("lost", "doubled", "changed", "hung", "wrong_status", "failed")

NETWORK = """
import torch
from fastrdm.images import Preprocessing

def build():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(196, 10))
    network.preprocessing = Preprocessing((16, 16))
    network.taps = {"conv": "1", "fc": "3"}
    return network
"""


class InterruptionTally(Tally):
    """What interruptions did, with their numbers by engine and kind."""

    def __init__(self):
        super().__init__(*COUNTS)
        self.interruptions = collections.Counter()

    @property
    def text(self):
        lines = (
            f"  {engine:6} {kind:13} {n}"
            for (engine, kind), n in sorted(self.interruptions.items())
        )
        self.done["interruptions"] = self.interruptions.total()
        return "\n".join([*lines, super().text])


def make_home(home, data=None):
    """Write a network, its checkpoints, and a study unless `data` has real ones."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "campaign_net.py").write_text(NETWORK)
    names = {}
    exec(NETWORK, names)
    write_checkpoints(home / "runs", names["build"], N_CHECKPOINTS)
    if data is not None:
        (home / "data").symlink_to(Path(data).resolve())
    else:
        write_study(home / "data", n=24, n_subjects=5, regions=("evc", "it"))


class InterruptedSweep:
    """A sweep's process, the events that it has printed, and the processes of its workers."""

    def __init__(self, home, store, engine, cache):
        command = [sys.executable, "-m", "fastrdm", "sweep", "runs", "--arch", "campaign_net:build"]
        command += ["--data", "data", "--store", str(store), "--events", *engine.arguments]
        environment = os.environ | {"PYTHONPATH": str(home), "FASTRDM_CACHE": str(cache)}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=self.errors
        )
        self.events = []
        self.engine = engine
        self._seen = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            # The last line of a killed process may be cut.
            with contextlib.suppress(ValueError):
                self.events.append(json.loads(line))

    @property
    def is_running(self):
        return self.process.poll() is None

    @property
    def scored(self):
        return [e["checkpoint"] for e in self.events if e["event"] in ("scored", "known")]

    def workers(self):
        """The workers' processes: those that were reported ready, and those below the sweep."""
        found = {e["pid"]: "" for e in list(self.events) if e["event"] == "ready"}
        if not self.engine.is_cluster:
            found |= dict.fromkeys(children_of(self.process.pid), "")
        self._seen |= {(pid, birth_of(pid)) for pid in found}
        return [pid for pid in found if is_alive(pid)]

    def orphans(self):
        self.workers()
        return [
            pid for pid, birth in self._seen if birth and birth_of(pid) == birth and is_alive(pid)
        ]

    def wait(self, seconds):
        """The exit status; None after the deadline."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
            self._reader.join(10)
        return self.process.poll()

    def error_text(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")


class Local:
    name, arguments, is_cluster = "local", ("--workers", "2"), False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


class Ray:
    """A cluster of two nodes on this machine, to which each sweep connects."""

    name, is_cluster = "ray", True

    def __enter__(self):
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        self._cluster.add_node(num_cpus=1)
        self.arguments = ("--engine", "ray", "--address", self._cluster.address)
        return self

    def __exit__(self, *error):
        self._cluster.shutdown()


ENGINES = {"local": Local, "ray": Ray}


def interrupt(kind, sweep, rng):
    """Interrupt a sweep; return whether it was still running."""
    main, workers = sweep.process.pid, sweep.workers()
    if not sweep.is_running or (kind == "kill-workers" and not workers):
        return False
    if kind in ENDING:
        chosen = [main, *(workers if kind.endswith("-all") else [])]
        rng.shuffle(chosen)
        for pid in chosen:
            send(pid, ENDING[kind])
        if kind == "int-twice":
            time.sleep(rng.uniform(0, 0.5))
            if sweep.is_running:
                send(main, signal.SIGINT)
        return True
    chosen = {"kill-main": [main], "kill-workers": workers, "kill-both": [main, *workers]}.get(kind)
    if kind == "stop-cont":
        chosen = rng.choice([[main], workers or [main], [main, *workers]])
    rng.shuffle(chosen)
    for pid in chosen:
        send(pid, signal.SIGSTOP if kind == "stop-cont" else signal.SIGKILL)
    if kind == "stop-cont":
        time.sleep(rng.uniform(0.1, 2))
        for pid in chosen:
            send(pid, signal.SIGCONT)
    return True


def statuses_of(kind):
    """Exit statuses that an interruption may cause, beside 0 of a sweep that was done."""
    if kind in ENDING:
        # Before the interpreter has imported fastrdm, the signal itself ends it.
        return {128 + ENDING[kind], -ENDING[kind]}
    return {-signal.SIGKILL} if kind in ("kill-main", "kill-both") else set()


class InterruptionCampaign:
    """Rounds of interrupted sweeps of one engine."""

    def __init__(self, home, engine, seed, tally, kinds=KINDS):
        self.home, self.engine, self.tally, self.kinds = home, engine, tally, kinds
        self.rng = random.Random(f"{engine.name} {seed}")
        self.cache = home / "cache"
        self.expected = self._undisturbed()
        # Again, since the first one exported the network.
        start = time.monotonic()
        self._undisturbed()
        self.usual_s = time.monotonic() - start
        print(f"{engine.name}: an undisturbed sweep takes {self.usual_s:.1f} s", flush=True)

    def _undisturbed(self):
        store = self.home / f"undisturbed-{self.engine.name}-{time.time_ns()}.db"
        sweep = InterruptedSweep(self.home, store, self.engine, self.cache)
        status = sweep.wait(DEADLINE_S)
        if status != 0:
            sweep.process.kill()
            raise RuntimeError(
                f"an undisturbed sweep ended with {status}: {sweep.error_text()} {sweep.events[-3:]}"
            )
        return rows_of(store)

    def round(self, number):
        """Interrupt sweeps into one store until one ends by itself, and compare."""
        store = self.home / f"{self.engine.name}-{number}.db"
        cache = self.cache
        if self.rng.random() < 0.1:
            # The network is exported again.
            cache = self.home / f"cache-{self.engine.name}-{number}"
        reported = collections.Counter()
        self.tally.done["rounds"] += 1
        for attempt in range(50):
            if self._sweep(store, cache, reported, is_disturbed=attempt < MAX_DISTURBED):
                break
        for path, times in reported.items():
            if times > 1:
                self.tally.add("doubled", f"{store.name}: {path} was scored {times} times")
        compare(self.tally, store.name, rows_of(store), self.expected)
        for path in self.home.glob(f"{store.name}*"):
            path.unlink()

    def _sweep(self, store, cache, reported, is_disturbed):
        """Run a sweep, perhaps with interruptions; return whether it ended by itself with status 0."""
        start = time.monotonic()
        sweep = InterruptedSweep(self.home, store, self.engine, cache)
        self.tally.done["sweeps"] += 1
        done, worker_kills = [], 0
        while is_disturbed and sweep.is_running:
            kind = self.rng.choice(self.kinds)
            if kind == "kill-workers" and worker_kills == 2:
                # A third death in work would rightly be a failure of the checkpoint.
                kind = "kill-main"
            end = time.monotonic() + self.rng.uniform(0, self.usual_s)
            while sweep.is_running and time.monotonic() < end:
                sweep.workers()
                time.sleep(0.02)
            while kind == "kill-workers" and sweep.is_running and not sweep.workers():
                time.sleep(self.rng.uniform(0, 0.3))
            if interrupt(kind, sweep, self.rng):
                done.append(kind)
                worker_kills += kind == "kill-workers"
                self.tally.interruptions[self.engine.name, kind] += 1
                if kind not in ("kill-workers", "stop-cont"):
                    break
        is_complete = self._end(sweep, store, reported, done)
        if not done:
            # The first measurement may have been that of a busy moment.
            self.usual_s = min(self.usual_s, time.monotonic() - start)
        return is_complete

    def _end(self, sweep, store, reported, done):
        where = f"{store.name} after {', '.join(done) or 'no interruption'}"
        status = sweep.wait(DEADLINE_S)
        if status is None:
            self.tally.add("hung", f"{where}: {sweep.error_text()[-2000:]}")
            sweep.process.kill()
            sweep.wait(DEADLINE_S)
        end = time.monotonic() + ORPHANS_S
        while (orphans := sweep.orphans()) and time.monotonic() < end:
            time.sleep(0.05)
        if orphans:
            self.tally.add("hung", f"{where}: workers {orphans} outlive the sweep")
            for pid in orphans:
                send(pid, signal.SIGKILL)
        stored = rows_of(store)
        reported.update(sweep.scored)
        if lost := sorted(set(reported) - stored.keys()):
            self.tally.add("lost", f"{where}: {lost}")
        is_done = stored.keys() == self.expected.keys()
        allowed = statuses_of(done[-1] if done else "") | ({0} if is_done else set())
        # SIGINT while the interpreter starts; fastrdm is not imported yet.
        is_early = any(words in sweep.error_text() for words in EARLY)
        if status is not None and status not in allowed and not is_early:
            self.tally.add("wrong_status", f"{where}: {status}: {sweep.error_text()[-2000:]}")
        failed = [e["checkpoint"] for e in sweep.events if e["event"] == "failed"]
        if failed:
            self.tally.add("failed", f"{where}: {failed}")
        return status == 0


def run(home, engines, count, seed=0, data=None, minutes=None, kinds=KINDS):
    """Interrupt sweeps of each engine `count` times in all, or for some minutes; return the tally."""
    tally, start = InterruptionTally(), time.monotonic()
    make_home(home, data)
    for number in (signal.SIGINT, signal.SIGHUP):
        # Under nohup and in the background the sweeps would inherit that they are ignored.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    for i, name in enumerate(engines):
        wanted = count * (i + 1) // len(engines)
        with ENGINES[name]() as engine:
            campaign = InterruptionCampaign(home, engine, seed, tally, kinds)
            number = 0
            while tally.interruptions.total() < wanted:
                if minutes is not None and time.monotonic() - start > 60 * minutes * (i + 1) / len(
                    engines
                ):
                    break
                campaign.round(number)
                number += 1
                print(tally.text, flush=True)
    return tally


def main():
    """Run a campaign; the exit status is 1 if anything was lost, doubled, changed, hung or wrong."""
    parser = argparse.ArgumentParser(description="Interrupt sweeps, resume them, and compare.")
    parser.add_argument("--count", type=int, default=300, help="interruptions (default: 300)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["local", "ray"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--minutes", type=float, help="end after this time in any case")
    parser.add_argument("--data", help="studies to score against (default: made-up ones)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastrdm-interruptions-") as home:
        tally = run(
            Path(home), arguments.engines, arguments.count, arguments.seed, arguments.data,
            arguments.minutes, arguments.kinds,
        )  # fmt: skip
    print(tally.text)
    return tally.status


if __name__ == "__main__":
    sys.exit(main())
