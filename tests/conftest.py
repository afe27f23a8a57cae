"""Fixtures for real data and kernels."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest

from fastrdm import _kernels

ROOT = Path(__file__).resolve().parent.parent

# Symbols in code that is built with a sanitizer.
SANITIZED = {"address": b"__asan_report", "undefined": b"__ubsan_handle", "thread": b"__tsan_write"}


def pytest_configure():
    """Undo ignored signals; fail unless the intended kernels are in use, not a fallback."""
    # Ignored by nohup and by shells for background jobs; processes that tests start would inherit that.
    for number in (signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    wanted = os.environ.get("FASTRDM_KERNELS", "cpp")
    if _kernels.kernels().name != wanted:
        raise pytest.UsageError(
            f"expected the {wanted} kernels, but {_kernels.kernels()} are in use"
        )
    for sanitizer in filter(None, os.environ.get("FASTRDM_SANITIZE", "").split(",")):
        extension = Path(_kernels.active().module.__file__)
        if SANITIZED[sanitizer] not in extension.read_bytes():
            raise pytest.UsageError(f"{extension} is not built with -fsanitize={sanitizer}")


@pytest.fixture(scope="session", autouse=True)
def _stimuli_cache(tmp_path_factory):
    """Keep images of tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTRDM_CACHE", str(tmp_path_factory.mktemp("stimuli")))
        yield


def _kernel_sets():
    sets = [("numba", "native")]
    if importlib.util.find_spec("fastrdm._kernels._core") is not None:
        from fastrdm._kernels import _core

        sets += [("cpp", isa) for isa in _core.isas()]
    return sets


@pytest.fixture(params=_kernel_sets(), ids="-".join)
def kernels(request, monkeypatch):
    """Run the test on every kernel set and instruction set of this machine."""
    name, isa = request.param
    monkeypatch.setenv("FASTRDM_KERNELS", name)
    monkeypatch.setenv("FASTRDM_ISA", isa)
    _kernels.active.cache_clear()
    yield f"{name}-{isa}"
    _kernels.active.cache_clear()


@pytest.fixture
def as_device(monkeypatch):
    """Treat the memory of the CPU as that of a device, so that tensors and arrays with DLPack are computed there."""
    from fastrdm.tensors import arrays

    pytest.importorskip("torch")
    monkeypatch.setattr(arrays, "_HOST", frozenset())


@pytest.fixture(scope="session")
def data_root():
    """The folder of real data: FASTRDM_DATA, or ../shared/data beside the project."""
    root = Path(os.environ.get("FASTRDM_DATA") or ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set FASTRDM_DATA to its folder")
    return root


@pytest.fixture(scope="session")
def challenge(data_root):
    """The folder of the challenge's data."""
    folder = data_root / "algonauts2019"
    if not folder.is_dir():
        pytest.skip(f"no challenge data at {folder}")
    return folder


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    from browser import started

    with started() as browser:
        yield browser
