"""Stimuli and brains on disk.

In come folders: the Algonauts 2019 challenge's download, or any folder with a `study.toml`. Out go studies, each with
its images in order and a `Target` for every region.

Read `study` first: the `Study` class. `opening` finds and opens the studies of a folder, and finds the data folder;
`settings` reads a `study.toml`, `stimuli` finds the images that its order lists, and `regions` keeps the targets that
are chosen. `challenge` has the challenge's files and constants, `submissions` reads, writes and scores submissions, and
`algonauts` offers both modules as one namespace. `check` reports what was understood of a study:
`agreement` has the facts of a region's subjects, `suspicions` and `region_suspicions` what looks wrong with stimuli and
RDMs.
"""

from fastrdm.studies import algonauts
from fastrdm.studies.agreement import RegionFacts, mean_rdm
from fastrdm.studies.challenge import CEILINGS
from fastrdm.studies.check import StudyCheck, check_studies, check_study
from fastrdm.studies.opening import collect_studies, find_data, open_studies
from fastrdm.studies.study import Study, synthetic_notice
from fastrdm.studies.suspicions import Stimulus, Suspicion

__all__ = [
    "CEILINGS",
    "RegionFacts",
    "Stimulus",
    "Study",
    "StudyCheck",
    "Suspicion",
    "algonauts",
    "check_studies",
    "check_study",
    "collect_studies",
    "find_data",
    "mean_rdm",
    "open_studies",
    "synthetic_notice",
]
