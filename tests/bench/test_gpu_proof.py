"""bench.gpu_proof on the CPU: its limits, its files and its yardsticks; the whole rehearsal with `pytest -m slow`."""

import contextlib
import json
import math
import sys
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

import fastrdm
from bench import gpu_proof
from bench.gpu_proof import SECTIONS, Section, prove
from bench.proof import limits, rates, training
from bench.proof.busy import busy_seconds, covered
from bench.proof.exact import exact, largest_difference
from bench.proof.goals import goals
from bench.proof.limits import OutOfTime, time_limit
from bench.proof.networks import hooked, network, states
from bench.proof.record import Record, table
from bench.proof.resnet20_graph import write_graph
from bench.proof.setting import Setting, pictures, studies_in
from fastrdm.networks import Graph
from fastrdm.runtimes import DeviceModel

CPU = torch.device("cpu")


@pytest.fixture
def setting(tmp_path):
    return Setting(CPU, tmp_path / "out", tmp_path, ())


@pytest.fixture(scope="module")
def small():
    """A ResNet-20 for small images, and some of them."""
    pixels = pictures(6, 32)
    return network("resnet20", pixels, CPU), pixels


def test_a_section_ends_at_its_limit_and_the_next_one_runs(setting):
    def endless(within):
        yield {"n": 1}
        assert 0 < within.left() < 0.6
        while True:
            time.sleep(0.01)

    def swallowing(within):
        try:
            time.sleep(60)
        except Exception:
            yield {"n": 2}

    sections = {
        "a": Section(endless, 0.2, "Endless"),
        "b": Section(swallowing, 0.1, "Swallowing"),
        "c": Section(lambda within: iter([{"n": 3}]), 60, "Short"),
    }
    assert prove(setting, list(sections), sections, time.monotonic() + 60) == 0
    found = json.loads((setting.out / "proof.json").read_text())
    assert [found[name]["rows"] for name in "abc"] == [
        [{"n": 1}, {"stopped": "at the limit of 0.6 s"}],
        [{"stopped": "at the limit of 0.3 s"}],
        [{"n": 3}],
    ]


def test_all_sections_end_at_the_common_limit(setting):
    sections = {"a": Section(lambda within: iter([{"n": 1}]), 60, "A")}
    prove(setting, ["a"], sections, time.monotonic() - 1)
    rows = json.loads((setting.out / "proof.json").read_text())["a"]["rows"]
    assert rows == [{"stopped": "at the limit of 0 s"}]


def test_after_a_limit_no_alarm_is_left():
    with pytest.raises(OutOfTime), time_limit(0.01):
        time.sleep(60)
    with time_limit(0.01):
        pass
    time.sleep(0.05)


def test_a_limit_that_is_caught_is_raised_again(monkeypatch):
    monkeypatch.setattr(limits, "_AGAIN_S", 0.1)
    with pytest.raises(OutOfTime), time_limit(0.01):
        with contextlib.suppress(OutOfTime):
            time.sleep(60)
        time.sleep(60)


def test_an_error_is_recorded_and_the_next_section_runs(setting, capsys):
    def failing(within):
        yield {"n": 1}
        raise RuntimeError("no\nmemory")

    sections = {
        "a": Section(failing, 60, "Failing"),
        "b": Section(lambda within: iter([{"n": 2}]), 60, "B"),
    }
    assert prove(setting, ["a", "b"], sections, time.monotonic() + 60) == 1
    text = (setting.out / "proof.md").read_text()
    assert "RuntimeError: no memory" in text and text.index("Failing") < text.index("## B")
    assert "RuntimeError" in capsys.readouterr().err


def test_rows_are_written_one_by_one_as_json_and_markdown(tmp_path):
    record = Record(tmp_path, "Title")
    record.begin("a", "Heading", "Text.")
    record.add("a", {"x": 0.12345, "y": math.nan, "shape": "a|b"})
    record.add("a", {"x": 12345.6, "z": True})
    (first, second) = json.loads((tmp_path / "proof.json").read_text())["a"]["rows"]
    assert first == {"x": 0.12345, "y": None, "shape": "a|b"} and second == {
        "x": 12345.6,
        "z": True,
    }
    lines = (tmp_path / "proof.md").read_text().splitlines()
    assert "| x | y | shape | z |" in lines and "| 0.123 | nan | a\\|b | – |" in lines
    assert "| 12346 | – | – | True |" in lines
    assert table([]) == ""


