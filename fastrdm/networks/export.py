"""A torch module → one ONNX file whose outputs are its tapped layers."""

import contextlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import __version__, first_line, require
from fastrdm.networks.batch_dependence import RANDOM
from fastrdm.networks.inspection import choose_taps, inspect_module
from fastrdm.networks.layers import INPUT, Choice, Taps
from fastrdm.networks.layout import Layout
from fastrdm.networks.module_calls import (
    arguments,
    blank_images,
    inference,
    quiet,
)
from fastrdm.networks.requested_preprocessing import RequestedPreprocessing, preprocessing_for
from fastrdm.networks.swapping import why_fixed
from fastrdm.networks.tapping import tapped

if TYPE_CHECKING:
    import torch

# protobuf cannot hold more; larger weights are stored beside the file, in FILE.data.
_LARGEST_FILE = 2**31 - 2**24


def export_onnx(
    module: "torch.nn.Module",
    path: str | Path,
    taps: Taps | None = None,
    input_size: int | tuple[int, int] | None = None,
    *,
    preprocessing: RequestedPreprocessing | None = None,
    architecture: str | None = None,
) -> Path:
    """Write a network as an ONNX file with a dynamic batch and an output for each tapped layer.

    A layer's activations are the module's output as a forward hook's reference to it shows them *after the whole
    forward pass*: rectified if an in-place ReLU follows the module, as in the Algonauts 2019 development kit. If
    the output has several tensors, the layer is the one called `last_hidden_state`, else the first. The module
    runs in evaluation mode and is left unchanged. Weights keep the names and values of the module's `state_dict`;
    nothing is folded into them, so the file can serve as the architecture of any weights that fit the module.
    Buffers outside the state dict are stored under their names too.

    A module that runs several times has a layer for each run: ``IT#0``, ``IT#1``, …, or ``IT#*`` for all. If the batch
    is the second axis of an output, as in (tokens, batch, channels), it becomes the first one of the layer.

    A tap is ``[name=]layer[@tokens]``. The layer is a module's path or a pattern of paths: ``*`` and ``?`` stop
    at dots, ``**`` does not, ``[ab]`` matches one of the characters. The layers of a pattern are named by their
    paths and listed in the order in which they finish; those that cannot be tapped are skipped with a warning.
    Activations (batch, tokens, channels) are flattened by default; ``@cls`` selects token 0, ``@mean`` the mean
    over the patch tokens, without class and register tokens, and ``@mean[N:]`` the mean over tokens N and later.
    The number of class and register tokens follows from the shapes of their parameters, by the names that timm,
    transformers and torchvision use.

    Parameters
    ----------
    module : torch.nn.Module
        Takes float32 (batch, 3, height, width), as `pixel_values` if it has an argument of that name.
    path : path
        Written completely or not at all; an existing file is replaced. Weights above 2 GB are written to
        `path`.data.
    taps : sequence of taps, or mapping of layer name to tap without name, optional
        As in ``["layer*.?", "fc"]`` or ``{"block1": "layer1"}``. By default the module's attribute `taps`;
        without one, every direct child that returns a tensor. Lists of blocks, and modules that contain them, are
        replaced by the blocks; modules that return their input and repetitions of a layer are left out.
    input_size : int or (int, int), optional
        Height and width in pixels, replacing those of the preprocessing.
    preprocessing : Preprocessing, optional
        Stored in the file. By default the module's attribute `preprocessing`, else that of the development
        kit; `fastrdm.networks.preprocessing_of` returns that of timm and transformers. What
        `fastrdm.networks.request_preprocessing` returns replaces single fields.
    architecture : str, optional
        Stored in the file; by default the name of the module's class.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If a tap matches no module of the network, or one that does not run, runs several times without the number of
        a run, returns no floating-point tensor with the batch as its first or second axis, or no tokens although some
        are selected; if the network does not run on this input size or on images alone, draws random numbers, or cannot
        be exported with a dynamic batch.
    TypeError
        If `module` is not a torch module, or `taps` is a single string.
    FileNotFoundError
        If the folder of `path` does not exist.
    MissingExtraError
        If torch, onnx or onnxscript is not installed.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; cannot write {path.name}")
    program = trace_network(
        module, taps, input_size, preprocessing=preprocessing, architecture=architecture
    )
    n_bytes = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    # In a folder beside the target, so that the move is a rename and the name of FILE.data stays valid.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder, quiet():
        program.save(str(Path(folder) / path.name), external_data=n_bytes > _LARGEST_FILE)
        for file in sorted(Path(folder).iterdir(), reverse=True):
            file.replace(path.parent / file.name)
    return path


def trace_network(
    module: "torch.nn.Module",
    taps: Taps | None = None,
    input_size: int | tuple[int, int] | None = None,
    *,
    preprocessing: RequestedPreprocessing | None = None,
    architecture: str | None = None,
    fresh: bool = False,
) -> Any:
    """Return the `torch.onnx.ONNXProgram` that `export_onnx` writes; its weights share the module's memory.

    In its metadata, "fastrdm.state_dict" is the `Layout` of the module's state dict, and "fastrdm.fixed" the reason why
    the weights of the graph cannot be replaced; empty if they can. `fresh` is whether the module has never run: then
    none of its tensors outside parameters and buffers was computed from weights in a forward pass. The other parameters
    and the errors are those of `export_onnx`.
    """
    torch = require("torch", "export", "to export a network")
    require("onnxscript", "export", "to export a network")
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    prepared = preprocessing_for(module, preprocessing)
    if input_size is not None:
        size = (input_size, input_size) if isinstance(input_size, int) else input_size
        prepared = replace(prepared, size=size)
    network = inspect_module(module, prepared.size)
    tapped = choose_taps(module, network, taps)
    if not tapped:
        raise ValueError(f"{network.name} has no child that can be tapped; pass taps=")
    with inference(module):
        traced, program = _trace(module, blank_images(module, prepared.size), tapped)
    program.model.metadata_props.update(
        {
            "fastrdm.layers": json.dumps(list(tapped)),
            "fastrdm.taps": json.dumps({name: choice.to_dict() for name, choice in tapped.items()}),
            "fastrdm.preprocessing": prepared.to_json(),
            "fastrdm.architecture": architecture or type(module).__name__,
            "fastrdm.version": __version__,
            "fastrdm.state_dict": Layout.of(module).to_json(),
            "fastrdm.fixed": why_fixed(module, traced, program.model, fresh),
        }
    )
    return program


def _trace(
    module: "torch.nn.Module", images: "torch.Tensor", taps: Mapping[str, Choice]
) -> tuple[Any, Any]:
    """Export the network with the taps as its outputs; return torch's program and that of ONNX."""
    torch = require("torch", "export", "to export a network")
    args, kwargs = arguments(module, images)
    positional, named = arguments(module, {0: torch.export.Dim("batch")})
    shapes = named or positional
    with contextlib.ExitStack() as stack:
        read = stack.enter_context(tapped(module, taps))
        # Read here, after the last in-place operation. Cloned because two taps can be the same tensor (dropout in
        # evaluation), and an ONNX output has one name.
        handle = module.register_forward_hook(
            lambda part, args, output: tuple(tensor.clone() for tensor in read().values())
        )
        stack.callback(handle.remove)
        try:
            traced = torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
            # Not optimised: the exporter would fold batch norms into weights that keep their names, and replacing
            # those by another checkpoint's weights would give a wrong network. Runtimes fold on loading.
            program = torch.onnx.export(
                traced,
                dynamo=True,
                optimize=False,
                verbose=False,
                input_names=[INPUT],
                output_names=list(taps),
                dynamic_shapes=shapes,
            )
        except Exception as error:
            raise ValueError(
                f"{type(module).__name__} cannot be exported to ONNX with a dynamic batch: "
                f"{first_line(error)}; fastrdm.TorchModel (--provider torch) runs it without an export"
            ) from error
    _clean_up(program.model, taps)
    if random := sorted({node.op_type for node in program.model.graph} & RANDOM):
        raise ValueError(
            f"{type(module).__name__} draws random numbers even in evaluation mode ({', '.join(random)}); "
            "the RDMs of its layers would differ from run to run"
        )
    return traced, program


