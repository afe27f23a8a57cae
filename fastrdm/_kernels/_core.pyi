"""The compiled kernels. All check shapes and types, and release the GIL; `cpp/kernels.hpp` says what they compute."""

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]
Counts = NDArray[np.int32]

def gram(
    x: Floats,
    shift: Doubles,
    share: int,
    add: bool,
    out: Doubles,
    sums: Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def cross(
    a: Floats,
    b: Floats,
    shift_a: Doubles,
    shift_b: Doubles,
    share: int,
    add: bool,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def differences(
    a: Floats,
    b: Floats,
    shift_a: Doubles,
    shift_b: Doubles,
    factor_a: Doubles,
    factor_b: Doubles,
    pairs: NDArray[np.int32],
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def guess_means(x: Floats, means: Doubles) -> None: ...
@overload
def distinct(x: NDArray[np.float32], out: NDArray[np.float32]) -> int: ...
@overload
def distinct(x: Doubles, out: Doubles) -> int: ...

# The same for 16-bit floats, as their bits in NDArray[np.uint16].
gram_float16: Any
gram_bfloat16: Any
cross_float16: Any
cross_bfloat16: Any
differences_float16: Any
differences_bfloat16: Any
guess_means_float16: Any
guess_means_bfloat16: Any
distinct_float16: Any
distinct_bfloat16: Any

def share(cols: int, size: int, isa: str) -> int: ...
def angles(
    product: Doubles,
    condensed: bool,
    norms_a: Doubles,
    norms_b: Doubles,
    sums_a: Doubles | None,
    sums_b: Doubles | None,
    n: float,
    near: float,
    out: Doubles,
) -> int: ...
def distances(
    product: Doubles,
    condensed: bool,
    norms_a: Doubles,
    norms_b: Doubles,
    near: float,
    out: Doubles,
) -> int: ...
def similarities(
    a: Doubles,
    squares_a: Doubles,
    b: Doubles,
    squares_b: Doubles,
    paired: bool,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def rank_similarities(
    a: Floats,
    squares: float,
    b: NDArray[np.float32],
    squares_b: Doubles,
    paired: bool,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def centred_ranks(
    x: Floats, out: NDArray[np.float32], squares: Doubles, n_threads: int
) -> None: ...
def rank(x: Doubles, out: Doubles, n_threads: int) -> None: ...
def merge_near(values: Doubles, within: float, n_threads: int) -> None: ...
def concordance(
    a: Doubles,
    b: Doubles,
    out: NDArray[np.int64],
    untied_a: NDArray[np.int64],
    untied_b: NDArray[np.int64],
    n_threads: int,
    isa: str,
) -> None: ...
def resampled_similarities(
    a: Doubles,
    b: Doubles,
    counts: Counts,
    paired: bool,
    untied: bool,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def resampled_ceilings(
    subjects: Doubles,
    condition_counts: Counts | None,
    subject_counts: Counts | None,
    conditions: int,
    ranked: bool,
    untied: bool,
    within: float,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def permuted_similarities(
    a: Floats,
    squares_a: Doubles,
    permutations: NDArray[np.int32],
    b: Floats,
    squares_b: Doubles,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def normalise(
    pixels: NDArray[np.uint8],
    table: NDArray[np.float32],
    channels: tuple[int, int, int],
    out: NDArray[np.float32],
    n_threads: int,
) -> None: ...
def project(
    x: NDArray[np.float32],
    entries: NDArray[np.uint32],
    shift: Doubles,
    scale: float,
    out: NDArray[np.float32],
    sums: Doubles,
    n_threads: int,
) -> None: ...
def isas() -> list[str]: ...
