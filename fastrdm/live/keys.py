"""Results → a flat dict of numbers, as loggers and callbacks of training frameworks take it."""

import math
from collections.abc import Collection, Iterable

from fastrdm._base import nearest_known
from fastrdm.scoring import Result

PREFIX = "brain"
BEST = "best"


def is_key(name: str) -> bool:
    """Whether a metric is a score, by its name."""
    return name.partition("/")[0].partition("-")[0] == PREFIX


def check_monitored(name: str, scores: Collection[str], clause: str) -> None:
    """Raise ValueError if a metric of this name should be a score and is none of `scores`, which may not be known yet.

    The error begins with `clause`, such as "ModelCheckpoint monitors".
    """
    if scores and is_key(name) and name not in scores:
        raise ValueError(
            f"{clause} {name!r}, which is not a score of this network; {nearest_known(name, scores)}"
        )


def flat_scores(results: Iterable[Result], first_measure: str) -> dict[str, float]:
    """Return percent of the noise ceiling by ``brain/{study}/{region}/{layer}``, and of the best layer.

    The key of the highest score of a region ends with ``best``; it is NaN only if all layers are. Measures other than
    the first have the prefix ``brain-{measure}``. Scores of time points end with the time, as in
    ``brain/{study}/{region}/{layer}/0.12``.
    """
    scores: dict[str, float] = {}
    best: dict[str, float] = {}
    for result in results:
        prefix = PREFIX if result.measure == first_measure else f"{PREFIX}-{result.measure}"
        place = f"{prefix}/{result.study}/{result.region}"
        time = "" if result.time is None else f"/{result.time:.10g}"
        scores[f"{place}/{result.layer}{time}"] = result.percent_nc
        highest = best.get(f"{place}/{BEST}", math.nan)
        best[f"{place}/{BEST}"] = (
            result.percent_nc if math.isnan(highest) else max(highest, result.percent_nc)
        )
    return scores | best
