"""A torch module where it stands: images in, activations or RDMs out, on any device of torch."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_integer, parse_bytes
from fastrdm.images import Images
from fastrdm.networks import (
    InconsistentError,
    RequestedPreprocessing,
    Taps,
    preprocessing_for,
    probe_module,
)
from fastrdm.rdm import Gram, SparseProjection, method_named
from fastrdm.runtimes.host_rdms import Collector, Workspace, check_activations
from fastrdm.runtimes.image_model import DeviceJob, ImageModel
from fastrdm.runtimes.model_arguments import check_stimuli, choose_layers, device_measure
from fastrdm.runtimes.planning import BatchNeeds, BatchPlan
from fastrdm.runtimes.progress import progress_bar
from fastrdm.runtimes.torch_rdms import (
    DeviceRdms,
    PendingRdms,
    ShownImages,
    check_shown,
    collect,
)
from fastrdm.runtimes.torch_session import TorchOptions, TorchSession
from fastrdm.runtimes.torch_states import alone, random_kept
from fastrdm.runtimes.torch_weights import FoldedWeights
from fastrdm.tensors import free_bytes, torch_package

if TYPE_CHECKING:
    import torch

# Images per batch where memory sets no limit: on the CPU, and on devices whose free memory is unknown.
_CPU_BATCH, _DEVICE_BATCH = 32, 128
# Share of a device's free memory to use.
_SHARE = 0.8


class TorchModel(ImageModel):
    """A torch module that runs on images where its weights are, with the interface of `OnnxModel`.

    The module runs in evaluation mode, without gradients; its modes, attributes and the random state are the same
    afterwards. Each call uses the weights that the module has then. Calls from several threads run one after the other.
    On a GPU, RDMs are computed there: the products of all pairs of conditions are copied to the host, and no
    activations.

    A copy of the module runs on another device than that of its weights, with `channels_last`, `compile` or
    `cuda_graph`, and for weights of 16 or 64 bits, which it holds in float32. Each call first copies the module's
    weights to it, until `load` replaces them. Attributes that are neither parameters nor buffers of the state dict stay
    those of the first copy.

    Parameters
    ----------
    module : torch.nn.Module
        As for `export_onnx`, which it need not be able to export. Wrappers of `torch.compile`, `DataParallel` and
        `DistributedDataParallel` are left out.
    taps : sequence of taps, or mapping of layer name to tap, optional
        As for `export_onnx`, with the same names.
    preprocessing : Preprocessing, optional
        As for `export_onnx`.
    device : str
        A device of torch, such as "cuda:1" (also for ROCm), "mps", "xpu" or "cpu". "auto" is that of the weights.
    batch_size : int, optional
        Images in one run; by default 32 on the CPU, and on a GPU as many as fit its memory.
    n_threads : int, optional
        Threads of torch, of decoding images and of RDMs on the CPU; by default torch's number for torch, and that of
        the kernels for the others.
    workspace : Workspace, optional
        Memory for activations on the host, which models that run one after the other can share.
    precision : {"fp32", "tf32", "bf16", "fp16"}, optional
        Rounding of the operands of convolutions and matrix products, by default fp32. 16-bit precisions run under
        autocast; activations and products of 16 bits are multiplied exactly and summed in float32 by chunks. TF32
        needs CUDA.
    channels_last : bool
        Whether to run in torch's channels-last memory format, which is faster on GPUs, above all in 16 bits. The last
        bits of activations change.
    compile : bool
        Whether to run the module and its preprocessing by `torch.compile`, which fuses batch norms, activation
        functions and conversions. The first call with each number of images compiles, for up to minutes. The last bits
        of activations change; in 16 bits, values between fused operations are not rounded.
    cuda_graph : bool
        Whether `start` and `start_sets` replay their work for the same stimuli as a CUDA graph; for small networks,
        whose kernels take less time than starting them. Numbers do not change.
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
    device : torch.device
    provider : str
        "torch:" and the device in use.
    precision : str
    batch_size : int
        Images in one run, where memory sets no lower limit.
    taken : dict of str to str
        As for `OnnxModel`; empty unless the weights come from a file.

    Raises
    ------
    TypeError
        If `module` is not a torch module.
    ValueError
        If the device is not available, the weights are on several devices, the module changes its buffers in evaluation
        mode or uses tensors on other devices, it has to be copied and cannot, a precision or option does not suit the
        device, or as for `export_onnx`.
    MemoryError
        If the device has too little memory; the calls raise it too.
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
        n_threads: int | None = None,
        workspace: Workspace | None = None,
        precision: str | None = None,
        channels_last: bool = False,
        compile: bool = False,
        cuda_graph: bool = False,
        allow_inconsistent: bool = False,
    ) -> None:
        torch = torch_package()
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
        for name, number in {"batch_size": batch_size, "n_threads": n_threads}.items():
            if number is not None:
                check_integer(number, name, 1)
        module = unwrapped(module)
        self.architecture = type(module).__name__
        self.preprocessing = preprocessing_for(module, preprocessing)
        self.precision, self.taken = precision or "fp32", {}
        options = TorchOptions(self.precision, channels_last, compile, cuda_graph, n_threads)
        self._session = TorchSession(module, taps, self.preprocessing, device, options)
        self.device = self._session.device
        self.provider = f"torch:{self.device}"
        self.layers = tuple(self._session.taps)
        self._asked_size, self._n_threads = batch_size, n_threads
        self._workspace = workspace or Workspace()
        self._device_rdms_of = DeviceRdms(self._session)
        # Restored after all runs of the probe: a module that draws random numbers has to draw others in each.
        with alone(), random_kept(self.device):
            self._verdict = probe_module(
                self.architecture,
                self.layers,
                lambda images: self._session.run(images, self.layers, keep_random=False),
                self.preprocessing,
                batch_size=batch_size or _CPU_BATCH,
                precision=self.precision,
                on_cpu=self.device.type == "cpu",
            )
        if self._verdict.problem and not allow_inconsistent:
            raise InconsistentError(f"{self._verdict.problem}; {self._verdict.advice}")
        default = _CPU_BATCH if self.device.type == "cpu" else _DEVICE_BATCH
        self.batch_size = 1 if self._verdict.alone else batch_size or default

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Layer → shape of the activations of one image."""
        return self._session.shapes

    @property
    def runs_copy(self) -> bool:
        """Whether a copy of the module runs."""
        return self._session.weights is not None

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

    def start(
        self,
        shown: ShownImages,
        method: str = "correlation",
        layers: Sequence[str] | None = None,
        *,
        max_memory: int | str | None = None,
    ) -> PendingRdms:
        """Start to compute the RDMs of layers on the device, without waiting for it.

        `layers` and `max_memory` are as for `rdms`. Raise ValueError if the method is not one for devices, or the
        stimuli have another size or are on another device.
        """
        return self.start_sets([shown], method, layers, max_memory=max_memory)[0]

    def start_sets(
        self,
        sets: Sequence[ShownImages],
        method: str = "correlation",
        layers: Sequence[str] | None = None,
        *,
        max_memory: int | str | None = None,
    ) -> list[PendingRdms]:
        """Start to compute the RDMs of several sets of stimuli, whose images share batches.

        On a GPU, this takes less time than one `start` for each set. Activations in batches of other sizes can differ
        in their last bits. Errors are those of `start`, warnings those of `rdms`.
        """
        device_measure(method)
        check_shown(sets, self.preprocessing.size, self.device)
        self._warn()
        self._session.follow()
        wanted = choose_layers(layers, self.layers, self.architecture)
        limit = None if max_memory is None else parse_bytes(max_memory)
        plan = self._device_plan(wanted, sum(len(each.names) for each in sets), limit)
        return self._device_rdms_of.start(sets, wanted, plan, method)

    def fold(
        self,
        weights: Mapping[str, Any],
        into: FoldedWeights | None = None,
        *,
        on_device: bool = False,
    ) -> FoldedWeights:
        """Copy a checkpoint's weights to one buffer on the host, in pinned memory if the device is a GPU.

        The first call makes the copy of the module that `load` changes. Later ones change nothing in the model, so
        another thread may fold weights while the model runs.

        Parameters
        ----------
        weights : mapping of str to tensor or ndarray
            A `state_dict` of the module; other entries are ignored.
        into : FoldedWeights, optional
            An earlier checkpoint's, loaded and no longer needed, whose memory to reuse.
        on_device : bool
            Whether the buffer is on the device; for weights that are there, so that nothing waits for the device.

        Raises
        ------
        ValueError
            If weights are missing or have another shape, or `into` was folded for another network.
        """
        return self._session.own().fold(weights, into, on_device=on_device)

    def load(self, weights: Mapping[str, Any] | FoldedWeights) -> None:
        """Replace the weights, as for `fold`, by one copy; on a GPU while it still computes with the old ones.

        From then on a copy of the module runs; the caller's keeps its weights. Folded weights may be reused once their
        RDMs have been returned.
        """
        folded = (
            weights if isinstance(weights, FoldedWeights) else self._session.own().fold(weights)
        )
        self._session.load(folded)

    # What `ImageModel` needs.

    def _run(
        self, batch: NDArray[np.float32], wanted: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        self._session.follow()
        return self._session.run(batch, wanted)

    def _gather(
        self,
        images: Images,
        pixels: NDArray[np.uint8],
        wanted: Sequence[str],
        advance: Callable[[int], None],
    ) -> dict[str, NDArray[np.float32]]:
        self._session.follow()
        shown = self._session.on_device(pixels)
        gathered = {
            layer: np.empty((len(pixels), *self.shapes[layer]), np.float32) for layer in wanted
        }
        with self._session.running():
            for place, outputs in self._session.batches(shown, self.batch_size, wanted):
                for layer, values in outputs.items():
                    gathered[layer][place] = values.float().cpu().numpy()
                    check_activations(gathered[layer][place], layer, images, place.start)
                advance(place.stop)
        return gathered

    def _collect(
        self,
        collector: Collector[Any],
        pixels: NDArray[np.uint8],
        limit: int | None,
        progress: bool,
    ) -> None:
        self._session.follow()
        layers = list(collector.widths)
        needs = BatchNeeds(
            collector.widths, len(pixels), self._image_bytes(layers), collector.whole
        )
        plan = needs.plan(min(self.batch_size, len(pixels)), limit)
        total = len(pixels) * len(plan.passes)
        with progress_bar(self.architecture, total, progress) as advance:
            collect(self._session, pixels, plan, collector, self._workspace, advance)

    def _uses_device(self, where: str, method: str, projection: SparseProjection | None) -> bool:
        able = method_named(method).on_device and projection is None
        return where == "device" or (where == "auto" and able and self.device.type != "cpu")

    def _device_rdms(self, job: DeviceJob, method: str) -> dict[str, NDArray[np.float64]]:
        return self._started(job, method).rdms()

    def _device_grams(self, job: DeviceJob, methods: Sequence[str]) -> dict[str, Gram]:
        return self._started(job, "correlation").grams()

    def _started(self, job: DeviceJob, method: str) -> PendingRdms:
        self._session.follow()
        plan = self._device_plan(job.layers, len(job.pixels), job.limit)
        shown = self.show(job.pixels, job.names)
        total = len(job.pixels) * len(plan.passes)
        with progress_bar(self.architecture, total, job.progress) as advance:
            started = self._device_rdms_of.start(
                [shown], job.layers, plan, method, advance, once=True
            )
        return started[0]

    def _image_bytes(self, wanted: Sequence[str]) -> int:
        """Memory for pixels, the largest inner values and half of the layers of one image, an estimate."""
        held = 4 * sum(math.prod(self.shapes[layer]) for layer in wanted)
        return self._session.inner_bytes + 5 * 3 * math.prod(self.preprocessing.size) + held // 2

    def _device_plan(self, wanted: Sequence[str], n: int, limit: int | None) -> BatchPlan:
        """Batches and passes on the device; without a limit they use most of its free memory."""
        batch = self.batch_size
        if limit is None and self._asked_size is None and not self._verdict.alone:
            free = free_bytes(self.device)
            if free is not None:
                batch, limit = n, int(_SHARE * free)
        widths = {layer: math.prod(self.shapes[layer]) for layer in wanted}
        needs = BatchNeeds(widths, n, self._image_bytes(wanted))
        return needs.plan(min(batch, n), limit)


def unwrapped(module: "torch.nn.Module") -> "torch.nn.Module":
    """Return the network inside wrappers of torch."""
    torch = torch_package()
    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, wrappers):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module
