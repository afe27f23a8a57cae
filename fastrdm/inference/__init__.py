"""How sure a score is.

In come targets and RDMs, or scores of subjects; out go results with intervals and p values, which print as a table and
go to JSON, dicts and DataFrames and back. All that is drawn at random follows from a seed.

Read `comparisons` first: tests over subjects, comparisons of models, the maximum over all layers and regions.
`bootstrapping` draws subjects and conditions again (`bootstrap_result` has the intervals), `mantel` permutes
conditions. `significance` has what they share: p values, intervals, pairs and blocks; `corrections` what many tests at
once need; `results` what every result can do.
"""

from fastrdm.inference.bootstrap_result import Bootstrap
from fastrdm.inference.bootstrapping import bootstrap
from fastrdm.inference.comparisons import (
    compare_models,
    max_statistic,
    subject_intervals,
    subject_test,
)
from fastrdm.inference.corrections import correct
from fastrdm.inference.mantel import permutation_test
from fastrdm.inference.significance import TestResult

__all__ = [
    "Bootstrap",
    "TestResult",
    "bootstrap",
    "compare_models",
    "correct",
    "max_statistic",
    "permutation_test",
    "subject_intervals",
    "subject_test",
]
