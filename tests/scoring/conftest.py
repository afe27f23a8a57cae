"""Fixtures of tests that disturb a sweep."""

import pytest
import tiny_sweep


@pytest.fixture(scope="session")
def _tiny_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_sweep.make(folder)
    return folder


@pytest.fixture
def tiny(_tiny_files, tmp_path, monkeypatch):
    """A new current folder with links to the files of a tiny sweep."""
    for path in _tiny_files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
