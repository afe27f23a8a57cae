import subprocess
import sys

import pytest
import torch

from fastrdm.tensors import has_double, rounding


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
from fastrdm.tensors import has_double, rounding

if not hasattr(torch.backends, "fp32_precision"):
    raise SystemExit
matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
matmul.fp32_precision = conv.fp32_precision = "tf32"
with rounding({precision!r}, torch.device("cuda")):
    assert {{matmul.fp32_precision, conv.fp32_precision}} == {{{precision!r}.replace("fp32", "ieee")}}
assert matmul.fp32_precision == conv.fp32_precision == "tf32"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


SETTINGS = {
    "cuda": ["cuda.matmul", "cudnn.conv", "cudnn.rnn"],
    "cpu": ["mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn"],
}
needs_settings = pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="needs torch from 2.9 on"
)


def in_new_process(code):
    """Run code after imports: torch refuses to read settings that were mixed, also in later tests."""
    imports = (
        "import torch\nfrom operator import attrgetter\nfrom fastrdm.tensors import rounding\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", imports + code], check=True)


@needs_settings
@pytest.mark.parametrize(
    "code",
    [
        "torch.set_float32_matmul_precision('medium')",
        "torch.backends.cuda.matmul.allow_tf32 = True",
        "torch.backends.fp32_precision = 'tf32'",
    ],
)
def test_settings_of_the_surrounding_code_are_replaced_and_restored(code):
    in_new_process(f"""
{code}
names = {SETTINGS}
def read():
    try:
        old = torch.get_float32_matmul_precision()
    except RuntimeError:
        old = "mixed"
    return {{n: attrgetter(n)(torch.backends).fp32_precision for k in names for n in names[k]}}, old
before = read()
for device in names:
    with rounding("fp32", torch.device(device)):
        inside, old = read()
    assert read() == before, (read(), before)
    assert all(inside[name] in ("ieee", "none") for name in names[device]), inside
with rounding("tf32", torch.device("cuda")):
    inside, old = read()
    assert [inside[name] for name in names["cuda"]] == 3 * ["tf32"], inside
    # What others read, such as torch's compiler, is not refused because of us.
    assert old == "high" or before[1] == "mixed", old
assert read() == before, (read(), before)
""")


@needs_settings
def test_beside_a_training_settings_stay_and_those_that_round_are_refused():
    in_new_process("""
cuda, setting = torch.device("cuda"), torch.backends.cuda.matmul
torch.backends.cudnn.allow_tf32 = False
torch.set_float32_matmul_precision("high")
try:
    with rounding("fp32", cuda, shared=True):
        raise AssertionError
except ValueError as error:
    assert str(error) == (
        "precision 'fp32' is not available on cuda beside a training that rounds operands there"
        " (torch.backends.cuda.matmul.fp32_precision); change this before the training, or ask for"
        " precision 'tf32'"
    ), error
for precision in ("tf32", "bf16"):
    with rounding(precision, cuda, shared=True):
        assert setting.fp32_precision == "tf32"
torch.set_float32_matmul_precision("highest")
with rounding("fp32", cuda, shared=True):
    assert setting.fp32_precision == "ieee"
""")


@needs_settings
def test_products_on_devices_without_float64_are_not_rounded():
    in_new_process("""
from fastrdm.tensors import DeviceRows, rows
rows.has_double = lambda device: False
torch.set_float32_matmul_precision("medium")
setting, found, multiply = torch.backends.mkldnn.matmul, [], torch.bmm
def recorded(*arguments):
    found.append(setting.fp32_precision)
    return multiply(*arguments)
torch.bmm = recorded
DeviceRows(torch.ones(3, 5), "x").multiply(None)
assert found == ["ieee"], found
assert setting.fp32_precision == "bf16"
""")


@pytest.mark.parametrize("has_fp64", [True, False])
def test_devices_of_intel_say_whether_they_have_float64(has_fp64, monkeypatch):
    facts = {"has_fp64": has_fp64}
    monkeypatch.setattr(torch.xpu, "get_device_capability", lambda device: facts)
    assert has_double(torch.device("xpu", 0)) == has_fp64
    assert has_double(torch.device("cuda", 0)) and not has_double(torch.device("mps", 0))
