from typing import overload

import numpy as np
from numpy.typing import NDArray

@overload
def gram(
    x: NDArray[np.float32],
    shift: NDArray[np.float64],
    centre_columns: bool,
    out: NDArray[np.float64],
    sums: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None: ...
@overload
def gram(
    x: NDArray[np.float64],
    shift: NDArray[np.float64],
    centre_columns: bool,
    out: NDArray[np.float64],
    sums: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None: ...
def gram_float16(
    x: NDArray[np.uint16],
    shift: NDArray[np.float64],
    centre_columns: bool,
    out: NDArray[np.float64],
    sums: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None: ...
def gram_bfloat16(
    x: NDArray[np.uint16],
    shift: NDArray[np.float64],
    centre_columns: bool,
    out: NDArray[np.float64],
    sums: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None: ...
@overload
def guess_means(x: NDArray[np.float32], means: NDArray[np.float64]) -> None: ...
@overload
def guess_means(x: NDArray[np.float64], means: NDArray[np.float64]) -> None: ...
def guess_means_float16(x: NDArray[np.uint16], means: NDArray[np.float64]) -> None: ...
def guess_means_bfloat16(x: NDArray[np.uint16], means: NDArray[np.float64]) -> None: ...
def condense_angles(gram: NDArray[np.float64], out: NDArray[np.float64]) -> None: ...
def condense_distances(gram: NDArray[np.float64], out: NDArray[np.float64]) -> None: ...
@overload
def cross(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    shift_a: NDArray[np.float64],
    shift_b: NDArray[np.float64],
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None: ...
@overload
def cross(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    shift_a: NDArray[np.float64],
    shift_b: NDArray[np.float64],
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None: ...
def similarities(
    a: NDArray[np.float64],
    squares_a: NDArray[np.float64],
    b: NDArray[np.float64],
    squares_b: NDArray[np.float64],
    paired: bool,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None: ...
def rank_similarities(
    a: NDArray[np.float32] | NDArray[np.float64],
    squares: float,
    b: NDArray[np.float32],
    squares_b: NDArray[np.float64],
    paired: bool,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None: ...
def centred_ranks(
    x: NDArray[np.float32] | NDArray[np.float64],
    out: NDArray[np.float32],
    squares: NDArray[np.float64],
    n_threads: int,
) -> None: ...
def rank(x: NDArray[np.float64], out: NDArray[np.float64], n_threads: int) -> None: ...
def concordance(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    out: NDArray[np.int64],
    untied_a: NDArray[np.int64],
    untied_b: NDArray[np.int64],
    n_threads: int,
    isa: str,
) -> None: ...
def resampled_similarities(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    counts: NDArray[np.int32],
    paired: bool,
    untied: bool,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None: ...
def resampled_ceilings(
    subjects: NDArray[np.float64],
    condition_counts: NDArray[np.int32] | None,
    subject_counts: NDArray[np.int32] | None,
    conditions: int,
    ranked: bool,
    untied: bool,
    within: float,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None: ...
def permuted_similarities(
    a: NDArray[np.float32] | NDArray[np.float64],
    squares_a: NDArray[np.float64],
    permutations: NDArray[np.int32],
    b: NDArray[np.float32] | NDArray[np.float64],
    squares_b: NDArray[np.float64],
    out: NDArray[np.float64],
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
    shift: NDArray[np.float64],
    scale: float,
    out: NDArray[np.float32],
    sums: NDArray[np.float64],
    n_threads: int,
) -> None: ...
def isas() -> list[str]: ...
