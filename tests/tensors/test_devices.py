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
