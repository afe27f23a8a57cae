"""Layers of a stack computed side by side, or in turn on all threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastrdm import _kernels
from fastrdm.rdm.sources import AnyMember, TensorMember

# Members of a stack within these limits are computed side by side, one thread each: below this number of entries,
# Python's overhead outweighs the kernels; above this number of multiplications, threads share one member better than
# they share several. 24 layers of 118 × 5000 take 20 ms instead of 30 ms on two threads, ranked RDMs of 118 × 500 18 ms
# instead of 35.
_MIN_ENTRIES, _MAX_MULTIPLICATIONS = 1e5, 1e9

Result = TypeVar("Result")


def each_of(
    compute: Callable[[int, int], Result],
    members: Sequence[AnyMember],
    in_turn: bool,
    n_threads: int | None,
) -> list[Result]:
    """Call `compute` with the index of each member and its threads: large ones in turn, the others side by side.

    Members on a device are computed in turn by the calling thread, whose stream they were made on.
    """
    info = _kernels.kernels()
    threads = n_threads or info.n_threads
    # numba's threads end the process if two calls overlap.
    in_turn = in_turn or threads == 1 or len(members) == 1 or info.name == "numba"
    shapes = [member.shape for member in members]
    small = [
        k
        for k, (n, n_channels) in enumerate(shapes)
        if not (in_turn or isinstance(members[k], TensorMember))
        and _MIN_ENTRIES <= n * n_channels <= _MAX_MULTIPLICATIONS / n
    ]
    small.sort(key=lambda k: -shapes[k][0] * shapes[k][1])
    results = {k: compute(k, threads) for k in range(len(members)) if k not in small}
    if small:
        with ThreadPoolExecutor(min(threads, len(small))) as pool:
            results.update(zip(small, pool.map(lambda k: compute(k, 1), small), strict=True))
    return [results[k] for k in range(len(members))]
