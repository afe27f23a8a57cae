"""The one place that chooses between the compiled kernels and their numba twin, and calls them."""

import functools
import importlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.ties import FLOAT64

_MODULES = {"cpp": "fastrdm._kernels._core", "numba": "fastrdm._kernels.numba"}


@dataclass(frozen=True)
class KernelInfo:
    """Which kernels are in force.

    Attributes
    ----------
    name : str
        ``"cpp"`` or ``"numba"``.
    isa : str
        Instruction set in force: ``"avx512"``, ``"avx2"``, ``"neon"`` or ``"portable"``; ``"native"`` for numba.
    available_isas : tuple of str
        Those this installation and this processor have, the fastest first.
    n_threads : int
        Threads used where the caller does not say.
    forced : bool
        Whether ``FASTRDM_KERNELS`` or ``FASTRDM_ISA`` made the choice.
    """

    name: str
    isa: str
    available_isas: tuple[str, ...]
    n_threads: int
    forced: bool


@dataclass(frozen=True)
class _Kernels:
    module: Any
    info: KernelInfo


def _choose_module(wanted: str) -> tuple[str, ModuleType]:
    if wanted and wanted not in _MODULES:
        raise ImportError(f"FASTRDM_KERNELS={wanted} is not one of: {', '.join(_MODULES)}")
    try:
        name = wanted or "cpp"
        return name, importlib.import_module(_MODULES[name])
    except ImportError as error:
        if wanted:
            raise ImportError(
                f"FASTRDM_KERNELS={wanted} cannot be had: {error}; without the variable the other kernels serve"
            ) from error
        warnings.warn(
            f"the compiled kernels are not here ({error}), so the slower numba ones serve; reinstall fastrdm where a"
            " C++17 compiler is present, or set FASTRDM_KERNELS=numba to say that this is meant",
            RuntimeWarning,
            stacklevel=2,
        )
        return "numba", importlib.import_module(_MODULES["numba"])


@functools.cache
def active() -> _Kernels:
    """The kernels in force, chosen at the first call of the process."""
    wanted_kernels, wanted_isa = (os.environ.get(v, "") for v in ("FASTRDM_KERNELS", "FASTRDM_ISA"))
    name, module = _choose_module(wanted_kernels)
    isas = tuple(module.isas())
    if wanted_isa and wanted_isa not in isas:
        raise ImportError(
            f"FASTRDM_ISA={wanted_isa} is not one that the {name} kernels have here: {', '.join(isas)}"
        )
    info = KernelInfo(
        name, wanted_isa or isas[0], isas, _n_processors(), bool(wanted_kernels or wanted_isa)
    )
    return _Kernels(module, info)


def kernels() -> KernelInfo:
    """Say which kernels are in force.

    ``FASTRDM_KERNELS=cpp|numba`` and ``FASTRDM_ISA=avx512|avx2|neon|portable``, read at the first use in a process,
    force a choice.

    Returns
    -------
    KernelInfo
        Name, instruction set, what else there is, number of threads.

    Raises
    ------
    ImportError
        If the forced choice cannot be had; there is no silent fallback.
    """
    return active().info


def _n_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_WHOLE = (np.dtype(np.float32), np.dtype(np.float64))
# Go to the kernels as their bits.
_HALVES = ("float16", "bfloat16")


def reads(dtype: np.dtype[Any]) -> bool:
    """Whether `gram`, `cross`, `differences`, `guess_means` and `distinct` take rows of this type as they are."""
    return dtype in _WHOLE or dtype.name in _HALVES


def share(n_columns: int, itemsize: int) -> int:
    """Columns that are added up apart, of so many in a type of this size.

    Rows that are given some columns at a time have the same products, to the bit, if all parts but the last are so
    wide.
    """
    chosen = active()
    width: int = chosen.module.share(n_columns, itemsize, chosen.info.isa)
    return width


