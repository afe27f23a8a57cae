"""Checked rows → a Gram matrix; Grams of products that a device computed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastrdm._base import Labels
from fastrdm.rdm import tiles
from fastrdm.rdm.conditions import OutOfRangeError
from fastrdm.rdm.gram_matrix import Gram
from fastrdm.rdm.gram_parts import GRAM_METHODS, NO_DIGITS, Digits, Parts, rounding_of
from fastrdm.rdm.methods import METHODS
from fastrdm.rdm.numbers import Kind, kind_of
from fastrdm.rdm.pairs import NearPairs, dissimilarities
from fastrdm.rdm.products import Floats, Index, cross, gram, working_dtype
from fastrdm.rdm.sources import Member, RowSource, in_place, single

# Layers of up to this many channels are also multiplied in float64: regressions divide by small eigenvalues, and errors
# of float32 relative to the products are the largest in narrow layers. Layers with features are multiplied when needed.
_NARROW = 4096


def gram_of(
    member: Member,
    methods: Sequence[str],
    labels: Labels | None,
    max_memory: int | None,
    n_threads: int,
    *,
    wide: bool = False,
) -> Gram:
    """Return the Gram of one layer; `wide`: with products in float64."""
    rows = member.rows
    kind = kind_of(rows)
    if wide:
        kind = kind._replace(dtype=np.dtype(np.float64))
    source = in_place(member, kind)
    height = tiles.height_of(source, max_memory, n_threads)
    try:
        parts, near, failed = _multiplied(source, methods, height, n_threads)
    except OutOfRangeError:
        source.check_finite()
        raise
    digits = {}
    for name in methods:
        digits[name] = _digits(near[name], len(rows))
        if name in failed:
            source.check_finite()
            digits[name] = _beyond_range(source, name, max_memory, n_threads)
    constant = np.flatnonzero(~np.isnan(parts.constants))
    parts.constants[constant] = rows[constant, 0]
    parts = replace(parts, stored=working_dtype(rows), digits=digits)
    features = np.array(rows, np.float64) if rows.shape[1] <= len(rows) else None
    return Gram(parts, features, labels)


def _multiplied(
    source: RowSource, methods: Sequence[str], height: int, n_threads: int
) -> tuple[Parts, dict[str, list[NearPairs]], set[str]]:
    """Return the parts, the near pairs of each method, and the methods whose squares leave the range of float64."""
    n = source.n_conditions
    product = np.empty((n, n)) if height < n else None
    sums, shift, scale = np.empty(n), np.zeros(n), np.ones(n)
    constants = np.full(n, np.nan)
    narrow = n < source.n_channels <= _NARROW and not source.kind.exact
    raw = np.empty((n, n)) if narrow and source.kind.dtype == np.float32 else None
    near: dict[str, list[NearPairs]] = {name: [] for name in methods}
    failed: set[str] = set()
    for tile in tiles.products_of(source, height, n_threads):
        rows, columns = (slice(begin, begin + height) for begin in (tile.row, tile.column))
        if product is None:
            # The only tile.
            product = tile.product
        else:
            product[rows, columns] = tile.product
        if raw is not None:
            raw[rows, columns] = _raw(tile, n_threads)
            raw[columns, rows] = raw[rows, columns].T
        if tile.is_diagonal:
            side = tile.sides[0]
            sums[rows] = side.sums
            shift[rows] = 0 if side.shift is None else side.shift
            scale[rows] = 1 if side.scale is None else side.scale
            constants[rows] = np.where(side.constant, 0, np.nan)
        else:
            product[columns, rows] = tile.product.T
        for name, pairs in _near(tile, methods, failed, n_threads).items():
            near[name] += pairs
        del tile
    assert product is not None
    plain = None if not shift.any() else shift
    parts = Parts(
        source.n_channels,
        product,
        sums,
        plain,
        None if np.all(scale == 1) else scale,
        constants,
        source.kind,
        source.kind.dtype,
        rounding_of(source.kind, source.n_channels),
        raw=raw,
    )
    return parts, near, failed


def _raw(tile: tiles.Tile, n_threads: int) -> Floats:
    """Return the products of a tile in float64, of activations as they are."""
    left, right = (side.read.wide()._replace(shift=None) for side in tile.sides)
    with np.errstate(all="ignore"):
        return gram(left, n_threads)[0] if tile.is_diagonal else cross(left, right, n_threads)


def _near(
    tile: tiles.Tile, methods: Sequence[str], failed: set[str], n_threads: int
) -> dict[str, list[NearPairs]]:
    """Return the near pairs of a tile by method; add methods whose squares leave the range of float64 to `failed`."""
    found: dict[str, list[NearPairs]] = {}
    place = np.array([tile.row, tile.column], np.int32)
    for name in methods:
        if name in failed:
            continue
        twin = next((other for other in found if is_twin(name, other)), None)
        if twin is not None:
            found[name] = found[twin]
            continue
        measure = METHODS[name].measure
        product = tile.product if measure.centre else tile.product.copy()
        try:
            _, _, near = dissimilarities(measure, tile.sides, product, tile.is_diagonal, n_threads)
        except OutOfRangeError:
            failed.add(name)
            continue
        found[name] = [NearPairs(each.pairs + place, each.values) for each in near]
    return found


def is_twin(name: str, other: str) -> bool:
    """Whether two methods differ only in what follows the near pairs: the root, and how they are settled."""
    first, second = (
        METHODS[each].measure._replace(root=False, apart=1.0) for each in (name, other)
    )
    return first == second


def _digits(near: Sequence[NearPairs], n: int) -> Digits:
    if not near:
        return NO_DIGITS
    pairs = np.concatenate([each.pairs for each in near]).astype(np.intp)
    values = np.concatenate([each.values for each in near])
    # The sign of NaN is arbitrary, so it may have been taken for the mark of near pairs.
    pairs, values = pairs[~np.isnan(values)], values[~np.isnan(values)]
    first, second = pairs.T
    places: Index = first * n - first * (first + 1) // 2 + second - first - 1
    order = np.argsort(places)
    return Digits(places[order], values[order])


def _beyond_range(source: RowSource, name: str, max_memory: int | None, n_threads: int) -> Digits:
    """Return all distances, computed from scaled activations."""
    n = source.n_conditions
    values: Floats = np.empty(n * (n - 1) // 2)
    try:
        tiles.fill(values, single(source), METHODS[name].measure, max_memory, n_threads)
    except OutOfRangeError as error:
        return NO_DIGITS._replace(error=str(error))
    return Digits(None, values, True)


def gram_from_products(
    products: Floats,
    n_channels: int,
    sums: Floats,
    constants: Floats,
    *,
    shift: Floats | None = None,
    near: Mapping[str, NearPairs] | None = None,
    rounding: float = 0.0,
    dtype: type[np.floating[Any]] = np.float64,
) -> Gram:
    """Return the Gram of float32 activations whose products a device computed.

    `products` (n, n) are sums over channels in float64 of activations minus each condition's `shift` (n,), and `sums`
    (n,) each condition's sum of these. `constants` (n,) are the values of conditions that are constant over channels,
    NaN for others. `near` has dissimilarities by method, without a root, that the products lack digits for. `rounding`
    bounds the error of a product relative to the lengths of what was multiplied in `dtype`.
    """
    digits = dict.fromkeys(GRAM_METHODS, NO_DIGITS)
    for name, pairs in (near or {}).items():
        digits[name] = _digits([pairs], len(sums))
    return Gram(
        Parts(
            n_channels,
            products,
            sums,
            shift,
            None,
            constants,
            Kind(np.dtype(dtype)),
            np.dtype(np.float32),
            rounding,
            digits,
            summed=True,
        )
    )
