"""Sweeps score every checkpoint once, even if files, workers, the sweep itself or its disk fail."""

import contextlib
import json
import os
import pickle
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from campaigns.processes import is_alive
from safetensors.torch import load_file, save_file
from small_study import write_study
from tiny_sweep import ON_LINUX

import fastrdm
from fastrdm import Target
from fastrdm.cli import main
from fastrdm.cli.progress import Board
from fastrdm.networks import hash_file
from fastrdm.scoring import LayerScoring, Store, Sweep, score_checkpoints
from fastrdm.scoring.local_pool import LocalPool
from fastrdm.scoring.manifest import read_manifest
from fastrdm.scoring.opening import Openings
from fastrdm.scoring.resolver import sources
from fastrdm.scoring.results import COLUMNS
from fastrdm.scoring.sweeps import sweep
from fastrdm.studies import open_studies

# Without torch, a worker is ready in one second instead of three.
ARCH = "net.onnx"
SOURCE = """
import torch
from fastrdm.images import Preprocessing

def build():
    n = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(900, 10))
    n.preprocessing = Preprocessing((32, 32))
    n.taps = {"conv": "1", "fc": "3"}
    return n

def wide():
    n = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, 2), torch.nn.Flatten())
    n.preprocessing = Preprocessing((16, 16))
    n.taps = {"conv": "0"}
    return n
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with networks, twelve checkpoints and a study of seven images, four subjects and two regions."""
    home = tmp_path_factory.mktemp("home")
    (home / "sweep_net.py").write_text(SOURCE)
    names = {}
    exec(SOURCE, names)
    (home / "runs").mkdir()
    for i in range(12):
        torch.manual_seed(i)
        save_file(names["build"]().state_dict(), home / "runs" / f"seed1-epoch{i:02d}.safetensors")
    fastrdm.export_onnx(names["build"](), home / "net.onnx")
    write_study(home / "study", 7, 4, ("evc", "it"), (40, 50))
    return home


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    """A new current folder with copies of the checkpoints and networks, and a link to the study."""
    (tmp_path / "runs").mkdir()
    for path in sorted((home / "runs").iterdir()):
        (tmp_path / "runs" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "sweep_net.py").write_text(SOURCE)
    (tmp_path / "net.onnx").write_bytes((home / "net.onnx").read_bytes())
    (tmp_path / "study").symlink_to(home / "study")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("sweep_net", None)


def run(weights="runs", arch=ARCH, data="study", store="scores.db", **options):
    """Sweep; return the summary and the events by kind."""
    events = []
    summary = sweep(weights, arch, data, store=store, on_event=events.append, **options)
    by_kind = {}
    for event in events:
        by_kind.setdefault(event["event"], []).append(event)
    return summary, by_kind


def rows(path="scores.db", **options):
    with Store(path) as store:
        return list(store.rows(**options))


def failures(path="scores.db"):
    with Store(path) as store:
        return {failure["checkpoint"]: failure for failure in store.failures()}


@pytest.fixture(scope="module")
def expected(home):
    """Rows of a sweep without disturbances."""
    before = os.getcwd()  # noqa: PTH109
    os.chdir(home)
    try:
        run(store=str(home / "expected.db"))
    finally:
        os.chdir(before)
    return rows(home / "expected.db", subjects=True)


def test_rows_are_those_of_score(here, expected):
    studies = open_studies("study")
    paths = sorted(str(path) for path in (here / "runs").iterdir())[:2]
    summary, events = run(paths, labels=r"seed(?P<seed>\d+)-epoch(?P<epoch>\d+)")
    assert (summary.outcome, summary.scored, summary.failed) == ("finished", 2, 0)
    assert [e["checkpoint"] for e in events["scored"]] == paths
    with Store("scores.db") as store:
        found = store.table()
        table = [dict(zip(found.columns, row, strict=True)) for row in found.rows()]
    assert {(r["seed"], r["epoch"]) for r in table} == {(1, 0), (1, 1)}
    of_score = {}
    names = (*COLUMNS, "mean_rho", "p_sign_flip", "p_corrected")
    for scored in score_checkpoints(paths, [ARCH], studies):
        for r in scored.results:
            of_score[r.checkpoint, r.study, r.layer, r.region] = [getattr(r, c) for c in names]
    got = {
        (r["checkpoint"], r["study"], r["layer"], r["region"]): [r[c] for c in names] for r in table
    }
    assert got == of_score and len(got) == 2 * 2 * 2


def test_a_second_run_does_nothing_and_a_rename_costs_nothing(here, expected):
    assert run()[0].scored == 12
    assert rows(subjects=True) == expected
    summary, events = run()
    assert (summary.scored, summary.before.done, "ready" in events) == (0, 12, False)
    (here / "runs" / "seed1-epoch03.safetensors").rename(here / "runs" / "new.safetensors")
    changed = here / "runs" / "seed1-epoch04.safetensors"
    state = load_file(changed)
    state["3.bias"] += 1
    save_file(state, changed)
    summary, events = run()
    assert (summary.known, summary.scored) == (1, 1)
    assert events["known"][0]["checkpoint"] == "runs/new.safetensors"
    assert events["scored"][0]["checkpoint"] == "runs/seed1-epoch04.safetensors"
    assert len(rows()) == 12 * 4 and len(rows(history=True)) == 14 * 4
    assert "runs/new.safetensors" in {r[0] for r in rows()} and len({r[0] for r in rows()}) == 12


