"""Metrics and ceilings with the interface and the conventions of Brain-Score, on the kernels of fastrdm.

Assemblies are xarray objects (presentation, neuroid) with a coordinate of the stimuli, or what `fastrdm.read_responses`
reads as such. Scores are `brainscore_core.metrics.Score` where brainscore_core is installed, else
`xarray.DataArray`, with the raw values and the error of the mean in their attributes.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_floats, check_choice, check_integer, list_names, require
from fastrdm.encoding import Responses
from fastrdm.rdm import calc_rdm, gram
from fastrdm.responses import Assembly, assembly_of, check_same_stimuli, responses_of
from fastrdm.similarity import cka, compare

__all__ = [
    "CkaMetric",
    "PredictivityMetric",
    "RdmMetric",
    "activations_assembly",
    "explained_variance",
    "internal_consistency",
]

Floats = NDArray[np.float64]

_REGRESSIONS = ("pls", "ridge")
_STRATA = "object_name"
_PURPOSE = "to divide stimuli as Brain-Score does"


class RdmMetric:
    """Spearman's correlation of the RDMs of two assemblies, as Brain-Score's metrics ``rdm`` and ``rdm_cv``.

    RDMs are by correlation, over all neuroids, of the mean over the presentations of each stimulus. Stimuli are matched
    by name.

    Parameters
    ----------
    method : str
        How RDMs are compared, as in `fastrdm.compare`.
    stimulus : str, optional
        Coordinate that names the stimuli; by default ``stimulus_id``, ``image_id`` or another name of `read_responses`.
    crossvalidated : bool
        Whether the score is the mean over ten random choices of 90 % of the stimuli, as ``rdm_cv``.
    stratify : str or None
        Coordinate whose values these choices balance, as in Brain-Score; None balances nothing.
    """

    def __init__(
        self,
        method: str = "spearman",
        *,
        stimulus: str | None = None,
        crossvalidated: bool = False,
        stratify: str | None = _STRATA,
    ) -> None:
        self.method, self.stimulus = method, stimulus
        self.crossvalidated, self.stratify = crossvalidated, stratify

    def __call__(self, assembly1: Any, assembly2: Any) -> Any:
        """Compare two assemblies; return their score.

        Raises
        ------
        ValueError
            If an object is not an assembly, the stimuli differ (the message names them), or a value is missing.
        """
        return _compared(self, assembly1, assembly2, self._similarity)

    def _similarity(self, first: Floats, second: Floats) -> float:
        pair = calc_rdm(first)[None], calc_rdm(second)[None]
        return float(compare(*pair, self.method)[0, 0])


class CkaMetric:
    """Linear CKA of two assemblies, as Brain-Score's metrics ``cka`` and ``cka_cv``.

    Parameters
    ----------
    unbiased : bool
        Whether to use the unbiased estimator, Brain-Score's default. It is 0 where an estimate of a self-similarity is
        not positive.
    stimulus, crossvalidated, stratify
        As for `RdmMetric`.
    """

    def __init__(
        self,
        unbiased: bool = True,
        *,
        stimulus: str | None = None,
        crossvalidated: bool = False,
        stratify: str | None = _STRATA,
    ) -> None:
        self.unbiased, self.stimulus = unbiased, stimulus
        self.crossvalidated, self.stratify = crossvalidated, stratify

    def __call__(self, assembly1: Any, assembly2: Any) -> Any:
        """Compare two assemblies; return their score. Errors are those of `RdmMetric`."""
        return _compared(self, assembly1, assembly2, self._similarity)

    def _similarity(self, first: Floats, second: Floats) -> float:
        with np.errstate(invalid="ignore", divide="ignore"):
            found = float(cka(gram(first), gram(second), self.unbiased)[0, 0])
        return 0.0 if np.isnan(found) and self.unbiased else found


class PredictivityMetric:
    """Correlation of held-out responses with their predictions, as Brain-Score's metrics ``pls`` and ``ridge``.

    In each random split of the stimuli, a regression of the neuroids of the second assembly on those of the first is
    fitted to 90 %, and Pearson's r of each neuroid computed on the others. The score is the mean over splits of the
    median over neuroids, as ``CrossRegressedCorrelation`` computes it, with the same splits.

    Parameters
    ----------
    regression : {"pls", "ridge"}
        ``PLSRegression(n_components, scale=False)`` of all neuroids, or ``Ridge(alpha)``.
    alpha : float
        Penalty of ``"ridge"``.
    n_components : int
        Components of ``"pls"``.
    splits : int
        Number of random splits.
    train_size : float
        Share of the stimuli to which regressions are fitted.
    stratify : str or None
        Coordinate of the second assembly whose values the splits balance; None balances nothing.
    stimulus : str, optional
        As for `RdmMetric`.
    seed : int
        Of the splits; 1 in Brain-Score.
    """

    def __init__(
        self,
        regression: str = "pls",
        *,
        alpha: float = 1.0,
        n_components: int = 25,
        splits: int = 10,
        train_size: float = 0.9,
        stratify: str | None = _STRATA,
        stimulus: str | None = None,
        seed: int = 1,
    ) -> None:
        check_choice(regression, _REGRESSIONS, "regression")
        check_integer(splits, "splits", 1)
        if not 0 < train_size < 1:
            raise ValueError(f"train_size = {train_size} must be between 0 and 1")
        self.regression, self.alpha, self.n_components = regression, alpha, n_components
        self.splits, self.train_size, self.seed = splits, train_size, seed
        self.stratify, self.stimulus = stratify, stimulus

    def __call__(self, assembly1: Any, assembly2: Any) -> Any:
        """Predict the second assembly from the first; return the score.

        Its attribute ``raw`` has r of each split and neuroid, ``error`` the standard error of the mean over splits.

        Raises
        ------
        ValueError
            As for `RdmMetric`, or if the second assembly lacks the coordinate of `stratify`, or a split leaves too few
            stimuli.
        """
        first, second = _assemblies(assembly1, assembly2)
        source, target, names = _matched(first, second, self.stimulus)
        strata = _strata(second, names, self.stimulus, self.stratify)
        splits = _splits(
            len(names), self.splits, strata, train_size=self.train_size, seed=self.seed
        )
        products, responses = gram(source), Responses(target)
        options: dict[str, Any] = (
            {"alphas": (self.alpha,)}
            if self.regression == "ridge"
            else {"n_components": self.n_components}
        )
        raw = []
        for _, test in splits:
            # -1: always for training.
            folds = np.full(len(names), -1)
            folds[test] = 0
            score = responses.score(products, self.regression, folds=folds, **options)
            raw.append(np.asarray(score.r_folds)[0, 0, 0])
        coords = {name: ("neuroid", each) for name, each in second.units.items()}
        return _aggregated(np.stack(raw), ("split", "neuroid"), coords)


def internal_consistency(
    assembly: Any, *, splits: int = 10, stimulus: str | None = None, seed: int = 1
) -> Any:
    """Compute the ceiling of an assembly with repeats, as Brain-Score's ``internal_consistency``.

    In each split, the repetitions are divided at random into two halves; r of the means of both, with the
    Spearman-Brown correction 2 r / (1 + r), is computed for each neuroid. The score is the mean over splits of the
    median over neuroids.

    Parameters
    ----------
    assembly : xarray.DataArray, AnnData
        (presentation, neuroid) with a coordinate ``repetition``, or a synonym.
    splits : int
        Number of random splits.
    stimulus : str, optional
        As for `RdmMetric`.
    seed : int
        Of the splits; 1 in Brain-Score.

    Returns
    -------
    Score
        With ``raw`` (split, neuroid) and ``error``.

    Raises
    ------
    ValueError
        If the object is not an assembly, or has one repeat only.
    """
    check_integer(splits, "splits", 1)
    table = _assembly(assembly, "assembly")
    array = responses_of(table, stimulus=stimulus, pooled=True).arrays[0].astype(np.float64)
    if len(array) < 2:
        raise ValueError(
            f"{table.name} has one repeat of each stimulus; a ceiling needs two or more"
        )
    raw = []
    for halves in _splits(len(array), splits, None, train_size=0.5, seed=seed):
        first, second = (_means(array[half], table) for half in halves)
        r = _correlations(first, second)
        raw.append(2 * r / (1 + r))
    coords = {name: ("neuroid", each) for name, each in table.units.items()}
    return _aggregated(np.stack(raw), ("split", "neuroid"), coords)


def explained_variance(score: Any, ceiling: Any) -> Any:
    """Return the share of the explainable variance, score² / ceiling, as Brain-Score's function of this name.

    Parameters
    ----------
    score, ceiling : Score or float
        Of a metric of correlations, and of `internal_consistency`.

    Returns
    -------
    Score
        With the attributes ``raw`` (the score that was passed), ``ceiling``, and ``error`` if the score has it.
    """
    value = float(np.asarray(score)) ** 2 / float(np.asarray(ceiling))
    attributes = {"raw": score, "ceiling": ceiling}
    error = getattr(score, "attrs", {}).get("error")
    return _score(value, attrs=attributes if error is None else {"error": error, **attributes})


def activations_assembly(
    activations: ArrayLike, stimuli: Sequence[str], *, layer: str = "", **coordinates: ArrayLike
) -> Any:
    """Return activations as an assembly that metrics of Brain-Score take.

    Parameters
    ----------
    activations : array_like, shape (stimuli, channels, ...)
        Of one layer.
    stimuli : sequence of str
        Identifiers of the stimuli, the coordinate ``stimulus_id``.
    layer : str
        Name of the layer, a coordinate of the neuroids.
    **coordinates : array_like, shape (stimuli,)
        Other coordinates of the stimuli, such as ``object_name``.

    Returns
    -------
    xarray.DataArray
        (presentation, neuroid); a ``NeuroidAssembly`` where brainscore_core is installed.

    Raises
    ------
    ValueError
        If there are not as many identifiers or values of a coordinate as rows.
    """
    array = as_floats(activations, "activations")
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"activations have shape {array.shape}; expected (stimuli, channels, ...)")
    flat = array.reshape(len(array), -1)
    for name, values in {"stimuli": stimuli, **coordinates}.items():
        if len(np.asarray(values)) != len(flat):
            raise ValueError(
                f"{name} has {len(np.asarray(values))} values, but activations have {len(flat)} rows, shape"
                f" {array.shape}"
            )
    n_units = flat.shape[1]
    coords: dict[str, Any] = {
        "stimulus_id": ("presentation", np.asarray(stimuli, str)),
        # Brain-Score makes an index of two coordinates or more.
        "stimulus_num": ("presentation", np.arange(len(flat))),
        **{name: ("presentation", np.asarray(each)) for name, each in coordinates.items()},
        "neuroid_id": ("neuroid", np.array([f"{layer}.{i}".lstrip(".") for i in range(n_units)])),
        "neuroid_num": ("neuroid", np.arange(n_units)),
        "layer": ("neuroid", np.full(n_units, layer)),
    }
    kind = _kind("supported_data_standards.brainio.assemblies", "NeuroidAssembly")
    return kind(flat, coords=coords, dims=("presentation", "neuroid"))


def _compared(
    metric: RdmMetric | CkaMetric,
    assembly1: Any,
    assembly2: Any,
    similarity: Callable[[Floats, Floats], float],
) -> Any:
    first, second = _assemblies(assembly1, assembly2)
    source, target, names = _matched(first, second, metric.stimulus)
    if not metric.crossvalidated:
        return _score(similarity(source, target))
    strata = _strata(second, names, metric.stimulus, metric.stratify)
    # Brain-Score names it the size of the test.
    splits = _splits(len(names), 10, strata, test_size=0.9, seed=1)
    raw = np.array([similarity(source[test], target[test]) for _, test in splits])
    return _aggregated(raw, ("split",), {})


def _assemblies(assembly1: Any, assembly2: Any) -> tuple[Assembly, Assembly]:
    return _assembly(assembly1, "assembly1"), _assembly(assembly2, "assembly2")


def _assembly(values: Any, name: str) -> Assembly:
    found = assembly_of(values, name)
    if found is None:
        dims = getattr(values, "dims", None)
        what = f"the axes ({', '.join(map(str, dims))})" if dims else "no named axes"
        raise ValueError(
            f"{name} is a {type(values).__name__} with {what}; expected an assembly (presentation, neuroid) with a"
            " coordinate of its stimuli, such as stimulus_id, or an AnnData object"
        )
    return found


def _matched(
    first: Assembly, second: Assembly, stimulus: str | None
) -> tuple[Floats, Floats, list[str]]:
    """Return the means of both (stimuli, neuroids) in the order of the second, and the names of the stimuli."""
    names = list(dict.fromkeys(second.stimuli(stimulus).tolist()))
    check_same_stimuli(first.stimuli(stimulus), names, first, second)
    means = []
    for table in (first, second):
        found = responses_of(table, stimulus=stimulus, pooled=True, order=names)
        means.append(_means(found.arrays[0], table))
    return means[0], means[1], names


def _means(array: NDArray[Any], table: Assembly) -> Floats:
    """Return the means over repeats; ValueError if a stimulus lacks a response."""
    missing = np.isnan(array).all(axis=0)
    if missing.any():
        row, unit = np.argwhere(missing)[0]
        raise ValueError(
            f"{table.name} has no response of neuroid {unit} to stimulus {row} in the repeats that are averaged"
        )
    return np.asarray(np.nanmean(array, axis=0, dtype=np.float64))


def _strata(
    table: Assembly, names: Sequence[str], stimulus: str | None, given: str | None
) -> NDArray[Any] | None:
    if given is None:
        return None
    if given not in table.rows:
        raise ValueError(
            f"{table.name} has no coordinate {given!r} to balance splits by; its rows have"
            f" {list_names(table.rows, 12)}; stratify=None balances nothing"
        )
    stimuli, values = table.stimuli(stimulus).tolist(), table.rows[given]
    return np.asarray([values[stimuli.index(name)] for name in names]).astype(str)


def _splits(
    n: int, n_splits: int, strata: NDArray[Any] | None, *, seed: int, **sizes: float
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return training and test indices of random splits, those of scikit-learn's classes, as Brain-Score has them."""
    selection = require("sklearn.model_selection", "brainscore", _PURPOSE)
    kind = selection.ShuffleSplit if strata is None else selection.StratifiedShuffleSplit
    splitter = kind(n_splits=n_splits, random_state=seed, **sizes)
    return list(splitter.split(np.zeros(n), strata))


