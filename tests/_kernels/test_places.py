"""Every kernel is in all the places that CONTRIBUTING lists under "Adding a kernel"."""

import ast
import re
from pathlib import Path

import pytest

from fastrdm import _kernels

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "fastrdm/_kernels"
CPP = KERNELS / "cpp"
# Kernels with another name in C++: two ways to call one function, and a name that many variables have.
CPP_NAMES = {"gram": "products", "cross": "products", "share": "share_width"}


def defined(path):
    """Names of the functions at a Python module's top level."""
    return {node.name for node in ast.parse(path.read_text()).body if hasattr(node, "name")}


def bound():
    text = (CPP / "bindings.cpp").read_text()
    return set(re.findall(r'm\.def\(\(?"(\w+)"', text)) - {"isas"}


def from_cpp(path):
    """Kernels that a C++ file defines or declares."""
    names = set(re.findall(r"^(?!//)\S.*?\b(\w+)\(", path.read_text(), re.MULTILINE))
    return {kernel for kernel in EVERY if CPP_NAMES.get(kernel, kernel) in names}


def numba_names():
    tree = ast.parse((KERNELS / "numba/__init__.py").read_text())
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return set(names) - {"isas"}


def called_in_tests():
    text = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return set(re.findall(r"_kernels\.(\w+)\(", text))


WRAPPERS = set().union(
    *(defined(KERNELS / f"{name}.py") for name in ("products", "ranks", "searchlights"))
)
STUB = defined(KERNELS / "_core.pyi") - {"isas"}
EVERY = bound() | numba_names() | STUB
SOURCES = sorted(path for path in CPP.glob("*.cpp") if path.name != "bindings.cpp")
PLACES = {
    "a file in cpp/": lambda: set().union(*map(from_cpp, SOURCES)),
    "cpp/kernels.hpp": lambda: from_cpp(CPP / "kernels.hpp"),
    "cpp/bindings.cpp": bound,
    "_core.pyi": lambda: STUB,
    "numba/": numba_names,
    "products.py, ranks.py or searchlights.py": lambda: WRAPPERS & set(_kernels.__all__),
    "tests/": called_in_tests,
}


@pytest.mark.parametrize("place", PLACES)
def test_every_kernel_is_in(place):
    assert EVERY - PLACES[place]() == set(), f"missing in {place}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_cmake_builds(path):
    assert f"fastrdm/_kernels/cpp/{path.name}" in (ROOT / "CMakeLists.txt").read_text()


def test_contributing_lists_the_places():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text[text.index("## Adding a kernel") :].partition("\n## ")[0]
    for place in (
        "kernels.hpp",
        "isa.hpp",
        "bindings.cpp",
        "CMakeLists.txt",
        "_core.pyi",
        "_kernels/numba",
        "products.py",
        "ranks.py",
        "__all__",
        "tests/reference.py",
        "tests/_kernels",
    ):
        assert place in section, place
