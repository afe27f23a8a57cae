"""RDMs as heat maps, with categories or stimuli on the axes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_floats, condense, n_conditions, square
from fastrdm.plot.style import COLOURS, legend_text, new_axes, plain_text, styled
from fastrdm.plot.thumbnails import thumbnail_strip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Names of conditions that are still legible beside a map.
_MOST_LABELS = 60
# Share of the axis that a bar needs for its name.
_NAMED = 0.04
_NO_VALUE = "0.75"


def rdm(
    rdm: ArrayLike,
    *,
    ranked: bool = True,
    categories: Sequence[object] | NDArray[Any] | None = None,
    images: Sequence[Any] | None = None,
    labels: Sequence[object] | None = None,
    title: str = "",
    colour_bar: bool = True,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw an RDM as a heat map.

    Parameters
    ----------
    rdm : array_like, shape (n, n) or (pairs,)
        Dissimilarities of n conditions. NaN (also masked) is grey.
    ranked : bool
        Whether colours are percentiles of the dissimilarities, 0 for the smallest and 100 for the largest (ties have
        their mean), as in most papers; else the dissimilarities themselves.
    categories : sequence, length n, optional
        The category of each condition, as coloured bars on both axes. Conditions keep their order; a category of
        conditions that are not neighbours has several bars.
    images : sequence of path, PIL image or uint8 array (h, w, 3), length n, optional
        The stimuli, as thumbnails on both axes, in several rows if there are many; not together with `categories`.
    labels : sequence of str, length n, optional
        Names of the conditions, for up to 60 of them.
    title : str
        Title of the Axes.
    colour_bar : bool
        Whether the figure has a colour bar.
    ax : Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    Axes
        Its x and y are numbers of conditions, 0 at the top left. Bars and thumbnails are at negative numbers.

    Raises
    ------
    ValueError
        If the array is not one RDM, a value is infinite, all are NaN, the other arguments have another length than the
        RDM has conditions, there are too many of them to be legible, or an image cannot be read.
    MissingExtraError
        Without matplotlib, or for thumbnails without Pillow.

    Examples
    --------
    >>> import numpy as np, fastrdm.plot
    >>> activations = np.random.default_rng(0).random((6, 50), np.float32)
    >>> axes = fastrdm.plot.rdm(fastrdm.calc_rdm(activations), categories=["face"] * 3 + ["place"] * 3)
    """
    condensed = _condensed(rdm)
    n = n_conditions(condensed.shape[0], "rdm")
    _check_lengths(n, categories=categories, images=images, labels=labels)
    if categories is not None and images is not None:
        raise ValueError("categories and images share the axes of an RDM; pass one of them")
    if categories is not None and len(set(map(str, categories))) > _MOST_LABELS:
        raise ValueError(
            f"categories has {len(set(map(str, categories)))} names; at most {_MOST_LABELS} are legible"
        )
    if labels is not None and n > _MOST_LABELS:
        raise ValueError(f"labels of {n} conditions are illegible; at most {_MOST_LABELS} are")
    strip = thumbnail_strip(images) if images is not None else None
    with styled():
        axes = new_axes((3.6, 3.1)) if ax is None else ax
        matrix = square(percentiles_of(condensed) if ranked else condensed)
        # The diagonal is zero by definition, and not among the ranked pairs.
        np.fill_diagonal(matrix, 0 if ranked else min(0, np.nanmin(condensed)))
        mapped = _draw_map(axes, matrix, (0, 100) if ranked else None)
        width = 0.0
        if categories is not None:
            width = _draw_bars(axes, [str(each) for each in categories])
        elif strip is not None:
            width = strip.draw(axes)
        axes.set_xlim(-width, n)
        axes.set_ylim(n, -width)
        if labels is not None:
            texts, places = [plain_text(each, 24) for each in labels], np.arange(n) + 0.5
            axes.set_xticks(places, texts, rotation=90)
            axes.set_yticks(places, texts)
        if title:
            axes.set_title(plain_text(title))
        if colour_bar:
            draw_colour_bar([axes], mapped, ranked=ranked, has_nan=bool(np.isnan(condensed).any()))
    return axes


