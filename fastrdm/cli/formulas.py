"""The formulas of RDMs, similarities and noise ceilings in plain NumPy and SciPy, with which `selftest` compares."""

from typing import Any

import numpy as np

from fastrdm.cli.plain_check import Check


def checks(thorough: bool) -> list[Check]:
    """Return what the public functions find and what the formulas give; the thorough ones take longer to jit."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((14, 333))
    found = [*_rdms(x.astype(np.float32), 2e-6, thorough), *_rdms(x, 1e-9, thorough)]
    # With ties.
    models, subjects = (rng.integers(0, 30, (n, 91)).astype(np.float64) for n in (3, 5))
    found += [*_similarities(models, subjects, thorough), _ceiling(subjects)]
    return [*found, _searchlight(rng.standard_normal((9, 6, 20)))] if thorough else found


def _rdms(x: Any, within: float, thorough: bool) -> list[Check]:
    from scipy.spatial.distance import pdist
    from scipy.stats import rankdata

    from fastrdm.rdm import calc_rdm

    rows = x.astype(np.float64)
    expected = {"correlation": pdist(rows, "correlation")}
    options: dict[str, dict[str, Any]] = {}
    if thorough:
        noise = np.diag(np.linspace(0.5, 2, x.shape[1]))
        folds = np.repeat([1, 2], 7)
        first, second = (rows[folds == f] for f in (1, 2))
        pairs = np.triu_indices(7, 1)
        apart = [each[pairs[0]] - each[pairs[1]] for each in (first, second)]
        expected |= {name: pdist(rows, name) for name in ("cosine", "euclidean", "sqeuclidean")}
        expected |= {
            "spearman": pdist(rankdata(rows, axis=1), "correlation"),
            "mahalanobis": pdist(rows, "mahalanobis", VI=noise),
            "crossnobis": np.einsum("pc,pc->p", *apart),
        }
        options = {"mahalanobis": {"precision": noise}, "crossnobis": {"folds": folds}}
    kind = x.dtype.name
    found = []
    for method, values in expected.items():
        scale = np.abs(values).max()
        result = calc_rdm(x, method, **options.get(method, {}))
        found.append(Check(f"calc_rdm, {method}, {kind}", result / scale, values / scale, within))
    return found


def _searchlight(data: Any) -> Check:
    """One minus the correlation of conditions, over the channels and samples of each place and window."""
    from fastrdm.searchlight import calc_rdm_searchlight

    places = [[0, 1, 2], [2, 3, 4, 5]]
    windows = [range(t, t + 8) for t in range(13)]
    pairs = np.triu_indices(len(data), 1)
    expected = [
        [
            1 - np.corrcoef(data[:, place, w.start : w.stop].reshape(len(data), -1))[pairs]
            for w in windows
        ]
        for place in places
    ]
    found = calc_rdm_searchlight(data, places, windows=windows)
    return Check("calc_rdm_searchlight, correlation", found, np.array(expected), 1e-9)


def _similarities(models: Any, subjects: Any, thorough: bool) -> list[Check]:
    from scipy.stats import kendalltau, pearsonr, spearmanr

    from fastrdm.similarity import compare

    formulas: dict[str, Any] = {
        "spearman": lambda a, b: spearmanr(a, b)[0],
        "tau-b": lambda a, b: kendalltau(a, b)[0],
    }
    if thorough:
        formulas |= {
            "corr": lambda a, b: pearsonr(a, b)[0],
            "cosine": lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b)),
            "tau-a": _tau_a,
        }
    return [
        Check(
            f"compare, {method}",
            compare(models, subjects, method),
            np.array([[formula(a, b) for b in subjects] for a in models]),
            1e-9,
        )
        for method, formula in formulas.items()
    ]


def _tau_a(a: Any, b: Any) -> float:
    i, j = np.triu_indices(len(a), 1)
    return float((np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])).mean())


def _ceiling(subjects: Any) -> Check:
    """Upper: each subject with the mean of all ranks; lower: with the mean of the others'."""
    from scipy.stats import rankdata, spearmanr

    from fastrdm.similarity import noise_ceiling

    ranks = rankdata(subjects, axis=1)
    total = ranks.sum(axis=0)
    upper = np.mean([spearmanr(each, total)[0] for each in ranks])
    lower = np.mean([spearmanr(each, total - each)[0] for each in ranks])
    found = noise_ceiling(subjects, pool="rank", squared=False)
    return Check(
        "noise_ceiling", np.array([found.lower, found.upper]), np.array([lower, upper]), 1e-9
    )
