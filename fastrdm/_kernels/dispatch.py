"""The choice between the compiled kernels and the numba kernels."""

import functools
import importlib
import os
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any

_MODULES = {"cpp": "fastrdm._kernels._core", "numba": "fastrdm._kernels.numba"}


@dataclass(frozen=True)
class KernelInfo:
    """The kernels in use.

    Attributes
    ----------
    name : str
        ``"cpp"`` or ``"numba"``.
    isa : str
        Instruction set in use: ``"avx512"``, ``"avx2"``, ``"neon"`` or ``"portable"``; ``"native"`` for numba.
    available_isas : tuple of str
        Instruction sets that this installation and this processor support, the fastest first.
    n_threads : int
        Default number of threads.
    forced : bool
        Whether ``FASTRDM_KERNELS`` or ``FASTRDM_ISA`` made the choice.
    """

    name: str
    isa: str
    available_isas: tuple[str, ...]
    n_threads: int
    forced: bool


@dataclass(frozen=True)
class _Kernels:
    module: Any
    info: KernelInfo

    def threads(self, n_threads: int | None) -> int:
        return n_threads or self.info.n_threads

    def run(self, kernel: str, n_threads: int | None, *arguments: Any) -> None:
        """Call a kernel whose last arguments are the number of threads and the instruction set."""
        info = self.info
        getattr(self.module, kernel)(*arguments, n_threads or info.n_threads, info.isa)


def _choose_module(wanted: str) -> tuple[str, ModuleType]:
    if wanted and wanted not in _MODULES:
        raise ImportError(f"FASTRDM_KERNELS={wanted} is not one of: {', '.join(_MODULES)}")
    try:
        name = wanted or "cpp"
        return name, importlib.import_module(_MODULES[name])
    except ImportError as error:
        if wanted:
            raise ImportError(
                f"FASTRDM_KERNELS={wanted} is unavailable: {error}; unset it to use the other kernels"
            ) from error
        warnings.warn(
            f"compiled kernels unavailable ({error}); using the slower numba kernels. Reinstall fastrdm with a C++17"
            " compiler, or set FASTRDM_KERNELS=numba to silence this warning",
            RuntimeWarning,
            stacklevel=2,
        )
        return "numba", importlib.import_module(_MODULES["numba"])


@functools.cache
def active() -> _Kernels:
    """Return the kernels in use, chosen by the first call in a process."""
    wanted_kernels, wanted_isa = (os.environ.get(v, "") for v in ("FASTRDM_KERNELS", "FASTRDM_ISA"))
    name, module = _choose_module(wanted_kernels)
    isas = tuple(module.isas())
    if wanted_isa and wanted_isa not in isas:
        raise ImportError(
            f"FASTRDM_ISA={wanted_isa} is unavailable; the {name} kernels support: {', '.join(isas)}"
        )
    info = KernelInfo(
        name, wanted_isa or isas[0], isas, n_processors(), bool(wanted_kernels or wanted_isa)
    )
    return _Kernels(module, info)


def kernels() -> KernelInfo:
    """Return which kernels are in use.

    ``FASTRDM_KERNELS=cpp|numba`` and ``FASTRDM_ISA=avx512|avx2|neon|portable``, read once per process, force a choice.

    Returns
    -------
    KernelInfo
        Name, instruction set, available instruction sets, number of threads.

    Raises
    ------
    ImportError
        If the forced choice is unavailable; there is no silent fallback.
    """
    return active().info


def n_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
