"""RDMs of layers, models and subjects as points in one plane."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_rdms, condense, in_order_of, names_of, printable
from fastrdm.plot.point_names import draw_names
from fastrdm.plot.scaling import scale
from fastrdm.plot.style import COLOURS, legend_text, new_axes, plain_text, styled
from fastrdm.similarity import compare

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 2000
_MARKERS = "osD^vP*X"


def mds(
    rdms: ArrayLike | Mapping[str, ArrayLike],
    *,
    names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    connect: Collection[str] = (),
    method: str = "spearman",
    nan_policy: str = "raise",
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw RDMs as points: the more similar two RDMs, the nearer their points.

    The distance of two RDMs is 1 − similarity, and points are placed by metric multidimensional scaling (SMACOF from
    the classical solution, without random numbers). The note below the Axes has Kruskal's stress, 0 if the plane shows
    all distances exactly.

    Parameters
    ----------
    rdms : array_like, shape (n, pairs) or (n, k, k), or dict of RDMs
        At least three RDMs over the same conditions in the same order, such as those of layers and of subjects.
    names : sequence of str, length n, optional
        Texts beside the points, empty for none; by default the dict's keys.
    groups : sequence of str, length n, optional
        The group of each RDM, such as a network or the subjects of a region: a colour and a marker, in the legend.
    connect : collection of str, optional
        Groups whose points are connected by a line in their order, such as layers.
    method : str
        Similarity, as in `fastrdm.compare`.
    nan_policy : str
        As in `fastrdm.compare`.
    title : str
        Title of the Axes.
    ax : Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    Axes
        Its units are those of the distances.

    Raises
    ------
    ValueError
        As `fastrdm.compare`; if there are fewer than three RDMs or more than 2,000, an RDM has no similarity to
        another (it is named), or names and groups have another length or are unknown.
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np, fastrdm.plot
    >>> rdms = np.random.default_rng(0).random((5, 45))
    >>> axes = fastrdm.plot.mds(rdms, groups=["network"] * 2 + ["subjects"] * 3, connect=["network"])
    """
    names = names_of(rdms) if names is None else list(map(str, names))
    stack = as_rdms(rdms, "rdms")
    is_square = stack.ndim == 3
    stack = condense(stack, "rdms") if is_square else stack
    if stack.ndim != 2 or not 3 <= len(stack) <= _MOST:
        raise ValueError(
            f"rdms has shape {stack.shape}; a map needs 3 to {_MOST:,} RDMs, (n, pairs) or (n, k, k)"
        )
    stack, _ = in_order_of(stack, rdms, "rdms", None, square=is_square)
    n = len(stack)
    for argument, values in {"names": names, "groups": groups}.items():
        if values is not None and len(values) != n:
            raise ValueError(f"there are {n} RDMs, but {argument} has {len(values)}")
    groups = [""] * n if groups is None else list(map(str, groups))
    if unknown := [each for each in connect if each not in groups]:
        raise ValueError(f"connect has {unknown[0]!r}, which is not in groups")
    similarities = compare(stack, stack, method, nan_policy=nan_policy)
    positions, stress = scale(_distances(similarities, names))
    with styled():
        axes = new_axes((3.8, 3.6)) if ax is None else ax
        _draw_points(axes, positions, groups, connect)
        # A square with room for names, whatever the shape of the cloud.
        centres = (positions.max(axis=0) + positions.min(axis=0)) / 2
        half = 0.58 * np.ptp(positions, axis=0).max() or 1
        axes.set_aspect("equal")
        axes.set_xlim(centres[0] - half, centres[0] + half)
        axes.set_ylim(centres[1] - half, centres[1] + half)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)
        axes.set_xlabel(
            f"distance: 1 − {plain_text(method)} similarity; stress {stress:.2f}", fontsize=7
        )
        if title:
            axes.set_title(plain_text(title))
        if any(groups):
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.08), "ncols": 2}
            axes.legend(columnspacing=1, handletextpad=0.2, **below)
        if names is not None:
            lines = [positions[[each == group for each in groups]] for group in connect]
            draw_names(axes, positions, [plain_text(name, 24) for name in names], lines=lines)
    return axes


def _distances(similarities: NDArray[Any], names: Sequence[str] | None) -> NDArray[np.float64]:
    """1 − similarity, symmetric to the bit, 0 on the diagonal; similarities of rounded RDMs may exceed 1."""
    undefined = np.isnan(similarities)
    if undefined.any():
        # An RDM without similarity to anything has the most of them.
        k = int(undefined.sum(axis=1).argmax())
        name = f"RDM {k}" + (f" ({printable(names[k])})" if names else "")
        raise ValueError(
            f"{name} has no similarity to another RDM, for example because it is constant"
        )
    distances = np.maximum(1 - (similarities + similarities.T) / 2, 0)
    np.fill_diagonal(distances, 0)
    return np.asarray(distances)


def _draw_points(
    axes: Any, positions: NDArray[Any], groups: Sequence[str], connect: Collection[str]
) -> None:
    for number, group in enumerate(dict.fromkeys(groups)):
        x, y = positions[[each == group for each in groups]].T
        colour = COLOURS[number % len(COLOURS)]
        if group in connect:
            axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.6, zorder=1)
        axes.scatter(
            x,
            y,
            s=22,
            color=colour,
            marker=_MARKERS[number % len(_MARKERS)],
            edgecolors="white",
            linewidths=0.4,
            label=legend_text(group, 32) if group else None,
            zorder=2,
        )
