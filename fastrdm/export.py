"""A torch module → one ONNX file that answers with its tapped layers."""

import contextlib
import difflib
import io
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._extras import require
from fastrdm.stimuli import Preprocessing
from fastrdm.swapping import attributes_restored, why_fixed
from fastrdm.weights import Layout

if TYPE_CHECKING:
    import torch

_INPUT = "images"
# protobuf cannot hold more; beyond it the weights lie beside the file, in FILE.data.
_LARGEST_FILE = 2**31 - 2**24


def export_onnx(
    module: "torch.nn.Module",
    path: str | Path,
    taps: Mapping[str, str] | Sequence[str] | None = None,
    input_size: int | tuple[int, int] | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    architecture: str | None = None,
) -> Path:
    """Write a network as an ONNX file with a dynamic batch and an output for each tapped layer.

    A layer's activations are what a forward hook's reference to the module's output holds *after
    the whole forward pass*: where an in-place ReLU follows the module, they are rectified. That is
    what the Algonauts 2019 development kit sees. The module runs in evaluation mode and is left as
    it was. Weights keep the names and values of the module's `state_dict`; nothing is folded into
    them, and the file can be the architecture of any weights that fit the module.

    Parameters
    ----------
    module : torch.nn.Module
        Takes float32 (batch, 3, height, width).
    path : path
        Written whole or not at all; an existing file is replaced. Weights above 2 GB go to
        `path`.data.
    taps : mapping of layer name to module path, or sequence of module paths, optional
        As in ``{"block1": "layer1"}``. None takes the module's attribute `taps`; without one, every
        direct child that runs exactly once and gives a tensor.
    input_size : int or (int, int), optional
        Height and width in pixels, replacing those of the preprocessing.
    preprocessing : Preprocessing, optional
        Stored in the file. None takes the module's attribute `preprocessing`, else the development
        kit's.
    architecture : str, optional
        Stored in the file; None takes the name of the module's class.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If a tap names no module of the network, or one that does not run, runs more than once, or
        gives anything but one tensor with the batch as its first axis; if the network does not run
        on this input size or cannot be exported with a dynamic batch.
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
    taps: Mapping[str, str] | Sequence[str] | None = None,
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
    from fastrdm import __version__

    torch = require("torch", "export", "to export a network")
    require("onnxscript", "export", "to export a network")
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    if preprocessing is None:
        preprocessing = getattr(module, "preprocessing", None) or Preprocessing()
    if input_size is not None:
        size = (input_size, input_size) if isinstance(input_size, int) else input_size
        preprocessing = replace(preprocessing, size=size)
    if taps is None:
        taps = getattr(module, "taps", None)
    chosen = None if taps is None else _named_taps(module, taps)
    parameter = next(module.parameters(), None)
    device = "cpu" if parameter is None else parameter.device
    images = torch.zeros((2, 3, *preprocessing.size), device=device)
    with _evaluation(module), _quiet(), torch.no_grad():
        # What the first pass leaves in the module would be a constant of the second one's graph.
        with attributes_restored(module):
            tapped = _check_taps(module, images, chosen)
        with attributes_restored(module):
            traced, program = _trace(module, images, tapped)
    program.model.metadata_props.update(
        {
            "fastrdm.layers": json.dumps(list(tapped)),
            "fastrdm.preprocessing": preprocessing.to_json(),
            "fastrdm.architecture": architecture or type(module).__name__,
            "fastrdm.version": __version__,
            "fastrdm.state_dict": Layout.of(module).to_json(),
            "fastrdm.fixed": why_fixed(module, traced, program.model, fresh),
        }
    )
    return program


def _named_taps(
    module: "torch.nn.Module", taps: Mapping[str, str] | Sequence[str]
) -> dict[str, str]:
    """Layer name → module path, each path checked to be a module of the network."""
    if isinstance(taps, str):
        raise TypeError(
            f"taps must be a mapping or a list of module paths, not the string {taps!r}"
        )
    named = dict(taps) if isinstance(taps, Mapping) else {path: path for path in taps}
    if len(named) < len(taps):
        twice = next(path for i, path in enumerate(taps) if path in list(taps)[:i])
        raise ValueError(f"taps names {twice!r} twice")
    if not named:
        raise ValueError("taps is empty; name at least one layer")
    known = [path for path, _ in module.named_modules(remove_duplicate=False) if path]
    for name, path in named.items():
        if not name or name == _INPUT:
            raise ValueError(f"a layer cannot be called {name!r}")
        if path not in known:
            raise ValueError(
                f"tap {name!r}: {type(module).__name__} has no module {path!r}; "
                f"nearest: {', '.join(difflib.get_close_matches(path, known, cutoff=0))}"
            )
    return named


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
def _recorded(module: "torch.nn.Module", taps: Mapping[str, str]) -> Iterator[dict[str, list[Any]]]:
    """Layer name → the outputs of its module, of every call while the context lasts."""
    seen: dict[str, list[Any]] = {name: [] for name in taps}
    with contextlib.ExitStack() as stack:
        for name, path in taps.items():
            outputs = seen[name]
            handle = module.get_submodule(path).register_forward_hook(
                lambda part, args, output, outputs=outputs: outputs.append(output)
            )
            stack.callback(handle.remove)
        yield seen


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _check_taps(
    module: "torch.nn.Module", images: "torch.Tensor", chosen: Mapping[str, str] | None
) -> dict[str, str]:
    """Run the network once; the taps that give one tensor, an error for chosen ones that do not."""
    torch = require("torch", "export", "to export a network")
    taps = chosen or {name: name for name, _ in module.named_children()}
    with _recorded(module, taps) as seen:
        try:
            module(images)
        except Exception as error:
            raise ValueError(
                f"{type(module).__name__} does not run on images of shape {tuple(images.shape)}: "
                f"{_first_line(error)}"
            ) from error

    def problem(outputs: list[Any]) -> str | None:
        if not outputs:
            return "does not run in the forward pass"
        if len(outputs) > 1:
            return (
                f"runs {len(outputs)} times in the forward pass; which output is meant is unclear"
            )
        if not isinstance(outputs[0], torch.Tensor):
            return f"gives a {type(outputs[0]).__name__}, not one tensor"
        if outputs[0].ndim < 2 or len(outputs[0]) != len(images):
            shape = tuple(outputs[0].shape)
            return f"gives shape {shape}, not (batch, channels...), for a batch of {len(images)}"
        return None

    problems = {name: text for name in taps if (text := problem(seen[name]))}
    for name, text in problems.items() if chosen else ():
        raise ValueError(f"tap {name!r}: the module {taps[name]!r} {text}")
    usable = {name: path for name, path in taps.items() if name not in problems}
    if not usable:
        raise ValueError(f"{type(module).__name__} has no child that could be tapped; give taps=")
    return usable


def _trace(
    module: "torch.nn.Module", images: "torch.Tensor", taps: Mapping[str, str]
) -> tuple[Any, Any]:
    """Export the network with the taps as its outputs: torch's program, and ONNX's."""
    torch = require("torch", "export", "to export a network")
    shapes = ({0: torch.export.Dim("batch")},)
    with _recorded(module, taps) as seen:
        # Read here, after the last in-place operation. Cloned because two taps can be the same
        # tensor (dropout in evaluation), and an ONNX output has one name.
        handle = module.register_forward_hook(
            lambda part, args, output: tuple(seen[name][-1].clone() for name in taps)
        )
        try:
            traced = torch.export.export(module, (images,), dynamic_shapes=shapes, strict=False)
            # Not optimised: the exporter would fold batch norms into weights that keep their names,
            # and whoever put another checkpoint's weights there would get a wrong network. Runtimes
            # fold on loading.
            program = torch.onnx.export(
                traced,
                dynamo=True,
                optimize=False,
                verbose=False,
                input_names=[_INPUT],
                output_names=list(taps),
                dynamic_shapes=shapes,
            )
        except Exception as error:
            raise ValueError(
                f"{type(module).__name__} cannot be exported to ONNX with a dynamic batch: "
                f"{_first_line(error)}"
            ) from error
        finally:
            handle.remove()
    _tidy(program.model, taps)
    return traced, program


def _tidy(model: Any, taps: Mapping[str, str]) -> None:
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
                and maker.inputs[0].dtype == source.dtype
            ):
                source = maker.inputs[0]
            if source is not value:
                node.replace_input_with(i, source)
        # Stack traces with this machine's paths: six sevenths of a ResNet-20's graph.
        node.metadata_props.clear()
    require("onnxscript.optimizer", "export", "to export a network").remove_unused_nodes(model)
