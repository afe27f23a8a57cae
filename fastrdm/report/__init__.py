"""Scores and checked studies → pictures.

In come stores and results of `scoring` and checks of `studies`; out go image files and pages. Functions that draw
scores import matplotlib, those that draw stimuli Pillow, and the report of a store Altair.

Read `score_report` first: the report of a store. `score_places` are what its layers were scored against, `study_rdms`
the brains of these studies where the data are found, `score_columns` the numbers in compact columns, with the
`training_runs` that checkpoints belong to; `score_rdms` are RDMs as ranks, `score_facts` says where all of it comes
from. `score_charts` has the specifications of charts, and `score_page` puts everything into the template, style and
scripts of the folder `page`, whose scripts run in the order data, elements, table, charts, rdms, main.

`check` writes the report of a checked study, as a page (`check_html`) or a picture (`check_png`), with the rows of
`check_facts` and the pictures of `check_pictures`.
"""

from fastrdm.plot import check_figure, plot_scores
from fastrdm.report.check import check_output, write_check
from fastrdm.report.check_facts import CheckTables, check_tables
from fastrdm.report.score_report import check_report, write_report

__all__ = [
    "CheckTables",
    "check_figure",
    "check_output",
    "check_report",
    "check_tables",
    "plot_scores",
    "write_check",
    "write_report",
]
