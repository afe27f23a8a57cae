"""`fastrdm selftest`: every kernel set against plain formulas, with numpy, scipy and numba only."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fastrdm._kernels import dispatch
from fastrdm.cli import formulas, main
from fastrdm.cli.diagnosis import FAILS, WORKS, Finding
from fastrdm.cli.plain_check import Check

OPTIONAL = ("rich", "h5py", "PIL", "onnx", "onnxruntime", "torch", "pandas", "matplotlib", "shtab")


def test_a_wrong_result_is_named():
    right = Check("rank", np.ones(3), np.ones(3), 1e-9)
    assert right.error() == 0
    with pytest.raises(ValueError, match=r"^rank differs from NumPy by 1$"):
        Check("rank", np.ones(3), np.array([1, 2, 1]), 1e-9).error()
    with pytest.raises(ValueError, match=r"^rank differs from NumPy by nan$"):
        Check("rank", np.full(3, np.nan), np.ones(3), 1e-9).error()
    with pytest.raises(ValueError, match=r"^rank: shape \(3,\), expected \(2,\)$"):
        Check("rank", np.ones(3), np.ones(2), 1e-9).error()


def test_the_functions_agree_with_the_formulas():
    checks = formulas.checks(thorough=True)
    assert len({check.what for check in checks}) == len(checks) >= 20
    assert all(check.error() <= check.within for check in checks)


def test_a_wrong_formula_is_found(monkeypatch):
    monkeypatch.setattr("fastrdm.similarity.compare", lambda a, b, method: np.zeros((3, 5)))
    with pytest.raises(ValueError, match="compare, spearman differs"):
        for check in formulas.checks(thorough=False):
            check.error()


def test_it_needs_no_extra():
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
        "from fastrdm.cli import main\n"
        "sys.exit(main(['selftest', '--all', '--json']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    document = json.loads(ended.stdout)
    assert document["works"] and {each["state"] for each in document["tests"]} == {"works"}
    names = {each["name"] for each in document["tests"]}
    assert names == {*(f"cpp {isa}" for isa in dispatch.active().module.isas()), "numba native"}


@pytest.mark.parametrize("name", ["cpp", "numba"])
def test_numbas_kernels_are_tested_where_they_are_in_use(monkeypatch, capsys, name):
    tested = set()

    def found(name, isa, trial):
        tested.add(name)
        return Finding("kernels", name, WORKS, "")

    monkeypatch.setattr("fastrdm.cli.diagnosis._kernel_set", found)
    info = replace(dispatch.kernels(), name=name)
    monkeypatch.setattr("fastrdm.cli.diagnosis.kernels", lambda: info)
    assert main(["selftest"]) == 0
    assert tested == {"cpp", name}
    assert ("fastrdm selftest --all" in capsys.readouterr().out) == (name == "cpp")


def test_a_choice_that_is_impossible_ends_with_status_1(monkeypatch, capsys):
    monkeypatch.setattr("fastrdm.cli.diagnosis._kernel_sets", lambda trial, numba: iter(()))
    assert main(["selftest"]) == 0
    capsys.readouterr()
    monkeypatch.undo()
    broken = Finding("kernels", "cpp avx2", FAILS, "rank differs from NumPy by 1")
    monkeypatch.setattr("fastrdm.cli.diagnosis.test_kernels", lambda numba: [broken])
    assert main(["selftest"]) == 1
    out, _ = capsys.readouterr()
    assert "rank differs" in out and "1 test failed: cpp avx2" in out
