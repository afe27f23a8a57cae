"""The kernels of `_core` in portable form; imported only when they are chosen.

Each module mirrors files of `cpp/`; the public functions have the names and arguments of `_core`'s.
"""

from fastrdm._kernels.numba.condense import angles, distances
from fastrdm._kernels.numba.kendall import concordance
from fastrdm._kernels.numba.products import cross, differences, gram, share
from fastrdm._kernels.numba.projection import normalise, project
from fastrdm._kernels.numba.ranks import (
    centred_ranks,
    merge_near,
    rank,
    rank_similarities,
    similarities,
)
from fastrdm._kernels.numba.resampling import (
    permuted_similarities,
    resampled_ceilings,
    resampled_similarities,
)
from fastrdm._kernels.numba.searchlights import searchlight, sliding_searchlight
from fastrdm._kernels.numba.statistics import distinct, guess_means, halves

__all__ = [
    "angles",
    "centred_ranks",
    "concordance",
    "cross",
    "differences",
    "distances",
    "distinct",
    "gram",
    "guess_means",
    "isas",
    "merge_near",
    "normalise",
    "permuted_similarities",
    "project",
    "rank",
    "rank_similarities",
    "resampled_ceilings",
    "resampled_similarities",
    "searchlight",
    "share",
    "similarities",
    "sliding_searchlight",
]

globals().update(halves())


def isas() -> list[str]:
    """Instruction sets to choose from; numba always compiles for the present processor."""
    return ["native"]
