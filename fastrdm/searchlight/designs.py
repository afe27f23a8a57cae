"""What a method needs beside data: folds, whose averages are compared, and noise, which is whitened in each place."""

from typing import Any, NamedTuple

import numpy as np

from fastrdm._base import CONDITIONS, ConditionNames, Labels, condition_names, labels_of
from fastrdm.rdm import (
    Folds,
    Member,
    aligned,
    check_fold_orders,
    check_options,
    fold_conditions,
    method_named,
    noises_of,
)
from fastrdm.searchlight.computers import Computer, Crossed, Noise, Whitened
from fastrdm.searchlight.places import Patches, Rows


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

    def computer(self, n_threads: int | None) -> Computer | Crossed | Whitened:
        """Return what computes the RDMs of blocks of places."""
        if self.noise is not None:
            return Whitened(self.patches, self.folds, self.method, self.noise, n_threads)
        if self.folds:
            return Crossed(self.patches, self.folds, n_threads)
        return Computer(self.patches, self.method, n_threads)


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
