"""Rows belong to paths, results to contents: copies, overwritten and renamed files, stores of version 1."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from store_writer import PIPELINE, Writer, as_version_1, known, rows, scored

from fastrdm.cli import main
from fastrdm.scoring import Store
from fastrdm.scoring.jobs import Failed, Job, Stamp
from fastrdm.scoring.records import Pipeline


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def writer(here):
    writer = Writer(here / "scores.db")
    yield writer
    writer.store.close()


def contents(path="scores.db", **options):
    """The content of each path, by the numbers of `scored`."""
    with Store(path) as store:
        place = list(store.columns(**options)).index("sha256")
        pairs = [(row[0], int(row[place], 16)) for row in store.rows(**options)]
    return list(dict.fromkeys(pairs))


def add(writer, path, i, *, known_before=False, mtime=0):
    Path(path).touch()
    made = known(i, path, {}) if known_before else scored(i, path=path, labels={})
    made = replace(made, stamp=Stamp(10, mtime or i))
    if known_before:
        writer.store.recognise([made], writer.pipeline)
    else:
        writer.record(made)


def test_copies_are_listed_under_every_name(writer):
    add(writer, "epoch02.pth", 2)
    add(writer, "epoch03.pth", 3)
    for name in ("best.pth", "last.pth"):
        add(writer, name, 3, known_before=True)
    assert contents() == [("best.pth", 3), ("epoch02.pth", 2), ("epoch03.pth", 3), ("last.pth", 3)]
    of_name = {}
    for row in rows("scores.db"):
        of_name.setdefault(row[0], []).append(row[1:])
    assert of_name["best.pth"] == of_name["epoch03.pth"] == of_name["last.pth"]
    assert writer.store.counts()["checkpoints"] == 2 and writer.store.n_listed() == 4


def test_an_overwritten_file_replaces_its_row_and_no_other(writer):
    add(writer, "epoch01.pth", 1)
    add(writer, "last.pth", 1, known_before=True)
    add(writer, "last.pth", 2)
    assert contents() == [("epoch01.pth", 1), ("last.pth", 2)]
    add(writer, "last.pth", 3)
    assert contents() == [("epoch01.pth", 1), ("last.pth", 3)]
    # A content that no path holds stays in the store.
    assert contents(history=True) == [
        ("epoch01.pth", 1), ("last.pth", 1), ("last.pth", 2), ("last.pth", 3),
    ]  # fmt: skip
    with Store("scores.db") as store:
        place = list(store.columns(history=True)).index("held")
        held = {(row[0], row[place]) for row in store.rows(history=True)}
    assert held == {("epoch01.pth", "now"), ("last.pth", "now"), ("last.pth", "before")}
    # A file that gets an earlier content back has its results again.
    add(writer, "last.pth", 2, known_before=True)
    assert contents() == [("epoch01.pth", 1), ("last.pth", 2)]


def test_a_pipeline_has_the_content_that_it_scored_last(writer):
    add(writer, "last.pth", 1)
    first = writer.pipeline
    writer.pipeline = writer.store.add_pipeline(replace(PIPELINE, precision="fp16"))
    add(writer, "last.pth", 2)
    assert contents() == [("last.pth", 2), ("last.pth", 1)] or contents() == [
        ("last.pth", 1), ("last.pth", 2),
    ]  # fmt: skip
    # A sweep's rows are of the weights that each file held last.
    targets = list(writer.targets.values())
    assert list(writer.store.rows(pipelines=[first], targets=targets)) == []
    assert len(list(writer.store.rows(pipelines=[writer.pipeline], targets=targets))) == 4


def test_a_copy_without_a_row_under_a_pipeline_is_new(writer):
    add(writer, "a.pth", 1)
    add(writer, "b.pth", 1, known_before=True)
    writer.pipeline = writer.store.add_pipeline(replace(PIPELINE, precision="fp16"))
    assert writer.state("b.pth", Stamp(10, 1)) == "new"
    add(writer, "a.pth", 1)
    # Its content is known, but it has no row yet.
    assert writer.state("b.pth", Stamp(10, 1)) == "new"
    add(writer, "b.pth", 1, known_before=True)
    assert writer.state("b.pth", Stamp(10, 1)) == "done"


def test_a_renamed_file_takes_its_new_name_and_another_spelling_is_no_copy(writer, here):
    add(writer, "a.pth", 1)
    Path("a.pth").rename("b.pth")
    add(writer, "b.pth", 1, known_before=True)
    assert contents() == [("b.pth", 1)]
    for name in (str(here / "b.pth"), f"../{here.name}/b.pth", "b.pth"):
        add(writer, name, 1, known_before=True)
        assert contents() == [(name, 1)]


def test_a_file_that_changed_and_cannot_be_scored_has_no_row(writer):
    add(writer, "last.pth", 1)

    def fail(stamp):
        writer.store.fail(Failed(Job("last.pth", 0), stamp, "bad"), writer.pipeline, writer.run)

    # The same file, and a file that does not exist now.
    fail(Stamp(10, 1))
    fail(Stamp())
    assert contents() == [("last.pth", 1)]
    fail(Stamp(10, 2))
    assert contents() == [] and contents(history=True) == [("last.pth", 1)]
    add(writer, "last.pth", 1, known_before=True, mtime=3)
    assert contents() == [("last.pth", 1)] and writer.store.failures() == []


def test_rows_are_in_natural_order(writer):
    for i in (10, 2, 1):
        add(writer, f"epoch{i}.pth", i)
    assert [path for path, _ in contents()] == ["epoch1.pth", "epoch2.pth", "epoch10.pth"]


def test_stores_merge_by_path(here):
    for name, numbers in (("a.db", (1, 2)), ("b.db", (3, 4))):
        writer = Writer(here / name)
        add(writer, f"{name}.pth", numbers[0])
        for i in numbers:
            add(writer, "last.pth", i)
        add(writer, "copy.pth", numbers[0], known_before=True)
        writer.store.close()
    for into, others in (("c.db", ("a.db", "b.db")), ("d.db", ("b.db", "a.db", "b.db"))):
        assert main(["merge", into, *others]) == 0
        # Of two contents of a path, the one that was scored last.
        assert contents(into) == [
            ("a.db.pth", 1), ("b.db.pth", 3), ("copy.pth", 3), ("last.pth", 4),
        ]  # fmt: skip
        assert len(contents(into, history=True)) == 8


@pytest.fixture
def old(writer, here):
    """A store of version 1 with a copy, whose name it replaced, and two contents of one path."""
    for i in (1, 2):
        add(writer, f"epoch0{i}.pth", i)
    for i in (3, 4):
        add(writer, "last.pth", i)
    writer.store.set_labels({"epoch01.pth": {"epoch": 1}, "epoch02.pth": {"epoch": 2}})
    as_version_1(here / "scores.db", here / "old.db")
    return here / "old.db"


def test_a_store_of_version_1_is_read_without_writing(old):
    before = hashlib.sha256(old.read_bytes()).hexdigest()
    old.chmod(0o444)
    assert contents(old) == [("epoch01.pth", 1), ("epoch02.pth", 2), ("last.pth", 4)]
    assert rows(old) == rows("scores.db")
    assert rows(old, subjects=True) == rows("scores.db", subjects=True)
    assert contents(old, history=True)[-2:] == [("last.pth", 3), ("last.pth", 4)]
    assert main(["table", str(old)]) == 0
    assert hashlib.sha256(old.read_bytes()).hexdigest() == before


def test_a_store_of_version_1_is_upgraded_when_it_is_written(old):
    expected = rows(old)
    assert main(["merge", "into.db", str(old)]) == 0
    assert rows("into.db") == expected
    with Store(old, write=True) as store:
        assert store.state("epoch01.pth", Stamp(10, 1), 1, [1, 2]) == "done"
    assert rows(old) == expected
    writer = Writer(old)
    add(writer, "copy.pth", 1, known_before=True)
    add(writer, "last.pth", 5)
    writer.store.close()
    assert contents(old) == [
        ("copy.pth", 1), ("epoch01.pth", 1), ("epoch02.pth", 2), ("last.pth", 5),
    ]  # fmt: skip


def test_the_key_of_a_pipeline_does_not_depend_on_the_text_of_its_taps():
    assert replace(PIPELINE, taps="fc").key == PIPELINE.key
    # As version 1 computed it, so that its results are found.
    pipeline = Pipeline("a", "g", "{}", "fp32", "k")
    facts = (
        '{"arch": null, "graph": "g", "kernels": "k", "precision": "fp32", "preprocessing": "{}"'
    )
    text = facts + ', "rdm": "correlation"}'
    assert pipeline.key == hashlib.sha256(text.encode()).hexdigest()
