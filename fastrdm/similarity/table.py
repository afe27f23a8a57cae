"""The table of similarities: one row is all that `compare`, ceilings, targets and inference know of a similarity."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from fastrdm._base import choose
from fastrdm._kernels import Prepared
from fastrdm.similarity import coefficients as steps
from fastrdm.similarity.resamplers import Resampler, resample_products, resample_ranks


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """One similarity of RDMs.

    Attributes
    ----------
    name : str
        The name that `compare` takes.
    prepare : callable
        RDMs (n, pairs left), which of all pairs those are, and a number of threads → the part of the computation that
        is done once for an RDM, however many RDMs it is compared with.
    combine : callable
        RDMs (n1, pairs left), which pairs, n2 prepared RDMs, `paired`, number of threads → similarities (n1, n2), or
        (n, 1) of row i with row i. An RDM with a NaN or an infinity has NaN as its similarities.
    standardise : callable
        RDMs, and the same prepared → the values that rsatoolbox averages over subjects for this similarity.
    undefined : str
        Which RDMs have no similarity to any other: ``"constant"`` or ``"zero"``.
    ordinal : bool
        Whether RDMs are compared by the order of their entries, so that ties matter.
    permutable : bool
        Whether the kernels may permute prepared RDMs; if not, permutation tests write permuted RDMs out.
    resampler : Resampler or None
        Fast similarities and ceilings of resampled conditions; None where every draw is written out.
    aliases : tuple of str
        Other names.
    """

    name: str
    prepare: steps.Prepare
    combine: steps.Combine
    standardise: Callable[[steps.Rows, Prepared], steps.Rows]
    undefined: str
    ordinal: bool
    permutable: bool
    resampler: Resampler | None
    aliases: tuple[str, ...] = ()

    def undefined_rdms(self, rdms: steps.Rows) -> steps.Mask:
        """Return which RDMs (n,) have no similarity to any other."""
        with np.errstate(invalid="ignore"):
            low, high = np.fmin.reduce(rdms, axis=1), np.fmax.reduce(rdms, axis=1)
            return np.asarray((low == high) & ((low == 0) | (self.undefined == "constant")))


TABLE = (
    Similarity(
        name="spearman",
        prepare=steps.prepare_centred_ranks,
        combine=steps.multiply_ranks(untied=False),
        standardise=steps.uncentred_ranks,
        undefined="constant",
        ordinal=True,
        permutable=True,
        resampler=resample_ranks(untied=False),
    ),
    Similarity(
        name="rho-a",
        prepare=steps.prepare_untied_ranks,
        combine=steps.multiply_ranks(untied=True),
        standardise=steps.uncentred_ranks,
        undefined="constant",
        ordinal=True,
        permutable=True,
        resampler=resample_ranks(untied=True),
    ),
    Similarity(
        name="tau-a",
        prepare=steps.prepare_ranks,
        combine=steps.count_concordance(steps.tau_a),
        standardise=steps.ranks,
        undefined="constant",
        ordinal=True,
        permutable=False,
        resampler=None,
    ),
    Similarity(
        name="tau-b",
        aliases=("kendall",),
        prepare=steps.prepare_ranks,
        combine=steps.count_concordance(steps.tau_b),
        standardise=steps.ranks,
        undefined="constant",
        ordinal=True,
        permutable=False,
        resampler=None,
    ),
    Similarity(
        name="corr",
        aliases=("pearson",),
        prepare=steps.prepare_centred,
        combine=steps.multiply(steps.prepare_centred),
        standardise=steps.z_scores,
        undefined="constant",
        ordinal=False,
        permutable=True,
        resampler=resample_products(centred=True),
    ),
    Similarity(
        name="cosine",
        prepare=steps.prepare_scaled,
        combine=steps.multiply(steps.prepare_scaled),
        standardise=steps.unit_squares,
        undefined="zero",
        ordinal=False,
        permutable=True,
        resampler=resample_products(centred=False),
    ),
    Similarity(
        name="corr_cov",
        prepare=steps.prepare_centred_whitened,
        combine=steps.multiply(steps.prepare_centred_whitened),
        standardise=steps.z_scores,
        undefined="constant",
        ordinal=False,
        permutable=True,
        resampler=None,
    ),
    Similarity(
        name="cosine_cov",
        prepare=steps.prepare_whitened,
        combine=steps.multiply(steps.prepare_whitened),
        standardise=steps.unit_squares,
        undefined="zero",
        ordinal=False,
        permutable=True,
        resampler=None,
    ),
)
SIMILARITIES: Mapping[str, Similarity] = MappingProxyType(
    {name: row for row in TABLE for name in (row.name, *row.aliases)}
)


def get_similarity(method: str) -> Similarity:
    """Return the row of this name or alias; ValueError that lists the known names for an unknown one."""
    return choose(method, SIMILARITIES, "method")
