"""Noise ceilings of large RDMs: pools are made one after the other, from blocks of columns.

Nothing as large as all RDMs is made on the side, and pages of mapped files are released. The pools are those of `means`
of `pool_values`, to the bit.
"""

from collections.abc import Callable

import numpy as np

from fastrdm._kernels import Prepared, merge_near
from fastrdm.similarity.coefficients import Mask, Rows, centre, scale, z_scores
from fastrdm.similarity.numerics import Floats, blocks_of, mean_of, power_of_sums, release
from fastrdm.similarity.sides import Side, compare_sides

# Columns of a block: the cache holds them, however many subjects there are.
_COLUMNS = 1 << 14
# Blocks after which pages of a mapped file are released.
_RELEASED = 64

# Entries of an RDM and where they are → what a pool averages.
_Standard = Callable[[Rows, slice], Floats]


class Pools:
    """Pooled RDMs of subjects; `is_prepared`: whether they are prepared once, on all their pairs."""

    def __init__(self, subjects: Side, pool: str, is_prepared: bool) -> None:
        self.rows = rows = subjects.rdms
        self.method = method = subjects.method
        self.n_threads, self.nan_policy = subjects.n_threads, subjects.nan_policy
        self.prepared = prepared = subjects.whole if is_prepared else None
        self._sums: Floats | None = None
        if pool == "raw":
            power = power_of_sums(rows)
            self._standards = [self._raw(row, power) for row in rows]
        elif not method.ordinal:
            self._standards = [self._standard(row) for row in rows]
        elif prepared is not None:
            self._standards = [self._ranks_of(prepared, s) for s in range(len(rows))]
        else:
            self._sum_ranks()
        release(rows)

    def make(self, without: int | None) -> Floats:
        """Return the pool (1, pairs) of all subjects, or of all but one."""
        if self._sums is not None:
            return self._pool_of_ranks(without)
        n_pairs = self.rows.shape[1]
        out = np.empty((1, n_pairs))
        values = np.empty((len(self.rows), min(_COLUMNS, n_pairs)))
        for k, block in enumerate(blocks_of(n_pairs, 1, _COLUMNS)):
            part = values[:, : block.stop - block.start]
            for row, standard, to in zip(self.rows, self._standards, part, strict=True):
                to[:] = standard(row[block], block)
            out[0, block] = mean_of(part, without)
            if k % _RELEASED == _RELEASED - 1:
                release(self.rows)
        release(self.rows)
        return out

    def _is_left_out(self, row: Rows) -> bool:
        return self.nan_policy == "propagate" and bool(np.isnan(row).any())

    def _raw(self, row: Rows, power: int) -> _Standard:
        if self._is_left_out(row):
            return _left_out
        return lambda part, _: np.ldexp(part.astype(np.float64), power)

    def _ranks_of(self, prepared: Prepared, subject: int) -> _Standard:
        def ranks(part: Rows, block: slice) -> Floats:
            some = Prepared(prepared.values[subject : subject + 1, block], prepared.squares[:1])
            return np.asarray(self.method.standardise(part[None], some)[0])

        return ranks

    def _standard(self, row: Rows) -> _Standard:
        """As `z_scores` or `unit_squares`, from numbers that are computed once."""
        if self._is_left_out(row):
            return _left_out
        has_mean = self.method.standardise is z_scores
        present = self._present(row)
        mean, high, low = present.mean(axis=1, dtype=np.float64)[0], present.max(), present.min()
        power = 0
        if not np.isfinite(mean):
            power = power_of_sums(present)
            mean = np.ldexp(present, power).mean(axis=1, dtype=np.float64)[0]
        largest = np.float64(max(high, -low))
        if has_mean:
            high, low = np.ldexp(np.float64(high), power), np.ldexp(np.float64(low), power)
            largest = np.float64(0 if high == low else max(high - mean, mean - low))
        square = scale(centre(present) if has_mean else present).squares[0]
        root, factor = np.sqrt(square), np.sqrt(present.shape[1])

        def standard(part: Rows, _: slice) -> Floats:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = part.astype(np.float64)
                if has_mean:
                    values = np.ldexp(values, power) - mean if largest else 0 * values
                return np.asarray(values / largest / root * factor)

        return standard

    def _present(self, row: Rows) -> Rows:
        missing = np.isnan(row) if self.nan_policy != "raise" else None
        return (row if missing is None or not missing.any() else row[~missing])[None]

    def _sum_ranks(self) -> None:
        """Sum ranks, which are exact, so that each pool is a difference."""
        self._sums = np.zeros(self.rows.shape[1])
        self._counts = np.zeros(self.rows.shape[1], np.int32)
        for row in self.rows:
            ranks, present = self._ranks(row)
            self._sums[present] += ranks
            self._counts += present

    def _ranks(self, row: Rows) -> tuple[Floats, Mask]:
        if self._is_left_out(row):
            return np.empty(0), np.zeros(len(row), bool)
        missing = np.isnan(row)
        values = self._present(row)
        everything = np.ones(values.shape[1], bool)
        prepared = self.method.prepare(values, everything, self.n_threads)
        return np.asarray(self.method.standardise(values, prepared)[0], np.float64), ~missing

    def _pool_of_ranks(self, without: int | None) -> Floats:
        assert self._sums is not None
        out, counts = self._sums.copy(), self._counts
        if without is not None:
            ranks, present = self._ranks(self.rows[without])
            out[present] -= ranks
            counts = counts - present
        with np.errstate(invalid="ignore", divide="ignore"):
            out /= counts
        return out[None]


