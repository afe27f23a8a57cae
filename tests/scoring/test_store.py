"""A store: one transaction per checkpoint, results found by content, reading during writing."""

import concurrent.futures
import csv
import io
import math
import multiprocessing
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from store_writer import COLUMNS, LAYERS, PIPELINE, Writer, known, rows, scored, subjects

from fastrdm.cli import main
from fastrdm.scoring import Store, database, table_files
from fastrdm.scoring.jobs import Stamp
from fastrdm.scoring.records import Pipeline, StoreError, TargetRecord


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.db"


@pytest.fixture
def writer(path):
    writer = Writer(path)
    yield writer
    writer.store.close()


def test_recorded_results_are_read_back_to_the_last_bit(writer, path):
    for i in (2, 0, 1):
        assert writer.record(scored(i))
    with Store(path) as store:
        assert list(store.columns()) == COLUMNS
        table = [dict(zip(COLUMNS, row, strict=True)) for row in store.rows()]
        kept = store.rdms(f"{1:064x}")
    assert [(r["checkpoint"], r["region"], r["layer"]) for r in table] == [
        (f"epoch{i:03d}.pth", region, layer)
        for i in range(3)
        for region in ("evc", "it")
        for layer in LAYERS
    ]
    score = scored(1).scores["92", "it", "rsa"]
    of_it = [r for r in table if (r["epoch"], r["region"]) == (1, "it")]
    for name in ("r2", "std", "sample_std", "percent_nc", "p", "value", "mean_rho"):
        assert [r[name] for r in of_it] == getattr(score, name).tolist()
    assert {r["ceiling"] for r in of_it} == {0.25}
    of_subjects = [r for r in rows(path, subjects=True) if (r[2], r[5]) == (1, "it")]
    assert [r[6] for r in of_subjects] == [0, 1, 2, 3] * 2
    assert [r[7] for r in of_subjects] == score.rho.ravel().tolist()
    assert list(kept) == [("92", "conv"), ("92", "fc")]
    np.testing.assert_array_equal(list(kept.values()), scored(1).rdms["92"])


def test_layers_without_a_score_are_nan(writer, path):
    made = scored(0)
    score = made.scores["92", "evc", "rsa"]
    score.r2[1] = score.p[1] = score.rho[1] = math.nan
    writer.record(made)
    (conv, fc, *_) = rows(path)
    assert not math.isnan(conv[6]) and math.isnan(fc[6]) and math.isnan(fc[10])
    assert [math.isnan(r[7]) for r in rows(path, subjects=True)[:8]] == [False] * 4 + [True] * 4


def test_nothing_is_recorded_twice(writer, path):
    assert writer.record(scored(0)) and not writer.record(scored(0))
    assert len(rows(path)) == 4


def test_content_is_the_key(writer, path, tmp_path):
    writer.record(scored(0))
    # The same file.
    assert writer.state("epoch000.pth", Stamp(10, 0)) == "done"
    # The file changed.
    assert writer.state("epoch000.pth", Stamp(10, 7)) == "new"
    # A renamed file must be read, and is then recognised.
    assert writer.state("zzz.pth", Stamp(10, 0)) == "new"
    done = writer.store.known(writer.pipeline, list(writer.targets.values()))
    assert done.tolist() == [bytes(32).rstrip(b"\0")]
    writer.store.recognise([known(0, "zzz.pth", {})], writer.pipeline)
    assert writer.state("zzz.pth", Stamp(10, 0)) == "done"
    # The old path does not exist.
    assert {row[0] for row in rows(path)} == {"zzz.pth"}
    # Copies that exist have a row each; earlier names do not.
    copies = [str(tmp_path / name) for name in ("b.pth", "a.pth")]
    for copy in copies:
        Path(copy).touch()
        writer.store.recognise([known(0, copy)], writer.pipeline)
    assert {row[0] for row in rows(path)} == set(copies)
    assert {row[0] for row in rows(path, history=True)} == {"epoch000.pth", "zzz.pth", *copies}


@pytest.mark.parametrize("field", ["graph", "preprocessing", "precision", "kernels"])
def test_another_method_is_another_key(field):
    assert Pipeline(**vars(PIPELINE) | {field: "other"}).key != PIPELINE.key
    assert Pipeline(**vars(PIPELINE) | {"arch": "another name"}).key == PIPELINE.key


@pytest.mark.parametrize("field", ["study", "region", "stimuli", "subjects", "protocol", "ceiling"])
def test_other_subjects_are_another_key(field):
    record = subjects("it")
    assert TargetRecord(**vars(record) | {field: 0.5}).key != record.key


