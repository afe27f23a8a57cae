"""torch.compile on a module with its tapped layers."""

import contextlib
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any

from fastrdm._base import first_line
from fastrdm.networks import Choice, arguments, tapped
from fastrdm.tensors import is_out_of_memory, torch_package

if TYPE_CHECKING:
    import torch


class CompiledLayers:
    """A function from pixels to a module's layers, compiled for each size of batches that it meets.

    The module has the hooks of its taps as long as this object exists. ValueError if the compiler fails.
    """

    def __init__(
        self,
        module: "torch.nn.Module",
        taps: Mapping[str, Choice],
        normalise: Callable[["torch.Tensor"], "torch.Tensor"],
    ) -> None:
        self._name = type(module).__name__
        self._stack = contextlib.ExitStack()
        read = self._stack.enter_context(tapped(module, taps))

        def layers(pixels: "torch.Tensor") -> dict[str, "torch.Tensor"]:
            args, kwargs = arguments(module, normalise(pixels))
            module(*args, **kwargs)
            return read()

        # torch counts the variants of a code object, and runs what follows the 8th uncompiled: each model has its own.
        code = layers.__code__.replace()
        own = FunctionType(code, globals(), layers.__name__, None, layers.__closure__)
        self._layers: Any = torch_package().compile(own, dynamic=False)

    def __call__(self, pixels: "torch.Tensor") -> dict[str, "torch.Tensor"]:
        """Layers of one batch of pixels."""
        try:
            outputs: dict[str, torch.Tensor] = self._layers(pixels)
        except Exception as error:
            is_compiler = type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
            memory = any(is_out_of_memory(each) for each in (error, error.__cause__) if each)
            if memory or not is_compiler:
                raise
            raise ValueError(
                f"torch.compile failed for {self._name}: {first_line(error)}; omit compile=True"
            ) from error
        return outputs
