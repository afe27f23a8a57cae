"""The results of a store as `Result`s, with labels, and with intervals from the similarities to each subject."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.scoring.database import Database
from fastrdm.scoring.result_table import ResultTable
from fastrdm.scoring.results import COLUMNS, Result
from fastrdm.scoring.store import Store
from fastrdm.scoring.store_columns import SIGN_FLIPS, TIME
from fastrdm.scoring.store_rows import Row, RowOptions, RowReader

_PLACE = ("checkpoint", "study", "layer", "region")
_OWN = ("arch", "settings", "sha256", "protocol")
_NUMBERS = (*COLUMNS, "ceiling", "mean_rho")


@dataclass(frozen=True)
class StoredResult(Result):
    """A result as a store keeps it.

    Attributes
    ----------
    labels : dict of str to str, int or float
        Labels of the checkpoint by name, without missing ones. A label whose values are all numbers is int or float.
    arch : str
        Name of the network.
    settings : str
        Start of the key of the settings (preprocessing, precision, taps ...), which differs between all settings.
    sha256 : str
        Of the weights.
    protocol : str
        Name of the protocol of the scores, with options that are not the usual ones.
    """

    labels: Mapping[str, str | int | float] = field(default_factory=dict)
    arch: str = ""
    settings: str = ""
    sha256: str = ""
    protocol: str = ""


def read_results(
    store: Database | str | Path,
    *,
    regions: str | Sequence[str] | None = None,
    sets: str | Sequence[str] | None = None,
    measures: str | Sequence[str] | None = None,
    layers: str | Sequence[str] | None = None,
    where: str | Sequence[str] = (),
    n_draws: int = 1000,
    seed: int = 0,
    sign_flips: bool = False,
) -> list[StoredResult]:
    """Read results from a store, in the order of `Store.rows`.

    Parameters
    ----------
    store : Store or path-like
        An open store, or its file.
    regions, sets, measures, layers, where
        Which results, as for `ResultTable`.
    n_draws, seed : int
        Draws of the bootstrap over subjects for `low` and `high`, and their seed, as for `score_checkpoints`; without
        draws, both are NaN.
    sign_flips : bool
        Whether to compute `p_sign_flip` and `p_corrected`, which takes milliseconds for each checkpoint; otherwise they
        are NaN, unless a condition is on them.

    Returns
    -------
    list of StoredResult
        `low` and `high` are NaN for regions with one subject, and for layers without a similarity to each subject.

    Raises
    ------
    ValueError
        As for `ResultTable`, and if the store cannot be read.
    """
    conditions = [where] if isinstance(where, str) else where
    flips = sign_flips or any(each.lstrip().startswith(SIGN_FLIPS) for each in conditions)
    chosen = {"regions": regions, "sets": sets, "measures": measures, "layers": layers}
    with contextlib.nullcontext(store) if isinstance(store, Database) else Store(store) as opened:
        table = _SimilarityTable(opened, where=where, sign_flips=flips, **chosen)
        rows = list(table.rows())
    intervals = _intervals(rows, table.places["ceiling"], n_draws, seed)
    return list(_results(rows, intervals, table))


class _SimilarityTable(ResultTable):
    """A table whose rows end in each subject's similarity and whether the protocol squares them."""

    def __init__(self, store: Database, *, sign_flips: bool, **options: Any) -> None:
        super().__init__(store, sign_flips=sign_flips, **options)
        self._reader = RowReader(store, RowOptions(sign_flips=sign_flips, similarities=True))

    @property
    def places(self) -> Mapping[str, int]:
        """The place in a row of each column."""
        return self._places


def _intervals(rows: Sequence[Row], ceiling: int, n_draws: int, seed: int) -> NDArray[np.float64]:
    """95 % intervals of percent of the noise ceiling, (rows, 2); NaN where there is none."""
    from fastrdm.inference import subject_intervals

    found = np.full((len(rows), 2), math.nan)
    if not n_draws:
        return found
    by_shape: dict[tuple[int, bool], list[int]] = {}
    for i, (*_, rho, is_squared) in enumerate(rows):
        by_shape.setdefault((len(rho), is_squared), []).append(i)
    for (n_subjects, is_squared), places in by_shape.items():
        if n_subjects < 2:
            continue
        rho = np.stack([rows[i][-2] for i in places])
        is_known = np.isfinite(rho).all(axis=1)
        if not is_known.any():
            continue
        index = np.array(places)[is_known]
        values = rho[is_known] ** 2 if is_squared else rho[is_known]
        ceilings = np.array([rows[i][ceiling] for i in index])
        bounds = subject_intervals(values, n_draws=n_draws, seed=seed)
        found[index] = bounds * (100 / ceilings)[:, None]
    return found


def _results(
    rows: Sequence[Row], intervals: NDArray[np.float64], table: _SimilarityTable
) -> Iterator[StoredResult]:
    at = table.places
    names = [name for name in (*_PLACE, *_NUMBERS, *SIGN_FLIPS, "measure", *_OWN) if name in at]
    n_head = at["study"]
    before: Row = ()
    labels: dict[str, str | int | float] = {}
    for row, (low, high) in zip(rows, intervals.tolist(), strict=True):
        if row[:n_head] != before:
            before = row[:n_head]
            labels = {name: row[at[name]] for name in table.labels if _is_given(row[at[name]])}
        time = row[at[TIME]] if TIME in at else math.nan
        yield StoredResult(
            **{name: row[at[name]] for name in names},
            low=low,
            high=high,
            rho=tuple(row[-2].tolist()),
            time=None if math.isnan(time) else time,
            labels=labels,
        )


def _is_given(label: Any) -> bool:
    return label not in ("", None) and label == label