def test_a_new_region_is_scored_and_the_others_stay(path):
    first = Writer(path, ("evc",))
    first.record(scored(0, ("evc",)))
    first.store.close()
    second = Writer(path)
    assert second.state("epoch000.pth", Stamp(10, 0)) == "new"
    assert second.record(scored(0))
    assert second.state("epoch000.pth", Stamp(10, 0)) == "done"
    second.store.close()
    assert len(rows(path)) == 4


def test_failures_are_kept_until_the_file_changes_or_is_scored(writer, path):
    writer.fail()
    writer.fail()
    assert writer.state("bad.pth", Stamp(1, 1)) == "failed"
    assert writer.state("bad.pth", Stamp(2, 1)) == "new"
    with Store(path) as store:
        (failure,) = store.failures()
    assert failure["attempts"] == 2 and failure["traceback"] == "Traceback"
    assert (failure["checkpoint"], failure["error"]) == ("bad.pth", "it is bad")
    writer.record(scored(0, path="bad.pth"))
    with Store(path) as store:
        assert store.failures() == []


def test_runs_and_environments_are_kept(writer, path):
    writer.store.end_run(writer.run, "finished")
    writer.store.begin_run({})
    with Store(path) as store:
        assert [run["outcome"] for run in store.runs()] == ["finished", None]
        assert store.environments() == [{"kernels": "cpp"}]


def test_a_transaction_that_fails_leaves_nothing(writer, path):
    made = scored(0)
    scores = {**made.scores, ("92", "v4", "rsa"): made.scores["92", "it", "rsa"]}
    with pytest.raises(KeyError):
        writer.record(replace(made, scores=scores))
    assert rows(path) == [] and writer.record(made)


def write_many(path, first, n):
    writer = Writer(path)
    for i in range(first, first + n):
        writer.record(scored(i))
    writer.store.close()


def test_a_reader_sees_whole_checkpoints_while_writers_write(path):
    """Two processes start at the same time and write overlapping checkpoints."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, spawn) as pool:
        jobs = [pool.submit(write_many, path, first, 40) for first in (0, 20)]
        while not all(job.done() for job in jobs):
            if path.exists():
                try:
                    assert len(rows(path)) % 4 == 0
                except StoreError as error:
                    assert "no content yet" in str(error), "only before the schema exists"
        for job in jobs:
            job.result()
    assert len(rows(path)) == 60 * 4


def test_stores_merge(path, tmp_path):
    for name, regions, numbers in (("a", ("evc",), (0, 1)), ("b", ("evc", "it"), (1, 2))):
        writer = Writer(tmp_path / name, regions)
        for i in numbers:
            writer.record(scored(i, regions))
        writer.fail(f"{name}.pth")
        writer.store.close()
    all_at_once = Writer(tmp_path / "c")
    all_at_once.record(scored(0, ("evc",)))
    for i in (1, 2):
        all_at_once.record(scored(i))
    for _ in range(2):
        assert main(["merge", str(path), str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert rows(path, subjects=True) == rows(tmp_path / "c", subjects=True)
    with Store(path) as store:
        assert [f["checkpoint"] for f in store.failures()] == ["a.pth", "b.pth"]
        assert len(store.rdms(f"{2:064x}")) == 2
    with Store(path, write=True) as store, pytest.raises(StoreError, match="into itself"):
        store.merge(path)


def test_a_store_with_an_older_schema_is_upgraded(path, monkeypatch):
    Writer(path).record(scored(0))
    more = (*database.MIGRATIONS, "ALTER TABLE runs ADD COLUMN note TEXT; SELECT 1")
    monkeypatch.setattr(database, "MIGRATIONS", more)
    with pytest.raises(StoreError, match="has version 4 of the schema, and this fastrdm reads 5"):
        Store(path)
    Store(path, write=True).close()
    assert len(rows(path)) == 4
    monkeypatch.undo()
    for write in (False, True):
        with pytest.raises(
            StoreError, match="written by a later fastrdm: its schema has version 5"
        ):
            Store(path, write=write)


def foreign(path):
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE other (x)")
    database.commit()


def truncated(path):
    Writer(path).store.close()
    path.write_bytes(path.read_bytes()[:-5000])


WRONG = {
    "other program": (foreign, "is an SQLite file of another program"),
    "no SQLite": (lambda path: path.write_text("epoch,loss\n"), "is not an SQLite file"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "truncated": (truncated, "is damaged: its end is missing"),
    "nowhere": (lambda path: None, "no such store"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_are_not_stores_are_refused_in_one_sentence(name, path, capsys):
    make, match = WRONG[name]
    make(path)
    assert main(["table", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and match in err and str(path) in err and err.count("\n") == 1
    if name != "nowhere":
        with pytest.raises(StoreError, match=match):
            Store(path, write=True)


def test_a_store_in_a_missing_folder(tmp_path):
    with pytest.raises(StoreError, match="its folder does not exist"):
        Store(tmp_path / "none" / "scores.db", write=True)


def test_damage_is_reported_in_one_sentence(path, capsys):
    writer = Writer(path)
    for i in range(50):
        writer.record(scored(i))
    writer.store.close()
    content = bytearray(path.read_bytes())
    content[8192:] = bytes(b ^ 0x5A for b in content[8192:])
    path.write_bytes(content)
    assert main(["table", str(path), "--format", "csv"]) == 1
    err = capsys.readouterr().err
    assert "scores.db is damaged" in err and err.count("\n") == 1


# Python ignores SIGXFSZ, so that a write beyond the limit fails as on a full disk.
LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from store_writer import Writer, scored
writer = Writer(Path(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
for i in range(1000):
    writer.record(scored(i))
    print(i, flush=True)
"""


