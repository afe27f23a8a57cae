"""Connects to a Ray cluster, within a deadline."""

import os
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from fastrdm._base import one_line
from fastrdm.scoring.jobs import WorkerPoolError

T = TypeVar("T")

# Seconds for the head of a cluster to accept a connection and to answer.
_PROBE_S = 10.0
# The start of HTTP/2, with which gRPC begins, and empty settings; the answer begins with settings too.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


def connect(ray: Any, address: str | None, timeout: float) -> None:
    """Call `ray.init`; raise WorkerPoolError in one sentence if there is no cluster, or after `timeout` seconds."""
    named = address or os.environ.get("RAY_ADDRESS") or ""
    what = f"the Ray cluster {named}" if named else "a Ray cluster on this machine"
    # Ray itself tries for minutes.
    if problem := _problem_of(named):
        raise WorkerPoolError(f"{what} cannot be reached: {problem}")
    try:
        within(
            timeout,
            lambda: ray.init(address=address, log_to_driver=False, logging_level="ERROR"),
        )
    except TimeoutError:
        raise WorkerPoolError(
            f"{what} did not answer within {timeout:g} s; see `ray status`, and --start-timeout (start_timeout) for"
            " how long to wait"
        ) from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise WorkerPoolError(f"{what} cannot be reached: {one_line(error)}") from None


def _problem_of(address: str) -> str:
    """Why there is no head of a cluster at HOST:PORT; empty if there is one, or the address has another form."""
    match = re.fullmatch(r"\[?([^\[\]/]+?)\]?:(\d+)", address)
    if not match or os.environ.get("RAY_USE_TLS", "0") not in ("0", "false", ""):
        return ""
    try:
        with socket.create_connection((match[1], int(match[2])), _PROBE_S) as connection:
            connection.sendall(_HELLO)
            head = connection.recv(9)
    except TimeoutError:
        return f"it did not answer within {_PROBE_S:g} s"
    except (OSError, OverflowError) as error:
        return one_line(error)
    return "" if len(head) == 9 and head[3] == _SETTINGS else "it is another program's port"


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what a call returns; TimeoutError after some seconds, while which signals are handled.

    The call goes on in a thread for which the interpreter does not wait.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(seconds)
