"""The keys and checksums of a store: how a checkpoint was scored, and against which subjects."""

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrdm._base import encodable
from fastrdm.scoring.results import COLUMNS, RSA, Result

if TYPE_CHECKING:
    from fastrdm.similarity import Score


class StoreError(ValueError):
    """A store cannot be opened, read or written; one sentence that names it."""


@dataclass(frozen=True)
class Pipeline:
    """How RDMs are made from weights.

    `arch` and `taps` are for tables and not part of the key; `graph` is the architecture's fingerprint, or the taps of
    checkpoints that bring their own graph; `preprocessing` is JSON.
    """

    arch: str
    graph: str
    preprocessing: str
    precision: str
    kernels: str
    taps: str = ""

    @property
    def key(self) -> str:
        """SHA-256 of all but the name and the text of the taps."""
        facts = asdict(self) | {"arch": None, "rdm": "correlation"}
        del facts["taps"]
        return digest_of(facts)


@dataclass(frozen=True)
class TargetRecord:
    """What layers are scored against: one region of one study under one measure.

    `stimuli` and `subjects` are the SHA-256 of the images in order and of the subjects' data, `protocol` is JSON with
    the NaN policy.
    """

    study: str
    region: str
    stimuli: str
    subjects: str
    protocol: str
    ceiling: float
    n_subjects: int
    synthetic: bool
    measure: str = RSA

    def facts(self) -> dict[str, Any]:
        """The fields, with escapes for bytes of names that are not UTF-8."""
        return {
            name: encodable(value) if isinstance(value, str) else value
            for name, value in asdict(self).items()
        }

    @property
    def key(self) -> str:
        """SHA-256 of all fields, without the measure "rsa", the only one of older versions."""
        facts = self.facts()
        if self.measure == RSA:
            del facts["measure"]
        return digest_of(facts)


def digest_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 of a mapping as JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class LayerRow(NamedTuple):
    """What a checksum covers of a layer's result: its numbers in the order of `COLUMNS`, and the bytes of rho.

    `time` is that of a result of one time point; None for others.
    """

    position: int
    layer: str
    numbers: Sequence[float]
    rho: bytes
    time: float | None = None


def checksum_of(sha256: str, pipeline: str, target: str, layers: Iterable[LayerRow]) -> str:
    """SHA-256 of a checkpoint's results against a target, with the keys that identify them."""
    digest = hashlib.sha256("\0".join((sha256, pipeline, target)).encode())
    for position, layer, numbers, rho, time in layers:
        name = layer.encode("utf-8", "surrogatepass")
        digest.update(struct.pack("<qqq", position, len(name), len(rho)) + name + rho)
        digest.update(struct.pack(f"<{len(numbers)}d", *map(_stored, numbers)))
        if time is not None:
            digest.update(struct.pack("<d", _stored(time)))
    return digest.hexdigest()


def layer_rows(layers: Sequence[str], score: "Score") -> list[LayerRow]:
    """The results of layers; of each time point, layer after layer, if these have scores of their own."""
    # Those of a `TimeScore`, which is not imported: who reads a store does not need it.
    found = getattr(score, "times", None)
    times: list[float | None] = [None] if found is None else found.tolist()
    rows = [layer for layer in layers for _ in times]
    columns = [getattr(score, name).ravel().tolist() for name in COLUMNS]
    rho = np.ascontiguousarray(score.rho, "<f8").reshape(len(rows), score.rho.shape[-1])
    return [
        LayerRow(i, layer, numbers, rho[i].tobytes(), times[i % len(times)])
        for i, (layer, *numbers) in enumerate(zip(rows, *columns, strict=True))
    ]


def result_rows(results: Iterable[Result]) -> dict[tuple[str, str, str], list[LayerRow]]:
    """The rows of results by study, region and measure, with positions in the order of the results."""
    rows: dict[tuple[str, str, str], list[LayerRow]] = {}
    for result in results:
        of_target = rows.setdefault((result.study, result.region, result.measure), [])
        numbers = [getattr(result, name) for name in COLUMNS]
        rho = np.array(result.rho, "<f8").tobytes()
        of_target.append(LayerRow(len(of_target), result.layer, numbers, rho, result.time))
    return rows


def _stored(number: float) -> float:
    """A number as it is read back: SQLite has neither signs of zero nor kinds of NaN."""
    return math.nan if math.isnan(number) else number + 0.0