def test_a_full_disk_loses_nothing_that_was_reported(path, request):
    """A limit on file sizes stands for a full disk: SQLite gets the same kind of write error."""
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(request.path.parents[1]), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    done = [int(line) for line in run.stdout.split()]
    assert run.returncode == 1 and 10 < len(done) < 1000
    assert "StoreError" in run.stderr and "all that was reported done is in it" in run.stderr
    assert len(rows(path)) == 4 * len(done)
    writer = Writer(path)
    assert writer.record(scored(len(done)))
    writer.store.close()


def test_tables(writer, path, tmp_path, capsys):
    for i in range(3):
        writer.record(scored(i))
    writer.fail()
    assert main(["table", str(path)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == [
        *(
            "checkpoint",
            "arch",
            "epoch",
            "study",
            "region",
            "layer",
            "percent_nc",
            "mean_rho",
            "std",
            "p",
            "p_corrected",
        )
    ]
    negative = [row for row in rows(path) if row[13] < 0]
    assert sum(" ‡ " in line for line in lines[1:13]) == len(negative) > 0
    assert len(lines) == 1 + 12
    remarks = ["‡ mean rho below 0: the layer is opposite to the brain", "3 checkpoints, 1 failed"]
    assert err.splitlines() == remarks
    assert main(["table", str(path), "--format", "csv"]) == 0
    table = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    expected = rows(path)
    assert table[0] == [*COLUMNS[:14], "p_sign_flip", "p_corrected", *COLUMNS[14:]]
    for row in table[1:]:
        del row[14:16]
        row[2], row[6:14] = int(row[2]), map(float, row[6:14])
    assert table[1:] == [list(row) for row in expected]
    assert main(["table", str(path), "--subjects", "--output", str(tmp_path / "t.csv")]) == 0
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + 12 * 4
    assert main(["table", str(path), "--failures"]) == 0
    assert capsys.readouterr().out == "bad.pth: it is bad\n"
    assert main(["table", str(path), "--failures", "--debug"]) == 0
    assert capsys.readouterr().out == "bad.pth: it is bad\n    Traceback\n"
    assert main(["table", str(path), "--format", "parquet"]) == 1
    assert "--output FILE.parquet" in capsys.readouterr().err


def test_frames_and_parquet_hold_the_same_rows(writer, path, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(table_files, "_ROWS_AT_ONCE", 7)
    for i in range(3):
        writer.record(scored(i))
    file = tmp_path / "t.parquet"
    for options, arguments in (({}, []), ({"subjects": True}, ["--subjects"])):
        arguments = ["--no-sign-flips", "--output", str(file), *arguments]
        assert main(["table", str(path), *arguments]) == 0
        with Store(path) as store:
            frame = store.frame(**options)
        assert list(map(tuple, frame.itertuples(index=False))) == rows(path, **options)
        read = pandas.read_parquet(file)
        assert list(map(tuple, read.itertuples(index=False))) == rows(path, **options)
    assert frame["rho"].dtype == np.float64 and frame["subject"].dtype == np.int64


def test_a_store_created_by_several_threads_is_one_store(tmp_path):
    """Each thread sees the file either empty or complete."""
    for k in range(12):
        path = tmp_path / f"{k}.db"
        with ThreadPoolExecutor(6) as pool:
            stores = list(pool.map(partial(Store, write=True), [path] * 6))
        for store in stores:
            store.close()
