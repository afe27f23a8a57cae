"""Activations → RDMs.

In come activations of n conditions, as an array, a stack or a memory-mapped file; out goes the condensed RDM, the upper
triangle of n × n dissimilarities row by row. Data stay float32 or 16-bit, sums are float64.

Read `calc` first: `calc_rdm` takes all at once, `RdmAccumulator` takes channels as they come. `methods` has the table
of methods by name; a method is a way to read rows (`sources`, `whitening` for noise, `folds` for cross-validation) and
a measure of two rows. `measures` turns products into angles and distances; `products` makes the products of all pairs,
and `tiles` does so within a bound of memory. `sums` adds up what blocks of channels give, `numbers` says what kind of
numbers the activations are. `projection` makes wide layers narrow first.
"""

from fastrdm.rdm.calc import RdmAccumulator, calc_rdm
from fastrdm.rdm.measures import (
    CORRELATION,
    COSINE,
    DISTANCE,
    NEAR_ANGLE,
    SQUARED_DISTANCE,
    Found,
    Measure,
    found_of,
    pairs_at,
)
from fastrdm.rdm.methods import METHODS, method_named
from fastrdm.rdm.projection import Projector, SparseProjection

__all__ = [
    "CORRELATION",
    "COSINE",
    "DISTANCE",
    "METHODS",
    "NEAR_ANGLE",
    "SQUARED_DISTANCE",
    "Found",
    "Measure",
    "Projector",
    "RdmAccumulator",
    "SparseProjection",
    "calc_rdm",
    "found_of",
    "method_named",
    "pairs_at",
]
