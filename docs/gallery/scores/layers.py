"""
Scores by layer
===============

`fastrdm.plot.layers` draws the score of each layer: the mean over subjects, its 95 % interval, a
dot for each subject, and the noise ceiling.
"""

import tempfile
from pathlib import Path

import fastrdm
from fastrdm.cli.sample import write_sample

# %%
# ``fastrdm sample`` writes a synthetic study with two regions, and the network from which its
# subjects were simulated.
study = Path(tempfile.mkdtemp()) / "study"
write_sample(study)
(scores,) = fastrdm.score_checkpoints([study / "network.onnx"], studies=study)

# %%
# One region, with both bounds of its noise ceiling as a band.
(opened,) = fastrdm.open_studies(study)
ceiling = opened.targets["it"].noise_ceiling
axes = fastrdm.plot.layers(
    [result for result in scores.results if result.region == "it"],
    ceilings={("sample", "it"): (ceiling.lower, ceiling.upper)},
)

# %%
# Several regions are side by side.
axes = fastrdm.plot.layers(scores.results)
