"""Networks × studies → scores, for one checkpoint or a hundred thousand.

In come checkpoints, architectures and studies; out go scores for each layer and region, in memory or in a store from
which a killed sweep continues.

Read `sweeps` first: a sweep has a `resolver` (weights as given → networks and jobs; files from `listing`, several
networks from a `manifest`), a `scheduler` that hands the `jobs` to workers (`local_pool`, `ray_pool`; `accelerators`
are the devices), and a `journal` that keeps the outcomes in a `store` or nowhere. A `worker` opens a checkpoint and
scores it with `scorer`. `plans` are what a sweep reports, `watching` finds new files. `checkpoint_scores` is a sweep
without a store, `results` ranks its layers. A store is a `database` with tables to read (`store_tables`), keys
(`records`) and SQL (`store_schema`).
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.scoring.checkpoint_scores import CheckpointScores, score_checkpoints
    from fastrdm.scoring.listing import LeftOut
    from fastrdm.scoring.plans import Estimate
    from fastrdm.scoring.results import (
        COLUMNS,
        Result,
        best_layers,
        layer_scores,
        modality_of,
        sign_remarks,
    )
    from fastrdm.scoring.store import Store
    from fastrdm.scoring.sweeps import ENGINES, Sweep, sweep
else:
    # Imported on first use: reading a store needs neither runtimes nor networks.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm.scoring.checkpoint_scores": ["CheckpointScores", "score_checkpoints"],
            "fastrdm.scoring.listing": ["LeftOut"],
            "fastrdm.scoring.plans": ["Estimate"],
            "fastrdm.scoring.results": [
                "COLUMNS",
                "Result",
                "best_layers",
                "layer_scores",
                "modality_of",
                "sign_remarks",
            ],
            "fastrdm.scoring.store": ["Store"],
            "fastrdm.scoring.sweeps": ["ENGINES", "Sweep", "sweep"],
        },
    )

__all__ = [
    "COLUMNS",
    "ENGINES",
    "CheckpointScores",
    "Estimate",
    "LeftOut",
    "Result",
    "Store",
    "Sweep",
    "best_layers",
    "layer_scores",
    "modality_of",
    "score_checkpoints",
    "sign_remarks",
    "sweep",
]
