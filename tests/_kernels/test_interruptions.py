"""Python's signal handlers run during long kernel calls, and an exception that one raises ends the call."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastrdm import _kernels

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signal.setitimer")

# Seconds of processor time, which other programs do not change. The calls below need several times as much.
MOST = 4


class Stop(Exception):
    """Raised by the signal handler."""


def stop(signum, frame):
    raise Stop


@pytest.fixture
def alarm():
    """Set a handler, and when the signal comes; no signal arrives after the test."""
    before = signal.getsignal(signal.SIGALRM)

    def start(handler, seconds):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["cpp", "numba"])
def kernel_set(request, monkeypatch):
    if request.param == "cpp":
        pytest.importorskip("fastrdm._kernels._core")
    monkeypatch.setenv("FASTRDM_KERNELS", request.param)
    monkeypatch.delenv("FASTRDM_ISA", raising=False)
    _kernels.active.cache_clear()
    yield request.param
    _kernels.active.cache_clear()


def alike(row, n):
    """Return n rows that share their memory."""
    return np.broadcast_to(row, (n, len(row)))


def gram(n=3000):
    x = alike(np.zeros(1_000_000, np.float32), n)
    return lambda n_threads: _kernels.gram(x, n_threads=n_threads)


def gram_of_few_rows(n=400):
    """Threads share the columns and wait for their turns."""
    x = alike(np.zeros(10_000_000, np.float32), n)
    return lambda n_threads: _kernels.gram(x, n_threads=n_threads)


def cross(n=2000):
    a = alike(np.zeros(1_000_000), n)
    return lambda n_threads: _kernels.cross(a, a[1:], n_threads)


def differences(n=500_000):
    x, pairs = alike(np.zeros(1_000_000, np.float32), 2), np.zeros((n, 2), np.int32)
    return lambda n_threads: _kernels.differences(x, x, pairs, np.zeros(len(pairs)), n_threads)


def distinct(n=100_000):
    x = alike(np.arange(1_000_000, dtype=np.float32) % 7, n)
    return lambda n_threads: _kernels.distinct(x, 10)


def rank_similarities(n=1_000_000):
    x = alike(np.random.default_rng(0).random(20_000), n)
    prepared = _kernels.centred_ranks(x[:1])
    return lambda n_threads: _kernels.rank_similarities(x, prepared, n_threads=n_threads)


def similarities(n=3000):
    rows = _kernels.Prepared(np.zeros((n, _kernels.padded(10_000))), np.ones(n))
    return lambda n_threads: _kernels.similarities(rows, rows, n_threads=n_threads)


def concordance(n=800):
    rows = np.tile(np.random.default_rng(0).permutation(20_000) + 1.0, (n, 1))
    return lambda n_threads: _kernels.concordance(rows, rows, n_threads)


N = 118
RDMS = np.random.default_rng(0).random((20, N * (N - 1) // 2))
DRAWS = np.ones((60_000, N), np.int32)


def resampled_similarities(n=60_000):
    return lambda n_threads: _kernels.resampled_similarities(
        RDMS, RDMS, DRAWS[:n], n_threads=n_threads
    )


def resampled_ceilings(n=60_000, ranked=True):
    return lambda n_threads: _kernels.resampled_ceilings(
        RDMS, N, DRAWS[:n], None, ranked=ranked, n_threads=n_threads
    )


def resampled_ceilings_of_values(n=60_000):
    return resampled_ceilings(n, ranked=False)


def permuted_similarities(n=100_000):
    permutations = np.tile(np.arange(N, dtype=np.int32), (n, 1))
    prepared = _kernels.Prepared(np.zeros((2, _kernels.padded(RDMS.shape[1]))), np.ones(2))
    matrices, squares = np.zeros((60, N, N)), np.ones(60)
    return lambda n_threads: _kernels.permuted_similarities(
        matrices, squares, permutations, prepared, n_threads
    )


def project(n=32_000):
    x = alike(np.zeros(1_000_000, np.float32), n)
    entries = np.zeros((-(-x.shape[1] // _kernels.SIGN_BLOCK), 5000), np.uint32)
    out = np.empty((len(x), 10), np.float32)
    return lambda n_threads: _kernels.project(x, entries, np.zeros(len(x)), 1.0, out, n_threads)


LONG = [
    gram,
    gram_of_few_rows,
    cross,
    differences,
    distinct,
    rank_similarities,
    similarities,
    concordance,
    resampled_similarities,
    resampled_ceilings,
    resampled_ceilings_of_values,
    permuted_similarities,
    project,
]


def small(n_threads=4):
    x = np.random.default_rng(1).standard_normal((200, 20_000)).astype(np.float32)
    return _kernels.gram(x, n_threads=n_threads)[0]


# numba would compile these anew for arrays whose rows share their memory.
CALLS = [("cpp", kernel) for kernel in LONG] + [
    ("numba", kernel) for kernel in LONG if kernel not in {cross, project, rank_similarities}
]


@pytest.mark.parametrize(
    "kernel_set, kernel", CALLS, ids=lambda x: getattr(x, "__name__", x), indirect=["kernel_set"]
)
def test_an_exception_of_a_handler_ends_the_call(kernel_set, alarm, kernel):
    kernel(n=2)(3)  # numba compiles
    call = kernel()
    alarm(stop, 0.15)
    start = time.process_time()
    with pytest.raises(Stop):
        call(3)
    assert time.process_time() - start < MOST


@pytest.mark.parametrize("n_threads", [1, 8])
def test_the_pool_serves_the_calls_after_an_interrupted_one(kernel_set, alarm, n_threads):
    expected, call = small(1), gram()
    for _ in range(3):
        alarm(stop, 0.02)
        with pytest.raises(Stop):
            call(n_threads)
        np.testing.assert_array_equal(small(), expected)


def test_handlers_that_return_do_not_change_the_result(kernel_set, alarm):
    """They may call kernels themselves."""
    x = alike(np.random.default_rng(0).random(1_000_000, np.float32), 300)
    expected, _ = _kernels.gram(x)
    few, inner = small(), []
    alarm(lambda *_: inner.append(small()), 0.01)
    product, _ = _kernels.gram(x)
    np.testing.assert_array_equal(product, expected)
    assert inner and all(np.array_equal(result, few) for result in inner)


def test_keyboard_interrupt_and_sigterm(kernel_set):
    """As in a script: the default handler of SIGINT, and one of SIGTERM that exits."""
    call = gram()
    for signum, handler, error in (
        (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
        (signal.SIGTERM, lambda *_: sys.exit(143), SystemExit),
    ):
        before = signal.signal(signum, handler)
        timer = threading.Timer(0.15, os.kill, (os.getpid(), signum))
        timer.start()
        try:
            with pytest.raises(error):
                call(2)
        finally:
            timer.join()
            signal.signal(signum, before)


def test_kernels_in_other_threads_are_not_interrupted(alarm):
    """Python runs handlers in the main thread, which need not wait for the kernel."""
    pytest.importorskip("fastrdm._kernels._core")
    x = alike(np.random.default_rng(0).random(1_000_000, np.float32), 300)
    expected, _ = _kernels.gram(x)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(_kernels.gram, x)
        with pytest.raises(Stop):
            alarm(stop, 0.01)
            result.result()
        np.testing.assert_array_equal(result.result()[0], expected)


FORK = """
import os, signal, threading, numpy as np
from fastrdm import _kernels
x = np.random.default_rng(0).standard_normal((200, 20_000)).astype(np.float32)
expected = _kernels.gram(x, n_threads=4)[0]

