"""Search for the mixture of two layers that is most like a brain, in one jitted function with threads."""

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm.numba import correlation_rdm, noise_ceiling, spearman

Doubles = NDArray[np.float64]


@numba.njit(parallel=True)  # type: ignore[untyped-decorator]
def score_mixtures(first: Doubles, second: Doubles, subjects: Doubles, weights: Doubles) -> Doubles:
    """Return the mean Spearman's ρ over subjects of each mixture's RDM."""
    out = np.empty(len(weights))
    for k in numba.prange(len(weights)):
        rdm = correlation_rdm((1 - weights[k]) * first + weights[k] * second)
        total = 0.0
        for s in range(len(subjects)):
            total += spearman(rdm, subjects[s])
        out[k] = total / len(subjects)
    return out


def main() -> None:
    """Make two layers and three subjects up, who have a third of the second layer, and print the scores."""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 20, 400))
    brain = 2 * first + second
    subjects = np.stack(
        [correlation_rdm(brain + rng.standard_normal(brain.shape)) for _ in range(3)]
    )
    weights = np.linspace(0, 1, 7)
    scores = score_mixtures(first, second, subjects, weights)
    for weight, score in zip(weights, scores, strict=True):
        print(f"{weight:.2f} of the second layer: {score:.3f}")
    lower, upper = noise_ceiling(subjects, spearman)
    print(f"noise ceiling: {lower.mean():.3f} to {upper.mean():.3f}")


if __name__ == "__main__":
    main()
