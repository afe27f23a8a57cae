"""R² of every combination of predictors → the shares that exactly some of them have in common."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.checks import check_choice

Names = tuple[str, ...]


def all_combinations(names: Names) -> tuple[Names, ...]:
    """Return all combinations of names, the single ones first and all together last."""
    return tuple(c for k in range(1, len(names) + 1) for c in combinations(names, k))


def combination_row(names: Names, chosen: Sequence[str], what: str) -> int:
    """Return the row of a combination among `all_combinations`; ValueError if a name is unknown or none is chosen."""
    for name in chosen:
        check_choice(name, names, what)
    if not chosen:
        raise ValueError(f"name at least one of the {what}s: {', '.join(names)}")
    return all_combinations(names).index(tuple(name for name in names if name in chosen))


def common_shares(names: Names, r2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares of R², both with a row for each of `all_combinations`, by inclusion and exclusion."""
    combined = all_combinations(names)
    of = dict(zip(combined, r2, strict=True)) | {(): np.zeros(r2.shape[1])}
    shares = []
    for common in combined:
        share = np.zeros(r2.shape[1])
        for k in range(len(common) + 1):
            for some in combinations(common, k):
                joined = tuple(n for n in names if n not in common or n in some)
                share -= (-1) ** k * of[joined]
        shares.append(share)
    return np.stack(shares)
