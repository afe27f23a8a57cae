"""A torch module where it stands: images in, activations or RDMs out, on any device of torch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_integer, parse_bytes, warn_caller
from fastrdm.images import Images, image_name
from fastrdm.networks import (
    InconsistentError,
    RequestedPreprocessing,
    Taps,
    preprocessing_for,
    probe_module,
)
from fastrdm.rdm import Gram, SparseProjection, chosen_methods, method_named
from fastrdm.runtimes.host_rdms import (
    Collector,
    GramCollector,
    RdmCollector,
    check_activations,
)
from fastrdm.runtimes.model_arguments import (
    check_method,
    check_stimuli,
    check_where,
    choose_layers,
    device_measure,
    read_pixels,
)
from fastrdm.runtimes.planning import BatchNeeds, BatchPlan
from fastrdm.runtimes.torch_rdms import DeviceRdms, PendingRdms, ShownImages, collect
from fastrdm.runtimes.torch_session import TorchSession
from fastrdm.runtimes.torch_weights import FoldedWeights
from fastrdm.tensors import free_bytes, torch_package

if TYPE_CHECKING:
    import torch

# Images per batch where memory sets no limit: on the CPU, and on devices whose free memory is unknown.
_CPU_BATCH, _DEVICE_BATCH = 32, 128
# Share of a device's free memory to use.
_SHARE = 0.8


class TorchModel:
    """A torch module that runs on images where its weights are, with the layers and answers of `OnnxModel`.

    The module runs in evaluation mode, without gradients; its modes, attributes and the random state are the same
    afterwards, and its weights may change between calls. On a GPU, RDMs are computed there: the products of all pairs
    of conditions are copied to the host, and no activations.

    Parameters
    ----------
    module : torch.nn.Module
        As for `export_onnx`. Wrappers of `torch.compile`, `DataParallel` and `DistributedDataParallel` are left out.
    taps : sequence of taps, or mapping of layer name to tap, optional
        As for `export_onnx`, with the same names.
    preprocessing : Preprocessing, optional
        As for `export_onnx`.
    device : str
        A device of torch, such as "cuda:1" (also for ROCm), "mps", "xpu" or "cpu". On another device than that of its
        weights, a copy of the module runs. "auto" is the device of the weights.
    batch_size : int, optional
        Images in one run; by default 32 on the CPU, and on a GPU as many as fit its memory.
    precision : {"fp32", "tf32", "bf16", "fp16"}
        Rounding of the operands of convolutions and matrix products; 16-bit precisions run under autocast, and then
        activations and products of 16 bits are multiplied exactly and summed in float32 by chunks. TF32 needs CUDA.
    channels_last : bool
        Whether to run a copy of the module in torch's channels-last memory format, which is faster on GPUs, above all
        in 16 bits. Activations differ in their last bits.
    cuda_graph : bool
        Whether to replay the work of a call with the same stimuli as a CUDA graph, in a copy of the module; for small
        networks, whose kernels take less time than starting them. Numbers do not change.
    allow_inconsistent : bool
        As for `OnnxModel`.

    Attributes
    ----------
    layers : tuple of str
        Names of the tapped layers.
    shapes : dict of str to tuple of int
        Layer → shape of the activations of one image.
    preprocessing : Preprocessing
    architecture : str
        Name of the module's class.
    provider : str
        "torch:" and the device in use.
    precision : str

    Raises
    ------
    TypeError
        If `module` is not a torch module.
    ValueError
        If the device is not available, the weights are on several devices, the module changes its buffers in evaluation
        mode, a precision or option does not suit the device, or as for `export_onnx`.
    InconsistentError
        As for `OnnxModel`.
    MissingExtraError
        If torch is not installed.
    """

    def __init__(
        self,
        module: "torch.nn.Module",
        taps: Taps | None = None,
        *,
        preprocessing: RequestedPreprocessing | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        precision: str = "fp32",
        channels_last: bool = False,
        cuda_graph: bool = False,
        allow_inconsistent: bool = False,
    ) -> None:
        torch = torch_package()
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
        if batch_size is not None:
            check_integer(batch_size, "batch_size", 1)
        module = _unwrapped(module)
        self.architecture = type(module).__name__
        self.preprocessing = preprocessing_for(module, preprocessing)
        self._session = TorchSession(
            module,
            taps,
            self.preprocessing,
            device,
            precision,
            channels_last=channels_last,
            own=cuda_graph,
        )
        self.device, self.precision = self._session.device, precision
        if cuda_graph and self.device.type != "cuda":
            raise ValueError(f"cuda_graph=True needs a CUDA device, not {self.device}")
        self.provider = f"torch:{self.device}"
        self.layers, self.shapes = tuple(self._session.taps), self._session.shapes
        self._batch_size = batch_size
        self._device_rdms = DeviceRdms(self._session, cuda_graph)
        self._verdict = probe_module(
            self.architecture,
            self.layers,
            self._session.answer,
            self.preprocessing,
            batch_size=batch_size or _CPU_BATCH,
            precision=self.precision,
            on_cpu=self.device.type == "cpu",
        )
        if self._verdict.problem and not allow_inconsistent:
            raise InconsistentError(f"{self._verdict.problem}; {self._verdict.advice}")

    def __repr__(self) -> str:
        return f"<TorchModel {self.architecture}, {len(self.layers)} layers, on {self.device}, {self.precision}>"

    def activations(
        self,
        images: Images,
        layers: Sequence[str] | None = None,
        *,
        background: str | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Read images and return each layer's activations, in float32; arguments and errors as `OnnxModel`'s."""
        wanted = self._check_layers(layers)
        pixels = self._pixels(images, background)
        gathered = {
            layer: np.empty((len(pixels), *self.shapes[layer]), np.float32) for layer in wanted
        }
        with self._session.running():
            for place, outputs in self._session.batches(
                self._session.on_device(pixels), self._default_batch, wanted
            ):
                for layer, values in outputs.items():
                    gathered[layer][place] = values.float().cpu().numpy()
                    check_activations(gathered[layer][place], layer, images, place.start)
        return gathered

    def rdms(
        self,
        images: Images,
        method: str = "correlation",
        layers: Sequence[str] | None = None,
        *,
        max_memory: int | str | None = None,
        projection: SparseProjection | None = None,
        where: str = "auto",
        names: Sequence[str] | None = None,
        background: str | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Read images and return each layer's condensed RDM; arguments, errors and warnings as `OnnxModel`'s.

        `max_memory` is for pixels, activations and the network's inner values, an estimate; on a GPU it is that of the
        GPU, by default four fifths of what is free. If the activations of all conditions do not fit, the images run in
        several passes, each keeping some channels.
        """
        wanted = self._check_layers(layers)
        check_method(method)
        check_where(where, projection)
        limit = None if max_memory is None else parse_bytes(max_memory)
        pixels, names = self._stimuli(images, names, background)
        if where == "device":
            device_measure(method)
        if self._uses_device(where, method, projection):
            return self._started(pixels, names, wanted, limit).rdms(method)
        collector = RdmCollector(self._widths(wanted), method, projection, names, None)
        self._collect(collector, pixels, limit)
        return {layer: collector.results[layer] for layer in wanted}

    def grams(
        self,
        images: Images,
        layers: Sequence[str] | None = None,
        *,
        methods: Iterable[str] | None = None,
        max_memory: int | str | None = None,
        projection: SparseProjection | None = None,
        where: str = "auto",
        names: Sequence[str] | None = None,
        background: str | None = None,
    ) -> dict[str, Gram]:
        """Read images and return each layer's Gram matrix; arguments, errors and warnings as `OnnxModel`'s.

        `max_memory` is as for `rdms`.
        """
        wanted, chosen = self._check_layers(layers), chosen_methods(methods)
        check_where(where, projection)
        limit = None if max_memory is None else parse_bytes(max_memory)
        pixels, names = self._stimuli(images, names, background)
        if self._uses_device(where, "correlation", projection):
            return self._started(pixels, names, wanted, limit).grams()
        collector = GramCollector(self._widths(wanted), chosen, projection, names, None)
        self._collect(collector, pixels, limit)
        return {layer: collector.results[layer] for layer in wanted}

    def _widths(self, wanted: Sequence[str]) -> dict[str, int]:
        return {layer: math.prod(self.shapes[layer]) for layer in wanted}

    def _stimuli(
        self, images: Images, names: Sequence[str] | None, background: str | None
    ) -> tuple[NDArray[np.uint8], Sequence[str]]:
        pixels = self._pixels(images, background)
        if names is None:
            names = [image_name(image, i) for i, image in enumerate(images)]
        return pixels, names

    def _uses_device(self, where: str, method: str, projection: SparseProjection | None) -> bool:
        able = method_named(method).on_device and projection is None
        return where == "device" or (where == "auto" and able and self.device.type != "cpu")

    def _started(
        self,
        pixels: NDArray[np.uint8],
        names: Sequence[str],
        wanted: Sequence[str],
        limit: int | None,
    ) -> PendingRdms:
        plan = self._device_plan(wanted, len(pixels), limit)
        return self._device_rdms.start(self.show(pixels, names), wanted, plan)

    def _collect(
        self, collector: Collector[Any], pixels: NDArray[np.uint8], limit: int | None
    ) -> None:
        """Run the images, with results on the host."""
        layers = list(collector.widths)
        needs = BatchNeeds(
            collector.widths, len(pixels), self._image_bytes(layers), collector.whole
        )
        plan = needs.plan(min(self._default_batch, len(pixels)), limit)
        collect(self._session, pixels, plan, collector)

    def show(self, pixels: NDArray[np.uint8], names: Sequence[str] | None = None) -> ShownImages:
        """Copy stimuli to the device, where they stay as long as the returned object exists.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (n_conditions, height, width, 3)
            At least two, in RGB, resized to the network's input: from ``preprocessing.pixels``.
        names : sequence of str, optional
            Names of the conditions in messages; by default their numbers from 1.
        """
        named = check_stimuli(pixels, self.preprocessing.size, names)
        return ShownImages(named, self._session.on_device(pixels))

    def start(self, shown: ShownImages, method: str = "correlation") -> PendingRdms:
        """Start to compute the RDMs of all layers on the device, without waiting for it.

        Raise ValueError if the method is not one for devices.
        """
        device_measure(method)
        plan = self._device_plan(self.layers, len(shown.names), None)
        return self._device_rdms.start(shown, self.layers, plan, method)

    def fold(self, weights: Mapping[str, Any], into: FoldedWeights | None = None) -> FoldedWeights:
        """Copy a checkpoint's weights to one buffer on the host, in pinned memory if the device is a GPU.

        The first call makes the copy of the module that `load` changes. Later ones change nothing in the model, so
        another thread may fold weights while the model runs.

        Parameters
        ----------
        weights : mapping of str to tensor or ndarray
            A `state_dict` of the module; other entries are ignored.
        into : FoldedWeights, optional
            An earlier checkpoint's, loaded and no longer needed, whose memory to reuse.

        Raises
        ------
        ValueError
            If weights are missing or have another shape, or `into` was folded for another network.
        """
        return self._session.own().fold(weights, into)

    def load(self, weights: Mapping[str, Any] | FoldedWeights) -> None:
        """Replace the weights, as for `fold`, by one copy; on a GPU while it still computes with the old ones.

        From then on a copy of the module runs; the caller's keeps its weights. Folded weights may be reused once their
        RDMs have been returned.
        """
        buffer = self._session.own()
        buffer.load(weights if isinstance(weights, FoldedWeights) else buffer.fold(weights))

    # Images and layers.

    def _check_layers(self, layers: Sequence[str] | None) -> list[str]:
        return choose_layers(layers, self.layers, self.architecture)

    def _pixels(self, images: Images, background: str | None) -> NDArray[np.uint8]:
        if self._verdict.problem:
            warn_caller(self._verdict.problem)
        return read_pixels(images, self.preprocessing, background)

    @property
    def _default_batch(self) -> int:
        if self._verdict.alone:
            return 1
        return self._batch_size or (_CPU_BATCH if self.device.type == "cpu" else _DEVICE_BATCH)

    def _image_bytes(self, wanted: Sequence[str]) -> int:
        """Memory for pixels, the largest inner values and half of the layers of one image, an estimate."""
        held = 4 * sum(math.prod(self.shapes[layer]) for layer in wanted)
        return self._session.inner_bytes + 5 * 3 * math.prod(self.preprocessing.size) + held // 2

    def _device_plan(self, wanted: Sequence[str], n: int, limit: int | None) -> BatchPlan:
        """Batches and passes on the device; without a limit they use most of its free memory."""
        batch = self._default_batch
        if limit is None and self._batch_size is None and not self._verdict.alone:
            free = free_bytes(self.device)
            if free is not None:
                batch, limit = n, int(_SHARE * free)
        widths = {layer: math.prod(self.shapes[layer]) for layer in wanted}
        needs = BatchNeeds(widths, n, self._image_bytes(wanted))
        return needs.plan(min(batch, n), limit)


def _unwrapped(module: "torch.nn.Module") -> "torch.nn.Module":
    """The network inside wrappers of torch."""
    torch = torch_package()
    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, wrappers):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module
