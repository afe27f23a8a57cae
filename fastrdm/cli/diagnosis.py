"""What of the installation works: each kernel set, provider and extra is tested in a process of its own."""

import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastrdm._base import check_private_folder, check_writable_folder, list_names, printable
from fastrdm._kernels import kernels, n_processors
from fastrdm.images import cache_info
from fastrdm.runtimes import PROVIDERS, has_gpu
from fastrdm.studies import find_data

#: The states of what is tested. Only `FAILS` is an error.
WORKS, FAILS, NOT_INSTALLED, NO_DEVICE = "works", "fails", "not installed", "no device"
#: The states of what is looked for, without a test.
INSTALLED, NOT_FOUND = "installed", "not found"

# Extras whose packages the providers test.
_OF_PROVIDERS = {"onnx", "cuda", "rocm", "openvino"}
_GPU_OF = {"cuda": "cuda", "tensorrt": "cuda", "rocm": "hip", "migraphx": "hip"}
_TIMEOUT = 300
_COMPILER = "pip install --force-reinstall fastrdm (with a C++17 compiler)"


@dataclass(frozen=True)
class Finding:
    """The result of a test: what was tested, its state, what was found or what is wrong, and what to install.

    `facts` are those of a provider or of torch: as the fields of `ProviderState` and `TorchState`.
    """

    group: str
    name: str
    state: str
    detail: str
    install: str | None = None
    facts: Mapping[str, Any] | None = None


def findings() -> Iterator[list[Finding]]:
    """Yield the results of all tests, a group at a time; some take seconds."""
    with ThreadPoolExecutor(max(1, min(4, n_processors()))) as pool:
        groups = [
            [pool.submit(test) for test in group()] for group in (_kernel_sets, _networks, _extras)
        ]
        for group in groups:
            yield [each.result() for each in group]
    yield [_data(), _cache()]


def uses_numba() -> bool:
    """Return whether numba's kernels are in use."""
    return not _choice_error() and kernels().name == "numba"


def test_kernels(numba: bool) -> list[Finding]:
    """Return the results of kernel sets, with numba's or without, compared with plain formulas."""
    with ThreadPoolExecutor(max(1, min(4, n_processors()))) as pool:
        # numba's takes longest, because it compiles.
        sets = [*_kernel_sets("selftest", numba=numba)]
        tests = [pool.submit(test) for test in reversed(sets)]
        return [each.result() for each in reversed(tests)]


