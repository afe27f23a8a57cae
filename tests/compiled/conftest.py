"""The library for C and C++, once for each process that runs tests."""

import os

import pytest
from conftest import ROOT


@pytest.fixture(scope="session")
def prefix(tmp_path_factory):
    """The folder where the library was installed."""
    if os.name != "posix":
        pytest.skip("loads the shared library by its POSIX name")
    import c_library

    if not (ROOT / "cmake").is_dir():
        pytest.skip("not a checkout")
    if not (c_library.CMAKE and c_library.COMPILER):
        pytest.skip("needs cmake and a C++ compiler")
    folder = tmp_path_factory.mktemp("installed")
    c_library.install(folder)
    return folder


@pytest.fixture(scope="session")
def library(prefix):
    from c_library import CLibrary

    (path,) = prefix.glob("lib/libfastrdm.so.1") or prefix.glob("lib/libfastrdm.1.dylib")
    return CLibrary(path)
