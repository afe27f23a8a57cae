"""Copies of a module's weights, scored while the module is trained."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastrdm.runtimes import TorchModel, beside_training
from fastrdm.scoring import LayerScoring, RunOptions
from fastrdm.tensors import free_bytes, torch_package

if TYPE_CHECKING:
    import torch

# Share of a device's free memory that scoring may use beside training.
_SHARE = 0.25


class Snapshots:
    """Takes copies of weights, and starts to score them with a model that runs a copy of the module.

    The calling thread gives a CUDA device its work, in a stream of its own, because settings of torch that this changes
    hold for all threads. Elsewhere, the function that `start` returns does the work.
    """

    def __init__(self, scoring: LayerScoring, options: RunOptions) -> None:
        self._scoring, self._options = scoring, options
        self._streams: dict[torch.device, Any] = {}

    def start(
        self, model: TorchModel, module: "torch.nn.Module", layers: Sequence[str] | None
    ) -> Callable[[], dict[str, Any]]:
        """Copy the weights, and return the function that returns the fields of `Scored`, for another thread."""
        weights = module.state_dict()
        if not _launches(model.device):
            folded = model.fold(weights)

            def run() -> dict[str, Any]:
                with beside_training():
                    model.load(folded)
                    return self._scoring.scores(model, layers=layers)

            return run
        return self._launched(model, weights, layers)

    def _launched(
        self, model: TorchModel, weights: Mapping[str, Any], layers: Sequence[str] | None
    ) -> Callable[[], dict[str, Any]]:
        if self._options.projection is not None:
            raise ValueError(
                f"mode='async' computes on {model.device}, but a projection is computed on the host; leave projection"
                " out, or pass device='cpu'"
            )
        tensors = torch_package().Tensor
        is_there = all(
            value.device == model.device for value in weights.values() if isinstance(value, tensors)
        )
        folded = model.fold(weights, on_device=is_there)
        with self._beside(model.device):
            model.load(folded)
            pending = self._scoring.start(
                model, layers=layers, max_memory=self._limit(model, is_there)
            )
        return lambda: self._scoring.finish(model, pending, layers=layers)

    def _limit(self, model: TorchModel, is_there: bool) -> int | str | None:
        """Memory to use: as asked, or beside training a share of what is free."""
        limit, free = self._options.max_memory, free_bytes(model.device)
        return int(_SHARE * free) if limit is None and is_there and free is not None else limit

    @contextlib.contextmanager
    def _beside(self, device: "torch.device") -> Iterator[None]:
        """A stream beside that of the training, after what this has been given."""
        torch = torch_package()
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        stream = self._streams[device]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            yield


def _launches(device: "torch.device") -> bool:
    """Whether a device works through what it is given while the thread goes on."""
    return bool(device.type == "cuda")
