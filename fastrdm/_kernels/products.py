"""Kernels on activations and images: they allocate their results and call the kernels in use."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.dispatch import active

Doubles = NDArray[np.float64]

# Channels per block of signs.
SIGN_BLOCK = 256


def share(n_columns: int, itemsize: int) -> int:
    """Return the width of a share: columns, of so many in a type of this size, that are summed separately.

    Rows passed some columns at a time have the same products, to the bit, if all parts but the last are that wide.
    """
    chosen = active()
    width: int = chosen.module.share(n_columns, itemsize, chosen.info.isa)
    return width


def gram(
    x: NDArray[Any],
    shift: Doubles | None = None,
    *,
    share: int | None = None,
    add_to: tuple[Doubles, Doubles] | None = None,
    n_threads: int | None = None,
) -> tuple[Doubles, Doubles]:
    """Return symmetric products (n, n) of the rows minus their shift, and the rows' sums (n,); or add both to others.

    The product of two rows depends on these two alone: other rows, their positions and threads change no bit.
    """
    chosen = active()
    n = len(x)
    out, sums = (np.empty((n, n)), np.empty(n)) if add_to is None else add_to
    shift = np.zeros(n) if shift is None else shift
    share = share or chosen.module.share(x.shape[1], max(x.itemsize, 4), chosen.info.isa)
    kernel, (x,) = _for_type("gram", x)
    chosen.run(kernel, n_threads, x, shift, share, add_to is not None, out, sums)
    return out, sums


def cross(
    a: NDArray[Any],
    b: NDArray[Any],
    n_threads: int | None = None,
    *,
    shift_a: Doubles | None = None,
    shift_b: Doubles | None = None,
    share: int | None = None,
    add_to: Doubles | None = None,
) -> Doubles:
    """Return products (n_a, n_b) of all rows of `a` and `b` minus their shifts, to the bit those of `gram`."""
    chosen = active()
    out = np.empty((len(a), len(b))) if add_to is None else add_to
    shift_a = np.zeros(len(a)) if shift_a is None else shift_a
    shift_b = np.zeros(len(b)) if shift_b is None else shift_b
    share = share or chosen.module.share(a.shape[1], max(a.itemsize, 4), chosen.info.isa)
    kernel, (a, b) = _for_type("cross", a, b)
    chosen.run(kernel, n_threads, a, b, shift_a, shift_b, share, add_to is not None, out)
    return out


def differences(
    a: NDArray[Any],
    b: NDArray[Any],
    pairs: NDArray[np.int32],
    out: Doubles,
    n_threads: int | None = None,
    *,
    shifts: tuple[Doubles, Doubles] | None = None,
    factors: tuple[Doubles, Doubles] | None = None,
) -> None:
    """Add the squared distance of row `pairs[p, 0]` of `a` and `pairs[p, 1]` of `b` to `out[p]`.

    Rows are read minus their shift, times their factor. Exactly 0 for equal rows; their order changes no bit.
    """
    kernel, (a, b) = _for_type("differences", a, b)
    shifts = shifts or (np.zeros(len(a)), np.zeros(len(b)))
    factors = factors or (np.ones(len(a)), np.ones(len(b)))
    active().run(kernel, n_threads, a, b, *shifts, *factors, pairs, out)


def guess_means(x: NDArray[Any]) -> Doubles:
    """Return the means (n,) of the rows or, for long rows, of 16 stretches of them."""
    kernel, (x,) = _for_type("guess_means", x)
    means = np.empty(len(x))
    getattr(active().module, kernel)(x, means)
    return means


def distinct(x: NDArray[Any], limit: int) -> NDArray[Any] | None:
    """Return the different numbers in all rows, in no order; None for `limit` or more. NaN and −0 count by bits."""
    out = np.empty(limit, np.float64 if x.itemsize == 8 else np.float32)
    kernel, (x,) = _for_type("distinct", x)
    n = getattr(active().module, kernel)(x, out)
    return out[:n] if n < limit else None


def _for_type(kernel: str, *rows: NDArray[Any]) -> tuple[str, tuple[NDArray[Any], ...]]:
    # 16-bit floats go to the kernels as their bits. dtype.name takes some microseconds.
    if rows[0].itemsize > 2:
        return kernel, rows
    return f"{kernel}_{rows[0].dtype.name}", tuple(x.view(np.uint16) for x in rows)


def angles(
    product: Doubles,
    norms: tuple[Doubles, Doubles],
    sums: tuple[Doubles, Doubles] | None = None,
    n: int = 1,
    *,
    near: float = 0.0,
    condensed: bool = False,
) -> tuple[Doubles, int]:
    """Return 1 − cosine of rows and columns with these products, flat, or `condensed` above the diagonal.

    With `sums`, `n` times the product minus the product of the sums replaces the product. Norms are the same of each
    row with itself, NaN for one without angles. Values below `near` have their sign bit set; their number is returned
    second.
    """
    out = np.empty(_n_results(product, condensed))
    kernel = active().module.angles
    return out, kernel(product, condensed, *norms, *(sums or (None, None)), float(n), near, out)


def distances(
    product: Doubles, norms: tuple[Doubles, Doubles], *, near: float = 0.0, condensed: bool = False
) -> tuple[Doubles, int]:
    """Return squared distances of rows and columns with these products, flat, or `condensed` above the diagonal.

    Those below `near` times the sum of both norms have their sign bit set; their number is returned second.
    """
    out = np.empty(_n_results(product, condensed))
    return out, active().module.distances(product, condensed, *norms, near, out)


def _n_results(product: Doubles, condensed: bool) -> int:
    n = len(product)
    return n * (n - 1) // 2 if condensed else product.size


def project(
    x: NDArray[np.float32],
    entries: NDArray[np.uint32],
    shift: Doubles,
    scale: float,
    out: NDArray[np.float32],
    n_threads: int | None = None,
) -> Doubles:
    """Write `scale` times the rows, minus their shift, times a sparse matrix of signs to `out` (n, components).

    Returns the rows' sums (n,). Each block of SIGN_BLOCK channels has a row of `entries`: component * 2 * SIGN_BLOCK +
    2 * channel within the block + 1 for a negative sign. Other rows and the number of threads change no bit.
    """
    chosen = active()
    sums = np.empty(len(x))
    chosen.module.project(x, entries, shift, scale, out, sums, chosen.threads(n_threads))
    return sums


def normalise(
    pixels: NDArray[np.uint8],
    table: NDArray[np.float32],
    channels: tuple[int, int, int],
    out: NDArray[np.float32],
    n_threads: int | None = None,
) -> None:
    """Fill (n, 3, height, width) with ``table[c, pixels[..., channels[c]]]`` for pixels (n, height, width, 3)."""
    chosen = active()
    n, height, width, _ = pixels.shape
    flat_pixels, flat = pixels.reshape(n, height * width, 3), out.reshape(n, 3, height * width)
    chosen.module.normalise(flat_pixels, table, channels, flat, chosen.threads(n_threads))
