"""A store's results as text, with the settings in which they differ."""

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import IO, Any

from fastrdm.cli.columns import print_table as print_cells
from fastrdm.cli.printing import note
from fastrdm.scoring import SETTINGS, Store, TimePivot

_PLACE = ("study", "region", "time", "layer")
_NUMBERS = (
    "percent_nc",
    "mean_rho",
    "std",
    "p",
    "p_corrected",
    "score",
    "held_out_layer",
    "held_out",
)
# Marks a layer with a negative mean similarity.
_OPPOSITE = "‡"
# Number of studies up to which the explanation names them.
_MOST_STUDIES = 4
# In place of NaN.
_UNDEFINED = "–"


def print_table(store: Store, table: Any, file: IO[str]) -> None:
    """Print a `ResultTable`; settings are shown only where they differ between its rows.

    A row is read once and kept in a temporary file, so that a long table need not be in memory.
    """
    total, n_failed = store.n_listed(), store.counts()["failures"]
    names = list(table.columns)
    places = {name: i for i, name in enumerate(names)}
    values: dict[str, set[Any]] = {name: set() for name in SETTINGS}
    # The contents of each path under each of the settings.
    shown: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    protocols: defaultdict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    is_opposite = False
    with tempfile.TemporaryFile("w+", encoding="utf-8") as kept:
        for row in table.rows():
            for name, found in values.items():
                found.add(row[places[name]])
            shown[row[places["checkpoint"]], row[places["settings"]]].add(row[places["sha256"]])
            place = row[places["study"]], row[places["region"]]
            of_measure = protocols[row[places["measure"]]]
            of_measure[place] = row[places["protocol"]].partition(" ")[0]
            is_opposite |= row[places["mean_rho"]] < 0
            print(json.dumps(_texts(row, table.columns, places)), file=kept)
        differ = {name for name, found in values.items() if len(found) > 1}
        if not values["measure"] <= {"rsa"}:
            differ.add("measure")
        columns = _columns(table, differ)
        right = {name for name in table.labels if table.columns[name] is not str}
        print_cells(partial(_cells, kept, columns, places), right, file)
    if is_opposite and "subject" not in places:
        meaning = "the layer is opposite to the brain"
        if set(protocols) != {"rsa"}:
            meaning += ", or by measures other than rsa no better than chance"
        note(f"{_OPPOSITE} mean rho below 0: {meaning}", file)
    if "score" in places:
        for line in _scores_in_words(protocols):
            note(line, file)
        studies = list(dict.fromkeys(study for each in protocols.values() for study, _ in each))
        if len(studies) > 1:
            note(_held_out_in_words(studies), file)
    of_all = f" of {total}" if len(shown) < total else ""
    noun = "checkpoint" if max(total, len(shown)) == 1 else "checkpoints"
    n_contents = sum(map(len, shown.values()))
    contents = f"{n_contents} contents of " if n_contents > len(shown) else ""
    note(f"{contents}{len(shown)}{of_all} {noun}, {n_failed} failed", file)


def print_by_time(table: TimePivot, file: IO[str]) -> None:
    """Print a `TimePivot`; settings are shown only where they differ between its rows."""
    rows = list(table.rows())
    names = list(table.columns)
    differ = {name for i, name in enumerate(names) if len({row[i] for row in rows}) > 1}
    settings = (name for name in SETTINGS if name in differ)
    place = (name for name in _PLACE if name in names)
    shown = ["checkpoint", "arch", *table.labels, *settings, *place, *table.time_columns]
    places = [names.index(name) for name in shown]
    cells = [shown, *([_text(row[place]) for place in places] for row in rows)]
    right = {name for name in shown if table.columns[name] is not str}
    print_cells(lambda: cells, right, file)


def _scores_in_words(protocols: Mapping[str, dict[tuple[str, str], str]]) -> Iterator[str]:
    """What the column of the score is, by measure, study and region with their protocol's name."""
    # Imported here, because other tables need neither similarities nor studies.
    from fastrdm.scoring import named_protocol, names_of_protocols

    for measure, of_measure in protocols.items():
        names = names_of_protocols(
            {place: named_protocol(name) for place, name in of_measure.items()}
        )
        which = f"{measure}, " if len(protocols) > 1 else ""
        for modality, name in names.items():
            of_several = f"{modality or 'other studies'}, " if len(names) > 1 else ""
            yield f"{which}{of_several}{name}"


def _held_out_in_words(studies: Sequence[str]) -> str:
    """What the column of held-out scores is: "held_out: … (chosen on 92, judged on 118; …)"."""
    text = "held_out: % of the noise ceiling of held_out_layer, the best layer of the region in other studies"
    if len(studies) > _MOST_STUDIES:
        return text
    others = {study: " and ".join(s for s in studies if s != study) for study in studies}
    ways = "; ".join(f"chosen on {names}, judged on {study}" for study, names in others.items())
    return f"{text} ({ways})"


def _columns(table: Any, differ: set[str]) -> list[str]:
    numbers = ("subject", "rho") if "subject" in table.columns else _NUMBERS
    settings = (name for name in SETTINGS if name in differ)
    names = ["checkpoint", "arch", *table.labels, *settings, "held", *_PLACE, *numbers]
    return [name for name in names if name in table.columns]


def _texts(row: Sequence[Any], columns: dict[str, type], places: dict[str, int]) -> list[str]:
    texts = [_text(value) for value in row]
    # A missing label is NaN where the others are not all whole numbers.
    for place in range(places["study"]):
        if _is_nan(row[place]):
            texts[place] = ""
    if row[places["mean_rho"]] < 0:
        texts[places["mean_rho"]] += f" {_OPPOSITE}"
    return texts


def _text(value: Any) -> str:
    if value is None:
        return ""
    if _is_nan(value):
        return _UNDEFINED
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _cells(kept: IO[str], columns: Sequence[str], places: dict[str, int]) -> Iterator[list[str]]:
    yield list(columns)
    kept.seek(0)
    for line in kept:
        texts = json.loads(line)
        yield [texts[places[name]] for name in columns]
