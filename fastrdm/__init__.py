"""fastrdm: compare neural networks with the visual brain, on compiled kernels.

Arrays in, arrays out: `calc_rdm` makes RDMs of activations, `compare` correlates RDMs, `noise_ceiling` bounds what
any model can reach, and a `Target` holds one region's subjects, ready to score any number of models. `gram` makes
Gram matrices, which `cka`, `procrustes`, `angular_distance`, `bures_similarity` and `cca` compare. `WeightedRdm`,
`SelectedRdm` and `InterpolatedRdm` are models with parameters, which `cross_validate` judges on held-out conditions
and subjects; `partial_compare` and `partition_rdm_variance` separate what models share. `bootstrap`,
`permutation_test`, `subject_test`, `compare_models` and `max_statistic` quantify the uncertainty of scores;
`time_test`, `cluster_test` and `latencies` do so for scores of each time point. `Responses` hold measured units,
which layers predict; `response_bootstrap`, `response_test` and `partition_variance` say how surely, and which layer
adds what, `split_half_reliability`, `ncsnr` and `subject_ceiling` how well any model can. `read_rdms` and
`read_responses` read the files of other programs. `export_onnx` and `OnnxModel`, or `TorchModel` without a file, turn
a network's weights into RDMs of its layers; `score_checkpoints` and `sweep` score checkpoints against the studies
that `open_studies` finds, and `score_features` scores features that were saved elsewhere. A `Scorer` scores torch
modules in training, in plain loops by `LoopScoring`. `check_study` reports what looks wrong with a study.
"""

from typing import TYPE_CHECKING

from fastrdm._base import __version__ as __version__
from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm import encoding as encoding
    from fastrdm import images as images
    from fastrdm import inference as inference
    from fastrdm import plot as plot
    from fastrdm import rdm as rdm
    from fastrdm import responses as responses
    from fastrdm import searchlight as searchlight
    from fastrdm import similarity as similarity
    from fastrdm._base import condense, square
    from fastrdm._kernels import KernelInfo, kernels
    from fastrdm.cli import Info, info
    from fastrdm.encoding import ENCODING_PROTOCOLS, Responses, partition_variance
    from fastrdm.fitting import (
        CrossValidatedRdm,
        FittedRdm,
        FixedRdm,
        InterpolatedRdm,
        SelectedRdm,
        WeightedRdm,
        cross_validate,
    )
    from fastrdm.images import Preprocessing
    from fastrdm.inference import (
        Bootstrap,
        ClusterTest,
        Latencies,
        TestResult,
        TimeTest,
        bootstrap,
        cluster_test,
        compare_models,
        correct,
        latencies,
        max_statistic,
        permutation_test,
        response_bootstrap,
        response_test,
        subject_test,
        time_test,
    )
    from fastrdm.live import LoopScoring, Scorer
    from fastrdm.networks import export_onnx
    from fastrdm.rdm import (
        Gram,
        GramAccumulator,
        RdmAccumulator,
        SparseProjection,
        calc_rdm,
        gram,
    )
    from fastrdm.responses import (
        SubjectCeiling,
        explainable_variance,
        ncsnr,
        read_responses,
        split_half_reliability,
        stack_trials,
        subject_ceiling,
    )
    from fastrdm.runtimes import OnnxModel, TorchModel
    from fastrdm.scoring import Store, score_checkpoints, score_features, sweep
    from fastrdm.searchlight import (
        calc_rdm_movie,
        calc_rdm_searchlight,
        score_movie,
        score_searchlight,
    )
    from fastrdm.similarity import (
        PROTOCOLS,
        NoiseCeiling,
        Protocol,
        RdmVariancePartition,
        Score,
        Target,
        TimeScore,
        angular_distance,
        bures_similarity,
        cca,
        cka,
        compare,
        noise_ceiling,
        partial_compare,
        partition_rdm_variance,
        procrustes,
        rank,
    )
    from fastrdm.studies import StoredRdms, check_study, open_studies, read_rdms
