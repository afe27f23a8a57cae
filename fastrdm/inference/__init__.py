"""Confidence intervals and tests of scores.

In come targets and RDMs, or scores of subjects; out go results with intervals and p values, which print as a table and
convert to JSON, dicts and DataFrames and back.

Read `comparisons` first: tests over subjects, comparisons of models, the maximum over all layers and regions
(`sign_flips` takes all flips of few subjects). `bootstrapping` resamples subjects and conditions (`bootstrap_result`
computes the intervals), `mantel` permutes conditions. All random draws (`draws`) follow from a seed. `significance`
holds the common parts: the result of tests, p values and their corrections, intervals, pairs; `results` prints and
converts every result.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.inference.bootstrap_result import Bootstrap
    from fastrdm.inference.bootstrapping import bootstrap
    from fastrdm.inference.comparisons import (
        compare_models,
        max_statistic,
        subject_intervals,
        subject_test,
    )
    from fastrdm.inference.mantel import permutation_test
    from fastrdm.inference.significance import TestResult, correct
else:
    # Imported on first use: the table of a store needs only tests over subjects.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm.inference.bootstrap_result": ["Bootstrap"],
            "fastrdm.inference.bootstrapping": ["bootstrap"],
            "fastrdm.inference.comparisons": [
                "compare_models",
                "max_statistic",
                "subject_intervals",
                "subject_test",
            ],
            "fastrdm.inference.mantel": ["permutation_test"],
            "fastrdm.inference.significance": ["TestResult", "correct"],
        },
    )

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
