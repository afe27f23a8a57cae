"""The device that a network trains on."""

import torch


def choose_device(word: str = "auto", option: str = "--device") -> torch.device:
    """Return the device "cpu", "cuda[:N]" or "rocm[:N]", or of "auto" the first GPU, else the CPU.

    torch calls ROCm's GPUs "cuda", too. Raise ValueError if the device is unavailable; `option` is its name in the
    message.
    """
    kind, _, number = word.partition(":")
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    built_for = "rocm" if torch.version.hip else "cuda" if torch.version.cuda else "cpu"
    if word == "auto":
        return torch.device("cuda:0" if n_gpus else "cpu")
    if word == "cpu":
        return torch.device("cpu")
    if kind not in ("cuda", "rocm") or not (number or "0").isdecimal():
        raise ValueError(f"{option} must be auto, cpu, cuda[:N] or rocm[:N], not {word!r}")
    if kind != built_for or int(number or 0) >= n_gpus:
        raise ValueError(
            f"{option} {word} is unavailable: torch {torch.__version__} is built for {built_for} and finds {n_gpus}"
            " GPUs"
        )
    return torch.device(f"cuda:{int(number or 0)}")


def describe_device(device: torch.device) -> str:
    """Return a device's name for people."""
    if device.type == "cpu":
        return f"CPU ({torch.get_num_threads()} threads)"
    kind = "ROCm" if torch.version.hip else "CUDA"
    return f"{torch.cuda.get_device_name(device)} ({kind})"


def check_precision(amp: str, device: torch.device) -> None:
    """Refuse a 16-bit type that the device lacks."""
    if amp == "fp16" and device.type != "cuda":
        raise ValueError("--amp fp16 needs a GPU; --amp bf16 runs on the CPU, too")
    if amp == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"--amp bf16: {name} has no bfloat16; use --amp fp16")
