"""Weights and architectures as given → networks, and the jobs that score their checkpoints."""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fastrdm._base import warn_caller
from fastrdm.networks import (
    ANY_FITTING,
    PreprocessingRequest,
    RequestedPreprocessing,
    Selection,
    Taps,
    hash_file,
    is_onnx,
)
from fastrdm.runtimes import (
    Architecture,
    Exports,
    TorchArchitecture,
    import_arch,
    is_torch,
    torch_gpu_of,
)
from fastrdm.scoring.jobs import DEFAULT_BATCH, Job, NetworkSetup, RunOptions, kernels_version
from fastrdm.scoring.listing import Listing
from fastrdm.scoring.manifest import CheckpointSource, check_labels, is_manifest, read_manifest
from fastrdm.scoring.pattern_search import PatternSearch
from fastrdm.scoring.records import Pipeline

# They choose the device, which is recorded with a result but not part of its key.
_DEVICE_OPTIONS = ("device_id", "device_type")


def sources(
    weights: Sequence[str | Path],
    arch: Sequence[str | Architecture] = (),
    taps: Taps | None = None,
    labels: str = "",
    selection: Selection = ANY_FITTING,
    preprocessing: RequestedPreprocessing | None = None,
) -> list[CheckpointSource]:
    """Group weights as given into checkpoints of one network each, in order.

    There is one architecture for all weights, one for each, or none; manifests have their own, and their own taps,
    preprocessing, labels and selection of weights.
    """
    names = [str(path) for path in weights]
    if not names:
        raise ValueError("weights is empty; name checkpoints, a folder, a glob or a manifest")
    n = sum(not is_manifest(name) for name in names)
    if len(arch) not in (0, 1, n):
        raise ValueError(
            f"{len(arch)} architectures for {n} checkpoints: give one for all, or one for each"
        )
    archs = iter(arch if len(arch) == n else [arch[0] if arch else None] * n)
    found: list[CheckpointSource] = []
    for name in names:
        if is_manifest(name):
            found += read_manifest(name)
            continue
        source = CheckpointSource(
            next(archs), (name,), taps, preprocessing, labels, selection=selection
        )
        if found and replace(found[-1], weights=(name,)) == source:
            source = replace(source, weights=(*found.pop().weights, name))
        found.append(source)
    given: dict[str, Any] = {"an architecture": arch, "taps": taps, "preprocessing": preprocessing}
    given |= {"labels": labels, **selection.to_dict()}
    if useless := [name for name, value in given.items() if value and not n]:
        raise ValueError(
            f"{useless[0]} cannot be given for manifests alone; write it into their tables [[network]]"
        )
    return [_with_processor(source) for source in found]


def _with_processor(source: CheckpointSource) -> CheckpointSource:
    """Read the image processor beside the weights of a source, if that is its preprocessing."""
    wanted = source.preprocessing
    if not isinstance(wanted, PreprocessingRequest) or wanted.source != "transformers":
        return source
    paths = [Path(found.path) for found in source.listing().found]
    folders = {path if path.is_dir() else path.parent for path in paths}
    folders |= {Path(name) for name in source.weights if Path(name).is_dir()}
    try:
        return replace(source, preprocessing=wanted.beside(folders))
    except (ValueError, OSError) as error:
        raise ValueError(f"{source.row}: {error}" if source.row else str(error)) from None


def label_names(weights: Sequence[str | Path], labels: str = "") -> list[str]:
    """Names of all labels that checkpoints can have, those of manifests included."""
    found = sources(weights, labels=labels)
    return list(dict.fromkeys(name for source in found for name in source.label_names))


