"""RDMs × RDMs → similarities, noise ceilings and scores; Gram matrices × Gram matrices → similarities and distances.

In come condensed or square RDMs of models and of subjects; out go similarities (models, subjects), noise ceilings and
scores. In come Gram matrices of layers and brains; out go CKA, canonical correlations and distances of shapes. Nothing
here draws conclusions: that is `inference`.

Read `comparison` first: `compare` correlates two stacks of RDMs. `table` has one row for each similarity, from Spearman
to whitened cosine, which consists of the steps in `coefficients`. `sides` compares RDMs on the pairs that both have,
`device_sides` those on a device, `shapes` brings the RDMs of callers into one form. `ceiling` computes how well any
model can do, from means of subjects. `numerics` has these means, keeps extreme numbers in range and bounds memory.
`protocol` lists conventions, and turns similarities into scores, `time_scores` into scores of each time point. A
`target` holds one region's subjects, prepared for any number of models; its `target_state` is in memory or in a
`target_file`, whose contents `target_contents` checks; `response_rdms` makes its RDMs of measured responses. For
inference, `resampling` computes similarities of RDMs whose conditions or subjects are drawn again or permuted;
`resamplers` are its fast paths. For models with parameters, `parts` takes some conditions and subjects.
`partial_comparison` removes control RDMs, and `variance_partition` divides the variance of subjects among sets of RDMs.

For Gram matrices, read `gram_inputs` first, which centres them in all forms that callers pass. `alignment` (`cka`)
multiplies all pairs of them at once, `device_alignment` those on a device. `factors` has the configurations of
conditions that have these products; `shape_distances` (`procrustes`, `angular_distance`, `bures_similarity`) and
`canonical` (`cca`) compare those.
"""

from fastrdm.similarity.alignment import cka
from fastrdm.similarity.canonical import cca
from fastrdm.similarity.ceiling import NoiseCeiling, TimeNoiseCeiling, noise_ceiling
from fastrdm.similarity.comparison import compare, compare_condensed, rank
from fastrdm.similarity.numerics import blocks_of, in_range
from fastrdm.similarity.partial_comparison import partial_compare
from fastrdm.similarity.parts import (
    held_out_ceilings,
    pairs_among,
    part_of,
    rdm_vectors,
    standardised_rdms,
    take_subjects,
)
from fastrdm.similarity.protocol import PROTOCOLS, Protocol, Score, score_similarities
from fastrdm.similarity.resampling import SubjectData
from fastrdm.similarity.shape_distances import angular_distance, bures_similarity, procrustes
from fastrdm.similarity.sides import NAN_POLICIES, check_values
from fastrdm.similarity.target import Target
from fastrdm.similarity.time_scores import (
    OVER_TIME,
    TimeScore,
    TimeTable,
    check_over_time,
    check_times,
    labelled_times,
    score_each_time,
    time_runs,
    time_texts,
)
from fastrdm.similarity.variance_partition import RdmVariancePartition, partition_rdm_variance

__all__ = [
    "NAN_POLICIES",
    "OVER_TIME",
    "PROTOCOLS",
    "NoiseCeiling",
    "Protocol",
    "RdmVariancePartition",
    "Score",
    "SubjectData",
    "Target",
    "TimeNoiseCeiling",
    "TimeScore",
    "TimeTable",
    "angular_distance",
    "blocks_of",
    "bures_similarity",
    "cca",
    "check_over_time",
    "check_times",
    "check_values",
    "cka",
    "compare",
    "compare_condensed",
    "held_out_ceilings",
    "in_range",
    "labelled_times",
    "noise_ceiling",
    "pairs_among",
    "part_of",
    "partial_compare",
    "partition_rdm_variance",
    "procrustes",
    "rank",
    "rdm_vectors",
    "score_each_time",
    "score_similarities",
    "standardised_rdms",
    "take_subjects",
    "time_runs",
    "time_texts",
]
