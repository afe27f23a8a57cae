"""Two processes that train by DistributedDataParallel under Lightning and transformers have the same scores."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import small_training
from small_study import write_study

SCRIPT = Path(__file__).with_name("two_ranks_frameworks.py")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the two processes found."""
    pytest.importorskip("lightning")
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("ranks")
    write_study(folder / "study")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    logs, processes = [folder / f"rank{rank}.log" for rank in range(2)], []
    for rank, log in enumerate(logs):
        with log.open("w") as file:
            command = [sys.executable, str(SCRIPT), str(rank), str(port), str(folder)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            processes.append(subprocess.Popen(command, stdout=file, stderr=file, env=environment))
    try:
        for process in processes:
            process.wait(400)
    finally:
        for process in processes:
            process.kill()
    for process, log in zip(processes, logs, strict=True):
        assert process.returncode == 0, log.read_text()
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    "name",
    [
        "lightning_module",
        "lightning_network",
        "lightning_async",
        "transformers_model",
        "transformers_network",
    ],
)
def test_both_processes_have_the_same_scores_and_train_as_without(found, name):
    first, second = (each[name] for each in found)
    assert first["history"] == second["history"]
    # Each process has half of the images of a step.
    assert [step for step, _ in first["history"]] == list(range(small_training.EPOCHS + 1))
    scores = [scores["brain/study/it/best"] for step, scores in first["history"] if step]
    assert first["best"] == second["best"] == pytest.approx(max(scores))
    assert first["same"] and second["same"]
