"""Weight files → models: an architecture is exported once, for weights from any number of files."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fastrdm.networks import Taps, check_file, is_onnx
from fastrdm.runtimes.architectures import Architecture, import_arch
from fastrdm.runtimes.onnx_model import OnnxModel

T = TypeVar("T")


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
        If weights are given without `arch`, or taps for an exported architecture; otherwise as for `import_arch`, `Architecture.export` and `OnnxModel`.
    """
    if is_onnx(path):
        return OnnxModel(path, taps=taps, **options)
    if arch is None:
        raise ValueError(
            f"{path}: weights need arch, the module:callable that builds their network or its exported .onnx file"
        )
    # Before an export, which takes seconds.
    check_file(path)
    return architecture_of(arch, taps)().open(path, **options)


def one_for_each(arch: Sequence[T], n: int) -> Sequence[T | None]:
    """Return the architecture of each of n checkpoints.

    Parameters
    ----------
    arch : sequence
        One for all, one for each, or none.
    n : int

    Returns
    -------
    sequence
        None for each if `arch` is empty.

    Raises
    ------
    ValueError
        If the numbers do not match.
    """
    if len(arch) not in (0, 1, n):
        raise ValueError(
            f"{len(arch)} architectures for {n} checkpoints; pass one for all, or one for each"
        )
    return list(arch) if len(arch) == n else [arch[0] if arch else None] * n


def architecture_of(
    arch: str | Path | Architecture, taps: Taps | None
) -> Callable[[], Architecture]:
    """Return a function that exports an architecture at its first call; that it exists is checked immediately."""
    if isinstance(arch, str) and not is_onnx(arch):
        import_arch(arch)
        return _once(partial(Architecture.export, arch, taps))
    exported = arch if isinstance(arch, Architecture) else Architecture.read(arch)
    if taps is not None:
        raise ValueError(
            f"the architecture {exported.name} already has layers; remove the taps"
        )
    return lambda: exported


def _once(make: Callable[[], T]) -> Callable[[], T]:
    """Return a function that calls `make` once, and returns its value or raises its error each time."""
    outcome: Future[T] = Future()

    def call() -> T:
        if not outcome.done():
            try:
                outcome.set_result(make())
            except Exception as error:
                outcome.set_exception(error)
        return outcome.result()

    return call
