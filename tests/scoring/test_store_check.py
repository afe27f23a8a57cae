"""A store checks what it holds, and rows that other programs changed end in one sentence."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from store_writer import PIPELINE, Writer, as_version_1, rows, scored

from fastrdm.cli import main
from fastrdm.scoring import Store
from fastrdm.scoring.records import LayerRow, checksum_of


def write(path, *numbers):
    writer = Writer(path)
    for i in numbers:
        writer.record(scored(i, labels={"epoch": str(i), "name": f"a {i}"}))
    writer.fail()
    writer.store.end_run(writer.run, "finished")
    writer.store.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of three checkpoints."""
    path = tmp_path_factory.mktemp("whole") / "s.db"
    write(path, 0, 1, 2)
    return path


@pytest.fixture
def path(tmp_path, whole):
    path = tmp_path / "s.db"
    shutil.copy(whole, path)
    return path


def edit(path, *changes):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for change in changes:
            database.executescript(change)


def check(path, capsys):
    """Exit status, and the lines of both streams."""
    capsys.readouterr()
    status = main(["table", str(path), "--check"])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def test_a_whole_store(path, capsys):
    status, out, err = check(path, capsys)
    assert (status, err) == (0, [])
    assert out == ["nothing is wrong with 12 results of 3 checkpoints"]
    with Store(path) as store:
        found = store.check()
    assert found.problems == () and found.n_checkpoints == 3
    assert (found.n_results, found.n_without_checksum) == (12, 0)


