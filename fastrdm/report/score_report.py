"""The report of a store: one page of HTML to look through, sort, filter and print."""

from pathlib import Path
from typing import Any

from fastrdm._base import (
    check_writable_file,
    counted,
    new_file,
    parse_bytes,
    printable,
    require,
)
from fastrdm.report.score_charts import chart_specifications
from fastrdm.report.score_columns import best_first, checkpoints_of, columns_of
from fastrdm.report.score_facts import (
    failures_of,
    notes_of,
    provenance,
    synthetic_text,
    title_of,
)
from fastrdm.report.score_page import page_of
from fastrdm.report.score_places import ScorePlaces
from fastrdm.report.score_rdms import collect_rdms
from fastrdm.report.study_rdms import find_study_rdms
from fastrdm.scoring import MEASURES, Store, read_results

_SUFFIXES = (".html", ".htm")


def check_report(path: str | Path, name: str = "path") -> None:
    """Refuse a report that cannot be written; `name` is the argument's, for the error.

    MissingExtraError without Altair and vl-convert, ValueError or OSError for a path that no page can have.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{name}: {path} must end in one of: {', '.join(_SUFFIXES)}")
    check_writable_file(path, name)
    for module in ("altair", "vl_convert"):
        require(module, "report", "to write reports")


def write_report(
    store: str | Path | Store,
    path: str | Path,
    *,
    data: str | Path | None = None,
    rdms: int | str = "2MB",
    progress: str | None = None,
) -> Path:
    """Write the results of a store as a page of HTML, which needs neither the network nor other files.

    The page has a table of checkpoints to sort and filter; the layers of a chosen checkpoint, with subjects, intervals
    and noise ceilings; the RDM of a chosen layer beside the brain's; scores over epochs and time; failures, versions,
    hashes and settings.

    Parameters
    ----------
    store : path-like or Store
        The file of a sweep, or an open store.
    path : path-like
        The page, which ends in `.html` or `.htm`. It appears, or replaces an existing file, when it is complete.
    data : path-like, optional
        Folder with the studies. Of studies whose stimuli and subjects are those of the store, by SHA-256, the page has
        the RDMs of the mean over subjects, and the bounds of the noise ceiling. By default, the page has neither.
    rdms : int or str
        Bytes of the page for the RDMs that the store keeps, such as ``"2MB"``. The checkpoints with the best scores
        come first; equal RDMs are kept once. RDMs are ranks in 8 bits.
    progress : str, optional
        Label that counts the progress of a training; by default ``epoch``, ``step``, ``iteration`` or ``update``, the
        first of them that the store has.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    MissingExtraError
        Without Altair and vl-convert.
    ValueError
        If the store has neither results nor failures, the page has another suffix, `rdms` is not a size, or no
        checkpoint has the label `progress` or its values are not numbers.
    OSError
        If the store cannot be read, the folder of the data does not exist, or the page cannot be written.
    """
    path = Path(path)
    check_report(path)
    most = parse_bytes(rdms, "rdms")
    folder = None if data is None else Path(data)
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"data: {folder} is not a folder")
    if isinstance(store, Store):
        page = page_of(report_data(store, folder, most, progress))
    else:
        with Store(store) as opened:
            page = page_of(report_data(opened, folder, most, progress))
    with new_file(path) as file:
        file.write(page.encode())
    return path


def report_data(
    store: Store, data: Path | None = None, rdms: int = 2_000_000, progress: str | None = None
) -> dict[str, Any]:
    """What the page of a store shows, as values for JSON; arguments and errors as for `write_report`."""
    results = read_results(store)
    failures = failures_of(store)
    if not results and not failures["count"]:
        raise ValueError(f"{store.path} has neither results nor failures, so there is no report")
    places = ScorePlaces.of(store.targets(), results)
    checkpoints = checkpoints_of(results)
    brains = find_study_rdms(places.targets, data)
    facts = places.facts(brains)
    columns = columns_of(checkpoints, places, progress)
    studies = list(dict.fromkeys(target["study"] for target in places.targets))
    measures = list(dict.fromkeys(place["measure"] for place in facts))
    kept = collect_rdms(
        store,
        [rows.first for rows in checkpoints],
        best_first(checkpoints),
        columns["layers"],
        studies,
        brains,
        rdms,
    )
    return {
        "title": title_of(store.path),
        "summary": _summary(columns, facts, failures["count"]),
        "synthetic": synthetic_text(places.targets),
        "facts": provenance(store, places.targets),
        "notes": notes_of(facts),
        "studies": [printable(study) for study in studies],
        "measures": [
            {
                "name": name,
                "title": MEASURES[name].title,
                "below_zero": MEASURES[name].below_zero,
            }
            for name in measures
        ],
        "places": facts,
        "failures": failures,
        "charts": chart_specifications() if results else {},
        **columns,
        **kept,
    }


def _summary(columns: dict[str, Any], places: list[dict[str, Any]], n_failures: int) -> str:
    counts = {
        "checkpoint": len(columns["checkpoints"]["name"]),
        "layer": len(columns["layers"]),
        "region": len({(place["study"], place["region"]) for place in places}),
        "measure": len({place["measure"] for place in places}),
        "failure": n_failures,
    }
    return ", ".join(counted(n, noun) for noun, n in counts.items() if n)
