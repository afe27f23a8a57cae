"""A store of any size with made-up scores, written without scoring anything."""

import hashlib

import numpy as np
from store_writer import PIPELINE

from fastrdm.scoring import Store
from fastrdm.scoring.jobs import Failed, Job, Scored, Stamp
from fastrdm.scoring.records import TargetRecord
from fastrdm.similarity.protocol import score_similarities

CEILING = 0.25


def write(path, checkpoints, layers, regions=("evc", "it"), *, subjects=15, conditions=0, seed=0):
    """Write a store with a result for each path in `checkpoints` (path → labels), layer and region.

    Similarities grow along each hundred of checkpoints, and depend on the layer. With `conditions`, RDMs are kept.
    """
    rng = np.random.default_rng(seed)
    with Store(path, write=True) as store:
        pipeline = store.add_pipeline(PIPELINE)
        keys = [("92", region, "rsa") for region in regions]
        targets = {
            key: store.add_target(
                TargetRecord("92", key[1], "i" * 64, "s" * 64, "{}", CEILING, subjects, False)
            )
            for key in keys
        }
        environment = store.add_environment({"kernels": "cpp"})
        run = store.begin_run({"arguments": ["made up"]})
        depth = np.linspace(0, np.pi, len(layers))[:, None]
        for i, (name, labels) in enumerate(checkpoints.items()):
            progress = 1 - np.exp(-(i % 100) / 30)
            scores = {}
            for k, key in enumerate(keys):
                mean = 0.1 + 0.25 * progress * np.sin(depth / 2 + 0.2 * k)
                rho = mean + rng.normal(0, 0.06, (len(layers), subjects))
                ceiling = np.full(len(layers), CEILING)
                scores[key] = score_similarities(rho[:, :, None], squared=True, ceiling=ceiling)
            rdms = {}
            if conditions:
                pairs = conditions * (conditions - 1) // 2
                rdms = {"92": rng.random((len(layers), pairs)).astype(np.float32)}
            job = Job(name, 0, {label: str(value) for label, value in labels.items()})
            sha256 = hashlib.sha256(f"{seed} {i}".encode()).hexdigest()
            made = Scored(job, Stamp(10, i), sha256, tuple(layers), scores, rdms, seconds=0.5)
            store.record(made, pipeline, targets, run, environment)
        return path


def fail(path, name, reason="it is bad"):
    """Add a failure."""
    with Store(path, write=True) as store:
        failed = Failed(Job(name, 0), Stamp(1, 1), reason, "Traceback")
        store.fail(failed, store.add_pipeline(PIPELINE), store.begin_run({"arguments": ["x"]}))
    return path
