"""Gram matrices × responses → how well a layer predicts each unit.

In come Gram matrices of layers and the responses of measured units; out go predictions of held-out conditions and their
correlations with the responses, by ridge regression or partial least squares.

Read `prepared` first: `Responses` are prepared once and score any number of layers; `scores` has the result, and
`ceilings` what it is divided by, as the conventions of the field in `protocols` say. `folds` divides conditions,
`held_out` goes through folds, subjects and units, and `moments` turns predictions into correlations. `regressions`
lists the methods: `ridge` chooses penalties with the `decomposition` of a training fold on its smaller side, `pls`
needs the products alone, and `several_layers` makes one model of all `layers`. `variance_partition` separates what
each layer explains.
"""

from fastrdm.encoding.folds import ConditionFolds, folds_of
from fastrdm.encoding.prepared import Responses
from fastrdm.encoding.protocols import ENCODING_PROTOCOLS, EncodingProtocol, ProtocolScore
from fastrdm.encoding.scores import ResponseScore
from fastrdm.encoding.variance_partition import ResponseVariancePartition, partition_variance

__all__ = [
    "ENCODING_PROTOCOLS",
    "ConditionFolds",
    "EncodingProtocol",
    "ProtocolScore",
    "ResponseScore",
    "ResponseVariancePartition",
    "Responses",
    "folds_of",
    "partition_variance",
]
