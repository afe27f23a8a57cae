"""fastrdm's functions in the places of rsatoolbox's: `accelerate`."""

import importlib
import inspect
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from fastrdm.interop.acceleration import LOCK, Acceleration
from fastrdm.interop.rsatoolbox.evaluation_table import EVALUATIONS
from fastrdm.interop.rsatoolbox.originals import original, toolbox

# Versions whose functions have the signatures and conventions that are known here, by their first two numbers.
KNOWN = ("0.3",)
# rsatoolbox's module and name → the module here that has the function of that name.
REPLACED: dict[tuple[str, str], str] = {
    **{
        ("rdm.calc", name): "calculation"
        for name in (
            "calc_rdm",
            "calc_rdm_euclidean",
            "calc_rdm_correlation",
            "calc_rdm_mahalanobis",
            "calc_rdm_crossnobis",
            "calc_rdm_poisson",
            "calc_rdm_poisson_cv",
        )
    },
    **{
        ("rdm.compare", name): "comparison"
        for name in (
            "compare",
            "compare_cosine",
            "compare_correlation",
            "compare_spearman",
            "compare_rho_a",
            "compare_kendall_tau",
            "compare_kendall_tau_a",
            "compare_cosine_cov_weighted",
            "compare_correlation_cov_weighted",
            "compare_bures_similarity",
            "compare_bures_metric",
        )
    },
    **EVALUATIONS,
}
# What is replaced: original, and the function in its place.
_PLACED: list[tuple[Callable[..., Any], Callable[..., Any]]] = []


class RsatoolboxAcceleration(Acceleration):
    """Functions of fastrdm inside rsatoolbox, until the end of the ``with`` block or `restore`."""

    def _take_out(self) -> None:
        # Modules that were imported in the meantime are searched too.
        _exchange({ours: own for own, ours in _PLACED})
        _PLACED.clear()


def accelerate() -> RsatoolboxAcceleration:
    """Put fastrdm's functions in the places of rsatoolbox's, in all of its modules that have them.

    ``with accelerate(): ...`` takes them out at the end, also after an error; as a plain call, `restore` of the result
    does. Accelerations may be nested: the outermost one puts rsatoolbox's functions back. ``import
    fastrdm.interop.rsatoolbox.auto`` switches it on for the whole program, until ``auto.restore()``. All threads share
    the functions. What the kernels do not know goes on to rsatoolbox's own functions. Functions that other modules
    imported by name from rsatoolbox stay what they were at that moment: call ``rsatoolbox.rdm.compare``, or import the
    name afterwards.

    Returns
    -------
    RsatoolboxAcceleration
        A context manager with the method `restore`.

    Raises
    ------
    ImportError
        If rsatoolbox is not installed (`MissingExtraError`), its version is not known, or one of its functions has
        other arguments than that version's.

    See Also
    --------
    accelerated : names of the functions that are replaced.

    Examples
    --------
    >>> from fastrdm.interop.rsatoolbox import accelerate
    >>> with accelerate():  # doctest: +SKIP
    ...     rdms = rsatoolbox.rdm.calc_rdm(datasets, method="crossnobis", descriptor="condition")
    """
    with LOCK:
        if not _PLACED:
            check_version()
            _put_in_place(_replacements())
        return RsatoolboxAcceleration()


def accelerated() -> tuple[str, ...]:
    """Return the names of the rsatoolbox functions in whose places fastrdm's are now; empty without `accelerate`.

    Returns
    -------
    tuple of str
        Such as ``"rsatoolbox.rdm.calc.calc_rdm"``, sorted.
    """
    with LOCK:
        return tuple(sorted({f"{own.__module__}.{own.__qualname__}" for own, _ in _PLACED}))


def check_version() -> None:
    """Raise ImportError in one sentence if the version of rsatoolbox is not known here."""
    toolbox("rdm")
    try:
        found = version("rsatoolbox")
    except PackageNotFoundError:
        found = "of an unknown version"
    if ".".join(found.split(".")[:2]) not in KNOWN:
        raise ImportError(
            f"rsatoolbox {found} is not known to fastrdm, which stands in for the functions of {' and '.join(KNOWN)};"
            " install that version, or call rsatoolbox itself"
        )


def _replacements() -> list[tuple[Callable[..., Any], Callable[..., Any]]]:
    pairs = []
    for (module, name), here in REPLACED.items():
        own = original(module, name)
        ours = getattr(importlib.import_module(f"fastrdm.interop.rsatoolbox.{here}"), name)
        if list(inspect.signature(own).parameters) != list(inspect.signature(ours).parameters):
            raise ImportError(
                f"rsatoolbox.{module}.{name} takes {inspect.signature(own)}, which is not known to fastrdm; install a"
                " version that is, or call rsatoolbox itself"
            )
        pairs.append((own, ours))
    return pairs


def _put_in_place(pairs: list[tuple[Callable[..., Any], Callable[..., Any]]]) -> None:
    comparison = importlib.import_module("fastrdm.interop.rsatoolbox.comparison")
    in_fits = original("rdm.compare", "compare"), comparison.compare_in_fits
    fitter = toolbox("model.fitter")
    if fitter.compare is in_fits[0]:
        fitter.compare = in_fits[1]  # type: ignore[attr-defined]
    _exchange(dict(pairs))
    _PLACED.extend([*pairs, in_fits])


def _exchange(others: dict[Callable[..., Any], Callable[..., Any]]) -> None:
    for module in _modules():
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value) and value in others:
                setattr(module, name, others[value])


def _modules() -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if module is not None and (name == "rsatoolbox" or name.startswith("rsatoolbox."))
    ]
