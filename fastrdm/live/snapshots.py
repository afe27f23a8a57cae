"""Copies of a module's weights, scored while the module is trained."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastrdm.runtimes import TorchModel
from fastrdm.scoring import LayerScoring, RunOptions
from fastrdm.tensors import torch_package

if TYPE_CHECKING:
    import torch


class Snapshots:
    """Takes copies of weights, and starts to score them with a model that runs a copy of the module.

    On a CUDA device the work is given to a stream of its own by the calling thread, because the settings of torch that
    this takes hold for all threads; the function that is returned waits for the device. Elsewhere this function does
    the work.
    """

    def __init__(self, scoring: LayerScoring, options: RunOptions) -> None:
        self._scoring, self._options = scoring, options
        self._streams: dict[torch.device, Any] = {}

    def start(
        self, model: TorchModel, module: "torch.nn.Module", layers: Sequence[str] | None
    ) -> Callable[[], dict[str, Any]]:
        """Copy the weights, and return the function that returns the fields of `Scored`."""
        weights = module.state_dict()
        if model.device.type != "cuda":
            folded = model.fold(weights)

            def run() -> dict[str, Any]:
                model.load(folded)
                return self._scoring.scores(model, layers=layers)

            return run
        if self._options.projection is not None:
            raise ValueError(
                f"a projection is computed on the host, which mode='async' does not do for {model.device}; leave"
                " projection out, or pass device='cpu'"
            )
        torch = torch_package()
        if model.device not in self._streams:
            self._streams[model.device] = torch.cuda.Stream(model.device)
        stream = self._streams[model.device]
        copied = model.fold(weights)
        stream.wait_stream(torch.cuda.current_stream(model.device))
        with torch.cuda.stream(stream):
            model.load(copied)
            pending = self._scoring.start(model)

        def wait() -> dict[str, Any]:
            # Until then the device reads the copy, whose memory must not be used again.
            assert copied is not None
            return self._scoring.finish(model, pending, layers=layers)

        return wait
