"""The formulas of RDMs, similarities and noise ceilings in plain NumPy, with which `selftest` compares."""

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
    from fastrdm.rdm import calc_rdm

    rows = x.astype(np.float64)
    pairs = np.triu_indices(14, 1)
    expected = {"correlation": 1 - np.corrcoef(rows)[pairs]}
    options: dict[str, dict[str, Any]] = {}
    if thorough:
        apart = rows[pairs[0]] - rows[pairs[1]]
        square = (apart**2).sum(axis=1)
        units = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
        noise = np.linspace(0.5, 2, x.shape[1])
        folds = np.repeat([1, 2], 7)
        in_fold = np.triu_indices(7, 1)
        of_folds = [each[in_fold[0]] - each[in_fold[1]] for each in (rows[:7], rows[7:])]
        expected |= {
            "cosine": 1 - (units @ units.T)[pairs],
            "euclidean": np.sqrt(square),
            "sqeuclidean": square,
            "spearman": 1 - np.corrcoef(average_ranks(rows))[pairs],
            "mahalanobis": np.sqrt((apart**2 * noise).sum(axis=1)),
            "crossnobis": (of_folds[0] * of_folds[1]).sum(axis=1),
        }
        options = {"mahalanobis": {"precision": np.diag(noise)}, "crossnobis": {"folds": folds}}
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
    from fastrdm.similarity import compare

    formulas: dict[str, Any] = {
        "spearman": _spearman,
        "tau-b": lambda a, b: _tau(a, b, without_ties=True),
    }
    if thorough:
        formulas |= {
            "corr": lambda a, b: np.corrcoef(a, b)[0, 1],
            "cosine": lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b)),
            "tau-a": lambda a, b: _tau(a, b, without_ties=False),
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


def average_ranks(rows: Any) -> Any:
    """Return ranks within each row, from 1."""
    below = (rows[:, None] < rows[:, :, None]).sum(axis=2)
    equal = (rows[:, None] == rows[:, :, None]).sum(axis=2)
    return below + (equal + 1) / 2


def _spearman(a: Any, b: Any) -> float:
    return float(np.corrcoef(average_ranks(np.stack([a, b])))[0, 1])


def _tau(a: Any, b: Any, *, without_ties: bool) -> float:
    i, j = np.triu_indices(len(a), 1)
    of_a, of_b = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    n_pairs = np.sqrt((of_a**2).sum() * (of_b**2).sum()) if without_ties else len(i)
    return float((of_a * of_b).sum() / n_pairs)


def _ceiling(subjects: Any) -> Check:
    """Upper: each subject with the mean of all ranks; lower: with the mean of the others'."""
    from fastrdm.similarity import noise_ceiling

    ranks = average_ranks(subjects)
    total = ranks.sum(axis=0)
    upper = np.mean([_spearman(each, total) for each in ranks])
    lower = np.mean([_spearman(each, total - each) for each in ranks])
    found = noise_ceiling(subjects, pool="rank", squared=False)
    return Check(
        "noise_ceiling", np.array([found.lower, found.upper]), np.array([lower, upper]), 1e-9
    )
