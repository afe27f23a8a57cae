"""
Benchmarks
==========

`fastrdm.plot.benchmarks` has a row for each task and a dot for each contender: how many times
longer it took than the contender of interest, on a logarithmic axis.
"""

import fastrdm

# %%
# Invented seconds by task and contender. ``python -m bench.report`` draws this figure from the
# results of ``make bench``.
times = {
    "RDM, 118 images": {"fastrdm": 0.21, "numpy BLAS": 0.71, "rsatoolbox": 8.6},
    "200 models, 15 subjects": {"fastrdm": 0.012, "scipy spearmanr": 0.9, "rsatoolbox": 0.31},
    "noise ceiling": {"fastrdm": 0.0009, "rsatoolbox": 0.1},
    "bootstrap, 1,000 draws": {"fastrdm": 0.11, "rsatoolbox": 81.0},
}
axes = fastrdm.plot.benchmarks(times, ours="fastrdm")
