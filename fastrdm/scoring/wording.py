"""What the score of a layer over several regions is, in words."""

from collections.abc import Iterable, Mapping, Sequence

from fastrdm._base import list_names
from fastrdm.scoring.measures import MEASURES
from fastrdm.scoring.results import Result, modalities_of
from fastrdm.similarity import PROTOCOLS, Protocol
from fastrdm.studies import Study, algonauts

CHALLENGE = PROTOCOLS["algonauts2019"]
_SYMBOLS: Mapping[str, str] = {
    "spearman": "ρ",
    "rho-a": "ρ-a",
    "tau-a": "τ-a",
    "tau-b": "τ-b",
    "corr": "r",
    "cka": "CKA",
    "cka-debiased": "debiased CKA",
    "ridge": "ridge r",
    "pls": "PLS r",
}
_MOST_REGIONS = 4


def score_name(regions: Sequence[str], protocols: Iterable[Protocol | None] = (CHALLENGE,)) -> str:
    """Name the score over regions: "challenge score: mean R² of EVC and IT ÷ mean ceiling".

    A protocol is None if it is unknown.
    """
    protocols = set(protocols)
    symbols = {_symbol(protocol) for protocol in protocols}
    value = symbols.pop() if len(symbols) == 1 else "score"
    names = [region.upper() for region in regions]
    if len(names) == 1:
        return f"score: {value} of {names[0]} ÷ ceiling"
    every = f"{', '.join(names[:-1])} and {names[-1]}"
    which = every if len(names) <= _MOST_REGIONS else list_names(names, _MOST_REGIONS - 1)
    challenges = (set(known) for known in algonauts.REGIONS.values())
    is_challenge = protocols == {CHALLENGE} and set(regions) in challenges
    return f"{'challenge ' * is_challenge}score: mean {value} of {which} ÷ mean ceiling"


def _symbol(protocol: Protocol | None) -> str:
    """What a protocol reports."""
    if protocol is None:
        return "score"
    return "R²" if protocol.squared else _SYMBOLS.get(protocol.method, protocol.method)


def score_names(results: Iterable[Result], studies: Sequence[Study]) -> dict[str, str]:
    """Name the scores of `layer_scores`, by modality; with several studies, they are means over the studies."""
    by_name = {study.name: study for study in studies}
    return names_of_protocols(
        {(r.study, r.region): protocol_of(r.measure, by_name[r.study], r.region) for r in results}
    )


def protocol_of(measure: str, study: Study, region: str) -> Protocol:
    """How a region is scored by a measure."""
    return MEASURES[measure].protocol or study.targets[region].protocol


def named_protocol(name: str) -> Protocol | None:
    """The protocol of a name, also those of measures; None if it is unknown."""
    return MEASURES[name].protocol if name in MEASURES else PROTOCOLS.get(name)


def names_of_protocols(protocols: Mapping[tuple[str, str], Protocol | None]) -> dict[str, str]:
    """Name the scores over regions by modality, given the protocol of each study and region, if it is known."""
    by_modality: dict[str, dict[str, list[str]]] = {}
    for (study, region), modality in modalities_of(protocols).items():
        by_modality.setdefault(modality, {}).setdefault(study, []).append(region)
    names = {}
    for modality, by_study in by_modality.items():
        regions = list(dict.fromkeys(region for each in by_study.values() for region in each))
        used = {protocols[study, region] for study, each in by_study.items() for region in each}
        name = score_name(regions, used)
        if any(set(each) != set(regions) for each in by_study.values()):
            name = "score: mean over each study's regions ÷ mean ceiling"
        more = f", mean over {' and '.join(by_study)}" if 1 < len(by_study) < 4 else ""
        more = more or (f", mean over {len(by_study)} studies" if len(by_study) > 1 else "")
        names[modality] = f"{name} (%){more}"
    return names