def test_busy_time_is_the_union_of_intervals():
    assert covered([]) == 0
    assert covered([(5, 7), (0, 2), (1, 3), (1, 2)]) == 5
    x = torch.ones(300, 300)
    assert busy_seconds(CPU, lambda: x @ x) > 0
    assert math.isnan(busy_seconds(CPU, lambda: None))


def test_exact_rdms_are_those_of_the_activations(small):
    module, pixels = small
    found = exact(module, pixels, CPU, activations=True)
    assert list(found.rdms) == list(module.taps)
    for layer, rows in found.activations.items():
        expected = 1 - np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
        np.testing.assert_allclose(found.rdms[layer], expected, rtol=1e-10, atol=1e-12)
    model = fastrdm.TorchModel(module, device="cpu")
    assert largest_difference(model.rdms(pixels), found.rdms) < 1e-5


def test_checkpoints_differ_and_keep_their_names(small):
    module, _ = small
    first, second = states(module, 2)
    assert first.keys() == second.keys() == module.state_dict().keys()
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])
    assert torch.equal(first["bn1.running_var"], second["bn1.running_var"])


def test_the_graph_without_an_exporter_is_the_network(small, tmp_path):
    module, pixels = small
    graph = Graph("ResNet-20", write_graph(module, tmp_path / "net.onnx"))
    model = DeviceModel(graph, tuple(module.taps), module.preprocessing, "cpu")
    (state,) = states(module, 1)
    model.load({name: value.numpy() for name, value in state.items()})
    module.load_state_dict(state)
    assert (
        largest_difference(model.rdms(model.show(pixels)), exact(module, pixels, CPU).rdms) < 1e-5
    )


def test_hooks_are_removed(small):
    module, _ = small
    with hooked(module, module.taps):
        pass
    assert not any(part._forward_hooks for part in module.modules())


@pytest.fixture(scope="module")
def drawn_studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    data, studies = studies_in(None, folder)
    assert data == folder
    return studies


def test_without_images_both_sets_are_drawn(drawn_studies):
    assert [(s.name, len(s.stimuli), len(s.test_stimuli)) for s in drawn_studies] == [
        ("118", 118, 78),
        ("92", 92, 78),
    ]
    for study in drawn_studies:
        assert study.synthetic and study.regions == ("evc", "it")
        assert all(0 < target.ceiling < 1 for target in study.targets.values())


def test_images_without_subjects_get_simulated_ones(drawn_studies, tmp_path):
    for study in drawn_studies:
        folder = tmp_path / f"images/Training_Data/{study.name}_Image_Set/{study.name}images"
        folder.mkdir(parents=True)
        for path in study.stimuli:
            (folder / path.name).write_bytes(path.read_bytes())
    _, studies = studies_in(tmp_path / "images", tmp_path / "made")
    assert [study.synthetic for study in studies] == [True, True]
    assert studies[1].stimuli[-1].name == "image_092.png" and not studies[1].test_stimuli


def test_images_without_a_set_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has no Training_Data/118_Image_Set"):
        studies_in(tmp_path, tmp_path)


def test_goals_are_compared_with_rows_that_have_figures():
    rows = {
        "rates": [
            {"engine": "torch, hooks, corrcoef", "precision": "bf16", "checkpoints/s": 500.0},
            {
                "engine": "fastrdm",
                "precision": "bf16",
                "checkpoints/s": 120.0,
                "score difference": 0.2,
                "× plain": 6.0,
            },
            {
                "engine": "fastrdm",
                "precision": "tf32",
                "checkpoints/s": 90.0,
                "score difference": 0.01,
                "× plain": 3.0,
            },
            {"engine": "fastrdm", "precision": "fp32", "error": "out of memory"},
        ],
        "parity": [{"network": "a", "RDMs, fp32": 1e-6}, {"network": "b", "left out": "…"}],
    }
    found = [(row["measured"], row["reached"]) for row in goals(rows)]
    assert found == [(90.0, "no"), (None, "no"), (6.0, "yes"), (1e-6, "yes")]


