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

from fastrdm.ties import FLOAT64

_MODULES = {"cpp": "fastrdm._core", "numba": "fastrdm._numba"}


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
    """Whether `gram` and `guess_means` take rows of this type as they are."""
    return dtype in _WHOLE or dtype.name in _HALVES


def gram(
    x: NDArray[Any],
    shift: NDArray[np.float64] | None = None,
    *,
    centre_columns: bool = False,
    n_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Symmetric product (n, n) of the rows, less their shift or the columns' means, and the rows' sums (n,)."""
    chosen = active()
    out = np.empty((len(x), len(x)))
    sums = np.empty(len(x))
    kernel, x = _for_type("gram", x)
    kernel(
        x,
        np.zeros(len(x)) if shift is None else shift,
        centre_columns,
        out,
        sums,
        n_threads or chosen.info.n_threads,
        chosen.info.isa,
    )
    return out, sums


def guess_means(x: NDArray[Any]) -> NDArray[np.float64]:
    """Means (n,) of the rows or, of long ones, of 16 stretches of them."""
    kernel, x = _for_type("guess_means", x)
    means = np.empty(len(x))
    kernel(x, means)
    return means


def _for_type(kernel: str, x: NDArray[Any]) -> tuple[Callable[..., None], NDArray[Any]]:
    # A type's name takes NumPy some microseconds to make.
    if x.itemsize > 2:
        return getattr(active().module, kernel), x
    return getattr(active().module, f"{kernel}_{x.dtype.name}"), x.view(np.uint16)


def condense_angles(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Condensed 1 − cosine of rows with these products."""
    out = np.empty(len(gram) * (len(gram) - 1) // 2)
    active().module.condense_angles(gram, out)
    return out


def condense_distances(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Condensed squared distances of rows with these products."""
    out = np.empty(len(gram) * (len(gram) - 1) // 2)
    active().module.condense_distances(gram, out)
    return out


def cross(
    a: NDArray[Any],
    b: NDArray[Any],
    n_threads: int | None = None,
    *,
    shift_a: NDArray[np.float64] | None = None,
    shift_b: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Products (n_a, n_b) of all rows of `a` with all rows of `b`, less their shifts."""
    chosen = active()
    out = np.empty((len(a), len(b)))
    chosen.module.cross(
        a,
        b,
        np.zeros(len(a)) if shift_a is None else shift_a,
        np.zeros(len(b)) if shift_b is None else shift_b,
        out,
        n_threads or chosen.info.n_threads,
        chosen.info.isa,
    )
    return out


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
    those that differ by no more than `within` of the larger tie (`fastrdm.ties`).
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
