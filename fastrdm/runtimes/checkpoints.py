"""Weight files of any format → models; networks exported once, for the weights of every file that fits."""

import hashlib
import importlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastrdm._base import nearest, one_line, require
from fastrdm.images import Preprocessing
from fastrdm.networks import (
    Graph,
    Layout,
    RequestedPreprocessing,
    Selection,
    Taps,
    WeightsError,
    check_file,
    describe_taps,
    format_size,
    is_onnx,
    map_weights,
    metadata_of,
    put_weights,
    read_fitting,
    read_model,
    store_inner,
    trace_network,
)
from fastrdm.runtimes.export_inputs import search_current_folder
from fastrdm.runtimes.exports import Exported, ExportRequest, Exports, warnings_recorded
from fastrdm.runtimes.onnx_model import OnnxModel
from fastrdm.runtimes.rebuilding import constants_digest

if TYPE_CHECKING:
    import torch


# The file to which a graph without weights refers; it is never opened.
_NO_FILE = "weights"


def import_arch(arch: str) -> "Callable[[], torch.nn.Module]":
    """Import the callable that builds a network, also from the current folder.

    `arch` is "module:callable", such as "torchvision.models:densenet201" or "models.networks:resnet20". The result
    takes no arguments, and raises ValueError if it does not build a `torch.nn.Module`.
    """
    module_name, colon, attribute = arch.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"arch {arch!r} is not module:callable")
    search_current_folder()
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Raised by a module that exists but imports one that does not.
        if not error.name or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"arch {arch!r}: module {error.name!r} does not exist, neither installed nor in {Path.cwd()}"
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
    """A network's graph without its weights, for those of any file that fits.

    Weights are inserted before ONNX Runtime optimises the graph, so results are bit-identical to those of a new export
    with these weights; opening takes tens of milliseconds, an export takes seconds. Hooks with which a network changes
    values when it loads them do not run.

    `name` is for messages. `graph` is ONNX, with its constants, but without the values of those `initialisers` that are
    entries of the state dict, of which `layout` is the layout. `fingerprint` is the SHA-256, in hexadecimal, of the
    layout and the graph: equal for networks that compute the same layers from the same weights and input size.
    `preprocessing_json` is the preprocessing of images, which is not part of the graph, and `taps` lists the layers.
    """

    name: str
    graph: bytes = field(repr=False)
    layout: Layout = field(repr=False)
    initialisers: tuple[str, ...] = field(repr=False)
    fingerprint: str
    preprocessing_json: str = field(repr=False)
    taps: str = field(repr=False)

    @classmethod
    def export(
        cls,
        network: "str | Callable[[], torch.nn.Module] | torch.nn.Module",
        taps: Taps | None = None,
        input_size: int | tuple[int, int] | None = None,
        *,
        preprocessing: RequestedPreprocessing | None = None,
        exports: Exports | None = None,
    ) -> "Architecture":
        """Export a network without its weights, in memory, or read what an earlier export of "module:callable" kept.

        `network` is "module:callable" as for `import_arch`, a callable that builds it, or the network itself; the other
        arguments and errors are those of `export_onnx`. `exports` are those of one call that exports several networks;
        the module `exports` describes what is kept. It is also a ValueError if parts of the old weights could stay
        in the graph: an entry of the state dict in another form, entries that share memory without being one tensor, a
        constant that shares memory with an entry or, if the argument is a network, which may have run, any tensor that
        is neither parameter nor buffer nor written in the code. Copies of weights in buffers outside the state dict or
        in Python numbers are not detected.
        """
        sizes: dict[str, Any] = {"input_size": input_size, "preprocessing": preprocessing}
        if isinstance(network, str):
            exports = exports or Exports()
            found = cls.find(network, taps, **sizes, exports=exports)
            return found or cls._kept(network, taps, **sizes, exports=exports)
        torch = require("torch", "export", "to export a network")
        ready = isinstance(network, torch.nn.Module)
        module: Any = network if ready else _build(repr(network), network)
        return cls._traced(module, type(module).__name__, taps, fresh=not ready, **sizes)

    @classmethod
    def find(
        cls,
        arch: str,
        taps: Taps | None = None,
        input_size: int | tuple[int, int] | None = None,
        *,
        preprocessing: RequestedPreprocessing | None = None,
        exports: Exports | None = None,
    ) -> "Architecture | None":
        """Read what an earlier `export` of "module:callable" kept; None if a new export could differ from it.

        Imports neither torch nor the module.
        """
        request = ExportRequest.of(arch, taps, input_size, preprocessing)
        found = (exports or Exports()).find(request)
        if found is None:
            return None
        found.warn()
        layout = Layout.from_json(found.layout)
        facts = (found.initialisers, found.fingerprint, found.preprocessing, found.taps)
        return cls(arch, found.graph, layout, *facts)

    @classmethod
    def _kept(
        cls,
        arch: str,
        taps: Taps | None,
        input_size: int | tuple[int, int] | None,
        preprocessing: RequestedPreprocessing | None,
        exports: Exports,
    ) -> "Architecture":
        """Export "module:callable", and keep it if all that it depends on can be tracked."""
        with warnings_recorded() as caught, exports.recorded():
            build = import_arch(arch)
            module = build()
            constants = constants_digest(module)
            options: dict[str, Any] = {"input_size": input_size, "preprocessing": preprocessing}
            made = cls._traced(module, arch, taps, architecture=arch, fresh=True, **options)
            is_reproducible = constants_digest(build()) == constants
        if is_reproducible:
            request = ExportRequest.of(arch, taps, input_size, preprocessing)
            facts = (made.graph, made.layout.to_json(), made.initialisers, made.fingerprint)
            exports.keep(
                request, Exported(*facts, made.preprocessing_json, made.taps, tuple(caught))
            )
        return made

    @classmethod
    def _traced(
        cls, module: "torch.nn.Module", name: str, taps: Taps | None, **options: Any
    ) -> "Architecture":
        """Trace a network; `options` are those of `trace_network`."""
        ir = require("onnxscript.ir", "export", "to export a network")
        program = trace_network(module, taps, **options)
        state = module.state_dict().keys()
        for entry, value in program.model.graph.initializers.items():
            if entry in state:
                value.const_value = ir.ExternalTensor(
                    _NO_FILE, None, None, value.dtype, shape=value.shape, name=entry
                )
        return cls._of(name, ir.to_proto(program.model))

    @classmethod
    def read(cls, path: str | Path) -> "Architecture":
        """Read the architecture of a file from this version of `export_onnx`, without its weights.

        ValueError if parts of the weights could stay in the graph, as for `export`.
        """
        path = Path(path)
        return cls._of(str(path), read_model(path), path)

    @classmethod
    def _of(cls, name: str, model: Any, path: Path = Path()) -> "Architecture":
        """Remove the weights from an ONNX model, which is changed."""
        metadata = metadata_of(model)
        try:
            layout = Layout.from_json(metadata["fastrdm.state_dict"])
            fixed = metadata["fastrdm.fixed"]
            preprocessing = metadata["fastrdm.preprocessing"]
        except (KeyError, ValueError):
            raise ValueError(
                f"the metadata of {name} do not describe its weights; "
                "export the network with this version of fastrdm.export_onnx"
            ) from None
        if fixed:
            raise ValueError(
                f"the weights in the graph of {name} cannot be replaced: {fixed}; "
                "export each checkpoint separately"
            )
        used = _take_weights_out(model, layout, path)
        opsets = sorted((each.domain, each.version) for each in model.opset_import)
        described = [dict(layout.entries), sorted(layout.tied), opsets]
        fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        fingerprint.update(model.graph.SerializeToString(deterministic=True))
        # Exports have none.
        for function in model.functions:
            fingerprint.update(function.SerializeToString(deterministic=True))
        facts = (used, fingerprint.hexdigest(), preprocessing, describe_taps(metadata))
        return cls(name, model.SerializeToString(), layout, *facts)

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of images."""
        return Preprocessing.from_json(self.preprocessing_json)

    def prepared(self, wanted: RequestedPreprocessing) -> "Architecture":
        """Return the architecture with another preprocessing; ValueError if that changes the size of its images."""
        own = self.preprocessing
        new = wanted if isinstance(wanted, Preprocessing) else wanted.of(own, self.name)
        if new.size != own.size:
            raise ValueError(
                f"{self.name} takes images of {format_size(own.size)} pixels, not of {format_size(new.size)}; export "
                "the network again to change the size"
            )
        model = read_model(self.graph, self.name)
        for entry in model.metadata_props:
            if entry.key == "fastrdm.preprocessing":
                entry.value = new.to_json()
        return replace(self, graph=model.SerializeToString(), preprocessing_json=new.to_json())

    def open(
        self,
        weights: str | Path,
        *,
        key: str | None = None,
        prefix: str | None = None,
        ema: bool = False,
        allow_missing: Sequence[str] = (),
        on_remark: Callable[[str], None] | None = None,
        **options: Any,
    ) -> OnnxModel:
        """Open a model of this architecture with a file's weights; `options` are those of `OnnxModel`.

        ONNX Runtime copies the weights, so the file may change afterwards. Entries on which no tapped layer depends may
        be missing. `key`, `prefix`, `ema` and `allow_missing` are those of `fastrdm.networks.load_weights`; `on_remark`
        gets a sentence for each thing that was left out, by default a RuntimeWarning. WeightsError if the weights
        cannot be read or do not fit.
        """
        selection = Selection.of(key, prefix, ema, allow_missing)
        facts = (self.layout, self.name, self.initialisers)
        used, taken = read_needed(weights, *facts, selection, on_remark)
        return OnnxModel(Graph(str(weights), self.graph, used, taken), **options)


def read_needed(
    path: str | Path,
    layout: Layout,
    network: str,
    needed: Sequence[str],
    selection: Selection,
    on_remark: Callable[[str], None] | None = None,
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the entries of a file that a network needs, in its types, and what was taken; arguments as `read_fitting`.

    `on_remark` gets a sentence for each thing that was left out, by default a RuntimeWarning.
    """
    arrays, taken = read_fitting(path, layout, network, needed=needed, selection=selection)
    for remark in taken.remarks:
        (on_remark or _warn)(remark)
    if missing := [name for name in needed if name not in arrays]:
        raise WeightsError(f"{path} does not fit {network}; missing: {missing[0]}")
    return {name: arrays[name] for name in needed}, taken.to_dict()


