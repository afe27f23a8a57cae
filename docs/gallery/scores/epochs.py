"""
Scores over the epochs of training
==================================

`fastrdm.plot.epochs` draws a line for each layer over the epochs of training, with a band for the
95 % interval.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import fastrdm
from fastrdm.cli.sample import write_sample
from fastrdm.scoring import read_results

# %%
# A training run in place of a real one: the weights of the sample's network, with noise that
# becomes smaller from epoch to epoch.
folder = Path(tempfile.mkdtemp())
write_sample(folder / "study")
network = onnx.load(folder / "study/network.onnx")
weights = [numpy_helper.to_array(tensor) for tensor in network.graph.initializer]
rng = np.random.default_rng(0)
noise = [rng.normal(0, 10 * weight.std(), weight.shape) for weight in weights]
for epoch in (1, 5, 10, 15, 20, 30, 40):
    for tensor, weight, added in zip(network.graph.initializer, weights, noise, strict=True):
        noisy = (weight + added / epoch).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(noisy, tensor.name))
    onnx.save(network, folder / f"epoch_{epoch:03d}.onnx")

# %%
# A sweep scores all checkpoints into a store. ``labels`` reads the epoch from the names of files.
fastrdm.sweep(
    str(folder / "epoch_*.onnx"),
    data=folder / "study",
    store=folder / "scores.db",
    labels=r"epoch_(?P<epoch>\d+)",
)

# %%
axes = fastrdm.plot.epochs(read_results(folder / "scores.db", regions="it"))
