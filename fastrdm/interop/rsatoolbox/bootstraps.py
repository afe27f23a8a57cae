"""rsatoolbox's bootstraps: over conditions, RDMs and both."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.interop.rsatoolbox.evaluation_inputs import (
    Evaluated,
    draw_doubtful,
    plan_of,
    warn_about_tau,
)
from fastrdm.interop.rsatoolbox.noise_ceilings import boot_noise_ceiling
from fastrdm.interop.rsatoolbox.originals import original, toolbox
from fastrdm.interop.rsatoolbox.resampling import Drawn, Draws, evaluate

Doubles = NDArray[np.float64]


def eval_bootstrap(
    models: Any,
    data: Any,
    theta: Any = None,
    method: str = "cosine",
    N: int = 1000,
    pattern_descriptor: str = "index",
    rdm_descriptor: str = "index",
    boot_noise_ceil: bool = True,
) -> Any:
    """Evaluate models with a bootstrap over conditions and RDMs, as `rsatoolbox.inference.eval_bootstrap`.

    Parameters
    ----------
    models : Model or list of Model
        rsatoolbox's models.
    data : RDMs
        rsatoolbox's RDMs of the data.
    theta : list, optional
        The parameters of each model.
    method : str
        A similarity of `compare`.
    N : int
        The number of draws, from NumPy's global random state in rsatoolbox's order.
    pattern_descriptor, rdm_descriptor : str
        Conditions, and RDMs, with the same value are drawn together.
    boot_noise_ceil : bool
        Whether noise ceilings are computed in each draw.

    Returns
    -------
    rsatoolbox.inference.Result
        ``evaluations`` (N, models). Draws with fewer than three patterns are NaN.

    Notes
    -----
    The same draws give the same values as rsatoolbox, up to rounding, unless an RDM is constant in a draw: then the
    others keep their similarities, where rsatoolbox 0.3.2 gives them each other's (see `compare`). Methods and inputs
    that the kernels do not know (Riemannian and Bures similarities, RDMs with NaN) are computed by rsatoolbox.
    """
    given = (models, data, theta, method, N, pattern_descriptor, rdm_descriptor, boot_noise_ceil)
    plan = plan_of(models, data, theta, method, N, pattern_descriptor, rdm_descriptor)
    if plan is None:
        return original("inference.evaluate", "eval_bootstrap")(*given)
    draws = _draw(plan, N, rdms=True, patterns=True)
    return _finish(
        plan, draws, boot_noise_ceil, "bootstrap", min(data.n_rdm, data.n_cond) - 1, (True, True)
    )


def eval_bootstrap_pattern(
    models: Any,
    data: Any,
    theta: Any = None,
    method: str = "cosine",
    N: int = 1000,
    pattern_descriptor: str = "index",
    rdm_descriptor: str = "index",
    boot_noise_ceil: bool = True,
) -> Any:
    """Evaluate models with a bootstrap over conditions, as `rsatoolbox.inference.eval_bootstrap_pattern`.

    Parameters, result and notes: see `eval_bootstrap`.
    """
    given = (models, data, theta, method, N, pattern_descriptor, rdm_descriptor, boot_noise_ceil)
    plan = plan_of(models, data, theta, method, N, pattern_descriptor, rdm_descriptor)
    if plan is None:
        return original("inference.evaluate", "eval_bootstrap_pattern")(*given)
    draws = _draw(plan, N, rdms=False, patterns=True)
    return _finish(
        plan, draws, boot_noise_ceil, "bootstrap_pattern", data.n_cond - 1, (False, True)
    )


def eval_bootstrap_rdm(
    models: Any,
    data: Any,
    theta: Any = None,
    method: str = "cosine",
    N: int = 1000,
    rdm_descriptor: str = "index",
    boot_noise_ceil: bool = True,
) -> Any:
    """Evaluate models with a bootstrap over RDMs, as `rsatoolbox.inference.eval_bootstrap_rdm`.

    Parameters, result and notes: see `eval_bootstrap`.
    """
    plan = plan_of(models, data, theta, method, N, None, rdm_descriptor)
    if plan is None:
        given = (models, data, theta, method, N, rdm_descriptor, boot_noise_ceil)
        return original("inference.evaluate", "eval_bootstrap_rdm")(*given)
    draws = _draw(plan, N, rdms=True, patterns=False)
    return _finish(plan, draws, boot_noise_ceil, "bootstrap_rdm", data.n_rdm - 1, (True, False))


class PlannedDraws:
    """The values of the descriptors that each draw has, in rsatoolbox's order; None where nothing is drawn."""

    def __init__(self, plan: Evaluated, n: int) -> None:
        self.plan = plan
        self.n = n
        self.rdms: list[NDArray[Any]] | None = None
        self.patterns: list[NDArray[Any]] | None = None

    def counts(self) -> Draws:
        """Return how often each condition, and each RDM, is drawn."""
        return Draws(
            None if self.patterns is None else self.plan.patterns.counts(self.patterns),
            None if self.rdms is None else self.plan.rdms.counts(self.rdms),
        )

    def too_few(self) -> NDArray[np.bool_]:
        """Return which draws have fewer than three patterns."""
        if self.patterns is None:
            return np.zeros(self.n, bool)
        return np.array([len(np.unique(values)) < 3 for values in self.patterns])