def test_ways_that_fail_leave_the_others(monkeypatch, drawn_studies, tmp_path):
    def failing(*args):
        raise AttributeError("no such kernel")

    def measured(module, sets, checkpoints, setting, truth, precision, options):
        return failing() if options else {"checkpoints/s": 1.0, "score difference": 0.0}

    monkeypatch.setattr(rates, "CheckpointTruth", lambda *args: None)
    monkeypatch.setattr(rates, "_plain", failing)
    monkeypatch.setattr(rates, "_fastrdm", measured)
    ways = (("tf32", {}), ("fp32", {"compile": True}), ("fp32", {}))
    monkeypatch.setitem(rates.WAYS, "cpu", ways)
    rows = list(rates.rates(Setting(CPU, tmp_path, tmp_path, drawn_studies, gpu_proof.QUICK)))
    # A CPU has no tf32.
    assert [(row["engine"], row["precision"]) for row in rows] == [
        (rates.PLAIN, "fp32"),
        (rates.PLAIN, "bf16"),
        ("fastrdm", "fp32"),
        ("fastrdm", "fp32"),
    ]
    assert {row.get("error") for row in rows[:3]} == {"AttributeError: no such kernel"}
    assert rows[3]["checkpoints/s"] == 1 and "× plain" not in rows[3]
    assert [row["measured"] for row in goals({"rates": rows})] == [None, 1.0, None, None]


def test_part_of_a_zip_has_the_first_classes(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for split, n in (("train", 50), ("val", 3)):
            for label in "cab":
                for k in range(n):
                    archive.writestr(
                        f"set/{split}/{label}/images/{k:02d}.JPEG", f"{split}{label}{k}"
                    )
    with zipfile.ZipFile(tmp_path / "part.zip", "w") as archive:
        training._copy_part(tmp_path / "all.zip", archive, 2)
    with zipfile.ZipFile(tmp_path / "part.zip") as archive:
        names = archive.namelist()
        assert archive.read("val/b/2.JPEG") == b"valb2"
    assert {name.split("/")[1] for name in names} == {"a", "b"}
    assert len([name for name in names if name.startswith("train/a/")]) == 40


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Python is a shell script")
@pytest.mark.parametrize(
    ("script", "deadline", "status", "failed"),
    [
        ("exit 3", math.inf, "ended with status 3", True),
        ("exec sleep 60", 0.0, "stopped after 1 s", False),
    ],
)
def test_a_training_that_fails_or_takes_too_long_is_recorded(
    tmp_path, monkeypatch, script, deadline, status, failed
):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    setting = Setting(CPU, tmp_path, tmp_path, (), deadline=deadline)
    (row,) = training.training(replace(setting, amounts=gpu_proof.QUICK))
    assert row["status"] == status and ("error" in row) == failed and row["epoch"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sections", "speed"], "there is no section 'speed'"),
        (["--images", "nowhere"], "nowhere has no Training_Data/118_Image_Set"),
        (["--zip", "nowhere.zip"], "nowhere.zip does not exist"),
        pytest.param(
            ["--device", "cuda"],
            "torch finds no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_invalid_options_are_refused(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit):
        gpu_proof.main(["--device", "cpu", "--out", str(tmp_path / "out"), *words])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sections_on_the_cpu(tmp_path):
    words = ["--device", "cpu", "--quick", "--out", str(tmp_path)]
    assert gpu_proof.main([*words, "--sections", "environment,tensors"]) == 0
    found = json.loads((tmp_path / "proof.json").read_text())
    assert list(found) == ["environment", "tensors"]
    differences = [row["difference"] for row in found["tensors"]["rows"] if "difference" in row]
    assert len(differences) > 8 and max(differences) < 1e-5


@pytest.mark.slow
def test_the_rehearsal(tmp_path):
    assert gpu_proof.main(["--device", "cpu", "--quick", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "proof.json").read_text())
    assert list(found) == list(SECTIONS)
    rows = found["training"]["rows"]
    assert [row["epoch"] for row in rows] == [2, 1, 2] and rows[0]["status"] == "complete"
    assert all((tmp_path / row["submission"]).is_file() for row in rows[1:])
