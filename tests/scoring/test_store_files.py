"""The files of a store: incomplete, removed, read-only, on a full disk, beside a writer."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from store_writer import Writer, rows, scored

from fastrdm.cli import main
from fastrdm.scoring import Store
from fastrdm.scoring.database import _APPLICATION
from fastrdm.scoring.records import StoreError
from fastrdm.scoring.store_schema import MIGRATIONS, statements

# Windows does not remove files that are open, and has neither SIGKILL nor FIFOs.
posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
TESTS = Path(__file__).resolve().parents[1]
BEGIN = (
    "import os, signal, sys; from pathlib import Path; from store_writer import Writer, scored\n"
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.db"


def run(code, *arguments):
    """Run code in another process."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", BEGIN + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def write(path, *numbers):
    writer = Writer(path)
    for i in numbers:
        assert writer.record(scored(i))
    writer.store.close()


def killed(path, n=3):
    """A store as a killed writer leaves it, with its log beside it."""
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder, "scores.db"))
        for i in range(n):
            writer.record(scored(i))
        for file in Path(folder).iterdir():
            shutil.copy(file, path.parent)
        writer.store.close()
    assert log_of(path).stat().st_size > 0


def log_of(path):
    return path.with_name(f"{path.name}-wal")


def error_of(capsys, *arguments):
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


def test_a_file_that_a_stopped_checkpoint_left_too_short_is_read_with_its_log(path, tmp_path):
    """As a full disk leaves it: the header has the new number of pages, and the pages are in the log."""
    killed(path, 20)
    whole = tmp_path / "whole.db"
    shutil.copy(path, whole)
    shutil.copy(log_of(path), log_of(whole))
    Store(whole, write=True).close()
    # A checkpoint writes pages in order.
    path.write_bytes(whole.read_bytes()[:4096] + path.read_bytes()[4096:])
    assert path.stat().st_size < whole.stat().st_size
    assert rows(path) == rows(whole) and len(rows(path)) == 80
    write(path, 20)
    assert len(rows(path)) == 84


