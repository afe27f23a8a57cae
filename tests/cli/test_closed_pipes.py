"""A command whose reader closes the pipe ends quietly with status 141, whatever it prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import store_writer
from store_writer import Writer, scored

from fastrdm.cli import main
from fastrdm.cli.sample import write_sample

COMMANDS = {
    "score": "score {sample}/network.onnx --data {sample} --quiet",
    "score --json": "score {sample}/network.onnx --data {sample} --json",
    "sweep --events": "sweep {sample}/network.onnx --data {sample} --events --store {tmp}/w.db --engine in-process",
    "sweep --json": "sweep {sample}/network.onnx --data {sample} --json --store {tmp}/w.db --engine in-process",
    "dry run": "sweep {sample}/network.onnx --data {sample} --dry-run --store {tmp}/w.db --engine in-process",
    "table": "table {tmp}/s.db",
    "table --format json": "table {tmp}/s.db --format json",
    "table --format csv": "table {tmp}/s.db --format csv",
    "table --json": "table {tmp}/s.db --json",
    "table --failures": "table {tmp}/s.db --failures",
    "table --check": "table {tmp}/s.db --check",
    "merge": "merge {tmp}/into.db {tmp}/s.db",
    "label": "label {tmp}/s.db --labels epoch(?P<number>[0-9]+)",
    "check": "check {sample} --output {tmp}/page.html",
    "check --json": "check {sample} --json --output {tmp}/page.html",
    "evaluate": "evaluate {tmp}/submit.npz {tmp}/target.npz",
    "evaluate --json": "evaluate {tmp}/submit.npz {tmp}/target.npz --json",
    "layers": "layers {sample}/network.onnx",
    "layers --json": "layers {sample}/network.onnx --json",
    "sample": "sample {tmp}/again --json",
    "doctor": "doctor",
    "completion": "completion bash",
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("sample") / "study", n_conditions=12)


@pytest.fixture
def store(tmp_path):
    import numpy as np

    writer = Writer(tmp_path / "s.db")
    writer.record(scored(1))
    writer.fail()
    writer.store.close()
    rng = np.random.default_rng(0)
    rdms = rng.random((4, 12, 12)) + rng.random((12, 12))
    rdms = (rdms + np.swapaxes(rdms, -1, -2)) * (1 - np.eye(12))
    np.savez(tmp_path / "target.npz", EVC_RDMs=rdms, IT_RDMs=rdms)
    np.savez(tmp_path / "submit.npz", EVC_RDMs=rdms[0], IT_RDMs=rdms[1])


@pytest.fixture
def closed_pipe():
    """A text stream that writes into a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    yield stream
    stream.close()


@pytest.mark.skipif(sys.platform == "win32", reason="the pipes of Windows have another error")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_standard_output_that_is_closed(
    command, sample, store, tmp_path, monkeypatch, capsys, closed_pipe
):
    arguments = [each.format(sample=sample, tmp=tmp_path) for each in command.split()]
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    assert main(arguments) == 141
    err = capsys.readouterr().err
    assert "error" not in err and "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="the pipes of Windows have another error")
def test_standard_error_that_is_closed(sample, tmp_path, monkeypatch, closed_pipe):
    monkeypatch.setattr(sys, "stderr", closed_pipe)
    assert main(["table", str(tmp_path / "missing.db")]) == 141


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["--version"]], ids=str)
def test_a_process_whose_output_is_cut(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        command = [sys.executable, "-m", "fastrdm", *arguments]
        ended = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 141 and ended.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("n", [1, 100])
def test_a_full_disk_behind_standard_output_is_one_error(n, tmp_path):
    """Whether the output is written at the end or fills the stream's buffer before."""
    writer = store_writer.Writer(tmp_path / "scores.db")
    for i in range(n):
        writer.record(store_writer.scored(i))
    writer.store.close()
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "fastrdm", "table", str(tmp_path / "scores.db")]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    errors = [line for line in ended.stderr.splitlines() if "error" in line]
    assert errors == ["fastrdm: error: standard output: No space left on device"]


@pytest.mark.skipif(sys.platform == "win32", reason="closes streams as a shell does")
def test_a_process_without_streams_works_as_with_them(sample, tmp_path):
    from fastrdm.scoring import Store

    sweep = (
        f"sweep {sample}/network.onnx --data {sample} --store {tmp_path}/w.db --engine in-process"
    )
    for command in (sweep, f"table {tmp_path}/w.db --format csv"):
        closing = f"{sys.executable} -m fastrdm {command} <&- >&- 2>&-"
        assert subprocess.run(["bash", "-c", closing], check=False).returncode == 0
    with Store(tmp_path / "w.db") as store:
        assert store.counts()["checkpoints"] == 1 and not store.check().problems


def test_a_store_keeps_what_was_scored_before_the_pipe_closed(sample, tmp_path):
    from fastrdm.scoring import Store

    command = f"{sys.executable} -m fastrdm sweep {sample}/network.onnx --data {sample} --events"
    command += f" --store {tmp_path}/w.db --engine in-process | grep -m1 scored"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    # The sweep may end before grep closes the pipe.
    assert ended.returncode in (0, 141) and ended.stderr == ""
    with Store(tmp_path / "w.db") as store:
        assert store.counts()["checkpoints"] == 1
