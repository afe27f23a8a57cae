"""The table of similarities: one row is all that `compare`, ceilings, targets and inference know of a similarity."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType

import numpy as np

from fastrdm._base import choose
from fastrdm._kernels import Prepared, padded
from fastrdm.similarity import coefficients as steps
from fastrdm.similarity.numerics import is_large
from fastrdm.similarity.resamplers import Resampler, resample_products, resample_ranks


@dataclass(frozen=True)
class Similarity:
    """One similarity of RDMs."""

    name: str
    # The part of the computation that is done once for an RDM, however many RDMs it is compared with.
    prepare: steps.Prepare
    # Similarities of RDMs to prepared RDMs; NaN for an RDM with a NaN or an infinity.
    combine: steps.Combine
    # RDMs, and the same prepared → the values that rsatoolbox averages over subjects.
    standardise: Callable[[steps.Rows, Prepared], steps.Rows]
    _: KW_ONLY
    # Which RDMs have no similarity to any other: "constant" or "zero".
    undefined: str
    # Whether RDMs are compared by the order of their entries, so that ties matter.
    ordinal: bool
    # Whether the kernels may permute prepared RDMs; if not, permutation tests write permuted RDMs out.
    permutable: bool
    # Fast similarities and ceilings of resampled conditions; None where every draw is written out.
    resampler: Resampler | None
    aliases: tuple[str, ...] = ()

    @functools.cached_property
    def sample(self) -> Prepared:
        """Three entries, prepared: their type and length are those of every prepared RDM."""
        return self.prepare(np.array([[0.0, 1.0, 2.0]]), np.ones(3, bool), 1)

    def prepared_length(self, n_pairs: int) -> int:
        """Return the length of a prepared RDM of n pairs."""
        # Ranks that are only counted are not padded.
        return padded(n_pairs) if self.sample.values.shape[1] == padded(3) else n_pairs

    def grows(self, rdms: steps.Rows) -> bool:
        """Return whether prepared RDMs are too large to keep: RDMs are large, and these in a longer type."""
        return is_large(rdms) and self.sample.values.itemsize > rdms.itemsize

    def undefined_rdms(self, rdms: steps.Rows) -> steps.Mask:
        """Return which RDMs (n,) have no similarity to any other."""
        with np.errstate(invalid="ignore"):
            low, high = np.fmin.reduce(rdms, axis=1), np.fmax.reduce(rdms, axis=1)
            return np.asarray((low == high) & ((low == 0) | (self.undefined == "constant")))


# fmt: off
TABLE = (
    Similarity(
        "spearman", steps.centred_ranks, steps.multiply_ranks(untied=False), steps.uncentred_ranks,
        undefined="constant", ordinal=True, permutable=True, resampler=resample_ranks(untied=False),
    ),
    Similarity(
        "rho-a", steps.untied_ranks, steps.multiply_ranks(untied=True), steps.uncentred_ranks,
        undefined="constant", ordinal=True, permutable=True, resampler=resample_ranks(untied=True),
    ),
    Similarity(
        "tau-a", steps.ranks, steps.count_concordance(steps.tau_a), steps.prepared_ranks,
        undefined="constant", ordinal=True, permutable=False, resampler=None,
    ),
    Similarity(
        "tau-b", steps.ranks, steps.count_concordance(steps.tau_b), steps.prepared_ranks, aliases=("kendall",),
        undefined="constant", ordinal=True, permutable=False, resampler=None,
    ),
    Similarity(
        "corr", steps.centred, steps.multiply(steps.centred), steps.z_scores, aliases=("pearson",),
        undefined="constant", ordinal=False, permutable=True, resampler=resample_products(centred=True),
    ),
    Similarity(
        "cosine", steps.scaled, steps.multiply(steps.scaled), steps.unit_squares,
        undefined="zero", ordinal=False, permutable=True, resampler=resample_products(centred=False),
    ),
    Similarity(
        "corr_cov", steps.centred_whitened, steps.multiply(steps.centred_whitened), steps.z_scores,
        undefined="constant", ordinal=False, permutable=True, resampler=None,
    ),
    Similarity(
        "cosine_cov", steps.whitened, steps.multiply(steps.whitened), steps.unit_squares,
        undefined="zero", ordinal=False, permutable=True, resampler=None,
    ),
)
# fmt: on
SIMILARITIES: Mapping[str, Similarity] = MappingProxyType(
    {name: row for row in TABLE for name in (row.name, *row.aliases)}
)


def get_similarity(method: str) -> Similarity:
    """Return the row of this name or alias; ValueError that lists the known names for an unknown one."""
    return choose(method, SIMILARITIES, "method")
