import subprocess
import sys

import pytest
import torch

from fastrdm._base import MissingExtraError
from models.training.run import TrainingRun

CONFIG = {"recipe": {"lr": 0.1, "epochs": 3}, "data": {"n": 5}, "surroundings": {"torch": "2"}}
STATE = {"network": {"weight": torch.arange(1000.0)}, "epoch": 3, "history": [{"lr": 0.1}]}


@pytest.fixture
def run(tmp_path):
    return TrainingRun(tmp_path / "run")


def test_a_state_is_read_as_written(run):
    assert run.load() is None
    run.save(STATE)
    state = run.load()
    assert torch.equal(state["network"]["weight"], STATE["network"]["weight"])
    assert (state["epoch"], state["history"]) == (3, [{"lr": 0.1}])


def cut(content):
    return content[: len(content) // 2]


def change(content):
    middle = content.index(torch.arange(500.0, 510).numpy().tobytes())
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, change, lambda content: b"", lambda content: b"text"])
def test_a_damaged_state_is_refused(run, damage):
    run.save(STATE)
    path = run.folder / "state.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"state\.pt is truncated or damaged \(.*; restore a copy"):
        run.load()


def test_a_state_that_would_run_code_is_refused(run):
    torch.save({"network": print}, run.folder / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt is truncated or damaged"):
        run.load()


def test_a_write_error_keeps_the_old_file(run, monkeypatch):
    run.save(STATE)
    before = (run.folder / "state.pt").read_bytes()

    def failing(content, file):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="no space left"):
        run.save({"epoch": 4})
    assert [path.name for path in run.folder.iterdir()] == ["state.pt"]
    assert (run.folder / "state.pt").read_bytes() == before


def test_the_recipe_must_agree_except_for_changeable_fields(run):
    assert run.agree(CONFIG, ["epochs"]) == CONFIG
    more = {**CONFIG, "recipe": {"lr": 0.1, "epochs": 5}, "surroundings": {"torch": "3"}}
    assert run.agree(more, ["epochs"])["surroundings"] == {"torch": "2"}
    with pytest.raises(ValueError, match=r"another recipe: epochs was 5 and is 3; use the"):
        run.agree(CONFIG, [])
    with pytest.raises(ValueError, match=r"n was 5 and is 6;"):
        run.agree({**more, "data": {"n": 6}}, ["epochs"])
    (run.folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        run.agree(CONFIG, [])


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="is not empty and is not a training run"):
        TrainingRun(tmp_path)
    with pytest.raises(ValueError, match="is a file, not a folder"):
        TrainingRun(tmp_path / "thesis.tex")


def test_one_process_at_a_time(run):
    pytest.importorskip("fcntl")
    part = run.folder / "state.pt.0123.part"
    part.write_bytes(b"")
    other = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", other, str(run.folder / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        with pytest.raises(ValueError, match="another process is training in"), run.locked():
            pass
        assert part.exists()
        process.stdin.close()
    with run.locked():
        assert not part.exists()


def test_checkpoints_are_plain_and_listed_by_epoch(run):
    network = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    assert run.written() == {}
    for epoch in (10, 5, 1):
        run.write_checkpoint(epoch, network)
    assert list(run.written()) == [1, 5, 10]
    state = torch.load(run.written()[5], weights_only=True)
    assert state["weight"].is_contiguous()
    assert torch.equal(state["weight"], network.weight)


def test_missing_tensorboard_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with (
        pytest.raises(MissingExtraError, match=r"tensorboard is needed.*fastrdm\[train\]"),
        run.tensorboard([]),
    ):
        pass
