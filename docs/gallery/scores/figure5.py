"""
The best layers of checkpoints
==============================

`fastrdm.plot.figure5` draws the best layer of each checkpoint over the epochs of training, as in
figure 5 of Meijer (2019), with the name of the layer where it changes.
"""

import numpy as np

import fastrdm
from fastrdm.inference import subject_intervals
from fastrdm.scoring import Result

# %%
# Scores of three layers of one training run in two regions. The last layer learns longest.
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
results = [
    result("resnet18", epoch, layer, region, start + gain * (1 - np.exp(-epoch / 15)))
    for epoch in EPOCHS
    for layer, (start, gain) in {"conv1": (0.12, 0), "block4": (0.05, 0.2)}.items()
    for region in ("v1", "it")
]

# %%
epochs = {r.checkpoint: int(r.checkpoint[14:-4]) for r in results}
axes = fastrdm.plot.figure5(results, epoch=epochs)
