"""
Layers and subjects in one space
================================

`fastrdm.plot.mds` places RDMs in the plane: the more similar two RDMs, the nearer their points. A
network's layers are joined in their order, and the path ends near the subjects of the region that
its last layers resemble.
"""

import numpy as np

import fastrdm

# %%
# Six layers on the way from one geometry to another, and the RDMs of ten subjects, which are noisy
# measurements of the latter.
rng = np.random.default_rng(0)
early, late = rng.random((2, 4005))
mixtures = [(1 - share) * early + share * late for share in np.linspace(0, 0.8, 6)]
layers = np.array(mixtures) + 0.05 * rng.random((6, 4005))
subjects = late + 0.4 * rng.random((10, 4005))

# %%
# Names are written beside the points; empty names leave them out.
axes = fastrdm.plot.mds(
    np.concatenate([layers, subjects]),
    names=[f"conv{number}" for number in range(1, 7)] + [""] * 10,
    groups=["network"] * 6 + ["subjects"] * 10,
    connect=["network"],
)
