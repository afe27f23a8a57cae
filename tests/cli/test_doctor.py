"""`fastrdm doctor`: a test of each part, in processes that may crash."""

import importlib.metadata
import importlib.util
import json
import os
import sys

import pytest

from fastrdm import _kernels
from fastrdm.cli import diagnosis, main, trials
from fastrdm.cli.diagnosis import FAILS, NO_DEVICE, NOT_INSTALLED, WORKS, Finding
from fastrdm.runtimes import PROVIDERS

FAST = ("data", "run", "plot", "report", "table")


def run(capsys, *arguments):
    status = main([*arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def bare(monkeypatch):
    """An installation without optional packages."""
    real = importlib.util.find_spec
    absent = {"onnxruntime", "torch"}

    def find(name, *rest):
        return None if name.partition(".")[0] in absent else real(name, *rest)

    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(diagnosis.importlib.metadata, "version", version)


@pytest.fixture
def answers(monkeypatch):
    """What trials answer, without running them: by default, that all is well."""
    found = {}

    def answer(trial, *arguments, **variables):
        if trial == "provider":
            state = {"state": "loads", "detail": "a package", "precisions": ["fp32"]}
        else:
            state = {"state": "loads", "detail": "2.9", "devices": {"cpu": ""}, "is_auto": False}
        default = {"found": state if trial in ("provider", "torch") else "fine"}
        return found.get(arguments[0] if arguments else trial, default)

    monkeypatch.setattr(diagnosis, "_run", answer)
    return found


def test_every_kernel_set_agrees_with_numpy():
    found = [test() for test in diagnosis._kernel_sets()]
    sets = [f"cpp {isa}" for isa in diagnosis._isas()]
    assert [each.name for each in found] == [*sets, "numba native"]
    assert {each.state for each in found} == {WORKS}, found


@pytest.mark.parametrize("kernel", ["rank", "concordance", "rank_similarities", "gram"])
def test_a_kernel_with_a_wrong_result_fails(kernel, monkeypatch, capsys):
    real = getattr(_kernels, kernel)

    def wrong(*arguments):
        found = real(*arguments)
        (found[0] if isinstance(found, tuple) else found)[0] += 1
        return found

    monkeypatch.setattr(_kernels, kernel, wrong)
    trials.main(["kernels"])
    (answer,) = map(json.loads, capsys.readouterr().out.split("\n")[1:-1])
    assert "differ" in answer["error"] and "NumPy" in answer["error"]


def test_cpu_and_torch_run_a_convolution():
    cpu = diagnosis._provider("cpu")
    assert (cpu.state, cpu.detail) == (WORKS, "ran a convolution in fp32, by onnxruntime")
    torch = diagnosis._torch()
    assert torch.state == WORKS and torch.detail.startswith("ran a convolution on cpu")


@pytest.mark.parametrize("extra", FAST)
def test_an_extra_is_tried(extra):
    assert isinstance(trials.OF_EXTRAS[extra](), str)


@pytest.mark.slow
@pytest.mark.parametrize("extra", sorted(trials.OF_EXTRAS.keys() - set(FAST)))
def test_an_extra_is_tried_in_a_process(extra):
    assert diagnosis._run(extra).keys() == {"found"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_a_library_that_crashes_prints_or_ends_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for code, match in (
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        (
            "import os; os.write(2, b'no \\x1b[31mdriver\\n'); os._exit(3)",
            r"status 3: no \x1b[31md",
        ),
        ("raise OSError('libfoo.so is missing')", "OSError: libfoo.so is missing"),
        ("import sys; sys.exit('no licence')", "SystemExit: no licence"),
    ):
        (tmp_path / "ray.py").write_text(f"print('loading')\n{code}\n")
        found = diagnosis._extra("ray", {})
        assert found.state == FAILS and match in found.detail
    (tmp_path / "ray.py").write_text("print('{}')\n")
    assert diagnosis._extra("ray", {}).state == WORKS


def test_a_trial_that_hangs_ends(monkeypatch):
    monkeypatch.setattr(diagnosis, "_TIMEOUT", 0.01)
    assert "no answer within" in diagnosis._kernel_set("cpp", "portable").detail


def test_all_works(capsys, answers, monkeypatch, tmp_path):
    monkeypatch.setenv("FASTRDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTRDM_DATA", str(tmp_path))
    status, out, _ = run(capsys, "doctor")
    assert status == 0
    for line in ("processor", "memory", "versions", "cpp portable", "numba native", "cpu", "torch"):
        assert any(each.startswith(line) for each in out.splitlines())
    assert out.endswith("everything that is installed works\n")
    status, out, _ = run(capsys, "doctor", "--json")
    answer = json.loads(out)
    assert status == 0 and answer["works"]
    assert answer["engines"]["kernels"]["name"] == _kernels.kernels().name
    assert answer["engines"]["torch"] is None
    names = [test["name"] for test in answer["tests"] if test["group"] == "networks"]
    assert names == [*PROVIDERS, "torch"]
    assert not (tmp_path / "cache").exists()


def test_a_gpu_of_torch_is_selected(capsys, answers):
    devices = {"cpu": "", "cuda:0": "Big GPU"}
    state = {"state": "loads", "detail": "2.9", "devices": devices, "is_auto": True}
    answers["torch"] = {"found": state}
    out = run(capsys, "doctor")[1]
    assert "ran a convolution on cpu, cuda:0 Big GPU, by torch 2.9" in out
    assert [line.split() for line in out.splitlines() if line.startswith("MODULE:CALLABLE")] == [
        ["MODULE:CALLABLE", "torch:cuda:0"]
    ]


def test_what_is_installed_and_fails(capsys, answers):
    answers["cpu"] = {"found": {"state": "does not load", "detail": "libfoo.so is missing"}}
    answers["data"] = {"error": "h5py is broken"}
    status, out, _ = run(capsys, "doctor")
    assert status == 1 and out.endswith("2 tests failed: cpu, data\n")
    assert "libfoo.so is missing" in out and "h5py is broken" in out
    status, out, _ = run(capsys, "doctor", "--json")
    assert status == 1 and json.loads(out)["works"] is False


def test_a_forced_choice_that_is_impossible(answers, monkeypatch, capsys):
    monkeypatch.setenv("FASTRDM_ISA", "sse9")
    _kernels.active.cache_clear()
    try:
        status, out, _ = run(capsys, "doctor")
    finally:
        monkeypatch.undo()
        _kernels.active.cache_clear()
    assert status == 1 and "FASTRDM_ISA=sse9 is unavailable" in out
    assert "RDMs and similarities  nothing that works" in out


def test_without_optional_packages(bare, answers, capsys):
    status, out, _ = run(capsys, "doctor")
    assert status == 0
    assert "install: pip install 'fastrdm[cuda]'" in out
    assert "needs h5py, pillow; install: pip install 'fastrdm[data]'" in out
    assert "ONNX files             nothing that works" in out


def test_without_compiled_kernels(monkeypatch):
    real = importlib.util.find_spec
    core = "fastrdm._kernels._core"
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == core else real(name)
    )
    (found, _) = diagnosis._kernel_sets()
    assert found().state == NOT_INSTALLED and "C++17 compiler" in found().install


@pytest.mark.parametrize(
    ("word", "gpu", "state"),
    [
        ("cuda", True, FAILS),
        ("cuda", False, NO_DEVICE),
        ("migraphx", False, NO_DEVICE),
        ("openvino", False, FAILS),
        ("tensorrt", True, NOT_INSTALLED),
    ],
)
def test_a_provider_that_does_not_load(answers, monkeypatch, word, gpu, state):
    monkeypatch.setattr(diagnosis, "has_gpu", lambda build: gpu)
    answers[word] = {"found": {"state": "does not load", "detail": "no driver"}}
    assert diagnosis._provider(word).state == state


def test_packages_of_extras(monkeypatch):
    lines = [
        "numpy>=1.26",
        'h5py>=3.10; extra == "data"',
        'fastrdm[data]; extra == "run"',
        "onnx>=1.16; extra == 'run'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    data = {"h5py": "3.10"}
    assert diagnosis._packages() == {"data": data, "run": {**data, "onnx": "1.16"}}


def test_packages_that_are_too_old(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.9.1+cpu")
    assert diagnosis._lack("h5py", "3.10") == "h5py 3.10, not 3.9.1+cpu"
    assert diagnosis._lack("h5py", "3.9") == ""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.0rc1")
    assert diagnosis._lack("pandas", "2") == ""
    assert diagnosis._lack("onnxruntime", "99") == ""


def test_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTRDM_DATA", str(tmp_path / "none"))
    assert diagnosis._data().state == FAILS
    monkeypatch.delenv("FASTRDM_DATA")
    monkeypatch.chdir(tmp_path)
    assert "fastrdm sample" in diagnosis._data().detail
    monkeypatch.setenv("FASTRDM_DATA", str(tmp_path))
    found = diagnosis._data()
    assert found.state == FAILS and "no study" in found.detail
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTRDM_CACHE", str(tmp_path / "file"))
    found = diagnosis._cache()
    assert isinstance(found, Finding) and found.state == FAILS
    assert found.detail.endswith("is a file, not a folder; set FASTRDM_CACHE to another folder")


@pytest.mark.parametrize("name", ["info", "kernels"])
def test_commands_that_doctor_replaced(name, capsys):
    message = f"fastrdm: error: use `fastrdm doctor` in place of `fastrdm {name}`\n"
    assert run(capsys, name, "--json") == (2, "", message)


def test_the_studies_of_the_data_are_opened(monkeypatch, challenge):
    monkeypatch.setenv("FASTRDM_DATA", str(challenge.parent))
    found = diagnosis._data()
    assert found.state == WORKS
    assert found.detail == f"{challenge.parent}: opened the studies 92, 118"
