"""The best layer of each network: its score over the regions of a study, with the interval over subjects."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastrdm.inference import subject_intervals
from fastrdm.plot.series import series_of, subject_percents
from fastrdm.scoring import Result, best_layers, modalities


@dataclass(frozen=True)
class BestScore:
    """The score of a network's layer over the regions of a study, in percent of the noise ceiling.

    Attributes
    ----------
    network, layer, study, modality : str
        `network` is the name of the series, `modality` as for `best_layers`.
    percent : float
        100 × mean value over the regions / mean ceiling.
    low, high : float
        95 % interval from a bootstrap over subjects, whose values are means over the regions; NaN without similarities
        to at least two subjects, and if the regions differ in their number of subjects.
    subjects : tuple of float
        Each subject's percentage; empty if it is unknown.
    is_opposite : bool
        Whether the mean similarity to a region is negative.
    checkpoint : str
        Path of the weights.
    """

    network: str
    layer: str
    study: str
    modality: str
    percent: float
    low: float
    high: float
    subjects: tuple[float, ...]
    is_opposite: bool
    checkpoint: str


def best_scores(
    results: Iterable[Result], best: Mapping[str, str] | None = None
) -> list[BestScore]:
    """The scores of the best layer of each network on each study.

    The best layer is that of `best_layers`, with the highest mean over the studies, or `best` has it by checkpoint.
    Networks without a score are left out.
    """
    results = list(results)
    of = modalities(results)
    found: list[BestScore] = []
    for name, group in series_of(results, places=False).items():
        chosen = best_layers(group)
        if best is not None:
            chosen = dict.fromkeys(of.values(), best.get(group[0].checkpoint, ""))
        found += _of_network(name or group[0].checkpoint, group, chosen, of)
    return found


def _of_network(
    name: str,
    results: Sequence[Result],
    chosen: Mapping[str, str],
    modality: Mapping[tuple[str, str], str],
) -> Iterator[BestScore]:
    groups: dict[tuple[str, str], list[Result]] = {}
    for r in results:
        of = modality[r.study, r.region]
        if r.layer == chosen.get(of):
            groups.setdefault((r.study, of), []).append(r)
    for (study, of), group in groups.items():
        ceiling = float(np.mean([r.ceiling for r in group]))
        percent = float(100 * np.mean([r.value for r in group]) / ceiling)
        subjects = _subjects(group, ceiling)
        low, high = math.nan, math.nan
        if len(subjects) > 1:
            low, high = subject_intervals([subjects])[0].tolist()
        is_opposite = any(r.mean_rho < 0 for r in group)
        yield BestScore(
            *(name, group[0].layer, study, of, percent, low, high, subjects, is_opposite),
            group[0].checkpoint,
        )


def _subjects(results: Sequence[Result], ceiling: float) -> tuple[float, ...]:
    """Each subject's mean over regions, in percent of their mean ceiling; empty if the regions' subjects differ."""
    values = [np.array(subject_percents(r)) * r.ceiling for r in results]
    if len({len(each) for each in values}) != 1 or not len(values[0]):
        return ()
    return tuple((np.mean(values, axis=0) / ceiling).tolist())
