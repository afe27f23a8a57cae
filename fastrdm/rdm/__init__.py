"""Activations → RDMs.

In come activations of n conditions, as an array, a stack or a memory-mapped file; out goes the condensed RDM, the upper
triangle of n × n dissimilarities row by row. Data stay float32 or 16-bit; sums are float64.

Read `methods` first: one row per method, with everything known about it. `calc` (`calc_rdm`) and `grams` (`gram`)
compute RDMs and Gram matrices, of stacks by `stacks`, and `accumulator` from blocks of channels; `inputs` checks their
arguments. `sources` has the rows that a method compares, with `whitening` for noise and `folds` for cross-validation.
`products` multiplies all pairs of conditions as the kernels do, `conditions` so that every measure has enough digits;
`numbers` finds out whether products are exact. `measures` turns products into angles and distances, `pairs` adds the
digits of near pairs, and `tiles` does both within a memory limit.
A `gram_matrix` (`Gram`) is made by `gram_making` of products and digits, its `gram_parts`, which `gram_file` writes;
`tensor_grams` makes it of activations on a device.
`projection` reduces wide layers first, for Grams with `gram_projection`; `bounds` has the errors that this causes.
"""

from fastrdm.rdm.accumulator import GramAccumulator, RdmAccumulator
from fastrdm.rdm.calc import calc_rdm
from fastrdm.rdm.folds import Folds
from fastrdm.rdm.gram_making import gram_from_products
from fastrdm.rdm.gram_matrix import Gram
from fastrdm.rdm.gram_projection import GramProjector
from fastrdm.rdm.grams import chosen_methods, gram
from fastrdm.rdm.inputs import UndefinedPairsWarning, aligned, check_options, noises_of
from fastrdm.rdm.labelled_results import check_fold_orders, fold_conditions
from fastrdm.rdm.measures import NEAR_ANGLE, Measure, Operand, operand_of
from fastrdm.rdm.methods import method_named, names_where
from fastrdm.rdm.pairs import NearPairs, pairs_at
from fastrdm.rdm.projection import Projector, SparseProjection
from fastrdm.rdm.sources import Member
from fastrdm.rdm.whitening import Precision, Residuals

__all__ = [
    "NEAR_ANGLE",
    "Folds",
    "Gram",
    "GramAccumulator",
    "GramProjector",
    "Measure",
    "Member",
    "NearPairs",
    "Operand",
    "Precision",
    "Projector",
    "RdmAccumulator",
    "Residuals",
    "SparseProjection",
    "UndefinedPairsWarning",
    "aligned",
    "calc_rdm",
    "check_fold_orders",
    "check_options",
    "chosen_methods",
    "fold_conditions",
    "gram",
    "gram_from_products",
    "method_named",
    "names_where",
    "noises_of",
    "operand_of",
    "pairs_at",
]