DAMAGE = {
    "a number": "UPDATE results SET r2 = r2 + 1e-12 WHERE checkpoint = 2 AND target = 1 AND position = 0",
    "a similarity": "UPDATE results SET rho = zeroblob(32) WHERE checkpoint = 2 AND target = 1 AND position = 0",
    "a layer": "UPDATE results SET layer = 'other' WHERE checkpoint = 2 AND target = 1 AND position = 0",
    "order": "UPDATE results SET position = 7 WHERE checkpoint = 2 AND target = 1 AND position = 0",
    "a lost layer": "DELETE FROM results WHERE checkpoint = 2 AND target = 1 AND position = 0",
    "a number that is NaN": "UPDATE results SET p = NULL WHERE checkpoint = 2 AND target = 1 AND position = 0",
    "a checksum": f"UPDATE scored SET checksum = '{'0' * 64}' WHERE checkpoint = 2 AND target = 1",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_results_that_were_changed_differ_from_their_checksum(name, path, capsys):
    edit(path, DAMAGE[name])
    status, out, err = check(path, capsys)
    assert status == 1 and err == [f"fastrdm: error: {path} is damaged: 1 problem"]
    assert out == [
        "results of epoch001.pth against evc of 92 are not what was written: their checksum differs"
    ]


def test_results_of_other_weights_differ_from_their_checksum(path, capsys):
    edit(path, f"UPDATE checkpoints SET sha256 = '{'a' * 64}' WHERE id = 1")
    status, out, _ = check(path, capsys)
    assert status == 1 and len(out) == 2 and all("checksum differs" in line for line in out)


PROBLEMS = {
    "UPDATE results SET r2 = 'NaN'": "12 values of r2 are not REAL, such as 'NaN'",
    "UPDATE results SET std = -1.0": "12 values of std are negative",
    "UPDATE results SET p = 1.5": "12 values of p are not between 0 and 1",
    "UPDATE results SET layer = x'ff'": "12 values of layer are not TEXT",
    "UPDATE results SET rho = 'x'": "12 values of rho are not BLOB",
    "UPDATE results SET rho = x'00'": "12 values of rho are not the numbers of subjects",
    "UPDATE results SET rho = zeroblob(16)": "checksum differs",
    "UPDATE targets SET n_subjects = -4": "2 values of n_subjects are not positive, such as -4",
    "UPDATE targets SET ceiling = 0.5 WHERE id = 1": "targets: row 1 is not what its key identifies",
    "UPDATE targets SET synthetic = 3": "synthetic are not a known state",
    "UPDATE targets SET protocol = '[]'": "protocol are not a JSON object",
    "UPDATE methods SET graph = 'x'": "methods: row 1 is not what its key identifies",
    "UPDATE environments SET facts = '{}'": "environments: row 1 is not what its key identifies",
    "UPDATE checkpoints SET taken = '{' WHERE id = 1": "1 value of taken is not a JSON object, such as '{'",
    "UPDATE entries SET is_current = 2": "3 values of is_current are not a known state",
    "UPDATE runs SET outcome = 'odd'": "1 value of outcome is not a known state, such as 'odd'",
    "UPDATE failures SET attempts = -1": "1 value of attempts is not positive, such as -1",
    "UPDATE scored SET seconds = 'soon'": "6 values of seconds are not REAL",
    "UPDATE files SET size = 'big'": "3 values of size are not INTEGER",
    "UPDATE files SET sha256 = 'abc'": "3 values of sha256 are not a SHA-256",
    "UPDATE labels SET labels = 'x'": "3 values of labels are not a JSON object",
    "UPDATE labels SET labels = '{\"a\": 1}'": "labels that are not text: 3",
    "UPDATE rdms SET content = x'00'": "the RDM of conv of epoch000.pth is damaged",
    "UPDATE rdms SET stimuli = 'x'": "RDMs of stimuli that no target has: 6",
    "DELETE FROM targets WHERE id = 1": "results: 6 rows without the row of targets that they refer to",
    "DELETE FROM checkpoints WHERE id = 1": "entries: 1 row without the row of checkpoints that it refers to",
    "DELETE FROM runs": "failures: 1 row without the row of runs that it refers to",
    "DELETE FROM scored": "results without the row of scored that completes them: 12",
    "DELETE FROM results": "rows of scored without results: 6",
    "DELETE FROM entries": "checkpoints without the path of any file: 3",
    "UPDATE entries SET path = 'a'": "paths with several current contents: 1",
    "UPDATE entries SET path = CAST(x'ff' AS TEXT) WHERE checkpoint = 1": "a text in the column path is not UTF-8",
    "CREATE TRIGGER t AFTER INSERT ON scored BEGIN DELETE FROM results; END": "is damaged: it has a trigger, t,",
    "PRAGMA user_version = 0": "is damaged: its schema has version 0",
    "ALTER TABLE runs RENAME TO r; CREATE VIEW runs AS SELECT * FROM r": "is damaged: it has no table runs",
    "DROP TABLE results": "is damaged: it has no table results",
    "ALTER TABLE results DROP COLUMN rho": "is damaged: it has no table results (rho)",
}  # fmt: skip


@pytest.mark.parametrize("change", PROBLEMS)
def test_every_kind_of_damage_is_listed(change, path, capsys):
    edit(path, change)
    status, out, err = check(path, capsys)
    assert status == 1 and len(err) == 1 and "is damaged" in err[0]
    assert any(PROBLEMS[change] in line for line in out + err), out


def test_pages_that_sqlite_cannot_read_are_listed(path, capsys):
    content = bytearray(path.read_bytes())
    page = len(content) // 4096 - 3
    content[4096 * page : 4096 * (page + 1)] = b"\x5a" * 4096
    path.write_bytes(content)
    status, out, _ = check(path, capsys)
    assert status == 1 and any("SQLite finds damage" in line or "malformed" in line for line in out)


def test_many_problems_of_a_kind_are_counted(tmp_path, capsys):
    write(tmp_path / "s.db", *range(15))
    edit(tmp_path / "s.db", "UPDATE results SET r2 = 0.5")
    status, out, _ = check(tmp_path / "s.db", capsys)
    assert status == 1 and out[-1] == "10 more results that are not what was written"


@pytest.mark.parametrize("version", [1, 2])
def test_results_of_older_versions_have_no_checksum(version, path, tmp_path, capsys):
    old = tmp_path / "old.db"
    as_version(version, path, old)
    before = rows(path)
    for _ in range(2):
        assert rows(old) == before
        status, out, err = check(old, capsys)
        assert (status, err) == (0, []), out
        assert out[-1].startswith("12 results without a checksum, from an older version")
        # The upgrade does not give them one.
        write(old)
    write(old, 3)
    assert check(old, capsys)[1][-1].startswith("12 results without a checksum")


def as_version(version, source, path):
    if version == 1:
        as_version_1(source, path)
        return
    path.write_bytes(source.read_bytes())
    edit(path, *WITHOUT_MEASURES, "PRAGMA user_version=3")
    if version == 2:
        edit(
            path,
            "ALTER TABLE scored DROP COLUMN checksum",
            "DROP TABLE writers",
            "PRAGMA user_version=2",
        )


WITHOUT_MEASURES = (
    "ALTER TABLE targets DROP COLUMN measure",
    "ALTER TABLE results DROP COLUMN time",
    "DROP TABLE grams",
)


def test_a_store_without_measures_is_read_upgraded_and_continued(path, tmp_path, capsys):
    """Version 3 had one measure; its results keep their keys and checksums."""
    old = tmp_path / "old.db"
    as_version(3, path, old)
    before = rows(path)
    with Store(old) as store:
        place = list(store.columns()).index("measure")
    assert rows(old) == before and {row[place] for row in before} == {"rsa"}
    assert check(old, capsys)[:2] == check(path, capsys)[:2]
    with closing(sqlite3.connect(old)) as database:
        keys = database.execute("SELECT id, key FROM targets").fetchall()
    writer = Writer(old)
    assert writer.store.is_old and list(writer.targets.values()) == [number for number, _ in keys]
    assert not writer.record(scored(0))
    writer.store.close()
    assert rows(old) == before
    assert check(old, capsys)[:2] == check(path, capsys)[:2]


def test_a_store_without_measures_is_merged(path, tmp_path):
    old, into = tmp_path / "old.db", tmp_path / "into.db"
    as_version(3, path, old)
    content = old.read_bytes()
    with Store(into, write=True) as store:
        assert store.merge(old) == 3
    assert rows(into) == rows(path) and old.read_bytes() == content


def test_checksums_travel_with_results(path, tmp_path, capsys):
    """A merge numbers rows anew."""
    into = tmp_path / "into.db"
    writer = Writer(into, ("it", "evc"))
    writer.store.add_pipeline(replace(PIPELINE, graph="other"))
    writer.record(scored(7))
    writer.store.close()
    assert main(["merge", str(into), str(path)]) == 0
    status, out, _ = check(into, capsys)
    assert status == 0 and out == ["nothing is wrong with 16 results of 4 checkpoints"]


@given(st.lists(st.tuples(st.text(max_size=5), st.lists(st.floats(), min_size=6, max_size=6))))
@settings(max_examples=50, deadline=None)
def test_a_checksum_is_that_of_what_is_read_back(layers):
    """SQLite has neither NaN nor negative zero."""
    written = [LayerRow(i, f"l{i}", numbers, b"x" * i) for i, (_, numbers) in enumerate(layers)]
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE t (a REAL, b REAL, c REAL, d REAL, e REAL, f REAL)")
        database.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", [row.numbers for row in written]
        )
        read = [
            row._replace(numbers=[np.nan if n is None else n for n in numbers])
            for row, numbers in zip(written, database.execute("SELECT * FROM t"), strict=True)
        ]
    assert checksum_of("a", "b", "c", read) == checksum_of("a", "b", "c", written)


