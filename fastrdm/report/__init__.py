"""Scores → pictures.

In come results of `scoring`; out go image files. Functions that draw import matplotlib.

Read `plot`: a figure with a panel for each study and region, and a bar for each layer in percent of the noise ceiling.
"""

from fastrdm.report.plot import plot_scores

__all__ = ["plot_scores"]
