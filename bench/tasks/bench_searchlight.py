"""Data and neighbourhoods → RDMs, and their similarity to models.

FASTRDM_BENCH_CENTRES=30000 makes it the searchlight of a whole brain, which takes rsatoolbox minutes.
"""

import functools
import os

import numpy as np
import reference

from bench.peers import searchlight as peers
from bench.peers.contenders import task

CENTRES = int(os.environ.get("FASTRDM_BENCH_CENTRES", "1200"))
CONDITIONS = 92


@functools.lru_cache(maxsize=1)
def patterns():
    """Float64 noise of as many voxels as centres, with a part that conditions share."""
    rng = np.random.default_rng(CENTRES)
    return rng.normal(size=(CONDITIONS, CENTRES)) + rng.normal(size=CENTRES)


@functools.lru_cache(maxsize=1)
def truth():
    """The RDM of each centre, in float64."""
    data = patterns()
    places = peers.neighbours(CENTRES)
    return np.stack([reference.calc_rdm(data[:, place]) for place in places])


@task(
    f"searchlight, {CENTRES:,} × 100 channels, 92 conditions → RDMs",
    peers.fastrdm_rdms,
    peers.LOOP,
    peers.RSATOOLBOX_RDMS,
)
def test_rdms(contender, timed):
    """Correlation RDMs of all centres."""
    timed(patterns(), truth=truth(), targets={"rsatoolbox": 15})


@task(
    f"searchlight, {CENTRES:,} × 100 channels, 92 conditions → Spearman's ρ with 3 models",
    peers.fastrdm_scores,
    peers.RSATOOLBOX_SCORES,
)
def test_scores(contender, timed):
    """fastrdm keeps no RDMs."""
    similarities = reference.compare(truth(), peers.models(CONDITIONS), "spearman")
    timed(patterns(), truth=similarities, targets={"rsatoolbox": 15})