def gram(
    x: NDArray[Any],
    shift: NDArray[np.float64] | None = None,
    *,
    share: int | None = None,
    add_to: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    n_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Symmetric product (n, n) of the rows, less their shift, and the rows' sums (n,), or both added to others.

    The product of two rows depends on them alone: no other row, no place and no number of threads changes a bit.
    """
    chosen = active()
    n = len(x)
    out, sums = (np.empty((n, n)), np.empty(n)) if add_to is None else add_to
    (kernel, (x,)), size = _for_type("gram", x), max(x.itemsize, 4)
    kernel(
        x,
        np.zeros(n) if shift is None else shift,
        share or chosen.module.share(x.shape[1], size, chosen.info.isa),
        add_to is not None,
        out,
        sums,
        n_threads or chosen.info.n_threads,
        chosen.info.isa,
    )
    return out, sums


def cross(
    a: NDArray[Any],
    b: NDArray[Any],
    n_threads: int | None = None,
    *,
    shift_a: NDArray[np.float64] | None = None,
    shift_b: NDArray[np.float64] | None = None,
    share: int | None = None,
    add_to: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Products (n_a, n_b) of all rows of `a` with all rows of `b`, less their shifts; to the bit those of `gram`."""
    chosen = active()
    out = np.empty((len(a), len(b))) if add_to is None else add_to
    (kernel, (a, b)), size = _for_type("cross", a, b), max(a.itemsize, 4)
    kernel(
        a,
        b,
        np.zeros(len(a)) if shift_a is None else shift_a,
        np.zeros(len(b)) if shift_b is None else shift_b,
        share or chosen.module.share(a.shape[1], size, chosen.info.isa),
        add_to is not None,
        out,
        n_threads or chosen.info.n_threads,
        chosen.info.isa,
    )
    return out


def differences(
    a: NDArray[Any],
    b: NDArray[Any],
    pairs: NDArray[np.int32],
    out: NDArray[np.float64],
    n_threads: int | None = None,
    *,
    shifts: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    factors: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> None:
    """Add the squared distance of row `pairs[p, 0]` of `a` and `pairs[p, 1]` of `b` to `out[p]`.

    Rows are read less their shift, times their factor. Exactly 0 for equal rows; their order changes no bit.
    """
    chosen = active()
    kernel, (a, b) = _for_type("differences", a, b)
    shift_a, shift_b = shifts or (np.zeros(len(a)), np.zeros(len(b)))
    factor_a, factor_b = factors or (np.ones(len(a)), np.ones(len(b)))
    kernel(
        a,
        b,
        shift_a,
        shift_b,
        factor_a,
        factor_b,
        pairs,
        out,
        n_threads or chosen.info.n_threads,
        chosen.info.isa,
    )


def guess_means(x: NDArray[Any]) -> NDArray[np.float64]:
    """Means (n,) of the rows or, of long ones, of 16 stretches of them."""
    kernel, (x,) = _for_type("guess_means", x)
    means = np.empty(len(x))
    kernel(x, means)
    return means


def distinct(x: NDArray[Any], limit: int) -> NDArray[Any] | None:
    """The different numbers in all rows, in no order; None where there are `limit` or more. NaN and −0 go by bits."""
    out = np.empty(limit, np.float64 if x.itemsize == 8 else np.float32)
    kernel, (x,) = _for_type("distinct", x)
    found = kernel(x, out)
    return out[:found] if found < limit else None


def _for_type(kernel: str, *rows: NDArray[Any]) -> tuple[Callable[..., Any], list[NDArray[Any]]]:
    # A type's name takes NumPy some microseconds to make.
    if rows[0].itemsize > 2:
        return getattr(active().module, kernel), list(rows)
    name = f"{kernel}_{rows[0].dtype.name}"
    return getattr(active().module, name), [x.view(np.uint16) for x in rows]


def angles(
    product: NDArray[np.float64],
    norms: tuple[NDArray[np.float64], NDArray[np.float64]],
    sums: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    n: int = 1,
    *,
    near: float = 0.0,
    condensed: bool = False,
) -> tuple[NDArray[np.float64], int]:
    """1 − cosine of rows and columns with these products, flat, or `condensed` of what is above the diagonal.

    With `sums`, `n` times the product less the products of the sums takes the place of the product; norms are the
    same of each with itself, NaN for one that has no angles. Values below `near` have their sign bit set; their number
    comes second.
    """
    out = np.empty(_n_results(product, condensed))
    given = (None, None) if sums is None else sums
    return out, active().module.angles(product, condensed, *norms, *given, float(n), near, out)


def distances(
    product: NDArray[np.float64],
    norms: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    near: float = 0.0,
    condensed: bool = False,
) -> tuple[NDArray[np.float64], int]:
    """Squared distances of rows and columns with these products, flat, or `condensed`.

    Those below `near` times the sum of both norms have their sign bit set; their number comes second.
    """
    out = np.empty(_n_results(product, condensed))
    return out, active().module.distances(product, condensed, *norms, near, out)


def _n_results(product: NDArray[np.float64], condensed: bool) -> int:
    n = len(product)
    return n * (n - 1) // 2 if condensed else product.size


def rank(x: NDArray[np.float64], n_threads: int | None = None) -> NDArray[np.float64]:
    """Average ranks, from 1, within each row."""
    chosen = active()
    out = np.empty_like(x)
    chosen.module.rank(x, out, n_threads or chosen.info.n_threads)
    return out


@dataclass(frozen=True)
class Prepared:
    """Rows ready to be multiplied: values (n, padded) with zeros at the end, and their sums of squares (n,)."""

    values: NDArray[Any]
    squares: NDArray[np.float64]


# Prepared rows are a multiple of this long: whole registers of every instruction set, and numba's lanes.
_ROW_LENGTH = 32


def padded(n_columns: int) -> int:
    """Length of prepared rows."""
    length = -(-n_columns // _ROW_LENGTH) * _ROW_LENGTH
    # Rows that lie multiples of 4 KiB apart would collide in the cache sets.
    return length + _ROW_LENGTH * (length % 1024 == 0)


def centred_ranks(x: NDArray[Any], n_threads: int | None = None) -> Prepared:
    """Twice the centred average ranks of each row, in float32; zeros, and NaN as their square, of one not finite."""
    chosen = active()
    values = np.empty((len(x), padded(x.shape[1])), np.float32)
    squares = np.empty(len(x))
    chosen.module.centred_ranks(x, values, squares, n_threads or chosen.info.n_threads)
    return Prepared(values, squares)


def rank_similarities(
    x: NDArray[Any],
    prepared: Prepared,
    squares: float | None = None,
    *,
    paired: bool = False,
    n_threads: int | None = None,
) -> NDArray[np.float64]:
    """Products (n, n_prepared), over the roots of both squares, of the centred ranks of rows with prepared ones.

    Squares of the rows are their own unless they are given. `paired`: (n, 1), of row i with row i. NaN for a row that
    is not finite, or has no square.
    """
    chosen = active()
    out = np.empty((len(x), 1 if paired else len(prepared.values)))
    chosen.module.rank_similarities(
        x,
        squares or 0.0,
        prepared.values,
        prepared.squares,
        paired,
        out,
        n_threads or chosen.info.n_threads,
        chosen.info.isa,
    )
    return out


def similarities(
    a: Prepared, b: Prepared, *, paired: bool = False, n_threads: int | None = None
) -> NDArray[np.float64]:
    """Products (n_a, n_b) of float64 rows over the roots of both squares; `paired`: (n, 1), of row i with row i."""
    chosen = active()
    out = np.empty((len(a.values), 1 if paired else len(b.values)))
    chosen.module.similarities(
        a.values,
        a.squares,
        b.values,
        b.squares,
        paired,
        out,
        n_threads or chosen.info.n_threads,
        chosen.info.isa,
    )
    return out


# Channels of a block of signs.
SIGN_BLOCK = 256


def project(
    x: NDArray[np.float32],
    entries: NDArray[np.uint32],
    shift: NDArray[np.float64],
    scale: float,
    out: NDArray[np.float32],
    n_threads: int | None = None,
) -> NDArray[np.float64]:
    """Put `scale` times the rows, less their shift, times a sparse matrix of signs into `out` (n, components).

    Gives the rows' sums (n,). A block of SIGN_BLOCK channels has a row of `entries`: component * 2 * SIGN_BLOCK +
    2 * channel within the block + 1 where the sign is negative. Neither the other rows nor the number of threads
    changes a bit.
    """
    chosen = active()
    sums = np.empty(len(x))
    chosen.module.project(x, entries, shift, scale, out, sums, n_threads or chosen.info.n_threads)
    return sums


def concordance(
    a: NDArray[np.float64], b: NDArray[np.float64], n_threads: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Concordant less discordant pairs (n_a, n_b) of all rows of ranks, and the untied pairs of every row."""
    chosen = active()
    out = np.empty((len(a), len(b)), np.int64)
    untied_a, untied_b = np.empty(len(a), np.int64), np.empty(len(b), np.int64)
    chosen.module.concordance(
        a, b, out, untied_a, untied_b, n_threads or chosen.info.n_threads, chosen.info.isa
    )
    return out, untied_a, untied_b


def resampled_similarities(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    counts: NDArray[np.int32],
    *,
    paired: bool = False,
    untied: bool = False,
    n_threads: int | None = None,
) -> NDArray[np.float64]:
    """Spearman's coefficients (draws, n_a, n_b) of condensed RDMs whose conditions are resampled.

    Each is there `counts` (draws, conditions) times. Pairs of a condition with itself are left out. `paired`: (draws,
    n, 1), of row i with row i. `untied`: rho-a. NaN where an RDM has no two different entries. The number of threads
    changes no bit.
    """
    chosen = active()
    out = np.empty((len(counts), len(a), 1 if paired else len(b)))
    chosen.module.resampled_similarities(
        a, b, counts, paired, untied, out, n_threads or chosen.info.n_threads, chosen.info.isa
    )
    return out


def resampled_ceilings(
    subjects: NDArray[np.float64],
    conditions: int,
    condition_counts: NDArray[np.int32] | None,
    subject_counts: NDArray[np.int32] | None,
    *,
    ranked: bool,
    untied: bool = False,
    within: float = FLOAT64,
    n_threads: int | None = None,
) -> NDArray[np.float64]:
    """Similarities (draws, 2, subjects) of subjects to the pool of those drawn, without each and with it.

    As `resampled_similarities`, of subjects `subject_counts` (draws, subjects) times; None for each once. NaN for one
    that is not drawn; one who is alone is left in. Pools are of ranks where `ranked`, else of the numbers, of which
    those that differ by no more than `within` of the larger tie (`fastrdm._kernels.ties`).
    """
    chosen = active()
    given = condition_counts if condition_counts is not None else subject_counts
    out = np.empty((1 if given is None else len(given), 2, len(subjects)))
    chosen.module.resampled_ceilings(
        subjects,
        condition_counts,
        subject_counts,
        conditions,
        ranked,
        untied,
        within,
        out,
        n_threads or chosen.info.n_threads,
        chosen.info.isa,
    )
    return out


def permuted_similarities(
    squares: NDArray[Any],
    own: NDArray[np.float64],
    permutations: NDArray[np.int32],
    prepared: Prepared,
    n_threads: int | None = None,
) -> NDArray[np.float64]:
    """Similarities (permutations, n, n_prepared) of prepared rows with others whose conditions are permuted.

    `squares` (n, conditions, conditions) hold what `Prepared.values` of the type hold, `own` their sums of squares.
    """
    chosen = active()
    out = np.empty((len(permutations), len(squares), len(prepared.values)))
    chosen.module.permuted_similarities(
        squares,
        own,
        permutations,
        prepared.values,
        prepared.squares,
        out,
        n_threads or chosen.info.n_threads,
        chosen.info.isa,
    )
    return out


def normalise(
    pixels: NDArray[np.uint8],
    table: NDArray[np.float32],
    channels: tuple[int, int, int],
    out: NDArray[np.float32],
    n_threads: int | None = None,
) -> None:
    """Fill (n, 3, height, width) with ``table[c, pixels[..., channels[c]]]``, of pixels (n, height, width, 3)."""
    chosen = active()
    n, height, width, _ = pixels.shape
    chosen.module.normalise(
        pixels.reshape(n, height * width, 3),
        table,
        channels,
        out.reshape(n, 3, height * width),
        n_threads or chosen.info.n_threads,
    )
