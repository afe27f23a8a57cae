"""Two processes that train by DistributedDataParallel under Lightning and transformers have the same scores."""

import socket
from pathlib import Path

import pytest
import small_training
from small_study import write_study
from two_processes import results_of_ranks

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
    return results_of_ranks(SCRIPT, folder, port, folder, timeout=400)


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
