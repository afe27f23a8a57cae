"""A torch module while it runs: on a device, in a precision, with its tapped layers."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names
from fastrdm.images import Preprocessing
from fastrdm.networks import (
    Choice,
    Taps,
    arguments,
    choose_taps,
    inference,
    inspect_module,
    tapped,
)
from fastrdm.runtimes.torch_weights import WeightBuffer
from fastrdm.tensors import (
    check_precision,
    device_of,
    is_out_of_memory,
    rounding,
    torch_package,
)

if TYPE_CHECKING:
    import torch


class TorchSession:
    """A module and its tapped layers; `TorchModel` has the parameters and errors.

    `shapes` has the shape of each layer's activations of one image, `inner_bytes` the size of the largest output of a
    module for one image. `weights` is the buffer of a copy of the module; None while the caller's module runs.
    """

    def __init__(
        self,
        module: "torch.nn.Module",
        taps: Taps | None,
        preprocessing: Preprocessing,
        device: str,
        precision: str,
        *,
        channels_last: bool,
        own: bool,
    ) -> None:
        self.name = type(module).__name__
        self.preprocessing = preprocessing
        self.device = device_of(module, device)
        self.precision = check_precision(precision, self.device)
        # Copied once: a copy from the host waits for the device.
        self._mean, self._std = (
            torch_package().tensor(values, device=self.device).view(3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )
        self.module = module
        self.weights: WeightBuffer | None = None
        elsewhere = any(value.device != self.device for value in module.parameters())
        if elsewhere or channels_last or own:
            self.own(channels_last)
        before = {name: value.clone() for name, value in self.module.named_buffers()}
        network = inspect_module(self.module, preprocessing.size)
        self.taps: dict[str, Choice] = choose_taps(self.module, network, taps)
        if not self.taps:
            raise ValueError(f"{self.name} has no child that can be tapped; pass taps=")
        self.inner_bytes = 4 * max((each.channels for each in network.layers.values()), default=0)
        self.shapes = self._try(before)

    def own(self, channels_last: bool = False) -> WeightBuffer:
        """Run a copy of the module from now on, whose weights are in one buffer on the device."""
        torch = torch_package()
        if self.weights is None:
            self.module = copy.deepcopy(self.module).to(self.device).eval()
            if channels_last:
                self.module = self.module.to(memory_format=torch.channels_last)
            self.weights = WeightBuffer(self.module, self.device)
        return self.weights

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Evaluate the module in its precision; modes, attributes and the random state are restored."""
        torch = torch_package()
        with contextlib.ExitStack() as stack:
            if self.weights is None:
                devices = [self.device] if self.device.type == "cuda" else []
                stack.enter_context(torch.random.fork_rng(devices))
                stack.enter_context(inference(self.module))
            stack.enter_context(torch.no_grad())
            stack.enter_context(rounding(self.precision, self.device))
            try:
                yield
            except Exception as error:
                if is_out_of_memory(error):
                    raise MemoryError(
                        f"{self.device} has too little memory for {self.name}; pass max_memory or a smaller"
                        " batch_size"
                    ) from error
                raise

    def forward(self, pixels: "torch.Tensor", wanted: Sequence[str]) -> dict[str, "torch.Tensor"]:
        """Layers of one batch of pixels."""
        taps = {layer: self.taps[layer] for layer in wanted}
        args, kwargs = arguments(self.module, self._normalise(pixels))
        with tapped(self.module, taps) as read:
            self.module(*args, **kwargs)
            try:
                return read()
            except KeyError as error:
                raise ValueError(
                    f"the layer {error.args[0]!r} of {self.name} did not run for these images, but for others"
                ) from None

    def _normalise(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Images of pixels, by the operations of `Preprocessing.normalise` in the same order."""
        images = pixels.permute(0, 3, 1, 2)
        if self.preprocessing.channel_order != "RGB":
            images = images.flip(1)
        return (images.float() / 255 - self._mean) / self._std

    def answer(self, batch: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Activations of normalised images, for a probe."""
        torch = torch_package()
        with self.running(), tapped(self.module, self.taps) as read:
            args, kwargs = arguments(self.module, torch.from_numpy(batch).to(self.device))
            self.module(*args, **kwargs)
            return {layer: values.float().cpu().numpy() for layer, values in read().items()}

    def on_device(self, pixels: NDArray[np.uint8]) -> "torch.Tensor":
        """Return pixels on the device."""
        return (
            torch_package().from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device)
        )

    def batches(
        self, pixels: "torch.Tensor", batch_size: int, wanted: Sequence[str]
    ) -> Iterator[tuple[slice, dict[str, "torch.Tensor"]]]:
        """Yield the places of conditions and their layers, batch by batch."""
        for start in range(0, len(pixels), batch_size):
            place = slice(start, min(start + batch_size, len(pixels)))
            yield place, self.forward(pixels[place], wanted)

    def _try(self, before: Mapping[str, "torch.Tensor"]) -> dict[str, tuple[int, ...]]:
        """Run black images and return the layers' shapes; restore and refuse buffers that were others `before`."""
        torch = torch_package()
        blank = np.zeros((2, *self.preprocessing.size, 3), np.uint8)
        with self.running():
            outputs = self.forward(self.on_device(blank), list(self.taps))
        changed = []
        for name, value in self.module.named_buffers():
            if name in before and not torch.equal(before[name], value):
                changed.append(name)
                value.data.copy_(before[name])
        if changed:
            raise ValueError(
                f"{self.name} changes its buffers in evaluation mode ({list_names(changed)}), so its answer to an image"
                " depends on the images before it"
            )
        return {layer: tuple(values.shape[1:]) for layer, values in outputs.items()}
