"""The hot loops, compiled or jitted, and the one place that chooses between the two.

In come arrays that are checked and lie as they should; out go products of all pairs, ranks, counts of concordant pairs
and resampled similarities. Kernels allocate nothing that is as large as their input, and check nothing.

Read `dispatch` first: it chooses by what is installed, `FASTRDM_KERNELS` and `FASTRDM_ISA`, allocates what goes out,
and has a function for each kernel. `_core` is the compiled module; `_core.pyi` says what its functions take, `cpp/` is
its source (`bindings.cpp` alone includes Python). `numba/` has the same functions in portable form, and is imported
only when it is chosen. Each kernel has the same name in both, and in the tests' plain oracle. `ties` is the rule by
which values that rounding drove apart are equal; both rank by it.
"""

from fastrdm._kernels import ties
from fastrdm._kernels.dispatch import (
    SIGN_BLOCK,
    KernelInfo,
    Prepared,
    active,
    angles,
    centred_ranks,
    concordance,
    cross,
    differences,
    distances,
    distinct,
    gram,
    guess_means,
    kernels,
    normalise,
    padded,
    permuted_similarities,
    project,
    rank,
    rank_similarities,
    resampled_ceilings,
    resampled_similarities,
    share,
    similarities,
)
from fastrdm._kernels.ties import FLOAT64, bound_of, settle

__all__ = [
    "FLOAT64",
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
    "normalise",
    "padded",
    "permuted_similarities",
    "project",
    "rank",
    "rank_similarities",
    "resampled_ceilings",
    "resampled_similarities",
    "settle",
    "share",
    "similarities",
    "ties",
]
