"""Networks × studies → scores, for one checkpoint or a hundred thousand.

In come checkpoints, architectures and studies; out go scores for each layer and region, in memory or in a store from
which a killed sweep continues.

Read `sweeps` first: a sweep has a `resolver` (weights as given → networks and jobs; files from `listing`, several
networks from a `manifest`), a `scheduler` that hands the `jobs` to workers (`local_pool` or `ray_pool`, by name in
`engines`; `accelerators` are the devices, `ray_cluster` connects to a cluster), and a `journal` that keeps the outcomes
in a `shared_store` or nowhere. `sharing` decides which job may run: it holds back `copies` of what runs, and what other
sweeps on the store, whose `processes` are known, have claimed. A `worker`, whose `worker_providers` load, opens
checkpoints ahead (`opening`), whose layers `layer_scoring` scores by the `measures`: `region_preparation` prepares each
region once as one of the `region_scorers`, of which `scorer` compares RDMs; `worker_process` is its process on this
machine, `undefined` has the reasons of NaN.
`plans` are what a sweep reports, `stopping` the signals that end it, `watching` finds new files, `path_labels` checks
patterns of labels, `pattern_search` searches them. A `guarded_process` makes calls that may hang (`file_looks` too).
`checkpoint_scores` is a sweep without a store, `outcome_results` makes its results, `results` ranks their layers,
`held_out` scores what other studies chose, `held_out_weights` what they weighted, `wording` puts scores into words. A
`store` is a `database`, whose files `store_files` watches and whose SQL is in `store_schema`; `records` are its keys
and checksums, `store_reader` is its reading half; a `checkpoint_store` keeps scores of networks in memory under their
files. A store's rows (`store_rows`, with `store_values`, `store_columns` and the labels of `path_labels`) become a
`result_table` by `table_filters`, and files by `table_files` with the texts of `cells`; `stored_results` makes results
with labels and intervals of them, and `store_check` finds what is wrong in them. `kept_layers` packs RDMs and Gram
matrices for it. The time points of a region (`time_axis`) may have results of their own, which a `time_pivot` shows in
columns. `features` scores layers that `feature_files` reads, from `feature_folders` too, without a network.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.scoring.cells import csv_cells
    from fastrdm.scoring.checkpoint_scores import CheckpointScores, score_checkpoints
    from fastrdm.scoring.checkpoint_store import CheckpointStore, module_pipeline
    from fastrdm.scoring.engines import ENGINES
    from fastrdm.scoring.feature_files import is_feature_file
    from fastrdm.scoring.features import ROW_MATCHES, score_features
    from fastrdm.scoring.held_out import CHOSEN, HeldOutScore
    from fastrdm.scoring.jobs import Job, RunOptions, Scored, Stamp
    from fastrdm.scoring.layer_scoring import LayerScoring
    from fastrdm.scoring.listing import LeftOut
    from fastrdm.scoring.measures import MEASURES, MeasureRow, check_measures, scorers_of
    from fastrdm.scoring.outcome_results import results_of
    from fastrdm.scoring.path_labels import compile_labels
    from fastrdm.scoring.pattern_search import find_labels
    from fastrdm.scoring.plans import Estimate
    from fastrdm.scoring.records import Pipeline
    from fastrdm.scoring.resolver import label_names
    from fastrdm.scoring.result_table import ResultTable
    from fastrdm.scoring.results import (
        COLUMNS,
        RSA,
        Result,
        best_layers,
        layer_scores,
        modalities,
        modality_of,
        sign_remarks,
    )
    from fastrdm.scoring.store import Store
    from fastrdm.scoring.store_check import StoreCheck
    from fastrdm.scoring.store_columns import SETTINGS
    from fastrdm.scoring.stored_results import StoredResult, read_results
    from fastrdm.scoring.sweeps import Sweep, sweep
    from fastrdm.scoring.table_files import TABLE_FORMATS, write_table, write_table_text
    from fastrdm.scoring.time_pivot import TimePivot
    from fastrdm.scoring.wording import (
        named_protocol,
        names_of_protocols,
        protocol_of,
        score_name,
        score_names,
    )
else:
    # Imported on first use: reading a store needs neither runtimes nor networks.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm.scoring.cells": ["csv_cells"],
            "fastrdm.scoring.checkpoint_scores": ["CheckpointScores", "score_checkpoints"],
            "fastrdm.scoring.checkpoint_store": ["CheckpointStore", "module_pipeline"],
            "fastrdm.scoring.engines": ["ENGINES"],
            "fastrdm.scoring.feature_files": ["is_feature_file"],
            "fastrdm.scoring.features": ["ROW_MATCHES", "score_features"],
            "fastrdm.scoring.held_out": ["CHOSEN", "HeldOutScore"],
            "fastrdm.scoring.jobs": ["Job", "RunOptions", "Scored", "Stamp"],
            "fastrdm.scoring.layer_scoring": ["LayerScoring"],
            "fastrdm.scoring.outcome_results": ["results_of"],
            "fastrdm.scoring.listing": ["LeftOut"],
            "fastrdm.scoring.measures": ["MEASURES", "MeasureRow", "check_measures", "scorers_of"],
            "fastrdm.scoring.path_labels": ["compile_labels"],
            "fastrdm.scoring.pattern_search": ["find_labels"],
            "fastrdm.scoring.plans": ["Estimate"],
            "fastrdm.scoring.records": ["Pipeline"],
            "fastrdm.scoring.result_table": ["ResultTable"],
            "fastrdm.scoring.resolver": ["label_names"],
            "fastrdm.scoring.results": [
                "COLUMNS",
                "RSA",
                "Result",
                "best_layers",
                "layer_scores",
                "modalities",
                "modality_of",
                "sign_remarks",
            ],
            "fastrdm.scoring.wording": [
                "named_protocol",
                "names_of_protocols",
                "protocol_of",
                "score_name",
                "score_names",
            ],
            "fastrdm.scoring.store": ["Store"],
            "fastrdm.scoring.store_check": ["StoreCheck"],
            "fastrdm.scoring.store_columns": ["SETTINGS"],
            "fastrdm.scoring.stored_results": ["StoredResult", "read_results"],
            "fastrdm.scoring.sweeps": ["Sweep", "sweep"],
            "fastrdm.scoring.table_files": ["TABLE_FORMATS", "write_table", "write_table_text"],
            "fastrdm.scoring.time_pivot": ["TimePivot"],
        },
    )

__all__ = [
    "CHOSEN",
    "COLUMNS",
    "ENGINES",
    "MEASURES",
    "ROW_MATCHES",
    "RSA",
    "SETTINGS",
    "TABLE_FORMATS",
    "CheckpointScores",
    "CheckpointStore",
    "Estimate",
    "HeldOutScore",
    "Job",
    "LayerScoring",
    "LeftOut",
    "MeasureRow",
    "Pipeline",
    "Result",
    "ResultTable",
    "RunOptions",
    "Scored",
    "Stamp",
    "Store",
    "StoreCheck",
    "StoredResult",
    "Sweep",
    "TimePivot",
    "best_layers",
    "check_measures",
    "compile_labels",
    "csv_cells",
    "find_labels",
    "is_feature_file",
    "label_names",
    "layer_scores",
    "modalities",
    "modality_of",
    "module_pipeline",
    "named_protocol",
    "names_of_protocols",
    "protocol_of",
    "read_results",
    "results_of",
    "score_checkpoints",
    "score_features",
    "score_name",
    "score_names",
    "scorers_of",
    "sign_remarks",
    "sweep",
    "write_table",
    "write_table_text",
]
