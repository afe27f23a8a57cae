"""Weight files → models that run: an architecture exported once, its weights from any number of files."""

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
    """Make a checkpoint ready to run, whatever kind of file it is.

    Parameters
    ----------
    path : path
        An `.onnx` file, from `export_onnx` or any other source, or weights as for `read_weights`.
    arch : str, path or Architecture, optional
        What the weights are for: "module:callable" as for `import_arch`, an `.onnx` file from
        `export_onnx` with any weights, or either in memory. An `.onnx` file at `path` needs none.
    taps : mapping or sequence, optional
        As for `export_onnx`; for an `.onnx` file at `path`, as for `OnnxModel`. An `.onnx` file as
        `arch` has its own.
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
        If weights are given without `arch`, or taps for an architecture that has its own; otherwise
        as for `import_arch`, `Architecture.export` and `OnnxModel`.
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
    """The architecture of each of n checkpoints.

    Parameters
    ----------
    arch : sequence
        One for all, one for each, or none.
    n : int

    Returns
    -------
    sequence
        None for each where there are none.

    Raises
    ------
    ValueError
        If the numbers do not match.
    """
    if len(arch) not in (0, 1, n):
        raise ValueError(
            f"{len(arch)} architectures for {n} checkpoints: give one for all, or one for each"
        )
    return list(arch) if len(arch) == n else [arch[0] if arch else None] * n


def architecture_of(
    arch: str | Path | Architecture, taps: Taps | None
) -> Callable[[], Architecture]:
    """What gives an architecture, the same at each call; that it can be found is checked at once."""
    if isinstance(arch, str) and not is_onnx(arch):
        import_arch(arch)
        return _once(partial(Architecture.export, arch, taps))
    found = arch if isinstance(arch, Architecture) else Architecture.read(arch)
    if taps is not None:
        raise ValueError(
            f"the architecture {found.name} has layers of its own; taps are for networks"
        )
    return lambda: found


def _once(make: Callable[[], T]) -> Callable[[], T]:
    """Call once, and give each caller what came of it: a value, or the error."""
    made: Future[T] = Future()

    def give() -> T:
        if not made.done():
            try:
                made.set_result(make())
            except Exception as error:
                made.set_exception(error)
        return made.result()

    return give
