import subprocess
import sys

import pytest
import torch

from fastrdm.tensors import rounding


@pytest.fixture
def flags():
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    yield lambda: [place.allow_tf32 for place in places]
    for place, value in zip(places, before, strict=True):
        place.allow_tf32 = value


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rounding_on_the_cpu_leaves_settings_of_gpus(flags, precision):
    """Another thread may train on a GPU meanwhile."""
    for value in (True, False):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = value
        with rounding(precision, torch.device("cpu")):
            assert flags() == [value, value]


def test_rounding_on_a_gpu_restores_settings(flags):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    with pytest.raises(KeyError), rounding("fp32", torch.device("cuda")):
        assert flags() == [False, False]
        raise KeyError
    assert flags() == [True, True]


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_rounding_on_a_gpu_takes_both_kinds_of_settings(precision):
    code = f"""
import torch
from fastrdm.tensors import rounding

if not hasattr(torch.backends, "fp32_precision"):
    raise SystemExit
matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
matmul.fp32_precision = conv.fp32_precision = "tf32"
with rounding({precision!r}, torch.device("cuda")):
    assert {{matmul.fp32_precision, conv.fp32_precision}} == {{{precision!r}.replace("fp32", "ieee")}}
assert matmul.fp32_precision == conv.fp32_precision == "tf32"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
