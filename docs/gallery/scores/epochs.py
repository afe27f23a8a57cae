"""
Scores over the epochs of training
==================================

`fastrdm.plot.epochs` draws a line for each layer, with its 95 % interval as a band. Results of a
store have their epochs as a label; here, they are given by checkpoint.
"""

import numpy as np

import fastrdm
from fastrdm.inference import subject_intervals
from fastrdm.scoring import Result

# %%
# Scores of three layers of one training run.
rng = np.random.default_rng(0)
subjects = rng.normal(0, 0.04, 12)
CEILING = 0.4


def result(network, epoch, layer, region, mean):
    rho = mean + subjects + rng.normal(0, 0.02, 12)
    ((low, high),) = 100 / CEILING * subject_intervals([rho])
    return Result(
        checkpoint=f"{network}/epoch{epoch}.pth",
        study="objects",
        layer=layer,
        region=region,
        r2=(rho**2).mean(),
        std=rho.std(),
        sample_std=rho.std(ddof=1),
        percent_nc=100 * rho.mean() / CEILING,
        p=0.01,
        value=rho.mean(),
        ceiling=CEILING,
        low=low,
        high=high,
        mean_rho=rho.mean(),
        rho=tuple(rho),
    )


EPOCHS = [1, 5, 10, 20, 40, 60, 90]
BEST = {"conv1": 0.1, "block2": 0.18, "block4": 0.25}
results = [
    result("resnet18", epoch, layer, "it", 0.05 + best * (1 - np.exp(-epoch / 15)))
    for epoch in EPOCHS
    for layer, best in BEST.items()
]

# %%
epochs = {r.checkpoint: int(r.checkpoint[14:-4]) for r in results}
axes = fastrdm.plot.epochs(results, epoch=epochs)
