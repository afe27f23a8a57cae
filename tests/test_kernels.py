import os
import subprocess
import sys

import pytest

import fastrdm


def run(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_compiled_kernels_are_in_force():
    info = fastrdm.kernels()
    assert info.name == "cpp"
    assert info.isa == info.available_isas[0]
    assert info.available_isas[-1] == "portable"
    assert info.n_threads >= 1


@pytest.mark.parametrize("name, isa", [("cpp", "portable"), ("numba", "native")])
def test_a_choice_can_be_forced(name, isa):
    result = run(
        "import fastrdm; k = fastrdm.kernels(); print(k.name, k.isa, k.forced)",
        FASTRDM_KERNELS=name,
        FASTRDM_ISA=isa,
    )
    assert result.stdout.split() == [name, isa, "True"], result.stderr


@pytest.mark.parametrize(
    "env, message",
    [
        ({"FASTRDM_KERNELS": "fortran"}, "FASTRDM_KERNELS=fortran is not one of: cpp, numba"),
        ({"FASTRDM_ISA": "sse9"}, "FASTRDM_ISA=sse9 is not one that the cpp kernels have here"),
        (
            {"FASTRDM_KERNELS": "numba", "FASTRDM_ISA": "avx2"},
            "not one that the numba kernels have here: native",
        ),
    ],
)
def test_an_impossible_choice_is_an_error(env, message):
    result = run("import fastrdm; fastrdm.kernels()", **env)
    assert result.returncode != 0 and message in result.stderr


WITHOUT_CORE = """
import sys, warnings
sys.modules["fastrdm._core"] = None
import fastrdm
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(fastrdm.kernels().name, "compiled kernels are not here" in str(caught[0].message))
"""


def test_without_compiled_kernels_numba_serves_and_says_so():
    assert run(WITHOUT_CORE).stdout.split() == ["numba", "True"]


def test_without_compiled_kernels_cpp_cannot_be_forced():
    result = run(WITHOUT_CORE, FASTRDM_KERNELS="cpp")
    assert "FASTRDM_KERNELS=cpp cannot be had" in result.stderr


def test_numba_is_imported_only_when_chosen():
    code = "import sys, fastrdm; fastrdm.kernels(); print('numba' in sys.modules)"
    assert run(code).stdout.split() == ["False"]
