"""Figures of a store: its RDMs beside those of the brains, maps of them, comparisons of layers, two measures."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrdm._base import list_names, printable, square, warn_caller
from fastrdm.inference import compare_models
from fastrdm.plot.comparisons import compare, matrix_size
from fastrdm.plot.mds_maps import mds
from fastrdm.plot.rdm_maps import draw_colour_bar, rdm
from fastrdm.plot.series import short_names
from fastrdm.plot.stored_rdms import (
    Rdm,
    StoredLayer,
    brain_rdms,
    categories_of,
    check_studies_known,
    chosen_layers,
    has_stimuli_of,
    kept_rdms,
    mean_of_known,
)
from fastrdm.plot.style import new_panels, plain_text, shortened, styled
from fastrdm.scoring import RSA, Store, StoredResult
from fastrdm.studies import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_MAPS = 22
_MOST_COMPARED = 24
_MOST_POINTS = 60
_MOST_PANELS = 12
# Characters of a line of a panel's title.
_TITLE = 26
# Points of a map up to which all have their names.
_MOST_NAMES = 16
# Panels up to which stimuli are on the axes, and stimuli up to which their thumbnails are legible there.
_LARGE_PANELS = 6
_MOST_THUMBNAILS = 150


def figure_of_rdms(
    store: Store, results: Sequence[StoredResult], studies: Sequence[Study] = ()
) -> "Figure":
    """Draw the RDMs that a store keeps of layers beside those of the brains, a panel each.

    Stimuli whose names have categories, such as "face/3.png" or "face_3.png", are sorted by them; else they are
    thumbnails, if the panels are few. Of more than 22 layers, those of the best checkpoint are drawn, or the best of
    these, with a warning.

    Parameters
    ----------
    store : Store
        A store of a sweep that kept RDMs.
    results : sequence of StoredResult
        Which checkpoints and layers, regions and studies.
    studies : sequence of Study
        Where the brains are: a region's panel is the mean over its subjects. Without a study, or if the store was
        scored with other data, only layers are drawn.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the store keeps no RDMs of these results.
    MissingExtraError
        Without matplotlib.
    """
    layers = chosen_layers(results, _MOST_MAPS, "a figure of RDMs")
    kept = kept_rdms(store, layers, dict.fromkeys(r.study for r in results))
    known = check_studies_known(studies, kept)
    with_stimuli = {name: each for name, each in known.items() if has_stimuli_of(store, each)}
    drawn = [layer for of_study in kept.values() for layer in of_study]
    names = _names_of_layers(drawn, _TITLE)
    panels: list[tuple[list[str], Rdm, str]] = []
    for study, rdms in kept.items():
        several = [study] if len(kept) > 1 else []
        regions = dict.fromkeys(r.region for r in results if r.study == study)
        brains = brain_rdms(store, known[study], regions) if study in known else {}
        for region, subjects in brains.items():
            title = f"{region.upper()}, mean of {len(subjects)}"
            panels.append(([title, *several], mean_of_known(subjects, axis=0), study))
        panels += [([*names[layer], *several], each, study) for layer, each in rdms.items()]
    with styled():
        columns = min(5, len(panels))
        figure, axes = new_panels(len(panels), (2.1, 2.2), columns)
        for number, (ax, (lines, each, study)) in enumerate(zip(axes, panels, strict=True)):
            matrix, stimuli = _sorted(each, _stimuli(with_stimuli.get(study), len(panels)))
            rdm(matrix, colour_bar=False, ax=ax, **stimuli)
            # One line for each part: a panel is narrow.
            ax.set_title("\n".join(plain_text(line, _TITLE) for line in lines), fontsize=7.5)
            if number % columns:
                ax.set_yticklabels([])
        draw_colour_bar(axes, axes[0].images[0], ranked=True, has_nan=_has_nan(panels))
    return figure


def figure_of_comparisons(results: Sequence[StoredResult]) -> "Figure":
    """Draw which layers or checkpoints of a store differ, a matrix for each study, region and measure.

    Paired t-tests over subjects of the similarity to each subject, as `fastrdm.compare_models` makes them. Of more than
    24 layers, those of the best checkpoint are compared, or the best of these, with a warning. Layers without a
    similarity to each subject are left out with a warning. Results of time points are not used.

    Parameters
    ----------
    results : sequence of StoredResult
        Which checkpoints and layers, regions, studies and measures.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there are no two layers to compare, or more than 12 panels.
    MissingExtraError
        Without matplotlib.
    """
    results = [r for r in results if r.time is None]
    panels: dict[tuple[str, str, str], list[StoredResult]] = {}
    if results:
        layers = set(chosen_layers(results, _MOST_COMPARED, "a comparison"))
        for r in results:
            if StoredLayer(r.checkpoint, r.sha256, r.settings, r.layer) in layers:
                panels.setdefault((r.study, r.region, r.measure), []).append(r)
    tested = {
        place: known for place, own in panels.items() if len(known := _with_subjects(own)) > 1
    }
    if not tested:
        raise ValueError(
            "there are no two layers with the similarity to each of at least two subjects to compare"
        )
    if len(tested) > _MOST_PANELS:
        raise ValueError(
            f"a comparison has at most {_MOST_PANELS} panels, and {len(tested)} studies, regions and measures were"
            " chosen; choose some with --sets, --regions and --measures"
        )
    names = {place: _names_of_results(own) for place, own in tested.items()}
    widths, heights = zip(*map(matrix_size, names.values()), strict=True)
    with styled():
        size = (max(widths), max(heights))
        figure, axes = new_panels(len(tested), size, columns=min(2, len(tested)))
        for ax, ((study, region, measure), own) in zip(axes, tested.items(), strict=True):
            values = np.array([r.rho for r in own])
            parts = (study, region.upper(), "" if measure == RSA else measure)
            models = names[study, region, measure]
            result = compare_models(values, names=models)
            compare(result, names=models, title=", ".join(filter(None, parts)), ax=ax)
    return figure


def figure_of_maps(
    store: Store, results: Sequence[StoredResult], studies: Sequence[Study] = ()
) -> "Figure":
    """Draw the RDMs that a store keeps as points, with those of the subjects: a map for each study.

    The layers of a checkpoint are connected; of more than 16, the ends of each line have names. Of more than 60
    layers, those of the best checkpoint are drawn, or the best of these, with a warning. Pairs that an RDM lacks are
    left out of its comparisons.

    Parameters
    ----------
    store : Store
        A store of a sweep that kept RDMs.
    results : sequence of StoredResult
        Which checkpoints and layers, regions and studies.
    studies : sequence of Study
        Where the subjects are. Without a study, or if the store was scored with other data, only layers are drawn.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the store keeps no RDMs of these results, or fewer than three RDMs are left.
    MissingExtraError
        Without matplotlib.
    """
    layers = chosen_layers(results, _MOST_POINTS, "a map of RDMs")
    kept = kept_rdms(store, layers, dict.fromkeys(r.study for r in results))
    known = check_studies_known(studies, kept)
    with styled():
        figure, axes = new_panels(len(kept), (4.0, 4.2), columns=min(2, len(kept)))
        for ax, (study, rdms) in zip(axes, kept.items(), strict=True):
            short = short_names(layer.checkpoint for layer in rdms)
            several = len({layer.settings for layer in rdms}) > 1
            groups = [
                f"{short[layer.checkpoint]}{f', {layer.settings[:8]}' * several}" for layer in rdms
            ]
            lines, names = list(dict.fromkeys(groups)), _point_names(list(rdms), groups)
            stack = [np.asarray(each, np.float64) for each in rdms.values()]
            regions = dict.fromkeys(r.region for r in results if r.study == study)
            brains = brain_rdms(store, known[study], regions) if study in known else {}
            for region, subjects in brains.items():
                stack += list(subjects)
                groups += [f"subjects, {region.upper()}"] * len(subjects)
                names += [""] * len(subjects)
            if len(stack) < 3:
                raise ValueError(
                    f"a map needs at least three RDMs, and the study {printable(study)} has {len(stack)} of layers"
                    " and subjects"
                )
            mds(
                np.array(stack),
                names=names,
                groups=groups,
                connect=lines,
                nan_policy="omit",
                title=study if len(kept) > 1 else "",
                ax=ax,
            )
    return figure


def _names_of_layers(layers: Sequence[StoredLayer], most: int) -> dict[StoredLayer, list[str]]:
    """Parts of the names of layers: the layer, and the checkpoint and the settings where these differ."""
    layers = list(dict.fromkeys(layers))
    short = short_names(layer.checkpoint for layer in layers)
    several = len({(layer.checkpoint, layer.settings) for layer in layers}) > len(short)
    return {
        layer: [
            shortened(layer.layer, most),
            *([shortened(short[layer.checkpoint], most)] if len(short) > 1 else []),
            *([layer.settings[:8]] if several else []),
        ]
        for layer in layers
    }


def _names_of_results(results: Sequence[StoredResult]) -> list[str]:
    layers = [StoredLayer(r.checkpoint, r.sha256, r.settings, r.layer) for r in results]
    return [", ".join(parts) for parts in _names_of_layers(layers, 15).values()]


def _point_names(layers: Sequence[StoredLayer], groups: Sequence[str]) -> list[str]:
    """Names of all layers, or of the first and the last of each line if all would be too many."""
    n = len(layers)
    return [
        layer.layer
        if n <= _MOST_NAMES
        or i in (0, n - 1)
        or groups[i] != groups[i - 1]
        or groups[i] != groups[i + 1]
        else ""
        for i, layer in enumerate(layers)
    ]


def _with_subjects(results: Sequence[StoredResult]) -> list[StoredResult]:
    """The results with a finite similarity to each of at least two subjects; others are left out with a warning."""
    known = [r for r in results if len(r.rho) > 1 and all(map(math.isfinite, r.rho))]
    if unknown := [r.layer for r in results if len(r.rho) > 1 and r not in known]:
        warn_caller(
            f"{list_names(dict.fromkeys(unknown))} of {results[0].region} of {results[0].study} have no similarity to"
            " some subject, and are not compared"
        )
    return known


def _stimuli(study: Study | None, n_panels: int) -> dict[str, Any]:
    """What is drawn on the axes: categories, else thumbnails, else nothing."""
    if study is None:
        return {}
    if categories := categories_of(study.names):
        return {"categories": categories}
    is_legible = n_panels <= _LARGE_PANELS and len(study.stimuli) <= _MOST_THUMBNAILS
    return {"images": study.stimuli} if is_legible else {}


def _sorted(each: Rdm, stimuli: dict[str, Any]) -> tuple[Rdm, dict[str, Any]]:
    """An RDM with its conditions sorted by category, if they have one."""
    matrix = square(each)
    if "categories" not in stimuli:
        return matrix, stimuli
    names = list(dict.fromkeys(stimuli["categories"]))
    order = sorted(range(len(matrix)), key=lambda i: names.index(stimuli["categories"][i]))
    return matrix[np.ix_(order, order)], {"categories": [stimuli["categories"][i] for i in order]}


def _has_nan(panels: Sequence[tuple[list[str], Rdm, str]]) -> bool:
    return any(np.isnan(each).any() for _, each, _ in panels)
