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
from fastrdm.scoring import Store, Sweep
from fastrdm.scoring.jobs import Handshake, Job, Scored, Stamp
from fastrdm.scoring.records import Pipeline, TargetRecord
from fastrdm.scoring.scorer import score_layers
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


def scores_of(study, rdms):
    return {
        (study.name, region, "rsa"): score_layers(target, rdms)
        for region, target in study.targets.items()
    }


class Stub:
    """A worker in this process that replaces networks by random RDMs, different for each file."""

    lost, depth, start_advice = (), 2, ""

    def launchers(self, setup):
        self.setup = setup
        yield self.launch

    def launch(self):
        return self

    def handshake(self):
        return self._done(Handshake(os.getpid(), "here", {"provider": "stub"}))

    def submit(self, job, following, name):
        start, stamp, sha256 = time.perf_counter(), Stamp.of(job.path), hash_file(job.path)
        rdms = np.random.default_rng(int(sha256[:8], 16)).random((len(LAYERS), N_PAIRS))
        (study,) = self.setup.studies
        seconds = time.perf_counter() - start
        return self._done(
            Scored(job, stamp, sha256, LAYERS, scores_of(study, rdms), seconds=seconds, worker=name)
        )

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
    pipeline = store.add_pipeline(Pipeline("", "g", "{}", "fp32", "k"))
    simulated = study()
    name = simulated.name
    targets = {
        (name, r): store.add_target(TargetRecord(name, r, "i", r, "{}", 1.0, N_SUBJECTS, True))
        for r in REGIONS
    }
    run, environment = store.begin_run({}), store.add_environment({})
    scores = scores_of(simulated, np.random.default_rng(0).random((len(LAYERS), N_PAIRS)))
    stop = multiprocessing.Event()
    reader = multiprocessing.Process(target=read_on, args=(path, stop))
    reader.start()
    start = time.perf_counter()
    for i in range(n):
        scored = Scored(Job(f"{i:06d}.pth", 0), Stamp(1, i), f"{i:064x}", LAYERS, scores, seconds=1)
        store.record(scored, pipeline, targets, run, environment)
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
