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
# Seven layers on the way from one geometry to a second and a third, and the RDMs of ten subjects,
# which are noisy measurements of the third.
rng = np.random.default_rng(0)
early, middle, late = rng.random((3, 4005))
steps = [0, 0.33, 0.67, 1]
mixtures = [(1 - step) * early + step * middle for step in steps]
mixtures += [(1 - step) * middle + step * late for step in steps[1:]]
layers = np.array(mixtures) + 0.3 * rng.random((7, 4005))
subjects = late + 0.5 * rng.random((10, 4005))

# %%
# Names are written beside the points; empty names leave them out.
axes = fastrdm.plot.mds(
    np.concatenate([layers, subjects]),
    names=[f"conv{number}" for number in range(1, 8)] + [""] * 10,
    groups=["network"] * 7 + ["subjects"] * 10,
    connect=["network"],
)
