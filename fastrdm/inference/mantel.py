"""The Mantel test of whether a model's conditions are related to the brain's."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import names_of, warn_caller
from fastrdm.encoding import Responses
from fastrdm.inference.draws import all_permutations, draw_permutations
from fastrdm.inference.response_scores import check_absent, response_test
from fastrdm.inference.significance import (
    EXACT,
    TestResult,
    check_correction,
    check_permutations,
    label_models,
    make_result,
    permutation_p,
)
from fastrdm.similarity import Protocol, SubjectData, Target


def permutation_test(
    subject_rdms: ArrayLike | Target | Responses,
    rdms: Any,
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
    """Test whether a model's conditions are related to the brain's by permuting the conditions (Mantel test).

    The statistic is the mean over subjects of the similarity, never squared. Under the null hypothesis, the labels of
    the conditions are exchangeable, so the model's labels are permuted. If there are at most 65,536 orders (n ≤ 8), all
    n! are taken, and p is exact; else p = (1 + permutations at least as extreme) / (1 + permutations). The test does
    not generalise to other subjects.

    Parameters
    ----------
    subject_rdms, rdms, protocol, names, n_threads
        As in `bootstrap`. For `Responses`, and Gram matrices in place of RDMs, the result is that of `response_test`.
    nan_policy : str, optional
        By default the target's policy, else ``"raise"``. ``"raise"``: NaN is an error. ``"omit"``: a model, in each
        order of its conditions, and a subject are compared, and ranked, on the pairs that are NaN in neither.
        ``"propagate"``: the similarities of a model or a subject with NaN are NaN, and so are means over these
        subjects. If the mean of a model is NaN, so is its p, which does not count in the correction.
    n_permutations, seed : int
        Number of random permutations, and their seed.
    alternative : {"greater", "less", "two-sided"}
        Alternative hypothesis about the similarity.
    correction : str or None
        As in `correct`, or ``"max"``: by the extreme over all models under each permutation (Westfall & Young 1993;
        Nichols & Holmes 2002), which accounts for similar models.

    Returns
    -------
    TestResult
        A row for each model.

    Raises
    ------
    ValueError
        As `bootstrap`.

    Warns
    -----
    RuntimeWarning
        One, naming the models with a NaN p because their mean similarity is NaN.

    Notes
    -----
    A permutation that leaves a model without a similarity to some subject counts as at least as extreme, so that p is
    not too small. Under ``"omit"``, model and subject may have no pair in common, or be constant on the common pairs.
    With NaN, and for ``tau-a`` and ``tau-b``, every permutation takes as long as `compare`.

    References
    ----------
    Mantel (1967), Cancer Research 27. Nili et al. (2014), PLoS Comput. Biol. 10(4). Phipson & Smyth (2010), Stat.
    Appl. Genet. Mol. Biol. 9(1): why a permutation p is never 0.
    """
    if isinstance(subject_rdms, Responses):
        check_absent(protocol=protocol, names=names, nan_policy=nan_policy)
        return response_test(
            subject_rdms,
            rdms,
            n_permutations=n_permutations,
            seed=seed,
            alternative=alternative,
            correction=correction,
        )
    check_permutations(alternative, n_permutations, seed)
    check_correction(correction, "max")
    data = SubjectData.take(subject_rdms, protocol, nan_policy, n_threads)
    models = data.take_models(rdms)
    labels = label_models(names_of(rdms) if names is None else names, len(models))
    observed = data.observed(models).mean(axis=1)
    exact = math.factorial(min(data.n_conditions, 20)) <= EXACT
    permutations = (
        all_permutations(data.n_conditions)
        if exact
        else draw_permutations(seed, n_permutations, data.n_conditions)
    )
    p, p_max = np.full((2, len(models)), np.nan)
    if (known := np.flatnonzero(~np.isnan(observed))).size:
        null = data.permuted(models[known], permutations)
        null[np.isnan(null)] = -np.inf if alternative == "less" else np.inf
        p[known], p_max[known] = permutation_p(
            observed[known], lambda: iter([null]), alternative, exact
        )
    if len(known) < len(models):
        unknown = ", ".join(labels[i] for i in np.flatnonzero(np.isnan(observed)))
        warn_caller(f"p is NaN for models without a mean similarity to the subjects: {unknown}")
    return make_result(
        labels, observed, correction, statistic=observed, p=p, p_max=p_max,
        test="Mantel permutation of conditions", against="zero", alternative=alternative,
        n_resamples=len(permutations), exact=exact, seed=None if exact else int(seed),
    )  # fmt: skip
