"""How each bench is timed, checked and described."""

import os

# Every contender gets the processors of this process. BLAS libraries read these variables when they load, so they are
# set before numpy is imported.
N_THREADS = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)
for variable in ("OPENBLAS", "MKL", "OMP", "BLIS", "NUMBA"):
    os.environ[f"{variable}_NUM_THREADS"] = str(N_THREADS)
os.environ["VECLIB_MAXIMUM_THREADS"] = str(N_THREADS)

import contextlib  # noqa: E402
import functools  # noqa: E402
import importlib  # noqa: E402
import importlib.metadata  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import fastrdm  # noqa: E402
from bench import library  # noqa: E402
from bench.experiments import peak  # noqa: E402
from bench.stopwatch import Stopwatch  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "fastrdm",
    "numpy",
    "scipy",
    "numba",
    "onnxruntime",
    "openvino",
    "torch",
    "rsatoolbox",
    "mne-rsa",
    "thingsvision",
    "scikit-learn",
    "himalaya",
)

# The rounds of a contender fill about SECONDS; a call that takes longer than LONG gets one round and no full warm-up.
SECONDS, LONG = 2.0, 4.0
MIN_ROUNDS, MAX_ROUNDS = 5, 500
# Short calls are timed in batches of about this many seconds, far above the resolution of the clock.
BATCH = 1e-3
# Before each round on inputs above LARGE bytes, READY times their size is touched, as much as scipy's pdist takes.
LARGE, READY = 64 << 20, 4
# Whole paths are warmed up on this many conditions first.
N_WARM_UP = 8


@functools.cache
def machine_peak():
    """The machine's limits with the contenders' number of threads, or the reason why they are unknown."""
    try:
        return peak.measure([N_THREADS])[0]
    except peak.NoCompilerError as error:
        return str(error)


def _busy():
    """Clock time, and seconds that other processes kept processors busy; None except on Linux."""
    if not Path("/proc/stat").exists():
        return None
    ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    # Without idle time and time spent waiting for disks.
    busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    return time.monotonic(), busy - sum(os.times()[:4])


BEGAN = _busy()


def pytest_benchmark_update_machine_info(machine_info):
    """Add threads, kernels, versions and the machine's limits to pytest-benchmark's machine info."""
    installed = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[package] = importlib.metadata.version(package)
    limits = machine_peak()
    kernels = fastrdm.kernels()
    machine_info["bench"] = {
        "threads": N_THREADS,
        "kernels": f"{kernels.name}-{kernels.isa}",
        "isas": list(kernels.available_isas),
        "versions": installed,
        "blas": _blas(),
        "peak": vars(limits) if isinstance(limits, peak.Peak) else limits,
    }


def pytest_benchmark_update_json(output_json):
    """Add the share of a processor that other programs used during the run."""
    if BEGAN:
        (began, busy_then), (ended, busy_now) = BEGAN, _busy()
        others = (busy_now - busy_then) / (ended - began)
        output_json["machine_info"]["bench"]["others"] = max(0.0, others)


def _blas():
    with contextlib.suppress(ImportError):
        import threadpoolctl

        return [
            f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', 'unknown')},"
            f" {pool['num_threads']} threads)"
            for pool in threadpoolctl.threadpool_info()
            if pool["user_api"] == "blas"
        ]
    return ["unknown, because threadpoolctl is not installed"]


