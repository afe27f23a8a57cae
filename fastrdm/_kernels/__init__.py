"""The hot loops, compiled or jitted, and the choice between the two.

In come arrays that are checked and laid out; out go products of all pairs, ranks, counts of concordant pairs and
resampled similarities. Values are checked, and results allocated, before a kernel is called. Python's signal handlers
run about every 100 ms during a call; an exception that one raises ends it.

Read `dispatch` first: it chooses by what is installed, `FASTRDM_KERNELS` and `FASTRDM_ISA`. `products` (activations),
`searchlights` (neighbourhoods) and `ranks` (rows of RDMs) have a function for each kernel, which allocates the result.
`_core` is the compiled module: `_core.pyi` documents its functions, `cpp/` is its source (only `bindings.cpp` includes
Python). `numba/` has the same functions in portable form, and is imported only when chosen. Each kernel has the same
name in both and, if it has one, in the tests' plain oracle. `ties` makes values equal that differ only by rounding;
both kernel sets rank by its rule.
"""

from fastrdm._kernels import ties
from fastrdm._kernels.dispatch import KernelInfo, active, kernels, n_processors
from fastrdm._kernels.products import (
    SIGN_BLOCK,
    angles,
    cross,
    differences,
    distances,
    distinct,
    gram,
    guess_means,
    normalise,
    project,
    share,
)
from fastrdm._kernels.ranks import (
    Prepared,
    centred_ranks,
    concordance,
    merge_near,
    padded,
    permuted_similarities,
    rank,
    rank_similarities,
    resampled_ceilings,
    resampled_similarities,
    similarities,
)
from fastrdm._kernels.searchlights import METHOD_NUMBERS, searchlight, sliding_searchlight
from fastrdm._kernels.ties import FLOAT64, bound_of, settle

__all__ = [
    "FLOAT64",
    "METHOD_NUMBERS",
    "SIGN_BLOCK",
    "KernelInfo",
    "Prepared",
    "active",
    "angles",
    "bound_of",
    "centred_ranks",
    "concordance",
    "cross",
    "differences",
    "distances",
    "distinct",
    "gram",
    "guess_means",
    "kernels",
    "merge_near",
    "n_processors",
    "normalise",
    "padded",
    "permuted_similarities",
    "project",
    "rank",
    "rank_similarities",
    "resampled_ceilings",
    "resampled_similarities",
    "searchlight",
    "settle",
    "share",
    "similarities",
    "sliding_searchlight",
    "ties",
]
