"""Torch modules in training → scores, without files.

In comes a module, wherever it is and whatever wraps it; out goes a flat dict of numbers, and the module is as before.

Read `scorer` first: a `Scorer` holds prepared studies and scores any number of modules.
"""

from fastrdm.live.scorer import Scorer

__all__ = ["Scorer"]
