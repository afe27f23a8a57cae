"""
Where the time went
===================

`fastrdm.plot.stages` divides the time of each contender into its stages.
"""

import fastrdm

# %%
# Invented seconds. ``python -m bench.report`` draws this figure from the results of ``make bench``.
times = {
    "fastrdm": {"forward pass": 3.4, "RDMs": 0.25},
    "torch + NumPy + SciPy": {"forward pass": 6.2, "RDMs": 1.6, "scores": 0.6, "other": 0.1},
    "torch + rsatoolbox": {"forward pass": 6.4, "RDMs": 11.3, "scores": 0.1, "other": 0.1},
}
axes = fastrdm.plot.stages(times, title="Seconds to score one checkpoint")
