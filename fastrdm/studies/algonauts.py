"""The Algonauts 2019 challenge: its files, its constants and its scores.

Cichy et al. (2019), The Algonauts Project: a platform for communication between the sciences of
biological and artificial intelligence, arXiv:1905.05675.
"""

from fastrdm.studies.challenge import (
    CEILINGS,
    MEG_WINDOWS,
    REGIONS,
    ChallengeImages,
    image_sets,
    read_target,
    subject_rdms,
)
from fastrdm.studies.submissions import (
    Evaluation,
    OverallScore,
    RegionScore,
    evaluate,
    read_submission,
    write_submission,
)

ImageSet = ChallengeImages

__all__ = [
    "CEILINGS",
    "MEG_WINDOWS",
    "REGIONS",
    "ChallengeImages",
    "Evaluation",
    "ImageSet",
    "OverallScore",
    "RegionScore",
    "evaluate",
    "image_sets",
    "read_submission",
    "read_target",
    "subject_rdms",
    "write_submission",
]
