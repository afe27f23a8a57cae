"""
Which model is better
=====================

`fastrdm.plot.compare` draws the differences between models as a matrix. Stars mark the differences
that are significant after a correction for the number of pairs.
"""

import numpy as np

import fastrdm

# %%
# Correlations of five models with twelve subjects. `fastrdm.compare_models` tests each pair by
# exchanging the models within subjects.
rng = np.random.default_rng(0)
means = np.array([0.08, 0.11, 0.12, 0.18, 0.21])
subjects = rng.normal(0, 0.03, 12)
rho = means[:, None] + subjects + rng.normal(0, 0.025, (5, 12))
result = fastrdm.compare_models(
    rho, names=["pixels", "AlexNet", "VGG-16", "ResNet-18", "ResNet-50"]
)

# %%
axes = fastrdm.plot.compare(result)
