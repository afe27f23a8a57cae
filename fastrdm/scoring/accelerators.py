"""The accelerators of this machine, as listed by their drivers."""

import os

from fastrdm._base import run_program
from fastrdm.runtimes import PROVIDERS, TORCH, is_torch, torch_gpu_of

# The drivers' programs that list devices, and the environment variable that selects among them.
_NVIDIA = ("CUDA_VISIBLE_DEVICES", ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader"))
_AMD = ("HIP_VISIBLE_DEVICES", ("rocm-smi", "--showuniqueid", "--csv"))
LISTS = {"cuda": _NVIDIA, "tensorrt": _NVIDIA, "rocm": _AMD, "migraphx": _AMD}


# What torch is built for → the provider of ONNX Runtime with the same devices.
_BUILDS = {"cuda": "cuda", "hip": "rocm"}


def accelerators(provider: str) -> tuple[str, list[str]]:
    """The variable that selects a provider's accelerators, and its value for each visible one.

    There are none for a device of torch that is named, as in "torch:cuda:1", which all workers share.
    """
    words = [provider]
    if provider == "auto":
        words = [word for word in LISTS if word != "tensorrt" and _is_present(word)]
    elif is_torch(provider):
        words = [_BUILDS.get(torch_gpu_of(provider), "")] if provider == TORCH else []
    for word in words:
        if word in LISTS:
            variable, command = LISTS[word]
            if variable in os.environ:
                found = [name.strip() for name in os.environ[variable].split(",") if name.strip()]
            else:
                lines = run_program(*command).splitlines()
                devices = [
                    each for each in lines if each.strip() and not each.startswith("device,")
                ]
                found = [str(i) for i in range(len(devices))]
            if found:
                return variable, found
    return "", []


def _is_present(word: str) -> bool:
    return any(source.is_present() for source in PROVIDERS[word].sources)
