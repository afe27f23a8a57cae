"""Checkpoints of one network: what a sweep scores together."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastrdm.networks import is_onnx
from fastrdm.runtimes import Architecture
from fastrdm.scoring.manifest import Found, Source
from fastrdm.scoring.records import Method
from fastrdm.scoring.worker import Network, kernels_version


@dataclass(frozen=True)
class _Group:
    """Of a source, the checkpoints that bring their graphs, or those whose graph is the source's architecture."""

    source: Source
    graphs: bool

    def found(self) -> Iterator[Found]:
        for found in self.source.listing().found:
            if is_onnx(found.path) == self.graphs:
                yield found
            elif self.source.arch is None:
                raise ValueError(
                    f"{found.path}: weights need arch, the module:callable that builds their network or its exported"
                    " .onnx file"
                )

    def network(self) -> Network:
        source = self.source
        if self.graphs or source.arch is None:
            return Network(None, source.taps, source.preprocessing)
        if not is_onnx(source.arch):
            return Network(
                Architecture.export(source.arch, source.taps, preprocessing=source.preprocessing)
            )
        if source.taps is not None or source.preprocessing is not None:
            raise ValueError(
                f"the architecture {source.arch} has layers and preprocessing of its own; leave taps and preprocessing"
                " out"
            )
        return Network(Architecture.read(source.arch))

    def method(self, network: Network, precision: str | None, batch_size: int | None) -> Method:
        """How RDMs are made; the size of batches where answers may depend on it, else None."""
        architecture = network.architecture
        if architecture is None:
            graph = f"the file's, {json.dumps(network.taps)}"
            preprocessing = (
                network.preprocessing.to_json() if network.preprocessing else "the file's"
            )
        else:
            graph = architecture.fingerprint
            preprocessing = architecture.preprocessing.to_json()
        if batch_size is not None:
            graph += f", inconsistent answers allowed in batches of {batch_size}"
        name = "" if self.graphs else self.source.arch or ""
        return Method(name, graph, preprocessing, precision or "fp32", kernels_version())


def groups_of(given: Sequence[Source]) -> list[_Group]:
    """The groups of sources: checkpoints that are .onnx are one of their own."""
    groups = []
    for source in given:
        if source.arch is not None:
            groups.append(_Group(source, False))
        if source.arch is None or any(map(is_onnx, source.paths())):
            groups.append(_Group(source, True))
    return groups
