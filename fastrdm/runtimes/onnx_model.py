"""An exported network: images in, activations or RDMs out, on any execution provider."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_integer
from fastrdm.images import Images
from fastrdm.networks import Graph, InconsistentError, Probes, RequestedPreprocessing, Taps
from fastrdm.rdm import Gram, SparseProjection
from fastrdm.runtimes.device import DeviceModel, suits
from fastrdm.runtimes.foreign import open_foreign
from fastrdm.runtimes.host_rdms import (
    Collector,
    Workspace,
    gather,
    plan_passes,
    run_passes,
)
from fastrdm.runtimes.image_model import DeviceJob, ImageModel
from fastrdm.runtimes.network_session import NetworkSession
from fastrdm.runtimes.progress import progress_bar


class OnnxModel(ImageModel):
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

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Layer → shape of the activations of one image."""
        return self._session.shapes

    def _run(
        self, batch: NDArray[np.float32], wanted: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        return self._session.run(batch, wanted)

    def _gather(
        self,
        images: Images,
        pixels: NDArray[np.uint8],
        wanted: Sequence[str],
        advance: Callable[[int], None],
    ) -> dict[str, NDArray[np.float32]]:
        return gather(self._session, images, pixels, wanted, advance)

    def _collect(
        self,
        collector: Collector[Any],
        pixels: NDArray[np.uint8],
        limit: int | None,
        progress: bool,
    ) -> None:
        plan = plan_passes(self._session, self._graph, collector, len(pixels), limit)
        total = len(pixels) * len(plan.passes)
        with progress_bar(self.architecture, total, progress) as advance:
            run_passes(self._session, plan, pixels, collector, self._workspace, advance)

    def _uses_device(self, where: str, method: str, projection: SparseProjection | None) -> bool:
        # All images run in one batch there.
        is_consistent = not (self._verdict.alone or self._verdict.problem)
        if where == "device" and not is_consistent:
            raise ValueError(
                f"{self.architecture} gives one image several answers, and images share batches on the device; omit"
                " where"
            )
        if where != "auto":
            return where == "device"
        return projection is None and is_consistent and suits(self.provider, method)

    def _device_rdms(self, job: DeviceJob, method: str) -> dict[str, NDArray[np.float64]]:
        device = self._device_model(job.layers, method, job.limit)
        return device.rdms(device.show(job.pixels, job.names))

    def _device_grams(self, job: DeviceJob, methods: Sequence[str]) -> dict[str, Gram]:
        device = self._device_model(job.layers, "correlation", job.limit)
        return device.grams(device.show(job.pixels, job.names), methods)

    def _device_model(self, layers: tuple[str, ...], method: str, limit: int | None) -> DeviceModel:
        """The network with RDMs as part of its graph; kept for the next call."""
        key = (layers, method, limit)
        if key not in self._device_models:
            self._device_models[key] = DeviceModel(
                self._graph,
                layers,
                self.preprocessing,
                self.provider,
                method,
                max_memory=limit,
                precision=self.precision,
                options=self._provider_options,
                n_threads=self._n_threads,
            )
        return self._device_models[key]
