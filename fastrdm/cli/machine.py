"""The machine and the installation: processors, memory, kernels, versions, providers."""

import importlib
import importlib.util
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastrdm._base import one_line, require, run_program, versions
from fastrdm._kernels import KernelInfo, kernels, n_processors
from fastrdm.images import cache_info
from fastrdm.networks import Graph
from fastrdm.runtimes import (
    AUTO,
    PROVIDERS,
    TORCH,
    open_session,
    probe_graph,
    torch_devices,
    torch_gpu_of,
)
from fastrdm.studies import find_data

# Instruction set → Linux's name of its flag.
_INSTRUCTIONS = {
    "AVX2": "avx2",
    "AVX-512": "avx512f",
    "AVX512_BF16": "avx512_bf16",
    "AVX512_FP16": "avx512_fp16",
    "AMX_BF16": "amx_bf16",
    "AMX_FP16": "amx_fp16",
    "NEON": "asimd",
    "SVE": "sve",
    "ARM BF16": "bf16",
}
# Instruction sets of the kernels, for systems that do not list flags.
_ISAS = {"avx512": "AVX-512", "avx2": "AVX2", "neon": "NEON"}
# Relative error that rounding both factors of a product may cause.
_ROUNDING = {"fp32": 1e-6, "tf32": 2e-3, "fp16": 2e-3, "bf16": 2e-2}
# Commands that print one device per line.
_DEVICE_COMMANDS = (
    ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"),
    ("rocm-smi", "--showproductname", "--csv"),
)


@dataclass(frozen=True)
class Processor:
    """The CPU: its name, the cores that this process may use, and instruction sets that kernels and networks use.

    `quota` is the number of cores that the control group's time limit amounts to; None without a limit.
    """

    model: str
    n_cores: int
    quota: float | None
    instructions: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes, None if unknown: all, what can still be allocated, and the control group's limit.

    `available` is within the limit; `limit` is None without one.
    """

    total: int | None
    available: int | None
    limit: int | None


@dataclass(frozen=True)
class ProviderState:
    """Whether networks can run on a provider, and the precisions that work on this machine.

    `state` is "loads" (a convolution has the right result), "does not load" or "not installed"; `detail` the package in
    use, why it does not load, or what to install.
    """

    provider: str
    state: str
    detail: str
    precisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class TorchState:
    """Whether torch can run networks, given as module:callable.

    `state` is as for `ProviderState`; `detail` is the version of torch, why it does not load, or what to install.
    `devices` are those of this process, with the names of GPUs; `is_auto` is whether ``provider="auto"`` selects it.
    """

    state: str
    detail: str
    devices: dict[str, str] = field(default_factory=dict)
    is_auto: bool = False


@dataclass(frozen=True)
class Info:
    """The machine and the installation.

    Attributes
    ----------
    processor, memory, kernels
        The hardware, and the kernels in use.
    devices : tuple of str
        GPUs and other accelerators, by the names that drivers, ONNX Runtime or OpenVINO use.
    versions : dict of str to str
        Versions of Python and of the installed packages.
    providers : tuple of ProviderState
    auto : str or None
        The provider that ``provider="auto"`` selects for ONNX graphs; None if none can run. For networks given as
        module:callable, it selects torch if `torch.is_auto`.
    data : str or None
        The folder of data that would be used, or what is wrong with `FASTRDM_DATA`.
    cache : str
        The folder of decoded stimuli, or what is wrong with it.
    torch : TorchState
    """

    processor: Processor
    devices: tuple[str, ...]
    memory: Memory
    kernels: KernelInfo
    versions: dict[str, str]
    providers: tuple[ProviderState, ...]
    auto: str | None
    data: str | None
    cache: str
    torch: TorchState


def info() -> Info:
    """Describe this machine and installation.

    Each installed provider runs a convolution in each of its precisions; TensorRT and MIGraphX take seconds to compile
    it.
    """
    states = tuple(map(provider_state, PROVIDERS))
    loading = {state.provider for state in states if "fp32" in state.precisions}
    return Info(
        processor=find_processor(),
        devices=find_devices(),
        memory=find_memory(),
        kernels=kernels(),
        versions=all_versions(),
        providers=states,
        auto=next((word for word in AUTO if word in loading), None),
        data=_folder(find_data),
        cache=str(_folder(lambda: cache_info().folder)),
        torch=torch_state(),
    )


def all_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that affect results."""
    return {"python": platform.python_version(), **dict(versions())}


def find_processor(root: Path = Path("/")) -> Processor:
    """Read the first processor of /proc/cpuinfo; without that file, ask Python and the kernels."""
    lines = (line.partition(":") for line in _read(root / "proc/cpuinfo").splitlines())
    facts: dict[str, str] = {}
    for name, _, value in lines:
        facts.setdefault(name.strip(), value.strip())
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    instructions = tuple(name for name, flag in _INSTRUCTIONS.items() if flag in flags)
    if not flags:
        instructions = tuple(_ISAS[isa] for isa in kernels().available_isas if isa in _ISAS)
    model = facts.get("model name") or run_program("sysctl", "-n", "machdep.cpu.brand_string")
    model = model or platform.processor() or platform.machine()
    return Processor(model, n_processors(), min(_quotas(root), default=None), instructions)


