"""What a method needs beside data: folds, whose averages are compared, and noise, which is whitened in each place."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import CONDITIONS, ConditionNames, Labels, condition_names, labels_of
from fastrdm._kernels import cross, n_processors
from fastrdm.rdm import (
    Folds,
    Member,
    Precision,
    Residuals,
    aligned,
    check_fold_orders,
    check_options,
    fold_conditions,
    method_named,
    noises_of,
)
from fastrdm.searchlight.blocks import Block, Computer
from fastrdm.searchlight.places import Index, Lists, Patches, Rows

Noise = Precision | Residuals
# The methods of whitened, or cross-validated, patterns.
_PLAIN = {"mahalanobis": "euclidean", "crossnobis": "sqeuclidean"}


class Options(NamedTuple):
    """What `calc_rdm` takes for a method, too, as it was passed."""

    precision: Any
    residuals: Any
    estimator: str | None
    folds: Any
    conditions: Any


class Design(NamedTuple):
    """Data of a call, and how their RDMs are computed."""

    #: Their rows have conditions, with folds summed over folds.
    patches: Patches
    method: str
    #: Of the conditions.
    names: ConditionNames | None
    labels: Labels | None
    #: Rows as those of the patches, of each fold.
    folds: tuple[Rows, ...] = ()
    noise: Noise | None = None

    def computer(self, n_threads: int | None) -> "Computer | Crossed | Whitened":
        """Return what computes the RDMs of blocks of places."""
        if self.noise is not None:
            return Whitened(self, self.noise, n_threads)
        if self.folds:
            return Crossed(self.patches, self.folds, n_threads)
        return Computer(self.patches, self.method, n_threads)


class Crossed:
    """Computes cross-validated distances: those of the folds' sum less those of each fold, over folds (folds − 1)."""

    def __init__(self, patches: Patches, folds: Iterable[Rows], n_threads: int | None) -> None:
        self.whole = Computer(patches, "sqeuclidean", n_threads)
        self.folds = [
            Computer(patches._replace(rows=rows), "sqeuclidean", n_threads) for rows in folds
        ]

    def fill(self, out: NDArray[np.float64], block: Block) -> None:
        """Write the RDMs of a block to (places, pairs)."""
        self.whole.fill(out, block)
        one = np.empty_like(out)
        for fold in self.folds:
            fold.fill(one, block)
            out -= one
        out /= len(self.folds) * (len(self.folds) - 1)


class Whitened:
    """Computes distances of patterns whose noise is whitened in each place, with the covariance of its channels."""

    def __init__(self, design: Design, noise: Noise, n_threads: int | None) -> None:
        self.design, self.noise = design, noise
        self.n_threads = n_threads or n_processors()

    def fill(self, out: NDArray[np.float64], block: Block) -> None:
        """Write the RDMs of a block to (places, pairs)."""
        places = range(block.centres.start, block.centres.stop)
        parts = out.reshape(len(places), -1, out.shape[1])
        with ThreadPoolExecutor(min(self.n_threads, len(places))) as pool:
            for _ in pool.map(lambda k, part: self._fill(part, k, block.windows), places, parts):
                pass

    def _fill(self, out: NDArray[np.float64], place: int, windows: slice) -> None:
        patches = self.design.patches
        channels = np.asarray(patches.centres.lists[place], np.intp)
        try:
            filters = self.noise.some(channels).filters
        except ValueError as error:
            raise ValueError(f"neighbours[{place}], {len(channels)} channels: {error}") from None
        whole, *folds = (
            _whitened(rows, channels, patches.n_samples, filters)
            for rows in (patches.rows, *self.design.folds)
        )
        here = patches._replace(
            rows=whole, centres=Lists([np.arange(len(channels))], np.array([0, len(channels)]))
        )
        if folds:
            computer: Computer | Crossed = Crossed(here, folds, 1)
        else:
            computer = Computer(here, _PLAIN[self.design.method], 1)
        computer.fill(out, Block(slice(0, 1), windows))


def _whitened(rows: Rows, channels: Index, n_samples: int, filters: NDArray[np.float64]) -> Rows:
    """Return the rows of some channels, (channels × samples, conditions), with their noise whitened."""
    n = rows.shape[1]
    some = rows.reshape(-1, n_samples * n)[channels]
    white = cross(np.ascontiguousarray(some.T, np.float64), filters, 1)
    return np.ascontiguousarray(white.T).reshape(-1, n)


def design_of(data: Any, patches: Patches, method: str, options: Options) -> Design:
    """Return the design of a call: checked folds and noise; ValueError for options that do not fit."""
    row = method_named(method)
    given = {name: value for name, value in options._asdict().items() if value is not None}
    check_options(method, row, set(given))
    labels = labels_of(data, 0, "data", CONDITIONS)
    plain = Design(patches, row.name, condition_names(data), labels)
    if not given:
        return plain
    n, n_channels = patches.rows.shape[1], len(patches.rows) // patches.n_samples
    # Of the shape of the data, for checks.
    member = Member(np.broadcast_to(np.float64(0), (n, n_channels)), "data")
    precision, residuals, folds, conditions = aligned(data, [member], options._asdict())
    found = noises_of(precision, residuals, options.estimator, [member], False, None)[0]
    noise = None if found is None else found.sources[0]
    if noise is not None:
        noise.check_values()
    if folds is None:
        return plain._replace(noise=noise)
    by_fold = Folds.of(folds, conditions, n, "data")
    check_fold_orders(data, by_fold, "data")
    parts = _averages(patches.rows, by_fold)
    names = fold_conditions(data, options.conditions, by_fold)
    labels = None if names is None else Labels.of_names(names, "data")
    if names is None and by_fold.conditions and isinstance(by_fold.conditions[0], str):
        labels = Labels(CONDITIONS, tuple(by_fold.conditions), "conditions")
    summed = patches._replace(rows=sum(parts[1:], parts[0]))
    return Design(summed, row.name, names, labels, parts, noise)


def _averages(rows: Rows, folds: Folds) -> tuple[Rows, ...]:
    """Return the averages of conditions in each fold, (channels × samples, conditions)."""
    here = folds.weight.any(axis=1)
    if not here.all():
        fold, condition = (int(k) for k in np.argwhere(~here)[0])
        names = folds.conditions
        what = condition if names is None else repr(names[condition])
        raise ValueError(
            f"fold {folds.names[fold]!r} lacks condition {what}, and a searchlight needs all conditions in all folds;"
            " leave one of them out, or call calc_rdm for each place"
        )
    parts = []
    for index, weight in zip(folds.index, folds.weight, strict=True):
        part = np.zeros((len(rows), folds.n_conditions))
        for measurements, weights in zip(index, weight, strict=True):
            part += rows[:, measurements] * weights
        parts.append(part)
    return tuple(parts)
