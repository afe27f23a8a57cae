"""What this process runs in: versions of the packages, and what the system's programs say."""

from collections.abc import Iterator

__version__ = "0.1.0"

_PACKAGES = (
    "fastrdm",
    "numpy",
    "scipy",
    "numba",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-ep-migraphx",
    "onnxruntime-ep-nv-tensorrt-rtx",
    "onnxruntime-ep-openvino",
    "openvino",
    "tensorrt",
    "torch",
    "torchvision",
)


def ask(*command: str) -> str:
    """What a program prints, or nothing where it is not there or fails."""
    import subprocess

    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.strip()


def versions() -> Iterator[tuple[str, str]]:
    """Names and versions of the packages that matter and are installed."""
    import importlib.metadata

    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
