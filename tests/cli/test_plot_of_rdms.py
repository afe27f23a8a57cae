"""`fastrdm plot` of RDMs, comparisons and benchmarks."""

import json

import pytest
from store_writer import Writer, scored

from fastrdm.cli import main


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store with the RDMs of two checkpoints, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTRDM_DATA", raising=False)
    writer = Writer(tmp_path / "scores.db")
    for i in range(2):
        writer.record(scored(i, path=f"<img src=x onerror=alert({i})>.pth"))
    writer.store.close()
    return tmp_path / "scores.db"


@pytest.mark.parametrize("kind", ["rdm", "compare", "mds"])
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_each_kind_is_written(store, capsys, kind, ending):
    output = f"figure.{ending}"
    assert main(["plot", str(store), "--kind", kind, "-o", output, "--title", "$x$"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"wrote {output}\n")
    content = (store.parent / output).read_bytes()
    assert content.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    assert b"<img" not in content


def test_a_store_without_rdms_is_refused_in_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    writer = Writer(tmp_path / "scores.db")
    made = scored(0)
    made.rdms.clear()
    writer.record(made)
    writer.store.close()
    assert main(["plot", "scores.db", "--kind", "rdm", "-o", "rdm.png"]) == 1
    assert "scores.db keeps no RDMs of these results; fastrdm sweep --keep-rdms" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "rdm.png").exists()


@pytest.mark.parametrize("kind", ["stages", "benchmarks"])
def test_files_of_benchmarks_are_drawn(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    entries = [
        {"name": name, "group": "RDM", "stats": {"median": time}, "extra_info": {"stages": {"RDM": time}}}
        for name, time in (("fastrdm", 0.1), ("scipy", 2.0))
    ]  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps({"benchmarks": entries}))
    assert main(["plot", "run.json", "--kind", kind, "-o", "figure.pdf"]) == 0
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
