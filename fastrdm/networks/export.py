"""A torch module → one ONNX file that answers with its tapped layers."""

import contextlib
import inspect
import io
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import first_line, require
from fastrdm.images import Preprocessing
from fastrdm.networks.layers import (
    INPUT,
    Choice,
    Layer,
    NetworkLayers,
    Taps,
    Tokens,
    find_taps,
    shape_problem,
)
from fastrdm.networks.probing import RANDOM
from fastrdm.networks.swapping import attributes_restored, why_fixed
from fastrdm.networks.weights import Layout

if TYPE_CHECKING:
    import torch

# protobuf cannot hold more; beyond it the weights lie beside the file, in FILE.data.
_LARGEST_FILE = 2**31 - 2**24
# What is taken of a tensor (batch, tokens, channels).
_TOKENS = {
    "flatten": lambda tensor, start: tensor,
    "cls": lambda tensor, start: tensor[:, 0],
    "mean": lambda tensor, start: tensor[:, start:].mean(1),
}


def export_onnx(
    module: "torch.nn.Module",
    path: str | Path,
    taps: Taps | None = None,
    input_size: int | tuple[int, int] | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    architecture: str | None = None,
) -> Path:
    """Write a network as an ONNX file with a dynamic batch and an output for each tapped layer.

    A layer's activations are what a forward hook's reference to the module's output holds *after
    the whole forward pass*: where an in-place ReLU follows the module, they are rectified. That is
    what the Algonauts 2019 development kit sees. Of an output of several tensors the one called
    `last_hidden_state` is taken, else the first. The module runs in evaluation mode and is left as
    it was. Weights keep the names and values of the module's `state_dict`; nothing is folded into
    them, and the file can be the architecture of any weights that fit the module. Buffers that the
    state dict leaves out are stored under their names too.

    A tap is ``[name=]layer[@tokens]``. The layer is a module's path or a pattern of paths: ``*``
    and ``?`` stop at dots, ``**`` does not, ``[ab]`` is one of some characters. A pattern's layers
    are called by their paths and stand in the order in which they finish; those that cannot be
    tapped are skipped with a warning. Of activations (batch, tokens, channels) all are the layer's,
    flattened; ``@cls`` takes token 0 alone, ``@mean`` the mean over the patches' tokens, without
    class and register tokens, and ``@mean[N:]`` that over the tokens from N on. How many class and
    register tokens there are is read off the shapes of parameters that timm's, transformers' and
    torchvision's transformers have for them.

    Parameters
    ----------
    module : torch.nn.Module
        Takes float32 (batch, 3, height, width), as `pixel_values` where it has an argument called so.
    path : path
        Written whole or not at all; an existing file is replaced. Weights above 2 GB go to
        `path`.data.
    taps : sequence of taps, or mapping of layer name to tap without name, optional
        As in ``["layer*.?", "fc"]`` or ``{"block1": "layer1"}``. None takes the module's attribute
        `taps`; without one, every direct child that runs exactly once and gives a tensor.
    input_size : int or (int, int), optional
        Height and width in pixels, replacing those of the preprocessing.
    preprocessing : Preprocessing, optional
        Stored in the file. None takes the module's attribute `preprocessing`, else the development
        kit's; `fastrdm.networks.preprocessing_of` has that of timm and transformers.
    architecture : str, optional
        Stored in the file; None takes the name of the module's class.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If a tap means no module of the network, or one that does not run, runs more than once, or
        gives no floating-point tensor with the batch as its first axis, or no tokens where some are
        asked for; if the network does not run on this input size, draws random numbers or cannot be
        exported with a dynamic batch.
    TypeError
        If `module` is no torch module, or `taps` a single string.
    FileNotFoundError
        If the folder of `path` is not there.
    MissingExtraError
        If torch, onnx or onnxscript is not installed.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder to write {path.name} into")
    program = trace_network(
        module, taps, input_size, preprocessing=preprocessing, architecture=architecture
    )
    n_bytes = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    # In a folder beside the target, so that the move is a rename and a name stored inside still
    # holds.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder, _quiet():
        program.save(str(Path(folder) / path.name), external_data=n_bytes > _LARGEST_FILE)
        for file in sorted(Path(folder).iterdir(), reverse=True):
            file.replace(path.parent / file.name)
    return path


def trace_network(
    module: "torch.nn.Module",
    taps: Taps | None = None,
    input_size: int | tuple[int, int] | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    architecture: str | None = None,
    fresh: bool = False,
) -> Any:
    """What `export_onnx` writes, in memory; its weights are the module's own.

    Parameters
    ----------
    module, taps, input_size, preprocessing, architecture
        As for `export_onnx`.
    fresh : bool
        Whether the module has never run, so that tensors that it holds beside parameters and
        buffers are none that a forward pass made of weights.

    Returns
    -------
    torch.onnx.ONNXProgram
        With metadata; "fastrdm.state_dict" is the `Layout` of the module's state dict, and
        "fastrdm.fixed" says why other weights cannot take the place of the graph's; it is empty
        where they can.

    Raises
    ------
    ValueError, TypeError, MissingExtraError
        As for `export_onnx`.
    """
    from fastrdm._base import __version__

    torch = require("torch", "export", "to export a network")
    require("onnxscript", "export", "to export a network")
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    if preprocessing is None:
        preprocessing = getattr(module, "preprocessing", None)
    if preprocessing is None:
        if hasattr(module, "pretrained_cfg"):
            warnings.warn(
                f"{type(module).__name__} has a pretrained_cfg of timm, which is not used; "
                "pass fastrdm.networks.preprocessing_of(module), or Preprocessing() for the default",
                stacklevel=3,
            )
        preprocessing = Preprocessing()
    if input_size is not None:
        size = (input_size, input_size) if isinstance(input_size, int) else input_size
        preprocessing = replace(preprocessing, size=size)
    network = inspect_module(module, preprocessing.size)
    tapped = choose_taps(module, network, taps)
    if not tapped:
        raise ValueError(f"{network.name} has no child that could be tapped; give taps=")
    with _evaluation(module), _quiet(), torch.no_grad(), attributes_restored(module):
        traced, program = _trace(module, _blank(module, preprocessing.size), tapped)
    program.model.metadata_props.update(
        {
            "fastrdm.layers": json.dumps(list(tapped)),
            "fastrdm.taps": json.dumps({name: choice.to_dict() for name, choice in tapped.items()}),
            "fastrdm.preprocessing": preprocessing.to_json(),
            "fastrdm.architecture": architecture or type(module).__name__,
            "fastrdm.version": __version__,
            "fastrdm.state_dict": Layout.of(module).to_json(),
            "fastrdm.fixed": why_fixed(module, traced, program.model, fresh),
        }
    )
    return program


def inspect_module(module: "torch.nn.Module", size: tuple[int, int]) -> NetworkLayers:
    """Run a network once, on black images; its modules in the order in which they finish.

    Parameters
    ----------
    module : torch.nn.Module
        Left as it was.
    size : (int, int)
        Height and width of the images.

    Returns
    -------
    NetworkLayers
        A layer for each path to each module, with the reason where it cannot be tapped. Those that
        never run come last.

    Raises
    ------
    ValueError
        If the network does not run on this input size.
    """
    torch = require("torch", "export", "to run a network")
    images = _blank(module, size)
    paths: dict[Any, list[str]] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        if path:
            paths.setdefault(part, []).append(path)
    # Not the outputs themselves: those of all modules may not fit in memory.
    seen: dict[Any, list[tuple[str, tuple[int, ...], str]]] = {}
    with contextlib.ExitStack() as stack:
        for part in paths:
            handle = part.register_forward_hook(
                lambda part, args, output: seen.setdefault(part, []).append(_shape(output, images))
            )
            stack.callback(handle.remove)
        stack.enter_context(_evaluation(module))
        # What this pass leaves in the module would be a constant of a traced one's graph.
        stack.enter_context(attributes_restored(module))
        stack.enter_context(_quiet())
        stack.enter_context(torch.no_grad())
        args, kwargs = _arguments(module, images)
        try:
            module(*args, **kwargs)
        except Exception as error:
            raise ValueError(
                f"{type(module).__name__} does not run on images of shape {tuple(images.shape)}: "
                f"{first_line(error)}"
            ) from error

    layers = {}
    for part in [*seen, *(part for part in paths if part not in seen)]:
        calls = seen.get(part, [])
        part_of, shape, problem = (
            calls[0] if calls else ("", (), "does not run in the forward pass")
        )
        if len(calls) > 1:
            problem = (
                f"runs {len(calls)} times in the forward pass, and which output is meant is unclear"
            )
        for path in paths[part]:
            layers[path] = Layer(path, type(part).__name__, shape, part_of, problem)
    weights = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    return NetworkLayers(type(module).__name__, "module", layers, size, weights)


def choose_taps(
    module: "torch.nn.Module", network: NetworkLayers, taps: Taps | None = None
) -> dict[str, Choice]:
    """The taps of a network by the rules of `export_onnx`, from `inspect_module`'s answer; none if it has none."""
    if taps is None:
        taps = getattr(module, "taps", None)
    if taps is not None:
        return network.choose(
            find_taps(taps, network.layers, network.name, network.kind), stacklevel=4
        )
    children = [network.layers[name] for name, _ in module.named_children()]
    return {layer.name: Choice(layer, Tokens()) for layer in children if not layer.problem}


