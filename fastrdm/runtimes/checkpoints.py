"""Weight files of any format → models."""

from pathlib import Path
from typing import Any

from fastrdm.networks import Taps, check_file, is_onnx
from fastrdm.runtimes.architectures import Architecture
from fastrdm.runtimes.architectures import import_arch as import_arch
from fastrdm.runtimes.onnx_model import OnnxModel


def open_checkpoint(
    path: str | Path,
    arch: str | Path | Architecture | None = None,
    taps: Taps | None = None,
    **options: Any,
) -> OnnxModel:
    """Open a checkpoint of any file format.

    Parameters
    ----------
    path : path
        An `.onnx` file from any exporter, or weights as for `read_weights`.
    arch : str, path or Architecture, optional
        The network of the weights: "module:callable" as for `import_arch`, an `.onnx` file from
        `export_onnx` with any weights, or either in memory. Not needed if `path` is an `.onnx` file.
    taps : mapping or sequence, optional
        As for `export_onnx`, or, if `path` is an `.onnx` file, as for `OnnxModel`. Not for an `.onnx` file
        as `arch`.
    **options
        As for `OnnxModel`.

    Returns
    -------
    OnnxModel

    Raises
    ------
    WeightsError
        If the weights cannot be read or are another network's.
    ValueError
        If weights are given without `arch`, or taps for an exported architecture; otherwise as for
        `import_arch`, `Architecture.export` and `OnnxModel`.
    """
    if is_onnx(path):
        return OnnxModel(path, taps=taps, **options)
    if arch is None:
        raise ValueError(
            f"{path}: weights need arch, the module:callable that builds their network or its exported .onnx file"
        )
    # Before an export, which takes seconds.
    check_file(path)
    if isinstance(arch, str) and not is_onnx(arch):
        architecture = Architecture.export(arch, taps)
    else:
        architecture = arch if isinstance(arch, Architecture) else Architecture.read(arch)
        if taps is not None:
            raise ValueError(
                f"the architecture {architecture.name} already has layers; remove the taps"
            )
    return architecture.open(path, **options)
