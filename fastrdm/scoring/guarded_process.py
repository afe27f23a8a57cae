"""A process that calls one function for this one, with a deadline and a bound of memory.

What a function reads or searches may make it hang, use all memory or end its process. Here that ends the other process,
which is started again for the next call. Requests and answers are lines of JSON on a pipe of their own: a process that
has read a hostile file cannot make this one run code.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from fastrdm.scoring.processes import python_command

# The process is not in the terminal's group, so that Ctrl-C does not reach it, and ends when this process ends.
_PROGRAM = (
    "import json, sys\n"
    "sys.path[:] = json.loads(sys.argv[1])\n"
    "from fastrdm.scoring.guarded_process import serve\n"
    "serve(*json.loads(sys.argv[2]))\n"
)
# Seconds for the start, and to begin a call, beyond its own deadline.
_START_S, _MARGIN_S = 60.0, 5.0
_ITEMS_AT_ONCE = 1000


class GuardError(Exception):
    """A call did not return; the message is a predicate, such as "took longer than 10 s"."""


class GuardedProcess:
    """A process in which a function runs; started for the first call, and again after it was ended.

    Parameters
    ----------
    function : str
        "module:function" of this package. Arguments and results are what JSON has.
    deadline : float
        Seconds that a call may take.
    memory : int
        Bytes that the process may reserve beyond its modules, where the system has such a bound.
    """

    def __init__(self, function: str, deadline: float = 10.0, memory: int = 1 << 30) -> None:
        self._function, self._deadline, self._memory = function, deadline, memory
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Any = None

    def call(self, *arguments: Any) -> Any:
        """Call the function; GuardError if it raises an error, or its process is ended."""
        return self._ask([arguments])[0]

    def map(self, items: Iterable[Any], *others: Any) -> Iterator[Any]:
        """Yield the result for each item as first argument, with a GuardError in the place of a result.

        The deadline is that of 1000 items together, and of one item alone if they exceed it.
        """
        items = iter(items)
        while block := [(item, *others) for item in islice(items, _ITEMS_AT_ONCE)]:
            try:
                yield from self._ask(block)
            except GuardError:
                for arguments in block:
                    try:
                        yield self._ask([arguments])[0]
                    except GuardError as error:
                        yield error

    def _ask(self, calls: Sequence[Sequence[Any]]) -> list[Any]:
        if self._process is None:
            self._start()
        try:
            self._connection.send_bytes(json.dumps(calls).encode())
            if not self._connection.poll(self._deadline):
                raise GuardError(f"took longer than {self._deadline:g} s")
            answer = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise GuardError(f"ended its process ({self._end()})") from None
        except BaseException:
            self._end()
            raise
        if isinstance(answer, str):
            raise GuardError(answer)
        return list(answer)

    def _start(self) -> None:
        from multiprocessing.connection import Pipe

        self._connection, other = Pipe()
        with other:
            handle = other.fileno()
            settings = [self._function, handle, self._deadline, self._memory]
            inherited: dict[str, Any] = {"pass_fds": [handle], "start_new_session": True}
            if sys.platform == "win32":
                os.set_handle_inheritable(handle, True)
                inherited = {"close_fds": False}
            # Threads of BLAS reserve address space, which counts as memory.
            environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                python_command(_PROGRAM, json.dumps(settings)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                **inherited,
            )
        try:
            if not self._connection.poll(_START_S):
                raise GuardError("could not be started")
            self._connection.recv_bytes()
        except (EOFError, OSError):
            raise GuardError(f"could not be started ({self._end()})") from None
        except BaseException:
            self._end()
            raise

    def _end(self) -> str:
        """End the process, and return how it ended before."""
        if self._process is None:
            return ""
        self._connection.close()
        try:
            status = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process = None
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
        self._end()

    def __enter__(self) -> "GuardedProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


def serve(function: str, handle: int, deadline: float, memory: int) -> None:
    """Answer requests until the other side closes its end of the pipe; what runs in the process."""
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    connection = _connection(handle)
    _bound_memory(memory)
    connection.send_bytes(b"ready")
    with contextlib.suppress(EOFError, OSError):
        while True:
            calls = json.loads(connection.recv_bytes())
            # If the process that asked is gone, nobody ends a call that hangs.
            with _alarm(deadline + _MARGIN_S):
                connection.send_bytes(json.dumps(_answer(call, calls)).encode())


def _answer(call: Any, calls: Sequence[Sequence[Any]]) -> Any:
    """The results of calls, or a text if one of them raises an error."""
    try:
        return [call(*arguments) for arguments in calls]
    except MemoryError:
        return "needs too much memory"
    except RecursionError:
        return "is nested too deeply"
    # Whatever a hostile file causes.
    except Exception as error:
        return f"failed: {type(error).__name__}"


def _connection(handle: int) -> Any:
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        return PipeConnection(handle)
    from multiprocessing.connection import Connection

    return Connection(handle)


def _bound_memory(n_bytes: int) -> None:
    try:
        import resource
    except ImportError:
        return
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            reserved = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        reserved = 1 << 30
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (reserved + n_bytes, reserved + n_bytes))


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """End the process after some seconds, where the system has alarms."""
    import signal

    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
