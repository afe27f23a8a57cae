"""Many small RDMs of overlapping channels: searchlights in space, movies over time, and both at once.

In come data (conditions, channels) and the channels of each centre; out go an RDM of each centre, or its similarity to
models, for which no RDMs are kept.

Read `rdms` first (`calc_rdm_searchlight`, `calc_rdm_movie`), then `scores`, which compares each RDM with models and
drops it. `places` checks data and neighbourhoods, and brings them into the kernels' order; `designs` adds the folds and
the noise that a method needs. `computers` computes RDMs of some places at a time, which `blocks` chooses, and
`labelled` gives results the labels of data.

The channels of each centre are `neighbourhoods`. `volumes` has those of voxels, and brings images to data and values
to images, with `masks` from arrays, images and maskers; `surfaces` has those of vertices, and `sensors` those of
sensors, and windows of time.
"""

from fastrdm.searchlight.neighbourhoods import Neighbourhoods
from fastrdm.searchlight.rdms import calc_rdm_movie, calc_rdm_searchlight
from fastrdm.searchlight.scores import score_movie, score_searchlight
from fastrdm.searchlight.sensors import sensor_neighbours, time_windows
from fastrdm.searchlight.surfaces import surface_neighbours, to_surface
from fastrdm.searchlight.volumes import from_volume, to_volume, volume_neighbours

__all__ = [
    "Neighbourhoods",
    "calc_rdm_movie",
    "calc_rdm_searchlight",
    "from_volume",
    "score_movie",
    "score_searchlight",
    "sensor_neighbours",
    "surface_neighbours",
    "time_windows",
    "to_surface",
    "to_volume",
    "volume_neighbours",
]
