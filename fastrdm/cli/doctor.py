"""`fastrdm doctor`: what is installed, what will run, and a test of each."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastrdm._base import counted, format_bytes, list_names
from fastrdm.cli.json_output import add_json
from fastrdm.cli.printing import echo, echo_json

if TYPE_CHECKING:
    from fastrdm.cli.diagnosis import Finding


def add_doctor(doctor: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`."""
    doctor.description = (
        "Describe the machine and the installation, and test each part: the kernels of every instruction set, "
        "providers, torch and extras, each in a process of its own. The exit status is 1 if something that is "
        "installed does not work."
    )
    add_json(doctor)
    doctor.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from fastrdm.cli.diagnosis import FAILS, findings

    if not arguments.json:
        _print_machine()
    found: list[Finding] = []
    for group in findings():
        found += group
        if not arguments.json:
            _print_group(group)
    failing = [each.name for each in found if each.state == FAILS]
    engines = _engines(found)
    if arguments.json:
        tests = [
            {name: value for name, value in dataclasses.asdict(each).items() if name != "facts"}
            for each in found
        ]
        machine = _machine()
        for name in ("processor", "memory"):
            machine[name] = dataclasses.asdict(machine[name])
        echo_json({"works": not failing, **machine, "engines": engines, "tests": tests})
        return bool(failing)
    _print_engines(engines)
    if failing:
        echo(f"{counted(len(failing), 'test')} failed: {list_names(failing)}")
    else:
        echo("everything that is installed works")
    return bool(failing)


def _machine() -> dict[str, Any]:
    from fastrdm.cli.machine import all_versions, find_devices, find_memory, find_processor

    return {
        "processor": find_processor(),
        "memory": find_memory(),
        "devices": find_devices(),
        "versions": all_versions(),
    }


def _print_machine() -> None:
    from fastrdm.cli.columns import print_rows

    found = _machine()
    processor, memory = found["processor"], found["memory"]
    quota = f" ({processor.quota:g} by quota)" if processor.quota else ""
    instructions = ", ".join(processor.instructions) or "no instruction sets known"
    limit = f", limit {_size(memory.limit)}" if memory.limit else ""
    facts = [
        ("processor", f"{processor.model}, {processor.n_cores} cores{quota}, {instructions}"),
        *(("device", device) for device in found["devices"]),
        ("memory", f"{_size(memory.total)}, available {_size(memory.available)}{limit}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in found["versions"].items())),
    ]
    print_rows([], facts)
    echo(flush=True)


def _size(n_bytes: int | None) -> str:
    return "unknown" if n_bytes is None else format_bytes(n_bytes)


def _print_group(group: "Sequence[Finding]") -> None:
    from fastrdm.cli.columns import print_rows

    rows = []
    for each in group:
        detail = each.detail
        if each.install:
            detail = f"{detail}; install: {each.install}" if detail else f"install: {each.install}"
        rows.append((each.name, each.state, detail))
    print_rows([group[0].group, "state", ""], rows)
    echo(flush=True)


def _print_engines(engines: Mapping[str, Any]) -> None:
    from fastrdm.cli.columns import print_rows

    kernels, onnx = engines["kernels"], engines["onnx"]
    forced = ", forced by FASTRDM_KERNELS or FASTRDM_ISA" if kernels and kernels["forced"] else ""
    rdms = kernels and f"{kernels['name']} {kernels['isa']}, {kernels['n_threads']} threads{forced}"
    exported = onnx and f"{onnx}, after an export"
    none = "nothing that works"
    rows = [
        ("RDMs and similarities", rdms or none),
        ("ONNX files", onnx or none),
        ("MODULE:CALLABLE", engines["torch"] or exported or none),
    ]
    print_rows(["selected by default", ""], rows)
    echo()


def _engines(found: "Sequence[Finding]") -> Mapping[str, Any]:
    """The kernels in use, and the providers of ONNX graphs and of torch modules; None for one that cannot run.

    Without a GPU that torch can use, `--provider auto` exports torch modules.
    """
    from fastrdm.cli.diagnosis import WORKS
    from fastrdm.runtimes import AUTO

    working = {each.name: each.facts or {} for each in found if each.state == WORKS}
    able = [word for word in AUTO if "fp32" in working.get(word, {}).get("precisions", ())]
    torch = working.get("torch", {})
    device = next((name for name in torch.get("devices", ()) if name != "cpu"), None)
    return {
        "kernels": _kernels(),
        "onnx": able[0] if able else None,
        "torch": f"torch:{device}" if torch.get("is_auto") and device else None,
    }


def _kernels() -> dict[str, Any] | None:
    from fastrdm._kernels import kernels

    try:
        return dataclasses.asdict(kernels())
    except ImportError:
        return None
