"""Weight files → models that run: an architecture exported once, its weights from any number of files."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastrdm.networks import Probes, Taps, check_file, check_unchanged, hash_file, is_onnx
from fastrdm.runtimes.architectures import Architecture, Checkpoint, import_arch
from fastrdm.runtimes.extraction import Workspace
from fastrdm.runtimes.onnx_model import OnnxModel

if TYPE_CHECKING:
    pass

T = TypeVar("T")

_NO_ARCH = "{}: weights need arch, the module:callable that builds their network or its exported .onnx file"


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
        raise ValueError(_NO_ARCH.format(path))
    # An export takes seconds; whether there is a file is known before.
    check_file(path)
    return architecture_of(arch, taps)().open(path, **options)


def open_checkpoints(
    paths: Sequence[str | Path],
    arch: str | Path | Architecture | Sequence[str | Path | Architecture] = (),
    taps: Taps | None = None,
    *,
    ahead: int = 1,
    **options: Any,
) -> "Generator[Future[Checkpoint], None, None]":
    """Open checkpoints one after the other, the next ones while the caller works on the current one.

    Each distinct architecture is exported once, on the caller's thread, when the first file of its
    weights is about to be opened.

    Parameters
    ----------
    paths : sequence of path
        As for `open_checkpoint`.
    arch : str, path, Architecture or sequence of them
        One for all, or one for each path; none where all paths are `.onnx` files.
    taps
        As for `open_checkpoint`.
    ahead : int
        Checkpoints opened in advance, beside the caller's.
    **options
        As for `OnnxModel`.

    Yields
    ------
    concurrent.futures.Future of Checkpoint
        One a path, in order. Its `result()` waits, and raises what `open_checkpoint` does; an error
        of one path does not stop the others.

    Raises
    ------
    ValueError, FileNotFoundError
        Before work starts: if there is neither one architecture nor one for each path, or one cannot
        be found, or taps are given for one that has its own.
    """
    given = [arch] if isinstance(arch, str | Path | Architecture) else list(arch)
    of_each = one_for_each(given, len(paths))
    makers = {each: architecture_of(each, taps) for each in dict.fromkeys(given)}
    own = [None if each is None else makers[each] for each in of_each]
    # Memory touched once: a ResNet-20's RDMs of 48 images took 1.2 s in new memory, 0.9 s in this.
    options = {"workspace": Workspace(), "probes": Probes()} | options
    return in_background(_jobs([str(path) for path in paths], own, taps, options), ahead)


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


def in_background(
    jobs: Iterable[Callable[[], T]], ahead: int = 1
) -> "Generator[Future[T], None, None]":
    """Do jobs one after the other on a thread of their own, a number of them ahead of the caller.

    Parameters
    ----------
    jobs : iterable of callable
        Iterated on the caller's thread.
    ahead : int
        How many are done, or in work, beyond the one that the caller was given last.

    Yields
    ------
    concurrent.futures.Future
        One a job, in order. When the iterator is closed, what has not begun is left, and the thread
        is gone.
    """
    pool = ThreadPoolExecutor(1, "fastrdm-ahead")
    try:
        waiting: deque[Future[T]] = deque()
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


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


def _jobs(
    paths: Sequence[str],
    architectures: Sequence[Callable[[], Architecture] | None],
    taps: Taps | None,
    options: Mapping[str, Any],
) -> Iterator[Callable[[], Checkpoint]]:
    for path, architecture in zip(paths, architectures, strict=True):
        if architecture is not None and _is_weights(path):
            # Here, on the caller's thread: an export redirects what the process prints. What it
            # raises is for the checkpoint to tell.
            with contextlib.suppress(Exception):
                architecture()
        yield partial(_open, path, architecture, taps, options)


def _is_weights(path: str) -> bool:
    return not is_onnx(path) and Path(path).is_file()


def _open(
    path: str,
    architecture: Callable[[], Architecture] | None,
    taps: Taps | None,
    options: Mapping[str, Any],
) -> Checkpoint:
    with check_unchanged(path):
        sha256 = hash_file(path)
        if is_onnx(path):
            model = OnnxModel(path, taps=taps, **options)
        elif architecture is None:
            raise ValueError(_NO_ARCH.format(path))
        else:
            model = architecture().open(path, **options)
    return Checkpoint(path, model, sha256)
