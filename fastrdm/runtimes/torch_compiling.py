"""torch.compile on a module with its tapped layers."""

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any

from fastrdm._base import first_line
from fastrdm.networks import Choice, arguments, tapped
from fastrdm.tensors import is_out_of_memory, torch_package

if TYPE_CHECKING:
    import torch


def compiled(
    module: "torch.nn.Module",
    taps: Mapping[str, Choice],
    normalise: Callable[["torch.Tensor"], "torch.Tensor"],
) -> Callable[["torch.Tensor"], dict[str, "torch.Tensor"]]:
    """Return the function from pixels to layers, compiled for each size of batches that it meets.

    The module keeps the hooks of its taps. Raise ValueError from the function if the compiler fails.
    """
    read = tapped(module, taps).__enter__()
    name = type(module).__name__

    def layers(pixels: "torch.Tensor") -> dict[str, "torch.Tensor"]:
        args, kwargs = arguments(module, normalise(pixels))
        module(*args, **kwargs)
        return read()

    # torch counts the variants of each code object, and stops to compile at 8: every model has one of its own.
    code = layers.__code__.replace()
    fresh = FunctionType(code, globals(), layers.__name__, None, layers.__closure__)
    function: Any = torch_package().compile(fresh, dynamic=False)

    def run(pixels: "torch.Tensor") -> dict[str, "torch.Tensor"]:
        try:
            outputs: dict[str, torch.Tensor] = function(pixels)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            if any(is_out_of_memory(each) for each in (error, error.__cause__) if each):
                raise
            raise ValueError(
                f"torch.compile failed for {name}: {first_line(error)}; omit compile=True"
            ) from error
        return outputs

    return run
