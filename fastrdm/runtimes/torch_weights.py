"""Weights of a torch module in one buffer on its device, so that one copy replaces them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastrdm._base import list_names
from fastrdm.tensors import torch_package

if TYPE_CHECKING:
    import torch

_ALIGNMENT = 256


@dataclass(frozen=True)
class FoldedWeights:
    """A checkpoint's weights in the layout of a module's buffer, from `TorchModel.fold`."""

    buffer: "torch.Tensor"


class WeightBuffer:
    """Parameters and buffers of a module as views of one buffer; the module is changed to use them.

    Its entries keep their types, shapes and memory formats. Tied entries share their views.
    """

    def __init__(self, module: "torch.nn.Module", device: "torch.device") -> None:
        torch = torch_package()
        self._name, self._device = type(module).__name__, device
        tensors: dict[int, Any] = {}
        self._places: dict[str, tuple[int, Any]] = {}
        offsets: dict[int, int] = {}
        size = 0
        for name, value in module.state_dict(keep_vars=True).items():
            # The extra state of a module may be anything.
            if not isinstance(value, torch.Tensor):
                continue
            key = id(value)
            if key not in tensors:
                if 0 in value.stride():
                    # An expanded tensor, whose memory cannot be written as such.
                    value.data = value.data.contiguous()
                tensors[key], offsets[key] = value, size
                size += -(-_extent(value) * value.element_size() // _ALIGNMENT) * _ALIGNMENT
            self._places[name] = offsets[key], value
        self._flat = torch.empty(size, dtype=torch.uint8, device=device)
        self._staged = torch.empty_like(self._flat) if device.type == "cuda" else self._flat
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        for key, value in tensors.items():
            view = _view(self._flat, offsets[key], value)
            view.copy_(value.detach())
            value.data = view

    def fold(
        self,
        weights: Mapping[str, Any],
        into: FoldedWeights | None = None,
        *,
        on_device: bool = False,
    ) -> FoldedWeights:
        """Copy a checkpoint's weights to one buffer on the host, which the device reads without another copy.

        With `on_device`, to one on the device, in the current stream. `weights` are tensors or arrays by their names in
        the `state_dict`; `into` is an earlier result that is no longer needed, whose memory is reused. Raise ValueError
        for missing entries and other shapes, TypeError for anything but a mapping.
        """
        torch = torch_package()
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights must be a state dict, not {type(weights).__name__}")
        if missing := [name for name in self._places if name not in weights]:
            raise ValueError(f"the weights for {self._name} lack {list_names(missing)}")
        if into is not None and into.buffer.shape != self._flat.shape:
            raise ValueError("into was folded for another network")
        if into is not None:
            buffer = into.buffer
        elif on_device:
            buffer = torch.empty_like(self._flat)
        else:
            pinned = self._device.type == "cuda"
            buffer = torch.empty(
                len(self._flat), dtype=torch.uint8, pin_memory=pinned, device="cpu"
            )
        for name, (offset, like) in self._places.items():
            value = torch.as_tensor(weights[name])
            if value.shape != like.shape:
                raise ValueError(
                    f"{name!r} has shape {tuple(value.shape)}, but {self._name} needs {tuple(like.shape)}"
                )
            _view(buffer, offset, like).copy_(value)
        return FoldedWeights(buffer)

    def take(self, module: "torch.nn.Module") -> None:
        """Copy the weights that the original module has now."""
        torch = torch_package()
        state = module.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, (offset, like) in self._places.items():
                _view(self._flat, offset, like).copy_(state[name])

    def load(self, folded: FoldedWeights) -> None:
        """Replace the weights after the work that the device has been given, while it does this work."""
        torch = torch_package()
        if folded.buffer.shape != self._flat.shape:
            raise ValueError(f"the weights were folded for another network than {self._name}")
        if self._stream is None:
            self._flat.copy_(folded.buffer)
            return
        current = torch.cuda.current_stream(self._device)
        if folded.buffer.is_cuda:
            # Written in the current stream; its memory is used again only after it has been read.
            self._stream.wait_stream(current)
            folded.buffer.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            self._staged.copy_(folded.buffer, non_blocking=True)
        current.wait_stream(self._stream)
        self._flat.copy_(self._staged)
        self._stream.wait_stream(current)


def _extent(value: "torch.Tensor") -> int:
    """Elements of memory that a view with the tensor's strides needs."""
    if not value.numel():
        return 0
    pairs = zip(value.shape, value.stride(), strict=True)
    return 1 + sum(int((n - 1) * stride) for n, stride in pairs)


def _view(buffer: "torch.Tensor", offset: int, like: "torch.Tensor") -> "torch.Tensor":
    n_bytes = _extent(like) * like.element_size()
    typed = buffer[offset : offset + n_bytes].view(like.dtype)
    return (
        typed.as_strided(like.shape, like.stride())
        if math.prod(like.shape)
        else typed.reshape(like.shape)
    )