def draw_rdms(plan: Evaluated) -> NDArray[Any]:
    """Draw positions of groups of RDMs from the global random state, as `bootstrap_sample_rdm`."""
    return np.random.randint(0, plan.rdms.n, size=plan.rdms.n)  # noqa: NPY002


def draw_patterns(plan: Evaluated) -> NDArray[Any]:
    """Draw positions of groups of conditions from the global random state, as `bootstrap_sample_pattern`."""
    return np.random.randint(0, plan.patterns.n, size=plan.patterns.n)  # noqa: NPY002


def _draw(plan: Evaluated, n: int, *, rdms: bool, patterns: bool) -> PlannedDraws:
    found = PlannedDraws(plan, n)
    found.rdms = [] if rdms else None
    found.patterns = [] if patterns else None
    for _ in range(n):
        if found.rdms is not None:
            found.rdms.append(draw_rdms(plan))
        if found.patterns is not None:
            found.patterns.append(draw_patterns(plan))
    return found


def results_of(plan: Evaluated, draws: PlannedDraws, with_ceilings: bool = True) -> Drawn:
    """Evaluate all draws with three patterns or more; the others are NaN."""
    usable = ~draws.too_few()
    counts = draws.counts()
    chosen = Draws(
        None if counts.conditions is None else counts.conditions[usable],
        None if counts.rdms is None else counts.rdms[usable],
    )
    evaluations = np.full((draws.n, plan.rows.n_models), np.nan)
    bounds = np.full((2, draws.n), np.nan)
    if usable.any():
        found = evaluate(plan.rows, chosen, plan.method, with_ceilings)
        evaluations[usable], bounds[:, usable] = found.evaluations, found.ceilings
        for i in np.flatnonzero(usable)[found.doubtful]:
            evaluations[i], bounds[:, i] = draw_doubtful(
                plan,
                None if draws.rdms is None else draws.rdms[i],
                None if draws.patterns is None else draws.patterns[i],
                with_ceilings,
            )
    return Drawn(evaluations, bounds, ~usable)


def _finish(
    plan: Evaluated,
    draws: PlannedDraws,
    with_ceilings: bool,
    name: str,
    dof: int,
    resampled: tuple[bool, bool],
) -> Any:
    """Make rsatoolbox's Result, with its estimates of variances."""
    data, method = plan.data, plan.method
    found = results_of(plan, draws, with_ceilings)
    evaluations, ceiling = found.evaluations, found.ceilings
    fine = np.isfinite(evaluations[:, 0])
    if with_ceilings:
        warn_about_tau(method)
        variances = np.cov(np.concatenate([evaluations[fine].T, ceiling[:, fine]]))
    else:
        ceiling = np.array(boot_noise_ceiling(data, method, plan.rdm_descriptor))
        variances = np.cov(evaluations[fine].T)
    if name == "bootstrap_rdm":
        # As rsatoolbox, which takes the noise ceiling as fixed here.
        variances = np.cov(evaluations.T)
    result = toolbox("inference.result").Result(
        plan.models,
        evaluations,
        method=method,
        cv_method=name,
        noise_ceiling=ceiling,
        variances=variances,
        dof=dof,
        n_rdm=data.n_rdm if resampled[0] else None,
        n_pattern=data.n_cond if resampled[1] else None,
    )
    result.n_rdm, result.n_pattern = data.n_rdm, data.n_cond
    return result
