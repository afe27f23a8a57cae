"""Torch modules in training → scores, without files.

In comes a module, wherever it is and whatever wraps it; out goes a flat dict of numbers, and the module is as before.

Read `scorer` first: a `Scorer` holds prepared studies and scores any number of modules. `region_layers` are the layers
asked for, `wrappers` finds the network inside compiled and parallel modules, `preserving` restores it and the states of
random numbers, `live_models` opens it once, and `keys` makes the dict of results. In mode "async", `snapshots` copies
the weights and starts to score them; a thread in `background` finishes this, and `pending` are the scores until then.
`loop` scores in a training loop, when the `schedule` says so; `score_history` keeps the scores of each step, also those
that arrive later. `gathering` has one of several processes compute with a network that they train, whole if its weights
are divided among them; `distributed` finds these processes and gives all of them its result or error, and
`training_wrappers` recognises what trains a module.
"""

from fastrdm.live.keys import check_monitored, is_key
from fastrdm.live.loop import LoopScoring
from fastrdm.live.pending import PendingScores
from fastrdm.live.schedule import Schedule
from fastrdm.live.score_history import ScoreHistory, StepScores
from fastrdm.live.scorer import Scorer

__all__ = [
    "LoopScoring",
    "PendingScores",
    "Schedule",
    "ScoreHistory",
    "Scorer",
    "StepScores",
    "check_monitored",
    "is_key",
]