def _correlations(first: Floats, second: Floats) -> Floats:
    """Return Pearson's r of each column; NaN for constant ones."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    norms = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((first * second).sum(axis=0) / norms)


def _aggregated(raw: Floats, dims: tuple[str, ...], coords: dict[str, Any]) -> Any:
    """Return the mean over splits of the median over neuroids, with the raw values and the error."""
    medians = raw if raw.ndim == 1 else np.nanmedian(raw, axis=1)
    coords = {"split": ("split", np.arange(len(raw))), **coords}
    return _score(
        float(np.nanmean(medians)),
        attrs={
            "raw": _score(raw, dims=dims, coords=coords),
            "error": _score(float(np.nanstd(medians) / np.sqrt(len(medians)))),
        },
    )


def _score(value: Any, attrs: dict[str, Any] | None = None, **options: Any) -> Any:
    found = _kind("metrics", "Score")(value, **options)
    found.attrs.update(attrs or {})
    return found


def _kind(module: str, name: str) -> Any:
    """Return a class of brainscore_core, or xarray's class if brainscore_core is not installed."""
    if importlib.util.find_spec("brainscore_core") is None:
        return require("xarray", "brainscore", "for assemblies and scores").DataArray
    try:
        return getattr(importlib.import_module(f"brainscore_core.{module}"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"this version of brainscore_core is not known: it has no {module}.{name} that can be imported ({error});"
            " known are 2.3 to 2.5"
        ) from error
