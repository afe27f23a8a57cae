"""An opened graph that runs batches of normalised images."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import parse_json
from fastrdm.images import Preprocessing
from fastrdm.networks import Graph, Probes, Verdict, probe
from fastrdm.runtimes.providers import open_session

# Providers that compile a graph for each batch size, for minutes: probes get the size of their batches.
_COMPILING = {"migraphx", "tensorrt", "coreml"}


class NetworkSession:
    """A graph on a provider, with what its file says about it; parameters as for `OnnxModel`.

    `fixed` is whether the file fixes the batch size, as only files from other exporters do.
    """

    def __init__(
        self,
        graph: Graph,
        provider: str,
        *,
        batch_size: int,
        n_threads: int | None,
        options: Mapping[str, str] | None,
        **settings: Any,
    ) -> None:
        opened = open_session(graph, provider, options=options, n_threads=n_threads, **settings)
        self.session, self.provider = opened.session, opened.provider
        self.precision = opened.precision
        self._settings = (sorted((options or {}).items()), n_threads)
        self._n_threads = n_threads
        try:
            rows = self.session.get_inputs()[0].shape[0]
        except (IndexError, UnicodeDecodeError):
            raise ValueError(f"{graph.name} has no input of images that can be read") from None
        self.fixed = isinstance(rows, int)
        self.batch_size: int = rows if isinstance(rows, int) else batch_size
        self._read_metadata(graph.name)

    def _read_metadata(self, name: str) -> None:
        """Read layers, preprocessing and architecture, and check them against the file's outputs."""
        try:
            metadata = self.session.get_modelmeta().custom_metadata_map
            outputs = [output.name for output in self.session.get_outputs()]
            layers = parse_json(metadata["fastrdm.layers"])
            self.preprocessing = Preprocessing.from_json(metadata["fastrdm.preprocessing"])
            self.architecture: str = metadata["fastrdm.architecture"]
            if layers != outputs:
                raise ValueError(f"it names the layers {layers}, but has the outputs {outputs}")
        except (KeyError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(
                f"the metadata of {name} do not describe its outputs ({reason}); name its layers with taps "
                f"(fastrdm layers {name} lists them), or export the network with fastrdm.export_onnx"
            ) from None
        self.layers: tuple[str, ...] = tuple(layers)

    def probe(self, graph: Graph, probes: Probes | None) -> Verdict:
        """Check that the network's answer to an image depends on nothing else."""
        return probe(
            graph,
            self.layers,
            self._answer,
            self.preprocessing,
            batch_size=self.batch_size,
            fixed=self.fixed,
            settings=self._settings,
            provider=self.provider,
            precision=self.precision,
            probes=probes,
        )

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Layer → shape of the activations of one image."""
        shapes = {output.name: tuple(output.shape[1:]) for output in self.session.get_outputs()}
        if not all(isinstance(n, int) for shape in shapes.values() for n in shape):
            blank = np.zeros((1, 3, *self.preprocessing.size), np.float32)
            shapes = {layer: values.shape[1:] for layer, values in self._answer(blank).items()}
        return shapes

    def run(
        self, batch: NDArray[np.float32], layers: Sequence[str], rows: int | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Activations of some layers for a batch, which runs as `rows` images."""
        images = np.ascontiguousarray(self.filled(batch, rows))
        outputs = self.session.run(list(layers), {"images": images})
        cut = len(batch) if len(images) > len(batch) else None
        return {layer: values[:cut] for layer, values in zip(layers, outputs, strict=True)}

    def _answer(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return self.run(
            batch, self.layers, self.batch_size if self.provider in _COMPILING else None
        )

    def batches(
        self, pixels: NDArray[np.uint8], batch: NDArray[np.float32]
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Conditions and their normalised images, in the memory of `batch`, which each batch overwrites."""
        for start in range(0, len(pixels), len(batch)):
            place = slice(start, min(start + len(batch), len(pixels)))
            out = batch[: place.stop - start]
            self.preprocessing.normalise(pixels[place], out, n_threads=self._n_threads)
            yield place, self.filled(out)

    def filled(self, batch: NDArray[np.float32], rows: int | None = None) -> NDArray[np.float32]:
        """A batch of the size that the file fixes, or of `rows` images; its images repeat to fill it."""
        rows = self.batch_size if self.fixed else rows or len(batch)
        if len(batch) > rows:
            raise ValueError(
                f"{self.architecture} runs on {rows} images in one batch, not on {len(batch)}"
            )
        return batch if len(batch) == rows else np.resize(batch, (rows, *batch.shape[1:]))
