"""What the figures were measured with."""

import datetime
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import fastrdm
from bench.proof.setting import Setting

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "numba",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "h5py",
    "pillow",
    "rich",
    "safetensors",
)


def environment(setting: Setting) -> Iterator[dict[str, Any]]:
    """Device, date, versions and stimuli."""
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": _describe(setting.device),
        "processors": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}"
        f" ({platform.machine()})",
        "python": platform.python_version(),
        "fastrdm": f"{fastrdm.__version__}, kernels {fastrdm.kernels().name} {fastrdm.kernels().isa}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "studies": ", ".join(
            f"{study.name} ({len(study.stimuli)} images, "
            f"{'simulated subjects' if study.synthetic else 'subjects'}: {', '.join(study.regions)})"
            for study in setting.studies
        ),
        "images to train on": str(setting.zip.name) if setting.zip else "drawn",
    }
    for name, value in facts.items():
        yield {"what": name, "value": value}


def _describe(device: torch.device) -> str:
    if device.type != "cuda":
        return f"CPU (threads of torch: {torch.get_num_threads()})"
    facts = torch.cuda.get_device_properties(device)
    built = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    return f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, {built}, cuDNN {torch.backends.cudnn.version()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "–"
