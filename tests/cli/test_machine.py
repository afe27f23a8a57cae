import dataclasses
import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

import fastrdm
from fastrdm.cli import machine
from fastrdm.runtimes import PROVIDERS

GIB = 2**30


def write(root, **files):
    """Files of /proc and /sys; two underscores stand for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def test_this_machine():
    found = fastrdm.info()
    assert found.processor.model and found.processor.n_cores == fastrdm.kernels().n_threads
    assert found.kernels == fastrdm.kernels()
    assert found.versions["fastrdm"] == fastrdm.__version__
    assert found.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    states = {state.provider: state for state in found.providers}
    assert list(states) == list(PROVIDERS)
    assert states["cpu"].state == "loads" and states["cpu"].precisions == ("fp32",)
    for state in found.providers:
        assert state.state in {"loads", "does not load", "not installed"} and state.detail
        assert (state.state == "loads") == bool(state.precisions)
    assert states[found.auto].state == "loads"
    if sys.platform == "linux":
        assert 0 < found.memory.available <= found.memory.total


def test_without_onnx_runtime(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name)
    )
    found = fastrdm.info()
    assert found.auto is None
    assert {state.state for state in found.providers} == {"not installed"}
    assert "fastrdm[cuda]" in found.providers[1].detail


def test_without_onnx_a_provider_does_not_load(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    cpu = fastrdm.info().providers[0]
    assert cpu.state == "does not load" and "onnx is needed" in cpu.detail


def test_why_a_provider_does_not_load(monkeypatch):
    def refuse(graph, word, precision):
        raise ValueError(f"no {precision}: libfoo.so is missing")

    monkeypatch.setattr(machine, "open_session", refuse)
    found = fastrdm.info()
    assert found.auto is None
    assert found.providers[0].state == "does not load"
    assert found.providers[0].detail == "no fp32: libfoo.so is missing"


def test_processor(tmp_path):
    write(
        tmp_path,
        proc__cpuinfo="""\
            processor\t: 0
            model name\t: Some CPU
            flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16

            processor\t: 1
            model name\t: Another
            flags\t\t: fpu
            """,
    )
    found = machine.find_processor(tmp_path)
    assert found.model == "Some CPU" and found.quota is None
    assert found.instructions == ("AVX2", "AVX-512", "AVX512_BF16", "AMX_BF16")
    write(tmp_path, proc__cpuinfo="Features\t: fp asimd sve bf16\n")
    assert machine.find_processor(tmp_path).instructions == ("NEON", "SVE", "ARM BF16")


def test_an_unknown_processor(tmp_path):
    found = machine.find_processor(tmp_path)
    isas = {"avx512": "AVX-512", "avx2": "AVX2", "neon": "NEON"}
    assert found.model
    assert found.instructions == tuple(
        isas[isa] for isa in fastrdm.kernels().available_isas if isa in isas
    )


MEMINFO = f"MemTotal: {16 * GIB // 1024} kB\nMemFree: 1 kB\nMemAvailable: {10 * GIB // 1024} kB\n"


def test_memory_without_a_limit(tmp_path):
    write(tmp_path, proc__meminfo=MEMINFO)
    assert machine.find_memory(tmp_path) == machine.Memory(16 * GIB, 10 * GIB, None)


def test_limits_of_control_groups(tmp_path):
    """The smallest limit of the process's groups counts; inactive pages of files are free."""
    write(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="0::/outer/inner\n",
        **{
            "sys__fs__cgroup__outer__inner__memory.max": "max\n",
            "sys__fs__cgroup__outer__inner__cpu.max": "max 100000\n",
            "sys__fs__cgroup__outer__memory.max": f"{4 * GIB}\n",
            "sys__fs__cgroup__outer__memory.current": f"{3 * GIB}\n",
            "sys__fs__cgroup__outer__memory.stat": f"anon 5\ninactive_file {GIB}\n",
            "sys__fs__cgroup__outer__cpu.max": "150000 100000\n",
        },
    )
    assert machine.find_memory(tmp_path) == machine.Memory(16 * GIB, 2 * GIB, 4 * GIB)
    assert machine.find_processor(tmp_path).quota == 1.5


def test_limits_of_control_groups_of_version_1(tmp_path):
    write(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="5:memory:/job\n4:cpu,cpuacct:/job\n0::/\n",
        **{
            "sys__fs__cgroup__memory__job__memory.limit_in_bytes": f"{8 * GIB}\n",
            "sys__fs__cgroup__memory__job__memory.usage_in_bytes": f"{5 * GIB}\n",
            "sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712\n",
            "sys__fs__cgroup__cpu__cpu.cfs_quota_us": "50000\n",
            "sys__fs__cgroup__cpu__cpu.cfs_period_us": "100000\n",
            "sys__fs__cgroup__cpu__job__cpu.cfs_quota_us": "-1\n",
        },
    )
    assert machine.find_memory(tmp_path) == machine.Memory(16 * GIB, 3 * GIB, 8 * GIB)
    assert machine.find_processor(tmp_path).quota == 0.5


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_devices_come_from_the_tools_of_drivers(tmp_path, monkeypatch):
    tools = {
        "nvidia-smi": "echo 'Big GPU, 81559 MiB, 570.1'; echo 'Big GPU 2, 81559 MiB, 570.1'",
        "rocm-smi": "echo device,Card series; echo card0,Radeon; exit 1",
    }
    for name, script in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = list(machine._devices())
    assert found[:2] == ["Big GPU, 81559 MiB, 570.1", "Big GPU 2, 81559 MiB, 570.1"]
    assert not any("Radeon" in device for device in found)


def test_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTRDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTRDM_DATA", str(tmp_path))
    found = fastrdm.info()
    assert (found.data, found.cache) == (str(tmp_path), str(tmp_path / "cache"))
    monkeypatch.setenv("FASTRDM_DATA", str(tmp_path / "none"))
    assert "which is not a folder" in fastrdm.info().data


def test_info_works_without_extras():
    code = """
import sys
for name in ("onnx", "onnxruntime", "rich", "torch", "PIL"):
    sys.modules[name] = None
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in sys.modules and sys.modules[name] is None else real(name)
import fastrdm
print(fastrdm.info().auto)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "None\n"


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_the_result_of_a_convolution_is_compared(monkeypatch, error):
    real = machine.open_session

    def opened(*arguments, **options):
        found = real(*arguments, **options)
        session = type(
            "Session", (), {"run": lambda _, *each: [found.session.run(*each)[0] + error]}
        )
        return dataclasses.replace(found, session=session())

    monkeypatch.setattr(machine, "open_session", opened)
    state = machine.provider_state("cpu")
    assert state.state == ("does not load" if error else "loads")
    assert (
        not error
        or state.detail == "a convolution on cpu in fp32 differs from that of NumPy by 0.1"
    )