@dataclass(frozen=True, eq=False)
class NetworkSpec:
    """A network as asked for: an architecture with taps and preprocessing, or `.onnx` checkpoints with both.

    `provider` decides whether torch runs it, or ONNX Runtime.
    """

    arch: str | Architecture | None
    taps: Taps | None
    preprocessing: RequestedPreprocessing | None
    selection: Selection = ANY_FITTING
    exports: Exports = field(default_factory=Exports)
    provider: str = "auto"

    @cached_property
    def runs_in_torch(self) -> bool:
        """Whether torch runs the network: if the provider is torch, or "auto" finds a GPU that torch is built for.

        ValueError if torch is the provider of a graph.
        """
        is_graph = not isinstance(self.arch, str) or is_onnx(self.arch)
        if is_graph and is_torch(self.provider) and self.arch is not None:
            name = self.arch if isinstance(self.arch, str) else self.arch.name
            raise ValueError(
                f"provider {self.provider!r} runs networks given as module:callable, not the graph {name}"
            )
        if is_graph:
            return False
        return is_torch(self.provider) or (
            self.provider == "auto" and bool(torch_gpu_of(self.provider))
        )

    @property
    def key(self) -> str:
        """Equal for equal networks."""
        arch = self.arch if isinstance(self.arch, str | None) else id(self.arch)
        preprocessing = self.preprocessing and self.preprocessing.to_json()
        return json.dumps([arch, self.taps, preprocessing, self.selection.to_dict()])

    def check(self) -> None:
        """Raise ValueError or FileNotFoundError if the architecture does not exist."""
        if not self.runs_in_torch and (not isinstance(self.arch, str) or is_onnx(self.arch)):
            _ = self.setup
        elif self._known is None:
            with self.exports.recorded():
                import_arch(str(self.arch))

    @cached_property
    def _known(self) -> Architecture | TorchArchitecture | None:
        """The architecture that an earlier process exported or inspected."""
        assert isinstance(self.arch, str)
        kind = TorchArchitecture if self.runs_in_torch else Architecture
        return kind.find(
            self.arch, self.taps, preprocessing=self.preprocessing, exports=self.exports
        )

    @cached_property
    def setup(self) -> NetworkSetup:
        """The architecture, exported or read at the first use."""
        if self.arch is None:
            return NetworkSetup(None, self.taps, self.preprocessing)
        if isinstance(self.arch, str) and not is_onnx(self.arch):
            make = TorchArchitecture.inspect if self.runs_in_torch else Architecture.export
            made = self._known or make(
                self.arch, self.taps, preprocessing=self.preprocessing, exports=self.exports
            )
            return NetworkSetup(made, selection=self.selection.to_dict())
        exported = (
            self.arch if isinstance(self.arch, Architecture) else Architecture.read(self.arch)
        )
        if self.taps is not None:
            raise ValueError(
                f"the architecture {exported.name} has its own taps and preprocessing; leave the taps out"
            )
        if self.preprocessing is not None:
            exported = exported.prepared(self.preprocessing)
        return NetworkSetup(exported, selection=self.selection.to_dict())

    def pipeline(self, setup: NetworkSetup, options: RunOptions) -> Pipeline:
        """How this network's RDMs are made."""
        name = ""
        if self.arch is not None:
            name = self.arch if isinstance(self.arch, str) else self.arch.name
        if setup.architecture is not None:
            graph = setup.architecture.fingerprint
            preprocessing = setup.architecture.preprocessing.to_json()
        elif self.arch is not None:
            graph, preprocessing = "unavailable", ""
        else:
            graph = f"the file's, {json.dumps(self.taps)}"
            preprocessing = self.preprocessing.to_json() if self.preprocessing else "the file's"
            if isinstance(self.preprocessing, PreprocessingRequest):
                preprocessing = f"the file's, with {preprocessing}"
        if self.selection:
            graph += f", weights taken with {json.dumps(self.selection.to_dict())}"
        if options.allow_inconsistent:
            # With torch on a GPU, the default is what fits.
            runs_in_torch = isinstance(setup.architecture, TorchArchitecture)
            default = "the default size" if runs_in_torch else DEFAULT_BATCH
            batch = options.batch_size or default
            graph += f", inconsistent answers allowed in batches of {batch}"
        if chosen := _provider_facts(options.provider_options or {}):
            graph += f", provider options {json.dumps(chosen)}"
        if options.max_memory is not None:
            # Sums of a layer that is split have other last digits, and where it is split depends on the limit.
            graph += f", within {options.max_memory} bytes"
        if projected := options.projection_facts():
            graph += f", projected {json.dumps(projected)}"
        precision = options.precision or "fp32"
        taps = setup.architecture.taps if setup.architecture else _taps_text(self.taps)
        return Pipeline(name, graph, preprocessing, precision, kernels_version(), taps)


