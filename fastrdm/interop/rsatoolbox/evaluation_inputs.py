"""What evaluations take out of rsatoolbox's models, RDMs and descriptors."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.interop.rsatoolbox.originals import original, toolbox
from fastrdm.interop.rsatoolbox.resampling import RANKS, SUMS, TAUS, Rows
from fastrdm.interop.rsatoolbox.vectors import similarities

Doubles = NDArray[np.float64]


_TEXT = {"U": str, "S": bytes}


@dataclass(frozen=True)
class Groups:
    """Distinct values of a descriptor, in order, and the position of each entry's value among them."""

    values: NDArray[Any]
    of: NDArray[np.intp]

    @property
    def n(self) -> int:
        """The number of groups."""
        return len(self.values)

    def counts(self, drawn: list[NDArray[Any]]) -> NDArray[np.int32]:
        """Return how often each entry is drawn (draws, entries), from positions of groups."""
        found = np.array([np.bincount(positions, minlength=self.n) for positions in drawn])
        return np.ascontiguousarray(found[:, self.of], np.int32)


@dataclass(frozen=True)
class Evaluated:
    """An evaluation of models that the kernels can do."""

    models: Sequence[Any]
    predictions: list[Any]
    data: Any
    method: str
    rows: Rows
    patterns: Groups
    rdms: Groups
    pattern_descriptor: str | None
    rdm_descriptor: str


def groups_of(descriptors: dict[str, Any], by: str) -> Groups | None:
    """Return the groups of a descriptor, or None where it has none or its values cannot be told apart."""
    if by not in descriptors:
        return None
    try:
        entries = np.asarray(descriptors[by])
        values, of = np.unique(entries, return_inverse=True)
    except (TypeError, ValueError):
        return None
    if entries.ndim != 1 or (values.dtype.kind == "f" and np.isnan(values).any()):
        return None
    # Numbers beside text become text here, by which rsatoolbox does not find them.
    text = _TEXT.get(entries.dtype.kind)
    if text is not None and not all(isinstance(each, text) for each in descriptors[by]):
        return None
    return Groups(values, np.asarray(of, np.intp).ravel())


def plan_of(
    models: Any,
    data: Any,
    theta: Any,
    method: str,
    n_draws: int,
    pattern_descriptor: str | None,
    rdm_descriptor: str,
) -> Evaluated | None:
    """Return what an evaluation needs; None leaves it to rsatoolbox, which has its own errors."""
    if method not in SUMS + RANKS or n_draws < 2 or not _finite(data) or data.n_cond < 3:
        return None
    rdms = groups_of(data.rdm_descriptors, rdm_descriptor)
    patterns = groups_of(data.pattern_descriptors, pattern_descriptor or "index")
    if rdms is None or patterns is None:
        return None
    models, _, theta, _ = toolbox("util.inference_util").input_check_model(models, theta, None, 2)
    predictions = [model.predict_rdm(theta=theta[i]) for i, model in enumerate(models)]
    for prediction in predictions:
        if not _finite(prediction) or prediction.n_cond != data.n_cond:
            return None
        if pattern_descriptor is not None and not same_values(
            prediction.pattern_descriptors, data.pattern_descriptors, pattern_descriptor
        ):
            return None
    rows = rows_of(predictions, data, rdms)
    return Evaluated(
        models,
        predictions,
        data,
        method,
        rows,
        patterns,
        rdms,
        pattern_descriptor,
        rdm_descriptor,
    )


def rows_of(predictions: Iterable[Any], data: Any, groups: Groups) -> Rows:
    """Return the vectors of predictions and data."""
    vectors = [np.asarray(p.get_vectors(), np.float64) for p in predictions]
    measured = np.ascontiguousarray(data.get_vectors(), np.float64)
    return Rows(
        np.ascontiguousarray(np.concatenate(vectors)) if vectors else measured[:0],
        np.repeat(np.arange(len(vectors)), [len(v) for v in vectors]),
        len(vectors),
        measured,
        groups.of,
        int(data.n_cond),
    )


def same_values(first: dict[str, Any], second: dict[str, Any], by: str) -> bool:
    """Return whether two dicts of descriptors have the same values of one."""
    return by in first and np.array_equal(np.asarray(first[by]), np.asarray(second[by]))


def _finite(rdms: Any) -> bool:
    vectors = getattr(rdms, "dissimilarities", None)
    if vectors is None or vectors.ndim != 2 or not vectors.size:
        return False
    return bool(np.isfinite(vectors).all())


def draw_doubtful(
    plan: Evaluated,
    rdms: NDArray[Any] | None,
    patterns: NDArray[Any] | None,
    with_ceilings: bool,
) -> tuple[Doubles, tuple[float, float]]:
    """Evaluate one draw by rsatoolbox, whose rounding decides where an RDM is constant."""
    sample, predictions = plan.data, plan.predictions
    if rdms is not None:
        sample = sample.subsample(plan.rdm_descriptor, plan.rdms.values[rdms])
    if patterns is not None:
        values = plan.patterns.values[patterns]
        sample = sample.subsample_pattern(plan.pattern_descriptor, values)
        predictions = [p.subsample_pattern(plan.pattern_descriptor, values) for p in predictions]
    evaluations = np.array([np.mean(similarities(p, sample, plan.method)) for p in predictions])
    bounds = (np.nan, np.nan)
    if with_ceilings:
        bounds = original("inference.noise_ceiling", "boot_noise_ceiling")(
            sample, method=plan.method, rdm_descriptor=plan.rdm_descriptor
        )
    return evaluations, bounds


def warn_about_tau(method: str) -> None:
    """Warn, as rsatoolbox, that no pool is optimal for Kendall's coefficients."""
    if method in TAUS:
        warnings.warn("Noise ceiling for tau based on averaged ranks!", stacklevel=4)
