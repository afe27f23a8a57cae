"""Sixty ResNet-20 checkpoints on the studies 92 and 118, by an undisturbed sweep and by interrupted ones.

    python bench/experiments/sweep_proof.py FOLDER prepare [--size 224]
        # write checkpoints, seeded perturbations of one network
    python bench/experiments/sweep_proof.py FOLDER reference
        # run the undisturbed sweep
    python bench/experiments/sweep_proof.py FOLDER killed
        # send SIGKILL at five random moments and resume each time
    python bench/experiments/sweep_proof.py FOLDER ray
        # run on three local nodes; one is killed and one joins
    python bench/experiments/sweep_proof.py FOLDER overhead
        # compare with the time of the same checkpoints scored without a store

The tables of "killed" and "ray" must be bit-identical to the reference's, subject by subject.
"""

import argparse
import contextlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import fastrdm
from fastrdm.scoring import Store
from fastrdm.studies import find_data, open_studies

N_CHECKPOINTS, N_KILLS = 60, 5


def prepare(folder, size):
    import torch

    from models.networks import resnet20

    (folder / "weights").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = resnet20()
    fastrdm.export_onnx(network, folder / "network.onnx", input_size=size)
    state = network.state_dict()
    for i in range(N_CHECKPOINTS):
        generator = torch.Generator().manual_seed(i)
        perturbed = {
            name: value + 0.01 * torch.randn(value.shape, generator=generator).to(value.dtype)
            if value.is_floating_point() and "running_var" not in name
            else value
            for name, value in state.items()
        }
        torch.save(perturbed, folder / "weights" / f"perturbation{i:02d}.pth")
    (folder / "sweep.toml").write_text(
        '[[network]]\narch = "models.networks:resnet20"\nweights = "weights"\n'
        f"[network.preprocessing]\nsize = [{size}, {size}]\n"
    )


def table(path):
    with Store(path) as store:
        return list(store.rows(subjects=True))


def compare(folder, name):
    reference, other = table(folder / "reference.db"), table(folder / name)
    keys = [row[:7] for row in other]
    facts = {"rows": len(other), "twice": len(keys) - len(set(keys))}
    print(json.dumps({**facts, "equal to the last bit": reference == other}))
    return 0 if reference == other else 1


def command(folder, store, sets="92,118"):
    words = ["sweep", folder / "sweep.toml", "--data", find_data(), "--sets", sets, "--events"]
    return [sys.executable, "-m", "fastrdm", *map(str, words), "--store", str(folder / store)]


def reference(folder):
    start = time.perf_counter()
    run = subprocess.run(
        command(folder, "reference.db"), capture_output=True, text=True, check=True
    )
    events = [json.loads(line) for line in run.stdout.splitlines()]
    each = sum(e["seconds"] for e in events if e["event"] == "scored")
    print(
        json.dumps({"wall": time.perf_counter() - start, "sum of checkpoints": each, **events[-1]})
    )


def killed(folder):
    rng, kills = random.Random(0), 0
    for path in folder.glob("killed.db*"):
        path.unlink()
    while True:
        process = subprocess.Popen(command(folder, "killed.db"), stdout=subprocess.PIPE, text=True)
        scored, end = 0, None
        limit = rng.uniform(0.5, 8)
        for line in process.stdout:
            event = json.loads(line)["event"]
            scored += event == "scored"
            if event == "given" and end is None and kills < N_KILLS:
                end = time.monotonic() + limit
            if end is not None and time.monotonic() > end:
                process.kill()
                kills += 1
                break
        process.wait()
        print(
            json.dumps(
                {"reported": scored, "in store": len({r[0] for r in table(folder / "killed.db")})}
            )
        )
        if end is None or process.returncode == 0:
            return compare(folder, "killed.db")


def ray_cluster(folder):
    import ray
    from ray.cluster_utils import Cluster

    for path in folder.glob("ray.db*"):
        path.unlink()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    counts = dict.fromkeys(("ready", "lost", "scored", "failed"), 0)

    def on_event(event):
        if event["event"] in counts:
            counts[event["event"]] += 1
        if event["event"] == "scored" and counts["scored"] == 15:
            cluster.remove_node(nodes[0], allow_graceful=False)
        if event["event"] == "scored" and counts["scored"] == 30:
            cluster.add_node(num_cpus=1)

    try:
        fastrdm.sweep(
            folder / "sweep.toml", (), find_data(), store=folder / "ray.db", sets=["92", "118"],
            engine="ray", on_event=on_event,
        )  # fmt: skip
    finally:
        ray.shutdown()
        with contextlib.suppress(Exception):
            cluster.shutdown()
    print(json.dumps(counts))
    return compare(folder, "ray.db")


def score(folder):
    """Seconds that all checkpoints take on the 118 set, scored in this process without a store."""
    weights = sorted((folder / "weights").iterdir())
    studies = open_studies(find_data(), ["118"])
    start = time.perf_counter()
    scores = fastrdm.score_checkpoints(
        weights, [str(folder / "network.onnx")], studies, provider="cpu", n_draws=0
    )
    assert not any(each.error for each in scores)
    return time.perf_counter() - start


def overhead(folder):
    before = score(folder)
    for path in folder.glob("overhead.db*"):
        path.unlink()
    start = time.perf_counter()
    words = command(folder, "overhead.db", "118")
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - start
    end = json.loads(run.stdout.splitlines()[-1])
    after = score(folder)
    # The machine's speed changes, so the checkpoints are scored before the sweep and after it.
    scored = (before + after) / 2
    facts = {"checkpoints": end["scored"], "sweep": end["seconds"], "with start-up": wall}
    sums = {"scored before": before, "scored after": after}
    print(json.dumps({**facts, **sums, "ratio": end["seconds"] / scored, "all": wall / scored}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("step", choices=("prepare", "reference", "killed", "ray", "overhead"))
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    steps = {
        "prepare": lambda folder: prepare(folder, arguments.size),
        "reference": reference,
        "killed": killed,
        "ray": ray_cluster,
        "overhead": overhead,
    }
    sys.exit(steps[arguments.step](arguments.folder))
