"""The README's picture, scores over epochs: python docs/pictures/epochs.py, with the challenge's data.

It scores the RDMs in models/study/rdms, of one training of the ResNet-20, against the subjects of the 92 images.
"""

from pathlib import Path

import numpy as np
from matplotlib import pyplot

import fastrdm
import fastrdm.plot
from fastrdm.inference import subject_intervals
from fastrdm.scoring import Result
from fastrdm.studies import find_data

HERE = Path(__file__).resolve().parent
RDMS = HERE.parents[1] / "models/study/rdms"
EPOCHS = (1, 5, 10, 30, 60, 90, 120)
LAYERS = ("stem", "block1", "block2", "block3", "block4", "fc")
REGIONS = {"evc": "early visual cortex (EVC)", "it": "inferior temporal cortex (IT)"}


def scores_of(target, region):
    """The results of all layers and epochs, with intervals over subjects."""
    for epoch in EPOCHS:
        rdms = np.load(RDMS / f"resnet20-seed0-epoch{epoch:03d}.npz")
        score = target.score(np.stack([rdms[f"92/{layer}@64"] for layer in LAYERS]))
        low, high = 100 * subject_intervals(score.rho**2).T / target.ceiling
        for i, layer in enumerate(LAYERS):
            numbers = (
                score.r2,
                score.std,
                score.sample_std,
                score.percent_nc,
                score.p,
                score.value,
            )
            yield Result(
                str(epoch),
                "92",
                layer,
                region,
                *(each[i] for each in numbers),
                ceiling=target.ceiling,
                low=low[i],
                high=high[i],
                mean_rho=score.mean_rho[i],
            )


def main():
    """Draw both regions side by side."""
    study = fastrdm.open_studies(find_data(), sets=["92"])[0]
    with fastrdm.plot.styled():
        figure, axes = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for ax, (region, title) in zip(axes, REGIONS.items(), strict=True):
        results = list(scores_of(study.targets[region], region))
        epochs = {str(epoch): epoch for epoch in EPOCHS}
        fastrdm.plot.epochs(results, epoch=epochs, title=title, ax=ax)
    axes[0].get_legend().remove()
    figure.savefig(HERE / "epochs.png", dpi=150)


if __name__ == "__main__":
    main()