def percentiles_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the percentile of each value (0 smallest, 100 largest, mean of ties, 50 if all are equal); NaN stays."""
    out = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    _, which, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts + 1) / 2
    n = int(counts.sum())
    out[known] = 100 * ranks[which] / (n - 1) if n > 1 else 50.0
    return out


def _condensed(rdm: ArrayLike) -> NDArray[Any]:
    array = as_floats(rdm, "rdm", masked_as_nan=True)
    if array.ndim not in (1, 2):
        raise ValueError(
            f"rdm has shape {array.shape}; one RDM is (n, n) or condensed, (n (n - 1) / 2,)"
        )
    condensed = condense(array, "rdm") if array.ndim == 2 else array
    if np.isinf(condensed).any():
        raise ValueError(f"rdm with shape {array.shape} has infinite values")
    if np.isnan(condensed).all():
        raise ValueError(f"rdm with shape {array.shape} has no value; all are NaN")
    return condensed


def _check_lengths(n: int, **arguments: Sequence[Any] | NDArray[Any] | None) -> None:
    for name, values in arguments.items():
        if values is not None and len(values) != n:
            raise ValueError(f"rdm has {n} conditions, but {name} has {len(values)}")


def _draw_map(axes: Any, matrix: NDArray[Any], limits: tuple[float, float] | None) -> Any:
    from matplotlib import colormaps

    low, high = limits or (np.nanmin(matrix), np.nanmax(matrix))
    n = len(matrix)
    mapped = axes.imshow(
        matrix,
        cmap=colormaps["viridis"].with_extremes(bad=_NO_VALUE),
        vmin=low,
        vmax=high,
        extent=(0, n, n, 0),
        interpolation="nearest",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return mapped


def _draw_bars(axes: Any, categories: Sequence[str]) -> float:
    """Draw a bar for each run of a category on both axes, and their names; return the width in conditions."""
    n = len(categories)
    width, gap = 0.035 * n, 0.012 * n
    starts = [i for i in range(n) if i == 0 or categories[i] != categories[i - 1]]
    runs = list(zip(starts, [*starts[1:], n], strict=True))
    names = list(dict.fromkeys(categories))
    handles = {}
    for start, end in runs:
        name = categories[start]
        colour, hatch = _bar_style(names.index(name))
        style = {"facecolor": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.3}
        handles[name] = axes.broken_barh([(start, end - start)], (-width - gap, width), **style)
        axes.broken_barh([(-width - gap, width)], (start, end - start), **style)
    if len(runs) == len(names) and min(end - start for start, end in runs) >= _NAMED * n:
        axes.set_yticks([sum(run) / 2 for run in runs], [plain_text(name, 24) for name in names])
    else:
        # Names would overlap, or stand for one of several bars.
        texts = [legend_text(name, 24) for name in handles]
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.02), "ncols": 3}
        axes.legend(handles.values(), texts, handlelength=1, columnspacing=1, **below)
    return width + gap


def _bar_style(number: int) -> tuple[str, str]:
    """Colour and hatching of a category; hatching distinguishes categories with the same colour."""
    hatches = ("", "///", "...", "xxx", "---", "|||", "ooo", "++")
    return COLOURS[number % len(COLOURS)], hatches[number // len(COLOURS) % len(hatches)]


def draw_colour_bar(axes: Sequence[Any], mapped: Any, *, ranked: bool, has_nan: bool) -> None:
    """Draw the colour bar of one or several maps."""
    figure = axes[0].figure
    # As high as one map, also beside several rows of them.
    shrink = min(0.75, 2.5 * figure.dpi / figure.bbox.height)
    bar = figure.colorbar(mapped, ax=axes, shrink=shrink, pad=0.03)
    bar.outline.set_visible(False)
    what = "dissimilarity"
    if ranked:
        bar.set_ticks([0, 50, 100], labels=["0\nmost similar", "50", "100\nleast similar"])
        what = "dissimilarity (percentile)"
    bar.set_label(f"{what}; grey: no value" if has_nan else what)
