"""
Measure against measure
=======================

`fastrdm.plot.measures` draws the scores by one measure against those by another, both in percent of
their noise ceilings. Measures that agree on the order of layers have points along a rising line.
"""

import numpy as np

import fastrdm
from fastrdm.scoring import Result

# %%
# Scores of twenty layers in two regions. Scores of a real study come from
# `fastrdm.score_checkpoints`.
rng = np.random.default_rng(0)


def result(layer, region, measure, percent):
    return Result(
        checkpoint="net.pth",
        study="objects",
        layer=f"layer{layer}",
        region=region,
        r2=percent / 100,
        std=0.0,
        sample_std=0.0,
        percent_nc=percent,
        p=0.01,
        value=percent / 100,
        ceiling=1.0,
        measure=measure,
    )


results = []
for region, best in [("V1", 5), ("IT", 16)]:
    for layer in range(20):
        similar = 60 * np.exp(-(((layer - best) / 6) ** 2))
        results.append(result(layer, region, "rsa", similar + rng.normal(0, 3)))
        results.append(result(layer, region, "cka", 20 + similar + rng.normal(0, 5)))

# %%
axes = fastrdm.plot.measures(results, "rsa", "cka")
