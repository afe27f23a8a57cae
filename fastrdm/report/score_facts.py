"""Where the results of a report come from: versions, hashes, settings and runs of a store, as labelled texts."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastrdm._base import __version__, counted, list_names, printable
from fastrdm.scoring import Store

_SHOWN = 12
_MOST_FAILURES = 200


def provenance(store: Store, targets: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of a label and a text."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    counts = store.counts()
    facts = [
        ("report", f"made {now} by fastrdm {__version__}"),
        ("store", f"{store.path.name}: {_counts(counts)}"),
        *_runs(store),
        *_environments(store),
        *(("settings " + p["settings"], _pipeline(p)) for p in store.pipelines()),
        *_targets(targets),
    ]
    return [(label, printable(text)) for label, text in facts if text]


def _counts(counts: Mapping[str, int]) -> str:
    names = {"checkpoints": "checkpoint", "results": "result", "failures": "failure"}
    return ", ".join(counted(counts[name], noun) for name, noun in names.items())


def _runs(store: Store) -> list[tuple[str, str]]:
    runs = store.runs()
    if not runs:
        return []
    started = min(run["started"] for run in runs)
    ended = max((run["ended"] for run in runs if run["ended"]), default="")
    last = f" to {ended[:19]}" if ended else ""
    hosts = list_names(dict.fromkeys(run["host"] for run in runs))
    return [("runs", f"{len(runs)}, from {started[:19]}{last} UTC, on {hosts}")]


def _environments(store: Store) -> list[tuple[str, str]]:
    found = []
    for facts in store.environments():
        versions = facts.get("versions", {})
        texts = [
            " ".join(
                ["kernels", *(str(facts[name]) for name in ("kernels", "isa") if name in facts)]
            ),
            f"provider {facts['provider']}" if facts.get("provider") else "",
            ", ".join(f"{name} {version}" for name, version in versions.items()),
            f"on {facts['host']}" if facts.get("host") else "",
        ]
        found.append("; ".join(filter(None, texts)))
    return [("workers", text) for text in dict.fromkeys(found)]


def _pipeline(pipeline: Mapping[str, Any]) -> str:
    texts = [
        pipeline["arch"] or "networks of the files",
        f"taps {pipeline['taps']}" if pipeline["taps"] else "",
        f"preprocessing {pipeline['preprocessing']}" if pipeline["preprocessing"] else "",
        pipeline["precision"],
        pipeline["kernels"],
        # Of files with a graph of their own, this is a text, not a hash.
        f"graph {pipeline['graph'][:_SHOWN]}" if pipeline["arch"] else "",
        f"key {pipeline['key'][:_SHOWN]}",
    ]
    return "; ".join(filter(None, texts))


def _targets(targets: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    stimuli: dict[str, dict[str, None]] = {}
    for target in targets:
        text = f"{target['region'].upper()} {target['subjects'][:_SHOWN]}"
        stimuli.setdefault(f"{target['study']}\n{target['stimuli']}", {})[text] = None
    found = []
    for key, regions in stimuli.items():
        study, _, images = key.rpartition("\n")
        found.append(
            (
                "data " + study,
                f"stimuli {images[:_SHOWN]}; subjects {list_names(regions, 20)} (start of the SHA-256)",
            )
        )
    return [(printable(label), text) for label, text in found]


def failures_of(store: Store) -> dict[str, Any]:
    """How many checkpoints have no score, and why, for as many as a report lists."""
    found = store.failures()
    listed = [
        [printable(each["checkpoint"]), printable(" ".join(each["error"].split()))]
        for each in found[:_MOST_FAILURES]
    ]
    return {"count": len(found), "listed": listed}


def notes_of(places: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences that explain the numbers."""
    has_bounds = any(place["lower"] is not None for place in places)
    texts = [
        "Percent of the noise ceiling: 100 × the protocol's value ÷ the ceiling that the store records.",
        "Intervals are 95 % percentile intervals of a bootstrap over subjects, with a fixed ceiling (1,000 draws, seed"
        " 0). Dots are subjects: a subject's squared similarity if the protocol squares, else its similarity.",
        "The best layer of a region has the highest percentage there, chosen and scored on the same data, so its score"
        " is optimistic.",
    ]
    if has_bounds:
        texts.append(
            "The band is the noise ceiling, from lower to upper bound, computed from the subjects' RDMs."
        )
    return texts if places else []


def synthetic_text(targets: Iterable[Mapping[str, Any]]) -> str:
    """A notice that names the studies with simulated brain data; empty if there are none."""
    names = dict.fromkeys(printable(t["study"]) for t in targets if t["synthetic"])
    return f"SYNTHETIC DATA ({', '.join(names)}): simulated subjects, no brains" if names else ""


def title_of(path: Path) -> str:
    """The title of a store's report."""
    return printable(f"fastrdm report: {path.name}")