def _blank(module: "torch.nn.Module", size: tuple[int, int]) -> "torch.Tensor":
    """Two images, so that a batch is told from a single one."""
    torch = require("torch", "export", "to run a network")
    parameter = next(module.parameters(), None)
    return torch.zeros((2, 3, *size), device="cpu" if parameter is None else parameter.device)


def _arguments(module: "torch.nn.Module", value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of a network's forward: transformers names its images."""
    keyword = "pixel_values"
    if keyword in inspect.signature(module.forward).parameters:
        return (), {keyword: value}
    return (value,), {}


def _tensor(output: Any) -> tuple[str, "torch.Tensor | None"]:
    """The tensor of a module's output, and its place there: the last hidden state, or the first."""
    torch = require("torch", "export", "to run a network")
    if isinstance(output, torch.Tensor):
        return "", output
    parts: dict[Any, Any] = {}
    if isinstance(output, Mapping):
        parts = {"last_hidden_state": None} | dict(output)
    elif isinstance(output, tuple | list):
        parts = dict(enumerate(output))
    found = ((str(key), part) for key, part in parts.items() if isinstance(part, torch.Tensor))
    return next(found, ("", None))


def _shape(output: Any, images: "torch.Tensor") -> tuple[str, tuple[int, ...], str]:
    """Place and shape for one image of a module's tensor, or why it has none."""
    part, tensor = _tensor(output)
    if tensor is None:
        return "", (), f"gives a {type(output).__name__} without a tensor"
    if tensor.is_floating_point():
        problem = shape_problem(tuple(tensor.shape), len(images))
    else:
        problem = f"gives {tensor.dtype}, no floating-point numbers"
    return part, () if problem else tuple(tensor.shape[1:]), problem


@contextlib.contextmanager
def _evaluation(module: "torch.nn.Module") -> Iterator[None]:
    """Put a network in evaluation mode, and each of its modules back afterwards."""
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, flag in training:
            part.training = flag


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow the exporter's progress messages and warnings."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _recorded(
    module: "torch.nn.Module", taps: Mapping[str, Choice]
) -> Iterator[dict[str, "torch.Tensor"]]:
    """Layer name → the tensor that its module gave last, while the context lasts."""
    seen: dict[str, torch.Tensor] = {}
    with contextlib.ExitStack() as stack:
        for name, choice in taps.items():
            handle = module.get_submodule(choice.layer.name).register_forward_hook(
                lambda part, args, output, name=name: seen.update({name: _tensor(output)[1]})
            )
            stack.callback(handle.remove)
        yield seen


