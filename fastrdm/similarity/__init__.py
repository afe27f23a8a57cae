"""RDMs × RDMs → similarities, and how high they can be.

In come condensed or square RDMs of models and of subjects; out go similarities (models, subjects), noise ceilings and
scores. Nothing here draws conclusions: that is `inference`.

Read `comparison` first: `compare` correlates two sets of RDMs. `sides` groups RDMs by what they miss, `coefficients`
has the table of methods, from Spearman to whitened cosine. `ceiling` says how well any model could do, from means of
subjects (`pooling`), `scales` keeps extreme numbers in range, `protocol` which conventions make a similarity into a
score. A `Target`, in `target`, has one region's subjects ranked once, for any number of models, and keeps them in a
file that processes share. `resampling` and `draws` are what bootstraps and permutations are made of: similarities of
RDMs whose conditions are drawn again, by seed and place.
"""

from fastrdm.similarity.ceiling import NoiseCeiling, noise_ceiling
from fastrdm.similarity.coefficients import get_method
from fastrdm.similarity.comparison import compare, rank
from fastrdm.similarity.draws import (
    CONDITIONS,
    SUBJECTS,
    Counts,
    all_permutations,
    all_signs,
    check_seed,
    count,
    draw_indices,
    draw_permutations,
    draw_signs,
)
from fastrdm.similarity.protocol import PROTOCOLS, Protocol
from fastrdm.similarity.resampling import (
    Data,
    HasSubjects,
    observed_similarities,
    resampled_ceilings,
    resampled_similarities,
    take_models,
    take_subjects,
)
from fastrdm.similarity.scales import in_range
from fastrdm.similarity.sides import NAN_POLICIES, Side, check_values
from fastrdm.similarity.target import Score, Target

__all__ = [
    "CONDITIONS",
    "NAN_POLICIES",
    "PROTOCOLS",
    "SUBJECTS",
    "Counts",
    "Data",
    "HasSubjects",
    "NoiseCeiling",
    "Protocol",
    "Score",
    "Side",
    "Target",
    "all_permutations",
    "all_signs",
    "check_seed",
    "check_values",
    "compare",
    "count",
    "draw_indices",
    "draw_permutations",
    "draw_signs",
    "get_method",
    "in_range",
    "noise_ceiling",
    "observed_similarities",
    "rank",
    "resampled_ceilings",
    "resampled_similarities",
    "take_models",
    "take_subjects",
]
