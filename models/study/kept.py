"""RDMs of checkpoints, kept in small files, from which tables, figures and submissions are made without training.

A file ``resnet20-seed0-epoch005.npz`` holds the RDMs of a checkpoint. A pretrained network has a file for each size of
the images, such as ``efficientnet_lite0@224.npz``. The key ``118/block1@32`` is the condensed RDM (float16) of `block1`
for the study 118, with images of 32 × 32 pixels. ``resnet20-seed0.csv`` has the metrics of the run's epochs,
``resnet20-seed0.json`` its recipe and device.
"""

import csv
import functools
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import new_file

Floats: TypeAlias = NDArray[np.float64]

FOLDER = Path(__file__).with_name("rdms")
"""The RDMs that the repository keeps."""

_NAME = re.compile(r"(?P<network>.+)-seed(?P<seed>\d+)-epoch(?P<epoch>\d+)")


@dataclass(frozen=True)
class Kept:
    """The RDMs of one checkpoint, or of a pretrained network, whose seed and epoch are None.

    `others` are the files of a pretrained network after the first one.
    """

    path: Path
    network: str
    seed: int | None = None
    epoch: int | None = None
    others: tuple[Path, ...] = ()

    @classmethod
    def at(cls, path: str | Path) -> "Kept":
        """Return what the file's name says; the file is not opened."""
        path = Path(path)
        match = _NAME.fullmatch(path.stem)
        if match is None:
            return cls(path, path.stem.partition("@")[0])
        return cls(path, match["network"], int(match["seed"]), int(match["epoch"]))

    @property
    def name(self) -> str:
        """The file's name without its suffix, or the pretrained network's name."""
        return self.network if self.epoch is None else self.path.stem

    @property
    def run(self) -> str:
        """Network and seed, the name of the run's other files."""
        return self.network if self.seed is None else f"{self.network}-seed{self.seed}"

    @functools.cached_property
    def _by_study(self) -> dict[str, dict[str, Floats]]:
        found: dict[str, dict[str, Floats]] = {}
        for path in (self.path, *self.others):
            try:
                with np.load(path) as file:
                    for key, rdm in file.items():
                        study, _, layer = key.partition("/")
                        found.setdefault(study, {})[layer] = rdm.astype(np.float64)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise ValueError(f"{path} is not a file of kept RDMs: {error}") from None
        return found

    @property
    def studies(self) -> tuple[str, ...]:
        """The studies that the file has RDMs of, in order."""
        return tuple(self._by_study)

    def rdms(self, study: str) -> dict[str, Floats]:
        """Return the condensed RDMs for a study's images by layer, in order; ValueError if there are none."""
        if study not in self._by_study:
            raise ValueError(f"{self.path} has no RDMs of the study {study!r}")
        return self._by_study[study]

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics after this epoch, by the names of the CSV file; empty if they were not kept."""
        table = self.path.with_name(f"{self.run}.csv")
        if self.epoch is None or not table.is_file():
            return {}
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if int(row["epoch"]) == self.epoch:
                    return {key: float(value) for key, value in row.items()}
        return {}


def read_kept(folder: str | Path = FOLDER) -> list[Kept]:
    """Return what a folder keeps, ordered by network, seed and epoch; ValueError if it keeps nothing."""
    found: dict[str, Kept] = {}
    for path in sorted(Path(folder).glob("*.npz"), key=_size):
        each = Kept.at(path)
        first = found.setdefault(each.name, each)
        if first is not each:
            found[each.name] = replace(first, others=(*first.others, path))
    if not found:
        raise ValueError(f"{folder} has no kept RDMs, which are files NETWORK-seedN-epochNNN.npz")
    return sorted(found.values(), key=lambda each: (each.network, each.seed or 0, each.epoch or 0))


def _size(path: Path) -> int:
    size = path.stem.partition("@")[2]
    return int(size) if size.isdecimal() else 0


def write_kept(path: str | Path, rdms: Mapping[str, Mapping[str, Floats]]) -> list[str]:
    """Write RDMs by study and layer, and return the layers that were left out.

    A layer is left out if its RDM for any study has NaN or is constant: it cannot be compared.
    """
    layers = list(dict.fromkeys(layer for by_layer in rdms.values() for layer in by_layer))
    out = [layer for layer in layers if not all(map(_is_usable, _all_of(rdms, layer)))]
    kept = {
        f"{study}/{layer}": rdm.astype(np.float16)
        for study, by_layer in rdms.items()
        for layer, rdm in by_layer.items()
        if layer not in out
    }
    data = io.BytesIO()
    np.savez_compressed(data, **kept)  # type: ignore[arg-type]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        file.write(data.getvalue())
    return out


def _all_of(rdms: Mapping[str, Mapping[str, Floats]], layer: str) -> Iterable[Floats]:
    return [by_layer[layer] for by_layer in rdms.values() if layer in by_layer]


def _is_usable(rdm: Floats) -> bool:
    return bool(np.isfinite(rdm).all() and np.ptp(rdm) > 0)
