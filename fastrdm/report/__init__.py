"""Scores → pictures.

In come results of `scoring`; out go files that can be looked at. Matplotlib is imported by what draws.

Read `plot`: one figure with a panel for each study and region, layers from left to right, the noise ceiling behind.
"""

from fastrdm.report.plot import plot_scores

__all__ = ["plot_scores"]
