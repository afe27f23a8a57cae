"""Data and neighbourhoods × models → similarities, for which no RDMs are kept."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import (
    Labels,
    as_rdms,
    check_choice,
    check_labelled_size,
    find_order,
    in_order_of,
    warn_reordered,
)
from fastrdm._kernels import n_processors
from fastrdm.searchlight.blocks import (
    Progress,
    blocks_of,
    result_of,
    warn_missing,
)
from fastrdm.searchlight.designs import Design, Options, design_of
from fastrdm.searchlight.labelled import Axis, axis_of_models, leading_axes, with_leading
from fastrdm.searchlight.places import Patches, movie_of, patches_of
from fastrdm.similarity import NAN_POLICIES, Score, Target, check_values, compare, compare_condensed

Floats = NDArray[np.float64]


def score_searchlight(
    data: ArrayLike,
    neighbours: Any,
    models: Any,
    method: str = "correlation",
    similarity: str | None = None,
    *,
    windows: Any = None,
    precision: ArrayLike | None = None,
    residuals: ArrayLike | None = None,
    estimator: str | None = None,
    folds: ArrayLike | None = None,
    conditions: ArrayLike | None = None,
    nan_policy: str = "raise",
    out: NDArray[Any] | None = None,
    progress: Progress | None = None,
    n_threads: int | None = None,
    max_memory: int | str | None = None,
) -> Any:
    """Compute the similarity of the RDM of each neighbourhood to models; the RDMs are not kept.

    The RDMs are those of `calc_rdm_searchlight`, the similarities those of `compare`, both computed in blocks of places
    by all threads, so that no more than the data, a copy of them and a block of RDMs with their ranks are in memory.

    Parameters
    ----------
    data, neighbours, method, windows, precision, residuals, estimator, folds, conditions
        As for `calc_rdm_searchlight`.
    progress, n_threads, max_memory
        As for `calc_rdm_searchlight`.
    models : array_like, shape (models, pairs) or (pairs,), dict of such, Target, or dict of Targets
        Condensed RDMs of the models over the conditions of `data`, as for `compare`; or subjects, against whom the RDM
        of each place is scored. If the conditions of both have labels (of pandas and xarray objects), models are
        brought into the order of `data`, and RDMs of the data into that of a Target.
    similarity : str, optional
        A method of `compare`, by default ``"spearman"``. A Target has its own.
    nan_policy : str
        As for `compare`, for pairs that are NaN in a model; a Target has its own. Pairs that are NaN in the RDM of a
        place, because conditions are constant there, make its similarities NaN unless the policy is ``"omit"``.
    out : ndarray of float32 or float64, optional
        Array for the similarities, of their shape; may be a ``numpy.memmap``. Not for Targets.

    Returns
    -------
    ndarray of float64, shape (places, models), or (places, windows, models) with windows
        Similarities; a DataFrame or DataArray, with labels as from `calc_rdm_searchlight` and the names of models, if
        data or models are one. For a Target, a `Score` whose arrays have these leading axes, (places,) or (places,
        windows); for a dict of Targets, a dict of those.

    Raises
    ------
    ValueError
        As `calc_rdm_searchlight`; if models or Targets have another number of pairs, or values that the policy refuses;
        if labels of conditions differ (the message names them); if the similarity is unknown, or passed with a Target.
    TypeError
        If indices are not integers, or `models` is a list of Targets, or has RDMs beside Targets.

    Warns
    -----
    RuntimeWarning
        One, with the number of places that have similarities of NaN. One, if labelled conditions were brought into
        another order.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> neighbours = [np.arange(k, k + 10) for k in range(40)]
    >>> fastrdm.score_searchlight(rng.random((6, 50)), neighbours, rng.random((3, 15))).shape
    (40, 3)
    """
    options = Options(precision, residuals, estimator, folds, conditions)
    design = design_of(data, patches_of(data, neighbours, windows), method, options)
    axes = leading_axes(data, neighbours, design.patches, windows)
    run = _Run(design, data, axes, progress, n_threads, max_memory)
    return _scores(run, models, similarity, nan_policy, out)


def score_movie(
    data: ArrayLike,
    windows: Any,
    models: Any,
    method: str = "correlation",
    similarity: str | None = None,
    *,
    precision: ArrayLike | None = None,
    residuals: ArrayLike | None = None,
    estimator: str | None = None,
    folds: ArrayLike | None = None,
    conditions: ArrayLike | None = None,
    nan_policy: str = "raise",
    out: NDArray[Any] | None = None,
    progress: Progress | None = None,
    n_threads: int | None = None,
    max_memory: int | str | None = None,
) -> Any:
    """Compute the similarity of the RDM of each window of time to models; the RDMs are not kept.

    Parameters
    ----------
    data, windows
        As for `calc_rdm_movie`.
    models, method, similarity, precision, residuals, estimator, folds, conditions
        As for `score_searchlight`.
    nan_policy, out, progress, n_threads, max_memory
        As for `score_searchlight`.

    Returns
    -------
    ndarray of float64, shape (windows, models)
        Similarities; for Targets as `score_searchlight`.

    Raises
    ------
    ValueError, TypeError
        As `score_searchlight`.

    Warns
    -----
    RuntimeWarning
        As `score_searchlight`.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> windows = [range(t, t + 5) for t in range(46)]
    >>> fastrdm.score_movie(rng.random((6, 10, 50)), windows, rng.random(15)).shape
    (46, 1)
    """
    options = Options(precision, residuals, estimator, folds, conditions)
    design = design_of(data, movie_of(data, windows), method, options)
    axes = leading_axes(data, None, design.patches, windows)
    run = _Run(design, data, axes, progress, n_threads, max_memory)
    return _scores(run, models, similarity, nan_policy, out)


class _Run(NamedTuple):
    """What is computed, and how."""

    design: Design
    data: Any
    #: Of places and windows.
    axes: list[Axis]
    progress: Progress | None
    n_threads: int | None
    max_memory: int | str | None

    @property
    def patches(self) -> Patches:
        """The places."""
        return self.design.patches

    @property
    def labels(self) -> Labels | None:
        """Labels of the conditions of the data."""
        return self.design.labels

    @property
    def lead(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(axis.n for axis in self.axes)

    def each(self, use: Callable[[NDArray[np.intp], Floats], None]) -> None:
        """Call `use` with the places of each block, counted over centres and windows, and their RDMs."""
        patches = self.patches
        number = np.arange(patches.centres.n * patches.n_windows).reshape(-1, patches.n_windows)
        computer = self.design.computer(self.n_threads)
        done = 0
        rdms = np.empty((0, patches.n_pairs))
        for block in blocks_of(patches, self.max_memory, self.n_threads or n_processors()):
            places = number[block.centres, block.windows].ravel()
            if len(rdms) < len(places):
                rdms = np.empty((len(places), patches.n_pairs))
            part = rdms[: len(places)]
            computer.fill(part, block)
            use(places, part)
            done += len(places)
            if self.progress is not None:
                self.progress(done, number.size)


def _scores(
    run: _Run, models: Any, similarity: str | None, nan_policy: str, out: NDArray[Any] | None
) -> Any:
    check_choice(nan_policy, NAN_POLICIES, "nan_policy")
    targets = models if isinstance(models, dict) else {"": models}
    if targets and all(isinstance(target, Target) for target in targets.values()):
        if similarity is not None or out is not None:
            given = "out" if similarity is None else "similarity"
            raise ValueError(f"{given} was passed with a Target, which takes none")
        scores = _target_scores(run, targets)
        return scores if isinstance(models, dict) else scores[""]
    members = list(models.values()) if isinstance(models, dict) else models
    if isinstance(members, (list, tuple)) and any(isinstance(one, Target) for one in members):
        raise TypeError(
            "models holds Targets; pass one Target, a dict of nothing but Targets, or RDMs"
        )
    return _similarities(run, models, similarity or "spearman", nan_policy, out)


def _similarities(
    run: _Run, models: Any, similarity: str, nan_policy: str, out: NDArray[Any] | None
) -> Any:
    array = as_rdms(models, "models")
    rows = array[None] if array.ndim == 1 else array
    n_pairs = run.patches.n_pairs
    check_labelled_size(n_pairs, models, "models", run.labels, square=False)
    if rows.ndim != 2 or rows.shape[1] != n_pairs:
        raise ValueError(
            f"models have shape {array.shape}, and data have {run.patches.n_conditions} conditions; expected condensed"
            f" RDMs of {n_pairs} pairs"
        )
    array, _ = in_order_of(array, models, "models", run.labels, square=False)
    rows = array[None] if array.ndim == 1 else array
    check_values(rows, "models", ("model", "pair"), nan_policy)
    # An unknown similarity is refused, and constant models are named, before work starts. Three conditions have as many
    # pairs: an array may be their square RDM.
    is_stack = n_pairs != run.patches.n_conditions or isinstance(models, (dict, list, tuple))
    check = compare_condensed if is_stack else compare
    check(np.arange(n_pairs, dtype=np.float64)[None], rows, similarity, nan_policy="omit")
    shape = (*run.lead, len(rows))
    result = result_of(out, shape)
    flat = result.reshape(-1, len(rows))
    policy = "omit" if nan_policy == "omit" else "propagate"

    def use(places: NDArray[np.intp], rdms: Floats) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            flat[places] = compare_condensed(
                rdms, rows, similarity, nan_policy=policy, n_threads=run.n_threads
            )

    run.each(use)
    missing = sum(
        int(np.isnan(flat[k : k + 4096]).all(axis=1).sum()) for k in range(0, len(flat), 4096)
    )
    warn_missing(missing, len(flat), "RDMs without similarity to the models: NaN in the results")
    if out is not None:
        return result
    return with_leading(result, run.data, run.axes, axis_of_models(models, len(rows)), models)


def _target_scores(run: _Run, targets: dict[Any, Target]) -> dict[Any, Score]:
    orders = _orders(run.labels, targets)
    for name, target in targets.items():
        if target.n_pairs != run.patches.n_pairs:
            raise ValueError(
                f"the target {target.name or name or 'passed as models'} has {target.n_conditions} conditions, and data"
                f" have {run.patches.n_conditions}"
            )
    total = run.patches.centres.n * run.patches.n_windows
    found: dict[Any, dict[str, Floats]] = {name: {} for name in targets}
    missing = np.zeros(total, np.bool_)

    def use(places: NDArray[np.intp], rdms: Floats) -> None:
        whole = ~np.isnan(rdms).any(axis=1)
        for name, target in targets.items():
            some = np.ones(len(rdms), np.bool_) if target.nan_policy == "omit" else whole
            missing[places[~some]] = True
            if not some.any():
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                chosen = rdms if some.all() else rdms[some]
                chosen = chosen if orders[name] is None else chosen[:, orders[name]]
                score = target.score(chosen, over_time="mean", n_threads=run.n_threads)
            for field, values in vars(score).items():
                empty = found[name].setdefault(field, np.full((total, *values.shape[1:]), np.nan))
                empty[places[some]] = values
            missing[places[some][np.isnan(score.value)]] = True

    run.each(use)
    warn_missing(int(missing.sum()), total, "RDMs without a score: NaN in the results")
    return {name: _score(found[name], targets[name], run.lead, total) for name in targets}


def _orders(
    labels: Labels | None, targets: dict[Any, Target]
) -> dict[Any, NDArray[np.intp] | None]:
    """Return where the pairs of each target are in RDMs of the data, None if in the same order; a warning says so."""
    orders: dict[Any, NDArray[np.intp] | None] = {}
    known = set()
    for name, target in targets.items():
        order = find_order(labels, target.labels)
        orders[name] = None if order is None else order.pairs()
        if order is not None and labels and target.labels and target.labels.values not in known:
            known.add(target.labels.values)
            warn_reordered([labels], target.labels)
    return orders


def _score(found: dict[str, Floats], target: Target, lead: tuple[int, ...], total: int) -> Score:
    if not found:
        fields = {name: np.full(total, np.nan) for name in Score.__dataclass_fields__}
        found = {**fields, "rho": np.full((total, target.n_subjects), np.nan)}
    score = Score(**found)
    return replace(
        score, **{name: values.reshape(*lead, *values.shape[1:]) for name, values in found.items()}
    )
