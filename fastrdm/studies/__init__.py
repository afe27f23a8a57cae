"""Stimuli and brains on disk.

In come folders: the 2019 challenge's as it was given out, or one's own with a `study.toml`; out go studies, each with
its images in order and a `Target` for every region of every subject group.

Read `study` first: `open_studies` finds and opens what a folder holds, `find_data` looks where data usually is.
`algonauts` knows the challenge: its files, names and constants, how it scores, and what a submission looks like.
"""

from fastrdm.studies import algonauts
from fastrdm.studies.algonauts import CEILINGS
from fastrdm.studies.study import Study, find_data, open_studies

__all__ = ["CEILINGS", "Study", "algonauts", "find_data", "open_studies"]
