"""`fastrdm plot`: the results of a store as a figure."""

import argparse
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import check_writable_file, error_text, existing_name, nearest_known, printable
from fastrdm.cli.json_output import add_json
from fastrdm.cli.printing import complain, echo_json

if TYPE_CHECKING:
    from fastrdm.scoring import Store, StoredResult
    from fastrdm.studies import Study

_Draw = Callable[["Store", Sequence["StoredResult"], argparse.Namespace], Any]


def add_plot(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plot`."""
    parser.description = (
        "Draw the results of a store as a figure for a paper: "
        f"{'; '.join(f'{name} ({kind.purpose})' for name, kind in KINDS.items())}. Scores are in percent of the "
        "noise ceiling, with 95 % intervals. Each measure, study and region has a panel."
    )
    add = parser.add_argument
    store = "a store; for stages and benchmarks, a file of `pytest --benchmark-json`"
    add("store", type=existing_name, metavar="SCORES.db", help=store)
    kinds = f"what to draw: {', '.join(KINDS)}"
    add("--kind", choices=tuple(KINDS), required=True, metavar="KIND", help=kinds)
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
    add_json(parser, "a JSON object with the path of the figure")
    parser.set_defaults(run=_plot)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _plot(arguments: argparse.Namespace) -> int:
    from fastrdm.plot import check_figure, write_figure

    check_figure(arguments.output, "--output")
    check_writable_file(arguments.output, "--output")
    kind = KINDS[arguments.kind]
    figure = kind.draw_file(arguments) if kind.draw_file else _figure_of_store(arguments, kind)
    path = write_figure(figure, arguments.output)
    complain(f"wrote {path}")
    if arguments.json:
        echo_json({"kind": arguments.kind, "path": str(path)})
    return 0


def _figure_of_store(arguments: argparse.Namespace, kind: "FigureKind") -> Any:
    from fastrdm.scoring import Store, read_results

    chosen = {name: getattr(arguments, name) for name in ("regions", "sets", "measures", "layers")}
    with Store(arguments.store) as store:
        found = read_results(store, where=arguments.where, **chosen)
        results = _of_checkpoints(found, arguments.checkpoint)
        if not results:
            raise ValueError(
                f"{arguments.store} has no results to draw, or none that the options choose"
            )
        return kind.draw(store, results, arguments)


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


def _draw_rdms(
    store: "Store", results: "Sequence[StoredResult]", arguments: argparse.Namespace
) -> Any:
    from fastrdm.plot import figure_of_rdms

    return _titled(figure_of_rdms(store, results, _studies(results, arguments)), arguments)


def _draw_comparisons(
    store: "Store", results: "Sequence[StoredResult]", arguments: argparse.Namespace
) -> Any:
    from fastrdm.plot import figure_of_comparisons

    return _titled(figure_of_comparisons(results), arguments)


def _draw_maps(
    store: "Store", results: "Sequence[StoredResult]", arguments: argparse.Namespace
) -> Any:
    from fastrdm.plot import figure_of_maps

    return _titled(figure_of_maps(store, results, _studies(results, arguments)), arguments)


def _draw_stages(arguments: argparse.Namespace) -> Any:
    from fastrdm.plot import figure_of_stages

    return _titled(figure_of_stages(arguments.store), arguments)


def _draw_benchmarks(arguments: argparse.Namespace) -> Any:
    from fastrdm.plot import figure_of_benchmarks

    return _titled(figure_of_benchmarks(arguments.store), arguments)


def _titled(figure: Any, arguments: argparse.Namespace) -> Any:
    from fastrdm.plot import plain_text

    if arguments.title:
        figure.suptitle(plain_text(arguments.title, 300), fontsize=9)
    return figure


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
    """Both bounds of the noise ceiling, where one of them is the ceiling of the store."""
    from fastrdm.cli.outputs import ceilings_of

    in_use = {(r.study, r.region): r.ceiling for r in results}
    return {
        place: bounds
        for place, bounds in ceilings_of(_studies(results, arguments)).items()
        if any(math.isclose(in_use.get(place, math.nan), bound) for bound in bounds)
    }


def _studies(results: "Sequence[StoredResult]", arguments: argparse.Namespace) -> "Sequence[Study]":
    """The studies of the results, of those in the folders given or in the default folder."""
    from fastrdm.studies import collect_studies, find_data

    default = find_data()
    folders = [Path(folder) for folder in arguments.data or ([default] if default else [])]
    if not folders:
        return []
    names = {r.study for r in results}
    try:
        studies = collect_studies(folders, modality="both")
    except (ValueError, OSError) as error:
        if arguments.data:
            raise
        complain(f"fastrdm: warning: drawn without brain data: {error_text(error)}")
        return []
    return [study for study in studies if study.name in names]


@dataclass(frozen=True)
class FigureKind:
    """A kind of figure: what it shows, and its function of an open store, results and arguments.

    `draw_file` draws a file that is not a store, from the arguments.
    """

    purpose: str
    draw: _Draw = _draw_layers
    draw_file: Callable[[argparse.Namespace], Any] | None = None


KINDS: Mapping[str, FigureKind] = {
    "rdm": FigureKind("the RDMs that a store keeps, beside those of brains", _draw_rdms),
    "layers": FigureKind("scores by layer", _draw_layers),
    "epochs": FigureKind("scores over the epochs of training, a line for each layer", _draw_epochs),
    "figure4": FigureKind("the best layer of each network", _draw_figure4),
    "figure5": FigureKind("the best layer of each checkpoint over the epochs", _draw_figure5),
    "compare": FigureKind("differences between layers, with significance", _draw_comparisons),
    "mds": FigureKind("a map of the RDMs of layers and subjects", _draw_maps),
    "time": FigureKind("scores over time points", _draw_time),
    "measures": FigureKind("scores by one measure against those by another", _draw_measures),
    "stages": FigureKind("where the time of benchmarks went", draw_file=_draw_stages),
    "benchmarks": FigureKind("how much faster contenders are", draw_file=_draw_benchmarks),
}
"""The kinds of figures."""