def test_a_checksum_depends_on_everything():
    row = LayerRow(0, "fc", [1.0, 2.0], b"rho")
    others = [
        checksum_of("b", "b", "c", [row]),
        checksum_of("a", "c", "c", [row]),
        checksum_of("a", "b", "b", [row]),
        checksum_of("a", "b", "c", []),
        checksum_of("a", "b", "c", [row, row]),
        checksum_of("a", "b", "c", [row._replace(position=1)]),
        checksum_of("a", "b", "c", [row._replace(layer="fcr", rho=b"ho")]),
        checksum_of("a", "b", "c", [row._replace(numbers=[1.0, 2.5])]),
    ]
    assert len({checksum_of("a", "b", "c", [row]), *others}) == 1 + len(others)


@pytest.mark.parametrize("option", ["--best", "--failures", "--format=csv", "--no-sign-flips"])
def test_a_check_is_of_the_whole_store(option, path, capsys):
    assert main(["table", str(path), "--check", option]) == 1
    assert f"leave out {option.partition('=')[0]}" in capsys.readouterr().err


TABLES = {
    "runs": ("id", "uuid", "started", "ended", "outcome", "host", "pid", "settings"),
    "environments": ("id", "key", "facts"),
    "methods": ("id", "key", "arch", "graph", "preprocessing", "precision", "kernels", "taps"),
    "targets": ("id", "key", "study", "region", "stimuli", "protocol", "ceiling", "n_subjects", "measure"),
    "checkpoints": ("id", "sha256", "method", "path", "labels", "taken"),
    "scored": ("checkpoint", "target", "run", "environment", "at", "seconds", "warnings", "checksum"),
    "results": ("checkpoint", "target", "position", "layer", "r2", "std", "p", "value", "rho", "time"),
    "rdms": ("checkpoint", "stimuli", "position", "layer", "content"),
    "grams": ("checkpoint", "stimuli", "position", "layer", "facts", "content"),
    "files": ("path", "size", "mtime_ns", "sha256"),
    "failures": ("path", "method", "at", "attempts", "error", "traceback"),
    "entries": ("path", "method", "checkpoint", "at", "is_current"),
    "labels": ("path", "labels"),
}  # fmt: skip
VALUES = (
    "'NaN'",
    "'text'",
    "''",
    "-3",
    "0",
    "7",
    "1e999",
    "-1.5",
    "x'ff00'",
    "x''",
    "zeroblob(24)",
    "'{'",
    "'[1]'",
)
VALUES += (
    "'{\"epoch\": 3}'",
    "9223372036854775807",
    "NULL",
    "CAST(x'ff' AS TEXT)",
    "char(10, 27, 0)",
)
CHANGES = st.one_of(
    st.sampled_from(
        [(f"UPDATE {table} SET {column} = ", where) for table, names in TABLES.items() for column in names
         for where in ("", " WHERE rowid % 2", " WHERE checkpoint = 2")]
    ).flatmap(lambda pair: st.sampled_from([pair[0] + value + pair[1] for value in VALUES])),
    st.sampled_from([f"DELETE FROM {table}" for table in TABLES]),
    st.sampled_from([f"DROP TABLE {table}" for table in TABLES]),
    st.sampled_from([f"ALTER TABLE {table} RENAME COLUMN {names[-1]} TO x" for table, names in TABLES.items()]),
)  # fmt: skip


