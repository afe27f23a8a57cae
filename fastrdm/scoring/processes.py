"""How to start processes of Python, and how others recognise a process: by host, number and time of the start."""

import json
import os
import socket
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessIdentity:
    """A process among all that ever ran on all machines.

    `machine` distinguishes hosts with equal names, boots of a host, and containers, in which numbers of processes mean
    others. `started` counts from the boot, so that it does not depend on the clock; it is empty where unknown.
    """

    host: str
    machine: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> "ProcessIdentity":
        """Return the identity of this process."""
        _, started = _state_and_start(os.getpid())
        return cls(socket.gethostname(), _machine(), os.getpid(), started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_dead(self) -> bool:
        """Whether the process is known to have ended; false for processes of other machines."""
        if self.machine != _machine() or sys.platform == "win32":
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            # A process of another user exists.
            pass
        state, started = _state_and_start(self.pid)
        # A zombie has ended, and the system gives the numbers of ended processes to others.
        return state in {"Z", "X"} or bool(started and self.started and started != self.started)


def python_command(program: str, *arguments: str) -> list[str]:
    """The command line of a program for this interpreter, with `sys.path` as JSON before its arguments."""
    from multiprocessing.spawn import get_executable

    executable = os.fsdecode(get_executable() or sys.executable)
    return [executable, "-c", program, json.dumps(sys.path), *arguments]


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _state_and_start(pid: int) -> tuple[str, str]:
    """State of a process and the time of its start since the boot; empty where the system does not report them."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return "", ""
    # The name of the program may hold spaces and brackets.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]
