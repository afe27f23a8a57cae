"""A store with made-up results, and a store as version 1 wrote it."""

import sqlite3
from contextlib import closing

import numpy as np

from fastrdm import Target
from fastrdm.scoring import SETTINGS, Store
from fastrdm.scoring.database import _APPLICATION
from fastrdm.scoring.jobs import Failed, Job, Known, Scored, Stamp
from fastrdm.scoring.records import Pipeline, TargetRecord
from fastrdm.scoring.store_schema import MIGRATIONS, statements

PIPELINE = Pipeline("net:resnet", "g" * 64, "{}", "fp32", "fastrdm 0.1.0 cpp")
LAYERS = ("conv", "fc")
COLUMNS = ["checkpoint", "arch", "epoch", "study", "layer", "region", "r2", "std", "sample_std"]
COLUMNS += ["percent_nc", "p", "value", "ceiling", "mean_rho", *SETTINGS, "sha256"]


def subjects(region, n=4):
    return TargetRecord("92", region, "i" * 64, "s" * 64, "{}", 0.25, n, False)


def target(seed=0, n_subjects=4):
    rng = np.random.default_rng(seed)
    return Target(rng.random((n_subjects, 21)) + rng.random(21), ceiling=0.25)


def scored(i, regions=("evc", "it"), path=None, labels=None):
    models = np.random.default_rng(i).random((len(LAYERS), 21))
    scores = {("92", region, "rsa"): target(k).score(models) for k, region in enumerate(regions)}
    labels = {"epoch": str(i)} if labels is None else labels
    job = Job(path or f"epoch{i:03d}.pth", 0, labels)
    rdms = {"92": models.astype(np.float32)}
    return Scored(job, Stamp(10, i), f"{i:064x}", LAYERS, scores, rdms, seconds=0.5)


def known(i, path, labels=None):
    made = scored(i, path=path, labels=labels)
    return Known(made.job, made.stamp, made.sha256)


class Writer:
    """A store in which a run has begun."""

    def __init__(self, path, regions=("evc", "it")):
        self.store = Store(path, write=True)
        self.pipeline = self.store.add_pipeline(PIPELINE)
        self.targets = {("92", r, "rsa"): self.store.add_target(subjects(r)) for r in regions}
        self.environment = self.store.add_environment({"kernels": "cpp"})
        self.run = self.store.begin_run({"arguments": ["x"]})

    def record(self, made):
        return self.store.record(made, self.pipeline, self.targets, self.run, self.environment)

    def fail(self, path="bad.pth"):
        failed = Failed(Job(path, 0), Stamp(1, 1), "it is bad", "Traceback")
        self.store.fail(failed, self.pipeline, self.run)

    def state(self, path, stamp):
        return self.store.state(path, stamp, self.pipeline, list(self.targets.values()))


def rows(path, **options):
    with Store(path) as store:
        return list(store.rows(**options))


def as_version_1(source, path):
    """Write a store as version 1 did: one path and its labels for each content."""
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements(MIGRATIONS[0]):
            database.execute(statement)
        database.execute("ATTACH ? AS s", (str(source),))
        tables = database.execute(
            "SELECT name FROM main.sqlite_schema WHERE type = 'table'"
        ).fetchall()
        for (table,) in tables:
            columns = ", ".join(
                row[1] for row in database.execute(f"PRAGMA main.table_info({table})")
            )
            database.execute(
                f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM s.{table}"
            )
        database.execute(
            "UPDATE checkpoints SET labels ="
            " coalesce((SELECT labels FROM s.labels l WHERE l.path = checkpoints.path), '{}')"
        )
        database.execute(f"PRAGMA application_id={_APPLICATION}")
        database.execute("PRAGMA user_version=1")
