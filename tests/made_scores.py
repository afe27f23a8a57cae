"""Made-up scores for figures."""

import numpy as np

from fastrdm.inference import subject_intervals
from fastrdm.scoring import StoredResult

CEILING = 0.25
LAYERS = ("conv1", "conv2", "fc")


def result(layer="fc", region="it", squared=False, seed=0, ceiling=CEILING, mean=0.1, **fields):
    """A result with eight subjects, with an interval."""
    rho = np.random.default_rng(seed).normal(mean, 0.04, 8)
    values = rho**2 if squared else rho
    value = values.mean()
    low, high = 100 / ceiling * subject_intervals([values])[0]
    numbers = {
        "r2": (rho**2).mean(),
        "std": values.std(),
        "sample_std": values.std(ddof=1),
        "percent_nc": 100 * value / ceiling,
        "p": 0.01,
        "value": value,
        "ceiling": ceiling,
        "low": low,
        "high": high,
        "mean_rho": rho.mean(),
        "rho": tuple(rho.tolist()),
    }
    place = {"checkpoint": "runs/a.pth", "study": "92"} | fields
    return StoredResult(layer=layer, region=region, **numbers | place)


def run(epochs=(1, 5, 10), layers=LAYERS, regions=("it",), name="a", **labels):
    """Results of the checkpoints of a training run."""
    return [
        result(
            layer,
            region,
            seed=100 * i + 10 * k + len(region),
            mean=0.05 + 0.03 * i + 0.02 * k,
            checkpoint=f"runs/{name}/epoch{epoch:02d}.pth",
            labels={"epoch": epoch, **labels},
        )
        for i, epoch in enumerate(epochs)
        for k, layer in enumerate(layers)
        for region in regions
    ]
