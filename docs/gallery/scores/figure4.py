"""
Best layer of each network
==========================

`fastrdm.plot.figure4` draws the best layer of each network as a bar, as in figure 4 of Meijer
(2019), with the 95 % interval and a dot for each subject.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import fastrdm
from fastrdm.cli.sample import write_sample

# %%
# Networks in place of real ones: the sample's network with more and more noise in its weights.
folder = Path(tempfile.mkdtemp())
write_sample(folder / "study")
network = onnx.load(folder / "study/network.onnx")
weights = [numpy_helper.to_array(tensor) for tensor in network.graph.initializer]
rng = np.random.default_rng(0)
files = []
for name, noise in {"original": 0, "little": 0.5, "some": 1, "much": 2, "random": 50}.items():
    for tensor, weight in zip(network.graph.initializer, weights, strict=True):
        noisy = weight + rng.normal(0, weight.std(), weight.shape) * noise
        tensor.CopyFrom(numpy_helper.from_array(noisy.astype(np.float32), tensor.name))
    files.append(folder / f"{name}.onnx")
    onnx.save(network, files[-1])

# %%
scores = fastrdm.score_checkpoints(files, studies=folder / "study")
results = [result for checkpoint in scores for result in checkpoint.results]

# %%
# A baseline, such as the score of the pixels, is a dashed line.
axes = fastrdm.plot.figure4(results, baseline=5, baseline_name="baseline")
