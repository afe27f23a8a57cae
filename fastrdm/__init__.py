"""fastrdm: compare neural networks with the visual brain, on compiled kernels.

Arrays in, arrays out: `calc_rdm` makes RDMs of activations, `compare` correlates RDMs, `noise_ceiling` says how
well any model could do, and a `Target` holds one region's subjects, ready to score any number of models. `bootstrap`,
`permutation_test`, `subject_test`, `compare_models` and `max_statistic` say how sure a score is.
`export_onnx` and `OnnxModel` take a network from its weights to the RDMs of its layers.
"""

from fastrdm._kernels import KernelInfo, kernels
from fastrdm.ceiling import NoiseCeiling, noise_ceiling
from fastrdm.compare import compare, rank
from fastrdm.corrections import correct
from fastrdm.environment import __version__ as __version__
from fastrdm.export import export_onnx
from fastrdm.forms import condense, square
from fastrdm.inference import (
    Bootstrap,
    Tests,
    bootstrap,
    compare_models,
    max_statistic,
    permutation_test,
    subject_test,
)
from fastrdm.info import Info, info
from fastrdm.onnx_model import OnnxModel
from fastrdm.projection import SparseProjection
from fastrdm.protocol import PROTOCOLS, Protocol
from fastrdm.rdm import RdmAccumulator, calc_rdm
from fastrdm.sweeps import sweep
from fastrdm.target import Score, Target

__all__ = [
    "PROTOCOLS",
    "Bootstrap",
    "Info",
    "KernelInfo",
    "NoiseCeiling",
    "OnnxModel",
    "Protocol",
    "RdmAccumulator",
    "Score",
    "SparseProjection",
    "Target",
    "Tests",
    "bootstrap",
    "calc_rdm",
    "compare",
    "compare_models",
    "condense",
    "correct",
    "export_onnx",
    "info",
    "kernels",
    "max_statistic",
    "noise_ceiling",
    "permutation_test",
    "rank",
    "square",
    "subject_test",
    "sweep",
]
