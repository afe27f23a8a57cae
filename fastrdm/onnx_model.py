"""An exported network: images in, activations or RDMs out, on any execution provider."""

import contextlib
import difflib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._extras import require
from fastrdm.rdm import calc_rdm
from fastrdm.stimuli import ImageLike, Preprocessing, image_name


@dataclass(frozen=True)
class _Provider:
    """ONNX Runtime's name of a provider, the package that brings it, and its options."""

    name: str
    install: str
    options: tuple[tuple[str, str], ...] = ()


_PROVIDERS = {
    "cpu": _Provider("CPUExecutionProvider", "'fastrdm[onnx]'"),
    # TF32 keeps 10 bits of the mantissa: too few for activations within 1e-4.
    "cuda": _Provider("CUDAExecutionProvider", "'fastrdm[cuda]'", (("use_tf32", "0"),)),
    "rocm": _Provider("ROCMExecutionProvider", "onnxruntime-rocm"),
    "migraphx": _Provider("MIGraphXExecutionProvider", "'fastrdm[rocm]'"),
    "tensorrt": _Provider("TensorrtExecutionProvider", "'fastrdm[cuda]' tensorrt"),
    "openvino": _Provider("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "coreml": _Provider("CoreMLExecutionProvider", "'fastrdm[onnx]'"),
}
# Best first. The others are for who asks: TensorRT compiles for minutes, OpenVINO and CoreML may
# round to 16 bits.
_AUTO = ("cuda", "migraphx", "rocm", "cpu")


class OnnxModel:
    """A network exported by `export_onnx`, run on images preprocessed as its file says.

    Parameters
    ----------
    path : path
        The ONNX file.
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
        path: str | Path,
        provider: str = "auto",
        *,
        batch_size: int = 32,
        n_threads: int | None = None,
    ) -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such ONNX file")
        for name, number in (("batch_size", batch_size), ("n_threads", n_threads)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        self.batch_size = batch_size
        self.provider, self._session = _open_session(path, provider, n_threads)
        self.layers, self.preprocessing, self.architecture = _read_metadata(path, self._session)

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


def _read_metadata(path: Path, session: Any) -> tuple[tuple[str, ...], Preprocessing, str]:
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
            f"{path} does not say in its metadata what its outputs are ({reason}); "
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


def _open_session(path: Path, word: str, n_threads: int | None) -> tuple[str, Any]:
    """Load the file on a provider; the word for the one that took it, and the session."""
    ort = require("onnxruntime", "onnx", "to run a network")
    if word != "auto" and word not in _PROVIDERS:
        raise ValueError(f"unknown provider {word!r}; it is one of auto, {', '.join(_PROVIDERS)}")
    available = set(ort.get_available_providers())
    if word != "auto" and _PROVIDERS[word].name not in available:
        raise ValueError(
            f"this ONNX Runtime has no {_PROVIDERS[word].name} for provider {word!r}; "
            f"install it with: pip install {_PROVIDERS[word].install}"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if n_threads is not None:
        options.intra_op_num_threads = n_threads
    failure = ""
    for candidate in _AUTO if word == "auto" else (word,):
        provider = _PROVIDERS[candidate]
        if provider.name not in available:
            continue
        if candidate in {"cuda", "tensorrt"}:
            # CUDA's libraries may have come with pip; what is not found is told by the session
            # below.
            with contextlib.redirect_stdout(io.StringIO()):
                ort.preload_dlls()
        names = list(dict.fromkeys([provider.name, "CPUExecutionProvider"]))
        try:
            session = ort.InferenceSession(
                str(path),
                options,
                providers=names,
                provider_options=[dict(provider.options), {}][: len(names)],
            )
        # The binding's exceptions have no base class of their own.
        except Exception as error:
            failure = " ".join(str(error).split())
            continue
        # ONNX Runtime goes on with the CPU where a provider's libraries do not load; that is never
        # wanted.
        if provider.name in session.get_providers():
            session.disable_fallback()
            return candidate, session
        failure = (
            f"the libraries of {provider.name} do not load; install them with: "
            f"pip install {provider.install}"
        )
    raise ValueError(
        f"{path} cannot be opened as an ONNX model on {candidate} "
        f"(truncated, another kind of file, or a provider at fault): {failure}"
    )
