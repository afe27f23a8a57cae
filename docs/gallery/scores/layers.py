"""
Scores by layer
===============

`fastrdm.plot.layers` draws the score of each layer in percent of the noise ceiling: a dot for each
subject, a point for their mean, and its 95 % interval. The grey band is between the lower and the
upper bound of the noise ceiling, which no model is expected to exceed.
"""

import numpy as np

import fastrdm
from fastrdm.inference import subject_intervals
from fastrdm.scoring import Result

# %%
# Scores of six layers of two networks in one region, with twelve subjects. Scores of a real study
# come from `fastrdm.score_checkpoints`, or from a store by `fastrdm.scoring.read_results`.
rng = np.random.default_rng(0)
CEILING = 0.4
results = []
for checkpoint, means in {
    "untrained.pth": [0.1, 0.1, 0.09, 0.08, 0.07, 0.05],
    "trained.pth": [0.12, 0.15, 0.2, 0.24, 0.21, 0.14],
}.items():
    rho = np.array(means)[:, None] + rng.normal(0, 0.05, 12) + rng.normal(0, 0.02, (6, 12))
    intervals = subject_intervals(rho)
    for number, (own, (low, high)) in enumerate(zip(rho, intervals, strict=True)):
        value = own.mean()
        results.append(
            Result(
                checkpoint=checkpoint,
                study="objects",
                layer=f"block{number + 1}",
                region="it",
                r2=(own**2).mean(),
                std=own.std(),
                sample_std=own.std(ddof=1),
                percent_nc=100 * value / CEILING,
                p=0.01,
                value=value,
                ceiling=CEILING,
                low=100 * low / CEILING,
                high=100 * high / CEILING,
                mean_rho=value,
                rho=tuple(own),
            )
        )

# %%
axes = fastrdm.plot.layers(results, ceilings={("objects", "it"): (0.33, CEILING)})
