"""Whether a model's conditions are related to the brain's: the Mantel test."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastrdm import _kernels
from fastrdm._base import names_of, square
from fastrdm.inference.corrections import check_correction
from fastrdm.inference.significance import (
    EXACT,
    Floats,
    TestResult,
    check_permutations,
    label_models,
    permutation_p,
    permutation_tests,
)
from fastrdm.similarity import (
    Counts,
    Protocol,
    Side,
    SubjectData,
    Target,
    all_permutations,
    blocks_of,
    compare_sides,
    draw_permutations,
    observed_similarities,
    take_models,
    take_subjects,
)


def permutation_test(
    subject_rdms: ArrayLike | Target,
    rdms: ArrayLike,
    *,
    n_permutations: int = 10_000,
    seed: int = 0,
    alternative: str = "greater",
    correction: str | None = "max",
    protocol: str | Protocol | None = None,
    names: Sequence[str] | None = None,
    nan_policy: str | None = None,
    n_threads: int | None = None,
) -> TestResult:
    """Mantel test of whether a model's conditions are related to the brain's, or any order of them would do as well.

    The statistic is the mean over subjects of the similarity, never squared. Under the null hypothesis that the labels
    of the conditions are exchangeable, the model's are permuted. All n! orders are taken where they are at most 65,536
    (n ≤ 8), and p is exact; else p = (1 + permutations at least as extreme) / (1 + permutations). Says nothing
    about other subjects.

    Parameters
    ----------
    subject_rdms, rdms, protocol, names, n_threads
        As in `bootstrap`.
    nan_policy : str, optional
        The target's by default, else ``"raise"``. ``"raise"``: NaN is an error. ``"omit"``: a model, in each order of
        its conditions, and a subject are compared on the pairs that neither has as NaN, ranked anew among those.
        ``"propagate"``: the similarities of a model or a subject with NaN are NaN, and so are the means over subjects
        that they enter. A model whose mean is NaN has NaN as its p, and takes no part in the correction.
    n_permutations, seed : int
        Number of random permutations, and their seed.
    alternative : {"greater", "less", "two-sided"}
        What the similarity is if the null hypothesis is false.
    correction : str or None
        As in `correct`, or ``"max"``: by the extreme over all models under each permutation (Westfall & Young 1993;
        Nichols & Holmes 2002), which knows how alike models are.

    Returns
    -------
    TestResult
        A row a model.

    Warns
    -----
    RuntimeWarning
        One, naming the models whose p is NaN because their mean similarity is.

    Raises
    ------
    ValueError
        As `bootstrap`.

    Notes
    -----
    A permutation that leaves a model without a similarity to some subject counts as at least as extreme, so that p is
    not too small; under ``"omit"``, the two may have no pair in common, or be constant on those they have. With NaN,
    and for ``tau-a`` and ``tau-b``, every permutation takes as long as `compare` does on it.

    References
    ----------
    Mantel (1967), Cancer Research 27. Nili et al. (2014), PLoS Comput. Biol. 10(4). Phipson & Smyth (2010), Stat.
    Appl. Genet. Mol. Biol. 9(1): why a permutation p is never 0.
    """
    check_permutations(alternative, n_permutations, seed)
    check_correction(correction, "max")
    data = take_subjects(subject_rdms, protocol, nan_policy, n_threads)
    models = take_models(rdms, data)
    labels = label_models(names_of(rdms) if names is None else names, len(models))
    observed = observed_similarities(data, models).mean(axis=1)
    exact = math.factorial(min(data.n_conditions, 20)) <= EXACT
    permutations = (
        all_permutations(data.n_conditions)
        if exact
        else draw_permutations(seed, n_permutations, data.n_conditions)
    )
    p, p_max = np.full((2, len(models)), np.nan)
    if (known := np.flatnonzero(~np.isnan(observed))).size:
        null = _permuted(data, models[known], permutations)
        null[np.isnan(null)] = -np.inf if alternative == "less" else np.inf
        p[known], p_max[known] = permutation_p(
            observed[known], lambda: iter([null]), alternative, exact
        )
    if len(known) < len(models):
        unknown = ", ".join(labels[i] for i in np.flatnonzero(np.isnan(observed)))
        warnings.warn(
            f"p is NaN for models without a mean similarity to the subjects: {unknown}",
            RuntimeWarning,
            stacklevel=2,
        )
    return permutation_tests(
        labels, observed, observed, p, p_max, correction,
        test="Mantel permutation of conditions", against="zero", alternative=alternative,
        n_resamples=len(permutations), exact=exact, seed=None if exact else int(seed),
    )  # fmt: skip


def _permuted(data: SubjectData, models: Floats, permutations: Counts) -> Floats:
    """Mean similarities (permutations, models) with the models' conditions permuted."""
    method = data.similarity
    rows = data.subjects.reshape(-1, data.subjects.shape[2])
    subjects = Side(method, rows, data.nan_policy, "subject_rdms", n_threads=data.n_threads)
    if not method.permutable or np.isnan(models).any() or np.isnan(rows).any():
        return _compared(data, models, subjects, permutations)
    n_pairs = rows.shape[1]
    # What is multiplied is moved as the conditions are, and made once.
    prepared = method.prepare(models, np.ones(n_pairs, bool), data.n_threads)
    squares = square(prepared.values[:, :n_pairs])
    out = np.empty((len(permutations), len(models)))
    for block in blocks_of(len(permutations), len(models) * len(rows)):
        similarities = _kernels.permuted_similarities(
            squares, prepared.squares, permutations[block], subjects.whole, data.n_threads
        )
        out[block] = similarities.mean(axis=2)
    return out


def _compared(data: SubjectData, models: Floats, subjects: Side, permutations: Counts) -> Floats:
    """The same, with every permuted model written out."""
    method, squares = subjects.method, square(models)
    first, second = np.triu_indices(data.n_conditions, 1)
    out = np.empty((len(permutations), len(models)))
    for block in blocks_of(len(permutations), models.size):
        orders = permutations[block]
        moved = squares[:, orders[:, first], orders[:, second]].reshape(-1, len(first))
        # Of one model, what is indexed lies transposed.
        moved = np.ascontiguousarray(moved)
        side = Side(method, moved, data.nan_policy, "rdms", n_threads=data.n_threads)
        similarities, _ = compare_sides(side, subjects, data.n_threads)
        out[block] = similarities.mean(axis=1).reshape(len(models), -1).T
    return out
