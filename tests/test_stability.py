"""Public names and signatures are those of the stored listing; stubs and types agree with the code."""

import ast
import difflib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import public_api
import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "docs" / "api.md").is_file(), reason="not a checkout")

STUB = ROOT / "fastrdm" / "_kernels" / "_core.pyi"


def test_public_names_and_signatures_are_those_of_the_listing():
    pytest.importorskip("torch")
    pytest.importorskip("lightning")
    pytest.importorskip("transformers")
    stored = public_api.LISTING.read_text().splitlines()
    changes = [
        line
        for line in difflib.unified_diff(stored, public_api.lines(), lineterm="", n=0)
        if not line.startswith(("@@", "---", "+++"))
    ]
    assert not changes, "read docs/stability.md, then run: python tests/public_api.py"


def test_the_listing_sees_changes():
    def before(a, *, b=1): ...
    def after(a, *, b=2): ...

    assert public_api._signature(before) == "(a, *, b=1)" != public_api._signature(after)


def stub_functions():
    """Name → the parameters of each overload in the stub."""
    found = {}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append([each.arg for each in node.args.args])
        elif isinstance(node, ast.AnnAssign):
            found.setdefault(node.target.id, [])
    return found


def test_the_stub_of_the_kernels_has_their_functions_and_parameters():
    core = pytest.importorskip("fastrdm._kernels._core")
    functions = {name for name in vars(core) if callable(getattr(core, name))}
    stub = stub_functions()
    assert functions == stub.keys()
    for name, overloads in stub.items():
        compiled = {
            tuple(re.findall(r"(\w+): ", re.sub(r"\[[^\]]*\]", "", text[0])))
            for text in getattr(core, name).__nb_signature__
        }
        assert not overloads or compiled == {tuple(each) for each in overloads}, name


def test_stubtest_finds_no_fault(tmp_path):
    """mypy's stubtest knows no functions of nanobind, whose parameters the test above compares."""
    pytest.importorskip("mypy")
    pytest.importorskip("fastrdm._kernels._core")
    # Alone, so that mypy does not read the rest of the package.
    (package := tmp_path / "fastrdm" / "_kernels").mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.pyi").touch()
    (package / STUB.name).write_text(STUB.read_text())
    ended = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "fastrdm._kernels._core"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "checked 1 module" in ended.stdout, ended.stdout + ended.stderr
    faults = re.findall(r"^error: (.*)", ended.stdout, re.M)
    assert [fault for fault in faults if not fault.endswith("is not a function")] == []


def test_pyright_accepts_the_examples(tmp_path):
    pytest.importorskip("pyright")
    pyright = [sys.executable, "-m", "pyright"]
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    options = {"capture_output": True, "text": True, "check": False, "env": environment}
    if subprocess.run([*pyright, "--version"], **options).returncode:
        pytest.skip("pyright, which is fetched when it is first used, cannot be fetched")
    folders = [ROOT / "docs" / "gallery", ROOT / "examples"]
    settings = {
        "include": [str(folder) for folder in folders if folder.is_dir()],
        "extraPaths": [str(ROOT)],
        "reportMissingModuleSource": False,
    }
    Path(tmp_path, "pyrightconfig.json").write_text(json.dumps(settings))
    command = [*pyright, "--project", str(tmp_path), "--pythonpath", sys.executable]
    ended = subprocess.run(command, **options)
    assert ended.returncode == 0, ended.stdout
