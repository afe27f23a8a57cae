"""Stimuli and brains on disk.

In come folders: the Algonauts 2019 challenge's download, or any folder with a `study.toml`. Out go studies, each with
its images in order, and for every region a `Target`, or the responses of its units, or both.

Read `study` first: the `Study` class. `opening` finds and opens the studies of a folder, and finds the data folder;
`settings` reads a `study.toml`, `stimuli` finds the images that its order lists, and `regions` keeps the regions that
are chosen. A `region_reader` makes `region_data` of each table of a `study.toml`: `targets` makes a `Target` of RDMs,
`response_targets` one of responses, and `chosen_measures` says what a region is scored by. `name_matching` matches
other data to the stimuli by name. `challenge` has the challenge's files and constants, `submissions` reads, writes and
scores submissions, and `algonauts` offers both modules as one namespace. `check` reports what was understood of a
study: `agreement` and `response_summary` have the facts of a region's subjects, `suspicions`, `region_suspicions` and
`response_suspicions` what looks wrong with stimuli, RDMs and responses.

`rdm_files` reads RDMs from the files of other programs, with labels of conditions that `condition_labels` matches to
the stimuli. It uses `rdm_formats`, the variables that a format has; `rdm_choice`, keys and names; `rdm_stacks`, a
variable as a stack with named axes; and `rdm_values`, arrays of RDMs, square or condensed.

`response_regions` reads the responses of a region, whose fields `response_fields` checks: `response_files` has the
arrays of subjects with named axes, `row_values` what is known of each row, `stimulus_rows` matches rows to the stimuli
and gathers repeats, `unit_masks` reads which units are kept, and `response_facts` says what was understood. Both kinds
of files share `axis_names` and `label_sets`.

`fetching` brings public data into a folder: `public_data` knows what there is, `downloading` resumes each file, and
`unpacking` unpacks archives.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.studies import algonauts
    from fastrdm.studies.agreement import RegionFacts
    from fastrdm.studies.challenge import CEILINGS
    from fastrdm.studies.check import StudyCheck, check_studies, check_study
    from fastrdm.studies.fetching import FetchedFile, fetch_data, read_checksums
    from fastrdm.studies.name_matching import rows_of_study
    from fastrdm.studies.opening import collect_studies, find_data, open_studies
    from fastrdm.studies.public_data import PUBLIC_DATA, PublicData
    from fastrdm.studies.rdm_files import StoredRdms, read_rdms
    from fastrdm.studies.response_facts import ResponseFacts
    from fastrdm.studies.response_summary import ResponseSummary
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
            "fastrdm.studies.fetching": ["FetchedFile", "fetch_data", "read_checksums"],
            "fastrdm.studies.name_matching": ["rows_of_study"],
            "fastrdm.studies.public_data": ["PUBLIC_DATA", "PublicData"],
            "fastrdm.studies.rdm_files": ["StoredRdms", "read_rdms"],
            "fastrdm.studies.response_facts": ["ResponseFacts"],
            "fastrdm.studies.response_summary": ["ResponseSummary"],
            "fastrdm.studies.study": ["MEASURES", "Study", "synthetic_notice"],
            "fastrdm.studies.suspicions": ["Stimulus", "Suspicion"],
        },
        packages=("algonauts",),
    )

__all__ = [
    "CEILINGS",
    "MEASURES",
    "PUBLIC_DATA",
    "FetchedFile",
    "PublicData",
    "RegionFacts",
    "ResponseFacts",
    "ResponseSummary",
    "Stimulus",
    "StoredRdms",
    "Study",
    "StudyCheck",
    "Suspicion",
    "algonauts",
    "check_studies",
    "check_study",
    "collect_studies",
    "fetch_data",
    "find_data",
    "open_studies",
    "read_checksums",
    "read_rdms",
    "rows_of_study",
    "synthetic_notice",
]