def _quotas(root: Path) -> Iterator[float]:
    for group in _groups(root, "cpu"):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if not quota:
            quota = _read(group / "cpu.cfs_quota_us")
            period = _read(group / "cpu.cfs_period_us")
        if quota.isdecimal() and period.strip().isdecimal():
            yield int(quota) / int(period)


def find_memory(root: Path = Path("/")) -> Memory:
    """Read /proc/meminfo and the control groups, each of which has a limit."""
    facts = {}
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        facts[name] = int(value.split()[0]) * 1024
    total = facts.get("MemTotal")
    limits, left = [], []
    for group in _groups(root, "memory"):
        limit = _read(group / "memory.max") or _read(group / "memory.limit_in_bytes")
        used = _read(group / "memory.current") or _read(group / "memory.usage_in_bytes")
        # In version 1, a number beyond any memory means no limit.
        if limit.isdecimal() and (total is None or int(limit) < total):
            limits.append(int(limit))
            if used.isdecimal():
                left.append(int(limit) - int(used) + _file_pages(group))
    if "MemAvailable" in facts:
        left.append(facts["MemAvailable"])
    return Memory(total, min(left, default=None), min(limits, default=None))


def _file_pages(group: Path) -> int:
    """Return the bytes of a control group's use that the kernel can reclaim: inactive pages of files."""
    lines = (line.split() for line in _read(group / "memory.stat").splitlines())
    values = {words[0]: int(words[1]) for words in lines if len(words) == 2}
    return values.get("total_inactive_file", values.get("inactive_file", 0))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control groups, up to the root, of versions 1 and 2."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / ("" if number == "0" else controller)
            here = top / path.lstrip("/")
            # In a container the path may be the host's; the visible hierarchy then begins at the top.
            yield from (folder for folder in (here, *here.parents) if folder.is_relative_to(top))


def find_devices() -> tuple[str, ...]:
    """Return GPUs and other accelerators by the names that drivers or OpenVINO use, each once."""
    return tuple(dict.fromkeys(_devices()))


def _devices() -> Iterator[str]:
    for command in _DEVICE_COMMANDS:
        for line in run_program(*command).splitlines():
            if line.strip() and not line.startswith("device,"):
                yield " ".join(line.split())
    if importlib.util.find_spec("openvino") is not None:
        core = importlib.import_module("openvino").Core()
        for device in core.available_devices:
            if device != "CPU":
                yield f"{device}: {core.get_property(device, 'FULL_DEVICE_NAME')} (OpenVINO)"


def provider_state(word: str) -> ProviderState:
    """Run a convolution on a provider in each of its precisions."""
    provider = PROVIDERS[word]
    missing = ProviderState(word, "not installed", f"pip install {provider.install}")
    if importlib.util.find_spec("onnxruntime") is None:
        return missing
    try:
        if not any(source.is_present() for source in provider.sources):
            return missing
        graph = probe_graph()
    except ImportError as error:
        return ProviderState(word, "does not load", str(error))
    packages, refusals = {}, []
    for precision in provider.precisions:
        try:
            opened = open_session(graph, word, precision=precision)
            _check_convolution(opened.session, word, precision, graph)
            packages[precision] = opened.package
        except ValueError as error:
            refusals.append(str(error))
    if not packages:
        return ProviderState(word, "does not load", refusals[0])
    return ProviderState(word, "loads", next(iter(packages.values())), tuple(packages))


def _check_convolution(session: Any, word: str, precision: str, graph: Graph) -> None:
    """ValueError unless the graph of `probe_graph` has the result of NumPy, within the rounding of the precision."""
    import numpy as np

    onnx = require("onnx", "onnx", "to test a provider")
    (tensor,) = onnx.load_from_string(graph.source).graph.initializer
    weights = onnx.numpy_helper.to_array(tensor)[:, :, 0, 0]
    images = np.random.default_rng(0).standard_normal((1, 16, 8, 8)).astype(np.float32)
    (found,) = session.run(None, {"x": images})
    error = np.abs(found - np.einsum("oc,nchw->nohw", weights, images)).max()
    if not error <= _ROUNDING[precision] * np.abs(images).max():
        raise ValueError(
            f"a convolution on {word} in {precision} differs from that of NumPy by {error:.2g}"
        )


def torch_state() -> TorchState:
    """Return torch's version and its devices, which imports it."""
    if importlib.util.find_spec(TORCH) is None:
        return TorchState("not installed", "pip install 'fastrdm[export]'")
    try:
        devices = torch_devices()
    # Whatever keeps a driver or a library from loading.
    except Exception as error:
        return TorchState("does not load", one_line(error))
    version = str(importlib.import_module(TORCH).__version__)
    return TorchState("loads", version, devices, bool(torch_gpu_of("auto")))


def _folder(find: Callable[[], Path | None]) -> str | None:
    """Return a folder, or what is wrong with it."""
    try:
        folder = find()
    except OSError as error:
        return str(error)
    return None if folder is None else str(folder)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
