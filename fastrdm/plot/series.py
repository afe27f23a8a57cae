"""Results grouped into series with short names, and each subject's percentage of the noise ceiling."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from fastrdm._base import list_names
from fastrdm.scoring import RSA, Result

Line = TypeVar("Line")

# Fields beside the checkpoint that distinguish series; stored results have the first three.
_SETTINGS = ("arch", "settings", "protocol")
# A share of the score by which the mean of the subjects' values may differ from it.
_TOLERANCE = 1e-6
# Lines up to which the bands of their intervals are legible.
_BANDED = 8


def check_results(results: Iterable[Result], figure: str, *, times: bool = False) -> list[Result]:
    """Return results by one measure, with or without time points; ValueError if there are none, or several measures.

    Results of the other kind are left out.
    """
    everything = list(results)
    found = [r for r in everything if (r.time is not None) is times]
    if everything and not found:
        raise ValueError(
            f"the results have no time points, which {figure} draws; score with --over-time each"
            if times
            else f"the results are of time points, which {figure} does not draw; draw them over time"
        )
    if not found:
        raise ValueError(f"there are no results to draw; {figure} needs at least one")
    measures = list(dict.fromkeys(r.measure for r in found))
    if len(measures) > 1:
        raise ValueError(
            f"the results are by several measures, {list_names(measures, 6)}; {figure} draws one of them"
        )
    return found


def banded_lines(lines: Mapping[Line, Sequence[Result]]) -> set[Line]:
    """The lines with a band for their interval: all of up to eight, of more the one with the highest score."""
    with_interval = {
        line for line, results in lines.items() if any(math.isfinite(r.low) for r in results)
    }
    if len(lines) <= _BANDED or not with_interval:
        return with_interval
    highest = max(
        with_interval,
        key=lambda line: max(r.percent_nc for r in lines[line] if math.isfinite(r.low)),
    )
    return {highest}


def score_label(results: Sequence[Result]) -> str:
    """The label of an axis with percentages of the noise ceiling."""
    measure = results[0].measure
    by = "" if measure == RSA else f" by {measure}"
    return f"score{by} (% of noise ceiling)"


def place_title(results: Sequence[Result]) -> str:
    """The study and region of results, as far as they are the same for all."""
    parts = ({r.study for r in results}, {r.region.upper() for r in results})
    return ", ".join(next(iter(names)) for names in parts if len(names) == 1)


def series_of(results: Sequence[Result], *, places: bool = True) -> dict[str, list[Result]]:
    """Group results by checkpoint and settings, and with `places` by study and region, under names of what differs.

    The name is empty if nothing differs.
    """
    of_checkpoint = short_names([r.checkpoint for r in results])
    parts: list[Callable[[Result], str]] = []
    if len(of_checkpoint) > 1:
        parts.append(lambda r: of_checkpoint[r.checkpoint])
    for name in _SETTINGS:
        pairs = {(r.checkpoint, getattr(r, name, "")) for r in results}
        if len(pairs) > len(of_checkpoint):
            parts.append(lambda r, name=name: str(getattr(r, name, "")))  # type: ignore[misc]
    if places and len({r.study for r in results}) > 1:
        parts.append(lambda r: r.study)
    if places and len({r.region for r in results}) > 1:
        parts.append(lambda r: r.region.upper())
    groups: dict[str, list[Result]] = {}
    for r in results:
        groups.setdefault(", ".join(part(r) for part in parts), []).append(r)
    return groups


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return paths by path, without the folders at the beginning and the ending that all have in common."""
    names = list(dict.fromkeys(names))
    split = [name.split("/") for name in names]
    n = 0
    while all(len(parts) > n + 1 and parts[n] == split[0][n] for parts in split):
        n += 1
    short = ["/".join(parts[n:]) for parts in split]
    stem, dot, ending = short[0].rpartition(".")
    if dot and stem and all(each.endswith(f".{ending}") for each in short):
        short = [each[: -len(ending) - 1] for each in short]
    return dict(zip(names, short, strict=True))


def subject_percents(result: Result) -> tuple[float, ...]:
    """Each subject's percentage of the noise ceiling, whose mean is the score; empty if it is unknown.

    The subjects' similarities or their squares, whichever have the score as their mean.
    """
    rho = np.array(result.rho)
    if not rho.size or not math.isfinite(result.percent_nc):
        return ()
    for values in (rho**2, rho):
        percents = 100 * values / result.ceiling
        if math.isclose(percents.mean(), result.percent_nc, rel_tol=_TOLERANCE, abs_tol=1e-9):
            return tuple(percents.tolist())
    return ()


def bounds_in_percent(
    results: Iterable[Result], ceilings: Mapping[tuple[str, str], tuple[float, float]] | None
) -> tuple[float, float] | None:
    """Lower and upper bound of the noise ceiling in percent of the ceiling in use; None if unknown, or of several."""
    in_use = {(r.study, r.region): r.ceiling for r in results}
    if len(in_use) > 1 or not ceilings:
        return None
    ((place, ceiling),) = in_use.items()
    lower, upper = ceilings.get(place, (math.nan, math.nan))
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return None
    return 100 * lower / ceiling, 100 * upper / ceiling


def colours_of(names: Iterable[Any]) -> dict[Any, Any]:
    """A colour for each of several names: of categories, or for many names a sequence from dark to light."""
    from matplotlib import colormaps

    from fastrdm.plot.style import COLOURS

    names = list(names)
    # Without yellow, which is too light for lines.
    if len(names) < len(COLOURS):
        return dict(zip(names, COLOURS, strict=False))
    return {name: colormaps["viridis"](0.92 * i / (len(names) - 1)) for i, name in enumerate(names)}
