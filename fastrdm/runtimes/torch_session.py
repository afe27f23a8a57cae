"""A torch module while it runs: on a device, in a precision, with its tapped layers."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import counted, first_line, list_names
from fastrdm.images import Preprocessing
from fastrdm.networks import (
    Choice,
    Taps,
    arguments,
    attributes_restored,
    choose_taps,
    inference,
    inspect_module,
    tapped,
)
from fastrdm.runtimes.torch_compiling import CompiledLayers
from fastrdm.runtimes.torch_states import (
    alone,
    check_parts,
    check_place,
    in_precision,
    memory_named,
    random_kept,
    threads,
    uncompiled,
)
from fastrdm.runtimes.torch_weights import WeightBuffer
from fastrdm.tensors import check_precision, device_of, torch_package

if TYPE_CHECKING:
    import torch


class TorchOptions(NamedTuple):
    """How a module runs; `TorchModel` has the descriptions."""

    precision: str
    channels_last: bool
    compile: bool
    cuda_graph: bool
    n_threads: int | None


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
        options: TorchOptions,
    ) -> None:
        self.name = type(module).__name__
        self.preprocessing, self.options = preprocessing, options
        self.device = device_of(module, device)
        if options.cuda_graph and self.device.type != "cuda":
            raise ValueError(f"cuda_graph=True needs a CUDA device, not {self.device}")
        self.module = module
        self.weights: WeightBuffer | None = None
        #: The caller's module, while its weights are copied before each run.
        self._followed: torch.nn.Module | None = None
        check_parts(module, self.name)
        with (
            alone(),
            memory_named(self.name, self.device),
            random_kept(self.device),
            uncompiled(module),
        ):
            check_precision(options.precision, self.device)
            # Copied once: a copy from the host waits for the device.
            self._mean, self._std = (
                self.on_device(np.array(values, np.float32)).view(3, 1, 1)
                for values in (preprocessing.mean, preprocessing.std)
            )
            if self._needs_copy():
                self.own()
                self._followed = module
            self._open(taps)

    def _needs_copy(self) -> bool:
        """Whether the caller's module cannot run as it is."""
        options = self.options
        if options.channels_last or options.compile or options.cuda_graph:
            return True
        values = (*self.module.parameters(), *self.module.buffers())
        return self._has_other_types() or any(value.device != self.device for value in values)

    def _has_other_types(self) -> bool:
        """Whether weights are not in float32, but in 16 or 64 bits."""
        single = torch_package().float32
        return any(v.is_floating_point() and v.dtype != single for v in self.module.parameters())

    def _open(self, taps: Taps | None) -> None:
        before = [(name, value, value.clone()) for name, value in self.module.named_buffers()]
        network = inspect_module(self.module, self.preprocessing.size)
        self.taps: dict[str, Choice] = choose_taps(self.module, network, taps)
        if not self.taps:
            raise ValueError(f"{self.name} has no child that can be tapped; pass taps=")
        self.inner_bytes = 4 * max((each.channels for each in network.layers.values()), default=0)
        blank = np.zeros((2, *self.preprocessing.size, 3), np.uint8)
        with self.running():
            outputs = self._layers(self._normalise(self.on_device(blank)), self.taps)
            # Before the end of the run, which puts back buffers that have new memory.
            changed = _restored(self.module, before)
        if changed:
            raise ValueError(
                f"{self.name} changes its buffers in evaluation mode ({list_names(changed)}), so its answer to an image"
                " depends on the images before it"
            )
        self.shapes = {layer: tuple(values.shape[1:]) for layer, values in outputs.items()}
        self._compiled = None
        if self.options.compile:
            self._compiled = CompiledLayers(self.module, self.taps, self._normalise)

    def own(self) -> WeightBuffer:
        """Run a copy of the module from now on, whose weights are in one buffer on the device."""
        if self.weights is None:
            with alone():
                # Another thread may have copied the module meanwhile.
                if self.weights is None:
                    self._copy()
        assert self.weights is not None
        return self.weights

    def _copy(self) -> None:
        try:
            module = _copied(self.module)
        except Exception as error:
            raise ValueError(
                f"{self.name} cannot be copied, which this device or option needs: {first_line(error)}"
            ) from error
        # Training mode drops what some networks computed from their weights, such as LeViT's position biases.
        module.train().requires_grad_(False)
        for part in module.modules():
            part.training = False
        if self._has_other_types():
            module = module.float()
        module = module.to(self.device)
        if self.options.channels_last:
            module = module.to(memory_format=torch_package().channels_last)
        self.module, self.weights = module, WeightBuffer(module, self.device)

    def load(self, folded: Any) -> None:
        """Replace the weights of the copy; the caller's module is no longer followed."""
        with alone():
            self.own().load(folded)
            self._followed = None

    def follow(self) -> None:
        """Copy the weights that the caller's module has now, if a copy of it runs and no others were loaded."""
        with alone():
            if self._followed is not None and self.weights is not None:
                self.weights.take(self._followed)

    @contextlib.contextmanager
    def running(self, keep_random: bool = True) -> Iterator[None]:
        """Evaluate the module in its precision, one thread at a time; restore modes, attributes and the random state.

        The last is left to the caller without `keep_random`.
        """
        torch = torch_package()
        with contextlib.ExitStack() as stack:
            stack.enter_context(alone())
            if keep_random:
                stack.enter_context(random_kept(self.device))
            stack.enter_context(threads(self.options.n_threads))
            if self.weights is None:
                check_place(self.module, self.name, self.device)
                stack.enter_context(uncompiled(self.module))
                stack.enter_context(inference(self.module))
            else:
                # Values computed from weights must not outlive them.
                stack.enter_context(attributes_restored(self.module))
            stack.enter_context(torch.no_grad())
            stack.enter_context(in_precision(self.options.precision, self.device))
            stack.enter_context(memory_named(self.name, self.device))
            yield

    def forward(self, pixels: "torch.Tensor", wanted: Sequence[str]) -> dict[str, "torch.Tensor"]:
        """Layers of one batch of pixels."""
        if self._compiled is not None:
            outputs = self._compiled(pixels)
            return self._checked({layer: outputs[layer] for layer in wanted}, len(pixels))
        taps = {layer: self.taps[layer] for layer in wanted}
        return self._checked(self._layers(self._normalise(pixels), taps), len(pixels))

    def _layers(
        self, images: "torch.Tensor", taps: Mapping[str, Choice]
    ) -> dict[str, "torch.Tensor"]:
        args, kwargs = arguments(self.module, images)
        with tapped(self.module, taps) as read:
            self.module(*args, **kwargs)
            try:
                return read()
            except KeyError as error:
                raise ValueError(
                    f"the layer {error.args[0]!r} of {self.name} did not run for these images, but for others"
                ) from None

    def _checked(self, outputs: "dict[str, torch.Tensor]", n: int) -> "dict[str, torch.Tensor]":
        """The outputs; ValueError if one has another shape than when the module was opened."""
        for layer, values in outputs.items():
            expected = (n, *self.shapes[layer])
            if values.shape != expected:
                raise ValueError(
                    f"the layer {layer!r} of {self.name} has shape {tuple(values.shape)} for {counted(n, 'image')}, not"
                    f" {expected}; its shape must not depend on the number of images"
                )
        return outputs

    def _normalise(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Images of pixels, by the operations of `Preprocessing.normalise` in the same order."""
        images = pixels.permute(0, 3, 1, 2)
        if self.preprocessing.channel_order != "RGB":
            images = images.flip(1)
        return images.float().div_(255).sub_(self._mean).div_(self._std)

    def run(
        self, batch: NDArray[np.float32], wanted: Sequence[str], keep_random: bool = True
    ) -> dict[str, NDArray[np.float32]]:
        """Activations of normalised images; `keep_random` is as for `running`."""
        taps = {layer: self.taps[layer] for layer in wanted}
        with self.running(keep_random):
            images = self.on_device(batch)
            if self.options.channels_last:
                images = images.contiguous(memory_format=torch_package().channels_last)
            outputs = self._checked(self._layers(images, taps), len(images))
            return {layer: values.float().cpu().numpy() for layer, values in outputs.items()}

    def on_device(self, values: NDArray[Any]) -> "torch.Tensor":
        """Copy pixels or images to the device; on the CPU, they share memory if it can be written."""
        array = np.require(values, requirements=["C", "W"])
        with memory_named(self.name, self.device):
            return torch_package().from_numpy(array).to(self.device)

    def batches(
        self, pixels: "torch.Tensor", batch_size: int, wanted: Sequence[str]
    ) -> Iterator[tuple[slice, dict[str, "torch.Tensor"]]]:
        """Yield the places of conditions and their layers, batch by batch."""
        for start in range(0, len(pixels), batch_size):
            place = slice(start, min(start + batch_size, len(pixels)))
            yield place, self.forward(pixels[place], wanted)


def _copied(module: "torch.nn.Module") -> "torch.nn.Module":
    """A deep copy, in which tensors that were computed with gradients have none.

    Hooks that are methods of other objects, such as a logger or a trainer, are the same in the copy.
    """
    torch = torch_package()
    waiting = [vars(part) for part in module.modules()]
    parts = {id(part) for part in module.modules()}
    hooks = [
        hook
        for held in waiting
        for name, of_part in held.items()
        # Graphs of torch.fx have lists of other hooks.
        if name.endswith("_hooks") and isinstance(of_part, dict)
        for hook in of_part.values()
    ]
    memo: dict[int, Any] = {
        id(hook): hook for hook in hooks if id(getattr(hook, "__self__", module)) not in parts
    }
    for held in waiting:
        for value in held.values() if isinstance(held, dict) else held:
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
            elif type(value) in (dict, list, tuple):
                waiting.append(value)
    return copy.deepcopy(module, memo)


def _restored(module: "torch.nn.Module", before: Sequence[tuple[str, Any, Any]]) -> list[str]:
    """Put the buffers and values from `before` back; return the names of those that were others."""
    changed = []
    now = dict(module.named_buffers())
    for name, buffer, value in before:
        if now.get(name) is not buffer or not _is_equal(buffer, value):
            changed.append(name)
            owner, _, key = name.rpartition(".")
            module.get_submodule(owner)._buffers[key] = buffer
            if buffer.shape != value.shape:
                buffer.resize_(value.shape)
            buffer.detach().copy_(value)
    return changed


def _is_equal(one: "torch.Tensor", other: "torch.Tensor") -> bool:
    """Whether two tensors have the same shape and values; NaN equals NaN."""
    if one.shape != other.shape:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())
