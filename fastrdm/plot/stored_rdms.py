"""RDMs that a store keeps, those of the brains that it was scored against, and which of many to draw."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import counted, list_names, printable, warn_caller
from fastrdm.images import hash_images
from fastrdm.scoring import RSA, Store, StoredResult
from fastrdm.studies import Study

Rdm = NDArray[np.floating[Any]]
_NUMBER = re.compile(r"[\W_]*\d+$")
_MOST_CATEGORIES = 12


@dataclass(frozen=True)
class StoredLayer:
    """A layer of a checkpoint under some settings."""

    checkpoint: str
    sha256: str
    settings: str
    layer: str


def chosen_layers(results: Sequence[StoredResult], most: int, figure: str) -> list[StoredLayer]:
    """Return the layers of results, at most `most`: else those of the best checkpoint, else the best of those.

    The best have the highest mean percentage of the noise ceiling over studies, regions and measures. Their order is
    that of the results. A warning says what was left out.
    """
    scores: dict[StoredLayer, list[float]] = {}
    for r in results:
        layer = StoredLayer(r.checkpoint, r.sha256, r.settings, r.layer)
        scores.setdefault(layer, []).append(r.percent_nc)
    if len(scores) <= most:
        return list(scores)
    means = {layer: _mean(values) for layer, values in scores.items()}
    best = max(means, key=means.__getitem__)
    own = [each for each in scores if _checkpoint(each) == _checkpoint(best)]
    kept = sorted(own, key=means.__getitem__, reverse=True)[:most]
    warn_caller(
        f"{figure} has at most {counted(most, 'layer')}, and {len(scores)} were chosen; drawn are"
        f" {len(kept)} of the best checkpoint, {printable(best.checkpoint)} (choose others with --checkpoint,"
        " --layers and --where)"
    )
    return [layer for layer in own if layer in kept]


def _checkpoint(layer: StoredLayer) -> tuple[str, str, str]:
    return layer.checkpoint, layer.sha256, layer.settings


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else -np.inf


def kept_rdms(
    store: Store, layers: Sequence[StoredLayer], studies: Iterable[str]
) -> dict[str, dict[StoredLayer, Rdm]]:
    """Return the RDMs that a store keeps of layers, condensed, by study; ValueError if it keeps none of them.

    RDMs without two different values, such as those of a diverged network, are left out with a warning.
    """
    wanted = set(studies)
    found: dict[str, dict[StoredLayer, Rdm]] = {}
    is_kept, flat = False, dict[str, None]()
    for key in dict.fromkeys(map(_checkpoint, layers)):
        own = {layer.layer: layer for layer in layers if _checkpoint(layer) == key}
        _, sha256, settings = key
        for (study, name), rdm in store.rdms(sha256, settings).items():
            if study not in wanted or name not in own:
                continue
            is_kept = True
            known = rdm[~np.isnan(rdm)]
            if not len(known) or known.min() == known.max():
                flat[f"{name} of {own[name].checkpoint}"] = None
            else:
                found.setdefault(study, {})[own[name]] = rdm
    if flat:
        warn_caller(f"{list_names(flat)} are not drawn: their RDMs have no two different values")
    if not found and is_kept:
        raise ValueError("the RDMs of these results have no two different values to draw")
    if not found:
        raise ValueError(
            f"{store.path} keeps no RDMs of these results; fastrdm sweep --keep-rdms keeps them"
        )
    return found


def brain_rdms(store: Store, study: Study, regions: Iterable[str]) -> dict[str, Rdm]:
    """Return each subject's RDM (subjects, pairs), averaged over time, of the regions of a study that have any.

    Regions whose stimuli or subjects are not those that the store was scored with are left out with a warning.
    """
    wanted = [region for region in regions if region in study.targets]
    rows = _targets(store, study)
    stimuli = hash_images(list(study.stimuli), study.background) if wanted and rows else ""
    rdms, changed = {}, []
    for region in wanted:
        target = study.targets[region]
        own = [row for row in rows if row["region"] == region]
        subjects = {row["subjects"] for row in own if row["measure"] == RSA}
        if own and (
            stimuli not in {row["stimuli"] for row in own}
            or (subjects and target.sha256 not in subjects)
        ):
            changed.append(region)
            continue
        of_times = target.subject_rdms.reshape(target.n_subjects, -1, target.n_pairs)
        rdms[region] = mean_of_known(of_times, axis=1)
    if changed:
        warn_caller(
            f"{list_names(changed)} of the study {printable(study.name)} are not drawn: the data are not those that"
            f" {store.path} was scored with"
        )
    return rdms


def has_stimuli_of(store: Store, study: Study) -> bool:
    """Whether the stimuli of a study are those that the store was scored with."""
    stimuli = hash_images(list(study.stimuli), study.background)
    return stimuli in {row["stimuli"] for row in _targets(store, study)}


def _targets(store: Store, study: Study) -> list[dict[str, Any]]:
    rows = store.dicts("SELECT * FROM targets")
    return [row for row in rows if row["study"] == study.name]


def mean_of_known(rdms: Rdm, axis: int) -> Rdm:
    """The mean of each pair over the RDMs that have it; NaN for pairs that none has."""
    known = ~np.isnan(rdms)
    counts = known.sum(axis=axis)
    sums = np.where(known, rdms, 0).sum(axis=axis, dtype=np.float64)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))


def categories_of(names: Sequence[str]) -> list[str] | None:
    """Return the categories of stimuli by their names, such as "face/3.png" or "face_3.png"; None without any.

    Names have categories if these are 2 to 12 with at least two stimuli each.
    """
    paths = [PurePosixPath(name) for name in names]
    for found in ([str(p.parent) for p in paths], [_NUMBER.sub("", p.stem) for p in paths]):
        counts = {each: found.count(each) for each in found}
        if 2 <= len(counts) <= _MOST_CATEGORIES and min(counts.values()) >= 2 and "" not in counts:
            return found
    return None


def check_studies_known(studies: Sequence[Study], names: Iterable[str]) -> dict[str, Study]:
    """Return studies by name, warning of those in `names` that are not among them."""
    known = {study.name: study for study in studies}
    missing = [name for name in dict.fromkeys(names) if name not in known]
    if missing and known:
        warn_caller(f"the data have no study {list_names(missing)}, whose brains are not drawn")
    return known
