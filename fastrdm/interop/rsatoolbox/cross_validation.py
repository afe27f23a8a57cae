"""rsatoolbox's cross-validation of models with parameters, and bootstraps with folds inside."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.interop.rsatoolbox.acceleration import accelerate
from fastrdm.interop.rsatoolbox.bootstraps import (
    PlannedDraws,
    draw_patterns,
    draw_rdms,
    results_of,
)
from fastrdm.interop.rsatoolbox.evaluation_inputs import Evaluated, plan_of, warn_about_tau
from fastrdm.interop.rsatoolbox.fits import fit
from fastrdm.interop.rsatoolbox.noise_ceilings import boot_noise_ceiling, cv_noise_ceiling
from fastrdm.interop.rsatoolbox.originals import original, toolbox
from fastrdm.interop.rsatoolbox.vectors import similarities

Doubles = NDArray[np.float64]


def crossval(
    models: Any,
    rdms: Any,
    train_set: Any,
    test_set: Any,
    ceil_set: Any = None,
    method: str = "cosine",
    fitter: Any = None,
    pattern_descriptor: str = "index",
    calc_noise_ceil: bool = True,
) -> Any:
    """Fit models to training sets and evaluate them on test sets, as `rsatoolbox.inference.crossval`.

    Parameters
    ----------
    models : Model or list of Model
        rsatoolbox's fixed, select, weighted and interpolated models, or others.
    rdms : RDMs
        All RDMs, for noise ceilings.
    train_set, test_set, ceil_set : list of (RDMs, values of the pattern descriptor)
        As rsatoolbox's functions ``sets_…`` make them.
    method : str
        A similarity of `compare`.
    fitter : function or list of functions, optional
        rsatoolbox's fitters are computed from products of RDMs; others are called.
    pattern_descriptor : str
        The descriptor that selects conditions.
    calc_noise_ceil : bool
        Whether to compute noise ceilings.

    Returns
    -------
    rsatoolbox.inference.Result
        ``evaluations`` (1, models, sets); NaN for a set with fewer than three conditions, or no RDM.

    Notes
    -----
    Fits take the same random starts as rsatoolbox's and compute the objective to the same bit, so that optimisers that
    stop early stop in the same place.

    One difference is left, of ties: an RDM that is constant among the few conditions of a fold has the similarity 0,
    and rsatoolbox 0.3.2 then gives the RDMs after it each other's similarities (see `compare`). Here they keep theirs.
    """
    sizes = [len(x) for x in (train_set, ceil_set) if x is not None]
    for size, name in zip(sizes, ("train_set", "ceil_set"), strict=False):
        if size != len(test_set):
            raise AssertionError(f"{name} and test_set must have the same length")
    if isinstance(models, toolbox("model").Model):
        models = [models]
    folds, bounds = [], []
    for train, test in zip(train_set, test_set, strict=True):
        if min(train[0].n_rdm, test[0].n_rdm) == 0 or min(train[0].n_cond, test[0].n_cond) <= 2:
            folds.append(np.full(len(models), np.nan))
            continue
        models, values, _, fitter = toolbox("util.inference_util").input_check_model(
            models, None, fitter
        )
        for i, model in enumerate(models):
            theta = fit(fitter[i], model, train[0], method, train[1], pattern_descriptor)
            part = model.predict_rdm(theta).subsample_pattern(by=pattern_descriptor, value=test[1])
            values[i] = np.mean(similarities(part, test[0], method))
        folds.append(values)
        if ceil_set is None and calc_noise_ceil:
            part = rdms.subsample_pattern(by=pattern_descriptor, value=test[1])
            bounds.append(boot_noise_ceiling(part, method=method))
    ceiling: Any = np.array([np.nan, np.nan])
    if calc_noise_ceil:
        ceiling = np.array(bounds).T
        if ceil_set is not None:
            ceiling = cv_noise_ceiling(rdms, ceil_set, test_set, method, pattern_descriptor)
    return toolbox("inference.result").Result(
        models,
        np.array(folds).T.reshape((1, len(models), len(train_set))),
        method=method,
        cv_method="crossvalidation",
        noise_ceiling=ceiling,
    )


def eval_dual_bootstrap(
    models: Any,
    data: Any,
    method: str = "cosine",
    fitter: Any = None,
    k_pattern: int | None = 1,
    k_rdm: int | None = 1,
    N: int = 1000,
    n_cv: int = 2,
    pattern_descriptor: str = "index",
    rdm_descriptor: str = "index",
    use_correction: bool = True,
) -> Any:
    """Evaluate models with bootstraps over RDMs, conditions and both: `rsatoolbox.inference.eval_dual_bootstrap`.

    Parameters
    ----------
    models : Model or list of Model
        rsatoolbox's models.
    data : RDMs
        rsatoolbox's RDMs of the data.
    method : str
        A similarity of `compare`.
    fitter : function or list of functions, optional
        Fitters of the models.
    k_pattern, k_rdm : int, optional
        Folds over conditions and RDMs in each draw; 1 for none, None for rsatoolbox's default.
    N : int
        The number of draws, from NumPy's global random state in rsatoolbox's order.
    n_cv : int
        The number of divisions into folds in each draw.
    pattern_descriptor, rdm_descriptor : str
        Conditions, and RDMs, with the same value are drawn together.
    use_correction : bool
        Whether variances are corrected for the random folds.

    Returns
    -------
    rsatoolbox.inference.Result
        ``evaluations`` (N, models, folds, divisions, 3) of draws of both, of RDMs and of conditions.

    Notes
    -----
    All draws of fixed models without folds are evaluated at once. Others run rsatoolbox's loop, inside `accelerate`.
    Tied RDMs may be constant in a fold, where rsatoolbox's values are those of other RDMs: see `crossval`.
    """
    plan = None
    if fitter is None and (k_pattern, k_rdm) == (1, 1):
        plan = _plan_of_fixed(models, data, method, N, pattern_descriptor, rdm_descriptor)
    if plan is None:
        given = (models, data, method, fitter, k_pattern, k_rdm, N, n_cv)
        with accelerate():
            return original("inference.evaluate", "eval_dual_bootstrap")(
                *given, pattern_descriptor, rdm_descriptor, use_correction
            )
    both, rdms, patterns = _draw(plan, N)
    warn_about_tau(method)
    too_few = both.too_few()
    evaluations = np.full((N, len(plan.models), 1, 1, 3), np.nan)
    ceiling = np.full((2, N, 1, 3), np.nan)
    for i, draws in enumerate((both, rdms, patterns)):
        found = results_of(plan, draws)
        evaluations[~too_few, :, 0, 0, i] = found.evaluations[~too_few]
        ceiling[:, ~too_few, 0, i] = found.ceilings[:, ~too_few]
    # As rsatoolbox, by the first model alone.
    fine = ~np.isnan(evaluations[:, 0, 0, 0, 0])
    return toolbox("inference.result").Result(
        plan.models,
        evaluations,
        method=method,
        cv_method="dual_bootstrap",
        noise_ceiling=ceiling,
        variances=_covariances(evaluations[fine, :, 0, 0], ceiling[:, fine, 0]),
        dof=min(data.n_rdm, data.n_cond) - 1,
        n_rdm=data.n_rdm,
        n_pattern=data.n_cond,
    )


def bootstrap_crossval(
    models: Any,
    data: Any,
    method: str = "cosine",
    fitter: Any = None,
    k_pattern: int | None = None,
    k_rdm: int | None = None,
    N: int = 1000,
    n_cv: int = 2,
    pattern_descriptor: str = "index",
    rdm_descriptor: str = "index",
    boot_type: str = "both",
    use_correction: bool = True,
) -> Any:
    """Cross-validate models in each draw of a bootstrap, as `rsatoolbox.inference.bootstrap_crossval`.

    Its loop runs inside `accelerate`, with the `crossval` and noise ceilings of this package.

    Parameters and result: see `eval_dual_bootstrap`; ``boot_type`` is "both", "pattern" or "rdm".
    """
    given = (models, data, method, fitter, k_pattern, k_rdm, N, n_cv)
    with accelerate():
        return original("inference.evaluate", "bootstrap_crossval")(
            *given, pattern_descriptor, rdm_descriptor, boot_type, use_correction
        )


def _plan_of_fixed(
    models: Any, data: Any, method: str, n: int, pattern_descriptor: str, rdm_descriptor: str
) -> Evaluated | None:
    """Return the plan for models without parameters."""
    found = [models] if isinstance(models, toolbox("model").Model) else models
    mock = original("model.fitter", "fit_mock")
    fixed = toolbox("model").ModelFixed
    if not isinstance(found, Iterable) or any(
        type(m) is not fixed or m.default_fitter is not mock for m in found
    ):
        return None
    return plan_of(models, data, None, method, n, pattern_descriptor, rdm_descriptor)


def _draw(plan: Evaluated, n: int) -> tuple[PlannedDraws, PlannedDraws, PlannedDraws]:
    """Draw as rsatoolbox does, which also shuffles RDMs and conditions for its single fold."""
    both, rdms, patterns = (PlannedDraws(plan, n) for _ in range(3))
    both.rdms, both.patterns = [], []
    rdms.rdms, patterns.patterns = both.rdms, both.patterns
    for _ in range(n):
        both.rdms.append(draw_rdms(plan))
        both.patterns.append(draw_patterns(plan))
        n_rdms, n_patterns = (len(np.unique(x[-1])) for x in (both.rdms, both.patterns))
        if n_patterns < 3:
            continue
        for sizes in ((n_rdms, n_patterns), (n_rdms, plan.patterns.n), (plan.rdms.n, n_patterns)):
            for size in sizes:
                np.random.shuffle(np.arange(size))  # noqa: NPY002
    return both, rdms, patterns


def _covariances(evaluations: Doubles, ceiling: Doubles) -> Doubles:
    """Return covariances (3, models + 2, models + 2) over draws of evaluations (draws, models, 3) and ceilings."""
    values = np.concatenate([evaluations, ceiling.transpose(1, 0, 2)], axis=1)
    values = values - values.mean(axis=0, keepdims=True)
    found: Doubles = np.einsum("ijk,ilk->kjl", values, values) / (len(values) - 1)
    return found
