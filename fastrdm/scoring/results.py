"""A score of one layer against one region of one study by one measure, and the best layers among many."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastrdm._base import list_names

# The measure of results without another: rank correlation of RDMs, or what the target's protocol takes in its place.
RSA = "rsa"
# Numbers that `Score` and `Result` have in common and that a store keeps.
COLUMNS = ("r2", "std", "sample_std", "percent_nc", "p", "value")


@dataclass(frozen=True)
class Result:
    """The score of one layer of one checkpoint against one region of one study by one measure.

    A subject's similarity is what the measure gives for it: for "rsa" that of the RDMs by the target's protocol, for
    "cka" and "cka-debiased" the centred kernel alignment, for "ridge" and "pls" the median over units of Pearson's r
    between held-out predictions and responses.

    Attributes
    ----------
    checkpoint, study, layer, region : str
        Path of the weights as given, name of the study, tap, target.
    r2 : float
        Mean over subjects of the squared similarity.
    std, sample_std : float
        Population and sample standard deviation over subjects of the protocol's values.
    percent_nc : float
        Percent of the noise ceiling.
    p : float
        P value of the protocol's test against 0.
    value, ceiling : float
        What the protocol reports (R² for the challenge), and the noise ceiling that `percent_nc` relates it to.
    low, high : float
        95 % percentile interval of `percent_nc` from a bootstrap over subjects with a fixed ceiling; NaN without one.
    p_sign_flip, p_corrected : float
        One-sided sign-flip test over subjects of the unsquared similarities against 0, and its p value corrected by
        the maximum over all layers, regions and studies of the checkpoint under the same measure; NaN without one.
    mean_rho : float
        Mean over subjects of the unsquared similarity. A negative value means that the layer orders pairs oppositely
        to the brain, however high its squared score is. NaN in results from versions that did not keep it.
    rho : tuple of float
        Each subject's unsquared similarity, averaged over time; empty if unknown.
    measure : str
        "rsa" or another name in `MEASURES`.
    time : float or None
        The time point, if time points have scores of their own; `ceiling` is then that of this time point.
    """

    checkpoint: str
    study: str
    layer: str
    region: str
    r2: float
    std: float
    sample_std: float
    percent_nc: float
    p: float
    value: float
    ceiling: float
    low: float = math.nan
    high: float = math.nan
    p_sign_flip: float = math.nan
    p_corrected: float = math.nan
    mean_rho: float = math.nan
    rho: tuple[float, ...] = ()
    measure: str = RSA
    time: float | None = None

    @property
    def signed_value(self) -> float:
        """The value, negative where the mean similarity is."""
        return -abs(self.value) if self.mean_rho < 0 else self.value


def modality_of(region: str) -> str:
    """The challenge's modality of a region; an empty string for other regions."""
    # Not at the top: a store has results without studies.
    from fastrdm.studies import algonauts

    return next((m for m, regions in algonauts.REGIONS.items() if region in regions), "")


def modalities(results: Iterable[Result]) -> dict[tuple[str, str], str]:
    """The modality of each region of each study in results, as `modalities_of`."""
    return modalities_of((r.study, r.region) for r in results)


def modalities_of(places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The modality of each region of each study, as (study, region) → modality.

    A study's regions are scored together, unless all of them are the challenge's: then by its modalities. For other
    studies, whose regions may happen to have the names of the challenge's, the modality is empty.
    """
    regions: dict[str, dict[str, str]] = {}
    for study, region in places:
        regions.setdefault(study, {})[region] = modality_of(region)
    return {
        (study, region): modality if all(found.values()) else ""
        for study, found in regions.items()
        for region, modality in found.items()
    }


def of_measure(results: Iterable[Result], measure: str | None = None) -> list[Result]:
    """The results by a measure, or all if they are by one; ValueError if there are several and none is chosen."""
    results = list(results)
    found = list(dict.fromkeys(r.measure for r in results))
    if measure is None and len(found) > 1:
        raise ValueError(
            f"the results are by several measures; choose one of {list_names(found, 6)}"
        )
    return [r for r in results if measure in (None, r.measure)]


def layer_scores(
    results: Iterable[Result], *, signed: bool = False, measure: str | None = None
) -> dict[str, dict[str, float]]:
    """Mean score of each layer of a checkpoint over the studies, as modality → layer → percent of the noise ceiling.

    Within a study the score is the challenge's: 100 × mean value over the modality's regions / mean ceiling. Meijer
    (2019) chooses the layer with the highest mean over the two training sets. With `signed`, the value of a region with
    a negative mean similarity counts as negative. `measure` chooses among results by several measures.
    """
    results = of_measure(results, measure)
    groups: dict[str, dict[str, dict[str, list[Result]]]] = {}
    modality = modalities(results)
    for r in results:
        layers = groups.setdefault(modality[r.study, r.region], {})
        layers.setdefault(r.layer, {}).setdefault(r.study, []).append(r)
    return {
        modality: {
            layer: float(np.mean([_score(group, signed) for group in studies.values()]))
            for layer, studies in layers.items()
        }
        for modality, layers in groups.items()
    }


def _score(results: Sequence[Result], signed: bool) -> float:
    values = [r.signed_value if signed else r.value for r in results]
    return float(100 * np.mean(values) / np.mean([r.ceiling for r in results]))


def best_layers(results: Iterable[Result], *, measure: str | None = None) -> dict[str, str]:
    """The layer with the highest mean score over the studies, by modality; modalities with only NaN are left out.

    The challenge squares its scores, so the best layer may be opposite to the brain; `sign_remarks` reports that.
    `measure` is as for `layer_scores`.
    """
    return _highest(layer_scores(results, measure=measure))


def _highest(scores: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    best = {}
    for modality, layers in scores.items():
        if known := {layer: score for layer, score in layers.items() if not math.isnan(score)}:
            best[modality] = max(known, key=known.__getitem__)
    return best


def sign_remarks(results: Iterable[Result], *, measure: str | None = None) -> list[str]:
    """A sentence for each modality whose best layer is opposite to the brain in some region."""
    results = of_measure(results, measure)
    signed = _highest(layer_scores(results, signed=True))
    remarks = []
    of = modalities(results)
    for modality, layer in best_layers(results).items():
        opposite = ", ".join(
            f"{r.region.upper()} of {r.study} (mean rho {r.mean_rho:.3f})"
            for r in results
            if of[r.study, r.region] == modality and r.layer == layer and r.mean_rho < 0
        )
        if opposite:
            other = f"; with signed scores the best is {signed[modality]}"
            remarks.append(
                f"the best layer, {layer}, is opposite to the brain in {opposite}"
                f"{other if signed[modality] != layer else ''}"
            )
    return remarks
