"""How every bench is timed, checked and described."""

import os

# Both sides get the processors of this process; BLAS libraries read these when they are loaded, so numpy comes after.
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

from bench.experiments import peak  # noqa: E402
from bench.stopwatch import Stopwatch  # noqa: E402
from fastrdm import _kernels  # noqa: E402

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
)

# A contender's rounds fill about this time; one that takes longer than LONG gets a single round and no warm-up in full.
SECONDS, LONG = 2.0, 4.0
MIN_ROUNDS, MAX_ROUNDS = 5, 500
# Short calls are timed in batches of about this length, far above the resolution of the clock.
BATCH = 1e-3
# Inputs above this size have memory made ready before each round; four times the input is what scipy's pdist takes.
LARGE, READY = 64 << 20, 4
# Whole paths are warmed up on so many conditions first.
FEW = 8


@functools.cache
def machine_peak():
    """The machine's limits with as many threads as the contenders have, or the sentence why they are not known."""
    try:
        return peak.measure([N_THREADS])[0]
    except peak.NoCompilerError as error:
        return str(error)


def _busy():
    """Seconds of the clock, and of processors busy with anything but this process and its children; None off Linux."""
    if not Path("/proc/stat").exists():
        return None
    ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    own = os.times()
    busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf(
        "SC_CLK_TCK"
    )  # less idle and waiting for disks
    return time.monotonic(), busy - sum(own[:4])


BEGAN = _busy()


def pytest_benchmark_update_machine_info(machine_info):
    """Add what decides a figure to what pytest-benchmark says of the machine."""
    installed = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[package] = importlib.metadata.version(package)
    limits = machine_peak()
    kernels = _kernels.kernels()
    machine_info["bench"] = {
        "threads": N_THREADS,
        "kernels": f"{kernels.name}-{kernels.isa}",
        "isas": list(kernels.available_isas),
        "versions": installed,
        "blas": _blas(),
        "peak": vars(limits) if isinstance(limits, peak.Peak) else limits,
    }


def pytest_benchmark_update_json(output_json):
    """Add how much of a processor everything else on the machine used meanwhile."""
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
    return ["threadpoolctl is not installed, so BLAS is not named"]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep what is decoded here apart from the reader's own cache, which a bench empties."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTRDM_CACHE", str(tmp_path_factory.mktemp("stimuli")))
        yield


@pytest.fixture(scope="session", autouse=True)
def limited_threads():
    """Hold BLAS libraries that were loaded before the environment was set to the same number."""
    with contextlib.ExitStack() as limits:
        with contextlib.suppress(ImportError):
            import threadpoolctl

            limits.enter_context(threadpoolctl.threadpool_limits(N_THREADS))
        yield


@pytest.fixture
def contender(request, monkeypatch):
    """The contender of this bench, its kernels in force."""
    chosen = request.param
    try:
        importlib.import_module(chosen.package)
    # Under NumPy 2, thingsvision raises AttributeError.
    except Exception as error:
        pytest.skip(f"{chosen.package} cannot be imported: {error}")
    for variable, value in chosen.environment.items():
        monkeypatch.setenv(variable, value)
    _kernels.active.cache_clear()
    yield chosen
    _kernels.active.cache_clear()


@pytest.fixture
def timed(benchmark, contender):
    """Time a contender's call, hold its answer against the oracle, and note what the report needs.

    `targets` says what the task is to reach, for the report alone: nothing here fails for being slow.
    """

    def run(*inputs, truth, targets, flops=None):
        benchmark.extra_info.update(
            contender=contender.name, threads=N_THREADS, targets=targets, **_what_runs(contender)
        )
        call = contender.prepare(*inputs)
        if benchmark.enabled:
            plan = (1, 1) if contender.takes_minutes else _plan(contender.prepare, inputs, call)
            rounds, iterations = plan
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
    """Touch as much memory as the hungriest contender takes, and let it go.

    A virtual machine may have given free memory back to its host; getting it again cost 1.2 s for 379 MB, which only
    those would pay who make copies, and by chance: numpy took 0.4 s or 2 s for the same call.
    """
    np.ones(READY * sum(array.nbytes for array in inputs), np.uint8)


