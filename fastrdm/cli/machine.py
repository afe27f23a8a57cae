"""`fastrdm info` and `fastrdm kernels`: what the machine has."""

import argparse
import dataclasses
from typing import TYPE_CHECKING

from fastrdm._base import format_bytes
from fastrdm.cli.printing import echo, echo_json

if TYPE_CHECKING:
    from fastrdm._kernels import KernelInfo
    from fastrdm.cli.doctor import TorchState


def add_info(info: argparse.ArgumentParser) -> None:
    """Add the arguments of `info`."""
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)


def add_kernels(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kernels`."""
    parser.set_defaults(run=_kernels)


def _info(arguments: argparse.Namespace) -> int:
    from fastrdm.cli.columns import print_rows
    from fastrdm.cli.doctor import info as find_info

    info = find_info()
    if arguments.json:
        echo_json(dataclasses.asdict(info))
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
    echo()
    rows = []
    for each in info.providers:
        name = each.provider + " *" * (each.provider == info.auto)
        rows.append((name, each.state, " ".join(each.precisions), each.detail))
    print_rows(["provider", "state", "precisions", ""], rows)
    auto = info.auto or "none, because no network can run"
    echo()
    echo(f"torch, for MODULE:CALLABLE: {_describe_torch(info.torch)}")
    others = ", torch for MODULE:CALLABLE" if info.torch.is_auto else ""
    echo(f"* selected by --provider auto: {auto}{others}")
    return 0


def _size(n_bytes: int | None) -> str:
    return "unknown" if n_bytes is None else format_bytes(n_bytes)


def _describe_torch(torch: "TorchState") -> str:
    devices = [f"torch:{device} {name}".strip() for device, name in torch.devices.items()]
    return ", ".join([torch.state, torch.detail, *devices])


def _kernels(arguments: argparse.Namespace) -> int:
    from fastrdm._kernels import kernels

    echo(f"kernels {_describe_kernels(kernels())}")
    return 0


def _describe_kernels(info: "KernelInfo") -> str:
    isas = ", ".join(info.available_isas)
    return f"{info.name}, instruction set {info.isa} (of {isas}), {info.n_threads} threads"
