"""The facts of a checked study as rows of text, for the command line, HTML and PNG."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastrdm._base import counted, list_names
from fastrdm.images import Preprocessing
from fastrdm.studies import RegionFacts, ResponseSummary, Stimulus, StudyCheck

REGION_COLUMNS = (
    "region",
    "subjects",
    "times",
    "conditions",
    "protocol",
    "NaN",
    "ceiling",
    "bounds",
    "r with others",
    "between subjects",
    "split-half",
    "reliability",
)

RESPONSE_COLUMNS = (
    "region",
    "subjects",
    "repeats",
    "stimuli",
    "units",
    "times",
    "sessions",
    "rows",
    "reliability",
    "ceiling",
    "measures",
)

# Formats and sizes that are listed; the others are counted.
_LISTED = 4


@dataclass(frozen=True)
class CheckTables:
    """A checked study as text: facts with labels; regions, responses and subjects with a header; notes; sources."""

    facts: Sequence[tuple[str, str]]
    regions: Sequence[Sequence[str]]
    notes: Sequence[str]
    responses: Sequence[Sequence[str]]
    response_notes: Sequence[str]
    subjects: Sequence[Sequence[str]]
    sources: Sequence[str]


def check_tables(check: StudyCheck) -> CheckTables:
    """Return the facts of a checked study as rows of text; those of regions are empty if none could be read."""
    regions = [REGION_COLUMNS, *map(region_row, check.regions)] if check.regions else []
    notes = region_notes(check.regions) if check.regions else []
    responses = [RESPONSE_COLUMNS, *map(response_row, check.responses)] if check.responses else []
    return CheckTables(
        fact_rows(check),
        regions,
        notes,
        responses,
        response_notes(check.responses) if check.responses else [],
        subject_rows(check.regions),
        source_lines(check.regions),
    )


def fact_rows(check: StudyCheck) -> list[tuple[str, str]]:
    """Return what was understood of the stimuli, as pairs of a label and a text; nothing of a study without any."""
    if not check.stimuli:
        return []
    readable = [each for each in check.stimuli if each.image.format]
    rows = [
        ("description", check.description),
        ("stimuli", f"{counted(len(check.stimuli), 'image')}{_in_folder(check.folder)}"),
        ("formats", _counts(f"{e.image.format} {e.image.mode}" for e in readable)),
        ("sizes", _counts(size(each) for each in readable)),
        ("seen as", describe_preprocessing(check.preprocessing)),
        ("order", _order(check.order)),
        ("background", _background(check)),
        ("test stimuli", counted(len(check.test_stimuli), "image") if check.test_stimuli else ""),
        ("not listed", list_names(check.unlisted, 8)),
        ("not read", list_names(check.unread, 8)),
    ]
    return [(label, text) for label, text in rows if text]


def describe_preprocessing(preprocessing: Preprocessing) -> str:
    """Return how a network sees an image."""
    height, width = preprocessing.size
    crop = preprocessing.crop
    cropped = "not cropped" if crop is None else f"centre crop of {crop:g}"
    if isinstance(crop, int):
        cropped = f"shorter edge resized to {crop} and centre cropped"
    return f"{width} × {height}, {preprocessing.resize}, {cropped}, {preprocessing.channel_order}"


def region_row(facts: RegionFacts) -> tuple[str, ...]:
    """Return a region's cells under `REGION_COLUMNS`."""
    missing = sum(facts.n_missing)
    computed = not math.isnan(facts.lower)
    known = [r for r in facts.leave_one_out if not math.isnan(r)]
    spread = f" ({min(known):.2f} … {max(known):.2f})" if known else ""
    return (
        facts.name,
        str(facts.n_subjects),
        str(facts.n_times),
        str(facts.n_conditions),
        facts.protocol,
        f"{facts.nan_policy}, {counted(missing, 'pair')}" if missing else facts.nan_policy,
        facts.ceiling_source
        if math.isnan(facts.ceiling)
        else f"{facts.ceiling:.4f} {facts.ceiling_source}",
        f"{facts.lower:.4f} … {facts.upper:.4f}" if computed else "–",
        f"{_number(facts.mean_leave_one_out)}{spread}",
        _number(facts.between_subjects),
        _number(facts.split_half),
        _number(facts.spearman_brown),
    )


