"""What the command line imports: each command only what it needs, and a sweep without work no runtime."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import fastrdm
from fastrdm.cli import main
from fastrdm.cli.commands import COMMANDS
from fastrdm.scoring import Store

PACKAGE = Path(fastrdm.__file__).parent
HEAVY = {"scipy", "numba", "torch", "onnx", "onnxruntime", "PIL", "rich", "multiprocessing"}


RUNTIMES = {"torch", "onnx", "onnxruntime"}
NETWORK = """
import torch
from fastrdm.images import Preprocessing

def build():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(), torch.nn.Flatten())
    net.preprocessing = Preprocessing((16, 16))
    return net
"""


def run(*arguments, cwd=None, status=0):
    """Run the command line in a process; return its output, its errors and the modules it loaded."""
    code = (
        "import sys, fastrdm.cli\n"
        "try:\n    status = fastrdm.cli.main(sys.argv[1:])\n"
        "except SystemExit as error:\n    status = error.code\n"
        "print('modules:', *sys.modules)\n"
        "sys.exit(status)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip
    assert result.returncode == status, result.stderr
    output, _, modules = result.stdout.rpartition("modules:")
    return output, result.stderr, set(modules.split())


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with twelve checkpoints and a study, and their scores in a store."""
    home = tmp_path_factory.mktemp("swept")
    (home / "small_net.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    (home / "runs").mkdir()
    for i in range(12):
        weights = {"0.weight": rng.standard_normal((4, 3, 3, 3)), "0.bias": rng.standard_normal(4)}
        tensors = {name: torch.from_numpy(value).float() for name, value in weights.items()}
        save_file(tensors, home / "runs" / f"epoch{i:02d}.safetensors")
    (home / "study" / "stimuli").mkdir(parents=True)
    for i in range(6):
        pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(home / "study" / "stimuli" / f"image{i}.png")
    rdms = rng.random((3, 6, 6)) * (1 - np.eye(6))
    np.save(home / "study" / "it.npy", rdms + rdms.transpose(0, 2, 1))
    (home / "study" / "study.toml").write_text('order = "sorted"\n[targets.it]\nfile = "it.npy"\n')
    run(*SWEEP, "--engine", "in-process", cwd=home)
    return home


SWEEP = ("sweep", "runs", "--arch", "small_net:build", "--data", "study", "--store", "scores.db")


def test_a_sweep_without_work_says_so_and_imports_no_runtime(swept):
    output, errors, modules = run(*SWEEP, cwd=swept)
    assert (output, errors) == ("", "12 of 12 were scored before; nothing to do\n")
    assert not (RUNTIMES | {"small_net", "numba"}) & modules


def test_a_sweep_without_work_says_so_in_its_events(swept):
    output, _, modules = run(*SWEEP, "--events", cwd=swept)
    events = [json.loads(line) for line in output.splitlines()]
    assert [event["event"] for event in events] == ["plan", "end"]
    assert events[1]["note"] == "12 of 12 were scored before; nothing to do"
    assert not RUNTIMES & modules


def test_a_sweep_without_work_names_the_failures_before(swept):
    broken = swept / "broken.safetensors"
    broken.write_bytes(b"nothing")
    arguments = (SWEEP[0], broken.name, *SWEEP[1:])
    run(*arguments, "--engine", "in-process", cwd=swept, status=1)
    # Not everything was scored.
    _, errors, modules = run(*arguments, cwd=swept, status=1)
    note = (
        "12 of 13 were scored before, 1 failed before; nothing to do; --retry-failed tries it again"
    )
    assert errors == f"{note}\n"
    assert not RUNTIMES & modules


@pytest.mark.parametrize("checkpoint", ["runs/epoch00.safetensors", "epoch00.pth"])
def test_scoring_a_network_that_was_exported_before_needs_no_torch(swept, checkpoint):
    torch.save(load_file(swept / "runs" / "epoch00.safetensors"), swept / "epoch00.pth")
    arguments = ("score", checkpoint, "--arch", "small_net:build", "--data", "study", "--json")
    output, _, modules = run(*arguments, cwd=swept)
    assert json.loads(output)["results"][0]["checkpoint"] == checkpoint
    assert "onnxruntime" in modules and not {"torch", "small_net"} & modules


def test_an_architecture_that_does_not_exist_is_an_error_before_work_starts(swept):
    arguments = ("sweep", "runs", "--arch", "small_net:bild", *SWEEP[4:])
    _, errors, modules = run(*arguments, cwd=swept, status=1)
    assert "small_net has no 'bild'; nearest: build" in errors
    assert "onnxruntime" not in modules


def test_help_imports_not_even_numpy():
    _, _, modules = run("--help")
    assert not {"numpy", "fastrdm._kernels", "fastrdm.scoring"} & modules
    assert not HEAVY & modules


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_imports_only_what_its_parser_needs(command):
    output, _, modules = run(command, "--help")
    assert output.startswith(f"usage: fastrdm {command} ")
    assert not (HEAVY | {"sqlite3", "h5py"}) & modules
    assert not {"numpy", "fastrdm._kernels", "fastrdm.runtimes.onnx_model"} & modules


def test_names_of_engines_import_no_pool_of_workers():
    code = (
        "import sys\nfrom fastrdm.scoring import ENGINES\n"
        "print(*ENGINES, *(name for name in sys.modules if name.endswith('_pool')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["local", "ray", "in-process"]


def test_table_imports_neither_networks_nor_runtimes(tmp_path):
    with Store(tmp_path / "scores.db", write=True):
        pass
    _, _, modules = run("table", tmp_path / "scores.db")
    assert "fastrdm.scoring.store" in modules
    assert not HEAVY & modules
    assert not {"fastrdm.networks", "fastrdm.runtimes", "fastrdm.similarity"} & modules


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: fastrdm {command} ")


@pytest.mark.parametrize(
    "package", ["", "_base", "cli", "images", "inference", "runtimes", "scoring", "studies"]
)
def test_names_imported_on_first_use_are_those_that_type_checkers_see(package):
    tree = ast.parse((PACKAGE / package / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    own = f"fastrdm.{package}".rstrip(".")
    modules = [each.name for node in block.body if node.module == own for each in node.names]
    seen = {
        node.module: sorted(each.name for each in node.names)
        for node in block.body
        if node.module != own
    }
    (names,) = (node for node in ast.walk(block) if isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "lazy_attributes")  # fmt: skip
    used = ast.literal_eval(names.args[1])
    assert {module: sorted(found) for module, found in used.items()} == seen
    options = {option.arg: ast.literal_eval(option.value) for option in names.keywords}
    assert set(modules) <= set(options.get("packages", ()))
