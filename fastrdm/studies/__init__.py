"""Stimuli and brains on disk.

In come folders: the Algonauts 2019 challenge's download, or any folder with a `study.toml`. Out go studies, each with
its images in order and a `Target` for every region.

Read `study` first: the `Study` class. `opening` finds and opens the studies of a folder, and finds the data folder;
`settings` reads a `study.toml`, `stimuli` finds the images that its order lists, and `regions` keeps the targets that
are chosen. `challenge` has the challenge's files and constants, `submissions` reads, writes and scores submissions, and
`algonauts` offers both modules as one namespace.
"""

from fastrdm.studies import algonauts
from fastrdm.studies.challenge import CEILINGS
from fastrdm.studies.opening import collect_studies, find_data, open_studies
from fastrdm.studies.study import Study, synthetic_notice

__all__ = [
    "CEILINGS",
    "Study",
    "algonauts",
    "collect_studies",
    "find_data",
    "open_studies",
    "synthetic_notice",
]
