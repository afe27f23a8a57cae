"""RDMs of a report: ranks in 8 bits, of as many checkpoints as fit, the best first."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import counted, format_bytes, printable
from fastrdm.report.study_rdms import StudyRdms
from fastrdm.scoring import Store, StoredResult
from fastrdm.similarity import rank

#: The byte of a pair that has no dissimilarity.
UNKNOWN = 255
_HIGHEST = 254


class RdmCollection:
    """The RDMs of a report, equal ones once, and their size in the page."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self.size = 0

    def add(self, rdm: NDArray[np.floating[Any]]) -> int:
        """The number of an RDM."""
        text = base64.b64encode(byte_ranks(rdm).tobytes()).decode()
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
            self.size += len(text)
        return self._numbers[text]


def byte_ranks(rdm: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """The rank of each pair, from 0 (the most similar) to 254, with the mean rank for ties; 255 for NaN."""
    known = np.isfinite(rdm)
    ranks = np.full(rdm.shape, UNKNOWN, np.uint8)
    if known.sum() > 1:
        highest = known.sum() - 1
        ranks[known] = np.rint((rank(rdm[known]) - 1) * (_HIGHEST / highest))
    elif known.any():
        ranks[known] = 0
    return ranks


def collect_rdms(
    store: Store,
    results: Sequence[StoredResult],
    order: Sequence[int],
    layers: Sequence[str],
    studies: Sequence[str],
    brains: StudyRdms,
    most: int,
) -> dict[str, Any]:
    """The part of a report's data that has RDMs.

    `results` has one of each checkpoint, `order` their numbers, the best first; `layers` are the names by which the
    report knows layers. `most` is the number of bytes in the page for RDMs of layers.
    """
    collection = RdmCollection()
    brain = [
        {
            "study": printable(study),
            "region": printable(region),
            "n_subjects": brains.n_subjects[study, region],
            "name": f"{printable(study)} " * (len(studies) > 1) + printable(region.upper()),
            "rdm": collection.add(rdm),
        }
        for (study, region), rdm in brains.rdms.items()
    ]
    most += collection.size
    numbers = {name: i for i, name in enumerate(layers)}
    kept: dict[int, list[tuple[str, int, int]]] = {}
    n_left_out = 0
    for i in order if store.has_rdms() else ():
        found = store.rdms(results[i].sha256, results[i].settings)
        if not found:
            continue
        if collection.size + _size(found.values()) > most:
            n_left_out += 1
            continue
        kept[i] = [
            (printable(study), numbers[printable(layer)], collection.add(rdm))
            for (study, layer), rdm in found.items()
            if printable(layer) in numbers
        ]
    return {
        "rdms": collection.texts,
        "checkpoint_rdms": kept,
        "brain_rdms": brain,
        "rdm_notes": {
            "layers": _note(len(kept), n_left_out, most),
            "brain": " ".join(["The brain's RDMs are not in the report.", *brains.notes]),
        },
    }


def _size(rdms: Any) -> int:
    return sum(-(-len(rdm) // 3) * 4 for rdm in rdms)


def _note(n_kept: int, n_left_out: int, most: int) -> str:
    if n_left_out:
        return (
            f"The report has the RDMs of {counted(n_kept, 'checkpoint')} of {n_kept + n_left_out}, the best first, and"
            f" not of this one; fastrdm report --rdms SIZE makes room for more than {format_bytes(most)}."
        )
    if n_kept:
        return "The store keeps no RDM of this checkpoint and layer."
    return "The store keeps no RDMs; fastrdm sweep --keep-rdms keeps them."
