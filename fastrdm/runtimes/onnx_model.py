"""An exported network: images in, activations or RDMs out, on any execution provider."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_integer
from fastrdm.images import Images, image_name
from fastrdm.networks import Graph, InconsistentError, Probes, RequestedPreprocessing, Taps
from fastrdm.rdm import Gram, SparseProjection, chosen_methods
from fastrdm.runtimes.device import DeviceModel, suits
from fastrdm.runtimes.foreign import open_foreign
from fastrdm.runtimes.host_rdms import (
    Collector,
    GramCollector,
    RdmCollector,
    Workspace,
    gather,
    plan_passes,
    run_passes,
)
from fastrdm.runtimes.model_arguments import (
    check_method,
    check_where,
    choose_layers,
    read_pixels,
)
from fastrdm.runtimes.network_session import NetworkSession
from fastrdm.runtimes.progress import progress_bar


class OnnxModel:
    """An ONNX network that runs on images, preprocessed as its file or an argument specifies.

    Parameters
    ----------
    path : path or Graph
        The ONNX file, from `export_onnx` or any other source, or a graph in memory.
    provider : {"auto", "cpu", "cuda", "rocm", "migraphx", "tensorrt", "openvino", "coreml"}
        Where it runs. "auto" takes the first of CUDA, MIGraphX, ROCm and the CPU that loads. A named
        provider that does not load, or leaves a convolution or matrix product to the CPU, is an error.
    batch_size : int
        Images in one run; if the file fixes the batch size, that is used.
    n_threads : int, optional
        Threads of one run on the CPU; by default ONNX Runtime chooses.
    workspace : Workspace, optional
        Memory for activations, which models that run one after the other can share. On the CPU they then also share
        ONNX Runtime's memory, which the process keeps.
    taps : mapping of layer name to tensor, or sequence of tensors, optional
        Tensors of the file to use as layers, each with a choice of tokens, or patterns of names, as in
        `fastrdm.networks.find_taps`. By default the layers of a file from `export_onnx`; other files need taps.
    preprocessing : Preprocessing, optional
        Replaces the file's, or fields of it (`fastrdm.networks.request_preprocessing`). Without either, the challenge's
        development kit's with a warning.
    precision : {"fp32", "tf32", "bf16", "fp16"}, optional
        Rounding of the operands of convolutions and matrix products; by default fp32 on every provider. Activations
        are always float32.
    provider_options : mapping of str to str, optional
        The provider's options by ONNX Runtime's names. OpenVINO takes ``device_type`` and ``load_config``.
    allow_inconsistent : bool
        Whether to run a network that gives one image several answers: different ones in a batch with other images than
        alone, or in each run. Each run then warns. A probe checks this when the network is opened
        (`fastrdm.networks.probing`); with a `batch_size` of 1 each image is alone, and only different runs count.
    probes : Probes, optional
        Results of earlier probes, so that checkpoints of one graph are probed once.

    Attributes
    ----------
    layers : tuple of str
        Names of the tapped layers, in the file's order.
    preprocessing : Preprocessing
        Applied to images, from the file.
    architecture : str
        Name of the network, from the file.
    provider, precision : str
        Those in use.
    shapes : dict of str to tuple of int
        Layer → shape of the activations of one image.
    taken : dict of str to str
        Of a model from `open_checkpoint`, what was taken of the weights' file, where it was not all of it: "key",
        "prefix", "ema" ("yes", or "no" if the file holds EMA weights that were not taken), "missing" (entries).

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    InconsistentError
        If the network gives one image several answers; a ValueError that names the layer and the size of the
        difference.
    ValueError
        If the file is not an ONNX model or does not name its layers and no taps are given, or the
        provider is unknown, does not load, does not support the precision or refuses an option;
        otherwise as for `fastrdm.runtimes.foreign.open_foreign`.
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
        preprocessing: RequestedPreprocessing | None = None,
        precision: str | None = None,
        provider_options: Mapping[str, str] | None = None,
        allow_inconsistent: bool = False,
        probes: Probes | None = None,
    ) -> None:
        if isinstance(path, Graph):
            if taps is not None or preprocessing is not None:
                raise ValueError(f"{path.name} is in memory with its own taps and preprocessing")
            graph = path
        elif taps is None and preprocessing is None:
            graph = Graph.from_file(path)
        else:
            graph = open_foreign(path, taps, preprocessing, batch_size=batch_size)
        for name, number in {"batch_size": batch_size, "n_threads": n_threads}.items():
            if number is not None:
                check_integer(number, name, 1)
        self._n_threads, self._provider_options = n_threads, provider_options
        self._workspace = workspace or Workspace()
        session = NetworkSession(
            graph,
            provider,
            batch_size=batch_size,
            n_threads=n_threads,
            options=provider_options,
            precision=precision,
            reuse_memory=workspace is not None,
        )
        self._session = session
        self.provider, self.precision = session.provider, session.precision
        self.batch_size, self.layers = session.batch_size, session.layers
        self.preprocessing, self.architecture = session.preprocessing, session.architecture
        self.taken = dict(graph.taken)
        self._device_models: dict[Any, DeviceModel] = {}
        # The session holds a copy of the weights; only a model on a device needs them again.
        kept = graph.initialisers if suits(self.provider, "correlation") else {}
        self._graph = Graph(graph.name, graph.source, kept)
        self._verdict = session.probe(graph, probes)
        if self._verdict.problem and not allow_inconsistent:
            raise InconsistentError(f"{self._verdict.problem}; {self._verdict.advice}")

    def __repr__(self) -> str:
        return f"<OnnxModel {self.architecture}, {len(self.layers)} layers, on {self.provider}>"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Layer → shape of the activations of one image."""
        return self._session.shapes

    def run(
        self, batch: NDArray[np.float32], layers: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run one batch of normalised images.

        Parameters
        ----------
        batch : ndarray of float32, shape (n, 3, height, width)
        layers : sequence of str, optional
            Layers to return; all by default.

        Returns
        -------
        dict of str to ndarray of float32, shape (n, ...)
            Activations of each layer.

        Raises
        ------
        ValueError
            If the batch has another shape or type, or more images than the file's batch, or a
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
                " batch_size=1, and its answers to several images in a batch differ"
            )
        self._warn()
        return self._session.run(batch, wanted)

    def activations(
        self,
        images: Images,
        layers: Sequence[str] | None = None,
        progress: bool = False,
        *,
        background: str | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Read images and return each layer's activations.

        Parameters
        ----------
        images : sequence of path, PIL image or uint8 array (h, w, 3)
            In the order of the conditions.
        layers : sequence of str, optional
            Layers to return, in this order; all by default.
        progress : bool
            Whether to show a progress bar on standard error.
        background : str, optional
            Colour of transparent pixels, as "#rrggbb"; without it, images with transparent pixels are refused.

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
        pixels = self._pixels(images, background)
        with progress_bar(self.architecture, len(images), progress) as advance:
            return gather(self._session, images, pixels, wanted, advance)

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
        """Read images and return each layer's RDM.

        On the host, ONNX Runtime writes the activations of all conditions to the memory that the kernels read, which is
        kept for the next call. On a device, RDMs are part of the graph, and no activations are copied back. Image files
        are decoded once and kept in the cache of `fastrdm.images.cache`.

        Parameters
        ----------
        images, layers, progress, background
            As for `activations`.
        method : str
            As for `calc_rdm`, but only methods that need nothing but activations.
        max_memory : int or str, optional
            Bytes, or a text such as ``"1GiB"``, for activations, images and the network's inner values, in addition to
            the network itself. If the activations of all conditions do not fit, batches become smaller, and then the
            images run several times, for some layers or some channels at a time; RDMs from parts of a layer agree
            within 1e-6. On a device, the limit applies to its memory.
        projection : SparseProjection, optional
            Projects layers with more channels than its components, batch by batch, for ``correlation``, ``cosine``,
            ``euclidean`` and ``sqeuclidean``; only on the host.
        where : {"auto", "host", "device"}
            Where RDMs are computed: "auto" chooses the provider's device if it has memory of its own and supports the
            method, and there is no projection. Both agree within 1e-5, for distances relative to the largest.
        names : sequence of str, optional
            Names of the images in messages; by default their paths or positions.

        Returns
        -------
        dict of str to ndarray of float64, shape (pairs,)
            Condensed RDMs of the flattened activations.

        Raises
        ------
        ValueError
            As for `activations` and `calc_rdm`; if `max_memory` is too small (the message gives the limit that
            suffices), or the device does not support the request.

        Warns
        -----
        RuntimeWarning
            As `calc_rdm`, naming the layer; if an inconsistent network was allowed.
        """
        wanted = self._check_layers(layers)
        check_method(method)
        check_where(where, projection)
        pixels, names = self._stimuli(images, names, background)
        if self._uses_device(where, method, projection):
            device = self._device_model(tuple(wanted), method, max_memory)
            return device.rdms(device.show(pixels, names))
        collector = RdmCollector(self._widths(wanted), method, projection, names, self._n_threads)
        self._collect(collector, pixels, max_memory, progress)
        return {layer: collector.results[layer] for layer in wanted}

    def grams(
        self,
        images: Images,
        layers: Sequence[str] | None = None,
        progress: bool = False,
        *,
        methods: Iterable[str] | None = None,
        max_memory: int | str | None = None,
        projection: SparseProjection | None = None,
        where: str = "auto",
        names: Sequence[str] | None = None,
        background: str | None = None,
    ) -> dict[str, Gram]:
        """Read images and return each layer's Gram matrix, from which every score follows.

        Their RDMs are those of `rdms` to the bit, if layers are not split to fit `max_memory`, and on a device within
        1e-5. Arguments, errors and warnings are those of `rdms`, and of `gram` for `methods`.

        Returns
        -------
        dict of str to Gram
        """
        wanted, chosen = self._check_layers(layers), chosen_methods(methods)
        check_where(where, projection)
        pixels, names = self._stimuli(images, names, background)
        if self._uses_device(where, "correlation", projection):
            device = self._device_model(tuple(wanted), "correlation", max_memory)
            return device.grams(device.show(pixels, names), chosen)
        collector = GramCollector(self._widths(wanted), chosen, projection, names, self._n_threads)
        self._collect(collector, pixels, max_memory, progress)
        return {layer: collector.results[layer] for layer in wanted}

    def _widths(self, wanted: Sequence[str]) -> dict[str, int]:
        return {layer: math.prod(self.shapes[layer]) for layer in wanted}

    def _stimuli(
        self, images: Images, names: Sequence[str] | None, background: str | None
    ) -> tuple[NDArray[np.uint8], Sequence[str]]:
        """Return pixels and names of images; warn the caller's caller of a known problem with the answers."""
        pixels = self._pixels(images, background)
        if names is None:
            names = [image_name(image, i) for i, image in enumerate(images)]
        self._warn(stacklevel=4)
        return pixels, names

    def _collect(
        self,
        collector: Collector[Any],
        pixels: NDArray[np.uint8],
        max_memory: int | str | None,
        progress: bool,
    ) -> None:
        """Run the images on the host."""
        plan = plan_passes(self._session, self._graph, collector, len(pixels), max_memory)
        total = len(pixels) * len(plan.passes)
        with progress_bar(self.architecture, total, progress) as advance:
            run_passes(self._session, plan, pixels, collector, self._workspace, advance)

    def _uses_device(self, where: str, method: str, projection: SparseProjection | None) -> bool:
        """Whether RDMs are computed on the device, where all images run in one batch."""
        is_consistent = not (self._verdict.alone or self._verdict.problem)
        if where == "device" and not is_consistent:
            raise ValueError(
                f"{self.architecture} gives one image several answers, and images share batches on the device; omit"
                " where"
            )
        if where != "auto":
            return where == "device"
        return projection is None and is_consistent and suits(self.provider, method)

    def _check_layers(self, layers: Sequence[str] | None) -> list[str]:
        return choose_layers(layers, self.layers, self.architecture)

    def _warn(self, stacklevel: int = 3) -> None:
        """Warn each caller of a known problem with the answers."""
        if self._verdict.problem:
            warnings.warn(self._verdict.problem, RuntimeWarning, stacklevel=stacklevel)

    def _pixels(self, images: Images, background: str | None) -> NDArray[np.uint8]:
        return read_pixels(images, self.preprocessing, background, self._n_threads)

    def _device_model(
        self, layers: tuple[str, ...], method: str, max_memory: int | str | None
    ) -> DeviceModel:
        """The network with RDMs as part of its graph; kept for the next call."""
        key = (layers, method, max_memory)
        if key not in self._device_models:
            self._device_models[key] = DeviceModel(
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
        return self._device_models[key]
