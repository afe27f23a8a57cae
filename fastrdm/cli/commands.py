"""The command line's entry point, and its small commands."""

import argparse
import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Sequence

from fastrdm._base import __version__, format_bytes, nearest
from fastrdm._kernels import KernelInfo
from fastrdm._kernels import kernels as find_kernels
from fastrdm.cli import arguments as _arguments
from fastrdm.cli.doctor import info as find_info
from fastrdm.cli.evaluate import add_evaluate
from fastrdm.cli.score import add_score
from fastrdm.cli.stores import add_store_commands
from fastrdm.cli.sweeping import add_sweep
from fastrdm.cli.tables import aligned, print_rows
from fastrdm.networks import NetworkLayers, compile_pattern, export_onnx, group_reasons

_LAYER_FIELDS = ("name", "operator", "part", "shape", "channels")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 after a failure. argparse exits with 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader closed the pipe; the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("fastrdm: stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"fastrdm: error: {error}", file=sys.stderr)
        return 1


def _show_warning(message: Warning | str, *details: object, **more: object) -> None:
    print(f"fastrdm: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastrdm", description="Compare neural networks with the visual brain."
    )
    parser.add_argument("--version", action="version", version=f"fastrdm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    add_score(commands)
    add_sweep(commands)
    add_store_commands(commands)
    add_evaluate(commands)

    export = commands.add_parser(
        "export", help="write a network with weights as an ONNX file with tapped layers"
    )
    export.add_argument("weights", metavar="WEIGHTS", help=".pth, .pt or .safetensors")
    export.add_argument("output", metavar="FILE.onnx")
    export.add_argument("--arch", required=True, metavar="MODULE:CALLABLE")
    _arguments.add_taps(export)
    export.set_defaults(run=_export)

    layers = commands.add_parser(
        "layers",
        help="list the layers of a network that can be tapped, with shapes and sizes",
        description="List the tensors of an ONNX file, or the modules of a torch network, that can be tapped.",
    )
    network = layers.add_mutually_exclusive_group(required=True)
    network.add_argument("file", nargs="?", metavar="FILE.onnx")
    instead = "a torch network instead of a file"
    network.add_argument("--arch", metavar="MODULE:CALLABLE", help=instead)
    layers.add_argument("--match", metavar="PATTERN", help="only layers that match a pattern")
    layers.add_argument("--json", action="store_true", help="print JSON lines instead of the table")
    layers.set_defaults(run=_layers)

    purpose = "write a synthetic sample study, to try fastrdm without data"
    sample = commands.add_parser("sample", help=purpose)
    sample.add_argument("folder", metavar="DIR")
    sample.set_defaults(run=_sample)

    machine = "describe the machine: processors, memory, kernels, versions, providers"
    info = commands.add_parser("info", help=machine)
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)

    kernels = commands.add_parser("kernels", help="print which kernels are in use")
    kernels.set_defaults(run=_kernels)
    return parser


def _export(arguments: argparse.Namespace) -> int:
    from fastrdm.networks import load_weights
    from fastrdm.runtimes import import_arch

    module = import_arch(arguments.arch)()
    load_weights(module, arguments.weights)
    path = export_onnx(module, arguments.output, arguments.taps, architecture=arguments.arch)
    print(f"wrote {path}")
    return 0


def _layers(arguments: argparse.Namespace) -> int:
    from fastrdm.runtimes import inspect_file

    inspect = _torch_layers if arguments.arch else inspect_file
    network, marks = inspect(arguments.arch or arguments.file)
    wanted = arguments.match or "**"
    expression = compile_pattern(wanted, network.kind)
    matching = [layer for name, layer in network.layers.items() if expression.fullmatch(name)]
    if not matching:
        raise ValueError(
            f"{network.name} has no {network.kind} that matches {wanted!r}; "
            f"nearest: {nearest(wanted, network.layers)}"
        )
    listed = [layer for layer in matching if not layer.problem]
    if arguments.json:
        for layer in listed:
            record = {name: getattr(layer, name) for name in _LAYER_FIELDS}
            print(json.dumps(record | {"mib_per_100": layer.mib, "tap": marks.get(layer.name)}))
        return 0
    rows = [("", network.kind, "operator", "shape", "channels", "MiB/100", "tapped as")]
    for layer in listed:
        mark = marks.get(layer.name, "")
        part = f"[{layer.part}]" if layer.part else ""
        shape = " × ".join(map(str, layer.shape))
        sizes = (str(layer.channels), f"{layer.mib:.1f}")
        rows.append(("*" * bool(mark), layer.name, layer.operator + part, shape, *sizes, mark))
    for line in aligned(lambda: rows, right={"channels", "MiB/100"}):
        print(line)
    print(
        f"{len(listed)} {network.kind}s of {network.name} at {network.size[0]} × {network.size[1]} "
        "pixels: shapes of one image, MiB of 100 images in float32"
    )
    if problems := {layer.name: layer.problem for layer in matching if layer.problem}:
        print(f"{len(problems)} more cannot be tapped ({group_reasons(problems)})")
    return 0


def _torch_layers(arch: str) -> tuple[NetworkLayers, dict[str, str]]:
    """Return a torch network, and the names that its layers have without --taps."""
    from fastrdm.images import Preprocessing
    from fastrdm.networks import choose_taps, inspect_module
    from fastrdm.runtimes import import_arch

    module = import_arch(arch)()
    preprocessing = getattr(module, "preprocessing", None) or Preprocessing()
    network = inspect_module(module, preprocessing.size)
    marks: dict[str, str] = {}
    for name, choice in choose_taps(module, network).items():
        marks[choice.layer.name] = ", ".join(filter(None, (marks.get(choice.layer.name), name)))
    return network, marks


def _sample(arguments: argparse.Namespace) -> int:
    from fastrdm.cli.sample import write_sample

    folder = write_sample(arguments.folder)
    print(
        f"wrote {folder}: a SYNTHETIC study with simulated subjects and no brains; see its README.txt"
    )
    print(f"try: fastrdm score {folder / 'network.onnx'} --data {folder}")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    info = find_info()
    if arguments.json:
        print(json.dumps(dataclasses.asdict(info)))
        return 0
    processor, memory = info.processor, info.memory
    quota = f" ({processor.quota:g} by quota)" if processor.quota else ""
    instructions = ", ".join(processor.instructions) or "no instruction sets known"
    limit = f", limit {_size(memory.limit)}" if memory.limit else ""
    facts = [
        ("processor", f"{processor.model}, {processor.n_cores} cores{quota}, {instructions}"),
        *(("device", device) for device in info.devices),
        ("memory", f"{_size(memory.total)}, available {_size(memory.available)}{limit}"),
        ("kernels", _describe_kernels(info.kernels)),
        ("versions", ", ".join(f"{name} {number}" for name, number in info.versions.items())),
        ("data", info.data or "none found; set FASTRDM_DATA"),
        ("stimuli", f"cached in {info.cache}"),
    ]
    print_rows([], facts)
    print()
    rows = []
    for each in info.providers:
        name = each.provider + " *" * (each.provider == info.auto)
        rows.append((name, each.state, " ".join(each.precisions), each.detail))
    print_rows(["provider", "state", "precisions", ""], rows)
    print(f"* selected by --provider auto: {info.auto or 'none, because no network can run'}")
    return 0


def _size(n_bytes: int | None) -> str:
    return "unknown" if n_bytes is None else format_bytes(n_bytes)


def _kernels(arguments: argparse.Namespace) -> int:
    print(f"kernels {_describe_kernels(find_kernels())}")
    return 0


def _describe_kernels(info: KernelInfo) -> str:
    isas = ", ".join(info.available_isas)
    return f"{info.name}, instruction set {info.isa} (of {isas}), {info.n_threads} threads"
