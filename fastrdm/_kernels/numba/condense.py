"""Products of rows → dissimilarities, in portable form: as condense.cpp."""

import math
from collections.abc import Iterator

import numpy as np

from fastrdm._kernels.numba.common import Doubles, chunks, jit


@jit
def _scaled(norms: Doubles) -> tuple[Doubles, Doubles]:
    """Return powers of two that bring the roots of norms near 1, and the scaled norms."""
    factor, norm = np.empty_like(norms), np.empty_like(norms)
    for i in range(len(norms)):
        half = int(math.frexp(norms[i])[1] / 2) if np.isfinite(norms[i]) else 0
        factor[i] = math.ldexp(1.0, -half)
        norm[i] = math.ldexp(norms[i], -2 * half)
    return factor, norm


@jit
def _angles(
    product: Doubles,
    condensed: bool,
    scaled_a: tuple[Doubles, Doubles],
    scaled_b: tuple[Doubles, Doubles],
    sums: tuple[Doubles, Doubles] | None,
    n: float,
    near: float,
    out: Doubles,
    begin: int,
    end: int,
) -> int:
    (factor_a, norm_a), (factor_b, norm_b) = scaled_a, scaled_b
    pair = count = 0
    for i in range(begin, end):
        for j in range(i + 1 if condensed else 0, product.shape[1]):
            centred = product[i, j]
            if sums is not None:
                centred = n * centred - sums[0][i] * sums[1][j]
            scaled = centred * factor_a[i] * factor_b[j]
            cosine = np.sqrt(scaled * scaled / (norm_a[i] * norm_b[j]))
            cosine = 1.0 if cosine > 1 else cosine
            value = 1 + cosine if scaled < 0 else 1 - cosine
            count += value < near
            out[pair] = -value if value < near else value
            pair += 1
    return count


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
) -> int:
    """1 − cosine from products."""
    scaled = _scaled(norms_a), _scaled(norms_b)
    sums = None if sums_a is None or sums_b is None else (sums_a, sums_b)
    return sum(
        _angles(product, condensed, *scaled, sums, n, near, part, begin, end)
        for begin, end, part in _parts(product, condensed, out)
    )


def _parts(product: Doubles, condensed: bool, out: Doubles) -> Iterator[tuple[int, int, Doubles]]:
    """Yield ranges of rows, and the results from the first of each on."""
    cols = product.shape[1]
    for begin, end in chunks(len(product), 4 * cols):
        yield begin, end, out[begin * cols - (begin * (begin + 1) // 2 if condensed else 0) :]


@jit
def _distances(
    product: Doubles,
    condensed: bool,
    norms_a: Doubles,
    norms_b: Doubles,
    near: float,
    out: Doubles,
    begin: int,
    end: int,
) -> int:
    pair = count = 0
    for i in range(begin, end):
        for j in range(i + 1 if condensed else 0, product.shape[1]):
            total = norms_a[i] + norms_b[j]
            square = total - 2 * product[i, j]
            value = 0.0 if square < 0 else square
            count += square < near * total
            out[pair] = -value if square < near * total else value
            pair += 1
    return count


def distances(
    product: Doubles,
    condensed: bool,
    norms_a: Doubles,
    norms_b: Doubles,
    near: float,
    out: Doubles,
) -> int:
    """Squared distances from products."""
    return sum(
        _distances(product, condensed, norms_a, norms_b, near, part, begin, end)
        for begin, end, part in _parts(product, condensed, out)
    )
