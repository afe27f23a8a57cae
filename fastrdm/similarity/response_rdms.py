"""Responses of subjects → their RDMs, with z-scores, noise normalisation and cross-validation over repeats."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_choice, counted
from fastrdm.rdm import calc_rdm, method_named
from fastrdm.responses import (
    MeasuredResponses,
    deviations_of_repeats,
    mean_of_repeats,
    measured,
    per_measurement,
    per_subject,
    session_index,
)

Rdms = NDArray[np.float64]
_Responses = NDArray[np.floating[Any]]
_REPEATS, _SESSIONS = "repeats", "sessions"


def rdms_of_responses(
    responses: Any,
    method: str,
    *,
    sessions: Any,
    zscore: bool | None,
    folds: Any,
    residuals: Any,
    estimator: str | None,
    nan_policy: str,
    n_threads: int | None,
) -> tuple[Rdms, MeasuredResponses]:
    """Return the RDM of each subject, (subjects, pairs), and the checked responses; see `Target.from_responses`."""
    is_crossed = "folds" in method_named(method).takes
    if folds is not None and not is_crossed:
        raise ValueError(f"method {method!r} takes no folds; 'crossnobis' does")
    if isinstance(folds, str):
        check_choice(folds, (_REPEATS, _SESSIONS), "folds")
        if folds == _SESSIONS and sessions is None:
            raise ValueError("folds is 'sessions', but sessions is missing")
    if isinstance(residuals, str):
        check_choice(residuals, (_REPEATS,), "residuals")
    given = measured(responses)
    if given.n_conditions < 2:
        raise ValueError(f"{given.name} has one condition; an RDM needs 2 or more")
    wants_zscores = sessions is not None if zscore is None else zscore
    scored = given.zscored(sessions) if wants_zscores else given
    chosen = sessions if isinstance(folds, str) and folds == _SESSIONS else folds
    each_fold = per_measurement(None if isinstance(chosen, str) else chosen, given, "folds")
    each_residual = per_subject(residuals, given, "residuals")
    rdms = []
    for k, array in enumerate(scored.arrays):
        name = scored.label(k)
        units = np.asarray(~np.isnan(array).all(axis=(0, 1)))
        array = array[:, :, units]
        options: dict[str, Any] = {"estimator": estimator, "n_threads": n_threads}
        if isinstance(each_residual[k], str):
            options["residuals"] = deviations_of_repeats(array, name)
        elif each_residual[k] is not None:
            options["residuals"] = _of_units(each_residual[k], units, f"residuals of {name}")
        if is_crossed:
            rows, here = _measurements(array, name, method)
            fold = _folds(each_fold[k], array, f"folds of {name}")
            options |= {"folds": fold[here], "conditions": np.nonzero(here)[1]}
            lacking = np.asarray(~here.any(axis=0))
        else:
            rows, lacking = _means(array, name)
        rdms.append(_embedded(rows, method, options, lacking, name, nan_policy))
    return np.stack(rdms), given


def _means(array: _Responses, name: str) -> tuple[_Responses, NDArray[np.bool_]]:
    """Return the means over repeats of the conditions that there are, and which conditions are lacking."""
    mean = mean_of_repeats(array)
    missing = np.isnan(mean)
    lacking = np.asarray(missing.all(axis=1))
    _check_complete(missing & ~lacking[:, None], name, ("condition", "unit"))
    return mean[~lacking], lacking


def _measurements(
    array: _Responses, name: str, method: str
) -> tuple[_Responses, NDArray[np.bool_]]:
    """Return the measurements that there are, and which these are, (repeats, conditions)."""
    if len(array) < 2:
        raise ValueError(
            f"{name} has one repeat of {array.shape[1]} conditions and {array.shape[2]} units; method {method!r} needs"
            " 2 or more"
        )
    missing = np.isnan(array)
    here = np.asarray(~missing.all(axis=2))
    _check_complete(missing & here[:, :, None], name, ("repeat", "condition", "unit"))
    return array[here], here


def _check_complete(missing: NDArray[np.bool_], name: str, axes: tuple[str, ...]) -> None:
    """Raise a ValueError if some units are missing where others are not."""
    if not missing.any():
        return
    first = np.unravel_index(int(np.argmax(missing)), missing.shape)
    where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, first, strict=True))
    count = int(missing.any(axis=tuple(range(missing.ndim - 1))).sum())
    raise ValueError(
        f"{name}: {counted(count, 'unit')} of {missing.shape[-1]} are NaN in measurements that other units have, first"
        f" at {where}; an RDM needs all units, so leave these out"
    )


def _folds(folds: Any, array: _Responses, name: str) -> NDArray[np.intp]:
    """Return the fold of each measurement, (repeats, conditions): by default its repeat."""
    if folds is None:
        return np.broadcast_to(np.arange(len(array))[:, None], array.shape[:2])
    return session_index(folds, array.shape, name)


def _of_units(residuals: Any, units: NDArray[np.bool_], name: str) -> Any:
    """Return the residuals of the units that have responses."""
    if units.all():
        return residuals
    array = np.asarray(residuals)
    if array.ndim != 2 or array.shape[1] != len(units):
        raise ValueError(f"{name} have shape {array.shape}; expected (observations, {len(units)})")
    return array[:, units]


def _embedded(
    rows: _Responses,
    method: str,
    options: dict[str, Any],
    lacking: NDArray[np.bool_],
    name: str,
    nan_policy: str,
) -> Rdms:
    """Return the RDM over all conditions; NaN for pairs with one that is lacking."""
    n = len(lacking)
    if lacking.any():
        first = int(np.argmax(lacking))
        held = f"{name} has no response to {counted(int(lacking.sum()), 'condition')} of {n}, first {first}"
        if nan_policy == "raise":
            raise ValueError(f"{held}; leave them out, or pass nan_policy='omit'")
        if n - lacking.sum() < 2:
            raise ValueError(f"{held}; an RDM needs 2 or more")
    try:
        rdm: Rdms = calc_rdm(rows, method, **options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if not lacking.any():
        return rdm
    first_of, second_of = np.triu_indices(n, 1)
    whole = np.full(len(first_of), np.nan)
    whole[~(lacking[first_of] | lacking[second_of])] = rdm
    return whole