def one_sentence(use):
    try:
        return use()
    except ValueError as error:
        assert "\n" not in str(error) and "s.db" in str(error)
        return None


@given(st.lists(CHANGES, min_size=1, max_size=2))
@example(["UPDATE targets SET ceiling = 0"])
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_edited_stores_end_in_one_sentence(whole, capsys, changes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s.db")
        shutil.copy(whole, path)
        for change in changes:
            try:
                edit(path, change)
            # Some changes are refused by the schema.
            except sqlite3.Error:
                continue
        for arguments in (
            [],
            ["--best"],
            ["--subjects", "--sort", "layer"],
            ["--failures"],
            ["--history"],
        ):
            capsys.readouterr()
            status = main(["table", str(path), *arguments])
            out, err = capsys.readouterr()
            lines = [line for line in err.splitlines() if "warning: divide by zero" not in line]
            if not status:
                # Remarks on the rows, which are on standard output.
                lines = [line for line in lines if line.startswith("fastrdm: ")]
            assert status in (0, 1) and "unexpected" not in err
            assert (len(lines), out if status else "") == (status, ""), err
        assert main(["table", str(path), "--check"]) in (0, 1)
        assert "unexpected" not in capsys.readouterr().err
        into = Path(folder, "into.db")
        one_sentence(lambda: merge(into, path))
        one_sentence(lambda: write(path, 1, 5))
        one_sentence(lambda: use_all(path))


def merge(into, path):
    with Store(into, write=True) as store:
        store.merge(path)


def use_all(path):
    with Store(path, write=True) as store:
        one_sentence(store.environments)
        one_sentence(store.runs)
        one_sentence(store.label_names)
        one_sentence(lambda: store.known(1, [1, 2]))
        one_sentence(lambda: store.rdms(f"{1:064x}"))
        one_sentence(lambda: store.frame())
        one_sentence(lambda: store.set_labels({"epoch001.pth": {"x": 1}}))
