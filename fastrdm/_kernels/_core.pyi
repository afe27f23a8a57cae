"""The compiled kernels. All check shapes and types, and release the GIL; `cpp/kernels.hpp` says what they compute."""

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32] | NDArray[np.float64]
_Doubles = NDArray[np.float64]
_Counts = NDArray[np.int32]

def gram(
    x: _Floats,
    shift: _Doubles,
    share: int,
    add: bool,
    out: _Doubles,
    sums: _Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def cross(
    a: _Floats,
    b: _Floats,
    shift_a: _Doubles,
    shift_b: _Doubles,
    share: int,
    add: bool,
    out: _Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def differences(
    a: _Floats,
    b: _Floats,
    shift_a: _Doubles,
    shift_b: _Doubles,
    factor_a: _Doubles,
    factor_b: _Doubles,
    pairs: NDArray[np.int32],
    out: _Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def guess_means(x: _Floats, means: _Doubles) -> None: ...
@overload
def distinct(x: NDArray[np.float32], out: NDArray[np.float32]) -> int: ...
@overload
def distinct(x: _Doubles, out: _Doubles) -> int: ...

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
    product: _Doubles,
    condensed: bool,
    norms_a: _Doubles,
    norms_b: _Doubles,
    sums_a: _Doubles | None,
    sums_b: _Doubles | None,
    n: float,
    near: float,
    out: _Doubles,
) -> int: ...
def distances(
    product: _Doubles,
    condensed: bool,
    norms_a: _Doubles,
    norms_b: _Doubles,
    near: float,
    out: _Doubles,
) -> int: ...
def similarities(
    a: _Doubles,
    squares_a: _Doubles,
    b: _Doubles,
    squares_b: _Doubles,
    paired: bool,
    out: _Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def rank_similarities(
    a: _Floats,
    squares: float,
    b: NDArray[np.float32],
    squares_b: _Doubles,
    paired: bool,
    out: _Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def centred_ranks(
    x: _Floats, out: NDArray[np.float32], squares: _Doubles, n_threads: int
) -> None: ...
def rank(x: _Doubles, out: _Doubles, n_threads: int) -> None: ...
def merge_near(values: _Doubles, within: float, n_threads: int) -> None: ...
def concordance(
    a: _Doubles,
    b: _Doubles,
    out: NDArray[np.int64],
    untied_a: NDArray[np.int64],
    untied_b: NDArray[np.int64],
    n_threads: int,
    isa: str,
) -> None: ...
def resampled_similarities(
    a: _Doubles,
    b: _Doubles,
    counts: _Counts,
    paired: bool,
    untied: bool,
    out: _Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def resampled_ceilings(
    subjects: _Doubles,
    condition_counts: _Counts | None,
    subject_counts: _Counts | None,
    conditions: int,
    ranked: bool,
    untied: bool,
    within: float,
    out: _Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def permuted_similarities(
    a: _Floats,
    squares_a: _Doubles,
    permutations: NDArray[np.int32],
    b: _Floats,
    squares_b: _Doubles,
    out: _Doubles,
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
    shift: _Doubles,
    scale: float,
    out: NDArray[np.float32],
    sums: _Doubles,
    n_threads: int,
) -> None: ...
def isas() -> list[str]: ...
def searchlight(
    x: _Floats,
    channels: NDArray[np.int64],
    channel_starts: NDArray[np.int64],
    n_samples: int,
    samples: NDArray[np.int64],
    sample_starts: NDArray[np.int64],
    method: int,
    whole: bool,
    row_shift: _Doubles | None,
    out: _Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
def sliding_searchlight(
    x: _Floats,
    channels: NDArray[np.int64],
    channel_starts: NDArray[np.int64],
    n_samples: int,
    starts: NDArray[np.int64],
    width: int,
    origin: int,
    method: int,
    whole: bool,
    row_shift: _Doubles | None,
    out: _Doubles,
    n_threads: int,
    isa: str,
) -> None: ...
