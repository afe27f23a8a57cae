"""A sweep of many checkpoints with a stub for the forward pass; files, sweep, scoring and store are real.

    python bench/experiments/sweep_simulation.py FOLDER [--checkpoints 100000]
    python bench/experiments/sweep_simulation.py FOLDER --writes

The first prints time and peak of resident memory for each tenth as a line of JSON, then the time of a resume that
finds everything done. The second writes checkpoints of 11 layers × 4 regions × 15 subjects during concurrent reads.
"""

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from fastrdm import Target
from fastrdm.networks import hash_file
from fastrdm.scoring import (
    Hello,
    Method,
    Outcome,
    Report,
    Stamp,
    Store,
    StudyScores,
    Subjects,
    Sweep,
    score_layers,
)
from fastrdm.studies import Study

LAYERS = tuple(f"layer{i}" for i in range(11))
REGIONS = ("evc", "it", "early", "late")
N_CONDITIONS, N_SUBJECTS = 24, 15
N_PAIRS = N_CONDITIONS * (N_CONDITIONS - 1) // 2


def study():
    rng = np.random.default_rng(0)
    targets = {
        region: Target(rng.random((N_SUBJECTS, N_PAIRS)) + rng.random(N_PAIRS), name=region)
        for region in REGIONS
    }
    return Study("simulated", tuple(np.full((N_CONDITIONS, 4, 4, 3), 7, np.uint8)), targets)


class Stub:
    """A worker in this process that replaces networks by random RDMs, different for each file."""

    lost = ()

    def hands(self, load):
        self.load = load
        yield self.make

    def make(self):
        return self

    def hello(self):
        return self._done(Hello(os.getpid(), "here", {"provider": "stub"}))

    def submit(self, task, following, name):
        start, stamp, sha256 = time.perf_counter(), Stamp.of(task.path), hash_file(task.path)
        rdms = np.random.default_rng(int(sha256[:8], 16)).random((len(LAYERS), N_PAIRS))
        (study,), (stimuli,) = self.load.studies, self.load.stimuli
        scores = {region: score_layers(target, rdms) for region, target in study.targets.items()}
        scored = StudyScores(study.name, stimuli, LAYERS, scores)
        seconds = time.perf_counter() - start
        report = Report(task.path, stamp, sha256, task.labels, (scored,), seconds)
        return self._done(Outcome(task, name, report, stamp))

    def _done(self, value):
        future = Future()
        future.set_result(value)
        return future

    def close(self, now=True):
        pass


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def simulate(folder, n):
    weights = folder / "checkpoints"
    weights.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        path = weights / f"epoch{i:07d}.onnx"
        if not path.exists():
            path.write_bytes(i.to_bytes(8, "big"))
    peaks, times, seen = [0] * 10, [0.0] * 10, 0
    before = time.perf_counter()

    def on_event(event):
        nonlocal seen, before
        if event["event"] != "scored":
            return
        tenth = seen * 10 // n
        seen += 1
        if seen % 50 == 0:
            peaks[tenth] = max(peaks[tenth], resident())
        if seen * 10 % n == 0:
            times[tenth], before = time.perf_counter() - before, time.perf_counter()
            facts = {"seconds": round(times[tenth], 1), "MiB": round(peaks[tenth] / 2**20, 1)}
            print(json.dumps({"tenth": tenth + 1, **facts}), flush=True)

    options = {"store": folder / "scores.db", "engine": Stub(), "labels": r"epoch(?P<epoch>\d+)"}
    with Sweep([weights], (), study(), **options) as sweep:
        summary = sweep.run(on_event=on_event)
    print(json.dumps({"last tenth / second, memory": round(peaks[9] / max(peaks[1], 1), 4)}))
    start = time.perf_counter()
    with Sweep([weights], (), study(), **options) as sweep:
        again = sweep.run()
    facts = {"scored": summary.scored, "resume finds done": again.before.done}
    size = (folder / "scores.db").stat().st_size
    facts |= {"resume seconds": round(time.perf_counter() - start, 2), "bytes each": size // n}
    print(json.dumps(facts))


def read_on(path, stop):
    while not stop.is_set():
        with Store(path) as store:
            for _ in store.rows(subjects=True):
                if stop.is_set():
                    break


def writes(folder, n=3000):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"writes{os.getpid()}.db"
    store = Store(path, write=True)
    method = store.add_method(Method("", "g", "{}", "fp32", "k"))
    own = study()
    targets = {
        (own.name, r): store.add_target(Subjects(own.name, r, "i", r, "{}", 1.0, N_SUBJECTS, True))
        for r in REGIONS
    }
    run, environment = store.begin_run({}), store.add_environment({})
    rdms = np.random.default_rng(0).random((len(LAYERS), N_PAIRS))
    scores = {region: score_layers(target, rdms) for region, target in own.targets.items()}
    scored = (StudyScores(own.name, "i", LAYERS, scores),)
    stop = multiprocessing.Event()
    reader = multiprocessing.Process(target=read_on, args=(path, stop))
    reader.start()
    start = time.perf_counter()
    for i in range(n):
        report = Report(f"{i:06d}.pth", Stamp(1, i), f"{i:064x}", {}, scored, 1.0)
        store.record(report, method, targets, run, environment)
    seconds = time.perf_counter() - start
    stop.set()
    reader.join()
    print(json.dumps({"checkpoints a second beside a reader": round(n / seconds, 1)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoints", type=int, default=100_000)
    parser.add_argument("--writes", action="store_true")
    arguments = parser.parse_args()
    if arguments.writes:
        writes(arguments.folder)
    else:
        simulate(arguments.folder, arguments.checkpoints)
