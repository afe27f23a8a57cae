"""Connects to a Ray cluster, or starts one that listens at loopback alone, within a deadline."""

import os
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from fastrdm._base import one_line, require
from fastrdm.scoring.jobs import WorkerPoolError

T = TypeVar("T")

# Ray's name of a new cluster on this machine, and its switch for one that others can join.
_LOCAL = "local"
_LOOPBACK_VARIABLE, _LOOPBACK_NAME = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "ENABLE_RAY_CLUSTER"
# Seconds for the head of a cluster to accept a connection and to answer.
_PROBE_S = 10.0
# The start of HTTP/2, with which gRPC begins, and empty settings; the answer begins with settings too.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def connect(ray: Any, address: str | None, timeout: float) -> None:
    """Call `ray.init`; raise WorkerPoolError in one sentence if there is no cluster, or after `timeout` seconds."""
    named = address or os.environ.get("RAY_ADDRESS") or ""
    what = f"the Ray cluster {named}" if named else "a Ray cluster on this machine"
    # Ray itself tries for minutes.
    if problem := _problem_of(named):
        raise WorkerPoolError(f"{what} cannot be reached: {problem}")
    is_local = named in ("", _LOCAL)
    start = partial(_start_local, ray) if is_local else partial(ray.init, address)
    try:
        call = partial(start, log_to_driver=False, logging_level="ERROR")
        within(timeout, call, has_processes=is_local)
    except TimeoutError:
        raise WorkerPoolError(
            f"{what} did not answer within {timeout:g} s; see `ray status`, and --start-timeout (start_timeout) for"
            " how long to wait"
        ) from None
    # Ray raises errors of many kinds, plain exceptions among them.
    except Exception as error:
        raise WorkerPoolError(f"{what} cannot be reached: {one_line(error)}") from None


def _start_local(ray: Any, **options: Any) -> None:
    """Start a cluster on this machine whose ports listen at 127.0.0.1 alone; RuntimeError if they do not.

    By default they listen on all networks, and anyone who reaches one can run code. Ray's switch for this is made for
    macOS and Windows; as an argument, 127.0.0.1 is replaced by the address of the machine.
    """
    constants = require("ray._private.ray_constants", "ray", "to sweep on a Ray cluster")
    before = os.environ.get(_LOOPBACK_VARIABLE), getattr(constants, _LOOPBACK_NAME, None)
    try:
        # The variable is for the processes that Ray starts; this one may have read it before.
        os.environ[_LOOPBACK_VARIABLE] = "0"
        setattr(constants, _LOOPBACK_NAME, False)
        ray.init(_LOCAL, include_dashboard=False, **options)
    finally:
        setattr(constants, _LOOPBACK_NAME, before[1])
        del os.environ[_LOOPBACK_VARIABLE]
        if before[0] is not None:
            os.environ[_LOOPBACK_VARIABLE] = before[0]
    addresses = {node["NodeManagerAddress"] for node in ray.nodes()}
    if addresses != {"127.0.0.1"}:
        ray.shutdown()
        raise RuntimeError(
            f"this version of Ray listens at {', '.join(sorted(addresses))} instead of 127.0.0.1; start a cluster with"
            " `ray start` on a network that you trust, and name it with --address"
        )


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


def within(seconds: float, call: Callable[[], T], *, has_processes: bool = False) -> T:
    """Return what a call returns; TimeoutError after some seconds, during which signals are handled.

    The call goes on in a thread for which the interpreter does not wait. `has_processes` is whether the call starts
    processes, which must outlive it.
    """
    return _begin(call, has_processes).result(seconds)


def finish(seconds: float, call: Callable[[], object]) -> None:
    """Make a call that releases something; ignore its errors, and what takes longer. An interrupt comes after it.

    Ray ends the process with status 1 if the interpreter ends during such a call.
    """
    done = _begin(call)
    try:
        wait([done], seconds)
    except KeyboardInterrupt:
        wait([done], seconds)
        raise


def _begin(call: Callable[[], T], has_processes: bool = False) -> "Future[T]":
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)
        # Linux ends the processes of Ray with the thread that started them, not with the process.
        if has_processes:
            threading.Event().wait()

    threading.Thread(target=run, daemon=True).start()
    return done


def cause_of(error: BaseException) -> str:
    """Why Ray lost a worker, on one line: the error at the end of its traceback if there is one."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    if any(line.endswith("Traceback (most recent call last):") for line in lines):
        return lines[-1]
    return " ".join(" ".join(lines).split()) or type(error).__name__
