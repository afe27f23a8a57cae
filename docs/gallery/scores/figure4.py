"""
The best layers of networks
===========================

`fastrdm.plot.figure4` draws the best layer of each network, as in figure 4 of Meijer (2019): the
layer with the highest score over the regions. The dashed line is a baseline to exceed.
"""

import numpy as np

import fastrdm
from fastrdm.inference import subject_intervals
from fastrdm.scoring import Result

# %%
# Scores of three layers of four networks in two regions.
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


NETWORKS = {"alexnet": 0.12, "vgg16": 0.15, "resnet18": 0.18, "cornet_s": 0.22}
results = [
    result(network, 90, layer, region, mean * factor)
    for network, mean in NETWORKS.items()
    for layer, factor in {"early": 0.6, "middle": 1.0, "late": 0.8}.items()
    for region in ("v1", "it")
]

# %%
axes = fastrdm.plot.figure4(results, baseline=24, baseline_name="pixels")
