"""RDMs, scores and times → figures.

In come RDMs, results of `scoring` and times; out go matplotlib's Axes. Each function takes `ax=` and draws one figure.

Read `style` first: the colours, sizes and fonts that all figures have.
"""

from fastrdm.plot.style import COLOURS, new_axes, styled

__all__ = ["COLOURS", "new_axes", "styled"]
