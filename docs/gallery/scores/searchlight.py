"""
A searchlight
=============

`fastrdm.score_searchlight` compares a model with the RDM of each sphere of voxels, and
`fastrdm.searchlight.to_volume` puts the scores back into the brain.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastrdm
from fastrdm.searchlight import to_volume, volume_neighbours

# %%
# A ball of voxels in place of a brain. Some of its voxels respond like a model, the others with noise
# alone.
rng = np.random.default_rng(0)
places = np.stack(np.meshgrid(*[np.arange(21) - 10] * 3, indexing="ij"), axis=-1)
mask = np.linalg.norm(places, axis=-1) < 10
region = np.linalg.norm(places - [3, -3, 0], axis=-1) < 4
features = rng.normal(size=(40, 30))  # (conditions, features of the model)
data = rng.normal(0, 6, (40, mask.sum()))
data[:, region[mask]] += features @ rng.normal(size=(30, (region & mask).sum()))

# %%
model = fastrdm.calc_rdm(features)
neighbours = volume_neighbours(mask, radius=3, min_share=0.5)
scores = fastrdm.score_searchlight(data, neighbours, model[None])
volume = to_volume(scores[:, 0], mask, centres=neighbours)

# %%
# The middle slice; the line surrounds the voxels that respond like the model.
figure, axes = plt.subplots()
image = axes.imshow(volume[:, :, 10].T, origin="lower", cmap="viridis")
axes.contour(region[:, :, 10].T, [0.5], colors="white")
axes.set_axis_off()
figure.colorbar(image, label="Spearman correlation with the model")
