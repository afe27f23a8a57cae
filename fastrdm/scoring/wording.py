"""What the score of a layer over several regions is, in words."""

from collections.abc import Iterable, Mapping, Sequence

from fastrdm._base import list_names
from fastrdm.scoring.results import Result, modalities
from fastrdm.similarity import PROTOCOLS, Protocol
from fastrdm.studies import Study, algonauts

CHALLENGE = PROTOCOLS["algonauts2019"]
_SYMBOLS: Mapping[str, str] = {
    "spearman": "ρ",
    "rho-a": "ρ-a",
    "tau-a": "τ-a",
    "tau-b": "τ-b",
    "corr": "r",
}
_MOST_REGIONS = 4


def score_name(regions: Sequence[str], protocols: Iterable[Protocol] = (CHALLENGE,)) -> str:
    """Name the score over regions: "challenge score: mean R² of EVC and IT ÷ mean ceiling"."""
    protocols = set(protocols)
    symbols = {"R²" if p.squared else _SYMBOLS.get(p.method, p.method) for p in protocols}
    value = symbols.pop() if len(symbols) == 1 else "score"
    names = [region.upper() for region in regions]
    if len(names) == 1:
        return f"score: {value} of {names[0]} ÷ ceiling"
    every = f"{', '.join(names[:-1])} and {names[-1]}"
    which = every if len(names) <= _MOST_REGIONS else list_names(names, _MOST_REGIONS - 1)
    challenges = (set(known) for known in algonauts.REGIONS.values())
    is_challenge = protocols == {CHALLENGE} and set(regions) in challenges
    return f"{'challenge ' * is_challenge}score: mean {value} of {which} ÷ mean ceiling"


def score_names(results: Iterable[Result], studies: Sequence[Study]) -> dict[str, str]:
    """Name the scores of `layer_scores`, by modality; with several studies, they are means over the studies."""
    results = list(results)
    modality_of = modalities(results)
    by_modality: dict[str, dict[str, list[str]]] = {}
    for r in results:
        regions = by_modality.setdefault(modality_of[r.study, r.region], {}).setdefault(r.study, [])
        if r.region not in regions:
            regions.append(r.region)
    targets = {study.name: study.targets for study in studies}
    names = {}
    for modality, by_study in by_modality.items():
        protocols = {
            targets[study][region].protocol
            for study, regions in by_study.items()
            for region in regions
        }
        regions = list(dict.fromkeys(region for each in by_study.values() for region in each))
        name = score_name(regions, protocols)
        if any(set(each) != set(regions) for each in by_study.values()):
            name = "score: mean over each study's regions ÷ mean ceiling"
        more = f", mean over {' and '.join(by_study)}" if 1 < len(by_study) < 4 else ""
        more = more or (f", mean over {len(by_study)} studies" if len(by_study) > 1 else "")
        names[modality] = f"{name} (%){more}"
    return names
