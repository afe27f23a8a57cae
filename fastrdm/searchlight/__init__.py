"""Many small RDMs of overlapping channels: searchlights in space, movies over time, and both at once.

In come data (conditions, channels) and the channels of each centre; out go an RDM of each centre, or its similarity to
models, for which no RDMs are kept.

Read `rdms` first (`calc_rdm_searchlight`, `calc_rdm_movie`), then `scores`, which compares each RDM with models and
drops it. `places` checks data and neighbourhoods, and brings them into the kernels' order; `blocks` computes RDMs of
some places at a time.
"""

from fastrdm.searchlight.rdms import calc_rdm_movie, calc_rdm_searchlight
from fastrdm.searchlight.scores import score_movie, score_searchlight

__all__ = ["calc_rdm_movie", "calc_rdm_searchlight", "score_movie", "score_searchlight"]
