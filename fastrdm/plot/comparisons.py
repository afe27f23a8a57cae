"""Comparisons of models as a matrix, with marks of significance."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_fraction, n_conditions
from fastrdm.inference import TestResult
from fastrdm.plot.style import new_axes, plain_text, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 80
# Models up to which each cell has its number.
_NUMBERED = 10
# Characters of a name, and what one takes, in inches.
_LONGEST = 32
_CHARACTER = 0.06


def compare(
    result: TestResult,
    *,
    names: Sequence[str] | None = None,
    alpha: float = 0.05,
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the differences between models as a matrix, with stars where they are significant.

    A cell is the row's estimate minus the column's. Stars are for corrected p values: ``*`` below `alpha`, ``**`` below
    `alpha` / 5, and ``***`` below `alpha` / 50 (0.05, 0.01 and 0.001).

    Parameters
    ----------
    result : TestResult
        All pairs of models, from `compare_models`, or from `Bootstrap.compare_models`.
    names : sequence of str, optional
        Names of the models; by default those in the result.
    alpha : float
        Level of significance, between 0 and 1.
    title : str
        Title of the Axes.
    ax : Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the result is not of all pairs of models, there are more than 80 models, or the number of names or the level
        is wrong.
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np, fastrdm.plot
    >>> rho = np.random.default_rng(0).normal([[0.1], [0.15], [0.3]], 0.05, (3, 12))
    >>> result = fastrdm.compare_models(rho, names=["conv1", "conv2", "fc"])
    >>> axes = fastrdm.plot.compare(result)
    """
    check_fraction(alpha, "alpha")
    models = _models(result, names)
    n = len(models)
    if n > _MOST:
        raise ValueError(f"a matrix of {n} models is illegible; at most {_MOST} are legible")
    first, second = np.triu_indices(n, 1)
    differences, p = np.full((2, n, n), np.nan)
    differences[first, second], differences[second, first] = result.estimate, -result.estimate
    p[first, second] = p[second, first] = result.p_corrected
    with styled():
        axes = new_axes(matrix_size(models)) if ax is None else ax
        _draw_cells(axes, differences, p, alpha)
        texts = [plain_text(name, _LONGEST) for name in models]
        axes.set_xticks(range(n), texts, rotation=90 if max(map(len, texts)) > 4 else 0)
        axes.set_yticks(range(n), texts)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if title:
            axes.set_title(plain_text(title))
        axes.set_xlabel(_note(result, alpha), fontsize=6.5)
    return axes


def matrix_size(models: Sequence[str]) -> tuple[float, float]:
    """Width and height, in inches, of a matrix of models with their names, the colour bar and the note."""
    cells = max(1.2, (0.24 if len(models) > _NUMBERED else 0.42) * len(models))
    names = _CHARACTER * min(_LONGEST, max(map(len, models), default=0))
    return cells + names + 1.0, cells + names + 0.7


def _draw_cells(axes: Any, differences: NDArray[Any], p: NDArray[Any], alpha: float) -> None:
    largest = np.nanmax(np.abs(differences), initial=0) or 1
    mapped = axes.imshow(differences, cmap="RdBu_r", vmin=-largest, vmax=largest)
    n, decimals = len(differences), max(2, 1 - math.floor(math.log10(largest)))
    for (i, j), difference in np.ndenumerate(differences):
        stars = "".join("*" for factor in (1, 5, 50) if p[i, j] < alpha / factor)
        number = (
            f"{difference:+.{decimals}f}".replace("-", "−") if n <= _NUMBERED and i != j else ""
        )
        if text := "\n".join(filter(None, (number, stars))):
            colour = "white" if abs(difference) > 0.65 * largest else "black"
            size = 7 if n <= _NUMBERED else max(3.0, 7 - 0.05 * n)
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
    bar = axes.figure.colorbar(mapped, ax=axes, shrink=0.75, pad=0.03)
    bar.outline.set_visible(False)
    bar.set_label("row − column")


def _note(result: TestResult, alpha: float) -> str:
    corrected = {None: "uncorrected", "fdr_bh": "corrected for the false discovery rate"}
    how = corrected.get(result.correction, f"corrected by {result.correction}")
    levels = ", ".join(f"{'*' * (k + 1)} p < {alpha / f:g}" for k, f in enumerate((1, 5, 50)))
    return f"{plain_text(result.test)}, {how}\n{levels}"


def _models(result: TestResult, names: Sequence[str] | None) -> list[str]:
    """Names of the compared models."""
    n_pairs = len(result.names)
    try:
        n = n_conditions(n_pairs)
    except ValueError:
        n = 0
    if not n or result.against != "each other":
        raise ValueError(
            f"result has {n_pairs} tests against {result.against};"
            " a matrix needs those of all pairs of models, from compare_models"
        )
    if names is not None:
        if len(names) != n:
            raise ValueError(f"result compares {n} models, but there are {len(names)} names")
        return list(map(str, names))
    found = _split(result.names, n)
    if found is None:
        raise ValueError(
            f"result has names of pairs, such as {result.names[0]!r}, from which those of the {n} models do not"
            " follow; pass names"
        )
    return found


def _split(pairs: Sequence[str], n: int) -> list[str] | None:
    """Names of n models from those of all pairs, "a - b"; None if no names, or several, have these pairs."""
    parts = pairs[0].split(" - ")
    possible = []
    for k in range(1, len(parts)):
        first = " - ".join(parts[:k])
        models = [first, *(pair.removeprefix(f"{first} - ") for pair in pairs[: n - 1])]
        if all(
            pair == f"{models[i]} - {models[j]}"
            for pair, i, j in zip(pairs, *np.triu_indices(n, 1), strict=True)
        ):
            possible.append(models)
    return possible[0] if len(possible) == 1 else None
