"""Distributions: the wheel holds only fastrdm, the sdist builds, and a compiler is optional."""

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy
import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file() or not (ROOT / ".git").exists(), reason="not a checkout"
)


# No package is fetched.
NOWHERE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def build(kind, source, out, *options, **env):
    for package in ("build", "nanobind", "scikit_build_core"):
        pytest.importorskip(package)
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out)]
    env = NOWHERE | env
    # One for each build: CMake would keep the compiler of the one before.
    command += [f"-Cbuild-dir={out}/build", *options, str(source)]
    return subprocess.run(
        command, env=os.environ | env, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    result = build("sdist", ROOT, out)
    assert result.returncode == 0, result.stderr
    return next(out.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    out = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        archive.extractall(out)
    return next(out.iterdir())


def test_the_sdist_holds_the_sources_and_no_data(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "fastrdm/_kernels/cpp/products.cpp",
        "models/networks/architectures.py",
        "tests/reference.py",
        "CMakeLists.txt",
        "LICENSE",
    ):
        assert name in names
    assert not [n for n in names if n.endswith((".mat", ".jpg", ".pth", ".onnx", ".so"))]


def test_a_wheel_of_the_sdist_builds_offline_and_holds_only_fastrdm(unpacked, tmp_path):
    # Not optimised, which takes a third of the time.
    options = ("-Ccmake.build-type=Debug", "-Ccmake.define.CMAKE_CXX_FLAGS_DEBUG=-O0")
    result = build("wheel", unpacked, tmp_path, *options, CI="true")
    assert result.returncode == 0, result.stderr
    tag = "cp311-cp311" if sys.version_info < (3, 12) else "cp312-abi3"
    assert tag in next(tmp_path.glob("*.whl")).name
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        metadata = email.message_from_bytes(
            wheel.read(next(n for n in names if n.endswith(".dist-info/METADATA")))
        )
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"fastrdm"}
    assert {"fastrdm/py.typed", "fastrdm/_kernels/_core.pyi", "fastrdm/rdm/calc.py"} <= set(names)
    # The parts of the page of a report.
    page = {f"fastrdm/report/page/{name}" for name in ("page.html", "style.css", "main.js")}
    assert page <= set(names)
    assert any(
        n.startswith("fastrdm/_kernels/_core.") and n.endswith((".so", ".pyd")) for n in names
    )
    assert not [n for n in names if n.endswith((".cpp", ".hpp"))]
    required = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert sorted(r.split(">")[0] for r in required) == ["numba", "numpy", "scipy"]
    assert not [r for r in metadata.get_all("Requires-Dist") if "==" in r.split(";")[0]]


def test_without_a_compiler_it_installs_with_the_numba_kernels(unpacked, tmp_path):
    result = build("wheel", unpacked, tmp_path, CI="", CXX="/no/compiler")
    assert result.returncode == 0, result.stderr
    assert "installed with the slower numba kernels" in result.stdout + result.stderr
    wheel = next(tmp_path.glob("*.whl"))
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import numpy as np, fastrdm\n"
        "print(fastrdm.kernels().name, fastrdm.calc_rdm(np.random.default_rng(0).random((4, 9))).shape)"
    )
    outcome = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(
                [str(tmp_path / "site"), str(Path(numpy.__file__).parent.parent)]
            )
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.stdout == "numba (6,)\n", outcome.stderr
    assert "using the slower numba kernels" in outcome.stderr


def test_in_ci_a_missing_compiler_is_a_failure(unpacked, tmp_path):
    assert build("wheel", unpacked, tmp_path, CI="true", CXX="/no/compiler").returncode != 0
