"""Each content is scored once: in a run, and in one of several sweeps on a store."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from small_sweep import make
from store_writer import PIPELINE, Writer, as_version_1
from store_writer import scored as made_up

import fastrdm
from fastrdm.cli.progress import Board, Notices
from fastrdm.scoring import LayerScoring, Store, Sweep, shared_store
from fastrdm.scoring.copies import Samples
from fastrdm.scoring.processes import ProcessIdentity
from fastrdm.scoring.shared_store import Leases, SharedStore

# Far beyond what anything here takes: it only distinguishes what ends from what hangs.
DEADLINE_S = 120
ELSEWHERE = ProcessIdentity("other", "other boot", 1, "7")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A new current folder with copies of the checkpoints and links to the rest."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    for name in ("net.onnx", "study"):
        (tmp_path / name).symlink_to(made / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(weights="runs", engine="in-process", events=None, **options):
    on_event = (lambda event: None) if events is None else events.append
    options = {"store": "scores.db", "engine": engine, "on_event": on_event} | options
    return fastrdm.sweep(weights, "net.onnx", "study", **options)


def opened(weights="runs", **options):
    options = {"store": "scores.db", "engine": "in-process"} | options
    return Sweep([weights], ["net.onnx"], "study", **options)


def rows(path="scores.db"):
    with Store(path) as store:
        return list(store.rows())


def paths_of(events, kind):
    return [event["checkpoint"] for event in events if event["event"] == kind]


def claims(path="scores.db"):
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT * FROM claims").fetchall()


def claim_elsewhere(path, process=ELSEWHERE, weights="runs/epoch03.safetensors"):
    """Claim a checkpoint in a store for another process, in all pipelines."""
    sample = Samples().take(weights).digest
    with closing(sqlite3.connect(path)) as database, database:
        row = ("theirs", process.host, process.machine, process.pid, process.started)
        database.execute("INSERT INTO holders VALUES (?, ?, ?, ?, ?, 0)", row)
        database.execute("INSERT INTO claims SELECT id, ?, 'theirs' FROM methods", (sample,))


@pytest.fixture
def prepared(here):
    """A store in which the network is known and no checkpoint is scored."""
    with opened() as sweep:
        assert list(sweep.outcomes(sweep.plan(), is_stopped=lambda: True)) == []
    return here / "scores.db"


def count_hashes(monkeypatch):
    """Paths of all files that are read whole, and of all checkpoints that are scored."""
    from fastrdm.scoring import opening

    hashed, scored, hash_file, finish = [], [], opening.hash_file, LayerScoring.finish
    monkeypatch.setattr(opening, "hash_file", lambda path: hashed.append(path) or hash_file(path))
    monkeypatch.setattr(LayerScoring, "finish", lambda *a: scored.append(a) or finish(*a))
    return hashed, scored


def test_thousands_of_links_are_scored_and_read_once_each_and_have_a_row_each(here, monkeypatch):
    links = here / "links"
    links.mkdir()
    originals = sorted((here / "runs").iterdir())
    for i in range(5000):
        link = links / f"{i:04d}.safetensors"
        (link.symlink_to if i % 2 else link.hardlink_to)(originals[i % 12])
    hashed, scored = count_hashes(monkeypatch)
    summary = sweep("links")
    assert (summary.scored, summary.known, summary.failed) == (12, 4988, 0)
    assert len(hashed) == len(scored) == 12
    of_path = {row[0]: row[3:] for row in rows()}
    assert len(of_path) == 5000
    for i in range(24):
        assert of_path[f"links/{i:04d}.safetensors"] == of_path[f"links/{i % 12:04d}.safetensors"]
    summary = sweep("links")
    assert (summary.before.done, summary.scored, summary.known) == (5000, 0, 0)


def test_copies_are_scored_once_by_several_workers(here):
    for i in range(5):
        shutil.copy("runs/epoch00.safetensors", f"runs/copy{i}.safetensors")
    summary = sweep(engine="local", workers=2)
    assert (summary.scored, summary.known, summary.failed) == (12, 5, 0)
    assert len({row[0] for row in rows()}) == 17


def test_files_that_only_look_like_copies_are_scored(here, monkeypatch):
    """All samples are equal: the files run one after the other, and each is compared by its whole content."""
    monkeypatch.setattr("fastrdm.scoring.copies._digest", lambda files: "the same")
    shutil.copy("runs/epoch00.safetensors", "runs/copy.safetensors")
    summary = sweep()
    assert (summary.scored, summary.known, summary.failed) == (12, 1, 0)


def test_samples_are_equal_for_copies_and_links_and_read_large_files_in_part(tmp_path):
    content = bytearray(os.urandom(3 << 20))
    names = [tmp_path / name for name in ("a.pth", "b.pth", "c.pth")]
    names[0].write_bytes(content)
    names[1].hardlink_to(names[0])
    names[2].write_bytes(content)
    first, link, copy = (Samples().take(str(name)) for name in names)
    assert first == link and copy.digest == first.digest and copy.identity != first.identity
    for place in (0, len(content) // 31 + 7, len(content) - 1):
        names[2].write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert Samples().take(str(names[2])).digest != first.digest
    os.mkfifo(tmp_path / "pipe.pth")
    assert Samples().take(str(tmp_path / "pipe.pth")) is None
    assert Samples().take(str(tmp_path / "none.pth")) is None


def test_a_sweep_passes_over_what_another_one_scores_and_counts_it(here):
    events, claimed = [], "runs/epoch03.safetensors"
    with opened() as second:
        with opened() as first:
            outcomes, plan = first.outcomes(first.plan()), second.plan()
            assert plan.new == 12
            mine = [next(outcomes).job.path for _ in range(3)]
            # The first sweep has scored three, and claimed one more.
            theirs = second.outcomes(plan, on_event=events.append)
            while len(paths_of(events, "scored")) < 4:
                next(theirs)
            assert paths_of(events, "elsewhere") == mine and len(claims()) == 2
            outcomes.close()
        list(theirs)
    scored = paths_of(events, "scored")
    assert claimed in scored[4:]
    assert sorted(mine + scored) == [f"runs/epoch{i:02d}.safetensors" for i in range(12)]
    assert claims() == [] and len({row[0] for row in rows()}) == 12


def test_two_sweeps_score_each_checkpoint_once_and_both_end_when_all_is_scored(here, start):
    processes = [start() for _ in range(2)]
    outs = [process.communicate(timeout=DEADLINE_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    events = [[json.loads(line) for line in out.splitlines()] for out in outs]
    scored = [path for each in events for path in paths_of(each, "scored")]
    assert len(scored) == len(set(scored)) == 12
    for each in events:
        end = each[-1]
        assert (
            end["scored"] + end["elsewhere"] + end["before"]["done"] == 12 if "before" in end else 1
        )
        assert end["outcome"] == "finished" and end["failed"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="processes of other systems are not recognised")
def test_the_claims_of_a_killed_sweep_end_at_once(here, start, monkeypatch):
    process = start()
    for line in process.stdout:
        if json.loads(line)["event"] == "scored":
            break
    process.kill()
    process.wait()
    # Nobody waits for the lease.
    monkeypatch.setattr(shared_store, "_LEASE_S", 1e9)
    summary = sweep()
    assert summary.failed == 0 and len({row[0] for row in rows()}) == 12
    assert claims() == []


@pytest.fixture
def claimed(prepared, monkeypatch):
    """A store in which another sweep has claimed a checkpoint, with a lease that does not end."""
    claim_elsewhere(prepared)
    monkeypatch.setattr(shared_store, "_LEASE_S", 1e9)
    monkeypatch.setattr("fastrdm.scoring.sharing._POLL_S", 0.05)
    return prepared


def test_a_lease_without_heartbeats_ends_and_the_sweep_says_that_it_waits(claimed, monkeypatch):
    events = []

    def on_event(event):
        events.append(event)
        if event["event"] == "waiting":
            monkeypatch.setattr(shared_store, "_LEASE_S", 0.3)

    summary = sweep(on_event=on_event)
    assert (summary.scored, summary.elsewhere, summary.failed) == (12, 0, 0)
    waiting = [event for event in events if event["event"] == "waiting"]
    assert [event["count"] for event in waiting] == [1, 0]
    assert waiting[0]["holders"] == ["process 1 on other"]
    assert paths_of(events, "scored")[-1] == "runs/epoch03.safetensors"
    assert claims() == []


def test_a_lease_with_heartbeats_does_not_end_and_a_signal_ends_the_wait(claimed, monkeypatch):
    waiting = []

    def on_event(event):
        if event["event"] == "waiting":
            waiting.append(time.monotonic())
            monkeypatch.setattr(shared_store, "_LEASE_S", 0.5)

    def is_stopped():
        with closing(sqlite3.connect(claimed)) as database, database:
            database.execute("UPDATE holders SET beat = beat + 1 WHERE id = 'theirs'")
        return bool(waiting) and time.monotonic() - waiting[0] > 1.5

    with opened() as sweep:
        plan = sweep.plan()
        outcomes = list(sweep.outcomes(plan, on_event=on_event, is_stopped=is_stopped))
    assert len(outcomes) == 11
    assert {holder for *_, holder in claims()} == {"theirs"}


def test_a_failure_of_another_sweep_is_a_failure_of_the_one_that_waits(claimed):
    events, path = [], "runs/epoch03.safetensors"

    def on_event(event):
        events.append(event)
        if event["event"] == "waiting" and event["count"]:
            with closing(sqlite3.connect(claimed)) as database, database:
                found = Path(path).stat()
                database.execute(
                    "INSERT INTO failures SELECT ?, 1, 1, ?, ?, '', 1, 'it is bad', ''",
                    (path, found.st_size, found.st_mtime_ns),
                )
                database.execute("DELETE FROM claims")

    summary = sweep(on_event=on_event)
    assert (summary.scored, summary.failed) == (11, 1)
    assert [e["error"] for e in events if e["event"] == "failed"] == ["it is bad"]


def test_a_copy_that_another_sweep_scored_under_another_name_is_known(here):
    shutil.copytree("runs", "copies")
    with opened("copies") as second:
        outcomes = second.outcomes(second.plan())
        # The second sweep has scored one and claimed another.
        kinds = [type(next(outcomes)).__name__]
        assert sweep([f"runs/epoch{i:02d}.safetensors" for i in range(4, 12)]).scored == 8
        kinds += [type(outcome).__name__ for outcome in outcomes]
    assert (kinds.count("Scored"), kinds.count("Known")) == (4, 8)
    assert len({row[0] for row in rows()}) == 20


def test_watching_sweeps_share_what_appears(here, monkeypatch):
    monkeypatch.setattr("fastrdm.scoring.watching._WATCH_S", 0.1)
    monkeypatch.setattr("fastrdm.scoring.watching._SETTLED_S", 0.0)
    with opened() as first, opened() as second:
        outcomes = [
            each.outcomes(each.plan(), watch=True, patience=0.3) for each in (first, second)
        ]
        found = [next(outcomes[0]) for _ in range(3)] + list(outcomes[0])
        found += outcomes[1]
    kinds = [type(outcome).__name__ for outcome in found]
    assert kinds.count("Scored") == 12 and kinds.count("Elsewhere") == 12


def test_leases_count_what_the_observer_sees_and_no_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(shared_store.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(shared_store.time, "time", lambda: pytest.fail("clocks jump"))
    leases = Leases()
    assert not leases.has_ended("a", 1)
    # The observer was suspended, and perhaps the holder too.
    now[0] += 1e6
    assert not leases.has_ended("a", 1)
    for _ in range(40):
        now[0] += 1
        has_ended = leases.has_ended("a", 1)
    assert has_ended
    assert not leases.has_ended("a", 2)


def test_a_holder_whose_claims_were_taken_comes_back(here, monkeypatch):
    monkeypatch.setattr(shared_store, "_BEAT_S", 0.05)
    with (
        SharedStore("scores.db", write=True) as first,
        SharedStore("scores.db", write=True) as other,
    ):
        first.share()
        other.share()
        pipeline = other.add_pipeline(PIPELINE)
        assert first.claim(pipeline, "a", []) == () and other.claim(pipeline, "a", []) is None
        first._heartbeat.stop()
        other._remove(first._holder)
        assert other.claim(pipeline, "a", []) == ()
        first.release(pipeline, "a")
        assert first.claim(pipeline, "a", []) is None, "released what another one has claimed"
        other.release(pipeline, "a")
        assert first.claim(pipeline, "a", []) == ()
    with closing(sqlite3.connect("scores.db")) as database:
        for table in ("claims", "holders"):
            assert database.execute(f"SELECT * FROM {table}").fetchall() == []


def test_heartbeats_count(here, monkeypatch):
    monkeypatch.setattr(shared_store, "_BEAT_S", 0.02)
    with SharedStore("scores.db", write=True) as store:
        store.share()
        end = time.monotonic() + DEADLINE_S
        while store.query("SELECT beat FROM holders") < [(3,)] and time.monotonic() < end:
            time.sleep(0.02)
        assert store.query("SELECT beat FROM holders") >= [(3,)]
        store._db.execute("DELETE FROM holders")
        while not store.query("SELECT beat FROM holders") and time.monotonic() < end:
            time.sleep(0.02)
        assert store.query("SELECT count(*) FROM holders") == [(1,)]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell less of processes")
def test_processes_are_recognised():
    mine = ProcessIdentity.current()
    assert mine == ProcessIdentity.current() and not mine.is_dead()
    assert replace(mine, started=str(int(mine.started) - 1)).is_dead(), "its number was given again"
    assert not replace(mine, started="").is_dead()
    assert not replace(mine, pid=1, started="").is_dead()
    assert not ELSEWHERE.is_dead()
    process = subprocess.Popen([sys.executable, "-c", ""])
    end = time.monotonic() + DEADLINE_S
    ended = replace(mine, pid=process.pid, started="")
    # It is a zombie until it is waited for.
    while not ended.is_dead() and time.monotonic() < end:
        time.sleep(0.02)
    assert ended.is_dead()
    process.wait()
    assert ended.is_dead()


def test_stores_without_claims_are_read_and_swept(here, tmp_path):
    writer = Writer(tmp_path / "new.db")
    writer.record(made_up(0))
    writer.store.close()
    as_version_1(tmp_path / "new.db", tmp_path / "old.db")
    before = len(rows("old.db"))
    os.chmod("old.db", 0o400)  # noqa: PTH101
    assert len(rows("old.db")) == before
    os.chmod("old.db", 0o600)  # noqa: PTH101
    assert sweep(store="old.db").scored == 12
    with closing(sqlite3.connect("old.db")) as database, database:
        for table in ("claims", "holders", "samples"):
            database.execute(f"DROP TABLE {table}")
    assert sweep(store="old.db").before.done == 12


def test_progress_says_for_what_a_sweep_waits():
    lines, board = [], Board()
    notices = Notices(lines.append, False, "fastrdm: ")
    waiting = {"event": "waiting", "count": 2, "holders": ["process 7 on host"]}
    for event in ({"event": "plan", "new": 3, "watch": False}, waiting, {**waiting, "count": 1}):
        board.see(event)
        notices(event)
    assert lines == [
        "fastrdm: waiting for 2 checkpoints that another sweep scores: process 7 on host"
    ]
    assert board.text == "0 done, 0 failed, 3 to go, waiting for 1 of another sweep"
    board.see({"event": "elsewhere", "checkpoint": "a", "worker": ""})
    assert board.text.startswith("1 done, 0 failed, 2 to go")
    end = {"outcome": "finished", "scored": 2, "known": 0, "failed": 0, "elsewhere": 1}
    notices({"event": "end", "seconds": 1.0, **end})
    assert lines[-1].startswith("fastrdm: finished: 2 scored, 1 scored by another sweep, 0 failed")
