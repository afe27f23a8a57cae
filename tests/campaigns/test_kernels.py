"""Short forms of the campaigns of the kernels."""

import pytest
from campaigns.fuzz_kernels import MissingToolError, fuzz
from campaigns.many_scores import score_many

from fastrdm import _kernels


@pytest.mark.parametrize("kernel_set", ["cpp", "numba"])
def test_64_threads_share_a_target(kernel_set, monkeypatch):
    if kernel_set == "cpp":
        pytest.importorskip("fastrdm._kernels._core")
    monkeypatch.setenv("FASTRDM_KERNELS", kernel_set)
    monkeypatch.delenv("FASTRDM_ISA", raising=False)
    _kernels.active.cache_clear()
    try:
        wrong, growth, files = score_many(3000 if kernel_set == "cpp" else 500, 64)
    finally:
        _kernels.active.cache_clear()
    assert wrong == 0 and files == 0
    assert growth < 50


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address,undefined", "thread"])
def test_fuzzed_kernels(tmp_path, sanitize):
    try:
        assert fuzz(tmp_path, 60, sanitize=sanitize) == 0
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_neon_kernels_under_emulation(tmp_path):
    try:
        assert fuzz(tmp_path, 60, neon=True) == 0
    except MissingToolError as error:
        pytest.skip(str(error))
