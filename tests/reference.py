"""Plain NumPy and SciPy oracles: slow, obvious, float64."""

import numpy as np
from scipy import stats
from scipy.spatial.distance import squareform


def calc_rdm(activations):
    rows = np.asarray(activations, np.float64).reshape(len(activations), -1)
    centred = rows - rows.mean(axis=1, keepdims=True)
    unit = centred / np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return 1 - (unit @ unit.T)[np.triu_indices(len(rows), 1)]


def compare(rdms1, rdms2, method="spearman"):
    one = {
        "spearman": lambda a, b: stats.spearmanr(a, b).statistic,
        "corr": lambda a, b: stats.pearsonr(a, b).statistic,
        "cosine": lambda a, b: a @ b / np.sqrt(a @ a * (b @ b)),
    }[method]
    return np.array([[one(a, b) for b in rdms2] for a in rdms1])


def noise_ceiling(subjects, method="spearman", pool="raw", squared=True):
    """Lower and upper bound of condensed subjects (subjects, times, pairs), pooling as the names say."""
    standard = {
        "spearman": lambda x: stats.rankdata(x),
        "corr": lambda x: (x - x.mean()) / x.std(),
        "cosine": lambda x: x / np.sqrt(x @ x),
    }[method]
    bounds = []
    for leave_out in (True, False):
        values = []
        for s in range(len(subjects)):
            others = [o for o in range(len(subjects)) if not (leave_out and o == s)]
            over_time = []
            for time in range(subjects.shape[1]):
                rows = [subjects[o, time] for o in others]
                pooled = np.mean([standard(r) for r in rows] if pool == "rank" else rows, axis=0)
                over_time.append(compare([subjects[s, time]], [pooled], method)[0, 0])
            values.append(np.mean(over_time) ** (2 if squared else 1))
        bounds.append(np.mean(values))
    return bounds


def algonauts_score(model, subjects):
    """R² and p as the challenge's scorer makes them, from square RDMs; subjects (subjects, [times,] n, n)."""
    subjects = subjects if subjects.ndim == 4 else subjects[:, None]
    vector = squareform(model, force="tovector", checks=False)
    rho = np.array(
        [
            np.mean(
                [
                    stats.spearmanr(squareform(t, force="tovector", checks=False), vector).statistic
                    for t in subject
                ]
            )
            for subject in subjects
        ]
    )
    return rho, np.mean(rho**2), stats.ttest_1samp(rho**2, 0).pvalue
