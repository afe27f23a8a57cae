"""Networks that take the weights of one file after the other: read, folded ahead by any thread, and loaded."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrdm.images import Images, image_name
from fastrdm.networks import Graph, Selection
from fastrdm.rdm import Gram, SparseProjection
from fastrdm.runtimes.checkpoints import Architecture, read_needed
from fastrdm.runtimes.device import DeviceModel, Folded, Shown
from fastrdm.runtimes.model_arguments import choose_layers, read_pixels
from fastrdm.runtimes.onnx_model import OnnxModel
from fastrdm.runtimes.torch_architecture import TorchArchitecture
from fastrdm.runtimes.torch_model import TorchModel
from fastrdm.runtimes.torch_provider import torch_device, torch_options
from fastrdm.runtimes.torch_weights import FoldedWeights
from fastrdm.tensors import torch_package

T = TypeVar("T")
#: Weights by their names, and what was taken of the file.
ReadWeights: TypeAlias = tuple[dict[str, NDArray[Any]], dict[str, str]]
#: Gets a sentence for each thing that was left out of a file.
OnRemark: TypeAlias = Callable[[str], None]


#: Models whose layers have RDMs and Gram matrices, with the same arguments.
ScorableModel: TypeAlias = "OnnxModel | TorchModel | DeviceNetwork"


@dataclass(frozen=True)
class PreparedWeights:
    """A file's weights, ready for their network.

    `load` puts them into it and returns the model, which has them until others are loaded. `release` frees their memory
    for others, once all results of the model have been returned. `taken` is what was taken of the file.
    """

    taken: Mapping[str, str]
    load: "Callable[[], ScorableModel]"
    release: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, model: OnnxModel) -> "PreparedWeights":
        """Return the weights of a model of their own."""
        return cls(model.taken, lambda: model)


class SwappedTorch:
    """A network of torch, built once for all files.

    `provider` is "torch", a device of it as in "torch:cuda:1", or "auto"; the other arguments are those of
    `TorchModel`, and the errors those of `TorchArchitecture.build` too.
    """

    #: Whether all files share one model.
    is_swapped = True

    def __init__(
        self,
        architecture: TorchArchitecture,
        provider: str = "torch",
        *,
        provider_options: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._architecture = architecture
        module = architecture.build()
        state = module.state_dict()
        # No tapped layer depends on them, so that files may lack them.
        others = state.keys() - set(architecture.needed)
        tensors = {name: value for name, value in state.items() if hasattr(value, "clone")}
        self._others = {name: tensors[name].clone() for name in others & tensors.keys()}
        options |= torch_options(provider_options)
        self.model = TorchModel(
            module,
            architecture.requested,
            preprocessing=architecture.preprocessing,
            device=torch_device(provider),
            **options,
        )
        # The first call makes the copy of the module that takes the weights.
        self._spare: deque[FoldedWeights] = deque([self.model.fold(state)])

    def prepare(self, path: str, selection: Selection, on_remark: OnRemark) -> PreparedWeights:
        """Read a file's weights into the layout of the device; errors are those of `Architecture.open`."""
        facts = (self._architecture.layout, self._architecture.name, self._architecture.needed)
        arrays, taken = read_needed(path, *facts, selection, on_remark)
        tensors = {name: _tensor(array) for name, array in arrays.items()}
        folded = self.model.fold({**self._others, **tensors}, _spare_of(self._spare))
        return PreparedWeights(
            taken, partial(self._load, folded), partial(self._spare.append, folded)
        )

    def _load(self, folded: FoldedWeights) -> TorchModel:
        self.model.load(folded)
        return self.model


