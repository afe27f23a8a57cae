"""What looks wrong with the responses of a region; each suspicion is a sentence that says what to do."""

from collections.abc import Iterator, Sequence

import numpy as np

from fastrdm._base import counted, list_names
from fastrdm.encoding import Responses
from fastrdm.studies.response_summary import ResponseSummary, constant_units, lacking_units
from fastrdm.studies.suspicions import Suspicion

# Responses of a median reliability below this hardly repeat.
_RELIABLE = 0.1
_NAMED = 8


def suspect_responses(
    responses: Responses, summary: ResponseSummary, names: Sequence[str]
) -> Iterator[Suspicion]:
    """Yield the suspicions about the responses of a region; `names` are those of the stimuli."""
    where = f"{summary.name} ({summary.source})" if summary.source else summary.name
    for kind, text in (
        *_units(responses, summary),
        *_shape(responses, summary),
        *_repeats(summary),
        *_copies(responses, summary),
        *_rows(responses, summary, names),
    ):
        yield Suspicion(kind, f"{where}: {text}", summary.name)


def _units(responses: Responses, summary: ResponseSummary) -> Iterator[tuple[str, str]]:
    for kind, found, text in (
        (
            "constant",
            [constant_units(means) for means in responses.means],
            "units have one response to all stimuli: {}; leave them out with masks, or check their data",
        ),
        (
            "nan",
            [lacking_units(means) for means in responses.means],
            "units lack all repeats of some stimuli: {}; check that this is meant",
        ),
    ):
        texts = [
            f"{summary.subject(i)} {len(units)} of {responses.n_units[i]} (units {list_names(units.tolist())})"
            for i, units in enumerate(found)
            if len(units)
        ]
        if texts:
            yield kind, text.format(list_names(texts, _NAMED, "; "))


def _shape(responses: Responses, summary: ResponseSummary) -> Iterator[tuple[str, str]]:
    """Arrays whose axes may be others."""
    n = summary.n_conditions
    for i, means in enumerate(responses.means):
        if means.shape != (n, n) or summary.reading.n_times > 1:
            continue
        is_rdm = np.allclose(means, means.T, equal_nan=True) and np.ptp(np.diagonal(means)) == 0
        if is_rdm:
            yield (
                "transposed",
                f"the responses of {summary.subject(i)} look like an RDM: they are symmetric with a constant diagonal;"
                " name RDMs in file in place of responses",
            )
        elif not summary.reading.is_matched:
            yield (
                "transposed",
                f"{summary.subject(i)} has as many units as there are stimuli, {n}, so the array may be transposed;"
                " name its axes, or label its rows",
            )


def _repeats(summary: ResponseSummary) -> Iterator[tuple[str, str]]:
    single = [i for i, n in enumerate(summary.n_repeats) if n == 1]
    if single:
        who = f"{list_names(map(summary.subject, single), _NAMED)} {'has' if len(single) == 1 else 'have'}"
        yield (
            "one repeat",
            f"{who} one response to each stimulus, so the reliability of units and their ceiling cannot be computed;"
            " keep the repeats if there were any",
        )
    low = [i for i, value in enumerate(summary.reliability) if value < _RELIABLE]
    if low:
        listed = [f"{summary.subject(i)} ({summary.reliability[i]:.3f})" for i in low]
        yield (
            "reliability",
            f"the responses hardly repeat: the median reliability of units is below {_RELIABLE} for"
            f" {list_names(listed, _NAMED)}; check that all repeats have the stimuli in one order",
        )


def _copies(responses: Responses, summary: ResponseSummary) -> Iterator[tuple[str, str]]:
    """Subjects with the same responses."""
    by_content: dict[bytes, list[int]] = {}
    for i, means in enumerate(responses.means):
        by_content.setdefault(np.ascontiguousarray(means).tobytes(), []).append(i)
    for group in by_content.values():
        if len(group) > 1:
            who = list_names(map(summary.subject, group), _NAMED, " and ")
            yield "duplicates", f"{who} have the same responses; remove the copies"


def _rows(
    responses: Responses, summary: ResponseSummary, names: Sequence[str]
) -> Iterator[tuple[str, str]]:
    if summary.reading.left_out:
        found = summary.reading.left_out
        verb = "is" if len(found) == 1 else "are"
        yield (
            "left out",
            f"{counted(len(found), 'image')} with responses {verb} not listed in order, and therefore left out:"
            f" {list_names(found, _NAMED)}; check that this is meant",
        )
    for i, means in enumerate(responses.means):
        groups: dict[bytes, list[int]] = {}
        for row, values in enumerate(means):
            groups.setdefault(values.tobytes(), []).append(row)
        same = [group for group in groups.values() if len(group) > 1]
        if same:
            texts = [
                list_names((f"{names[row]} (row {row})" for row in group), 4, " = ")
                for group in same
            ]
            yield (
                "duplicates",
                f"{summary.subject(i)} has the same responses to several stimuli:"
                f" {list_names(texts, _NAMED, '; ')}; check that no row is there twice",
            )
