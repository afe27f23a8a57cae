"""Stimuli and brains on disk.

In come folders: the Algonauts 2019 challenge's download, or any folder with a `study.toml`. Out go studies, each with
its images in order and a `Target` for every region.

Read `study` first: the `Study` class. `opening` finds and opens the studies of a folder, and finds the data folder;
`settings` reads a `study.toml`, `stimuli` finds the images that its order lists, `targets` makes a `Target` of each of
its tables, and `regions` keeps the targets that are chosen. `challenge` has the challenge's files and constants,
`submissions` reads, writes and scores submissions, and `algonauts` offers both modules as one namespace. `check`
reports what was understood of a study: `agreement` has the facts of a region's subjects, `suspicions` and
`region_suspicions` what looks wrong with stimuli and RDMs.

`rdm_files` reads RDMs from the files of other programs, with labels of conditions that `condition_labels` matches to
the stimuli. It uses `rdm_formats`, the variables that a format has; `rdm_choice`, keys and names; `rdm_stacks`, a
variable as a stack with named axes; and `rdm_values`, arrays of RDMs, square or condensed.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.studies import algonauts
    from fastrdm.studies.agreement import RegionFacts
    from fastrdm.studies.challenge import CEILINGS
    from fastrdm.studies.check import StudyCheck, check_studies, check_study
    from fastrdm.studies.opening import collect_studies, find_data, open_studies
    from fastrdm.studies.rdm_files import StoredRdms, read_rdms
    from fastrdm.studies.study import MEASURES, Study, synthetic_notice
    from fastrdm.studies.suspicions import Stimulus, Suspicion
else:
    # Imported on first use: to find the data, or to read RDMs, takes few of these modules.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm.studies.agreement": ["RegionFacts"],
            "fastrdm.studies.challenge": ["CEILINGS"],
            "fastrdm.studies.check": ["StudyCheck", "check_studies", "check_study"],
            "fastrdm.studies.opening": ["collect_studies", "find_data", "open_studies"],
            "fastrdm.studies.rdm_files": ["StoredRdms", "read_rdms"],
            "fastrdm.studies.study": ["MEASURES", "Study", "synthetic_notice"],
            "fastrdm.studies.suspicions": ["Stimulus", "Suspicion"],
        },
        packages=("algonauts",),
    )

__all__ = [
    "CEILINGS",
    "MEASURES",
    "RegionFacts",
    "Stimulus",
    "StoredRdms",
    "Study",
    "StudyCheck",
    "Suspicion",
    "algonauts",
    "check_studies",
    "check_study",
    "collect_studies",
    "find_data",
    "open_studies",
    "read_rdms",
    "synthetic_notice",
]
