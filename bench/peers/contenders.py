"""A contender of a task, and a task's contenders: fastrdm with each kernel set, then its peers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from bench import library

Prepare = Callable[..., Callable[[], Any]]


@dataclass(frozen=True)
class Contender:
    """One row of a task's table.

    Attributes
    ----------
    name : str
    prepare : callable
        Takes the task's inputs and returns the call that is timed. What a contender prepares only once (its containers,
        ranks of the subjects if it can keep them) is not timed.
    package : str
        The contender is skipped if this package cannot be imported.
    atol : float
        Largest difference from the float64 oracle.
    environment : mapping
        Set while the contender runs.
    takes_minutes : bool
        Whether it is timed once, without a warm-up.
    """

    name: str
    prepare: Prepare
    package: str
    atol: float = 1e-9
    environment: Mapping[str, str] = field(default_factory=dict)
    takes_minutes: bool = False


def task(group: str, prepare: Prepare, *peers: Contender, atol: float = 1e-9) -> Callable[..., Any]:
    """Return a decorator that makes a function the bench of a task.

    Parameters
    ----------
    group : str
        The task's name.
    prepare : callable
        fastrdm's; it is timed with every kernel set of this machine.
    *peers : Contender
    atol : float
        Largest difference of fastrdm from the float64 oracle.
    """
    kernel_sets = [("cpp", isa) for isa in library.compiled_isas()] + [("numba", "native")]
    ours = [
        Contender(
            f"fastrdm {name}-{isa}",
            prepare,
            "fastrdm",
            atol,
            {"FASTRDM_KERNELS": name, "FASTRDM_ISA": isa},
        )
        for name, isa in kernel_sets
    ]
    parameters = [pytest.param(c, id=c.name) for c in (*ours, *peers)]

    def decorate(bench: Callable[..., None]) -> Callable[..., None]:
        parametrize = pytest.mark.parametrize("contender", parameters, indirect=True)
        return pytest.mark.benchmark(group=group)(parametrize(bench))

    return decorate
