"""An exported network: images in, activations or RDMs out, on any execution provider."""

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._extras import require
from fastrdm.providers import Graph, open_session
from fastrdm.rdm import calc_rdm
from fastrdm.stimuli import ImageLike, Preprocessing, image_name


class OnnxModel:
    """A network exported by `export_onnx`, run on images preprocessed as its file says.

    Parameters
    ----------
    path : path or Graph
        The ONNX file, or one in memory.
    provider : {"auto", "cpu", "cuda", "rocm", "migraphx", "tensorrt", "openvino", "coreml"}
        Where it runs. "auto" takes CUDA, MIGraphX, ROCm or the CPU, the first that loads. Another
        one that does not load is an error, never a run on the CPU.
    batch_size : int
        Images in one run.
    n_threads : int, optional
        Threads of one run on the CPU; None leaves the number to ONNX Runtime.

    Attributes
    ----------
    layers : tuple of str
        Names of the tapped layers, in the file's order.
    preprocessing : Preprocessing
        What is done to images, from the file.
    architecture : str
        What the file says it is.
    provider : str
        The provider in use, by the words above.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no ONNX model or was not written by `export_onnx`, or the provider is unknown
        or does not load.
    MissingExtraError
        If ONNX Runtime is not installed.
    """

    def __init__(
        self,
        path: str | Path | Graph,
        provider: str = "auto",
        *,
        batch_size: int = 32,
        n_threads: int | None = None,
    ) -> None:
        graph = path if isinstance(path, Graph) else Graph.from_file(path)
        for name, number in (("batch_size", batch_size), ("n_threads", n_threads)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        self.batch_size = batch_size
        opened = open_session(graph, provider, n_threads=n_threads)
        self.provider, self._session = opened.provider, opened.session
        self.layers, self.preprocessing, self.architecture = _read_metadata(
            graph.name, self._session
        )

    def __repr__(self) -> str:
        return f"<OnnxModel {self.architecture}, {len(self.layers)} layers, on {self.provider}>"

    def run(
        self, batch: NDArray[np.float32], layers: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run one batch of images that are normalised already.

        Parameters
        ----------
        batch : ndarray of float32, shape (n, 3, height, width)
        layers : sequence of str, optional
            Layers to return; None for all.

        Returns
        -------
        dict of str to ndarray of float32, shape (n, ...)
            Activations of each layer.

        Raises
        ------
        ValueError
            If the batch has another shape or type, or a layer is unknown.
        """
        wanted = self._check_layers(layers)
        expected = (3, *self.preprocessing.size)
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1:] != expected:
            raise ValueError(
                f"the batch must be float32 of shape (n, {', '.join(map(str, expected))}), "
                f"not {batch.dtype} {batch.shape}"
            )
        outputs = self._session.run(wanted, {"images": np.ascontiguousarray(batch)})
        return dict(zip(wanted, outputs, strict=True))

    def activations(
        self,
        images: Sequence[ImageLike],
        layers: Sequence[str] | None = None,
        progress: bool = False,
    ) -> dict[str, NDArray[np.float32]]:
        """Read images and give each layer's activations.

        Parameters
        ----------
        images : sequence of path, PIL image or uint8 array (h, w, 3)
            In the order of the conditions.
        layers : sequence of str, optional
            Layers to return, in this order; None for all.
        progress : bool
            Whether to show a progress bar on standard error.

        Returns
        -------
        dict of str to ndarray of float32, shape (n_images, ...)

        Raises
        ------
        ValueError
            If a layer is unknown, an image cannot be read, or an activation is NaN or infinite; the
            message names the layer and the first such image.
        """
        wanted = self._check_layers(layers)
        gathered: dict[str, NDArray[np.float32]] = {}
        for part in self._batches(images, progress):
            for layer, values in self.run(self.preprocessing.load(images[part]), wanted).items():
                _check_finite(values, layer, images, part.start)
                if layer not in gathered:
                    gathered[layer] = np.empty((len(images), *values.shape[1:]), np.float32)
                gathered[layer][part] = values
        return gathered

    def rdms(
        self,
        images: Sequence[ImageLike],
        method: str = "correlation",
        layers: Sequence[str] | None = None,
        progress: bool = False,
    ) -> dict[str, NDArray[np.float64]]:
        """Read images and give each layer's RDM.

        Parameters
        ----------
        images, layers, progress
            As for `activations`.
        method : str
            As for `calc_rdm`.

        Returns
        -------
        dict of str to ndarray of float64, shape (pairs,)
            Condensed RDMs of the flattened activations.

        Raises
        ------
        ValueError
            As for `activations` and `calc_rdm`.
        """
        activations = self.activations(images, layers, progress)
        # Popped, so that a layer's activations are gone before the next one's RDM needs memory.
        return {
            layer: calc_rdm(activations.pop(layer).reshape(len(images), -1), method)
            for layer in list(activations)
        }

    def _check_layers(self, layers: Sequence[str] | None) -> list[str]:
        if layers is None:
            return list(self.layers)
        if isinstance(layers, str):
            raise TypeError(f"layers must be a list of layer names, not the string {layers!r}")
        for layer in layers:
            if layer not in self.layers:
                nearest = ", ".join(difflib.get_close_matches(layer, self.layers, cutoff=0))
                raise ValueError(f"{self.architecture} has no layer {layer!r}; nearest: {nearest}")
        if not layers:
            raise ValueError("layers is empty; name at least one, or None for all")
        return list(dict.fromkeys(layers))

    def _batches(self, images: Sequence[ImageLike], progress: bool) -> Iterator[slice]:
        """Slices of the images, one a batch; a bar moves when the caller is done with each."""
        # An empty or wrong list still makes one slice: loading it raises the error that says what
        # it is.
        starts = range(0, max(len(images), 1), self.batch_size)
        if not progress:
            yield from (slice(start, start + self.batch_size) for start in starts)
            return
        rich = require("rich.progress", "run", "to show a progress bar")
        console = require("rich.console", "run", "to show a progress bar").Console(stderr=True)
        with rich.Progress(console=console, transient=console.is_terminal) as bar:
            task = bar.add_task(self.architecture, total=len(images))
            for start in starts:
                yield slice(start, start + self.batch_size)
                bar.update(task, completed=min(start + self.batch_size, len(images)))


def _read_metadata(name: str, session: Any) -> tuple[tuple[str, ...], Preprocessing, str]:
    """Layers, preprocessing and architecture, checked against the file's outputs."""
    metadata = session.get_modelmeta().custom_metadata_map
    outputs = [output.name for output in session.get_outputs()]
    try:
        layers = json.loads(metadata["fastrdm.layers"])
        preprocessing = Preprocessing.from_json(metadata["fastrdm.preprocessing"])
        architecture = metadata["fastrdm.architecture"]
        if layers != outputs:
            raise ValueError(f"it names the layers {layers}, but has the outputs {outputs}")
    except (KeyError, ValueError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{name} does not say in its metadata what its outputs are ({reason}); "
            "export the network with fastrdm.export_onnx"
        ) from None
    return tuple(layers), preprocessing, architecture


def _check_finite(
    values: NDArray[np.float32], layer: str, images: Sequence[ImageLike], start: int
) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        first = start + int(np.argmin(finite))
        raise ValueError(
            f"layer {layer!r} has NaN or infinite activations, first for "
            f"{image_name(images[first], first)}"
        )
