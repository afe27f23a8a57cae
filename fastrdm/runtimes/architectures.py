"""A network exported once, which takes the weights of any file that fits."""

import hashlib
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import nearest, one_line, require
from fastrdm.images import Preprocessing
from fastrdm.networks import (
    Graph,
    Layout,
    Taps,
    WeightsError,
    fit_weights,
    map_weights,
    metadata_of,
    put_weights,
    read_model,
    read_weights,
    trace_network,
)
from fastrdm.runtimes.onnx_model import OnnxModel

if TYPE_CHECKING:
    import torch


# Where a graph without weights says that they are; no such file is ever opened.
_ELSEWHERE = "weights"


def import_arch(arch: str) -> "Callable[[], torch.nn.Module]":
    """Import the callable that builds a network, from the current folder too.

    Parameters
    ----------
    arch : str
        "module:callable", as in "torchvision.models:densenet201" or "models.networks:resnet20".

    Returns
    -------
    callable
        Builds the network when called without arguments; ValueError where that gives no
        `torch.nn.Module`.

    Raises
    ------
    ValueError
        If `arch` has another form, there is no such module, or no such callable in it.
    """
    module_name, colon, attribute = arch.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"arch {arch!r} must have the form module:callable")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that is there but fails to import another one says so itself.
        if not error.name or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"arch {arch!r}: there is no module {error.name!r}, neither installed nor in {here}"
        ) from None
    for part in attribute.split("."):
        if not hasattr(target, part):
            public = [name for name in dir(target) if not name.startswith("_")]
            raise ValueError(
                f"arch {arch!r}: {module_name} has no {attribute!r}; nearest: {nearest(part, public)}"
            )
        target = getattr(target, part)
    if not callable(target):
        raise ValueError(f"arch {arch!r} is a {type(target).__name__}, which cannot be called")
    return partial(_build, arch, target)


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network's graph without its weights, ready for those of any file that fits.

    A session takes the weights before ONNX Runtime optimises the graph, so it computes what one of a
    fresh export with these weights does, to the last bit, and costs tens of milliseconds where an
    export takes seconds. Hooks by which a network changes the values that it loads are not run.

    Attributes
    ----------
    name : str
        What messages call it.
    graph : bytes
        ONNX. The entries of the state dict among its initialisers refer to data that are not there;
        its other constants are.
    layout : Layout
        Of the network's state dict.
    initialisers : tuple of str
        The entries that the graph uses, in its order.
    fingerprint : str
        SHA-256, in hexadecimal, of the layout and the graph: equal for networks that compute the same
        layers of the same weights on the same input size.
    """

    name: str
    graph: bytes = field(repr=False)
    layout: Layout = field(repr=False)
    initialisers: tuple[str, ...] = field(repr=False)
    fingerprint: str

    @classmethod
    def export(
        cls,
        network: "str | Callable[[], torch.nn.Module] | torch.nn.Module",
        taps: Taps | None = None,
        input_size: int | tuple[int, int] | None = None,
        *,
        preprocessing: Preprocessing | None = None,
    ) -> "Architecture":
        """Export a network without writing a file; its weights are left out.

        Parameters
        ----------
        network : str, callable or torch.nn.Module
            "module:callable" as for `import_arch`, what builds the network, or the network.
        taps, input_size, preprocessing
            As for `export_onnx`.

        Returns
        -------
        Architecture

        Raises
        ------
        ValueError
            As for `import_arch` and `export_onnx`, or if something of the old weights could stay in
            the graph: an entry of the state dict that is there in another form, entries that share
            memory without being one tensor, a constant that shares memory with an entry or, in a
            network that is given ready and may have run, any tensor that is neither parameter nor
            buffer nor spelt out in the code. What such a network keeps of its weights in buffers
            outside the state dict, or as Python numbers, is not found.
        TypeError, MissingExtraError
            As for `export_onnx`.
        """
        torch = require("torch", "export", "to export a network")
        ir = require("onnxscript.ir", "export", "to export a network")
        name = network if isinstance(network, str) else None
        ready = isinstance(network, torch.nn.Module)
        module: Any = network
        if isinstance(network, str):
            module = import_arch(network)()
        elif not ready:
            module = _build(repr(network), module)
        program = trace_network(
            module,
            taps,
            input_size,
            preprocessing=preprocessing,
            architecture=name,
            fresh=not ready,
        )
        state = module.state_dict().keys()
        for entry, value in program.model.graph.initializers.items():
            if entry in state:
                value.const_value = ir.ExternalTensor(
                    _ELSEWHERE, None, None, value.dtype, shape=value.shape, name=entry
                )
        return cls._of(name or type(module).__name__, ir.to_proto(program.model))

    @classmethod
    def read(cls, path: str | Path) -> "Architecture":
        """Take the architecture of a file that `export_onnx` wrote; its weights are left out.

        Parameters
        ----------
        path : path

        Returns
        -------
        Architecture

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no ONNX model or not by this version of `export_onnx`, or something of its
            weights could stay in the graph, as for `export`.
        MissingExtraError
            If onnx is not installed.
        """
        path = Path(path)
        return cls._of(str(path), read_model(path), path)

    @classmethod
    def _of(cls, name: str, model: Any, path: Path = Path()) -> "Architecture":
        """Take the weights out of an ONNX model, which is changed."""
        metadata = metadata_of(model)
        try:
            layout = Layout.from_json(metadata["fastrdm.state_dict"])
            fixed = metadata["fastrdm.fixed"]
        except (KeyError, ValueError):
            raise ValueError(
                f"{name} does not say in its metadata what weights it takes; "
                "export the network with this version of fastrdm.export_onnx"
            ) from None
        if fixed:
            raise ValueError(
                f"other weights cannot take the place of those in the graph of {name}: {fixed}; "
                "export each checkpoint by itself"
            )
        used = _take_weights_out(model, layout, path)
        opsets = sorted((each.domain, each.version) for each in model.opset_import)
        described = [dict(layout.entries), sorted(layout.tied), opsets]
        fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        fingerprint.update(model.graph.SerializeToString(deterministic=True))
        return cls(name, model.SerializeToString(), layout, used, fingerprint.hexdigest())

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to images, which is no part of the graph."""
        metadata = metadata_of(read_model(self.graph, self.name))
        return Preprocessing.from_json(metadata["fastrdm.preprocessing"])

    def open(self, weights: str | Path, **options: Any) -> OnnxModel:
        """Make a model of this architecture and a file's weights.

        Parameters
        ----------
        weights : path
            As for `read_weights`. ONNX Runtime copies what it needs: the file is free afterwards.
        **options
            As for `OnnxModel`.

        Returns
        -------
        OnnxModel

        Raises
        ------
        WeightsError
            If the weights cannot be read or do not fit, as for `check_fit`.
        ValueError, MissingExtraError
            As for `OnnxModel`.
        """
        arrays = fit_weights(read_weights(weights), self.layout, weights, self.name)
        used = {name: arrays[name] for name in self.initialisers if name in arrays}
        if missing := [name for name in self.initialisers if name not in used]:
            raise WeightsError(f"{weights} does not fit {self.name}; missing: {missing[0]}")
        return OnnxModel(Graph(str(weights), self.graph, used), **options)


