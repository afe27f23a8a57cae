"""Networks × studies → scores, of one checkpoint or of a hundred thousand.

In come checkpoints, architectures and studies; out go scores for each layer and region, in memory or in a store that a
killed sweep goes on from.

Read `scorer` first: a network's RDMs against a study's targets. `worker` does that for one checkpoint after another,
the same for a few here and now (`few`) as for a sweep (`sweeps`), and never sees the store. `manifest` says which
checkpoints there are, `sweep_groups` what is scored together, `engines` hands it out: to processes here
(`local_engine`), a device each (`accelerators`), or on a cluster (`ray_engine`). `store` keeps `records` in one SQLite
file, found by content, a transaction for each checkpoint; `store_schema` puts one store into another.
"""

from fastrdm.scoring import scorer
from fastrdm.scoring.checkpoint_scores import score_checkpoints
from fastrdm.scoring.manifest import LeftOut, sources
from fastrdm.scoring.records import Method, Report, Stamp, Subjects
from fastrdm.scoring.scorer import (
    Result,
    StudyScores,
    best_layers,
    layer_scores,
    modality_of,
    score_layers,
    score_model,
    sign_remarks,
)
from fastrdm.scoring.store import Store
from fastrdm.scoring.sweeps import ENGINES, Estimate, Sweep, sweep
from fastrdm.scoring.worker import Hello, Outcome

__all__ = [
    "ENGINES",
    "Estimate",
    "Hello",
    "LeftOut",
    "Method",
    "Outcome",
    "Report",
    "Result",
    "Stamp",
    "Store",
    "StudyScores",
    "Subjects",
    "Sweep",
    "best_layers",
    "layer_scores",
    "modality_of",
    "score_checkpoints",
    "score_layers",
    "score_model",
    "scorer",
    "sign_remarks",
    "sources",
    "sweep",
]
