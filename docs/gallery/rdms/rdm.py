"""
RDM of a layer
==============

`fastrdm.plot.rdm` draws an RDM as a heat map. Colours are ranks: 0 is the most similar pair, 100
the least similar one. The bars on both axes show the categories of the stimuli.
"""

import numpy as np

import fastrdm

# %%
# Activations of 40 stimuli in 500 channels: stimuli of a category share a part of their pattern.
rng = np.random.default_rng(0)
categories = np.repeat(["animals", "faces", "houses", "tools"], 10)
patterns = rng.normal(size=(4, 500))
patterns[1] += patterns[0]  # faces resemble animals
activations = np.repeat(patterns, 10, axis=0) + 1.5 * rng.normal(size=(40, 500))

# %%
# The RDM has one row and one column for each stimulus.
rdm = fastrdm.calc_rdm(activations)
axes = fastrdm.plot.rdm(rdm, categories=categories, title="A layer's RDM")

# %%
# Thumbnails take the place of the bars with ``images=``: paths, PIL images or arrays. These are
# coloured discs on grey.
rows, columns = np.mgrid[:32, :32] - 15.5
discs = []
for radius, hue in zip(np.linspace(4, 15, 12), rng.integers(40, 215, (12, 3)), strict=True):
    image = np.full((32, 32, 3), 210, np.uint8)
    image[np.hypot(rows, columns) < radius] = hue
    discs.append(image)
pixels = np.stack(discs).astype(np.float32)
axes = fastrdm.plot.rdm(fastrdm.calc_rdm(pixels), images=discs, title="RDM of the pixels")