def _take_weights_out(model: Any, layout: Layout, path: Path) -> tuple[str, ...]:
    """Replace the state dict's entries in a graph by references to external data, and store its other constants."""
    onnx = require("onnx", "onnx", "to read an architecture")
    tensors = model.graph.initializer
    entries = [tensor for tensor in tensors if tensor.name in layout.entries]
    constants = [tensor for tensor in tensors if tensor.name not in layout.entries]
    put_weights(model, map_weights(constants, path))
    for tensor in entries:
        place = onnx.StringStringEntryProto(key="location", value=_ELSEWHERE)
        bare = onnx.TensorProto(
            name=tensor.name,
            data_type=tensor.data_type,
            dims=tensor.dims,
            data_location=onnx.TensorProto.EXTERNAL,
            external_data=[place],
        )
        tensor.CopyFrom(bare)
    return tuple(tensor.name for tensor in entries)


def _build(arch: str, target: "Callable[[], object]") -> "torch.nn.Module":
    torch = require("torch", "export", "to build a network")
    try:
        module = target()
    except Exception as error:
        raise ValueError(
            f"arch {arch!r} does not build a network: {type(error).__name__}: {one_line(error)}"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"arch {arch!r} gives a {type(module).__name__}, not a torch.nn.Module")
    return module
