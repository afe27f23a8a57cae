"""`fastrdm export` and `fastrdm layers`: a network as an ONNX file, and the layers that it can be tapped at."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fastrdm._base import check_writable_file, nearest
from fastrdm.cli.arguments import (
    SELECTION,
    add_preprocessing,
    add_selection,
    add_taps,
    preprocessing_of_arguments,
)
from fastrdm.cli.columns import print_table
from fastrdm.cli.json_output import add_json, echo_json_rows
from fastrdm.cli.printing import complain, echo_json, note

if TYPE_CHECKING:
    from fastrdm.networks import NetworkLayers, RequestedPreprocessing

_LAYER_FIELDS = ("name", "operator", "part", "shape", "channels")


def add_export(export: argparse.ArgumentParser) -> None:
    """Add the arguments of `export`."""
    export.add_argument(
        "weights", metavar="WEIGHTS", help=".pth, .pt, .ckpt, .safetensors, or an index"
    )
    export.add_argument("output", metavar="FILE.onnx")
    export.add_argument("--arch", required=True, metavar="MODULE:CALLABLE")
    add_taps(export)
    add_preprocessing(export)
    add_selection(export)
    add_json(export, "a JSON object with the path of the file")
    export.set_defaults(run=_export)


def add_layers(layers: argparse.ArgumentParser) -> None:
    """Add the arguments of `layers`."""
    layers.description = (
        "List the tensors of an ONNX file, or the modules of a torch network, that can be tapped."
    )
    network = layers.add_mutually_exclusive_group(required=True)
    network.add_argument("file", nargs="?", metavar="FILE.onnx")
    instead = "a torch network instead of a file"
    network.add_argument("--arch", metavar="MODULE:CALLABLE", help=instead)
    add_preprocessing(layers)
    layers.add_argument("--match", metavar="PATTERN", help="only layers that match a pattern")
    add_json(layers, "a JSON array with an object for each layer")
    layers.set_defaults(run=_layers)


def _export(arguments: argparse.Namespace) -> int:
    from fastrdm.networks import (
        PreprocessingRequest,
        export_onnx,
        load_weights,
        request_preprocessing,
        trace_network,
    )
    from fastrdm.runtimes import import_arch

    check_writable_file(arguments.output, "FILE.onnx")
    wanted = request_preprocessing(preprocessing_of_arguments(arguments))
    if isinstance(wanted, PreprocessingRequest):
        weights = Path(arguments.weights)
        wanted = wanted.beside([weights if weights.is_dir() else weights.parent])
    module = import_arch(arguments.arch)()

    def needed() -> set[str]:
        """The weights on which the tapped layers depend."""
        return set(
            trace_network(module, arguments.taps, preprocessing=wanted).model.graph.initializers
        )

    selection = {name: getattr(arguments, name) for name in SELECTION}
    load_weights(module, arguments.weights, needed=needed, **selection)
    path = export_onnx(
        module,
        arguments.output,
        arguments.taps,
        preprocessing=wanted,
        architecture=arguments.arch,
    )
    complain(f"wrote {path}")
    if arguments.json:
        echo_json({"path": str(path)})
    return 0


def _layers(arguments: argparse.Namespace) -> int:
    from fastrdm.networks import group_reasons, match_pattern, request_preprocessing
    from fastrdm.runtimes import inspect_file

    inspect = _torch_layers if arguments.arch else inspect_file
    preprocessing = request_preprocessing(preprocessing_of_arguments(arguments))
    network, marks = inspect(arguments.arch or arguments.file, preprocessing)
    wanted = arguments.match or "**"
    names = match_pattern(wanted, network.layers, network.kind)
    matching = [network.layers[name] for name in names]
    if not matching:
        raise ValueError(
            f"{network.name} has no {network.kind} that matches {wanted!r}; "
            f"nearest: {nearest(wanted, network.layers)}"
        )
    listed = [layer for layer in matching if not layer.problem]
    if arguments.json:
        echo_json_rows(
            {name: getattr(layer, name) for name in _LAYER_FIELDS}
            | {"mib_per_100": layer.mib, "tap": marks.get(layer.name)}
            for layer in listed
        )
        return 0
    rows = [("", network.kind, "operator", "shape", "channels", "MiB/100", "tapped as")]
    for layer in listed:
        mark = marks.get(layer.name, "")
        part = f"[{layer.part}]" if layer.part else ""
        shape = " × ".join(map(str, layer.shape))
        sizes = (str(layer.channels), f"{layer.mib:.1f}")
        rows.append(("*" * bool(mark), layer.name, layer.operator + part, shape, *sizes, mark))
    print_table(lambda: rows, right={"channels", "MiB/100"})
    note(
        f"{len(listed)} {network.kind}s of {network.name} at {network.size[0]} × {network.size[1]} "
        "pixels: shapes of one image, MiB of 100 images in float32"
    )
    if problems := {layer.name: layer.problem for layer in matching if layer.problem}:
        note(f"{len(problems)} more cannot be tapped ({group_reasons(problems)})")
    return 0


def _torch_layers(
    arch: str, preprocessing: "RequestedPreprocessing | None"
) -> "tuple[NetworkLayers, dict[str, str]]":
    """Return a torch network, and the names that its layers have without --taps."""
    from fastrdm.networks import choose_taps, inspect_module, preprocessing_for
    from fastrdm.runtimes import import_arch

    module = import_arch(arch)()
    network = inspect_module(module, preprocessing_for(module, preprocessing).size)
    marks: dict[str, str] = {}
    for name, choice in choose_taps(module, network).items():
        marks[choice.layer.name] = ", ".join(filter(None, (marks.get(choice.layer.name), name)))
    return network, marks
