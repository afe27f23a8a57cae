"""
Scores over time
================

`fastrdm.plot.time` draws the scores of layers at each time point of MEG or EEG below the noise
ceiling, with 95 % intervals as bands.
"""

import numpy as np

import fastrdm
from fastrdm.scoring import Result

# %%
# Scores of two layers at 71 time points, an early and a late one. Results of time points come from
# `fastrdm.score_checkpoints` with ``over_time="each"``.
rng = np.random.default_rng(0)
times = np.arange(-100, 601, 10)
ceiling = 0.02 + 0.25 * np.exp(-(((times - 180) / 110) ** 2))
results = []
for layer, (peak, height) in {"conv1": (110, 0.12), "block4": (200, 0.16)}.items():
    values = height * np.exp(-(((times - peak) / 70) ** 2)) + rng.normal(0, 0.004, len(times))
    for time, value, most in zip(times, values, ceiling, strict=True):
        percent = 100 * value / most
        spread = 100 * 0.015 / most
        results.append(
            Result(
                checkpoint="net.pth",
                study="objects",
                layer=layer,
                region="meg",
                r2=value**2,
                std=0.02,
                sample_std=0.02,
                percent_nc=percent,
                p=0.01,
                value=value,
                ceiling=most,
                low=percent - spread,
                high=percent + spread,
                mean_rho=value,
                time=float(time),
            )
        )

# %%
axes = fastrdm.plot.time(results, unit="ms")