def _plan(prepare, inputs, call):
    """Warm up; return how many rounds of how many calls to time."""
    expected = _narrow_seconds(prepare, inputs)
    if expected > LONG:
        return 1, 1
    if _large(inputs):
        _make_memory_ready(inputs)
    expected = _seconds(call)
    rounds = int(np.clip(SECONDS / expected, MIN_ROUNDS, MAX_ROUNDS))
    return rounds, 1 if _large(inputs) else max(1, int(BATCH / expected))


def _narrow_seconds(prepare, inputs):
    """Seconds to be expected of a call, from one on about a sixteenth of the columns.

    A call before that imports, compiles and starts threads. The width is also one of condensed RDMs.
    """
    n_columns = inputs[0].shape[1]
    n = max(4, int(np.sqrt(n_columns / 8)))
    width = n * (n - 1) // 2
    call = prepare(*(np.ascontiguousarray(array[:, :width]) for array in inputs))
    call()
    return _seconds(call) * n_columns / width


@pytest.fixture
def paced(benchmark, contender):
    """Time a contender of a whole path, hold its answer against the oracle, and note what the report needs.

    Before each round the yardstick runs, so that the ratio of the two does not depend on what the machine did in other
    minutes.
    """

    def run(experiment, *, truth, yardstick, ours, targets):
        benchmark.extra_info.update(
            contender=contender.name,
            ours=ours,
            threads=N_THREADS,
            source=experiment.source,
            targets=targets,
            per_round=contender.checkpoints,
            **_what_runs(contender),
        )
        watch = Stopwatch()
        if benchmark.enabled:
            _run(contender.prepare(experiment.first(FEW), Stopwatch()))
        call = contender.prepare(experiment, watch)
        if benchmark.enabled and contender.rounds > 1:
            _run(call)
        pace, stages = [], []

        def before():
            pace.append(_seconds(yardstick))
            np.ones(contender.fresh << 30, np.uint8)
            begun = _begun(call)
            watch.reset()
            return begun, {}

        answer = benchmark.pedantic(
            call,
            setup=before,
            teardown=lambda *begun: stages.append(watch.seconds),
            rounds=contender.rounds,
        )
        np.testing.assert_allclose(answer, truth, rtol=0, atol=contender.atol)
        if contender.answer != "logits":
            benchmark.extra_info["largest_error"] = float(np.abs(answer - truth).max())
        if benchmark.stats:
            taken = np.array(benchmark.stats.stats.data) / contender.checkpoints
            middle = int(np.argsort(taken)[len(taken) // 2])
            spent = {name: s / contender.checkpoints for name, s in stages[middle].items()}
            spent["other"] = float(taken[middle]) - sum(spent.values())
            benchmark.extra_info.update(paces=(taken / pace).tolist(), stages=spent)

    return run


def _begun(call):
    """Arguments of a call: what its `begin` gives, where it has one."""
    return (call.begin(),) if hasattr(call, "begin") else ()


def _run(call):
    return call(*_begun(call))


def _what_runs(contender):
    if not contender.environment:
        return {"version": _version(contender.package)}
    kernels = _kernels.kernels()
    version = importlib.metadata.version("fastrdm")
    return {"version": version, "kernels": kernels.name, "isa": kernels.isa}


def _version(package):
    # ONNX Runtime is in several distributions, for one kind of device each.
    distributions = importlib.metadata.packages_distributions().get(package, [package])
    return importlib.metadata.version(distributions[0])


@pytest.fixture
def extra_memory(benchmark, contender):
    """Note the extra memory of a contender's call on an input of this shape, as a share of the input."""

    def note(n_rows, n_columns):
        size = 4 * n_rows * n_columns
        name = contender.prepare.__name__
        _note_memory(benchmark, "extra_memory", size, "bench.memory", name, n_rows, n_columns)

    return note


@pytest.fixture
def peak_memory(benchmark):
    """Note the peak memory, in GiB, that a module of `bench` prints when it is run with these arguments."""
    return functools.partial(_note_memory, benchmark, "peak_memory", 1 << 30)


def _note_memory(benchmark, key, unit, module, *arguments):
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
