"""
Colours
=======

`fastrdm.plot.COLOURS` are safe for colour-blind readers (Okabe and Ito 2008).
"""

from fastrdm import plot

with plot.styled():
    axes = plot.new_axes((3.5, 1))
    axes.bar(range(len(plot.COLOURS)), 1, color=plot.COLOURS)
    axes.set_axis_off()
