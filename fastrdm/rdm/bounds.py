"""How far dissimilarities of random projections may be from those of the activations."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastrdm._base import check_fraction, check_integer


class ProjectionRule(NamedTuple):
    """How an RDM is computed from projections, and how exact it is."""

    #: Method of `calc_rdm` for the projections.
    method: str
    #: Relative error eps of squared lengths → error of a dissimilarity.
    error: Callable[[float], float]
    #: Number of squared lengths that must be right within eps for one dissimilarity to be.
    n_lengths: int
    #: Whether each condition's mean over channels is subtracted first, since projections do not keep it.
    centre: bool = False


def angle_error(eps: float) -> float:
    """Return the error of a cosine whose lengths are right within eps."""
    # The squared lengths of u + v and u − v, for u and v of length 1, give u·v within eps; it is divided by lengths
    # whose product is between 1 − eps and 1 + eps.
    return min(2.0, 2 * eps / (1 - eps))


def distance_error(eps: float) -> float:
    """Return the relative error of a distance whose square is right within eps."""
    return 1 - math.sqrt(1 - eps)


class Bound(NamedTuple):
    """How far a layer's dissimilarities may be from those of its projections.

    Attributes
    ----------
    eps : float
        Squared Euclidean distances are right within a factor 1 ± eps.
    error : float
        Error of a dissimilarity: relative for ``sqeuclidean`` and ``euclidean``, absolute for 1 − r and 1 − cosine.
    probability : float
        Probability that a dissimilarity is within that error, by Dasgupta & Gupta (2003). They prove it for dense
        matrices; it holds here if no few channels dominate the difference.
    certain : float
        The same by Chebyshev's inequality, for all activations.
    """

    eps: float
    error: float
    probability: float
    certain: float


def n_components_for(n_conditions: int, eps: float) -> int:
    """Return how many components keep squared distances within a factor 1 ± eps, for any number of channels.

    The least k ≥ 4 ln(n) / (eps² / 2 − eps³ / 3): each distance between n conditions is then wrong by more with a
    probability of at most 2 / n². scikit-learn's `johnson_lindenstrauss_min_dim` rounds the same number down. See
    Dasgupta & Gupta (2003), An elementary proof of a theorem of Johnson and Lindenstrauss, Random Struct. Algorithms
    22, theorem 2.1.
    """
    check_fraction(eps, "eps")
    return math.ceil(4 * _log(n_conditions) / (eps**2 / 2 - eps**3 / 3))


def _log(n_conditions: int) -> float:
    check_integer(n_conditions, "n_conditions", 2)
    return math.log(n_conditions)


def error_bound(
    rule: ProjectionRule, n_conditions: int, n_components: int, per_channel: int
) -> Bound:
    """Return the bound for so many conditions and components, with so many matrix entries for each channel."""
    # Dasgupta & Gupta's eps² / 2 − eps³ / 3.
    needed = 4 * _log(n_conditions) / n_components
    if needed >= 1 / 6:
        raise ValueError(
            f"{n_components} components have no bound for {n_conditions} conditions;"
            f" use more than {math.floor(24 * _log(n_conditions))}"
        )
    eps = 0.5 + math.cos((2 * math.pi - math.acos(1 - 12 * needed)) / 3)
    widths = np.diff(np.arange(per_channel + 1) * n_components // per_channel)
    variance = 2 * float(np.mean(1 / widths)) / per_channel
    return Bound(
        eps,
        rule.error(eps),
        max(0.0, 1 - rule.n_lengths * 2 / n_conditions**2),
        max(0.0, 1 - rule.n_lengths * variance / eps**2),
    )
