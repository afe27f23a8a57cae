"""Modules → models that run them, opened once and kept between calls."""

import contextlib
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrdm._base import check_choice, check_integer
from fastrdm.images import Preprocessing
from fastrdm.live.preserving import preserved, random_states
from fastrdm.networks import (
    PreprocessingRequest,
    RequestedPreprocessing,
    Taps,
    request_preprocessing,
)
from fastrdm.runtimes import PRECISIONS, TorchModel, beside_training
from fastrdm.tensors import check_precision, device_of, torch_package

if TYPE_CHECKING:
    import torch

# Models that are kept: a network and its average, scored in turn.
_MOST = 2
_PLAIN = (bool, int, float, str, tuple, type(None))


@dataclass(frozen=True)
class OpenModel:
    """A model, the module that it was opened for, and what must not have changed since.

    With `is_copy`, a copy of the module runs.
    """

    module: "weakref.ref[torch.nn.Module]"
    signature: tuple[Any, ...]
    model: TorchModel
    is_copy: bool


class LiveModels:
    """Opens a `TorchModel` for each module; `options` are its arguments."""

    def __init__(
        self,
        taps: Taps | None,
        layers: Sequence[str] | None,
        preprocessing: Any,
        size: int | tuple[int, int] | None,
        **options: Any,
    ) -> None:
        torch = torch_package()
        self._taps, self._layers, self._options = taps, layers, options
        self._preprocessing = _requested(preprocessing, size)
        check_choice(options["precision"], PRECISIONS, "precision")
        if (batch_size := options["batch_size"]) is not None:
            check_integer(batch_size, "batch_size", 1)
        if options["device"] != "auto":
            device = device_of(torch.nn.Identity(), options["device"])
            check_precision(options["precision"], device)
            if options["cuda_graph"] and device.type != "cuda":
                raise ValueError(f"cuda_graph=True needs a CUDA device, not {device}")
        self._models: OrderedDict[int, OpenModel] = OrderedDict()

    def open(self, module: "torch.nn.Module", *, copied: bool = False) -> TorchModel:
        """Return the model of a module without wrappers; with `copied`, one that can run a copy beside other threads.

        A model is opened again if the module has changed in more than its weights.
        """
        found = self._models.pop(id(module), None)
        if (
            found is None
            or found.module() is not module
            or found.signature != _signature(module, found.is_copy)
        ):
            with preserved(module, copies_weights=True):
                model = self._opened(module)
                # CUDA devices get their work from the calling thread.
                if copied and model.device.type != "cuda":
                    _check_thread_safe(model)
            is_copy = copied or model.runs_copy
            signature = _signature(module, is_copy)
            found = OpenModel(weakref.ref(module), signature, model, is_copy)
        self._models[id(module)] = found
        while len(self._models) > _MOST:
            self._models.popitem(last=False)
        return found.model

    def close(self) -> None:
        """Drop all models, and what they hold on devices."""
        self._models.clear()

    def _opened(self, module: "torch.nn.Module") -> TorchModel:
        named, wanted = self._layers, self._taps
        if named is None or wanted is not None:
            return self._model(module, wanted)
        # As a rule, the layers that are named are tapped by default.
        try:
            model = self._model(module, None)
        except ValueError:
            return self._model(module, named)
        return model if set(named) <= {*model.layers} else self._model(module, named)

    def _model(self, module: "torch.nn.Module", taps: Taps | None) -> TorchModel:
        return TorchModel(module, taps, preprocessing=self._preprocessing, **self._options)


def _requested(value: Any, size: int | tuple[int, int] | None) -> RequestedPreprocessing | None:
    requested = request_preprocessing(value)
    if isinstance(requested, PreprocessingRequest) and requested.source == "transformers":
        raise ValueError(
            "preprocessing 'transformers' is that of a file beside the weights; a module has no file, so name it"
        )
    if size is None:
        return requested
    changes = request_preprocessing({"size": size})
    assert isinstance(changes, PreprocessingRequest)
    if isinstance(requested, Preprocessing):
        return replace(requested, **changes.changes)
    if requested is None:
        return changes
    return replace(requested, changes={**requested.changes, **changes.changes})


def _check_thread_safe(model: TorchModel) -> None:
    """Refuse a network that draws random numbers, which would be missing in the training."""
    blank = np.zeros((2, *model.preprocessing.size, 3), np.uint8)
    before = random_states()
    # NaN is an error when the images of a study run.
    with beside_training(), contextlib.suppress(ValueError):
        model.activations(blank)
    if random_states() != before:
        raise ValueError(
            f"{model.architecture} draws random numbers in evaluation mode, which would change the training beside it;"
            " use mode='sync'"
        )


def _signature(module: "torch.nn.Module", is_copy: bool) -> tuple[Any, ...]:
    """What a model of a module depends on apart from its weights; if a copy runs, its attributes too."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    facts: list[Any] = [(name, v.shape, v.dtype, v.device) for name, v in tensors]
    saved = module.state_dict(keep_vars=True).keys() if is_copy else {}
    for path, part in module.named_modules():
        facts.append((path, type(part)))
        if is_copy:
            facts += [
                (path, name, value)
                for name, value in vars(part).items()
                if name != "training" and isinstance(value, _PLAIN)
            ]
    if is_copy:
        # Buffers that are not saved with the weights stay in the copy as they are.
        buffers = module.named_buffers()
        facts += [(name, id(v), v._version) for name, v in buffers if name not in saved]
    return tuple(facts)
