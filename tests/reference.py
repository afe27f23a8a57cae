"""Plain NumPy and SciPy oracles: slow, obvious, float64."""

import functools
import hashlib
from fractions import Fraction
from itertools import combinations

import numpy as np
from scipy import linalg, stats
from scipy.spatial.distance import squareform


def normalise(pixels, table, channels):
    planes = [table[c][pixels[..., channel]] for c, channel in enumerate(channels)]
    return np.stack(planes, axis=1)


def calc_rdm(activations):
    rows = np.asarray(activations, np.float64).reshape(len(activations), -1)
    centred = rows - rows.mean(axis=1, keepdims=True)
    unit = centred / np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return 1 - (unit @ unit.T)[np.triu_indices(len(rows), 1)]


def exact(a, b, n, method):
    """A fraction in the order of the dissimilarity of two rows of integers."""
    if method.endswith("euclidean"):
        return Fraction(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
    total = (sum(a), sum(b)) if method == "correlation" else (0, 0)
    times = n if method == "correlation" else 1

    def product(x, y, s, t):
        return times * sum(p * q for p, q in zip(x, y, strict=True)) - s * t

    own = product(a, b, *total)
    norms = product(a, a, total[0], total[0]) * product(b, b, total[1], total[1])
    return -Fraction(own * abs(own), norms)


def distances(rows, precision):
    """Squared Mahalanobis distances, pair by pair."""
    differences = [a - b for a, b in combinations(np.asarray(rows, np.float64), 2)]
    return np.array([d @ precision @ d for d in differences])


def covariance(residuals, estimator="shrinkage_diag"):
    """As rsatoolbox 0.3.2 estimates it, observation by observation; held against it by hand to 1e-13."""
    rows = residuals - residuals.mean(axis=0)
    n, n_channels = rows.shape
    products = np.array([np.outer(r, r) for r in rows])
    sample = products.sum(axis=0) / (n - 1)
    off = ~np.eye(n_channels, dtype=bool)
    if estimator == "diag":
        return np.where(off, 0, sample)
    if estimator == "full":
        return sample
    if estimator == "shrinkage_eye":
        s = products.mean(axis=0)
        target = np.trace(s) / n_channels * np.eye(n_channels)
        d2 = np.sum((s - target) ** 2)
        b2 = min(d2, np.sum(np.mean(products**2, axis=0) - s**2) / n)
        return (b2 / d2 * target + (d2 - b2) / d2 * s) * n / (n - 1)
    scale = np.sqrt(np.outer(np.diag(sample), np.diag(sample)))
    r = sample / scale
    variance = n / (n - 1) ** 2 * (np.sum((products / scale) ** 2, axis=0) / (n - 1) - r**2)
    strength = np.clip(np.sum(variance[off]) / np.sum(r[off] ** 2), 0, 1)
    return np.where(off, (1 - strength) * sample, sample)


def crossnobis(rows, folds, conditions, precision=None):
    """Products of differences in all pairs of folds, averaged."""
    rows, folds, conditions = (
        np.asarray(rows, np.float64),
        np.asarray(folds),
        np.asarray(conditions),
    )
    precision = np.eye(rows.shape[1]) if precision is None else precision
    patterns = {
        (f, c): rows[(folds == f) & (conditions == c)].mean(axis=0)
        for f in set(folds.tolist())
        for c in set(conditions.tolist())
    }
    return np.array(
        [
            np.mean(
                [
                    (patterns[f, a] - patterns[f, b])
                    @ precision
                    @ (patterns[g, a] - patterns[g, b])
                    for f, g in combinations(sorted(set(folds.tolist())), 2)
                ]
            )
            for a, b in combinations(sorted(set(conditions.tolist())), 2)
        ]
    )


def sparse_projection(n_channels, n_components, per_channel, seed=0, name=""):
    """R (components, channels), entry by entry from the bits of Philox."""
    key = hashlib.blake2b(f"{seed}\0{name}\0{n_channels}".encode(), digest_size=16).digest()
    bits = np.random.Philox(key=int.from_bytes(key, "little"))
    n_words = n_channels * per_channel
    words = [int(w) >> half & 0xFFFFFFFF for w in bits.random_raw(n_words) for half in (0, 32)]
    r = np.zeros((n_components, n_channels))
    for i in range(n_words):
        channel, stripe = divmod(i, per_channel)
        begin, end = (n_components * s // per_channel for s in (stripe, stripe + 1))
        component = begin + ((words[i] >> 1) * (end - begin) >> 31)
        r[component, channel] = (-1) ** (words[i] & 1) / np.sqrt(per_channel)
    return r


def compare(rdms1, rdms2, method="spearman"):
    one = METHODS[method]
    return np.array([[one(a, b) for b in rdms2] for a in rdms1])


def compare_omitting(rdms1, rdms2, method="spearman"):
    """As `compare`, every two RDMs on the pairs that both have; of whitened ones, V without the others."""
    out = np.empty((len(rdms1), len(rdms2)))
    for i, a in enumerate(rdms1):
        for j, b in enumerate(rdms2):
            present = ~(np.isnan(a) | np.isnan(b))
            more = (present,) if method.endswith("_cov") else ()
            out[i, j] = METHODS[method](a[present], b[present], *more)
    return out


def concordance(a, b):
    """Concordant less discordant pairs, each pair looked at."""
    first, second = np.triu_indices(len(a), 1)
    return int(np.sum(np.sign(a[first] - a[second]) * np.sign(b[first] - b[second])))


def tau_a(a, b):
    return concordance(a, b) / (len(a) * (len(a) - 1) // 2)


def tau_b(a, b):
    return concordance(a, b) / np.sqrt(concordance(a, a) * concordance(b, b))


def rho_a(a, b):
    n = len(a)
    a, b = (stats.rankdata(x) - (n + 1) / 2 for x in (a, b))
    return 12 * (a @ b) / (n**3 - n)


def cosine(a, b):
    return a @ b / np.sqrt(a @ a * (b @ b))


@functools.lru_cache
def inverse_covariance(present):
    """Of the distances that are there, where all conditions are equally noisy."""
    n = (1 + round(np.sqrt(1 + 8 * len(present)))) // 2
    contrasts = np.array([np.eye(n)[i] - np.eye(n)[j] for i, j in combinations(range(n), 2)])
    return np.linalg.inv(((contrasts @ contrasts.T) ** 2)[np.ix_(present, present)])


def cosine_cov(a, b, present=None):
    """Diedrichsen et al. 2020, with the covariance of the distances written out."""
    inverse = inverse_covariance(tuple(np.ones(len(a), bool) if present is None else present))
    return a @ inverse @ b / np.sqrt((a @ inverse @ a) * (b @ inverse @ b))


METHODS = {
    "spearman": lambda a, b: stats.spearmanr(a, b).statistic,
    "rho-a": rho_a,
    "tau-a": tau_a,
    "tau-b": tau_b,
    "corr": lambda a, b: stats.pearsonr(a, b).statistic,
    "cosine": cosine,
    "corr_cov": lambda a, b, present=None: cosine_cov(a - a.mean(), b - b.mean(), present),
    "cosine_cov": cosine_cov,
}

# What rsatoolbox averages over subjects under the name of a method.
POOLED = {
    **dict.fromkeys(("spearman", "rho-a", "tau-a", "tau-b"), stats.rankdata),
    **dict.fromkeys(("corr", "corr_cov"), lambda x: (x - x.mean()) / x.std()),
    **dict.fromkeys(("cosine", "cosine_cov"), lambda x: x / np.sqrt(np.mean(x**2))),
}


def noise_ceiling(subjects, method="spearman", pool="raw", squared=True):
    """Lower and upper bound of condensed subjects (subjects, times, pairs), pooling as the names say.

    NaN is left out: of the means over subjects, and of what a subject is compared on.
    """
    bounds = []
    for leave_out in (True, False):
        values = []
        for s in range(len(subjects)):
            others = [o for o in range(len(subjects)) if not (leave_out and o == s)]
            over_time = []
            for time in range(subjects.shape[1]):
                rows = subjects[others, time].copy()
                for row in rows if pool == "rank" else ():
                    present = ~np.isnan(row)
                    row[present] = POOLED[method](row[present])
                with np.errstate(invalid="ignore"):
                    pooled = np.nansum(rows, axis=0) / np.sum(~np.isnan(rows), axis=0)
                over_time.append(compare_omitting([subjects[s, time]], [pooled], method)[0, 0])
            values.append(np.mean(over_time) ** (2 if squared else 1))
        bounds.append(np.mean(values))
    return bounds


def exact_ranks(numbers):
    """Average ranks of exact numbers, such as fractions."""
    numbers = list(numbers)
    places = {}
    for place, number in enumerate(sorted(numbers), 1):
        places.setdefault(number, []).append(place)
    return np.array([np.mean(places[number]) for number in numbers])


def exact_ceiling(subjects, method="spearman", weights=None):
    """Bounds (2, subjects), the lower first, of whole numbers (subjects, pairs): pools are exact fractions."""
    rows = [[Fraction(int(x)) for x in row] for row in subjects]
    weights = [1] * len(rows) if weights is None else [int(w) for w in weights]
    out = np.full((2, len(rows)), np.nan)
    for s in range(len(rows)):
        if weights[s] == 0:
            continue
        for bound, left_out in enumerate((s, None)):
            used = [o for o in range(len(rows)) if o != left_out and weights[o]] or [s]
            times = sum(weights[o] for o in used)
            pool = [sum(weights[o] * rows[o][k] for o in used) / times for k in range(len(rows[0]))]
            out[bound, s] = METHODS[method](exact_ranks(rows[s]), exact_ranks(pool))
    return out


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


def written(rdm, counts):
    """A condensed RDM with its conditions as often as counted, one after the other, less pairs of one with itself."""
    index = np.repeat(np.arange(len(counts)), counts)
    matrix = squareform(np.asarray(rdm))[np.ix_(index, index)]
    first, second = np.triu_indices(len(index), 1)
    return matrix[first, second][index[first] != index[second]]


def resampled_ceiling(subjects, counts, times, method="spearman", pool="rank"):
    """Bounds (2, subjects) of the subjects drawn, NaN for others, as rsatoolbox's `boot_noise_ceiling` has them."""
    rows = np.array([written(s, counts) for s in subjects])
    values = np.array([POOLED[method](row) for row in rows]) if pool == "rank" else rows
    out = np.full((2, len(subjects)), np.nan)
    for s in np.flatnonzero(times):
        others = np.array(times)
        others[s] = 0
        for bound, weights in enumerate((others if others.any() else times, times)):
            out[bound, s] = METHODS[method](np.average(values, axis=0, weights=weights), rows[s])
    return out


def cka(x, y):
    """Linear CKA of features, as Kornblith et al. 2019 write it for channels."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def hsic1(k, m):
    """Song et al. 2012: the unbiased estimator of HSIC from products."""
    n, ones = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    products = np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
    return (products - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))


def debiased_cka(x, y):
    k, m = x @ x.T, y @ y.T
    return hsic1(k, m) / np.sqrt(hsic1(k, k) * hsic1(m, m))


def procrustes(x, y):
    """What scipy's rotation leaves of centred features, squared; and the cosine of the angle between them."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(f, ((0, 0), (0, width - f.shape[1]))) for f in (x, y))
    rotation, scale = linalg.orthogonal_procrustes(x, y)
    return np.sum((x @ rotation - y) ** 2), scale / np.linalg.norm(x) / np.linalg.norm(y)


def bures(x, y):
    """Normalised Bures similarity by roots of centred products, clear of their zero eigenvalues."""
    centring = np.eye(len(x)) - 1 / len(x)
    k, m = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    root = linalg.sqrtm(k)
    return np.real(np.trace(linalg.sqrtm(root @ m @ root))) / np.sqrt(np.trace(k) * np.trace(m))


def cca(x, y, n_components, regularisation):
    """Mean squared canonical correlation of features by their regularised covariances, or QR without a penalty."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    if regularisation:
        halves = []
        for f in (x, y):
            penalty = regularisation * np.sum(f**2) / (len(f) - 1)
            covariance = f.T @ f + penalty * np.eye(f.shape[1])
            halves.append(f @ np.linalg.inv(np.linalg.cholesky(covariance)).T)
    else:
        halves = [np.linalg.qr(f)[0] for f in (x, y)]
    correlations = np.linalg.svd(halves[0].T @ halves[1], compute_uv=False)
    return np.mean(correlations[:n_components] ** 2)


def cluster_test(values, signs, threshold, alternative, jointly, exact=True):
    """Clusters (model, first, last, mass, p) of values (models, times, subjects), flip by flip."""
    values = np.asarray(values, np.float64)

    def t_of(rows):
        n = rows.shape[-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = rows.mean(axis=-1) / (rows.std(axis=-1, ddof=1) / np.sqrt(n))
        return np.where(rows.sum(axis=-1) == 0, 0, t)

    def clusters(t):
        found = []
        for sign in {"greater": [1], "less": [-1], "two-sided": [1, -1]}[alternative]:
            for model, row in enumerate(sign * t):
                start = None
                for time in range(len(row) + 1):
                    above = time < len(row) and row[time] > threshold * (1 + 1e-10)
                    if above and start is None:
                        start = time
                    if not above and start is not None:
                        found.append((model, start, time - 1, sign * row[start:time].sum()))
                        start = None
        return sorted(found)

    null = np.zeros((len(signs), len(values)))
    for flip, sign in enumerate(signs):
        for model, _, _, mass in clusters(t_of(values * sign)):
            null[flip, model] = max(null[flip, model], abs(mass))
    out = []
    for model, first, last, mass in clusters(t_of(values)):
        highest = null.max(axis=1) if jointly else null[:, model]
        hits = np.sum(highest >= abs(mass) - 1e-9 * min(abs(mass), 1e9))
        out.append((model, first, last, mass, (hits + (not exact)) / (len(signs) + (not exact))))
    return out
