"""Scores and checked studies → pictures.

In come results of `scoring` and checks of `studies`; out go image files and pages. Functions that draw scores import
matplotlib, those that draw stimuli Pillow.

Read `plot`: a figure with a panel for each study and region, and a bar for each layer in percent of the noise ceiling,
or its curve over time (`time_curves`).
`check` writes the report of a checked study, as a page (`check_html`) or a picture (`check_png`), with the rows of
`check_facts` and the pictures of `check_pictures`.
"""

from fastrdm.report.check import check_output, write_check
from fastrdm.report.check_facts import CheckTables, check_tables
from fastrdm.report.plot import check_figure, plot_scores

__all__ = [
    "CheckTables",
    "check_figure",
    "check_output",
    "check_tables",
    "plot_scores",
    "write_check",
]
