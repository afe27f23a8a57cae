"""What the command line imports: each command only what it needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fastrdm
from fastrdm.cli import main
from fastrdm.cli.commands import COMMANDS
from fastrdm.scoring import Store

PACKAGE = Path(fastrdm.__file__).parent
HEAVY = {"scipy", "numba", "torch", "onnx", "onnxruntime", "PIL", "rich", "multiprocessing"}


def modules_of(*arguments, cwd=None):
    """Run the command line in a process; return the modules it loaded."""
    code = (
        "import sys, fastrdm.cli\n"
        "try:\n    status = fastrdm.cli.main(sys.argv[1:])\n"
        "except SystemExit as error:\n    status = error.code\n"
        "assert not status, status\n"
        "print('\\nmodules:', *sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip
    assert not result.returncode, result.stderr
    return set(result.stdout.rpartition("modules:")[2].split())


def test_help_imports_not_even_numpy():
    modules = modules_of("--help")
    assert not {"numpy", "fastrdm._kernels", "fastrdm.scoring"} & modules
    assert not HEAVY & modules


def test_kernels_imports_the_kernels_alone():
    modules = modules_of("kernels")
    assert "fastrdm._kernels" in modules
    assert not HEAVY & modules
    assert not {"fastrdm.similarity", "fastrdm.networks", "fastrdm.scoring"} & modules


def test_table_imports_neither_networks_nor_runtimes(tmp_path):
    with Store(tmp_path / "scores.db", write=True):
        pass
    modules = modules_of("table", tmp_path / "scores.db")
    assert "fastrdm.scoring.store" in modules
    assert not HEAVY & modules
    assert not {"fastrdm.networks", "fastrdm.runtimes", "fastrdm.similarity"} & modules


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: fastrdm {command} ")


@pytest.mark.parametrize("package", ["", "_base", "cli", "scoring"])
def test_names_imported_on_first_use_are_those_that_type_checkers_see(package):
    tree = ast.parse((PACKAGE / package / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {node.module: sorted(alias.name for alias in node.names) for node in block.body}
    (names,) = (node for node in ast.walk(block) if isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "lazy_attributes")  # fmt: skip
    used = ast.literal_eval(names.args[1])
    assert {module: sorted(found) for module, found in used.items()} == seen
