"""Brain RDMs and noise ceilings of the studies of a store, where the data are found and have not changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import counted, first_line, list_names, printable
from fastrdm.scoring import RSA


@dataclass
class StudyRdms:
    """By study and region, the RDM of the mean over subjects and time points, and the bounds of the noise ceiling.

    `notes` has a sentence for each study that is not here.
    """

    rdms: dict[tuple[str, str], NDArray[np.float64]] = field(default_factory=dict)
    ceilings: dict[str, tuple[float, float]] = field(default_factory=dict)
    n_subjects: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def bounds(self, target: Mapping[str, Any]) -> tuple[float, float] | None:
        """Lower and upper noise ceiling of a target; None if unknown, or if its time points have their own."""
        return self.ceilings.get(target["key"])


def find_study_rdms(targets: Iterable[Mapping[str, Any]], data: Path | None) -> StudyRdms:
    """Open the studies of a store's targets in a folder, and take the regions with the data that the store names."""
    by_study: dict[str, list[Mapping[str, Any]]] = {}
    for target in targets:
        by_study.setdefault(target["study"], []).append(target)
    found = StudyRdms()
    if data is None:
        found.notes.append("No data folder was found; name one with --data.")
        return found
    for name, of_study in by_study.items():
        problem = _add_study(found, name, of_study, data)
        if problem:
            found.notes.append(f"Study {printable(name)}: {problem}.")
    return found


def _add_study(
    found: StudyRdms, name: str, targets: Sequence[Mapping[str, Any]], data: Path
) -> str:
    """Add the regions of a study; return what is wrong, empty if nothing is."""
    from fastrdm.images import hash_images
    from fastrdm.studies import collect_studies

    try:
        (study,) = collect_studies(data, [name], "both")
        stimuli = hash_images(list(study.stimuli), study.background)
    except (ValueError, OSError, ImportError) as error:
        return first_line(error).rstrip(".")
    changed = []
    for target in targets:
        region = target["region"]
        own = study.targets.get(region)
        if target["measure"] != RSA:
            continue
        if own is None or (target["stimuli"], target["subjects"]) != (stimuli, own.sha256):
            changed.append(region)
            continue
        place = name, region
        flat = own.subject_rdms.reshape(-1, own.n_pairs)
        found.rdms[place] = mean_rdm(flat)
        found.n_subjects[place] = own.n_subjects
        if not target["ceilings"]:
            ceiling = own.noise_ceiling
            if np.isfinite([ceiling.lower, ceiling.upper]).all():
                found.ceilings[target["key"]] = (ceiling.lower, ceiling.upper)
    if changed:
        n = counted(len(changed), "region")
        return f"{n} ({list_names(changed)}) of {data} differ from those of the store"
    return ""


def mean_rdm(rdms: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The mean of RDMs (n, pairs), of each pair over those that have it; NaN for pairs that none has."""
    known = np.isfinite(rdms)
    n = known.sum(axis=0)
    total = np.where(known, rdms, 0).sum(axis=0, dtype=np.float64)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)