def _provider_facts(options: Mapping[str, str]) -> list[list[str]]:
    """Options of a provider that can change numbers, with the SHA-256 of files that they name."""
    facts = []
    for name, value in sorted(options.items()):
        if name not in _DEVICE_OPTIONS:
            is_file = os.path.isfile(value)  # noqa: PTH113
            facts.append([name, value, *([hash_file(value)] if is_file else [])])
    return facts


def _taps_text(taps: Taps | None) -> str:
    if isinstance(taps, Mapping):
        return ",".join(f"{name}={layer}" for name, layer in taps.items())
    return ",".join(taps or ())


class Resolver:
    """The networks of all sources, and their checkpoints as jobs; parameters as for `sources`."""

    def __init__(
        self,
        weights: Sequence[str | Path],
        arch: Sequence[str | Architecture] = (),
        taps: Taps | None = None,
        labels: str = "",
        selection: Selection = ANY_FITTING,
        preprocessing: RequestedPreprocessing | None = None,
        watch: bool = False,
        provider: str = "auto",
    ) -> None:
        self._provider = provider
        self.sources = sources(weights, arch, taps, labels, selection, preprocessing)
        self._search = PatternSearch()
        self._untried = check_labels(self.sources, watch, self._search)
        self.networks: list[NetworkSpec] = []
        self._exports = Exports()
        self._numbers: dict[str, int] = {}
        # For each source, the network of its weights, and that of `.onnx` files among them.
        self._choices = [
            (self._number(each, each.arch), self._number(each, None)) for each in self.sources
        ]

    def _number(self, source: CheckpointSource, arch: str | Architecture | None) -> int:
        selection = ANY_FITTING if arch is None else source.selection
        facts = (source.taps, source.preprocessing, selection, self._exports, self._provider)
        spec = NetworkSpec(arch, *facts)
        if spec.key not in self._numbers:
            spec.check()
            self._numbers[spec.key] = len(self.networks)
            self.networks.append(spec)
        return self._numbers[spec.key]

    def jobs(self) -> Iterator[Job]:
        """Yield the present checkpoints in the order given; refuse weights that need an architecture and have none."""
        for source, numbers in zip(self.sources, self._choices, strict=True):
            listed = source.listing().found
            paths = (found.path for found in listed)
            every = self._search.labels(source.labels, paths)
            for found, labels in zip(listed, every, strict=True):
                brings_graph = is_onnx(found.path)
                if source.arch is None and not brings_graph:
                    raise ValueError(
                        f"{found.path}: weights need arch, the module:callable that builds their network or its"
                        " exported .onnx file"
                    )
                if brings_graph and is_torch(self._provider):
                    raise ValueError(
                        f"{found.path}: provider {self._provider!r} runs networks given as module:callable, not .onnx"
                        " files; leave it out, or name a provider of ONNX Runtime"
                    )
                self._try_labels(source, found.path, labels)
                yield Job(found.path, numbers[brings_graph], labels, found.row)

    def _try_labels(self, source: CheckpointSource, path: str, labels: Mapping[str, str]) -> None:
        """Warn if the first checkpoint that appears for a pattern of labels does not match it."""
        if source.pattern in self._untried:
            self._untried.discard(source.pattern)
            if not labels:
                warn_caller(f"labels '{source.labels}' does not match the first checkpoint, {path}")

    def close(self) -> None:
        """End the process that searches labels."""
        self._search.close()

    def listings(self) -> list[Listing]:
        """What the sources hold now."""
        return [source.listing() for source in self.sources]

    def setups(self, wanted: Collection[int]) -> list[NetworkSetup]:
        """Export or read the architectures of the networks wanted, by number.

        An architecture that fails has its error in its set-up, or raises it if all of them fail.
        """
        errors: list[Exception] = []
        made = []
        for number, spec in enumerate(self.networks):
            if number not in wanted:
                made.append(NetworkSetup(None, spec.taps, spec.preprocessing))
                continue
            try:
                made.append(spec.setup)
            except (ValueError, OSError) as error:
                errors.append(error)
                made.append(NetworkSetup(None, error=str(error)))
        if errors and len(errors) == len(wanted):
            raise errors[0]
        return made