def written_by_0_1(path):
    """A store as version 0.1.0 creates it: its schema is in the log first."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("SELECT * FROM sqlite_schema")
    return database


def test_an_empty_file_is_read_from_its_log(path, tmp_path):
    """SQLite itself would delete the log, and begin a new database."""
    first = tmp_path / "first.db"
    with contextlib.closing(written_by_0_1(first)) as database:
        for script in MIGRATIONS[:2]:
            for statement in statements(script):
                database.execute(statement)
        database.execute(f"PRAGMA application_id={_APPLICATION}")
        database.execute("PRAGMA user_version=2")
        database.execute("INSERT INTO labels VALUES ('a.pth', '{\"epoch\": \"1\"}')")
        shutil.copy(log_of(first), log_of(path))
    path.touch()
    with Store(path) as store:
        assert store.label_names() == ["epoch"]
    assert log_of(path).stat().st_size > 0
    write(path, 1)
    assert len(rows(path)) == 4
    with Store(path) as store:
        assert store.label_names() == ["epoch"] and store.check().problems == ()


@pytest.mark.parametrize("content", [None, b"x" * 100])
def test_an_empty_file_whose_log_is_not_whole_is_no_new_store(content, path, capsys):
    killed(path)
    if content is not None:
        log_of(path).write_bytes(content)
    before = log_of(path).read_bytes()
    os.truncate(path, 0)
    for command in ("table", "merge"):
        others = [] if command == "table" else [path.with_name("other.db")]
        Store(path.with_name("other.db"), write=True).close()
        assert "does not hold all of its content" in error_of(capsys, command, path, *others)
    assert path.stat().st_size == 0 and log_of(path).read_bytes() == before


@pytest.mark.parametrize("write", [False, True])
def test_a_log_without_its_file_is_no_new_store(write, path):
    killed(path)
    before = log_of(path).read_bytes()
    path.unlink()
    with pytest.raises(StoreError, match=r"was removed, but not its log scores.db-wal"):
        Store(path, write=write)
    assert not path.exists() and log_of(path).read_bytes() == before


@pytest.mark.parametrize("write", [False, True])
def test_a_file_that_lost_its_content_with_its_log_is_no_new_store(write, path):
    with contextlib.closing(written_by_0_1(path)) as database:
        content = path.read_bytes()
        database.execute("CREATE TABLE other (x)")
    path.write_bytes(content)
    with pytest.raises(
        StoreError, match=r"has no content, because its log scores.db-wal was removed"
    ):
        Store(path, write=write)
    assert path.read_bytes() == content


def test_a_log_that_was_removed_after_a_kill_is_noticed(path, capsys):
    """The schema is in the file itself, so that no new store begins."""
    killed(path)
    log_of(path).unlink()
    message = "scores.db was not closed, and its log scores.db-wal is not beside it"
    with pytest.warns(RuntimeWarning, match=message), Store(path) as store:
        assert store.counts()["failures"] == 0
    assert main(["table", str(path)]) == 0
    out, err = capsys.readouterr()
    assert message in err and err.count("\n") == 2 and err.endswith("0 checkpoints, 0 failed\n")
    assert out.startswith("checkpoint ") and out.count("\n") == 1
    with pytest.warns(RuntimeWarning, match=message):
        write(path, 0)
    assert len(rows(path)) == 4 and main(["table", str(path)]) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_copy_of_an_open_store_without_its_log_is_noticed(path):
    writer = Writer(path)
    writer.record(scored(0))
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    with pytest.warns(RuntimeWarning, match="copy.db was not closed"):
        rows(copy)
    # Not beside the log, nor after the store was closed, also if only its object is gone.
    assert len(rows(path)) == 4
    del writer
    assert not log_of(path).exists() and len(rows(path)) == 4


def test_a_store_that_is_just_being_created_has_no_content_yet(path, capsys):
    path.touch()
    assert "has no content yet: a sweep is creating it" in error_of(capsys, "table", path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as creator:
        creator.execute("BEGIN IMMEDIATE")
        creator.execute("CREATE TABLE runs (x)")
        assert "has no content yet" in error_of(capsys, "table", path)
        creator.execute("ROLLBACK")
    Writer(path).store.close()
    assert rows(path) == []


@posix
def test_a_creation_that_was_interrupted_is_repeated(path):
    code = (
        "from fastrdm.scoring import database\n"
        "database.MIGRATIONS = (*database.MIGRATIONS, 'SELECT stop()')\n"
        "class Stop(database.Database):\n"
        "    def _prepare(self):\n"
        "        self._db.create_function('stop', 0, lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        "        super()._prepare()\n"
        "Stop(Path(sys.argv[1]), write=True)"
    )
    assert run(code, path).returncode == -signal.SIGKILL
    with pytest.raises(StoreError):
        Store(path)
    write(path, 0)
    assert len(rows(path)) == 4


@posix
@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_that_was_removed_while_it_was_written_is_not_created_again(replaced, path):
    writer = Writer(path)
    writer.record(scored(0))
    path.unlink()
    if replaced:
        path.write_text("another file")
    for change in (
        lambda: writer.record(scored(1)),
        lambda: writer.store.end_run(1, "stopped"),
        writer.fail,
    ):
        with pytest.raises(
            StoreError, match=r"scores.db was removed or replaced while it was written to"
        ):
            change()
    writer.store.close()
    assert path.exists() == replaced


@posix
def test_a_log_that_was_removed_while_it_was_written_is_saved(path):
    writer = Writer(path)
    for i in range(3):
        writer.record(scored(i))
    log_of(path).unlink()
    with pytest.raises(
        StoreError, match=r"scores.db-wal was removed .* done was saved; repeat the command"
    ):
        writer.record(scored(3))
    writer.store.close()
    assert len(rows(path)) == 12


@posix
def test_a_log_that_was_replaced_is_not_mixed_with_the_new_one(path):
    writer = Writer(path)
    writer.record(scored(0))
    log_of(path).unlink()
    log_of(path).touch()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"what was reported done last may be lost"):
        writer.record(scored(1))
    assert path.read_bytes() == before


def test_what_is_in_the_log_comes_into_the_file_within_seconds(path, monkeypatch):
    monkeypatch.setattr("fastrdm.scoring.database._CHECKPOINT_S", 0)
    writer = Writer(path)
    writer.record(scored(0))
    alone = path.with_name("alone.db")
    shutil.copy(path, alone)
    with pytest.warns(RuntimeWarning, match="was not closed"):
        assert rows(alone) == rows(path) != []
    writer.store.close()


def test_a_reader_in_the_writers_process_releases_no_lock(path):
    """Else another process could remove the log of the open store."""
    writer = Writer(path)
    writer.record(scored(0))
    assert len(rows(path)) == 4
    run("Writer(Path(sys.argv[1])).store.close()", path)
    assert log_of(path).exists()
    assert writer.record(scored(1)) and len(rows(path)) == 8
    writer.store.close()


def test_opens_beside_a_writer_are_never_refused(path):
    """The writer closes and opens the store again, so that its log comes and goes."""
    Writer(path).store.close()
    code = (
        "import time\n"
        "from fastrdm.scoring import database\n"
        "database._CHECKPOINT_S = 0\n"
        "end, i = time.monotonic() + 2, 0\n"
        "while time.monotonic() < end:\n"
        "    writer = Writer(Path(sys.argv[1]))\n"
        "    for i in range(i, i + 3): writer.record(scored(i))\n"
        "    writer.store.close()"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    opened = 0
    with subprocess.Popen([sys.executable, "-c", BEGIN + code, path], env=environment) as writer:
        while writer.poll() is None:
            with Store(path) as store:
                store.counts()
            opened += 1
    assert writer.returncode == 0 and opened > 20
    assert len(rows(path)) % 4 == 0


@posix
def test_what_is_not_a_file_is_refused(path, capsys):
    os.mkfifo(path)
    assert "scores.db is not a file" in error_of(capsys, "table", path)
    loop = path.with_name("loop.db")
    loop.symlink_to(loop)
    err = error_of(capsys, "table", loop)
    assert "loop.db cannot be opened: " in err and "Errno" not in err
    other = path.with_name("other.db")
    write(other, 0)
    os.mkfifo(f"{other}-wal")
    assert "other.db-wal beside it, which would be its log, is not a file" in error_of(
        capsys, "table", other
    )


@contextlib.contextmanager
def mounted(folder, size):
    """A small file system at a folder."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if (
        shutil.which("mount") is None
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder, mode):
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


