"""
Scores over time
================

`fastrdm.plot.time` draws the score of each layer at each time point, with the noise ceiling as a
grey area.
"""

import tempfile
from pathlib import Path

import numpy as np

import fastrdm
from fastrdm.cli.sample import write_sample

# %%
# MEG in place of real recordings: the simulated subjects' RDMs of the sample study appear 100 ms
# after the stimulus, and fade away.
study = Path(tempfile.mkdtemp()) / "study"
write_sample(study)
it = fastrdm.condense(np.load(study / "targets.npz")["it"])  # (subjects, pairs)
times = np.arange(-100, 700, 25)
strength = np.where(times > 0, np.exp(-(((times - 200) / 130) ** 2)), 0)
signal = (it - it.mean()) / it.std()
noise = np.random.default_rng(0).normal(0, 0.6, (len(it), len(times), it.shape[1]))
meg = strength[:, None] * signal[:, None] + noise  # (subjects, times, pairs)
np.savez(study / "meg.npz", meg=meg, times=times)
with (study / "study.toml").open("a") as settings:
    settings.write("""
[targets.meg]
file = "meg.npz"
key = "meg"
times = "times"
over_time = "each"
""")

# %%
(scores,) = fastrdm.score_checkpoints([study / "network.onnx"], studies=study, regions=["meg"])
axes = fastrdm.plot.time(scores.results, unit="ms")
