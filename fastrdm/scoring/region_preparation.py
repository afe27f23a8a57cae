"""Regions of studies → scorers for a measure, with ceilings and what their scores depend on."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.encoding import ENCODING_PROTOCOLS, Responses, folds_of
from fastrdm.rdm import Gram
from fastrdm.scoring.region_scorers import (
    AlignmentScorer,
    RdmScorer,
    RegionScorer,
    RegressionScorer,
    median_of,
    quietly,
)
from fastrdm.scoring.results import RSA
from fastrdm.scoring.time_axis import axis_of, has_axis
from fastrdm.similarity import Protocol, Target, cka
from fastrdm.studies import Study

_Grams = Sequence[Gram | NDArray[np.float64]]

# Options of `Responses.score` that only one method takes.
_OPTIONS_OF = {"alphas": "ridge", "n_components": "pls"}


def rdm_scorer(study: Study, region: str, over_time: str | None = None) -> RegionScorer | None:
    """A region for "rsa", by the target's protocol and ceiling, or those of each time point."""
    target = study.targets.get(region)
    if target is None:
        return None
    axis = None
    if has_axis(target, over_time):
        axis = axis_of(
            target, target.ceilings, f"the region {region!r} of the study {study.name!r}"
        )
    return RdmScorer(
        study=study.name,
        region=region,
        measure=RSA,
        protocol=target.protocol,
        ceiling=axis.mean_ceiling if axis else target.ceiling,
        n_subjects=target.n_subjects,
        data=target.sha256,
        facts={"nan_policy": target.nan_policy, **(axis.facts() if axis else {})},
        axis=axis,
        target=target,
    )


def alignment_scorer(
    protocol: Protocol, study: Study, region: str, over_time: str | None = None
) -> RegionScorer | None:
    """A region for CKA, with Gram matrices of responses, or of the subjects' RDMs as squared distances.

    The ceiling is the mean over subjects of the CKA with the mean of all subjects' centred matrices, each divided by
    its length; for one subject it is 1.
    """
    grams: _Grams = study.grams.get(region, ())
    target = study.targets.get(region)
    n_times, source = 1, "Gram matrices"
    if not grams and _lacks_responses(study.responses.get(region)):
        raise ValueError(
            f"the measure {protocol.name!r} needs all units for all stimuli, and units of the region {region!r} of the"
            f" study {study.name!r} lack some; choose units with a mask, or other measures or regions"
        )
    if not grams:
        if target is None:
            return None
        grams, n_times, source = _grams_of_rdms(target, study, region), target.n_times, "RDMs"
    debiased = protocol.name == "cka-debiased"
    n = len(grams[0].products if isinstance(grams[0], Gram) else grams[0])
    if debiased and n < 4:
        raise ValueError(
            f"the measure {protocol.name!r} needs at least 4 stimuli, and the study {study.name!r} has {n}"
        )
    n_subjects = len(grams) // n_times
    ceilings = _alignment_ceilings(grams, n_times, debiased)
    facts: dict[str, Any] = {"data": source, "times": n_times}
    axis = None
    if n_times > 1 and has_axis(target, over_time) and target is not None:
        where = f"the region {region!r} of the study {study.name!r}"
        axis = axis_of(target, np.array(ceilings), where)
        facts |= axis.facts()
    return AlignmentScorer(
        study=study.name,
        region=region,
        measure=protocol.name,
        protocol=protocol,
        ceiling=axis.mean_ceiling if axis else float(np.mean(ceilings)),
        n_subjects=n_subjects,
        data=_digest(each.products if isinstance(each, Gram) else each for each in grams),
        facts=facts,
        axis=axis,
        subjects=grams,
        n_times=n_times,
        debiased=debiased,
    )


def _lacks_responses(responses: Responses | None) -> bool:
    return responses is not None and any(np.isnan(means).any() for means in responses.means)


def _grams_of_rdms(target: Target, study: Study, region: str) -> _Grams:
    """Centred products of each subject and time, with the subjects' RDMs as squared distances."""
    rdms = target.subject_rdms.reshape(-1, target.n_pairs)
    if np.isnan(rdms).any():
        raise ValueError(
            f"the measure 'cka' needs all pairs of stimuli, and RDMs of the region {region!r} of the study"
            f" {study.name!r} have NaN; choose other measures or regions"
        )
    products = []
    upper = np.triu_indices(target.n_conditions, 1)
    for rdm in rdms:
        square = np.zeros((target.n_conditions, target.n_conditions))
        square[upper] = rdm
        square += square.T
        means = square.mean(axis=0)
        products.append((means + means[:, None] - means.mean() - square) / 2)
    return products