def fill(folder):
    with contextlib.suppress(OSError), (folder / "full").open("wb", 0) as file:
        while True:
            file.write(bytes(4096))


def test_a_read_only_mount(tmp_path, capsys):
    folder = tmp_path / "mount"
    path = folder / "scores.db"
    with mounted(folder, "8m"):
        write(path, 0)
        remount(folder, "ro")
        assert len(rows(path)) == 4
        assert main(["merge", str(tmp_path / "into.db"), str(path)]) == 0
        assert len(rows(tmp_path / "into.db")) == 4
        err = error_of(capsys, "merge", path, tmp_path / "into.db")
        assert "scores.db cannot be opened; its folder must exist and be writable" in err
        remount(folder, "rw")
        killed(path)
        remount(folder, "ro")
        assert len(rows(path)) == 12
        remount(folder, "rw")
        path.with_name("scores.db-shm").unlink()
        remount(folder, "ro")
        err = error_of(capsys, "table", path)
        assert "its folder is read-only and scores.db-wal has to be put into it first" in err
        remount(folder, "rw")
        assert len(rows(path)) == 12


def test_a_read_only_folder(tmp_path, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "scores.db"
    write(path, 0)
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    try:
        check_read_only_folder(path, capsys)
    finally:
        folder.chmod(0o755)


def check_read_only_folder(path, capsys):
    assert len(rows(path)) == 4
    assert main(["table", str(path), "--check"]) == 0
    assert "folder must exist and be writable" in error_of(
        capsys, "label", path, "--labels", "(?P<a>.)"
    )


def test_a_store_that_changes_while_it_is_read_without_locks_is_reported(tmp_path):
    folder = tmp_path / "mount"
    path = folder / "scores.db"
    with mounted(folder, "8m"):
        write(path, 0)
        remount(folder, "ro")
        with Store(path) as store:
            assert store.is_unshared and len(list(store.rows())) == 4
            remount(folder, "rw")
            os.utime(path, (1, 1))
            with pytest.raises(StoreError, match="was changed while it was read"):
                store.counts()


def test_a_full_disk(tmp_path):
    """What was reported done is read while the disk is full, and the same command goes on when it is not."""
    folder = tmp_path / "mount"
    path = folder / "scores.db"
    code = (
        "writer = Writer(Path(sys.argv[1]))\n"
        "for i in range(int(sys.argv[2]), 1000):\n"
        "    writer.record(scored(i))\n"
        "    print(i, flush=True)"
    )
    with mounted(folder, "1m"):
        done = 0
        for size in (2, 3):
            out = run(code, path, done)
            assert (
                out.returncode == 1
                and "because the disk is full; all that was reported" in out.stderr
            )
            done += len(out.stdout.split())
            assert len(rows(path)) == 4 * done > 0
            fill(folder)
            assert len(rows(path)) == 4 * done
            (folder / "full").unlink()
            remount(folder, f"size={size}m")
        write(path, done)
        assert len(rows(path)) == 4 * (done + 1)


def test_neither_a_store_nor_a_table_can_be_written_on_a_full_disk(tmp_path, capsys):
    folder = tmp_path / "mount"
    path = folder / "scores.db"
    with mounted(folder, "1m"):
        fill(folder)
        with pytest.raises(StoreError, match="because the disk is full"):
            Store(path, write=True)
        (folder / "full").unlink()
        write(path, 0)
        assert len(rows(path)) == 4
        fill(folder)
        for ending in ("csv", "xlsx"):
            output = folder / f"table.{ending}"
            assert f"error: {output}: No space left" in error_of(
                capsys, "table", path, "--output", output
            )
            assert not output.exists()