def _run(trial: str, *arguments: str, **variables: str) -> dict[str, Any]:
    """Run a trial in a process; return {"found": …}, {"missing": sentence} or {"error": sentence}."""
    code = "import sys; from fastrdm.cli.trials import main; main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
    try:
        # -P: the current folder may hold files with the names of packages.
        ended = subprocess.run(
            [sys.executable, "-P", "-c", code, trial, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {_TIMEOUT} seconds"}
    lines = ended.stdout.decode(errors="replace").splitlines()
    # A library may crash after the answer, when the process ends.
    if ended.returncode == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
    return {"error": f"the process {_ending(ended.returncode)}{_last_line(ended.stderr)}"}


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _last_line(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    return f": {printable(lines[-1])}" if lines else ""


def _finding(group: str, name: str, answer: Mapping[str, Any], install: str | None) -> Finding:
    if "found" in answer:
        return Finding(group, name, WORKS, str(answer["found"]))
    if "missing" in answer:
        return Finding(group, name, NOT_INSTALLED, answer["missing"], install)
    return Finding(group, name, FAILS, answer["error"])


def _kernel_sets(trial: str = "kernels", *, numba: bool = True) -> Iterator[Callable[[], Finding]]:
    """Test the choice of the environment variables, if it is impossible, and the kernels of every instruction set."""
    if error := _choice_error():
        yield partial(Finding, "kernels", "choice", FAILS, error)
    if importlib.util.find_spec("fastrdm._kernels._core") is None:
        detail = "not compiled when fastrdm was installed; numba's are slower"
        yield partial(Finding, "kernels", "cpp", NOT_INSTALLED, detail, _COMPILER)
    else:
        yield from (partial(_kernel_set, "cpp", isa, trial) for isa in _isas())
    if numba:
        yield partial(_kernel_set, "numba", "native", trial)


def _choice_error() -> str:
    try:
        kernels()
    except ImportError as error:
        return str(error)
    return ""


def _isas() -> tuple[str, ...]:
    """Instruction sets of the compiled kernels; the portable one if these do not load."""
    try:
        core = importlib.import_module("fastrdm._kernels._core")
    except ImportError:
        return ("portable",)
    return tuple(core.isas())


def _kernel_set(name: str, isa: str, trial: str = "kernels") -> Finding:
    answer = _run(trial, FASTRDM_KERNELS=name, FASTRDM_ISA=isa)
    return _finding("kernels", f"{name} {isa}", answer, None)


def _networks() -> Iterator[Callable[[], Finding]]:
    """Test each provider of ONNX Runtime, and torch."""
    yield from (partial(_provider, word) for word in PROVIDERS)
    yield _torch


def _provider(word: str) -> Finding:
    install = f"pip install {PROVIDERS[word].install}"
    if importlib.util.find_spec("onnxruntime") is None:
        return Finding("networks", word, NOT_INSTALLED, "", install)
    answer = _run("provider", word)
    if "found" not in answer:
        return _finding("networks", word, answer, install)
    facts = answer["found"]
    if facts["state"] == "loads":
        detail = f"ran a convolution in {list_names(facts['precisions'])}, by {facts['detail']}"
        return Finding("networks", word, WORKS, detail, facts=facts)
    if facts["state"] == NOT_INSTALLED:
        return Finding("networks", word, NOT_INSTALLED, "", install, facts)
    # ONNX Runtime for NVIDIA's GPUs has this provider, but not its libraries.
    if word == "tensorrt" and importlib.util.find_spec("tensorrt") is None:
        return Finding("networks", word, NOT_INSTALLED, "", install, facts)
    has_device = word not in _GPU_OF or has_gpu(_GPU_OF[word])
    return Finding(
        "networks", word, FAILS if has_device else NO_DEVICE, facts["detail"], facts=facts
    )


def _torch() -> Finding:
    install = "pip install 'fastrdm[export]'"
    if importlib.util.find_spec("torch") is None:
        return Finding("networks", "torch", NOT_INSTALLED, "", install)
    answer = _run("torch")
    if "found" not in answer:
        return _finding("networks", "torch", answer, install)
    facts = answer["found"]
    if facts["state"] != "loads":
        return Finding("networks", "torch", FAILS, facts["detail"], facts=facts)
    devices = [f"{device} {name}".strip() for device, name in facts["devices"].items()]
    detail = f"ran a convolution on {list_names(devices)}, by torch {facts['detail']}"
    return Finding("networks", "torch", WORKS, detail, facts=facts)


def _extras() -> Iterator[Callable[[], Finding]]:
    """Test each extra whose packages are installed."""
    for extra, packages in _packages().items():
        if extra not in _OF_PROVIDERS:
            yield partial(_extra, extra, packages)


def _extra(extra: str, packages: Mapping[str, str]) -> Finding:
    from fastrdm.cli.trials import OF_EXTRAS

    install = f"pip install 'fastrdm[{extra}]'"
    lacking = [text for name, minimum in packages.items() if (text := _lack(name, minimum))]
    if lacking:
        return Finding("extras", extra, NOT_INSTALLED, f"needs {list_names(lacking)}", install)
    if extra not in OF_EXTRAS:
        return Finding("extras", extra, INSTALLED, f"{len(packages)} packages")
    return _finding("extras", extra, _run(extra), install)


def _packages() -> dict[str, dict[str, str]]:
    """Return extra → package → lowest version, in the order of the installed metadata, with nested extras."""
    direct: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("fastrdm") or ():
        requirement, _, marker = line.partition(";")
        if extra := re.search(r"""extra\s*==\s*["'](.+?)["']""", marker):
            direct.setdefault(extra[1], []).append(requirement.strip())

    def resolve(extra: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for requirement in direct.get(extra, ()):
            if nested := re.fullmatch(r"fastrdm\[(.*)\]", requirement):
                for each in nested[1].split(","):
                    found |= resolve(each.strip())
            else:
                name, _, minimum = requirement.partition(">=")
                found[name.strip()] = minimum.strip()
        return found

    return {extra: resolve(extra) for extra in direct}


def _lack(package: str, minimum: str) -> str:
    """What is missing of a package: empty, its name, or its lowest version."""
    # Packages for GPUs have the same module.
    if package == "onnxruntime" and importlib.util.find_spec(package) is not None:
        return ""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return package
    return "" if _numbers(version) >= _numbers(minimum) else f"{package} {minimum}, not {version}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", re.split(r"[+a-zA-Z]", version)[0])))


def _data() -> Finding:
    try:
        folder = find_data()
    except OSError as error:
        return Finding("files", "data", FAILS, str(error))
    if folder is None:
        detail = "set FASTRDM_DATA to a folder of data; `fastrdm sample` writes one to try"
        return Finding("files", "data", NOT_FOUND, detail)
    found = _finding("files", "data", _run("studies", str(folder)), "pip install 'fastrdm[data]'")
    return replace(found, detail=f"{folder}: {found.detail}")


def _cache() -> Finding:
    try:
        folder = cache_info().folder
        check_writable_folder(folder, "the cache of pixels")
        check_private_folder(folder, "fastrdm-")
    except (OSError, ValueError) as error:
        return Finding("files", "cache", FAILS, f"{error}; set FASTRDM_CACHE to another folder")
    return Finding("files", "cache", WORKS, str(folder))
