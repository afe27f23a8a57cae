"""
From RDMs to scores
===================

Each function of `fastrdm.plot` takes ``ax=``, so that figures can be panels of one. Here are the
RDMs of a layer and of a brain region, and how similar the RDMs of all layers are to the region's.
"""

import tempfile
from pathlib import Path

from matplotlib import pyplot

import fastrdm
from fastrdm.cli.sample import write_sample

# %%
# The synthetic study of ``fastrdm sample``, its network's RDMs, and their scores.
folder = Path(tempfile.mkdtemp()) / "study"
write_sample(folder)
(study,) = fastrdm.open_studies(folder)
region = study.targets["it"]
rdms = fastrdm.OnnxModel(folder / "network.onnx").rdms(study.stimuli)
(scores,) = fastrdm.score_checkpoints([folder / "network.onnx"], studies=study)
results = [result for result in scores.results if result.region == "it"]

# %%
# Images of a category are drawn side by side.
names = [Path(image).stem for image in study.stimuli]
order = sorted(range(len(names)), key=names.__getitem__)
categories = [names[i].rpartition("_")[0] for i in order]


def sorted_rdm(rdm):
    return fastrdm.square(rdm)[order][:, order]


# %%
# ``fastrdm.plot.styled`` has the fonts and colours of all figures.
ceiling = region.noise_ceiling
with fastrdm.plot.styled():
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(8, 2.6), layout="constrained")
    options = {"categories": categories, "colour_bar": False}
    fastrdm.plot.rdm(sorted_rdm(rdms["fc"]), title="A layer", ax=left, **options)
    brains = region.subject_rdms.mean(axis=(0, 1))
    fastrdm.plot.rdm(sorted_rdm(brains), title="Brains, on average", ax=middle, **options)
    fastrdm.plot.layers(
        results,
        ceilings={("sample", "it"): (ceiling.lower, ceiling.upper)},
        title="All layers",
        ax=right,
    )