def test_networks_of_a_manifest(here):
    from sweep_net import build, wide

    (here / "b").mkdir()
    torch.save(wide().state_dict(), here / "b" / "step7.pth")
    fastrdm.export_onnx(build(), here / "exported.onnx")
    (here / "sweep.toml").write_text(
        """
        [[network]]
        arch = "sweep_net:build"
        weights = "runs/*0[01].safetensors"
        taps = {last = "3"}
        [[network]]
        arch = "sweep_net:wide"
        weights = ["b"]
        labels = 'step(?P<step>\\d+)'
        [network.preprocessing]
        size = [20, 24]
        [[network]]
        weights = "exported.onnx"
        """
    )
    summary, _ = run("sweep.toml", ())
    assert (summary.scored, summary.failed) == (4, 0)
    found = {(r[0].rpartition("/")[2], r[1], r[2], r[4]) for r in rows()}
    assert found == {
        ("seed1-epoch00.safetensors", "sweep_net:build", None, "last"),
        ("seed1-epoch01.safetensors", "sweep_net:build", None, "last"),
        ("step7.pth", "sweep_net:wide", 7, "conv"),
        ("exported.onnx", "", None, "conv"),
        ("exported.onnx", "", None, "fc"),
    }
    # The same files with other taps are another method.
    assert run("runs/*00.safetensors")[0].scored == 1


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("network = 3", r"must hold tables \[\[network\]\]"),
        ("[[network]]\nweights = 'a'\n[other]", "not 'other'"),
        ("[[network]]\nweight = 'a'", "unknown field weight; the nearest is weights"),
        ("[[network]]\nweights = 3", "weights = 3 has the wrong type"),
        ("[[network]]\narch = 'a:b'", "weights must be a path or a list"),
        ("[[network]]\nweights = 'a'\nlabels = '('", r"labels '\(' is not a regular expression"),
        ("[[network]]\nweights = 'a'\npreprocessing = {sizes = 3}", "has no field sizes"),
        ("[[network]]\nweights = 'a'\npreprocessing = {std = [0, 1, 1]}", "std must be positive"),
        ("[[network", "is not valid TOML"),
    ],
)
def test_invalid_manifests_are_refused(tmp_path, content, match):
    (tmp_path / "m.toml").write_text(content)
    with pytest.raises(ValueError, match=match) as caught:
        read_manifest(tmp_path / "m.toml")
    assert "m.toml" in str(caught.value)


def test_checkpoints_are_found(here):
    (here / "list.txt").write_text("runs/seed1-epoch01.safetensors\n\nruns/*02.safetensors\n")
    (here / "runs" / "notes.md").touch()

    def found(*weights):
        return [each.path for source in sources(weights) for each in source.listing().found]

    assert found("list.txt") == ["runs/seed1-epoch01.safetensors", "runs/seed1-epoch02.safetensors"]
    assert len(found("runs")) == len(found("ru*/*")) == 12
    assert found("none.pth") == ["none.pth"]
    with pytest.raises(FileNotFoundError, match="no such list"):
        found("none.txt")


def test_mistakes_raise_before_work_starts(here, capsys):
    def fails(match, *arguments, **options):
        with pytest.raises((ValueError, FileNotFoundError), match=match):
            run(*arguments, **options)

    (here / "empty").mkdir()
    fails("there is no checkpoint in empty", "empty")
    fails("weights is empty", [])
    fails("2 architectures for 1", "runs", [ARCH, ARCH])
    fails("module 'nowhere' does not exist", "runs", "nowhere:x")
    fails(r"epoch00\.safetensors: weights need arch", "runs", ())
    fails("data is empty", data=[])
    fails("several studies have the name", data=["study", "study"])
    fails("no study named '93'", sets=["93"])
    fails("engine 'slurm' is not one of: local, ray", engine="slurm")
    fails("workers must be at least 1", workers=0)
    arguments = ["sweep", "runs", "--arch", ARCH, "--data", "study", "--store", "s.db"]
    assert main([*arguments, "--address", "here:1"]) == 1
    assert "--address is for --engine ray" in capsys.readouterr().err
    assert main(["sweep", "runs", "--arch", "nowhere:x", "--data", "study", "--store", "s.db"]) == 1


def test_a_missing_gpu_is_reported_before_any_checkpoint_fails(here, capsys):
    arguments = ["runs", "--arch", ARCH, "--data", "study", "--store", "s.db", "--quiet"]
    assert main(["sweep", *arguments, "--provider", "cuda"]) == 1
    err = capsys.readouterr().err
    assert "cuda" in err and "install" in err and err.count("\n") == 1
    assert failures("s.db") == {} and rows("s.db") == []


class Bomb:
    def __reduce__(self):
        return os.system, ("touch EXPLODED",)


def make_truncated(path, good):
    torch.save(load_file(good), path)
    path.write_bytes(path.read_bytes()[:-300])


def make_bomb(path, good):
    path.write_bytes(pickle.dumps({"0.weight": Bomb()}))


def make_nan(path, good):
    state = load_file(good)
    state["0.weight"][:] = float("nan")
    torch.save(state, path)


def make_other(path, good):
    torch.save({"other": torch.zeros(2)}, path)


BAD = {
    "truncated": (make_truncated, "truncated, damaged"),
    "code": (make_bomb, "refused without running it"),
    "empty": (lambda path, good: path.touch(), "the file is empty"),
    "folder": (lambda path, good: path.mkdir(), "is a folder"),
    "nan": (make_nan, "image0.png"),
    "other": (make_other, "does not fit"),
    "gone": (lambda path, good: None, "no such file"),
}


def test_bad_files_fail_alone_and_are_retried_on_request_or_when_changed(here, expected):
    good = here / "runs" / "seed1-epoch00.safetensors"
    paths = {name: f"runs/bad-{name}.pth" for name in BAD}
    for name, (make, _) in BAD.items():
        make(here / paths[name], good)
    weights = [*paths.values(), "runs/seed1*.safetensors"]
    summary, events = run(weights)
    assert (summary.outcome, summary.scored, summary.failed) == ("finished", 12, len(BAD))
    assert rows(subjects=True) == expected
    stored = failures()
    assert stored.keys() == set(paths.values()) and not (here / "EXPLODED").exists()
    for name, (_, match) in BAD.items():
        assert match in stored[paths[name]]["error"], name
        assert "\n" not in stored[paths[name]]["error"]
        assert "Traceback" in stored[paths[name]]["traceback"]
    assert {e["checkpoint"] for e in events["failed"]} == set(paths.values())
    # Unchanged files are retried only on request.
    assert run(weights)[0].before.failed == len(BAD)
    assert run(weights, retry_failed=True)[0].failed == len(BAD)
    assert {f["attempts"] for f in failures().values()} == {2}
    (here / paths["empty"]).write_bytes(b"something")
    torch.save(load_file(good), here / paths["gone"])
    summary, _ = run(weights)
    assert (summary.scored, summary.failed) == (1, 1)