@pytest.fixture(scope="session", autouse=True)
def separate_cache(tmp_path_factory):
    """Use a temporary cache of stimuli, because a bench empties it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTRDM_CACHE", str(tmp_path_factory.mktemp("stimuli")))
        yield


@pytest.fixture(scope="session", autouse=True)
def limited_threads():
    """Limit the threads of BLAS libraries that were loaded before the environment was set."""
    with contextlib.ExitStack() as limits:
        with contextlib.suppress(ImportError):
            import threadpoolctl

            limits.enter_context(threadpoolctl.threadpool_limits(N_THREADS))
        yield


@pytest.fixture
def contender(request, monkeypatch):
    """The contender of this bench, with its kernels selected."""
    chosen = request.param
    try:
        importlib.import_module(chosen.package)
    # Under NumPy 2, thingsvision raises AttributeError.
    except Exception as error:
        pytest.skip(f"{chosen.package} cannot be imported: {error}")
    for variable, value in chosen.environment.items():
        monkeypatch.setenv(variable, value)
    library.forget_kernels()
    yield chosen
    library.forget_kernels()


@pytest.fixture
def timed(benchmark, contender):
    """Time a contender's call, compare its answer with the oracle, and record what the report needs.

    `targets` are for the report only: no bench fails because it is slow.
    """

    def run(*inputs, truth, targets, flops=None):
        benchmark.extra_info.update(
            contender=contender.name, threads=N_THREADS, targets=targets, **_versions(contender)
        )
        call = contender.prepare(*inputs)
        if benchmark.enabled:
            rounds, iterations = 1, 1
            if not contender.takes_minutes:
                rounds, iterations = _warm_up(contender.prepare, inputs, call)
            ready = functools.partial(_make_memory_ready, inputs) if _large(inputs) else None
            answer = benchmark.pedantic(call, setup=ready, rounds=rounds, iterations=iterations)
        else:
            answer = benchmark(call)
        np.testing.assert_allclose(np.asarray(answer), truth, rtol=0, atol=contender.atol)
        benchmark.extra_info["largest_error"] = float(np.abs(np.asarray(answer) - truth).max())
        limits = machine_peak()
        if flops and benchmark.stats and isinstance(limits, peak.Peak):
            achieved = flops / benchmark.stats.stats.median
            benchmark.extra_info["fma_share"] = achieved / (limits.gflops * 1e9)

    return run


def _seconds(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _large(inputs):
    return sum(array.nbytes for array in inputs) > LARGE


def _make_memory_ready(inputs):
    """Touch and free as much memory as the most demanding contender uses.

    A virtual machine may have returned free memory to its host. Getting 379 MB again took 1.2 s, which only contenders
    that copy would pay, and only sometimes: numpy took 0.4 s or 2 s for the same call.
    """
    np.ones(READY * sum(array.nbytes for array in inputs), np.uint8)


def _warm_up(prepare, inputs, call):
    """Warm up; return the numbers of rounds and of calls in each round."""
    expected = _narrow_seconds(prepare, inputs)
    if expected > LONG:
        return 1, 1
    if _large(inputs):
        _make_memory_ready(inputs)
    expected = _seconds(call)
    rounds = int(np.clip(SECONDS / expected, MIN_ROUNDS, MAX_ROUNDS))
    return rounds, 1 if _large(inputs) else max(1, int(BATCH / expected))


def _narrow_seconds(prepare, inputs):
    """Expected seconds of a call, extrapolated from a call on about a sixteenth of the columns.

    An earlier call imports, compiles and starts threads. The width is valid for condensed RDMs too.
    """
    n_columns = inputs[0].shape[1]
    n = max(4, int(np.sqrt(n_columns / 8)))
    width = n * (n - 1) // 2
    call = prepare(*(_narrow(array, width) for array in inputs))
    call()
    return _seconds(call) * n_columns / width


def _narrow(array, width):
    """The first columns of an array; labels of rows stay as they are."""
    return np.ascontiguousarray(array[:, :width]) if array.ndim > 1 else array


@pytest.fixture
def paced(benchmark, contender):
    """Time a contender of a whole path, compare its answer with the oracle, and record what the report needs.

    The yardstick runs before each round, so that changes in the machine's speed cancel in the ratio of the two.
    """

    def run(experiment, *, truth, yardstick, ours, targets):
        benchmark.extra_info.update(
            contender=contender.name,
            ours=ours,
            threads=N_THREADS,
            source=experiment.source,
            targets=targets,
            per_round=contender.checkpoints,
            **_versions(contender),
        )
        watch = Stopwatch()
        if benchmark.enabled:
            _run(contender.prepare(experiment.first(N_WARM_UP), Stopwatch()))
        call = contender.prepare(experiment, watch)
        if benchmark.enabled and contender.rounds > 1:
            _run(call)
        pace, stages = [], []

        def before():
            pace.append(_seconds(yardstick))
            np.ones(contender.fresh << 30, np.uint8)
            arguments = _begin(call)
            watch.reset()
            return arguments, {}

        answer = benchmark.pedantic(
            call,
            setup=before,
            teardown=lambda *arguments: stages.append(watch.seconds),
            rounds=contender.rounds,
        )
        np.testing.assert_allclose(answer, truth, rtol=0, atol=contender.atol)
        if contender.answer != "logits":
            benchmark.extra_info["largest_error"] = float(np.abs(answer - truth).max())
        if benchmark.stats:
            seconds = np.array(benchmark.stats.stats.data) / contender.checkpoints
            median = int(np.argsort(seconds)[len(seconds) // 2])
            spent = {name: s / contender.checkpoints for name, s in stages[median].items()}
            spent["other"] = float(seconds[median]) - sum(spent.values())
            benchmark.extra_info.update(paces=(seconds / pace).tolist(), stages=spent)

    return run


def _begin(call):
    """Arguments of a call: the result of its `begin`, if it has one."""
    return (call.begin(),) if hasattr(call, "begin") else ()


def _run(call):
    return call(*_begin(call))


def _versions(contender):
    if not contender.environment:
        return {"version": _version(contender.package)}
    kernels = fastrdm.kernels()
    version = importlib.metadata.version("fastrdm")
    return {"version": version, "kernels": kernels.name, "isa": kernels.isa}


def _version(package):
    # ONNX Runtime has one distribution for each kind of device.
    distributions = importlib.metadata.packages_distributions().get(package, [package])
    return importlib.metadata.version(distributions[0])


@pytest.fixture
def extra_memory(benchmark, contender):
    """Record the extra memory of a contender's call on an input of this shape, as a share of the input."""

    def record(n_rows, n_columns):
        size = 4 * n_rows * n_columns
        name = contender.prepare.__name__
        _record_memory(benchmark, "extra_memory", size, "bench.memory", name, n_rows, n_columns)

    return record


@pytest.fixture
def peak_memory(benchmark):
    """Record the peak memory, in GiB, that a module of `bench` prints when it runs with these arguments."""
    return functools.partial(_record_memory, benchmark, "peak_memory", 1 << 30)


def _record_memory(benchmark, key, unit, module, *arguments):
    if not benchmark.enabled:
        return
    if not Path("/proc/self/status").exists():
        benchmark.extra_info[key] = "measured on Linux only"
        return
    measured = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    benchmark.extra_info[key] = int(measured.stdout) / unit