class SwappedOnnx:
    """An exported network: on a device with memory of its own, one session for all files; else one for each.

    `options` are those of `OnnxModel`; `max_memory` and `projection` those of its `rdms`.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        max_memory: int | None = None,
        projection: SparseProjection | None = None,
        **options: Any,
    ) -> None:
        self._architecture, self._options = architecture, options
        self._max_memory, self._projection = max_memory, projection
        self._lock = threading.Lock()
        self._spare: deque[Folded] = deque()
        # That of the first file decides.
        self._network: DeviceNetwork | None = None
        self._is_on_host = False
        # Values that are not weights, such as indices, which the session keeps.
        self._constants: dict[str, NDArray[Any]] = {}

    def prepare(self, path: str, selection: Selection, on_remark: OnRemark) -> PreparedWeights:
        """Open a model with a file's weights, or fold them for the device; errors as `Architecture.open`."""
        with self._lock:
            if self._network is None and not self._is_on_host:
                model = self._open(path, selection, on_remark)
                if not model.uses_device(projection=self._projection):
                    self._is_on_host = True
                    return PreparedWeights.of(model)
                self._network = self._on_device(model, path, selection)
        if self._network is None:
            return PreparedWeights.of(self._open(path, selection, on_remark))
        remarks: list[str] = []
        arrays, taken = self._read(path, selection, remarks.append)
        if not all(np.array_equal(arrays[name], each) for name, each in self._constants.items()):
            return PreparedWeights.of(self._open(path, selection, on_remark))
        for remark in remarks:
            on_remark(remark)
        folded = self._network.model.fold(arrays, _spare_of(self._spare))
        return PreparedWeights(
            taken, partial(self._network.load, folded), partial(self._spare.append, folded)
        )

    @property
    def is_swapped(self) -> bool:
        """Whether all files share one session, as far as is known."""
        return self._network is not None

    def _open(self, path: str, selection: Selection, on_remark: OnRemark) -> OnnxModel:
        return self._architecture.open(
            path, on_remark=on_remark, **vars(selection), **self._options
        )

    def _read(self, path: str, selection: Selection, on_remark: OnRemark) -> ReadWeights:
        made = self._architecture
        return read_needed(path, made.layout, made.name, made.initialisers, selection, on_remark)

    def _on_device(self, model: OnnxModel, path: str, selection: Selection) -> "DeviceNetwork":
        """The network on the device of its first model, which has also been probed."""
        arrays, _ = self._read(path, selection, lambda remark: None)
        weights = [name for name, value in arrays.items() if value.dtype.kind == "f"]
        self._constants = {
            name: np.array(value) for name, value in arrays.items() if name not in weights
        }
        device = DeviceModel(
            Graph(self._architecture.name, self._architecture.graph, arrays),
            model.layers,
            model.preprocessing,
            model.provider,
            weights=weights,
            max_memory=self._max_memory,
            precision=model.precision,
            options=self._options.get("provider_options"),
            n_threads=self._options.get("n_threads"),
        )
        return DeviceNetwork(device, model)


class DeviceNetwork:
    """A `DeviceModel` with those arguments of `OnnxModel` that scores need; stimuli stay on the device.

    `first` is an `OnnxModel` of the same graph.
    """

    def __init__(self, model: DeviceModel, first: OnnxModel) -> None:
        self.model, self.layers = model, first.layers
        self.preprocessing, self.architecture = first.preprocessing, first.architecture
        self.provider, self.precision = first.provider, first.precision
        self._shown: dict[int, tuple[NDArray[np.uint8], Shown]] = {}

    def load(self, folded: Folded) -> "DeviceNetwork":
        """Replace the weights."""
        self.model.load(folded)
        return self

    def rdms(
        self, images: Images, layers: Sequence[str] | None = None, **options: Any
    ) -> dict[str, NDArray[np.float64]]:
        """As `OnnxModel.rdms` on a device, within the memory of the `DeviceModel`."""
        wanted = choose_layers(layers, self.layers, self.architecture)
        rdms = self.model.rdms(self._on_device(images, **options))
        return {layer: rdms[layer] for layer in wanted}

    def grams(
        self, images: Images, layers: Sequence[str] | None = None, **options: Any
    ) -> dict[str, Gram]:
        """As `OnnxModel.grams` on a device, within the memory of the `DeviceModel`."""
        wanted = choose_layers(layers, self.layers, self.architecture)
        grams = self.model.grams(self._on_device(images, **options))
        return {layer: grams[layer] for layer in wanted}

    def _on_device(
        self,
        images: Images,
        names: Sequence[str] | None = None,
        background: str | None = None,
        **options: Any,
    ) -> Shown:
        pixels = read_pixels(images, self.preprocessing, background)
        if names is None:
            names = [image_name(image, i) for i, image in enumerate(images)]
        if pixels is not images:
            return self.model.show(pixels, names)
        if id(pixels) not in self._shown:
            self._shown[id(pixels)] = pixels, self.model.show(pixels, names)
        return self._shown[id(pixels)][1]


def _spare_of(buffers: "deque[T]") -> T | None:
    """Take a buffer that is not in use, if there is one; other threads may do the same."""
    try:
        return buffers.popleft()
    except IndexError:
        return None


def _tensor(array: NDArray[Any]) -> Any:
    """A tensor on the memory of an array, which nobody writes; torch warns of arrays that are read-only."""
    torch = torch_package()
    # NumPy has bfloat16 and float8 as types of `ml_dtypes`.
    kind = getattr(torch, array.dtype.name) if array.dtype.kind == "V" else None
    if kind is not None:
        array = array.view(f"u{array.dtype.itemsize}")
    if not array.flags.writeable:
        array = np.asarray(_Writeable(array))
    tensor = torch.from_numpy(array)
    return tensor if kind is None else tensor.view(kind)


class _Writeable:
    """The memory of an array, announced as writeable."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        facts = dict(array.__array_interface__)
        self.__array_interface__ = facts | {"data": (facts["data"][0], False)}
