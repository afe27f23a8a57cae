"""RDMs × RDMs → similarities, noise ceilings and scores.

In come condensed or square RDMs of models and of subjects; out go similarities (models, subjects), noise ceilings and
scores. Nothing here draws conclusions: that is `inference`.

Read `comparison` first: `compare` correlates two stacks of RDMs. `table` has one row for each similarity, from Spearman
to whitened cosine, which consists of the steps in `coefficients`. `sides` compares RDMs on the pairs that both have,
`shapes` brings the RDMs of callers into one form. `ceiling` computes how well any model can do, from means of subjects.
`numerics` has these means, keeps extreme numbers in range and bounds memory. `protocol` lists conventions, and turns
similarities into scores. A `target` holds one region's subjects, prepared for any number of models; its `target_state`
is in memory or in a `target_file`, whose contents `target_contents` checks. For inference, `resampling` computes
similarities of RDMs whose conditions or subjects are drawn again or permuted; `resamplers` are its fast paths.
"""

from fastrdm.similarity.ceiling import NoiseCeiling, noise_ceiling
from fastrdm.similarity.comparison import compare, rank
from fastrdm.similarity.numerics import blocks_of, in_range
from fastrdm.similarity.protocol import PROTOCOLS, Protocol, Score
from fastrdm.similarity.resampling import SubjectData
from fastrdm.similarity.sides import NAN_POLICIES, check_values
from fastrdm.similarity.target import Target

__all__ = [
    "NAN_POLICIES",
    "PROTOCOLS",
    "NoiseCeiling",
    "Protocol",
    "Score",
    "SubjectData",
    "Target",
    "blocks_of",
    "check_values",
    "compare",
    "in_range",
    "noise_ceiling",
    "rank",
]