def test_a_file_that_is_replaced_after_it_was_found_damaged_is_scored_by_the_next_sweep(
    here, expected, monkeypatch
):
    bad = here / "runs" / "seed1-epoch01.safetensors"
    good = bad.read_bytes()
    bad.write_bytes(good[:100])
    opened = Openings._open

    def replaced_after(openings, job):
        try:
            return opened(openings, job)
        finally:
            if job.path.endswith(bad.name):
                bad.write_bytes(good)

    monkeypatch.setattr(Openings, "_open", replaced_after)
    assert run(engine="in-process")[0].failed == 1
    assert run(engine="in-process")[0].scored == 1
    assert rows(subjects=True) == expected


def kill_when_given(name, times):
    """Kill the worker when it gets a checkpoint, as a system does when memory runs out."""
    killed = []

    def on_event(event):
        if event["event"] == "given" and name in event["checkpoint"] and len(killed) < times:
            killed.append(event["pid"])
            os.kill(event["pid"], signal.SIGKILL)

    return killed, on_event


@pytest.mark.parametrize(("times", "failed"), [(1, 0), (9, 1)])
def test_a_dead_worker_loses_nothing_and_stops_no_other(here, expected, times, failed):
    killed, on_event = kill_when_given("epoch03", times)
    summary = sweep("runs", ARCH, "study", store="scores.db", on_event=on_event)
    assert (summary.scored, summary.failed) == (12 - failed, failed)
    if failed:
        assert len(killed) == 3
        assert "died 3 times" in failures()["runs/seed1-epoch03.safetensors"]["error"]
        assert run(retry_failed=True)[0].scored == 1
    assert rows(subjects=True) == expected


def test_rdms_do_not_depend_on_the_number_of_threads(here):
    """RDMs are the same to the bit for any number of threads."""
    from fastrdm.runtimes import Architecture

    (study,) = open_studies("study")
    path = here / "runs" / "seed1-epoch00.safetensors"
    architecture = Architecture.read(here / "net.onnx")
    first, second = (
        architecture.open(path, provider="cpu", n_threads=n).rdms(study.stimuli) for n in (3, 1)
    )
    for layer, rdm in first.items():
        np.testing.assert_array_equal(second[layer], rdm)
    with pytest.raises(ValueError, match="n_threads must be at least 1, not 0"):
        architecture.open(path, n_threads=0)


def test_several_workers_have_the_same_results(here, expected):
    engine = LocalPool(2, "cpu")
    _, events = run(engine=engine)
    # On a busy machine, one worker may be ready only when all is done.
    ready = {e["worker"] for e in events["ready"]}
    assert ready and ready <= {"worker 1", "worker 2"}
    assert rows(subjects=True) == expected


@pytest.fixture
def cluster():
    """A Ray cluster of a head without processors and two nodes of one, each a separate raylet on this machine."""
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster, nodes
    finally:
        ray.shutdown()
        cluster.shutdown()


