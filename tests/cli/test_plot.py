"""`fastrdm plot`: figures of a store."""

import json

import pytest
from store_writer import Writer, scored

from fastrdm.cli import main

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


@pytest.fixture
def store(tmp_path, monkeypatch):
    writer = Writer(tmp_path / "scores.db")
    for i in (1, 5, 10):
        writer.record(scored(i, path=f"runs/epoch{i:02d}.pth"))
    writer.store.close()
    monkeypatch.chdir(tmp_path)
    # Not the real data.
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("FASTRDM_DATA", str(tmp_path / "empty"))
    return tmp_path / "scores.db"


def plot(*arguments):
    return main(["plot", "scores.db", *arguments])


@pytest.mark.parametrize(
    "kind", ["rdm", "layers", "epochs", "figure4", "figure5", "compare", "mds"]
)
def test_kinds_are_drawn(store, kind, capsys):
    assert plot("--kind", kind, "-o", "a.svg", "--json", "--title", "a title") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"kind": kind, "path": "a.svg"}
    assert "wrote a.svg" in err
    assert "a title" in (store.parent / "a.svg").read_text()


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_formats(store, ending):
    assert plot("--kind", "layers", "-o", f"a.{ending}") == 0
    assert (store.parent / f"a.{ending}").stat().st_size > 5000


def test_filters_choose_what_is_drawn(store):
    chosen = ["--regions", "it", "--layers", "f*", "--where", "epoch > 1"]
    assert plot("--kind", "layers", "-o", "a.svg", *chosen, "--checkpoint", "epoch0*.pth") == 1
    assert plot("--kind", "layers", "-o", "a.svg", *chosen, "--checkpoint", "*epoch0*.pth") == 0
    text = (store.parent / "a.svg").read_text()
    assert "92, IT" in text and "EVC" not in text and "conv" not in text
    assert plot("--kind", "layers", "-o", "b.svg", "--checkpoint", "epoch05.pth") == 0
    assert "epoch" not in (store.parent / "b.svg").read_text().split("</metadata>")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kind", "time", "-o", "a.png"], "no time points, which a figure of time draws; score with --over-time"),
        (["--kind", "measures", "-o", "a.png"], "by rsa; a figure of measures needs two"),
        (["--kind", "epochs", "-o", "a.png", "--epoch-label", "step"], "no label 'step'; its labels are epoch"),
        (["--kind", "layers", "-o", "a.doc"], "--output: a.doc must end in one of"),
        (["--kind", "layers", "-o", "a.png", "--checkpoint", "x"], "no checkpoint matches 'x'; the nearest"),
        (["--kind", "layers", "-o", "a.png", "--where", "epoch > 99"], "has no results to draw, or none that"),
        (["--kind", "layers", "-o", "a.png", "--regions", "v4"], "no region 'v4'"),
        (["--kind", "layers", "-o", "new/a.png"], "--output: new/a.png: there is no folder new"),
        (["--kind", "benchmarks", "-o", "a.png"], "scores.db"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(store, arguments, words, capsys):
    assert plot(*arguments) == 1
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err
    assert not [*store.parent.glob("a.*")]


def test_a_store_without_kept_rdms_names_the_option(tmp_path, monkeypatch, capsys):
    writer = Writer(tmp_path / "scores.db")
    made = scored(1)
    writer.record(type(made)(**{**vars(made), "rdms": {}}))
    writer.store.close()
    monkeypatch.chdir(tmp_path)
    for kind in ("rdm", "mds"):
        assert plot("--kind", kind, "-o", "a.png") == 1
        assert "--keep-rdms" in capsys.readouterr().err


def test_an_empty_store_has_nothing_to_draw(tmp_path, monkeypatch, capsys):
    Writer(tmp_path / "scores.db").store.close()
    monkeypatch.chdir(tmp_path)
    assert plot("--kind", "layers", "-o", "a.png") == 1
    assert "scores.db has no results to draw" in capsys.readouterr().err


def test_bounds_of_the_ceiling_come_from_the_data(tmp_path, monkeypatch, capsys):
    import small_sweep

    small_sweep.make(tmp_path, n=1)
    monkeypatch.chdir(tmp_path)
    arguments = ["runs", "--arch", "net.onnx", "--data", "study", "--store", "scores.db"]
    assert main(["sweep", *arguments, "--engine", "in-process", "--keep-rdms"]) == 0
    assert plot("--kind", "layers", "-o", "a.svg", "--data", "study") == 0
    with_band = (tmp_path / "a.svg").read_text()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("FASTRDM_DATA", str(tmp_path / "empty"))
    capsys.readouterr()
    assert plot("--kind", "layers", "-o", "b.svg") == 0
    assert "warning: drawn without brain data" in capsys.readouterr().err
    assert "#dbdbdb" in with_band and "#dbdbdb" not in (tmp_path / "b.svg").read_text()
    assert plot("--kind", "rdm", "-o", "c.svg", "--data", "study") == 0
    assert "mean of 3" in (tmp_path / "c.svg").read_text()
