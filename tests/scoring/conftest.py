"""Fixtures of tests that disturb a sweep."""

import subprocess
import sys

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


@pytest.fixture
def start():
    """A function that starts `fastrdm sweep runs` as a process; what still runs at the end of the test is killed."""
    processes = []

    def begin(*arguments, arch="net.onnx", **options):
        command = [sys.executable, "-m", "fastrdm", "sweep", "runs", "--arch", arch, "--data"]
        command += ["study", "--store", "scores.db", "--events", *arguments]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        # Closes the pipes, and waits for it.
        with process:
            process.kill()