def child():
    same = np.array_equal(_kernels.gram(x, n_threads=4)[0], expected)
    os._exit(0 if same else 3)

def fork():
    pid = os.fork()
    if pid == 0:
        child()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def forked(code):
    environment = os.environ | {"FASTRDM_KERNELS": "cpp", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", FORK + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@needs_fork
def test_a_forked_child_has_a_pool():
    assert forked("print(*(fork() for _ in range(5)))") == ["0"] * 5


@needs_fork
def test_a_process_may_fork_while_another_thread_computes():
    code = """
stopped = False
def compute():
    while not stopped:
        assert np.array_equal(_kernels.gram(x, n_threads=4)[0], expected)
threads = [threading.Thread(target=compute) for _ in range(3)]
[thread.start() for thread in threads]
codes = {fork() for _ in range(30)}
stopped = True
[thread.join() for thread in threads]
print(*codes)
"""
    assert forked(code) == ["0"]


@needs_fork
def test_a_child_that_is_forked_within_a_call_has_an_error():
    """By a signal handler. The threads that computed the rest exist in the parent only."""
    code = """
large = np.broadcast_to(np.zeros(1_000_000, np.float32), (700, 1_000_000))
class Done(Exception): pass
def handler(*_):
    signal.setitimer(signal.ITIMER_REAL, 0)
    global pid
    pid = os.fork()
    if pid:
        raise Done
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    _kernels.gram(large, n_threads=4)
except Done:
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
except RuntimeError as error:
    os._exit(4 if "forked while a kernel ran" in str(error) else 5)
"""
    assert forked(code) == ["4"]


def test_numba_kernels_need_no_lock_of_the_process(monkeypatch, kernel_set):
    """An interrupted call of numba's can leave it taken, and other threads would wait for ever."""
    if kernel_set != "numba":
        pytest.skip("a lock of numba's")
    parallel = pytest.importorskip("numba.np.ufunc.parallel")
    rows = np.random.default_rng(0).random((3, 20))
    expected = _kernels.gram(rows)[0]

    class Taken:
        def __enter__(self):
            raise AssertionError("the lock was taken")

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(parallel, "_backend_init_process_lock", Taken())
    assert np.array_equal(_kernels.gram(rows)[0], expected)