def region_notes(regions: Sequence[RegionFacts]) -> list[str]:
    """Return sentences that explain the columns of `region_row`."""
    methods = " or ".join(dict.fromkeys(facts.method for facts in regions))
    splits = " or ".join(dict.fromkeys(str(facts.n_splits) for facts in regions if facts.n_splits))
    return [
        "ceiling: what scores are divided by; bounds: lower and upper noise ceiling that the subjects have, by the"
        " protocol",
        f"r with others: mean over subjects of the correlation ({methods}, not squared) with the mean RDM of all other"
        " subjects (least … greatest)",
        "between subjects: mean correlation of two subjects; split-half: mean correlation r of the mean RDMs of two"
        f" halves of the subjects ({splits or 'no'} splits); reliability: of the mean RDM of all, 2 r / (1 + r)"
        " (Spearman-Brown)",
    ]


def response_row(summary: ResponseSummary) -> tuple[str, ...]:
    """Return the cells of a region's responses under `RESPONSE_COLUMNS`."""
    reading = summary.reading
    sessions = _range(reading.n_sessions) if any(reading.n_sessions) else "–"
    return (
        summary.name,
        str(len(summary.subjects)),
        _range(summary.n_repeats),
        str(summary.n_conditions),
        f"{_range(summary.n_units)}{_masked(reading.n_masked)}",
        str(reading.n_times),
        f"{sessions}, z-scored" if reading.is_zscored else sessions,
        "by name" if reading.is_matched else "as ordered",
        _spread(summary.reliability),
        _spread(summary.ceiling),
        ", ".join(summary.measures),
    )


def response_notes(responses: Sequence[ResponseSummary]) -> list[str]:
    """Return sentences that explain the columns of `response_row`, and where responses come from."""
    notes = [
        "units: those that are kept (and left out by a mask); rows: matched to the stimuli by name, or in the order of"
        " the study",
        "reliability: median over units of the correlation of random halves of the repeats, corrected by"
        " Spearman-Brown; ceiling: median of its root, the r that a perfect model is expected to reach; of several"
        " subjects, the least … greatest",
    ]
    for summary in responses:
        named = [n for i, n in enumerate(summary.subjects) if n != str(i)]
        names = f"subjects {list_names(named, 30)}" if named else ""
        texts = "; ".join(filter(None, (summary.source, names)))
        notes += [f"{summary.name}: {texts}"] if texts else []
    return notes


def _range(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(most) if least == most else f"{least} … {most}"


def _masked(numbers: Sequence[int]) -> str:
    return f" ({_range(numbers)})" if any(numbers) else ""


def _spread(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    least, most = min(known), max(known)
    return f"{most:.3f}" if len(known) == 1 else f"{least:.3f} … {most:.3f}"


def subject_rows(regions: Sequence[RegionFacts]) -> list[tuple[str, ...]]:
    """Return, for each region, each subject's correlation with the mean of the others, under a row of subjects."""
    several = [facts for facts in regions if facts.leave_one_out]
    most = max((facts.n_subjects for facts in several), default=0)
    if not most:
        return []
    rows = [("subject", *(str(i) for i in range(most)))]
    for facts in several:
        cells = [_number(r) for r in facts.leave_one_out]
        rows.append((facts.name, *cells, *[""] * (most - len(cells))))
    return rows


def source_lines(regions: Sequence[RegionFacts]) -> list[str]:
    """Return where the RDMs of each region come from, and the names of its subjects."""
    lines = []
    for facts in regions:
        names = f"subjects {list_names(facts.subjects, 30)}" if facts.subjects else ""
        texts = "; ".join(filter(None, (facts.source, names)))
        lines += [f"{facts.name}: {texts}"] if texts else []
    return lines


def size(stimulus: Stimulus) -> str:
    """Return the size of an image; empty if it is not an image."""
    image = stimulus.image
    return f"{image.width} × {image.height}" if image.width else ""


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _in_folder(folder: str) -> str:
    return f" in {folder}" if folder else ""


def _counts(texts: Iterable[str]) -> str:
    counts = Counter(texts)
    return list_names((f"{text} ({n})" for text, n in counts.most_common()), _LISTED)


def _order(order: str) -> str:
    names = {
        "sorted": "sorted file names, compared by characters",
        "natural": "sorted file names, numbers compared as numbers",
        "targets": "the labels of the conditions in the files of the targets",
    }
    return names.get(order, f"listed in {order}" if order else "")


def _background(check: StudyCheck) -> str:
    n = sum(each.image.transparent > 0 for each in check.stimuli)
    if check.background is None:
        return f"none, {counted(n, 'image')} with transparent pixels" if n else ""
    return f"{check.background}, behind {counted(n, 'image')} with transparent pixels"
