"""torch as a provider: "torch" or "torch:cuda:1", its options, and whether a machine has a GPU for it."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import run_program
from fastrdm.tensors import check_precision, device_of, torch_package

if TYPE_CHECKING:
    import torch

TORCH = "torch"
"""The provider that runs live modules; a device may follow after a colon."""

# What torch is built for → the variable that hides GPUs, their device files on Linux, and the driver's program.
_BUILDS = {
    "cuda": ("CUDA_VISIBLE_DEVICES", "nvidia[0-9]*", "nvidia-smi"),
    "hip": ("HIP_VISIBLE_DEVICES", "kfd", "rocm-smi"),
}
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_OPTIONS = ("channels_last", "cuda_graph", "compile")


def is_torch(provider: str) -> bool:
    """Whether a provider runs live modules of torch."""
    return provider == TORCH or provider.startswith(f"{TORCH}:")


def torch_device(provider: str) -> str:
    """Return the device of a provider of torch: the one that is named, else the best one of this process.

    Raise ValueError if it does not exist; imports torch.
    """
    torch = torch_package()
    named = provider.partition(":")[2] if is_torch(provider) else ""
    if not named:
        named = next(filter(None, (_first(torch, kind) for kind in ("cuda", "xpu", "mps"))), "cpu")
    return str(device_of(torch.nn.Module(), named))


def _first(torch: Any, kind: str) -> str:
    """A kind of device if this process has one, else empty."""
    package = getattr(torch.backends if kind == "mps" else torch, kind, None)
    return kind if package is not None and package.is_available() else ""


def torch_gpu_of(provider: str) -> str:
    """Return what GPUs torch is built for here, "cuda" or "hip", if there are any; else empty.

    It imports no torch, and is empty for a provider that does not name a GPU or leave the choice.
    """
    if provider.partition(":")[2].partition(":")[0] not in ("", "cuda"):
        return ""
    return next((build for build in _BUILDS if _built_for(build) and has_gpu(build)), "")


def _built_for(build: str) -> bool:
    """Whether the installed torch is built for a kind of GPUs, by the file of its version."""
    spec = importlib.util.find_spec(TORCH)
    if spec is None or spec.origin is None:
        return False
    path = Path(spec.origin).with_name("version.py")
    spec = importlib.util.spec_from_file_location("fastrdm_torch_version", path)
    if spec is None or spec.loader is None or not path.exists():
        return False
    version = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(version)
    return getattr(version, build, None) is not None


def has_gpu(build: str) -> bool:
    """Whether the machine has a GPU for "cuda" or "hip", by the device files and programs of its driver."""
    variable, files, program = _BUILDS[build]
    if os.environ.get(variable, "all").strip() in ("", "-1"):
        return False
    if sys.platform == "linux" and any(Path("/dev").glob(files)):
        return True
    # Other systems, and Linux inside Windows, have no such files.
    arguments = ("-L",) if build == "cuda" else ("--showuniqueid", "--csv")
    return bool(run_program(program, *arguments).strip())


def torch_devices() -> dict[str, str]:
    """Return the devices of torch in this process, with the names of their models; imports torch."""
    torch = torch_package()
    devices = {"cpu": ""}
    for kind in filter(None, (_first(torch, kind) for kind in ("cuda", "xpu", "mps"))):
        package = getattr(torch, kind)
        for i in range(package.device_count()):
            name = "" if kind == "mps" else package.get_device_name(i)
            devices[kind if kind == "mps" else f"{kind}:{i}"] = name
    return devices


def torch_options(options: Mapping[str, str] | None) -> dict[str, bool]:
    """Return the options of the provider as arguments of `TorchModel`; ValueError for others."""
    found = {}
    for name, value in (options or {}).items():
        if name not in _OPTIONS:
            raise ValueError(
                f"provider 'torch' has no option {name!r}; it has {', '.join(_OPTIONS)}"
            )
        if value.lower() not in _TRUTH:
            raise ValueError(
                f"the option {name!r} of provider 'torch' must be true or false, not {value!r}"
            )
        found[name] = _TRUTH[value.lower()]
    return found


def check_torch(provider: str, precision: str, options: Mapping[str, str] | None) -> str:
    """Return the provider with the device in use, as "torch:cuda:0"; ValueError for what it cannot do."""
    device: torch.device = torch_package().device(torch_device(provider))
    check_precision(precision, device)
    chosen = torch_options(options)
    if chosen.get("cuda_graph") and device.type != "cuda":
        raise ValueError(f"the option 'cuda_graph' needs a CUDA device, not {device}")
    return f"{TORCH}:{device}"
