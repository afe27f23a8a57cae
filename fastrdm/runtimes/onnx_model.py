"""An exported network: images in, activations or RDMs out, on any execution provider."""

import contextlib
import functools
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    check_choice,
    check_integer,
    nearest,
    parse_bytes,
    require,
)
from fastrdm.images import Images, Preprocessing, cached_pixels, image_name
from fastrdm.networks import Graph, InconsistentError, Probes, Taps, bytes_per_image, probe
from fastrdm.rdm import RdmAccumulator, SparseProjection, calc_rdm, method_named
from fastrdm.runtimes.device import DeviceModel, suits
from fastrdm.runtimes.extraction import Need, Part, Workspace, plan, run
from fastrdm.runtimes.foreign import open_foreign
from fastrdm.runtimes.providers import open_session

_WHERE = ("auto", "host", "device")
# Providers that compile a graph for each batch size, for minutes: their probes are as large as their batches.
_COMPILING = {"migraphx", "tensorrt", "coreml"}


class OnnxModel:
    """An ONNX network, run on images preprocessed as its file says, or as is asked for.

    Parameters
    ----------
    path : path or Graph
        The ONNX file, from `export_onnx` or any other source, or a graph in memory.
    provider : {"auto", "cpu", "cuda", "rocm", "migraphx", "tensorrt", "openvino", "coreml"}
        Where it runs. "auto" takes CUDA, MIGraphX, ROCm or the CPU, the first that loads. Another
        one that does not load, or leaves a convolution or matrix product to the CPU, is an error.
    batch_size : int
        Images in one run; a file whose batch is fixed runs on as many as it takes.
    n_threads : int, optional
        Threads of one run on the CPU; None leaves the number to ONNX Runtime.
    workspace : Workspace, optional
        Memory for activations, which models that run one after the other can share. On the CPU they then share ONNX
        Runtime's memory, too, which the process keeps.
    taps : mapping of layer name to tensor, or sequence of tensors, optional
        Tensors of the file that are its layers, each with what is taken of its tokens, or patterns
        of names, as `fastrdm.networks.find_taps` has them. None takes the layers of a file from
        `export_onnx`; other files need taps.
    preprocessing : Preprocessing, optional
        Instead of the file's. Without either, the development kit's with a warning.
    precision : {"fp32", "tf32", "bf16", "fp16"}, optional
        What convolutions and matrix products round their operands to; None is fp32, whatever the
        provider. Activations are float32 in any case.
    provider_options : mapping of str to str, optional
        The provider's own options, as ONNX Runtime names them. OpenVINO takes ``device_type`` and
        ``load_config``.
    allow_inconsistent : bool
        Whether a network is run that gives one image several answers: others in a batch with other images than alone,
        or others in each run. It then warns of it whenever it runs. Whether it does is probed as it is opened
        (`fastrdm.networks.probing`); with a `batch_size` of 1 each image is alone, and only differing runs count.
    probes : Probes, optional
        What is known of other networks' answers, so that checkpoints of one graph are probed once.

    Attributes
    ----------
    layers : tuple of str
        Names of the tapped layers, in the file's order.
    preprocessing : Preprocessing
        What is done to images, from the file.
    architecture : str
        What the file says it is.
    provider, precision : str
        Those in use, by the words above.
    shapes : dict of str to tuple of int
        Layer → shape of the activations of one image.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InconsistentError
        If the network gives one image several answers; a ValueError that names the layer and the size of the
        difference.
    ValueError
        If the file is no ONNX model or says nothing of its layers where none are given, or the
        provider is unknown, does not load, does not give the precision or refuses an option;
        otherwise as for `fastrdm.runtimes.open_foreign`.
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
        workspace: Workspace | None = None,
        taps: Taps | None = None,
        preprocessing: Preprocessing | None = None,
        precision: str | None = None,
        provider_options: Mapping[str, str] | None = None,
        allow_inconsistent: bool = False,
        probes: Probes | None = None,
    ) -> None:
        if isinstance(path, Graph):
            graph = path
        elif taps is None and preprocessing is None:
            graph = Graph.from_file(path)
        else:
            graph = open_foreign(path, taps, preprocessing, batch_size=batch_size)
        for name, number in {"batch_size": batch_size, "n_threads": n_threads}.items():
            if number is not None:
                check_integer(number, name, 1)
        self._n_threads = n_threads
        self._workspace = workspace or Workspace()
        opened = open_session(
            graph,
            provider,
            precision=precision,
            options=provider_options,
            n_threads=n_threads,
            reuse_memory=workspace is not None,
        )
        self.provider, self.precision = opened.provider, opened.precision
        self._session = opened.session
        self._provider_options = provider_options
        self._devices: dict[Any, DeviceModel] = {}
        # Its weights are in the session, and would be held twice; on a device they are needed again.
        kept = graph.initialisers if suits(self.provider, "correlation") else {}
        self._graph = Graph(graph.name, graph.source, kept)
        # A file of another origin may have its batch fixed.
        rows = self._session.get_inputs()[0].shape[0]
        self._rows = rows if isinstance(rows, int) else None
        self.batch_size = self._rows or batch_size
        self.layers, self.preprocessing, self.architecture = _read_metadata(
            graph.name, self._session
        )
        self._verdict = probe(
            graph,
            self.layers,
            self._answer,
            self.preprocessing,
            batch_size=self.batch_size,
            fixed=self._rows is not None,
            settings=(sorted((provider_options or {}).items()), n_threads),
            provider=self.provider,
            precision=self.precision,
            probes=probes,
        )
        if self._verdict.problem and not allow_inconsistent:
            raise InconsistentError(f"{self._verdict.problem}; {self._verdict.advice}")

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
            If the batch has another shape or type, or more images than the file takes at once, or a
            layer is unknown.
        """
        wanted = self._check_layers(layers)
        expected = (3, *self.preprocessing.size)
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1:] != expected:
            raise ValueError(
                f"the batch must be float32 of shape (n, {', '.join(map(str, expected))}), "
                f"not {batch.dtype} {batch.shape}"
            )
        if self._verdict.alone and len(batch) > 1:
            raise ValueError(
                f"{self.architecture} runs on one image at a time, not on {len(batch)}: it was opened with"
                " batch_size=1, and several at once give other answers"
            )
        self._warn()
        outputs = self._session.run(wanted, {"images": np.ascontiguousarray(self._filled(batch))})
        return {layer: values[: len(batch)] for layer, values in zip(wanted, outputs, strict=True)}

    def activations(
        self,
        images: Images,
        layers: Sequence[str] | None = None,
        progress: bool = False,
        *,
        background: str | None = None,
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
        background : str, optional
            The colour that shows where images are transparent, as "#rrggbb"; without one, images with transparent
            pixels are refused.

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
        self._warn()
        shapes = {layer: self.shapes[layer] for layer in wanted}
        gathered = {
            layer: np.empty((len(images), math.prod(shape)), np.float32)
            for layer, shape in shapes.items()
        }
        parts = {Part(layer, 0, rows.shape[1]): rows for layer, rows in gathered.items()}
        pixels = self._pixels(images, background)
        with self._progress(len(images), progress) as advance:
            for place, batch in self._batches(pixels, self.batch_size):
                run(self._session, [(place, batch)], parts, shapes)
                for layer, rows in gathered.items():
                    _check_finite(rows[place], layer, images, place.start)
                advance(place.stop)
        return {layer: rows.reshape(-1, *shapes[layer]) for layer, rows in gathered.items()}

    def rdms(
        self,
        images: Images,
        method: str = "correlation",
        layers: Sequence[str] | None = None,
        progress: bool = False,
        *,
        max_memory: int | str | None = None,
        projection: SparseProjection | None = None,
        where: str = "auto",
        names: Sequence[str] | None = None,
        background: str | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Read images and give each layer's RDM.

        On the host, ONNX Runtime writes the activations of all conditions where the kernels read them; that memory is
        kept for the next call. On a device, RDMs are part of the graph, and only they come back. Image files are
        decoded once and kept in the cache of `fastrdm.images.cache`.

        Parameters
        ----------
        images, layers, progress, background
            As for `activations`.
        method : str
            As for `calc_rdm`, of those that take activations alone.
        max_memory : int or str, optional
            Bytes, or a text such as ``"1GiB"``, for activations, images and the network's inner values, beside the
            network itself. Where the activations of all conditions do not fit, batches become smaller and then the
            images are run several times, for some layers or some channels at a time; RDMs from parts of a layer agree
            within 1e-6. On a device, the bound is of its memory.
        projection : SparseProjection, optional
            What layers with more channels than it has components are projected to, batch by batch, for ``correlation``,
            ``cosine``, ``euclidean`` and ``sqeuclidean``; on the host alone.
        where : {"auto", "host", "device"}
            Where RDMs are made: "auto" takes the provider's device where it has memory of its own and the method can be
            had there, without a projection. Both ways agree within 1e-5, of distances relative to the largest.
        names : sequence of str, optional
            What messages call the images; by default their paths or positions.

        Returns
        -------
        dict of str to ndarray of float64, shape (pairs,)
            Condensed RDMs of the flattened activations.

        Raises
        ------
        ValueError
            As for `activations` and `calc_rdm`; if `max_memory` is too small (the message says what would do), or a
            device is asked for what it cannot do.

        Warns
        -----
        RuntimeWarning
            As `calc_rdm`, naming the layer; of a network that gives one image several answers, where that is allowed.
        """
        wanted = self._check_layers(layers)
        ranked = _is_whole(method)
        check_choice(where, _WHERE, "where")
        if where == "device" and projection is not None:
            raise ValueError("a projection is made on the host; leave where out, or the projection")
        pixels = self._pixels(images, background)
        if names is None:
            names = [image_name(image, i) for i, image in enumerate(images)]
        self._warn()
        # There, images are run together, by a graph whose batch norms are those of evaluation.
        is_consistent = not (self._verdict.alone or self._verdict.problem)
        if where == "device" and not is_consistent:
            raise ValueError(
                f"{self.architecture} gives one image several answers, and on the device images are run together; leave"
                " where out"
            )
        if where == "device" or (
            where == "auto"
            and projection is None
            and is_consistent
            and suits(self.provider, method)
        ):
            device = self._device(tuple(wanted), method, max_memory)
            return device.rdms(device.show(pixels, names))
        shapes = {layer: self.shapes[layer] for layer in wanted}
        widths = {layer: math.prod(shape) for layer, shape in shapes.items()}
        bound = None if max_memory is None else parse_bytes(max_memory)
        inner = 0 if bound is None else bytes_per_image(self._graph.read(), wanted)
        # Pixels as bytes and as floats, and what ONNX Runtime holds of a layer until it is projected.
        image = 5 * 3 * math.prod(self.preprocessing.size)
        projectors = {}
        if projection is not None:
            every = {x: projection.layer(widths[x], x, method) for x in wanted}
            projectors = {x: p for x, p in every.items() if p.n_components < widths[x]}
        image += 4 * sum(widths[layer] for layer in projectors)
        widths |= {layer: projector.n_components for layer, projector in projectors.items()}
        need = Need(widths, len(images), inner + image, ranked)
        chosen = plan(need, self.batch_size, bound, fixed=self._rows is not None)
        made: dict[str, NDArray[np.float64]] = {}
        sums: dict[str, RdmAccumulator] = {}
        with self._progress(len(images) * len(chosen.passes), progress) as advance:
            for k, parts in enumerate(chosen.passes):
                sizes = [(len(images), part.end - part.begin) for part in parts]
                with self._workspace.arrays(sizes) as arrays:
                    rows = dict(zip(parts, arrays, strict=True))
                    for place, batch in self._batches(pixels, chosen.batch_size):
                        run(self._session, [(place, batch)], rows, shapes, projectors)
                        advance(k * len(images) + place.stop)
                    for part, values in rows.items():
                        measure = method
                        if part.layer in projectors:
                            measure = projectors[part.layer].method
                        with _named(part.layer, values, names):
                            if part.end - part.begin == widths[part.layer]:
                                made[part.layer] = calc_rdm(
                                    values, measure, n_threads=self._n_threads
                                )
                                continue
                            total = sums.setdefault(
                                part.layer,
                                RdmAccumulator(len(images), measure, n_threads=self._n_threads),
                            )
                            total.update(values)
                            if part.end == widths[part.layer]:
                                made[part.layer] = sums.pop(part.layer).rdm()
        return {layer: made[layer] for layer in wanted}

    def _check_layers(self, layers: Sequence[str] | None) -> list[str]:
        if layers is None:
            return list(self.layers)
        if isinstance(layers, str):
            raise TypeError(f"layers must be a list of layer names, not the string {layers!r}")
        for layer in layers:
            if layer not in self.layers:
                raise ValueError(
                    f"{self.architecture} has no layer {layer!r}; nearest: {nearest(layer, self.layers)}"
                )
        if not layers:
            raise ValueError("layers is empty; name at least one, or None for all")
        return list(dict.fromkeys(layers))

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Layer → shape of the activations of one image."""
        shapes = {output.name: tuple(output.shape[1:]) for output in self._session.get_outputs()}
        if not all(isinstance(n, int) for shape in shapes.values() for n in shape):
            blank = np.zeros((1, 3, *self.preprocessing.size), np.float32)
            shapes = {layer: values.shape[1:] for layer, values in self._answer(blank).items()}
        return shapes

    def _answer(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """All layers' values for a batch, as many as the session gives."""
        rows = self.batch_size if self.provider in _COMPILING else None
        images = np.ascontiguousarray(self._filled(batch, rows))
        outputs = self._session.run(list(self.layers), {"images": images})
        cut = len(batch) if len(images) > len(batch) else None
        return {layer: values[:cut] for layer, values in zip(self.layers, outputs, strict=True)}

    def _warn(self) -> None:
        """Tell each caller of answers what is known to be wrong with them."""
        if self._verdict.problem:
            warnings.warn(self._verdict.problem, RuntimeWarning, stacklevel=3)

    def _pixels(self, images: Images, background: str | None) -> NDArray[np.uint8]:
        """Decoded images; those of files from the cache."""
        are_files = isinstance(images, Sequence) and not isinstance(images, str)
        if are_files and all(isinstance(image, str | Path) for image in images):
            return cached_pixels(images, self.preprocessing, background=background)
        return self.preprocessing.pixels(images, n_threads=self._n_threads, background=background)

    def _batches(
        self, pixels: NDArray[np.uint8], batch_size: int
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Conditions and their normalised images, in memory that the next batch takes over."""
        shape = (min(batch_size, len(pixels)), 3, *self.preprocessing.size)
        batch = np.empty(shape, np.float32)
        for start in range(0, len(pixels), batch_size):
            place = slice(start, min(start + batch_size, len(pixels)))
            out = batch[: place.stop - start]
            self.preprocessing.normalise(pixels[place], out, n_threads=self._n_threads)
            yield place, self._filled(out)

    def _device(
        self, layers: tuple[str, ...], method: str, max_memory: int | str | None
    ) -> DeviceModel:
        """The network with RDMs as part of its graph; kept for the next call."""
        key = (layers, method, max_memory)
        if key not in self._devices:
            self._devices[key] = DeviceModel(
                self._graph,
                layers,
                self.preprocessing,
                self.provider,
                method,
                max_memory=max_memory,
                precision=self.precision,
                options=self._provider_options,
                n_threads=self._n_threads,
            )
        return self._devices[key]

    def _filled(self, batch: NDArray[np.float32], rows: int | None = None) -> NDArray[np.float32]:
        """A batch as large as the file fixes it, or as is asked for, its images again behind them."""
        rows = self._rows or rows or len(batch)
        if len(batch) > rows:
            raise ValueError(
                f"{self.architecture} runs on {rows} images at once, not on {len(batch)}"
            )
        return batch if len(batch) == rows else np.resize(batch, (rows, *batch.shape[1:]))

    @contextlib.contextmanager
    def _progress(self, total: int, show: bool) -> Iterator[Callable[[int], None]]:
        """A bar on standard error that is moved to a number of images, or none."""
        if not show:
            yield lambda done: None
            return
        rich = require("rich.progress", "run", "to show a progress bar")
        console = require("rich.console", "run", "to show a progress bar").Console(stderr=True)
        with rich.Progress(console=console, transient=console.is_terminal) as bar:
            task = bar.add_task(self.architecture, total=total)
            yield lambda done: bar.update(task, completed=done)


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
            f"name its layers with taps (fastrdm layers {name} lists them), or export the network with "
            "fastrdm.export_onnx"
        ) from None
    return tuple(layers), preprocessing, architecture


def _is_whole(method: str) -> bool:
    """Whether a method's RDM is had from whole layers only; an error for one that activations do not suffice for."""
    chosen = method_named(method)
    if chosen.needs:
        raise ValueError(
            f"method {method!r} needs {chosen.needs}, which a network does not give; take activations and calc_rdm"
        )
    return bool(chosen.whole)


@contextlib.contextmanager
def _named(layer: str, values: NDArray[np.float32], images: Sequence[str]) -> Iterator[None]:
    """Errors and warnings of an RDM, with the layer they are about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except ValueError:
            _check_finite(values, layer, images, 0)
            raise
    for warning in caught:
        warnings.warn(f"layer {layer!r}: {warning.message}", warning.category, stacklevel=4)


def _check_finite(values: NDArray[np.float32], layer: str, images: Images, start: int) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        first = start + int(np.argmin(finite))
        raise ValueError(
            f"layer {layer!r} has NaN or infinite activations, first for "
            f"{image_name(images[first], first)}"
        )