def node_of(nodes, pid):
    """The node with a process, which its raylet started."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        parent = int(file.read().rpartition(")")[2].split()[1])
    (found,) = (
        node for node in nodes if parent in [p.process.pid for p in node.all_processes["raylet"]]
    )
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_ray_cluster_that_loses_a_node_and_gets_another_gives_the_same(here, expected, cluster):
    cluster, nodes = cluster
    events = []

    def on_event(event):
        events.append(event)
        # The node of the first result: its worker has others in hand, and cannot score the rest.
        if event["event"] == "scored" and [e["event"] for e in events].count("scored") == 1:
            (pid,) = (
                e["pid"] for e in events if e["event"] == "ready" and e["worker"] == event["worker"]
            )
            cluster.remove_node(node_of(nodes, pid), allow_graceful=False)
            cluster.add_node(num_cpus=1)

    summary = sweep("runs", ARCH, "study", store="scores.db", engine="ray", on_event=on_event)
    assert (summary.outcome, summary.scored, summary.failed) == ("finished", 12, 0)
    assert rows(subjects=True) == expected
    done = [e["checkpoint"] for e in events if e["event"] == "scored"]
    assert len(done) == len(set(done)) == 12
    kinds = [e["event"] for e in events]
    assert "lost" in kinds and kinds.count("ready") >= 2
    # Copies are scored once, whichever node they go to.
    shutil.copy(GOOD, "runs/copy.safetensors")
    (here / "runs" / "link.safetensors").hardlink_to(GOOD)
    summary, _ = run(store="copies.db", engine="ray")
    assert (summary.scored, summary.known, summary.failed) == (12, 2, 0)


def until(process, kind, count=1):
    """Read events until `count` of a kind have arrived, and return all that were read."""
    seen = []
    for line in process.stdout:
        seen.append(json.loads(line))
        if [e["event"] for e in seen].count(kind) == count:
            return seen
    pytest.fail(f"ended without {kind}: {process.stderr.read()}")


@ON_LINUX
def test_a_sweep_that_is_killed_goes_on_where_it_was(here, start, expected):
    reported = set()
    for count in (1, 3):
        process = start()
        seen = until(process, "scored", count)
        process.kill()
        process.wait()
        reported |= {e["checkpoint"] for e in seen if e["event"] == "scored"}
        assert reported <= {row[0] for row in rows()}
        pids = {e["pid"] for e in seen if e["event"] == "ready"}
        end = time.monotonic() + 10
        while any(map(is_alive, pids)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(map(is_alive, pids)), "a worker outlives its sweep"
    assert run()[0].scored < 12
    assert rows(subjects=True) == expected


def test_a_signal_lets_checkpoints_in_work_finish(here, start, expected):
    process = start()
    seen = until(process, "scored")
    process.send_signal(signal.SIGINT)
    seen += [json.loads(line) for line in process.stdout]
    err = process.stderr.read()
    process.wait()
    kinds = [e["event"] for e in seen]
    assert process.returncode == 130 and seen[-1]["outcome"] == "stopped", err
    assert kinds.count("given") == kinds.count("scored") < 12
    assert len(rows()) == 4 * kinds.count("scored")
    with Store("scores.db") as store:
        assert [r["outcome"] for r in store.runs()] == ["stopped"]
    run()
    assert rows(subjects=True) == expected


def test_two_sweeps_on_one_store(here, start, expected):
    processes = [start() for _ in range(2)]
    outs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outs
    assert rows(subjects=True) == expected


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("gone", ["scores.db", "scores.db-wal"])
def test_a_store_that_is_removed_while_a_sweep_runs_ends_it_with_1(
    stop, gone, here, expected, monkeypatch, capsys
):
    """The sweep neither continues in a file that has no name, nor creates a new one."""
    from fastrdm.cli import progress

    @contextlib.contextmanager
    def remove(*arguments):
        def show(event):
            if event["event"] == "scored" and len(seen) < 3:
                seen.append(event["checkpoint"])
                if len(seen) == 3:
                    (here / gone).unlink()
                    if stop:
                        os.kill(os.getpid(), signal.SIGTERM)

        yield show

    seen = []
    monkeypatch.setattr(progress, "shown", remove)
    arguments = [
        "--arch",
        ARCH,
        "--data",
        "study",
        "--store",
        "scores.db",
        "--engine",
        "in-process",
    ]
    assert main(["sweep", "runs", *arguments]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"{gone} was removed or replaced" in err
    monkeypatch.undo()
    monkeypatch.chdir(here)
    if gone == "scores.db":
        assert not (here / gone).exists()
        with pytest.raises(ValueError, match="was removed, but not its log"):
            run()
        (here / "scores.db-wal").unlink()
    else:
        assert set(seen) <= {row[0] for row in rows()}
        assert main(["table", "scores.db", "--check"]) == 0
    assert run()[0].failed == 0
    assert rows(subjects=True) == expected


def test_watching_scores_files_when_they_are_complete(here, monkeypatch):
    monkeypatch.setattr("fastrdm.scoring.watching._WATCH_S", 0.2)
    monkeypatch.setattr("fastrdm.scoring.watching._SETTLED_S", 0.3)
    content = (here / "runs" / "seed1-epoch00.safetensors").read_bytes()
    (here / "new").mkdir()
    late = here / "new" / "late.safetensors"

    def train():
        with late.open("wb") as file:
            file.write(content[:9000])
            file.flush()
            time.sleep(3)
            file.write(content[9000:])

    def on_event(event):
        kinds.append(event["event"])
        if event["event"] == "scored" and "first" in event["checkpoint"]:
            threading.Thread(target=train).start()

    kinds = []
    (here / "new" / "first.safetensors").write_bytes(
        (here / "runs" / "seed1-epoch01.safetensors").read_bytes()
    )
    summary = sweep(
        "new", ARCH, "study", store="scores.db", watch=True, patience=2, on_event=on_event
    )
    assert (summary.outcome, summary.scored, summary.failed) == ("finished", 2, 0)
    assert kinds[0] == "plan" and kinds[-1] == "end"


def test_dry_run_measures_and_stores_nothing(here, capsys):
    arguments = ["sweep", "runs", "--arch", ARCH, "--data", "study", "--store", "s.db", "--dry-run"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("12 to score, 0 MiB; 0 done, 0 failed\nabout ")
    assert rows("s.db") == []
    assert main([*arguments, "--json"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["plan"]["new"] == 12 and estimate["seconds"] > 0
    assert estimate["memory"] > 50 * 2**20
    with Sweep(["runs"], [ARCH], "study", store="s.db") as s:
        assert s.plan().n_bytes == sum(p.stat().st_size for p in (here / "runs").iterdir())
    (here / "bad").mkdir()
    (here / "bad" / "a.pth").touch()
    assert main(["sweep", "bad", *arguments[2:]]) == 1
    assert "nothing could be measured: bad/a.pth: the file is empty" in capsys.readouterr().err


def test_rdms_are_kept_on_request(here):
    from fastrdm.runtimes import open_checkpoint

    path = "runs/seed1-epoch00.safetensors"
    run(path, keep_rdms=True)
    with Store("scores.db") as store:
        sha256 = next(store.rows())[-1]
        kept = store.rdms(sha256)
    (study,) = open_studies("study")
    made = open_checkpoint(path, ARCH, provider="cpu").rdms(study.stimuli)
    assert {layer for _, layer in kept} == made.keys()
    for (_, layer), rdm in kept.items():
        np.testing.assert_array_equal(rdm, made[layer].astype(np.float32))


def test_a_full_disk_stops_the_sweep_and_keeps_what_was_reported(here, start, expected):
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000))

    process = start(preexec_fn=limit)
    out, err = process.communicate()
    scored = [e["checkpoint"] for e in map(json.loads, out.splitlines()) if e["event"] == "scored"]
    assert process.returncode == 1 and "all that was reported done is in it" in err, err
    assert err.strip().count("\n") == 0 and len(scored) < 12
    assert {row[0] for row in rows()} == set(scored)
    run()
    assert rows(subjects=True) == expected


def test_progress_board(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("fastrdm.cli.progress.time.monotonic", lambda: next(clock))
    board = Board()
    for event in (
        {"event": "plan", "new": 5, "watch": False},
        {"event": "ready", "worker": "w", "host": "h"},
        {"event": "given", "worker": "w", "checkpoint": "a"},
        {"event": "given", "worker": "w", "checkpoint": "b"},
        {"event": "scored", "worker": "w", "checkpoint": "a"},
        {"event": "failed", "worker": "w", "checkpoint": "b"},
    ):
        board.see(event)
    assert board.text == "1 done, 1 failed, 3 to go, 1.00/s, 3 s left"
    assert board.workers == {"w": "waiting"}
    board.see({"event": "lost", "worker": "w"})
    assert board.workers == {}


def test_a_target_is_identified_by_its_subjects():
    rdms = np.random.default_rng(0).random((3, 10))
    digest = Target(rdms, ceiling=1).sha256
    assert digest == Target(rdms, ceiling=1, name="it").sha256
    assert digest != Target(rdms[::-1], ceiling=1).sha256


def listed(*weights):
    """Return the paths found for weights of one source, and the listing."""
    (source,) = sources(weights)
    listing = source.listing()
    return [found.path for found in listing.found], listing


def test_an_existing_path_is_literal_whatever_brackets_it_has(here):
    (here / "runs [1]").mkdir()
    (here / "runs 1").mkdir()
    for name in (
        "runs [1]/epoch[0].pth",
        "runs [1]/epoch1.pth",
        "runs [1]/epoch*.pth",
        "runs 1/a.pth",
    ):
        (here / name).touch()
    inside = [f"runs [1]/{name}" for name in ("epoch*.pth", "epoch1.pth", "epoch[0].pth")]
    assert listed("runs [1]")[0] == inside
    assert listed("runs [1]/epoch[0].pth")[0] == ["runs [1]/epoch[0].pth"]
    assert listed("runs [1]/epoch*.pth")[0] == ["runs [1]/epoch*.pth"]
    (here / "runs [1]/epoch*.pth").unlink()
    # No file has exactly this name, so it is a glob; the brackets of the folder are literal.
    inside.pop(0)
    for pattern in ("runs [1]/*.pth", "runs [1]/e**", str(here / "runs [1]" / "*.pth")):
        assert [path.rpartition("/")[2] for path in listed(pattern)[0]] == [
            "epoch1.pth",
            "epoch[0].pth",
        ]
    assert listed("./runs [1]/epoch?.pth")[0] == ["./runs [1]/epoch1.pth"]
    (here / "runs [1]" / "m.toml").write_text('[[network]]\nweights = "epoch*.pth"\n')
    assert len(listed("runs [1]/m.toml")[0]) == 2
    (here / "list.txt").write_text("runs [1]/epoch[0].pth\n")
    assert listed("list.txt")[0] == ["runs [1]/epoch[0].pth"]
    (here / "runs [1]").rename(here / "elsewhere")
    # Without such a folder, the brackets are a class of characters.
    assert listed("runs [1]/*.pth")[0] == ["runs 1/a.pth"]


ENDINGS = ["pth", "pt", "ckpt", "bin", "th", "pth.tar", "pt.tar", "safetensors", "onnx"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_suffixes_of_weights_are_recognised_in_any_case(here, ending, case):
    name = f"more/epoch1.{case(ending)}"
    (here / "more").mkdir()
    (here / name).touch()
    assert listed("more")[0] == listed("more/*")[0] == listed(name)[0] == [name]


def test_files_left_out_of_a_folder_or_glob_are_counted_and_named(here):
    for name in (
        "notes.md",
        "log.txt",
        "args.json",
        "z.csv",
        ".DS_Store",
        "net.onnx",
        "net.onnx.data",
    ):
        (here / "runs" / name).touch()
    (here / "runs" / "old").mkdir()
    found, listing = listed("runs")
    assert len(found) == 13
    counts = {each.reason: (each.count, each.names) for each in listing.left_out}
    assert counts == {
        "hidden": (1, (".DS_Store",)),
        "not named as weights": (4, ("args.json", "log.txt", "notes.md")),
        "folders, which a glob with ** looks into": (1, ("old",)),
    }
    messages = [each.message for each in listing.left_out]
    assert (
        "runs: 4 left out, not named as weights: args.json, log.txt, notes.md and 1 more"
        in messages
    )
    found, listing = listed("runs/**")
    assert len(found) == 13 and [each.count for each in listing.left_out] == [4]
    (here / "list.txt").write_text("runs/*\n")
    assert [each.count for each in listed("list.txt")[1].left_out] == [4, 1]


def test_the_training_state_beside_weights_is_left_out(here):
    """The files that the Trainer of transformers, accelerate and torch.distributed.checkpoint write."""
    folder = here / "hf" / "checkpoint-500"
    folder.mkdir(parents=True)
    state = [
        "optimizer.pt",
        "rng_state.pth",
        "rng_state_0.pth",
        "scaler.pt",
        "scheduler.pt",
        "training_args.bin",
    ]
    for name in ["model.safetensors", "optimizer_net.pt", *state]:
        (folder / name).touch()
    for pattern in ("hf/checkpoint-500", "hf/**", "hf/*", "hf/checkpoint-*"):
        found, listing = listed(pattern)
        names = ["model.safetensors", "optimizer_net.pt"]
        assert found == [f"hf/checkpoint-500/{name}" for name in names]
        (left_out,) = listing.left_out
        assert left_out.count == 6 and left_out.reason == "state of the training, not weights"
    assert len(listed("hf/checkpoint-500/optimizer.pt")[0]) == 1
    (here / "dcp").mkdir()
    (here / "dcp" / "__0_0.distcp").touch()
    assert "dcp_to_torch_save" in listed("dcp")[1].left_out[0].message


def test_a_sweep_reports_what_it_leaves_out(here, capsys):
    (here / "runs" / "notes.md").touch()
    _, events = run()
    (plan,) = events["plan"]
    assert plan["left_out"][0]["count"] == 1 and "notes.md" in plan["left_out"][0]["message"]
    arguments = ["sweep", "runs", "--arch", ARCH, "--data", "study", "--store", "scores.db"]
    assert main(arguments) == 0
    assert "warning: runs: 1 left out, not named as weights: notes.md" in capsys.readouterr().err
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["left_out"][0]["names"] == ["notes.md"]
    assert main([*arguments, "--dry-run"]) == 0
    assert "1 left out, not named as weights: notes.md" in capsys.readouterr().err
    assert main([*arguments, "--dry-run", "--json"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["plan"]["left_out"][0]["count"] == 1
    (here / "only").mkdir()
    (here / "only" / "readme.md").touch()
    with pytest.raises(ValueError, match=r"no checkpoint in only; only: 1 left out, .*readme\.md"):
        run("only")


GOOD = "runs/seed1-epoch00.safetensors"


def test_a_row_with_a_missing_file_fails_in_each_run_and_the_others_are_scored(here, capsys):
    (here / "list.txt").write_text(f"{GOOD}\n\nruns/gone.pth\nruns/none*.pth\n")
    for k in range(2):
        events = []
        summary = sweep("list.txt", ARCH, "study", store="scores.db", on_event=events.append)
        errors = sorted(e["error"] for e in events if e["event"] == "failed")
        assert (summary.scored, summary.failed) == (1 - k, 2)
        assert errors[0].startswith("list.txt, line 3: runs/gone.pth: no such file")
        assert errors[1] == "list.txt, line 4: no file matches runs/none*.pth"
    assert failures()["runs/gone.pth"]["error"].startswith("list.txt, line 3: ")
    arguments = ["list.txt", "--arch", ARCH, "--data", "study", "--quiet"]
    assert main(["sweep", *arguments, "--store", "scores.db"]) == 1
    err = capsys.readouterr().err
    assert "list.txt, line 3: runs/gone.pth: no such file" in err
    assert main(["sweep", *arguments, "--store", "scores.db", "--dry-run"]) == 1
    assert "list.txt, line 4: no file matches" in capsys.readouterr().err
    assert main(["score", *arguments, "--json"]) == 1
    out, err = capsys.readouterr()
    assert {row["checkpoint"] for row in json.loads(out)["results"]} == {GOOD}
    assert "error: list.txt, line 3: runs/gone.pth: no such file" in err
    assert "error: list.txt, line 4: no file matches runs/none*.pth" in err
    assert "2 of 3 checkpoints could not be scored" in err


@pytest.mark.parametrize("missing", ["gone.pth", "gone", "gone.txt", "none*.pth", "empty"])
def test_a_manifest_with_missing_files_fails_and_the_others_are_scored(here, missing):
    (here / "empty").mkdir()
    (here / "m.toml").write_text(
        f'[[network]]\narch = "{ARCH}"\nweights = ["{missing}"]\n'
        f'[[network]]\narch = "{ARCH}"\nweights = ["{GOOD}"]\n'
    )
    for k in range(2):
        summary, events = run("m.toml", ())
        assert (summary.scored, summary.failed) == (1 - k, 1)
        assert "m.toml: network 1: " in events["failed"][0]["error"]


def test_a_file_still_missing_when_watching_ends_is_a_failure(here):
    (here / "list.txt").write_text(f"{GOOD}\nruns/gone.pth\n")
    summary, events = run("list.txt", watch=True, patience=0.1)
    assert (summary.scored, summary.failed) == (1, 1)
    assert events["failed"][0]["error"] == "list.txt, line 2: runs/gone.pth: no such file"


def test_score_takes_folders_globs_and_lists_and_reports_what_it_leaves_out(here, capsys):
    (here / "runs" / "notes.md").touch()
    for path in sorted((here / "runs").iterdir())[3:-2]:
        path.unlink()
    arguments = ["--arch", ARCH, "--data", "study", "--quiet", "--bootstrap", "0"]
    assert main(["score", "runs", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert [each["names"] for each in found["left_out"]] == [["notes.md"]]
    assert "warning: runs: 1 left out, not named as weights: notes.md" in err
    scored = {result["checkpoint"] for result in found["results"]}
    (here / "list.txt").write_text("runs/*.safetensors\n")
    assert main(["score", "list.txt", *arguments, "--json"]) == 0
    assert {row["checkpoint"] for row in json_rows(capsys)} == scored
    assert main(["score", "m.toml", *arguments]) == 1
    assert "m.toml: no such manifest" in capsys.readouterr().err
    with pytest.warns(RuntimeWarning, match=r"runs: 1 left out"):
        next(score_checkpoints(["runs"], [ARCH], open_studies("study")))


def json_rows(capsys):
    return json.loads(capsys.readouterr().out)["results"]


def test_score_takes_what_a_sweep_takes_and_has_its_results(here, capsys):
    """A manifest, labels, several workers: the same rows in the order given, and no store."""
    (here / "m.toml").write_text(
        f"""
        [[network]]
        arch = "{ARCH}"
        weights = "runs/*0[01].safetensors"
        labels = 'epoch(?P<epoch>\\d+)'
        [[network]]
        weights = "{ARCH}"
        """
    )
    arguments = ["--data", "study", "--quiet", "--bootstrap", "0", "--json"]
    assert main(["score", "m.toml", *arguments]) == 0
    rows = json_rows(capsys)
    checkpoints = [f"runs/seed1-epoch0{i}.safetensors" for i in (0, 1)]
    assert list(dict.fromkeys(row["checkpoint"] for row in rows)) == [*checkpoints, ARCH]
    assert [row.get("epoch") for row in rows] == ["00"] * 4 + ["01"] * 4 + [None] * 4
    assert main(["score", "m.toml", *arguments, "--workers", "2"]) == 0
    assert json_rows(capsys) == rows
    assert not list(here.glob("*.db"))
    run("m.toml", ())
    with Store("scores.db") as store:
        columns = list(store.columns())
        stored = [dict(zip(columns, row, strict=True)) for row in store.rows()]
    keys = ("checkpoint", "study", "layer", "region", *COLUMNS)
    assert sorted([row[k] for k in keys] for row in rows) == sorted(
        [row[k] for k in keys] for row in stored
    )


def test_a_study_that_is_not_chosen_is_not_opened(here, capsys):
    for name in ("good", "bad"):
        shutil.copytree(here / "study", here / "data" / name)
    np.save(here / "data" / "bad" / "it.npy", np.zeros(3))
    arguments = [GOOD, "--arch", ARCH, "--data", "data", "--quiet"]
    assert main(["score", *arguments, "--sets", "good", "--json", "--bootstrap", "0"]) == 0
    assert {row["study"] for row in json_rows(capsys)} == {"good"}
    assert main(["sweep", *arguments, "--sets", "good", "--store", "s.db"]) == 0


def test_score_writes_labels_as_columns_of_csv(here):
    arguments = ["--arch", ARCH, "--data", "study", "--quiet", "--bootstrap", "0", "--csv", "s.csv"]
    assert main(["score", GOOD, *arguments, "--labels", r"seed(?P<seed>\d+)-e\w+?(?P<n>\d+)"]) == 0
    header, row, *_ = (here / "s.csv").read_text().splitlines()
    assert header.endswith(",seed,n") and row.endswith(",1,00")


def test_score_estimates_and_watches_without_a_store(here, capsys, monkeypatch):
    monkeypatch.setattr("fastrdm.scoring.watching._WATCH_S", 0.1)
    monkeypatch.setattr("fastrdm.scoring.watching._SETTLED_S", 0.1)
    arguments = ["score", "runs", "--arch", ARCH, "--data", "study", "--json", "--bootstrap", "0"]
    assert main([*arguments, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["new"] == 12
    assert main([*arguments, "--quiet", "--watch", "--patience", "0.5"]) == 0
    rows = json_rows(capsys)
    assert len(rows) == 12 * 4 and len({row["checkpoint"] for row in rows}) == 12


def test_the_engine_in_process_has_one_worker(here):
    with pytest.raises(ValueError, match='"in-process" has one worker, not 2'):
        run(engine="in-process", workers=2)


def test_a_sweep_in_this_process_has_the_same_results(here, expected):
    summary, events = run(engine="in-process")
    assert summary.scored == 12 and {e["pid"] for e in events["ready"]} == {os.getpid()}
    assert rows(subjects=True) == expected


def test_architectures_in_memory_and_one_that_fails_stops_no_other(here):
    from fastrdm.runtimes import Architecture

    (here / "broken_net.py").write_text("def build():\n    raise KeyError('no luck')\n")
    other = Architecture.export("sweep_net:wide")
    large = Architecture.read(ARCH)
    summary, events = run([GOOD] * 3, [other, large, "broken_net:build"])
    assert (summary.scored, summary.failed) == (1, 2)
    errors = sorted(event["error"] for event in events["failed"])
    assert "'broken_net:build' does not build a network: KeyError" in errors[0]
    assert "does not fit sweep_net:wide" in errors[1]
    assert {row[1] for row in rows()} == {ARCH}
    with pytest.raises(ValueError, match="has its own taps and preprocessing"):
        run(GOOD, large, taps=["1"])
    with pytest.raises(ValueError, match="does not build a network"):
        run(GOOD, "broken_net:build")


def test_a_sweeps_rows_are_those_of_its_networks_and_of_each_files_last_weights(here):
    run("runs/*01.safetensors")
    run(GOOD)
    save_file({k: v + 1 for k, v in load_file(GOOD).items()}, GOOD)
    with Sweep([GOOD], [ARCH], "study", store="scores.db") as sweep:
        sweep.run()
        found = list(sweep.rows(subjects=True))
    assert len(rows()) == 8 and len(rows(history=True)) == 12 and len(found) == 8 * 4
    (sha256,) = {row["sha256"] for row in found if row["checkpoint"] == GOOD}
    assert sha256 == hash_file(GOOD)
    with Sweep([GOOD], ["sweep_net:wide"], "study", store="scores.db") as sweep:
        assert list(sweep.rows()) == []
    with Sweep([GOOD], [ARCH], "study") as sweep:
        assert list(sweep.rows()) == []


def test_weights_in_capitals_are_read_by_their_kind(here):
    (here / GOOD).rename(here / "runs" / "A.SAFETENSORS")
    (here / "net.onnx").rename(here / "NET.ONNX")
    assert run("runs/A.SAFETENSORS", "NET.ONNX")[0].scored == 1
    assert run("NET.ONNX", ())[0].scored == 1


def test_the_nan_policy_is_part_of_a_targets_key(here):
    (study,) = open_studies("study")
    for policy in ("raise", "omit"):
        targets = {
            name: Target(t.subject_rdms, name=name, nan_policy=policy)
            for name, t in study.targets.items()
        }
        with Sweep(["runs"], [ARCH], replace(study, targets=targets), store="scores.db"):
            pass
    with Store("scores.db") as store:
        found = store.dicts("SELECT key, protocol FROM targets WHERE region = 'it'")
    assert [json.loads(row["protocol"])["nan_policy"] for row in found] == ["raise", "omit"]
    # Absent, as before protocols could average over time, so that older results are found.
    assert "average_times" not in json.loads(found[0]["protocol"])
    assert len({row["key"] for row in found}) == 2


def test_a_target_whose_ceiling_is_nan_is_refused(here):
    (study,) = open_studies("study")
    rdms = study.targets["it"].subject_rdms[:, 0].copy()
    rdms[1, 2] = np.nan
    target = Target(rdms, name="it", nan_policy="propagate")
    with pytest.raises(ValueError, match="the ceiling of it of the study 'study' is NaN"):
        Sweep(["runs"], [ARCH], replace(study, targets={"it": target}), store="scores.db")


def test_copies_are_scored_once_and_listed_under_every_name(here, monkeypatch):
    best, last = "runs/best.safetensors", "runs/last.safetensors"
    for copy in (best, last):
        shutil.copy(GOOD, copy)
    for store, options in (
        ("a.db", {"engine": "in-process"}),
        ("b.db", {}),
        ("c.db", {"workers": 3}),
    ):
        summary, events = run(store=store, labels=r"epoch(?P<epoch>\d+)", **options)
        done = [e["checkpoint"] for e in (*events["scored"], *events.get("known", ()))]
        assert len(done) == 14 and summary.failed == 0
        assert (summary.scored, summary.known) == (12, 2)
        of_path = {}
        for row in rows(store):
            of_path.setdefault(row[0], []).append(row[3:])
        assert len(of_path) == 14 and of_path[best] == of_path[last] == of_path[GOOD]
        with Store(store) as opened:
            assert opened.counts()["checkpoints"] == 12
    # An overwritten file replaces its own row and no other.
    shutil.copy("runs/seed1-epoch05.safetensors", last)
    assert run(store="a.db")[0].known == 1
    overwritten = {}
    for row in rows("a.db"):
        overwritten.setdefault(row[0], []).append(row[3:])
    assert overwritten[last] == overwritten["runs/seed1-epoch05.safetensors"] != of_path[last]
    del overwritten[last], of_path[last]
    assert overwritten == of_path


def test_score_gives_a_copy_the_results_of_its_original(here, monkeypatch):
    copy, scored, original = "runs/seed1-epoch00-copy.safetensors", [], LayerScoring.finish
    shutil.copy(GOOD, copy)

    def finish(self, model, *arguments):
        scored.append(model)
        return original(self, model, *arguments)

    monkeypatch.setattr(LayerScoring, "finish", finish)
    other = "runs/seed1-epoch01.safetensors"
    paths = [GOOD, copy, other, copy]
    found = list(score_checkpoints(paths, [ARCH], "study", labels=r"00(?P<copy>-copy)?"))
    assert [each.checkpoint for each in found] == paths and len(scored) == 2
    assert [dict(each.labels) for each in found] == [{}, {"copy": "-copy"}, {}, {"copy": "-copy"}]
    first, second, third, fourth = (each.results for each in found)
    assert [replace(result, checkpoint=copy) for result in first] == list(second) == list(fourth)
    assert {result.checkpoint for result in second} == {copy} and third != first
    assert found[0].sha256 == found[1].sha256 == hash_file(GOOD)


def test_a_copy_of_a_checkpoint_that_fails_fails_too(here):
    save_file({"other": torch.zeros(3)}, "runs/a.safetensors")
    shutil.copy("runs/a.safetensors", "runs/b.safetensors")
    summary, _ = run(["runs/a.safetensors", "runs/b.safetensors", GOOD], engine="in-process")
    assert (summary.failed, summary.scored, summary.known) == (2, 1, 0)


def test_labels_are_added_to_a_finished_store_without_scoring(here):
    run()
    before = rows()
    summary, events = run(labels=r"epoch(?P<epoch>\d+)")
    assert (summary.scored, summary.known, summary.before.done) == (0, 0, 12)
    assert "ready" not in events
    assert [row[2] for row in rows()] == [i for i in range(12) for _ in range(4)]
    assert [row[:2] + row[3:] for row in rows()] == before
    with pytest.raises(ValueError, match="a label cannot be named 'layer'"):
        run(labels="(?P<layer>.)")


def test_what_was_taken_of_a_file_of_weights_is_a_column(here, capsys):
    state = load_file(GOOD)
    torch.save({"net": state, "epoch": 3}, here / "net.pth")
    torch.save({f"module.{name}": value for name, value in state.items()}, here / "module.pth")
    torch.save(
        {"state_dict": state, "state_dict_ema": {k: v + 1 for k, v in state.items()}},
        here / "ema.pth",
    )
    for arguments in (
        ["net.pth", "module.pth"],
        ["ema.pth", "--ema"],
        ["ema.pth", "--key", "state_dict"],
    ):
        command = ["sweep", *arguments, "--arch", ARCH, "--data", "study", "--store", "scores.db"]
        assert main([*command, "--quiet"]) == 0
    with Store("scores.db") as store:
        places = [
            list(store.columns()).index(name) for name in ("key", "prefix", "ema", "settings")
        ]
        found = {(row[0], *(row[place] for place in places)) for row in store.rows()}
        taps = {row[list(store.columns()).index("taps")] for row in store.rows()}
    assert {row[:4] for row in found} == {
        ("net.pth", "net", "", ""),
        ("module.pth", "", "module.", ""),
        ("ema.pth", "state_dict_ema", "", "yes"),
        ("ema.pth", "state_dict", "", ""),
    }
    assert len({row[4] for row in found}) == 3 and taps == {"conv=1,fc=3"}


def test_score_prints_a_checkpoint_once_that_is_named_several_times(here, capsys):
    first = "runs/seed1-epoch00.safetensors"
    for path in sorted((here / "runs").iterdir())[3:]:
        path.unlink()
    weights = [first, first, f"./{first}", "runs", "runs/*"]
    options = ["--arch", ARCH, "--data", "study", "--bootstrap", "0", "--json"]
    assert main(["score", *weights, *options]) == 0
    out, err = capsys.readouterr()
    found = dict.fromkeys(row["checkpoint"] for row in json.loads(out)["results"])
    assert list(found) == [f"runs/seed1-epoch0{i}.safetensors" for i in range(3)]
    assert len(json.loads(out)["results"]) == 3 * 2 * 2 and err.count(f"scoring {first}") == 1
    # With another network it is another checkpoint.
    archs = [ARCH, "sweep_net:wide"]
    found = list(
        score_checkpoints(
            [first, first], archs, "study", n_draws=0, allow_missing="*", repeat=False
        )
    )
    assert len(found) == 2