def _clean_up(model: Any, taps: Mapping[str, Choice]) -> None:
    """Remove from the graph what the exporter leaves and runtimes cannot process."""
    outputs = model.graph.outputs
    for i, (name, clone) in enumerate(zip(taps, list(outputs), strict=True)):
        # ONNX Runtime's fusions fail on an Identity behind a tapped Clip; only two equal outputs need it.
        source = clone.producer().inputs[0]
        if source.producer() is not None and not any(source is other for other in outputs):
            outputs[i] = source
        # An output keeps its name even if an inner value has the same; ONNX allows a name once.
        clone.name = f"{name}/clone"
    named = {id(value): name for name, value in zip(taps, outputs, strict=True)}
    # The exporter names an operator's value "index" even if a buffer has that name.
    taken = {*taps, *model.graph.initializers}
    for node in model.graph:
        for value in node.outputs:
            if id(value) in named:
                value.name = named[id(value)]
            elif value.name in taken:
                value.name = f"{value.name}/inner"
        # Casts to the type that a value already has keep ONNX Runtime from folding batch norms and clips into
        # convolutions.
        for i, value in enumerate(node.inputs):
            source = value
            while (
                source is not None
                and (maker := source.producer()) is not None
                and maker.op_type == "CastLike"
                and _type(maker.inputs[0]) == _type(maker.inputs[1]) is not None
            ):
                source = maker.inputs[0]
            if source is not value:
                node.replace_input_with(i, source)
        # Stack traces with local paths, six sevenths of the graph of a ResNet-20.
        node.metadata_props.clear()
    require("onnxscript.optimizer", "export", "to export a network").remove_unused_nodes(model)


def _type(value: Any) -> Any:
    """Type of a value; the exporter leaves that of constants open."""
    constant = require("onnx_ir", "export", "to export a network").convenience.get_const_tensor(
        value
    )
    return value.dtype if constant is None else constant.dtype