def _alignment_ceilings(grams: _Grams, n_times: int, debiased: bool) -> list[float]:
    """The ceiling of each time point."""
    found = []
    for time in range(n_times):
        subjects = list(grams[time::n_times])
        centred = [each.centred() if isinstance(each, Gram) else each for each in subjects]
        lengths = [float(np.linalg.norm(each)) for each in centred]
        mean = sum(each / length for each, length in zip(centred, lengths, strict=True) if length)
        similarities = quietly(partial(cka, subjects, np.asarray(mean), debiased))
        found.append(float(similarities.mean()))
    return found


def regression_scorer(
    protocol: Protocol, study: Study, region: str, over_time: str | None = None
) -> RegionScorer | None:
    """A region for "ridge" or "pls", by the median over units of r.

    The ceiling is the mean over subjects of the median over units of √reliability, from repeats; units without a
    positive reliability do not count. Without repeats it is 1, and all units count. Under a convention of the study it
    is 1 too, because the convention divides by the ceilings of units.
    """
    responses = study.responses.get(region)
    if responses is None:
        return None
    where = f"the region {region!r} of the study {study.name!r}"
    convention = ENCODING_PROTOCOLS[name] if (name := study.conventions.get(region)) else None
    if convention and min(responses.n_repeats) < 2:
        raise ValueError(
            f"the protocol {convention.name!r} needs repeats, and {where} has one response to each stimulus"
        )
    options = {
        name: value
        for name, value in {
            **(convention.fit if convention else {}),
            **study.options.get(region, {}),
        }.items()
        if name != "method" and _OPTIONS_OF.get(name, protocol.name) == protocol.name
    }
    _check_regression(responses, protocol.name, options, where)
    has_repeats = min(responses.n_repeats) > 1
    ceilings = [np.ones(n) for n in responses.n_units]
    if has_repeats:
        ceilings = list(responses.ceiling)
    units = [~np.isnan(each) for each in ceilings]
    for subject, known in zip(responses.subjects, units, strict=True):
        if not known.any():
            raise ValueError(
                f"no unit of subject {subject} of {where} has a positive reliability over repeats, so the measure"
                f" {protocol.name!r} has no ceiling; choose units with a mask, or other measures or regions"
            )
    medians = [median_of(each, which) for each, which in zip(ceilings, units, strict=True)]
    return RegressionScorer(
        study=study.name,
        region=region,
        measure=protocol.name,
        protocol=protocol,
        ceiling=1.0 if convention else float(np.mean(medians)),
        n_subjects=responses.n_subjects,
        # The convention's ceilings depend on the repeats, as the reliabilities do.
        data=_digest([*responses.means, *units, *(responses.reliability if convention else ())]),
        facts={
            "nan_policy": responses.nan_policy,
            "options": _plain(options),
            "repeats": has_repeats,
            # Results of older versions have no convention.
            **({"convention": convention.name} if convention else {}),
        },
        responses=responses,
        units=units,
        options=options,
        convention=convention,
    )


def _check_regression(
    responses: Responses, method: str, options: Mapping[str, Any], where: str
) -> None:
    """Refuse what would be refused for every layer."""
    chosen = {name: options[name] for name in ("seed", "groups", "strata") if name in options}
    try:
        folds = folds_of(options.get("folds", 5), responses.n_conditions, **chosen)
        smallest = responses.n_conditions - int(np.bincount(folds.numbers).max())
        n_components = options.get("n_components", 1)
        if n_components > smallest - 1:
            raise ValueError(
                f"n_components is {n_components}, and a fold has {smallest} training conditions, which allow at most"
                f" {smallest - 1}"
            )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if method == "pls":
        for subject, means in zip(responses.subjects, responses.means, strict=True):
            missing = np.isnan(means)
            if (missing.any(axis=1) != missing.all(axis=1)).any():
                raise ValueError(
                    f"the measure 'pls' fits the units of a subject together, and those of subject {subject} of {where}"
                    " lack different stimuli; choose units with a mask, or the measure 'ridge'"
                )


def _plain(value: Any) -> Any:
    """Options as values of JSON; long lists as their SHA-256."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in sorted(value.items())}
    if isinstance(value, np.ndarray | list | tuple):
        text = json.dumps(np.asarray(value).tolist())
        return text if len(text) < 200 else hashlib.sha256(text.encode()).hexdigest()
    return value.item() if isinstance(value, np.generic) else value


def _digest(arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256 of arrays, with their shapes and order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, "<f8").data)
    return digest.hexdigest()
