"""Texts of labels, layers, regions and paths: none shifts or breaks a table, in any format."""

import csv
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from store_writer import Writer, scored, subjects, target

from fastrdm._base import printable
from fastrdm.cli import main
from fastrdm.cli.columns import aligned
from fastrdm.scoring import Store, compile_labels
from fastrdm.scoring.jobs import Failed, Job, Stamp
from fastrdm.scoring.path_labels import RESERVED

NOT_UTF8 = "runs/caf\udce9 epoch1.pth"
ODD = st.text(
    st.sampled_from("ab1 ,;\"'=+-@|\t\n\r\x00\x0b\x1b\x85\u2028\u202e\ufeff[]{}\\é日\udce9"),
    max_size=8,
)


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path / "s.db")
    yield writer
    writer.store.close()


def write(path, name, label, layer, region):
    """A store of one checkpoint with a failure."""
    writer = Writer(path)
    made = scored(1, ("evc",), name, {"set": label})
    number = writer.store.add_target(subjects(region))
    score = made.scores["92", "evc", "rsa"]
    made = replace(made, layers=("fc", layer), scores={("92", region): score})
    writer.store.record(
        made, writer.pipeline, {("92", region): number}, writer.run, writer.environment
    )
    failed = Failed(Job(f"bad {name}", 0), Stamp(1, 1), f"bad {name}: {label}", f"Traceback {name}")
    writer.store.fail(failed, writer.pipeline, writer.run)
    writer.store.close()