def _trace(
    module: "torch.nn.Module", images: "torch.Tensor", taps: Mapping[str, Choice]
) -> tuple[Any, Any]:
    """Export the network with the taps as its outputs: torch's program, and ONNX's."""
    torch = require("torch", "export", "to export a network")
    args, kwargs = _arguments(module, images)
    positional, named = _arguments(module, {0: torch.export.Dim("batch")})
    shapes = named or positional
    with _recorded(module, taps) as seen:
        # Read here, after the last in-place operation. Cloned because two taps can be the same
        # tensor (dropout in evaluation), and an ONNX output has one name.
        handle = module.register_forward_hook(
            lambda part, args, output: tuple(
                _TOKENS[choice.tokens.how](seen[name], choice.tokens.start).clone()
                for name, choice in taps.items()
            )
        )
        try:
            traced = torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
            # Not optimised: the exporter would fold batch norms into weights that keep their names,
            # and whoever put another checkpoint's weights there would get a wrong network. Runtimes
            # fold on loading.
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
                f"{first_line(error)}"
            ) from error
        finally:
            handle.remove()
    _tidy(program.model, taps)
    if random := sorted({node.op_type for node in program.model.graph} & RANDOM):
        raise ValueError(
            f"{type(module).__name__} draws random numbers in evaluation too ({', '.join(random)}); "
            "its layers have no one RDM"
        )
    return traced, program


def _tidy(model: Any, taps: Mapping[str, Choice]) -> None:
    """Take away what the exporter leaves in the graph that runtimes cannot deal with."""
    outputs = model.graph.outputs
    for i, (name, clone) in enumerate(zip(taps, list(outputs), strict=True)):
        # ONNX Runtime's fusions break on an Identity behind a tapped Clip; two outputs do need it.
        source = clone.producer().inputs[0]
        if source.producer() is not None and not any(source is other for other in outputs):
            outputs[i] = source
        # An output gets its name even where an inner value bears it; ONNX allows a name once.
        clone.name = f"{name}/clone"
    named = {id(value): name for name, value in zip(taps, outputs, strict=True)}
    # The exporter calls an operator's value "index" even where there is a buffer of that name.
    taken = {*taps, *model.graph.initializers}
    for node in model.graph:
        for value in node.outputs:
            if id(value) in named:
                value.name = named[id(value)]
            elif value.name in taken:
                value.name = f"{value.name}/inner"
        # Casts to the type a value has anyway keep ONNX Runtime from folding batch norms and clips
        # into convolutions.
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
        # Stack traces with this machine's paths: six sevenths of a ResNet-20's graph.
        node.metadata_props.clear()
    require("onnxscript.optimizer", "export", "to export a network").remove_unused_nodes(model)


def _type(value: Any) -> Any:
    """Type of a value; the exporter leaves that of constants and their likes open."""
    constant = require("onnx_ir", "export", "to export a network").convenience.get_const_tensor(
        value
    )
    return value.dtype if constant is None else constant.dtype
