"""Kernels on rows of dissimilarities: they allocate their results and call the kernels in use."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.dispatch import active
from fastrdm._kernels.ties import FLOAT64

Doubles = NDArray[np.float64]

# Prepared rows are a multiple of this long: whole registers of every instruction set, and numba's lanes.
_ROW_LENGTH = 32


@dataclass(frozen=True)
class Prepared:
    """Rows ready to be multiplied: values (n, padded) with zeros at the end, and their sums of squares (n,)."""

    values: NDArray[Any]
    squares: Doubles


def padded(n_columns: int) -> int:
    """Return the length of prepared rows."""
    length = -(-n_columns // _ROW_LENGTH) * _ROW_LENGTH
    # Rows at multiples of 4 KiB would collide in the cache sets.
    return length + _ROW_LENGTH * (length % 1024 == 0)


def rank(x: Doubles, n_threads: int | None = None) -> Doubles:
    """Return average ranks, from 1, within each row."""
    chosen = active()
    out = np.empty_like(x)
    chosen.module.rank(x, out, chosen.threads(n_threads))
    return out


def centred_ranks(x: NDArray[Any], n_threads: int | None = None) -> Prepared:
    """Return twice the centred average ranks of each row, in float32; zeros with NaN as square for a non-finite row."""
    chosen = active()
    values = np.empty((len(x), padded(x.shape[1])), np.float32)
    squares = np.empty(len(x))
    chosen.module.centred_ranks(x, values, squares, chosen.threads(n_threads))
    return Prepared(values, squares)


def merge_near(values: Doubles, within: float, n_threads: int | None = None) -> None:
    """Make values of each row equal that differ by rounding, in place; as `ties.settle`, for long rows."""
    chosen = active()
    chosen.module.merge_near(values, within, chosen.threads(n_threads))


def rank_similarities(
    x: NDArray[Any],
    prepared: Prepared,
    squares: float | None = None,
    *,
    paired: bool = False,
    n_threads: int | None = None,
) -> Doubles:
    """Return products (n, n_prepared) of centred ranks of rows with prepared rows, over the roots of both squares.

    `squares` replaces the squares of the rows. `paired`: (n, 1), of row i with row i. NaN for a row that is not finite,
    or whose square is 0.
    """
    out = np.empty((len(x), 1 if paired else len(prepared.values)))
    others = prepared.values, prepared.squares
    active().run("rank_similarities", n_threads, x, squares or 0.0, *others, paired, out)
    return out


def similarities(
    a: Prepared, b: Prepared, *, paired: bool = False, n_threads: int | None = None
) -> Doubles:
    """Return products (n_a, n_b) of float64 rows over the roots of both squares; `paired`: (n, 1), of rows i."""
    out = np.empty((len(a.values), 1 if paired else len(b.values)))
    rows = a.values, a.squares, b.values, b.squares
    active().run("similarities", n_threads, *rows, paired, out)
    return out


def concordance(
    a: Doubles, b: Doubles, n_threads: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return concordant minus discordant pairs (n_a, n_b) of all rows of ranks, and the untied pairs of every row."""
    out = np.empty((len(a), len(b)), np.int64)
    untied_a, untied_b = np.empty(len(a), np.int64), np.empty(len(b), np.int64)
    active().run("concordance", n_threads, a, b, out, untied_a, untied_b)
    return out, untied_a, untied_b


def resampled_similarities(
    a: Doubles,
    b: Doubles,
    counts: NDArray[np.int32],
    *,
    paired: bool = False,
    untied: bool = False,
    n_threads: int | None = None,
) -> Doubles:
    """Return Spearman's coefficients (draws, n_a, n_b) of condensed RDMs with resampled conditions.

    Each condition occurs `counts` (draws, conditions) times. Pairs of a condition with itself are omitted. `paired`:
    (draws, n, 1), of row i with row i. `untied`: rho-a. NaN if an RDM has no two different entries. The number of
    threads changes no bit.
    """
    out = np.empty((len(counts), len(a), 1 if paired else len(b)))
    active().run("resampled_similarities", n_threads, a, b, counts, paired, untied, out)
    return out


def resampled_ceilings(
    subjects: Doubles,
    conditions: int,
    condition_counts: NDArray[np.int32] | None,
    subject_counts: NDArray[np.int32] | None,
    *,
    ranked: bool,
    untied: bool = False,
    within: float = FLOAT64,
    n_threads: int | None = None,
) -> Doubles:
    """Return similarities (draws, 2, subjects) of subjects to the pool of the drawn subjects, without and with each.

    As `resampled_similarities`, with subjects `subject_counts` (draws, subjects) times; None for once each. NaN for a
    subject that is not drawn; a subject who is alone stays in the pool. Pools are means of ranks if `ranked`, else of
    the numbers, which tie if they differ by no more than `within` of the larger (`fastrdm._kernels.ties`).
    """
    counts = condition_counts if condition_counts is not None else subject_counts
    out = np.empty((1 if counts is None else len(counts), 2, len(subjects)))
    data = subjects, condition_counts, subject_counts, conditions
    active().run("resampled_ceilings", n_threads, *data, ranked, untied, within, out)
    return out


def permuted_similarities(
    matrices: NDArray[Any],
    squares: Doubles,
    permutations: NDArray[np.int32],
    prepared: Prepared,
    n_threads: int | None = None,
) -> Doubles:
    """Return similarities (permutations, n, n_prepared) of prepared rows with others whose conditions are permuted.

    `matrices` (n, conditions, conditions) hold the `Prepared.values` of their rows, `squares` their sums of squares.
    """
    out = np.empty((len(permutations), len(matrices), len(prepared.values)))
    rows = matrices, squares, permutations, prepared.values, prepared.squares
    active().run("permuted_similarities", n_threads, *rows, out)
    return out
