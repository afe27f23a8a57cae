"""rsatoolbox's datasets → its RDMs: `calc_rdm` and a function for each method."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels, rdm
from fastrdm.interop.rsatoolbox.averages import Doubles, FoldAverages, conditions_of
from fastrdm.interop.rsatoolbox.originals import original, toolbox

_CALC = "rdm.calc"


def calc_rdm(
    dataset: Any,
    method: str = "euclidean",
    descriptor: str | None = None,
    noise: Any = None,
    cv_descriptor: str | None = None,
    prior_lambda: float = 1.0,
    prior_weight: float = 0.1,
    remove_mean: bool = False,
) -> Any:
    """Compute the RDM of a dataset, or the RDMs of a list of datasets, as `rsatoolbox.rdm.calc_rdm`.

    Distances are divided by the number of channels, as rsatoolbox does. ``poisson_cv`` is that of the last fold, as in
    rsatoolbox 0.3. Measurements that are not finite, folds that lack a condition, and a precision that is not symmetric
    for ``mahalanobis`` go on to rsatoolbox's own functions, with their results and errors.

    Parameters
    ----------
    dataset : rsatoolbox.data.Dataset, or list of such
        Measurements (observations, channels). The RDMs of a list are concatenated, or with `descriptor` brought to all
        conditions that occur, with NaN for those that a dataset lacks.
    method : {"euclidean", "correlation", "mahalanobis", "crossnobis", "poisson", "poisson_cv"}
        Measure of dissimilarity. ``euclidean`` and ``mahalanobis`` are squared.
    descriptor : str, optional
        The observation descriptor with the conditions; observations of one condition are averaged. RDMs have the
        conditions in sorted order. By default, each observation is a condition.
    noise : ndarray, shape (channels, channels), or list of such, optional
        Precision of the noise, for ``mahalanobis`` and ``crossnobis``. For one dataset, a list has one for each fold of
        ``crossnobis``; for a list of datasets, one for each dataset.
    cv_descriptor : str, optional
        The observation descriptor with the folds, for ``crossnobis`` and ``poisson_cv``; by default the first
        occurrence of each condition is in the first fold, and so on.
    prior_lambda, prior_weight : float
        Prior of the rates, for ``poisson`` and ``poisson_cv``.
    remove_mean : bool
        Subtract each condition's mean over channels, for the methods where that matters.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        RDMs with the descriptors and the type that rsatoolbox gives them: float64, or that of floating-point
        measurements that are not averaged; computed in float64. NaN for pairs of a condition that is constant over
        channels, for ``correlation``.

    Raises
    ------
    NotImplementedError
        If the method is unknown.
    MissingExtraError
        If rsatoolbox is not installed.

    Warns
    -----
    RuntimeWarning
        If conditions are constant over channels, for ``correlation``.

    Examples
    --------
    >>> from fastrdm.interop.rsatoolbox import calc_rdm
    >>> rdms = calc_rdm(dataset, "crossnobis", "condition", cv_descriptor="run")  # doctest: +SKIP
    """
    options = descriptor, cv_descriptor, prior_lambda, prior_weight, remove_mean
    # An array is iterable for rsatoolbox too: its entries are the noises of the datasets.
    if not isinstance(dataset, Iterable):
        return _calc_rdm_single(dataset, method, noise, *options)
    shared = not isinstance(noise, Iterable)
    rdms = [
        _calc_rdm_single(each, method, noise if shared else noise[i], *options)
        for i, each in enumerate(dataset)
    ]
    if descriptor is None:
        return toolbox("rdm.rdms").concat(rdms)
    return toolbox("rdm.combine").from_partials(rdms, descriptor=descriptor)


def _calc_rdm_single(
    dataset: Any,
    method: str,
    noise: Any,
    descriptor: str | None,
    cv_descriptor: str | None,
    prior_lambda: float,
    prior_weight: float,
    remove_mean: bool,
) -> Any:
    prior = {"prior_lambda": prior_lambda, "prior_weight": prior_weight}
    if method == "euclidean":
        rdms = calc_rdm_euclidean(dataset, descriptor, remove_mean)
    elif method == "correlation":
        rdms = calc_rdm_correlation(dataset, descriptor)
    elif method == "mahalanobis":
        rdms = calc_rdm_mahalanobis(dataset, descriptor, noise, remove_mean)
    elif method == "crossnobis":
        rdms = calc_rdm_crossnobis(dataset, descriptor, noise, cv_descriptor, remove_mean)
    elif method == "poisson":
        rdms = calc_rdm_poisson(dataset, descriptor, **prior)
    elif method == "poisson_cv":
        rdms = calc_rdm_poisson_cv(dataset, descriptor, cv_descriptor=cv_descriptor, **prior)
    else:
        # The type that rsatoolbox raises, which its callers catch.
        raise NotImplementedError(
            f"method {method!r} is unknown; rsatoolbox has euclidean, correlation, mahalanobis, crossnobis, poisson"
            " and poisson_cv"
        )
    if descriptor is not None:
        rdms.sort_by(reindex=True, **{descriptor: "alpha"})
    return rdms


def calc_rdm_euclidean(
    dataset: Any, descriptor: str | None = None, remove_mean: bool = False
) -> Any:
    """Compute squared Euclidean distances / channels, as `rsatoolbox.rdm.calc_rdm_euclidean`."""
    own = original(_CALC, "calc_rdm_euclidean")
    found = conditions_of(dataset, descriptor)
    if found is None:
        return own(dataset, descriptor, remove_mean)
    rows, values = found
    distances = _distances(_without_mean(rows, remove_mean), "sqeuclidean")
    if distances is None:
        return own(dataset, descriptor, remove_mean)
    distances = _in_type_of(distances / rows.shape[1], rows)
    return _build(distances, dataset, "squared euclidean", descriptor, values)


def calc_rdm_correlation(dataset: Any, descriptor: str | None = None) -> Any:
    """Compute 1 − r, as `rsatoolbox.rdm.calc_rdm_correlation`."""
    own = original(_CALC, "calc_rdm_correlation")
    found = conditions_of(dataset, descriptor)
    if found is None:
        return own(dataset, descriptor)
    rows, values = found
    angles = _distances(rows, "correlation")
    if angles is None:
        return own(dataset, descriptor)
    return _build(angles, dataset, "correlation", descriptor, values)


def calc_rdm_mahalanobis(
    dataset: Any, descriptor: str | None = None, noise: Any = None, remove_mean: bool = False
) -> Any:
    """Compute squared Mahalanobis distances / channels, as `rsatoolbox.rdm.calc_rdm_mahalanobis`."""
    if noise is None:
        return calc_rdm_euclidean(dataset, descriptor, remove_mean)
    own = original(_CALC, "calc_rdm_mahalanobis")
    found = conditions_of(dataset, descriptor)
    if found is None or not isinstance(noise, np.ndarray) or noise.ndim != 2:
        return own(dataset, descriptor, noise, remove_mean)
    rows, values = found
    noise = toolbox(_CALC)._check_noise(noise, dataset.n_channel)
    # Both products of two rows are added; rsatoolbox takes the first twice.
    if (
        noise.dtype.kind not in "fiu"
        or not np.abs(noise - noise.T).max() <= 1e-12 * np.abs(noise).max()
    ):
        return own(dataset, descriptor, noise, remove_mean)
    centred = _without_mean(rows, remove_mean).astype(np.float64)
    squares = _in_type_of(_symmetric(centred @ noise, centred), rows, noise)
    return _build(squares, dataset, "squared mahalanobis", descriptor, values, noise=noise)


def calc_rdm_crossnobis(
    dataset: Any,
    descriptor: str | None,
    noise: Any = None,
    cv_descriptor: str | None = None,
    remove_mean: bool = False,
) -> Any:
    """Compute cross-validated distances / channels, as `rsatoolbox.rdm.calc_rdm_crossnobis`."""
    own = original(_CALC, "calc_rdm_crossnobis")
    if isinstance(noise, dict):
        return own(dataset, descriptor, noise, cv_descriptor, remove_mean)
    noise = toolbox(_CALC)._check_noise(noise, dataset.n_channel)
    found = None if descriptor is None else _folds(dataset, descriptor, cv_descriptor)
    if found is None:
        return own(dataset, descriptor, noise, cv_descriptor, remove_mean)
    averages, ordered, cv_descriptor = found
    if noise is None or (isinstance(noise, np.ndarray) and noise.ndim == 2):
        total = _one_noise(averages, noise, remove_mean)
    else:
        total = _noise_of_folds(averages, noise, remove_mean)
    if noise is None:
        noise = np.eye(dataset.n_channel)
    labels = {"noise": noise, "cv": cv_descriptor}
    return _build(total, ordered, "crossnobis", descriptor, averages.names, **labels)


def calc_rdm_poisson(
    dataset: Any,
    descriptor: str | None = None,
    prior_lambda: float = 1.0,
    prior_weight: float = 0.1,
) -> Any:
    """Compute symmetrised Kullback-Leibler divergences of rates, as `rsatoolbox.rdm.calc.calc_rdm_poisson`."""
    found = conditions_of(dataset, descriptor)
    if found is not None:
        rows, values = found
        rates = _rates(rows, prior_lambda, prior_weight)
        if (rates > 0).all():
            distances = _in_type_of(_symmetric(rates, np.log(rates)), rows)
            return _build(distances, dataset, "poisson", descriptor, values)
    return original(_CALC, "calc_rdm_poisson")(dataset, descriptor, prior_lambda, prior_weight)


def calc_rdm_poisson_cv(
    dataset: Any,
    descriptor: str | None = None,
    prior_lambda: float = 1.0,
    prior_weight: float = 0.1,
    cv_descriptor: str | None = None,
) -> Any:
    """Compute divergences of the last fold from the others, as `rsatoolbox.rdm.calc.calc_rdm_poisson_cv`."""
    found = None if descriptor is None else _folds(dataset, descriptor, cv_descriptor)
    if found is not None:
        averages, ordered, _ = found
        last = len(averages) - 1
        train, test = (
            _rates(rows, prior_lambda, prior_weight)
            for rows in (averages.outside(last), averages.within(last))
        )
        if (test > 0).all():
            distances = _symmetric(train, np.log(test))
            return _build(distances, ordered, "poisson_cv", descriptor, averages.names)
    own = original(_CALC, "calc_rdm_poisson_cv")
    return own(dataset, descriptor, prior_lambda, prior_weight, cv_descriptor)


def _distances(rows: NDArray[Any], method: str) -> Doubles | None:
    """Return an RDM; None if the kernels refuse the numbers."""
    try:
        return np.asarray(rdm.calc_rdm(rows, method))
    except ValueError:
        return None


def _in_type_of(distances: Doubles, *given: NDArray[Any]) -> NDArray[Any]:
    """Return distances in the type of floating-point arrays."""
    kind = np.result_type(*given)
    return distances.astype(kind) if kind.kind == "f" else distances


def _without_mean(rows: NDArray[Any], remove_mean: bool) -> NDArray[Any]:
    return rows - rows.mean(axis=1, keepdims=True) if remove_mean else rows


def _rates(rows: NDArray[Any], prior_lambda: float, prior_weight: float) -> Doubles:
    return np.asarray((rows + prior_lambda * prior_weight) / (1 + prior_weight), np.float64)


def _symmetric(first: Doubles, second: Doubles) -> Doubles:
    """Return Kᵢᵢ + Kⱼⱼ − Kᵢⱼ − Kⱼᵢ of the products K of all rows, / channels."""
    products = _kernels.cross(np.ascontiguousarray(first), np.ascontiguousarray(second))
    own = np.diag(products)
    upper = np.triu_indices(len(products), 1)
    out = own[upper[0]] + own[upper[1]] - products[upper]
    return np.asarray((out - products.T[upper]) / first.shape[1])


def _folds(
    dataset: Any, descriptor: str, cv_descriptor: str | None
) -> tuple[FoldAverages, Any, str] | None:
    """Return the averages of folds, the sorted descriptors of observations, and the descriptor of the folds."""
    observations = dict(dataset.obs_descriptors)
    conditions = observations[descriptor]
    if cv_descriptor is None:
        cv_descriptor = "cv_desc"
        default = toolbox(_CALC)._gen_default_cv_descriptor
        observations[cv_descriptor] = default(dataset, descriptor)
    averages = FoldAverages.of(dataset, descriptor, observations[cv_descriptor])
    if averages is None:
        return None
    order = np.argsort(conditions, kind="stable")
    ordered = {name: [values[i] for i in order] for name, values in observations.items()}
    return (
        averages,
        SimpleNamespace(descriptors=dataset.descriptors, obs_descriptors=ordered),
        cv_descriptor,
    )


def _one_noise(averages: FoldAverages, noise: Any, remove_mean: bool) -> Doubles:
    """Return the mean over folds of the distances between a fold and all others."""
    total: Any = 0.0
    for fold in range(len(averages)):
        train = averages.outside(fold, centre=remove_mean)
        if noise is not None:
            train = train @ noise
        total = total + _symmetric(train, averages.within(fold, centre=remove_mean))
    return np.asarray(total / len(averages))


def _noise_of_folds(averages: FoldAverages, noise: Any, remove_mean: bool) -> Doubles:
    """Return the mean over pairs of folds, each normalised by the mean of both covariances."""
    variances = [np.linalg.inv(noise[fold]) for fold in range(len(averages))]
    total: Any = 0.0
    n_pairs = 0
    for f in range(len(averages)):
        for g in range(f + 1, len(averages)):
            precision = np.linalg.inv((variances[f] + variances[g]) / 2)
            first = averages.within(f, centre=remove_mean) @ precision
            total = total + _symmetric(first, averages.within(g, centre=remove_mean))
            n_pairs += 1
    return np.asarray(total / n_pairs)


def _build(
    distances: NDArray[Any],
    dataset: Any,
    measure: str,
    descriptor: str | None,
    *values: Any,
    **more: Any,
) -> Any:
    """Return rsatoolbox's RDMs, with the descriptors that it makes of the dataset's."""
    build = toolbox("util.build_rdm")._build_rdms
    return build(distances, dataset, measure, descriptor, *values, **more)
