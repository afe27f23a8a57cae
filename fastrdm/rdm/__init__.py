"""Activations → RDMs.

In come activations of n conditions, as an array, a stack or a memory-mapped file; out goes the condensed RDM, the upper
triangle of n × n dissimilarities row by row. Data stay float32 or 16-bit; sums are float64.

Read `methods` first: one row per method, with everything known about it. `calc` (`calc_rdm`) computes an RDM in one
call, `gram_matrix` (`gram`) the products of all pairs, `accumulator` from blocks of channels; `inputs` checks their
arguments. `sources` has the rows that a method compares, with `whitening` for noise and `folds` for cross-validation.
`products` multiplies all pairs of conditions, `measures` turns products into angles and distances, `pairs` gives each
pair the digits that it needs, and `tiles` keeps to a memory limit. `sums` adds up blocks of channels, and
`from_products` takes products that a device computed; `numbers` finds out whether products are exact. `projection`
reduces wide layers first; `bounds` has the errors that this causes.
"""

from fastrdm.rdm.accumulator import RdmAccumulator
from fastrdm.rdm.calc import calc_rdm
from fastrdm.rdm.from_products import rdm_from_products
from fastrdm.rdm.gram_matrix import Gram, gram
from fastrdm.rdm.inputs import UndefinedPairsWarning
from fastrdm.rdm.measures import NEAR_ANGLE, Measure, Operand, operand_of
from fastrdm.rdm.methods import method_named, names_where
from fastrdm.rdm.pairs import pairs_at
from fastrdm.rdm.projection import Projector, SparseProjection

__all__ = [
    "NEAR_ANGLE",
    "Gram",
    "Measure",
    "Operand",
    "Projector",
    "RdmAccumulator",
    "SparseProjection",
    "UndefinedPairsWarning",
    "calc_rdm",
    "gram",
    "method_named",
    "names_where",
    "operand_of",
    "pairs_at",
    "rdm_from_products",
]
