"""The process's environment: versions of packages, and output of system programs."""

from collections.abc import Iterator

__version__ = "0.2.0"

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


def run_program(*command: str) -> str:
    """Return what a program prints, or an empty string if it fails or does not exist."""
    import subprocess

    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()


def versions() -> Iterator[tuple[str, str]]:
    """Yield names and versions of the installed packages that affect results."""
    import importlib.metadata

    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