def open_checkpoint(
    path: str | Path,
    arch: str | Path | Architecture | None = None,
    taps: Taps | None = None,
    *,
    preprocessing: RequestedPreprocessing | None = None,
    key: str | None = None,
    prefix: str | None = None,
    ema: bool = False,
    allow_missing: Sequence[str] = (),
    on_remark: Callable[[str], None] | None = None,
    **options: Any,
) -> OnnxModel:
    """Open a checkpoint of any file format: an `.onnx` file from any exporter, or weights as for `read_weights`.

    Weights need `arch`, their network: "module:callable" as for `import_arch`, an `.onnx` file from `export_onnx` with
    any weights, or either in memory as an `Architecture`. `taps` are as for `export_onnx`, or, if `path` is an `.onnx`
    file, as for `OnnxModel`, but not for an exported architecture. `preprocessing` replaces that of any of them;
    `options` are those of `OnnxModel`. WeightsError if the weights cannot be read or are another network's.

    The state dict of a file is chosen if it is the only one that fits; `key` names one, `ema` takes averaged weights.
    Prefixes of names are removed only if these then fit; `prefix` is always removed. Entries on which no tapped layer
    depends may be missing or of another shape; `allow_missing` has patterns of others that the network lacks.
    `model.taken` has what was taken. What was left out is a RuntimeWarning, or goes to `on_remark`.
    """
    selection = Selection.of(key, prefix, ema, allow_missing)
    if is_onnx(path):
        if selection:
            raise ValueError(
                f"{path}: an .onnx file has its own weights; leave out {', '.join(selection.to_dict())}"
            )
        return OnnxModel(path, taps=taps, preprocessing=preprocessing, **options)
    if arch is None:
        raise ValueError(
            f"{path}: weights need arch, the module:callable that builds their network or its exported .onnx file"
        )
    # Before an export, which takes seconds.
    check_file(path)
    if isinstance(arch, str) and not is_onnx(arch):
        architecture = Architecture.export(arch, taps, preprocessing=preprocessing)
    else:
        architecture = arch if isinstance(arch, Architecture) else Architecture.read(arch)
        if taps is not None:
            raise ValueError(
                f"the architecture {architecture.name} already has layers; remove the taps"
            )
        if preprocessing is not None:
            architecture = architecture.prepared(preprocessing)
    return architecture.open(path, on_remark=on_remark, **vars(selection), **options)


def _warn(remark: str) -> None:
    warnings.warn(remark, RuntimeWarning, stacklevel=4)


def _take_weights_out(model: Any, layout: Layout, path: Path) -> tuple[str, ...]:
    """Replace the state dict's entries in a graph by references to external data, and store its other constants."""
    onnx = require("onnx", "onnx", "to read an architecture")
    tensors = model.graph.initializer
    entries = [tensor for tensor in tensors if tensor.name in layout.entries]
    constants = [tensor for tensor in tensors if tensor.name not in layout.entries]
    put_weights(model, map_weights(constants, path))
    place = onnx.StringStringEntryProto(key="location", value=_NO_FILE)
    for tensor in entries:
        bare = onnx.TensorProto(
            name=tensor.name,
            data_type=tensor.data_type,
            dims=tensor.dims,
            data_location=onnx.TensorProto.EXTERNAL,
            external_data=[place],
        )
        tensor.CopyFrom(bare)
    store_inner(model, path, {tensor.name for tensor in entries})
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
        raise ValueError(f"arch {arch!r} returns a {type(module).__name__}, not a torch.nn.Module")
    return module
