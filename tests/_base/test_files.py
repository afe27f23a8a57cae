import errno
from pathlib import Path

import pytest

from fastrdm._base import check_writable_file, check_writable_folder, file_stamp


def test_a_file_that_can_be_written_is_accepted_and_kept(tmp_path):
    (tmp_path / "old.csv").write_text("kept")
    check_writable_file(tmp_path / "old.csv", "--csv")
    check_writable_file(tmp_path / "new.csv", "--csv")
    check_writable_folder(tmp_path / "a" / "b", "--submit")
    check_writable_file("/dev/null", "--csv")
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "kept"


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"--csv: {tmp_path} is a folder, not a file"):
        check_writable_file(tmp_path, "--csv")
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path}/no"):
        check_writable_file(tmp_path / "no" / "x.csv", "--csv")
    with pytest.raises(ValueError, match=f"--submit: {tmp_path}/file is a file, not a folder"):
        check_writable_folder(tmp_path / "file" / "deeper", "--submit")


def test_read_only_folders_are_refused(tmp_path, monkeypatch):
    # Permissions do not stop root.
    def refuse(dir):
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    (tmp_path / "old.csv").touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=r"--csv: .*old\.csv is read-only"):
        check_writable_file(tmp_path / "old.csv", "--csv")
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    match = f"--csv: files cannot be written in {tmp_path}: Permission denied"
    with pytest.raises(PermissionError, match=match):
        check_writable_file(Path(tmp_path / "x.csv"), "--csv")


def test_a_stamp_changes_when_the_file_does(tmp_path):
    path = tmp_path / "file"
    assert file_stamp(path) == (-1, -1)
    path.write_text("abc")
    assert file_stamp(path) == (3, path.stat().st_mtime_ns)
    path.write_text("abcd")
    assert file_stamp(path) == (4, path.stat().st_mtime_ns)