else:
    # Imported on first use, so that the command line starts quickly; old paths of modules still work.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm._base": ["condense", "square"],
            "fastrdm._kernels": ["KernelInfo", "kernels"],
            "fastrdm.cli": ["Info", "info"],
            "fastrdm.encoding": ["ENCODING_PROTOCOLS", "Responses", "partition_variance"],
            "fastrdm.fitting": [
                "CrossValidatedRdm",
                "FittedRdm",
                "FixedRdm",
                "InterpolatedRdm",
                "SelectedRdm",
                "WeightedRdm",
                "cross_validate",
            ],
            "fastrdm.images": ["Preprocessing"],
            "fastrdm.inference": [
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
                "subject_test",
                "time_test",
            ],
            "fastrdm.live": ["LoopScoring", "Scorer"],
            "fastrdm.networks": ["export_onnx"],
            "fastrdm.rdm": [
                "Gram",
                "GramAccumulator",
                "RdmAccumulator",
                "SparseProjection",
                "calc_rdm",
                "gram",
            ],
            "fastrdm.responses": [
                "SubjectCeiling",
                "explainable_variance",
                "ncsnr",
                "read_responses",
                "split_half_reliability",
                "stack_trials",
                "subject_ceiling",
            ],
            "fastrdm.runtimes": ["OnnxModel", "TorchModel"],
            "fastrdm.scoring": ["Store", "score_checkpoints", "score_features", "sweep"],
            "fastrdm.searchlight": [
                "calc_rdm_movie",
                "calc_rdm_searchlight",
                "score_movie",
                "score_searchlight",
            ],
            "fastrdm.similarity": [
                "PROTOCOLS",
                "NoiseCeiling",
                "Protocol",
                "RdmVariancePartition",
                "Score",
                "Target",
                "TimeScore",
                "angular_distance",
                "bures_similarity",
                "cca",
                "cka",
                "compare",
                "noise_ceiling",
                "partial_compare",
                "partition_rdm_variance",
                "procrustes",
                "rank",
            ],
            "fastrdm.studies": ["StoredRdms", "check_study", "open_studies", "read_rdms"],
        },
        {
            "algonauts": "fastrdm.studies.algonauts",
            "checkpoints": "fastrdm.runtimes.checkpoints",
            "device": "fastrdm.runtimes.device",
            "stimuli": "fastrdm.images.preprocessing",
            "store": "fastrdm.scoring.store",
            "study": "fastrdm.studies.study",
            "weights": "fastrdm.networks.weights",
        },
        packages=(
            "encoding",
            "images",
            "inference",
            "numba",
            "plot",
            "rdm",
            "responses",
            "searchlight",
            "similarity",
        ),
    )

__all__ = [
    "ENCODING_PROTOCOLS",
    "PROTOCOLS",
    "Bootstrap",
    "ClusterTest",
    "CrossValidatedRdm",
    "FittedRdm",
    "FixedRdm",
    "Gram",
    "GramAccumulator",
    "Info",
    "InterpolatedRdm",
    "KernelInfo",
    "Latencies",
    "LoopScoring",
    "NoiseCeiling",
    "OnnxModel",
    "Preprocessing",
    "Protocol",
    "RdmAccumulator",
    "RdmVariancePartition",
    "Responses",
    "Score",
    "Scorer",
    "SelectedRdm",
    "SparseProjection",
    "Store",
    "StoredRdms",
    "SubjectCeiling",
    "Target",
    "TestResult",
    "TimeScore",
    "TimeTest",
    "TorchModel",
    "WeightedRdm",
    "angular_distance",
    "bootstrap",
    "bures_similarity",
    "calc_rdm",
    "calc_rdm_movie",
    "calc_rdm_searchlight",
    "cca",
    "check_study",
    "cka",
    "cluster_test",
    "compare",
    "compare_models",
    "condense",
    "correct",
    "cross_validate",
    "explainable_variance",
    "export_onnx",
    "gram",
    "info",
    "kernels",
    "latencies",
    "max_statistic",
    "ncsnr",
    "noise_ceiling",
    "open_studies",
    "partial_compare",
    "partition_rdm_variance",
    "partition_variance",
    "permutation_test",
    "procrustes",
    "rank",
    "read_rdms",
    "read_responses",
    "response_bootstrap",
    "response_test",
    "score_checkpoints",
    "score_features",
    "score_movie",
    "score_searchlight",
    "split_half_reliability",
    "square",
    "stack_trials",
    "subject_ceiling",
    "subject_test",
    "sweep",
    "time_test",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
