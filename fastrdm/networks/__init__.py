"""Networks before they run: their layers, graphs and weights.

In come torch modules, ONNX files of any origin and weight files; out go ONNX graphs with the chosen layers as outputs,
and weights that are known to fit. torch and onnx are imported only when needed.

Read `layers` first: names, patterns and choice of layers. `onnx_files` reads and prunes ONNX models, and a `graph` is
what every runtime opens. `inspection` lists the layers of a torch module, `export` traces it into a graph, and
`foreign` rewrites the ONNX file of another program. `weight_files` reads checkpoints in all their formats, `weights`
fits them to a network, and `swapping` finds whether the weights of a graph can be replaced. `probing` tests whether
activations for an image depend on its batch, which `batch_dependence` explains; `footprint` estimates the memory of a
graph, and `pretrained` reads the preprocessing of timm and transformers.
"""

from fastrdm.networks.export import export_onnx, trace_network
from fastrdm.networks.footprint import bytes_per_image
from fastrdm.networks.foreign import (
    FLOATS,
    OnnxFile,
    format_size,
    rewrite,
    set_outputs,
)
from fastrdm.networks.graph import Graph
from fastrdm.networks.inspection import choose_taps, inspect_module
from fastrdm.networks.layers import (
    INNER_SHAPES,
    Choice,
    Layer,
    NetworkLayers,
    Taps,
    compile_pattern,
    find_taps,
    group_reasons,
    shape_problem,
)
from fastrdm.networks.onnx_files import (
    inputs_of,
    is_onnx,
    keep_named,
    map_weights,
    metadata_of,
    prune,
    put_weights,
    read_model,
)
from fastrdm.networks.pretrained import preprocessing_of
from fastrdm.networks.probing import InconsistentError, Probes, Verdict, probe
from fastrdm.networks.weight_files import (
    WeightsError,
    check_file,
    check_unchanged,
    hash_file,
    is_checkpoint,
    is_complete,
    load_state_dict,
    read_weights,
)
from fastrdm.networks.weights import Layout, fit_weights, load_weights

__all__ = [
    "FLOATS",
    "INNER_SHAPES",
    "Choice",
    "Graph",
    "InconsistentError",
    "Layer",
    "Layout",
    "NetworkLayers",
    "OnnxFile",
    "Probes",
    "Taps",
    "Verdict",
    "WeightsError",
    "bytes_per_image",
    "check_file",
    "check_unchanged",
    "choose_taps",
    "compile_pattern",
    "export_onnx",
    "find_taps",
    "fit_weights",
    "format_size",
    "group_reasons",
    "hash_file",
    "inputs_of",
    "inspect_module",
    "is_checkpoint",
    "is_complete",
    "is_onnx",
    "keep_named",
    "load_state_dict",
    "load_weights",
    "map_weights",
    "metadata_of",
    "preprocessing_of",
    "probe",
    "prune",
    "put_weights",
    "read_model",
    "read_weights",
    "rewrite",
    "set_outputs",
    "shape_problem",
    "trace_network",
]
