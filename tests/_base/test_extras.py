import subprocess
import sys

import pytest

from fastrdm._base import MissingExtraError, require


def test_an_installed_package_is_returned():
    assert require("json", "data", "for nothing").dumps([1]) == "[1]"


def test_a_missing_package_is_named_with_its_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        MissingExtraError,
        match=r"^h5py is needed to read files; install it with: pip install 'fastrdm\[data\]'$",
    ):
        require("h5py", "data", "to read files")


def test_errors_of_a_broken_package_are_kept(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        require("broken_extra", "data", "for nothing")


# Blocks every package that is not a dependency, then uses the library.
BARE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""
BLOCKED = [
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "h5py",
    "PIL",
    "rich",
    "matplotlib",
    "safetensors",
]


def bare(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", BARE.format(blocked=BLOCKED) + code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_library_needs_no_extra():
    code = (
        "import numpy as np, fastrdm\n"
        "rdm = fastrdm.calc_rdm(np.random.default_rng(0).random((8, 50)))\n"
        "print(fastrdm.Target(np.random.default_rng(1).random((4, 28)), ceiling=1).score(rdm).r2.shape)\n"
    )
    assert bare(code).stdout == "(1,)\n"


@pytest.mark.parametrize(
    "code, package, extra",
    [
        ("import fastrdm; fastrdm.OnnxModel(sys.argv[1])", "onnxruntime", "onnx"),
        ("import fastrdm; fastrdm.export_onnx(None, 'x.onnx')", "torch", "export"),
        (
            "from fastrdm.images import Preprocessing; Preprocessing().load([sys.argv[1]])",
            "PIL",
            "data",
        ),
        (
            "from fastrdm.networks import load_state_dict; load_state_dict(sys.argv[1])",
            "torch",
            "export",
        ),
        ("from fastrdm.plot import plot_scores; plot_scores([], 'x.png')", "matplotlib", "plot"),
    ],
)
def test_each_use_names_the_missing_extra(tmp_path, code, package, extra):
    file = tmp_path / "file"
    file.write_bytes(b"something")
    last = bare(code, str(file)).stderr.strip().splitlines()[-1]
    assert last.startswith("fastrdm._base.extras.MissingExtraError: " + package)
    assert f"pip install 'fastrdm[{extra}]'" in last


def test_matlab_files_name_their_extra(tmp_path):
    import h5py

    with h5py.File(tmp_path / "target.mat", "w") as file:
        file["EVC_RDMs"] = 1.0
    result = bare(
        "from fastrdm.cli import main; main(['evaluate', sys.argv[1], sys.argv[1]])",
        str(tmp_path / "target.mat"),
    )
    assert result.stderr.count("\n") == 1 and "pip install 'fastrdm[data]'" in result.stderr
