"""Non-negative least squares on the normal equations, for many problems at once.

The active-set method of Lawson & Hanson (1974), Solving least squares problems, chapter 23, on products of regressors
as in Bro & de Jong (1997), J. Chemometrics 11, 393–401. The search needs products of regressors alone, so its time does
not depend on the length of the regressors.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A regressor enters if its correlation with the residual is above this share of the terms that the residual is made of.
_TOLERANCE = 1e-12
# Steps allowed for each regressor; a problem needs about one.
_STEPS = 30


def solve_nonnegative(products: Floats, targets: Floats) -> Floats:
    """Minimise w·G·w − 2 w·b over weights w ≥ 0, for each problem.

    Parameters
    ----------
    products : ndarray, shape (problems, regressors, regressors)
        G = X Xᵀ of the regressors X (regressors, entries).
    targets : ndarray, shape (problems, regressors)
        b = X y of the target y.

    Returns
    -------
    ndarray, shape (problems, regressors)
        Weights; 0 for a regressor that is zero throughout. Of several equal regressors, the first gets the weight.

    Raises
    ------
    RuntimeError
        If the search does not end, which rounding could cause.
    """
    size = np.sqrt(np.einsum("pii->pi", products))
    usable = size > 0
    unit = np.where(usable, size, 1)
    g = products / (unit[:, :, None] * unit[:, None, :])
    b = np.where(usable, targets / unit, 0)
    largest = np.abs(b).max(axis=1, initial=0, keepdims=True)
    scale = np.where(largest > 0, largest, 1)
    return _Search(g, b / scale, usable).run() * scale / unit


class _Search:
    """Problems with regressors of length 1, and the state of each search."""

    def __init__(self, g: Floats, b: Floats, usable: Mask) -> None:
        self.g, self.b, self.usable = g, b, usable
        self.x = np.zeros_like(b)
        # Regressors with a positive weight, and those that cannot enter until another one has.
        self.passive, self.barred = np.zeros_like(usable), ~usable

    def run(self) -> Floats:
        """Return the weights."""
        running = np.arange(len(self.b))
        for _ in range(_STEPS * (self.b.shape[1] + 1)):
            running = running[self._enter(running)]
            if not len(running):
                return self.x
        raise RuntimeError(f"non-negative least squares did not end for {len(running)} problems")

    def _enter(self, which: NDArray[np.intp]) -> Mask:
        """Let the best regressor of each problem enter; return which problems had one."""
        x = self.x[which]
        gradient = self.b[which] - np.einsum("pij,pj->pi", self.g[which], x)
        gradient[self.passive[which] | self.barred[which]] = -np.inf
        best = gradient.argmax(axis=1)
        rows = np.arange(len(which))
        goes_on: Mask = gradient[rows, best] > _TOLERANCE * (1 + x.sum(axis=1))
        which, best = which[goes_on], best[goes_on]
        if not len(which):
            return goes_on
        self.passive[which, best] = True
        solution = self._solve(which)
        # By rounding alone, a regressor that enters can get a weight that is not positive.
        fails = solution[np.arange(len(which)), best] <= 0
        self.passive[which[fails], best[fails]] = False
        self.barred[which[fails], best[fails]] = True
        which, solution = which[~fails], solution[~fails]
        self.barred[which] = ~self.usable[which]
        self._step(which, solution)
        return goes_on

    def _step(self, which: NDArray[np.intp], solution: Floats) -> None:
        """Move to each solution; regressors whose weight would fall below 0 leave on the way."""
        while len(which):
            x, passive = self.x[which], self.passive[which]
            leaves = passive & (solution <= 0)
            is_done = ~leaves.any(axis=1)
            self.x[which[is_done]] = solution[is_done]
            which, x, passive = which[~is_done], x[~is_done], passive[~is_done]
            solution, leaves = solution[~is_done], leaves[~is_done]
            if not len(which):
                return
            with np.errstate(invalid="ignore", divide="ignore"):
                share = np.where(leaves, x / (x - solution), np.inf)
            share[np.isnan(share)] = 0
            least = share.min(axis=1, keepdims=True)
            x = x + least * (solution - x)
            passive &= ~(leaves & (share <= least)) & ~(leaves & (x <= 0))
            self.x[which] = np.where(passive, x.clip(0), 0)
            self.passive[which] = passive
            solution = self._solve(which)

    def _solve(self, which: NDArray[np.intp]) -> Floats:
        """Return the unrestricted solutions for the passive regressors; 0 for the others."""
        passive = self.passive[which]
        both = passive[:, :, None] & passive[:, None, :]
        g = np.where(both, self.g[which], np.eye(self.b.shape[1]))
        b = np.where(passive, self.b[which], 0)[..., None]
        try:
            return np.asarray(np.linalg.solve(g, b)[..., 0])
        except np.linalg.LinAlgError:
            return np.asarray((np.linalg.pinv(g, hermitian=True) @ b)[..., 0])
