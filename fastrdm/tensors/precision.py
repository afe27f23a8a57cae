"""How torch rounds operands of convolutions and matrix products, whatever the surrounding code has chosen."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastrdm._base import check_choice
from fastrdm.tensors.package import torch_package

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
# Values of settings; "none" is that of all operations, which is that of float32 unless it is set.
_EXACT = ("ieee", "none")
_OPERATIONS = ("matmul", "conv", "rnn")


def check_precision(precision: str, device: "torch.device") -> str:
    """Return a precision that the device has; ValueError otherwise."""
    check_choice(precision, PRECISIONS, "precision")
    torch = torch_package()
    if precision == "tf32":
        if device.type != "cuda":
            raise ValueError(f"precision 'tf32' needs a CUDA device, not {device}")
        # Elsewhere torch would compute in fp32 without a message.
        if torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
            name = torch.cuda.get_device_name(device)
            raise ValueError(f"precision 'tf32' needs an NVIDIA GPU from Ampere on, not {name}")
    if precision in autocast_types():
        with warnings.catch_warnings(), rounding(precision, device):
            warnings.simplefilter("ignore")
            if not torch.is_autocast_enabled(device.type):
                raise ValueError(f"precision {precision!r} is not available on {device}")
    return precision


@contextlib.contextmanager
def rounding(precision: str, device: "torch.device", *, shared: bool = False) -> Iterator[None]:
    """Run convolutions and matrix products in a precision.

    Some settings are those of all threads. With `shared`, another thread computes meanwhile, so they stay as they are,
    and a ValueError names those that round more than a precision of "fp32".
    """
    torch, dtypes = torch_package(), autocast_types()
    with contextlib.ExitStack() as stack:
        if not shared:
            stack.enter_context(_set(device, precision == "tf32"))
        elif precision == "fp32":
            _check(device)
        chosen = dtypes.get(precision, torch.bfloat16)
        stack.enter_context(torch.autocast(device.type, chosen, enabled=precision in dtypes))
        yield


def autocast_types() -> dict[str, Any]:
    """Return the type of each precision that runs under autocast."""
    torch = torch_package()
    return {"bf16": torch.bfloat16, "fp16": torch.float16}


def _settings(device: "torch.device") -> dict[str, Any]:
    """Objects by name whose `fp32_precision` is for a device; none before torch 2.9."""
    backends = torch_package().backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        return {}
    if device.type == "cuda":
        return {
            "cuda.matmul": backends.cuda.matmul,
            "cudnn.conv": backends.cudnn.conv,
            "cudnn.rnn": backends.cudnn.rnn,
        }
    return {f"mkldnn.{name}": getattr(backends.mkldnn, name) for name in _OPERATIONS}


@contextlib.contextmanager
def _set(device: "torch.device", tf32: bool) -> Iterator[None]:
    """Set the rounding of float32 operands, and restore all settings exactly."""
    torch = torch_package()
    new = (_settings(device) | _settings(torch.device("cpu"))).values()
    with contextlib.ExitStack() as stack:
        try:
            old = torch.get_float32_matmul_precision()
        except RuntimeError:
            # Since torch 2.9 there are two sets of settings, and the older one cannot be read if the newer one differs.
            old = ""
        for each in new:
            stack.callback(setattr, each, "fp32_precision", each.fp32_precision)
        if device.type == "cuda" and old:
            # These set both.
            cudnn = torch.backends.cudnn
            stack.callback(setattr, cudnn, "allow_tf32", cudnn.allow_tf32)
            stack.callback(torch.set_float32_matmul_precision, old)
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
            cudnn.allow_tf32 = tf32
        elif new:
            for each in new:
                # Those of the CPU only where they have an effect.
                if device.type == "cuda" or each.fp32_precision not in _EXACT:
                    each.fp32_precision = "tf32" if tf32 else "ieee"
        elif old == "medium":
            stack.callback(torch.set_float32_matmul_precision, old)
            torch.set_float32_matmul_precision("highest")
        yield


def _check(device: "torch.device") -> None:
    """Raise ValueError if a setting lets float32 operands be rounded on the device."""
    torch = torch_package()
    # A processor without instructions for 16 bits computes in float32 whatever the setting.
    if device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    rounded = [
        f"torch.backends.{name}.fp32_precision"
        for name, each in _settings(device).items()
        if each.fp32_precision not in _EXACT
    ]
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        if torch.get_float32_matmul_precision() != "highest":
            rounded.append("torch.set_float32_matmul_precision")
        if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
            rounded.append("torch.backends.cudnn.allow_tf32")
    if rounded:
        other = "tf32" if device.type == "cuda" else "bf16"
        raise ValueError(
            f"precision 'fp32' is not available on {device} beside a training that rounds operands there"
            f" ({', '.join(rounded)}); change this before the training, or ask for precision {other!r}"
        )
