"""Confidence intervals and tests of scores.

In come targets and RDMs, or scores of subjects; out go results with intervals and p values, which print as a table and
convert to JSON, dicts and DataFrames and back.

Read `comparisons` first: tests over subjects, comparisons of models, the maximum over all layers and regions
(`sign_flips` takes all flips of few subjects). `bootstrapping` resamples subjects and conditions (`bootstrap_result`
computes the intervals), `mantel` permutes conditions; `response_scores` does both for predictions of responses.
`over_time` tests each time point, or the `clusters` of them, and estimates onsets and peaks (`time_results`). All
random draws (`draws`) follow from a seed. `significance` holds the common parts: the result of tests, p values and
their corrections, intervals, pairs; `results` prints and converts every result.
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
    from fastrdm.inference.over_time import cluster_test, latencies, time_test
    from fastrdm.inference.response_scores import response_bootstrap, response_test
    from fastrdm.inference.significance import TestResult, correct
    from fastrdm.inference.time_results import ClusterTest, Latencies, TimeTest
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
            "fastrdm.inference.over_time": ["cluster_test", "latencies", "time_test"],
            "fastrdm.inference.response_scores": ["response_bootstrap", "response_test"],
            "fastrdm.inference.significance": ["TestResult", "correct"],
            "fastrdm.inference.time_results": ["ClusterTest", "Latencies", "TimeTest"],
        },
    )

__all__ = [
    "Bootstrap",
    "ClusterTest",
    "Latencies",
    "TestResult",
    "TimeTest",
    "bootstrap",
    "cluster_test",
    "compare_models",
    "correct",
    "latencies",
    "max_statistic",
    "permutation_test",
    "response_bootstrap",
    "response_test",
    "subject_intervals",
    "subject_test",
    "time_test",
]
