"""Names with terminal escapes, bidirectional controls, markup, formulas and bytes that are not UTF-8.

Every command that prints is run with them, and what it prints acts on no terminal and loses no name.
"""

import ast
import csv
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image

import fastrdm
from fastrdm._base import printable, unescaped
from fastrdm.cli import diagnosis, main
from fastrdm.cli.commands import COMMANDS
from fastrdm.cli.progress import shown
from fastrdm.scoring.jobs import Job

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")

PART = os.fsdecode(b"[bold]\x1b[31m\xe9$x$\x9b<b>") + "\u202e\u2028\n\t\x7f :smile:"
NAME = f"=_{PART}"
SHOWN = printable(NAME)
SOURCE = """
import torch
from fastrdm.images import Preprocessing

def build():
    n = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.Flatten(), torch.nn.Linear(900, 10))
    n.preprocessing = Preprocessing((32, 32))
    n.taps = {"conv": "0", "fc": "2"}
    return n
"""
USED = set()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Weights in every format, a file that is left out, a damaged one, a study and a submission with nasty names."""
    import torch
    from safetensors.torch import save

    home = tmp_path_factory.mktemp("home")
    (home / "nasty_net.py").write_text(SOURCE)
    names = {}
    exec(SOURCE, names)
    torch.manual_seed(0)
    network = names["build"]()
    fastrdm.export_onnx(network, home / "net.onnx")
    runs = home / NAME
    runs.mkdir()
    shutil.copy(home / "net.onnx", runs / f"{NAME}.onnx")
    torch.save(names["build"]().state_dict(), runs / f"{NAME}.pth")
    (runs / f"{NAME}.safetensors").write_bytes(save(names["build"]().state_dict()))
    (runs / f"{NAME}bad.pth").write_bytes(b"no weights")
    (runs / f"{NAME}.md").touch()
    (home / f"{NAME}.txt").write_bytes(os.fsencode(f"{home}/net.onnx\n"))
    study = home / f"study{NAME}"
    (study / "stimuli").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(home / "image.png")
        (home / "image.png").rename(study / "stimuli" / f"{NAME}{i}.png")
    rdms = rng.random((4, 6, 6)) + rng.random((6, 6))
    rdms = (rdms + rdms.transpose(0, 2, 1)) * (1 - np.eye(6))
    np.savez(home / "target.npz", EVC_RDMs=rdms, IT_RDMs=rdms)
    (home / "target.npz").rename(home / f"{NAME}.npz")
    np.save(study / "evc.npy", rdms)
    text = json.dumps(PART.replace("\udce9", "").replace("\udc9b", "").replace("\x7f", ""))
    (study / "study.toml").write_text(
        f'name = {text}\nstimuli = "stimuli"\norder = "sorted"\n[targets.{text}]\nfile = "evc.npy"\n'
    )
    return home


@pytest.fixture
def run(home, capfd, monkeypatch):
    """Run a command; what it prints must be harmless. Returns the status, and standard output and error."""
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)

    def run(*arguments, status=0):
        USED.add(arguments[0])
        assert main(list(map(str, arguments))) == status
        out, err = capfd.readouterr()
        for text in (out, err):
            # Lines of CSV end in "\\r\\n".
            lines = text.replace("\r\n", "\n").split("\n")
            assert lines == list(map(printable, lines))
        return out, err

    return run


def scoring(*more):
    return ["--arch", "net.onnx", "--data", f"study{NAME}", *more]


LABELS = r"(?s)(?P<name>[^/]*)\."


def test_score(run, home):
    out, err = run(
        "score", NAME, *scoring("--csv", "o.csv", "--figure", "o.png", "--labels", LABELS), status=1
    )
    assert f"{SHOWN}/{SHOWN}.pth" in out and f"{SHOWN}/{SHOWN}bad.pth" in err and ":smile:" in out
    assert (home / "o.png").stat().st_size
    with (home / "o.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["checkpoint"] for row in rows} == {
        f"'{SHOWN}/{SHOWN}{suffix}" for suffix in (".onnx", ".pth", ".safetensors")
    }
    assert {row["name"] for row in rows} == {f"'{SHOWN}"}
    run("score", f"{NAME}/{NAME}.onnx", *scoring("--csv", "o.csv", "--raw-cells", "--quiet"))
    assert f"\n={PART[:7]}" not in (home / "o.csv").read_text("utf-8")
    with (home / "o.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    assert row["checkpoint"].startswith("=_[bold]\x1b[31m\\xe9$x$")
    out, _ = run("score", NAME, *scoring("--json", "--labels", LABELS), status=1)
    document = json.loads(out)
    assert {row["name"] for row in document["results"]} == {NAME}
    assert [each["names"] for each in document["left_out"]] == [[f"{NAME}.md"]]
    assert [each["checkpoint"] for each in document["failures"]] == [f"{NAME}/{NAME}bad.pth"]


def test_a_sweep_and_its_tables(run, home):
    (home / "s.db").unlink(missing_ok=True)
    store = ["--store", "s.db", "--engine", "in-process", "--labels", LABELS]
    _, err = run("sweep", NAME, *scoring(*store, "--dry-run"))
    assert f"{SHOWN}.md" in err
    _, err = run("sweep", NAME, *scoring(*store, "--debug"), status=1)
    assert f"{SHOWN}/{SHOWN}bad.pth: " in err and err.count(f"error: {SHOWN}") == 1
    out, _ = run("sweep", NAME, *scoring(*store, "--json"), status=1)
    record = json.loads(out)
    assert record["before"] == {"scored": 3, "failed": 1} and record["scored"] == 0
    assert record["left_out"][0]["names"] == [f"{NAME}.md"]
    out, _ = run("sweep", NAME, *scoring(*store, "--events"), status=1)
    plan, end = map(json.loads, out.splitlines())
    assert plan["done"] == 3 and plan["failed"] == 1 and end["scored"] == 0
    assert plan["left_out"][0]["names"] == [f"{NAME}.md"]
    out, _ = run("table", "s.db")
    assert f"\n{SHOWN}/{SHOWN}.onnx " in out
    where = f"checkpoint = {SHOWN}/{SHOWN}.onnx"
    out, err = run("table", "s.db", "--where", where, "--best")
    assert "1 of 3 checkpoints" in err and f"\n{SHOWN}/{SHOWN}.onnx " in out
    out, _ = run("table", "s.db", "--failures", "--debug")
    assert out.startswith(f"{SHOWN}/{SHOWN}bad.pth: ")
    assert out.splitlines()[0].count("bad.pth") == 1
    paths = {f"{NAME}/{NAME}{suffix}" for suffix in (".onnx", ".pth", ".safetensors")}
    out, _ = run("table", "s.db", "--format", "json")
    assert {row["checkpoint"] for row in json.loads(out)} == paths
    out, _ = run("table", "s.db", "--format", "csv")
    found = {row["checkpoint"] for row in csv.DictReader(out.splitlines())}
    assert {unescaped(name.removeprefix("'")) for name in found} == paths
    for ending in ("txt", "csv", "json", "xlsx", "parquet"):
        run("table", "s.db", "--output", f"{NAME}.{ending}")
    (home / f"{NAME}.xlsx").rename(home / "t.xlsx")
    cell = openpyxl.load_workbook(home / "t.xlsx").active["A2"]
    assert cell.value.startswith("=_[bold]") and cell.data_type == "s" and cell.quotePrefix
    run("table", "s.db", "--check")
    out, _ = run("table", "s.db", "--check", "--json")
    assert json.loads(out)["problems"] == []
    _, err = run("plot", "s.db", "--kind", "layers", "--output", f"{NAME}.svg")
    assert f"wrote {SHOWN}.svg" in err
    out, _ = run("plot", "s.db", "--kind", "layers", "--output", f"{NAME}.svg", "--json")
    assert json.loads(out)["path"] == f"{NAME}.svg"
    _, err = run("report", "s.db", "--output", f"{NAME}.html")
    assert err == f"wrote {SHOWN}.html\n"
    out, _ = run("label", "s.db", "--labels", r"(?P<ending>\w+)$")
    assert "3 of 3 paths" in out
    out, _ = run("label", "s.db", "--labels", "(?P<end>bad|onnx)$", "--json")
    assert json.loads(out)["labelled"] == 1 and len(json.loads(out)["without"]) == 2
    _, err = run("label", "s.db", "--labels", "(?P<x>nothing)", status=1)
    assert "match none of the 3 paths" in err
    out, _ = run("merge", f"{NAME}.db", "s.db")
    assert f"{SHOWN}.db: 3 checkpoints" in out
    with fastrdm.Store(home / f"{NAME}.db") as merged:
        assert set(merged.paths()) == paths and {"name", "ending"} <= set(merged.labels())
        assert {row[merged_column(merged, "checkpoint")] for row in merged.rows()} == paths


def merged_column(store, name):
    return list(store.columns()).index(name)


def test_names_as_they_are_shown_are_understood(run):
    """Arguments, globs, lists and manifests may have the escapes that messages show."""
    run("score", f"{SHOWN}/{SHOWN}.onnx", "--data", f"study{SHOWN}", "--quiet")
    store = f"as-shown{NAME}.db"
    run("sweep", f"{NAME}/{NAME}.onnx", *scoring("--store", store, "--engine", "in-process"))
    _, err = run("table", printable(store))
    assert "1 checkpoint," in err
    run("score", f"{SHOWN.replace('[', '[[]')}/*.onnx", *scoring("--quiet"))
    Path("list.txt").write_text(f"{SHOWN}/{SHOWN}.onnx\n")
    Path("bytes.txt").write_bytes(os.fsencode("caf\udce9.onnx\n"))
    shutil.copy("net.onnx", "caf\udce9.onnx")
    Path("m.toml").write_text(f"[[network]]\nweights = ['{SHOWN}/{SHOWN}.onnx', 'caf\\xe9.onnx']\n")
    for name, n in (("list.txt", 1), ("bytes.txt", 1), ("m.toml", 2)):
        out, _ = run("score", name, *scoring("--json")[2:])
        found = {row["checkpoint"] for row in json.loads(out)["results"]}
        assert len(found) == n and all(Path(path).exists() for path in found)


def test_names_reach_worker_processes_and_come_back(run, home):
    """Those of Ray get jobs by the same pickles."""
    Path(home / "local.db").unlink(missing_ok=True)
    run(
        *("sweep", f"{NAME}/{NAME}.pth", "--store", "local.db", "--engine", "local"),
        *scoring("--workers", "1"),
    )
    with fastrdm.Store(home / "local.db") as store:
        assert store.paths() == [f"{NAME}/{NAME}.pth"]
    job = Job(NAME, 0, {"name": NAME})
    assert pickle.loads(pickle.dumps(job)) == job


def test_check_and_its_page(run, home):
    out, _ = run("check", f"study{NAME}", "--output", "c.html")
    assert f"study{SHOWN}/stimuli" in out
    page = (home / "c.html").read_text("utf-8")
    assert "<b>" not in page and "&lt;b&gt;" in page
    assert {c for c in page if printable(c) != c} <= {"\n"}
    run("check", f"study{NAME}", "--output", f"{NAME}.png")
    out, _ = run("check", f"study{NAME}", "--json", "--output", "c.html")
    assert json.loads(out)[0]["folder"].startswith(f"study{NAME}")


def test_evaluate(run):
    target = f"{NAME}.npz"
    np.savez(
        "submit.npz", EVC_RDMs=np.load(target)["EVC_RDMs"][0], IT_RDMs=np.load(target)["IT_RDMs"][0]
    )
    run("evaluate", "submit.npz", target)
    run("evaluate", "submit.npz", target, "--json")
    _, err = run("evaluate", f"no{NAME}", target, status=1)
    assert "no=_[bold]" in err


def test_layers_and_export(run):
    run("export", f"{NAME}/{NAME}.pth", f"{NAME}-exported.onnx", "--arch", "nasty_net:build")
    _, err = run("layers", f"{NAME}-exported.onnx")
    assert SHOWN in err
    run("layers", f"{NAME}-exported.onnx", "--json")
    _, err = run("layers", f"{NAME}-exported.onnx", "--match", PART, status=1)
    assert "has no tensor that matches" in err and SHOWN[:20] in err


def test_the_other_commands(run, monkeypatch):
    shutil.rmtree(f"sample{NAME}", ignore_errors=True)
    out, err = run("sample", f"sample{NAME}")
    assert out == "" and SHOWN in err
    out, _ = run("sample", f"sample{NAME}", "--json")
    assert json.loads(out)["folder"] == f"sample{NAME}"
    # Tests of packages take seconds; these fail with a nasty name.
    monkeypatch.setattr(diagnosis, "_run", lambda *_, **__: {"error": NAME})
    out, _ = run("doctor", status=1)
    assert SHOWN in out
    run("doctor", "--json", status=1)
    out, _ = run("selftest", status=1)
    assert SHOWN in out
    folder = f"fetched{NAME}"
    nowhere = ("--base-url", f"file:///nowhere{NAME}", "--accept-licence")
    run("fetch", "algonauts2019", folder, *nowhere, status=1)
    run("completion", "bash")
    assert {"doctor", "sample"} <= USED


def test_wrong_usage(home, capsys):
    with pytest.raises(SystemExit):
        main(["table", "s.db", NAME])
    assert printable(NAME) in capsys.readouterr().err


def test_progress_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    with shown() as show:
        show({"event": "plan", "new": 1, "watch": False, "left_out": [{"message": f"left {NAME}"}]})
        show({"event": "ready", "worker": NAME, "host": NAME})
        show({"event": "given", "worker": NAME, "checkpoint": NAME})
        show({"event": "failed", "worker": NAME, "checkpoint": NAME, "error": f"{NAME}: is bad"})
    out = "".join(capsys.readouterr())
    assert "\x1b[31m" not in out and "\u202e" not in out and f"error: {SHOWN}: is bad" in out


def test_every_command_is_tested_here():
    if USED:
        tree = ast.parse(Path(__file__).read_text("utf-8"))
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert set(COMMANDS) <= texts


def test_commands_write_through_one_module():
    """`print` would show names as they are."""
    folder = Path(fastrdm.__file__).parent / "cli"
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                assert "file=kept" in ast.unparse(node), f"{path.name}: {ast.unparse(node)}"