def _left_out(part: Rows, _: slice) -> Floats:
    return np.full(part.shape, np.nan)


def ceilings_of_large(pools: Pools, within: float) -> tuple[Floats, Mask]:
    """Return lower and upper similarities (2, subjects), and which subjects have an undefined one."""
    n = len(pools.rows)
    bounds, undefined = np.empty((2, n)), np.zeros(n, bool)
    for without in (None, *range(n)):
        members = list(range(n)) if without is None else [without]
        similarities, missing = _against_pool(pools, without, members, within)
        bounds[1 if without is None else 0, members] = similarities
        undefined[members] |= missing
        release(pools.rows)
    return bounds, undefined


def _against_pool(
    pools: Pools, without: int | None, members: list[int], within: float
) -> tuple[Floats, Mask]:
    def pool() -> Floats:
        pooled = pools.make(without)
        if within > 0:
            merge_near(pooled, within, pools.n_threads)
        return pooled

    rows, method, n_threads = pools.rows, pools.method, pools.n_threads
    everything = np.ones(rows.shape[1], bool)
    if pools.nan_policy == "raise" or not any(np.isnan(row).any() for row in rows):
        if pools.prepared is not None:
            some = Prepared(
                pools.prepared.values[members[0] :][: len(members)], pools.prepared.squares[members]
            )
            out = method.combine(pool(), everything, some, False, n_threads)[0]
        else:
            base = method.prepare(pool(), everything, n_threads)
            out = np.concatenate(
                [
                    method.combine(rows[s : s + 1], everything, base, False, n_threads)[0]
                    for s in members
                ]
            )
            del base
        if not np.isnan(out).any():
            return out, np.zeros(len(members), bool)
    first = Side(method, pool(), "omit", "the pooled RDM", n_threads=n_threads)
    first.check()
    results = []
    for s in members:
        second = Side(
            method, rows[s : s + 1], pools.nan_policy, "subject_rdms", n_threads=n_threads
        )
        if pools.nan_policy != "raise":
            second.check()
        results.append(compare_sides(first, second))
    return np.concatenate([out[0] for out, _ in results]), np.concatenate(
        [m[0] for _, m in results]
    )
