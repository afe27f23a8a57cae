"""`fastrdm plot`: the results of a store as a figure."""

import argparse
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import check_writable_file, error_text, existing_name, nearest_known, printable
from fastrdm.cli.printing import complain

if TYPE_CHECKING:
    from fastrdm.scoring import Store, StoredResult

_Draw = Callable[["Store", Sequence["StoredResult"], argparse.Namespace], Any]


def add_plot(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plot`."""
    parser.description = (
        "Draw the results of a store as a figure for a paper: "
        f"{'; '.join(f'{kind} ({purpose})' for kind, (purpose, _) in KINDS.items())}. Scores are in percent of the "
        "noise ceiling, with 95 %% intervals. Each measure, study and region has a panel."
    )
    add = parser.add_argument
    add("store", type=existing_name, metavar="SCORES.db")
    add("--kind", choices=tuple(KINDS), required=True, help="what to draw")
    output = "the figure; its ending is the format (.png, .pdf, .svg, ...)"
    add("-o", "--output", required=True, metavar="FILE", help=output)
    add("--regions", type=_names, metavar="A,B", help="only these regions")
    add("--sets", type=_names, metavar="A,B", help="only these studies")
    add("--measures", type=_names, metavar="A,B", help="only these measures, such as rsa,ridge")
    add("--layers", type=_names, metavar="A,B", help="only layers that match these patterns")
    checkpoint = "only checkpoints with this path, the end of a path, or a pattern such as '*seed0*'; may be repeated"
    add("--checkpoint", action="append", default=[], metavar="PATH", help=checkpoint)
    where = "only rows that meet a condition, as for `fastrdm table`; may be repeated"
    add("--where", action="append", default=[], metavar="EXPR", help=where)
    epoch = "label with the epochs, for epochs and figure5 (default: epoch)"
    add("--epoch-label", default="epoch", metavar="NAME", help=epoch)
    data = (
        "folders of the studies, for both bounds of noise ceilings and for RDMs of brains (default: $FASTRDM_DATA, "
        "else ../shared/data, if it is there)"
    )
    add("--data", type=existing_name, nargs="+", metavar="DIR", help=data)
    add("--title", default="", metavar="TEXT", help="title of the figure")
    parser.set_defaults(run=_plot)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _plot(arguments: argparse.Namespace) -> int:
    from fastrdm.plot import check_figure, write_figure
    from fastrdm.scoring import Store, read_results

    check_figure(arguments.output, "--output")
    check_writable_file(arguments.output, "--output")
    chosen = {name: getattr(arguments, name) for name in ("regions", "sets", "measures", "layers")}
    with Store(arguments.store) as store:
        found = read_results(store, where=arguments.where, **chosen)
        results = _of_checkpoints(found, arguments.checkpoint)
        if not results:
            raise ValueError(f"{arguments.store} has no results to draw, or none that meet --where")
        _, draw = KINDS[arguments.kind]
        figure = draw(store, results, arguments)
    complain(f"wrote {write_figure(figure, arguments.output)}")
    return 0


def _of_checkpoints(
    results: "Sequence[StoredResult]", patterns: Sequence[str]
) -> "Sequence[StoredResult]":
    if not patterns:
        return results
    paths = dict.fromkeys(r.checkpoint for r in results)
    wanted: set[str] = set()
    for pattern in patterns:
        found = {path for path in paths if _matches(path, pattern)}
        if not found:
            raise ValueError(f"no checkpoint matches {pattern!r}; {nearest_known(pattern, paths)}")
        wanted |= found
    return [r for r in results if r.checkpoint in wanted]


def _matches(path: str, pattern: str) -> bool:
    return any(
        each == pattern or each.endswith(f"/{pattern}") or fnmatch.fnmatchcase(each, pattern)
        for each in (path, printable(path))
    )


def _draw_layers(
    store: "Store", results: "Sequence[StoredResult]", arguments: argparse.Namespace
) -> Any:
    from fastrdm.plot import draw_panels, layers, panel_size, panels_of

    options: Any = {"ceilings": _ceilings(results, arguments), "size": panel_size(results)}
    groups = panels_of(_without_times(results))
    return draw_panels(layers, groups, title=arguments.title, **options)


def _draw_epochs(
    store: "Store", results: "Sequence[StoredResult]", arguments: argparse.Namespace
) -> Any:
    from fastrdm.plot import draw_panels, epochs, panels_of

    options: Any = {"ceilings": _ceilings(results, arguments), "epoch": arguments.epoch_label}
    groups = panels_of(_without_times(results))
    return draw_panels(epochs, groups, title=arguments.title, **options)


def _draw_time(
    store: "Store", results: "Sequence[StoredResult]", arguments: argparse.Namespace
) -> Any:
    from fastrdm.plot import draw_panels, panels_of, time

    # Without results of time points, the figure says why.
    groups = panels_of([r for r in results if r.time is not None] or results)
    return draw_panels(time, groups, title=arguments.title)


def _draw_figure4(
    store: "Store", results: "Sequence[StoredResult]", arguments: argparse.Namespace
) -> Any:
    from fastrdm.plot import draw_panels, figure4

    groups = _by_measure(_without_times(results), arguments.title)
    n_networks = len({(r.checkpoint, r.settings) for r in results})
    n_studies = len({r.study for r in results})
    size = (min(max(4.8, 2.0 + n_networks * max(0.3, 0.18 * n_studies)), 16), 4.0)
    return draw_panels(figure4, groups, size=size)


def _draw_figure5(
    store: "Store", results: "Sequence[StoredResult]", arguments: argparse.Namespace
) -> Any:
    from fastrdm.plot import draw_panels, figure5

    groups = _by_measure(_without_times(results), arguments.title)
    return draw_panels(figure5, groups, epoch=arguments.epoch_label)


def _draw_measures(
    store: "Store", results: "Sequence[StoredResult]", arguments: argparse.Namespace
) -> Any:
    from fastrdm.plot import draw_panels, measures

    return draw_panels(measures, {arguments.title: results}, size=(4.2, 4.4))


def _without_times(results: "Sequence[StoredResult]") -> "Sequence[StoredResult]":
    """The results without time points; if there are none, all, so that the figure says why it cannot be drawn."""
    return [r for r in results if r.time is None] or results


def _by_measure(
    results: "Sequence[StoredResult]", title: str
) -> "Mapping[str, Sequence[StoredResult]]":
    found: dict[str, list[StoredResult]] = {}
    for r in results:
        found.setdefault(r.measure, []).append(r)
    if len(found) == 1:
        return {title: results}
    return {f"{title} {measure}".strip(): group for measure, group in found.items()}


def _ceilings(
    results: "Sequence[StoredResult]", arguments: argparse.Namespace
) -> dict[tuple[str, str], tuple[float, float]]:
    """Both bounds of the noise ceiling where the studies are found and have the ceiling of the store."""
    from fastrdm.cli.outputs import ceilings_of
    from fastrdm.studies import collect_studies, find_data

    default = find_data()
    folders = [Path(folder) for folder in arguments.data or ([default] if default else [])]
    if not folders:
        return {}
    try:
        studies = collect_studies(folders, None, "both")
    except (ValueError, OSError) as error:
        if arguments.data:
            raise
        complain(f"fastrdm: warning: noise ceilings are drawn without bounds: {error_text(error)}")
        return {}
    names = {r.study for r in results}
    in_use = {(r.study, r.region): r.ceiling for r in results}
    bounds = ceilings_of([study for study in studies if study.name in names])
    return {
        place: both
        for place, both in bounds.items()
        if any(abs(in_use.get(place, -1.0) - each) < 1e-9 for each in both)
    }


KINDS: Mapping[str, tuple[str, _Draw]] = {
    "layers": ("scores by layer", _draw_layers),
    "epochs": ("scores over the epochs of training, a line for each layer", _draw_epochs),
    "figure4": ("the best layer of each network", _draw_figure4),
    "figure5": ("the best layer of each checkpoint over the epochs", _draw_figure5),
    "time": ("scores over time points", _draw_time),
    "measures": ("the scores by one measure against those by another", _draw_measures),
}
"""What each kind draws, and its function of an open store, results and arguments, which returns a Figure."""
