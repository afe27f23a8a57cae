"""The process of a local worker: requests come on its standard input, answers go to its standard output."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Any

from fastrdm._base import one_line
from fastrdm.scoring.jobs import Handshake, Outcome, WorkerPoolError, WorkerSetup
from fastrdm.scoring.processes import python_command
from fastrdm.scoring.worker import Worker

# Ctrl-C reaches every process of a terminal, and a batch system's signal every process of a job; the sweep lets its
# workers finish and then ends them. They are ignored before the slow imports.
_PROGRAM = (
    "import signal, sys\n"
    "for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):\n"
    "    if hasattr(signal, name): signal.signal(getattr(signal, name), signal.SIG_IGN)\n"
    "import json\n"
    "sys.path[:] = json.loads(sys.argv[1])\n"
    "from fastrdm.scoring.worker_process import main\n"
    "main(int(sys.argv[2]))\n"
)
# What the start of an interpreter prints ends with this.
_START = b"fastrdm worker\n"
_POLL_S = 0.5
# Seconds in which a process that closed its pipes must have ended.
_END_S = 5.0


def command() -> list[str]:
    """The command line of a worker of this process, which finds modules where this process does."""
    return python_command(_PROGRAM, str(os.getpid()))


def dump_setup(setup: WorkerSetup, file: IO[bytes]) -> None:
    """Write a set-up; refuse objects of the main program, which a worker does not import."""
    _SetupPickler(file, pickle.HIGHEST_PROTOCOL).dump(setup)


class _SetupPickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if getattr(value, "__module__", None) in ("__main__", "__mp_main__") and hasattr(
            value, "__qualname__"
        ):
            raise WorkerPoolError(
                f"a worker process needs {value.__qualname__}, which the main program defines; put it into a module"
                ' that can be imported, or use engine="in-process"'
            )
        return NotImplemented


def skip_start(from_worker: IO[bytes]) -> None:
    """Read what a worker process prints before its answers; EOFError if it ended."""
    while not (line := from_worker.readline()).endswith(_START):
        if not line:
            raise EOFError


def death_of(process: "subprocess.Popen[bytes]") -> str:
    """How a worker process that closed its pipes ended, and what that may mean."""
    try:
        status = process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    name = f"worker process {process.pid}"
    if status >= 0:
        return f"{name} ended with exit status {status}; its error is on standard error"
    try:
        word = signal.Signals(-status).name
    except ValueError:
        word = f"signal {-status}"
    advice = "; memory may be too small" if word == "SIGKILL" else ""
    return f"{name} was ended by {word}{advice}"


def main(parent: int) -> None:
    """Answer requests until the parent closes the pipe or dies."""
    # What libraries print must not get between the answers.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    if sys.platform != "win32":
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        answers.write(_START)
        answers.flush()
        worker = _start(requests, answers)
        while worker is not None:
            job, following, name = pickle.load(requests)
            _send(answers, worker.score(job, following, name))
    except (EOFError, OSError):
        pass
    # Threads and drivers may hang when an interpreter ends.
    os._exit(0)


def _start(requests: IO[bytes], answers: IO[bytes]) -> Worker | None:
    worker = None
    try:
        worker = Worker(pickle.load(requests))
        answer = worker.handshake()
    except EOFError:
        raise
    except Exception as error:
        answer = error
    _send(answers, _portable(answer) if isinstance(answer, Exception) else answer)
    return worker


def _portable(error: Exception) -> Exception:
    """An error that another process can read."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return WorkerPoolError(f"{type(error).__name__}: {one_line(error)}")
    return error


def _send(answers: IO[bytes], answer: Handshake | Exception | Outcome) -> None:
    answers.write(pickle.dumps(answer))
    answers.flush()


def _end_with(parent: int) -> None:
    """End this process when its parent is killed, also while it computes."""
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os._exit(1)
