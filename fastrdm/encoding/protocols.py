"""Conventions of the field for scores of encoding models, as named presets; r of units → one number for a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import as_floats, choose, depth
from fastrdm.encoding.ceilings import UnitCeilings
from fastrdm.encoding.decomposition import Floats
from fastrdm.responses import explainable_variance, ncsnr, per_subject

# What Algonauts 2023 takes for a noise ceiling of 0.
_LEAST_CEILING = 1e-14


@dataclass(frozen=True)
class EncodingProtocol:
    """Convention for scoring predictions of responses.

    Attributes
    ----------
    name : str
        Name of the convention.
    formula : str
        The score in terms of r, the correlation of a unit's responses with held-out predictions.
    source : str
        Reference for the convention.
    noise_ceiling : str
        Noise ceiling of a unit: ``"ncsnr"``, the share of explainable variance by NSD's ncsnr, or ``"reliability"``,
        the split-half reliability with Spearman–Brown correction.
    by_unit : bool
        Whether r² is divided by the noise ceiling in each unit, before the median over units; negative r counts as 0.
        Otherwise the median of r is divided by the median of the noise ceiling, and squared, whatever its sign.
    by_fold : bool
        Whether r is computed within each fold and averaged over folds, or over all folds together.
    clips : bool
        Whether ratios above 1 count as 1, and a noise ceiling of 0 as 1e-14. Otherwise, if `by_unit`, units whose noise
        ceiling is not positive are left out.
    pools : bool
        Whether the median is over the units of all subjects together, or the mean over subjects of their medians.
    fit : mapping of str to value
        Arguments of `Responses.score` that come nearest to the convention; empty if it does not say how to predict.
    """

    name: str
    formula: str
    source: str
    noise_ceiling: str
    by_unit: bool
    by_fold: bool
    clips: bool
    pools: bool
    fit: Mapping[str, Any] = field(default_factory=dict)


#: Protocols of benchmarks that predict responses, by name, for `fastrdm.encoding.ResponseScore.under`.
ENCODING_PROTOCOLS: Mapping[str, EncodingProtocol] = MappingProxyType(
    {
        p.name: p
        for p in (
            EncodingProtocol(
                "nsd",
                formula="mean over subjects of the median over units of r² / NC, NC = ncsnr² / (ncsnr² + mean of 1 / "
                "m)",
                source="Allen et al. 2022, Nat. Neurosci. 25:116, and the NSD data manual define the noise ceiling "
                "NC of means over m trials; they prescribe no summary over voxels, for which the median is "
                "taken here. Negative r counts as 0, and voxels without signal (NC = 0) are left out",
                noise_ceiling="ncsnr",
                by_unit=True,
                by_fold=False,
                clips=False,
                pools=False,
            ),
            EncodingProtocol(
                "algonauts2023",
                formula="median over the units of all subjects of min(1, max(0, r)² / NC), NC as in nsd",
                source="Gifford et al. 2023, arXiv:2301.03198, and the challenge's code for its metric (median "
                "noise-normalised squared correlation, there in percent): negative r is set to 0, NC = 0 to "
                "1e-14, ratios above 1 to 1",
                noise_ceiling="ncsnr",
                by_unit=True,
                by_fold=False,
                clips=True,
                pools=True,
            ),
            EncodingProtocol(
                "brainscore-ridge",
                formula="(median over units of r / median over units of the reliability)²",
                source="Schrimpf et al. 2020, Neuron 108(3), and Brain-Score's metric 'ridge' (Ridge(alpha=1), "
                "Pearson's r in each of ten random splits into 90 % and 10 %, median over the neurons of all "
                "animals, mean over splits), metrics/internal_consistency (random halves of repetitions, 2 r "
                "/ (1 + r), not its root) and explained_variance of benchmark_helpers/neural_common. Here ten"
                " folds take the place of the ten splits, which are stratified by object there",
                noise_ceiling="reliability",
                by_unit=False,
                by_fold=True,
                clips=False,
                pools=True,
                fit={"method": "ridge", "alphas": (1.0,), "folds": 10},
            ),
        )
    }
)


@dataclass(frozen=True, eq=False)
class ProtocolScore:
    """Scores of models under a convention.

    Attributes
    ----------
    protocol : EncodingProtocol
        The convention.
    value : ndarray, shape (models,)
        The score, a fraction: 1 is the noise ceiling. Multiply by 100 for percent.
    per_subject : ndarray, shape (models, subjects)
        The score of each subject's units alone.
    noise_ceiling : tuple of ndarray, shape (units,)
        For each subject, the noise ceiling of each unit, in the unit of the convention.
    n_units : int
        Number of units that count, of all subjects.
    names : tuple of str
        Models.
    """

    protocol: EncodingProtocol
    value: Floats
    per_subject: Floats
    noise_ceiling: tuple[Floats, ...]
    n_units: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        width = max(map(len, self.names))
        rows = (f"{name:<{width}}  {v:.4f}" for name, v in zip(self.names, self.value, strict=True))
        return "\n".join([f"{self.protocol.name}, {self.n_units} units:", *rows])

    __repr__ = __str__


def score_under(
    protocol: str | EncodingProtocol,
    r: Sequence[Floats],
    r_folds: Sequence[Floats],
    ceilings: UnitCeilings,
    names: tuple[str, ...],
    noise_ceiling: ArrayLike | None = None,
) -> ProtocolScore:
    """Return the scores of models, from each subject's r (models, units) and r_folds (models, folds, units).

    ValueError if the protocol is unknown, the responses have no repeats, or a noise ceiling that was passed does not
    fit the units.
    """
    if isinstance(protocol, str):
        protocol = choose(protocol, ENCODING_PROTOCOLS, "protocol")
    known = _noise_ceilings(protocol, ceilings, noise_ceiling)
    leaves_out = protocol.by_unit and not protocol.clips
    counted = [c > 0 if leaves_out else ~np.isnan(c) for c in known]
    used = [c[which] for c, which in zip(known, counted, strict=True)]
    chosen = r_folds if protocol.by_fold else r
    values = [each[..., which] for each, which in zip(chosen, counted, strict=True)]
    subjects = np.stack(
        [_median_score(protocol, [v], [c]) for v, c in zip(values, used, strict=True)], axis=1
    )
    value = _median_score(protocol, values, used) if protocol.pools else subjects.mean(axis=1)
    n_units = sum(int(which.sum()) for which in counted)
    return ProtocolScore(protocol, value, subjects, tuple(known), n_units, names)


def _noise_ceilings(
    protocol: EncodingProtocol, ceilings: UnitCeilings, given: ArrayLike | None
) -> list[Floats]:
    """Return each subject's noise ceilings (units,), computed unless they are given."""
    measured = ceilings.measured
    if given is not None:
        found = []
        if not isinstance(given, (list, tuple, Mapping)) and depth(given) == 2:
            given = list(as_floats(given, "noise_ceiling", masked_as_nan=True))
        for k, each in enumerate(per_subject(given, measured, "noise_ceiling")):
            name = f"noise_ceiling of {measured.label(k)}"
            values = as_floats(each, name, masked_as_nan=True).astype(np.float64)
            if values.shape != (measured.n_units[k],):
                raise ValueError(
                    f"{name} has shape {values.shape}, but there are {measured.n_units[k]} units"
                )
            found.append(values)
        return found
    if protocol.noise_ceiling == "reliability":
        return list(ceilings.reliability)
    pairs = zip(ncsnr(measured), measured.counts(), strict=True)
    return [np.asarray(explainable_variance(*pair), np.float64) for pair in pairs]


def _median_score(
    protocol: EncodingProtocol, r: Sequence[Floats], ceilings: Sequence[Floats]
) -> Floats:
    """Return the score (models,) of the units of some subjects, r (models, units) or (models, folds, units)."""
    values, ceiling = np.concatenate(r, axis=-1), np.concatenate(ceilings)
    if protocol.by_unit:
        if protocol.clips:
            ceiling = np.maximum(ceiling, _LEAST_CEILING)
        values = np.maximum(values, 0) ** 2 / ceiling
        return _average(np.minimum(values, 1) if protocol.clips else values, np.median)
    median = _average(values, np.median)
    if protocol.by_fold:
        median = _average(median, np.mean)
    return np.asarray((median / _average(ceiling, np.median)) ** 2)


def _average(values: Floats, average: Callable[..., Any]) -> Floats:
    """Average over the last axis, without NaN; NaN if there is nothing else."""

    def without_nan(row: Floats) -> float:
        kept = row[~np.isnan(row)]
        return float(average(kept)) if len(kept) else np.nan

    return np.apply_along_axis(without_nan, -1, values)