@given(name=ODD.filter(bool).filter(lambda t: "\0" not in t), label=ODD, layer=ODD, region=ODD)
@example(name="a\nb", label="x\ty", layer="\x1b[31m", region="=1+1")
@example(name=NOT_UTF8, label="caf\udce9", layer="fc", region="it")
@example(name="a", label="1e999", layer="fc", region="it")
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_text_shifts_or_breaks_a_table(capsys, name, label, layer, region):
    layer, region = (text.replace("\udce9", "é") for text in (layer, region))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s.db")
        write(path, name, label, layer, region)
        with Store(path) as store:
            columns = list(store.columns())
            assert columns[2] == "set" and [row[0] for row in store.rows()] == [name, name]
            assert {row[4] for row in store.rows()} == {"fc", layer}
            assert {row[5] for row in store.rows()} == {region}
            assert store.check().problems == ()
        text(path, capsys)
        for form in ("csv", "json", "parquet", "xlsx"):
            file = Path(folder, f"t.{form}")
            assert main(["table", str(path), "--output", str(file)]) == 0
            found = READERS[form](file)
            assert len(found) == 2 and all(len(row) == len(columns) + 2 for row in found)
            assert [row["r2"] for row in found] == [row["value"] for row in found]
        assert main(["table", str(path), "--failures"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1


def text(path, capsys):
    """A line for each row, in which nothing acts on a terminal."""
    capsys.readouterr()
    assert main(["table", str(path), "--where", "r2 >= 0"]) == 0
    out, err = capsys.readouterr()
    lines = out.removesuffix("\n").split("\n")
    assert all(printable(line) == line for line in (*lines, *err.splitlines()))
    assert len(lines) == 3 and err.splitlines()[-1].startswith("1 checkpoint, 1 failed")


def read_csv(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return [
            row | {"r2": float(row["r2"]), "value": float(row["value"])}
            for row in csv.DictReader(opened)
        ]


def read_parquet(file):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    return pandas.read_parquet(file).to_dict("records")


def read_xlsx(file):
    openpyxl = pytest.importorskip("openpyxl")
    header, *rows = openpyxl.load_workbook(file).active.iter_rows(values_only=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


READERS = {
    "csv": read_csv, "json": lambda file: json.loads(file.read_text("utf-8")), "parquet": read_parquet,
    "xlsx": read_xlsx,
}  # fmt: skip


def test_a_path_that_is_not_utf8_is_a_path_as_any_other(writer, tmp_path, capsys):
    made = scored(1, path=NOT_UTF8, labels={"name": "caf\udce9"})
    assert writer.record(made) and not writer.record(made)
    store = writer.store
    assert writer.state(NOT_UTF8, Stamp(10, 1)) == "done"
    assert writer.state("runs/cafÃ© epoch1.pth", Stamp(10, 1)) == "new"
    writer.fail("caf\udce9 2.pth")
    assert writer.state("caf\udce9 2.pth", Stamp(1, 1)) == "failed"
    assert store.paths() == [NOT_UTF8] and store.failures()[0]["checkpoint"] == "caf\udce9 2.pth"
    store.set_labels({NOT_UTF8: {"seed": 3}})
    with Store(tmp_path / "into.db", write=True) as into:
        assert into.merge(tmp_path / "s.db") == 1
        (row, *_) = into.rows()
        assert row[:4] == (NOT_UTF8, "net:resnet", "caf\udce9", 3) and into.check().problems == ()
    assert main(["label", str(tmp_path / "into.db"), "--labels", r"epoch(?P<epoch>\d)"]) == 0
    assert main(["table", str(tmp_path / "into.db"), "--where", "epoch = 1"]) == 0
    assert r"runs/caf\xe9 epoch1.pth" in capsys.readouterr().out
    # A file that was renamed to a name in UTF-8.
    writer.record(scored(1, path="plain.pth"))
    assert store.paths()[0] == "plain.pth" and [row[0] for row in store.rows()] == ["plain.pth"] * 4


def test_a_study_whose_name_is_not_utf8_has_escapes(writer):
    record = replace(subjects("it"), study="caf\udce9")
    assert record.key == replace(record, study=r"caf\xe9").key
    writer.targets["caf\udce9", "it", "rsa"] = writer.store.add_target(record)
    made = scored(1)
    made.scores["caf\udce9", "it", "rsa"] = target().score(made.rdms["92"].astype(float))
    writer.record(made)
    assert {row[3] for row in writer.store.rows()} == {"92", r"caf\xe9"}
    assert writer.store.check().problems == ()


NAMES = [
    "",
    " ",
    "a ",
    "\ta",
    "a\nb",
    "a\rb",
    "a\x00",
    "\x1b[1m",
    "a\u2028b",
    "\u202eb",
    "a\udce9",
    3,
    None,
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_names_that_a_table_cannot_show_are_refused(name, writer):
    writer.record(scored(1))
    with pytest.raises(ValueError, match="a label cannot be named"):
        writer.store.set_labels({"epoch001.pth": {name: 1}})
    assert writer.store.label_names() == ["epoch"]


@pytest.mark.parametrize("name", sorted(RESERVED | {"rho_0", "rho_14"}))
def test_names_of_columns_are_refused(name, writer):
    writer.record(scored(1))
    with pytest.raises(ValueError, match=f"a label cannot be named '{name}', which is a column"):
        compile_labels(f"(?P<{name}>.)")
    with pytest.raises(ValueError, match="which is a column"):
        writer.store.set_labels({"epoch001.pth": {name: 1}})


def test_numbers_of_thousands_of_digits_sort_as_numbers(writer):
    for i in (1, 2, 3):
        writer.record(scored(i))
    long = "9" * 5000
    values = {"epoch001.pth": f"{long}0", "epoch002.pth": f"a{long}", "epoch003.pth": f"0{long}"}
    writer.store.set_labels({path: {"n": value} for path, value in values.items()})
    found = dict.fromkeys(row[0] for row in writer.store.table(sort="n").rows())
    assert list(found) == ["epoch003.pth", "epoch001.pth", "epoch002.pth"]
    writer.store.set_labels({"epoch002.pth": {"n": "5"}})
    assert writer.store.columns()["n"] is str


def test_wide_and_combining_characters_are_aligned():
    rows = [("a", "b"), ("日本", "x"), ("e\u0301", "y")]
    lines = list(aligned(lambda: rows))
    assert lines == ["a     b", "日本  x", "e\u0301     y"]
