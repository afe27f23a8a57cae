"""Networks before they run: their layers, graphs and weights.

In come torch modules, ONNX files of any origin and weight files; out go ONNX graphs with the chosen layers as outputs,
and weights that are known to fit. torch and onnx are imported only when needed.

Read `layers` first: names, patterns and choice of layers. `onnx_files` reads and prunes ONNX models, with weights in
other files as far as `external_data` allows, and a `graph` is what every runtime opens. `inspection` finds the layers
of a torch module by its `module_calls`, `default_taps` chooses some where nobody named any, `tapping` keeps them while
the module runs, `dependencies` are the weights that they need, `export` traces it into a graph, and `foreign` rewrites
the ONNX file of another program. `weights` reads checkpoints for a network: `weight_files` are one file or several
(`tensor_files`; those of torch are `torch_archives` if they are plain, else `pickles` with their `pickle_contents`;
`shards`), `state_dicts` what they hold, and `fitting` chooses the one whose `matching` with a network's `layout` (and
the `file_names` of its library) is complete, as far as a `selection` leaves it open. `swapping` finds whether the
weights of a graph can be replaced. `probing` tests whether activations for an image depend on its batch, which
`batch_dependence` explains; `footprint` estimates the memory of a graph, `pretrained` reads the preprocessing of timm
and transformers, and `requested_preprocessing` finds the one that a user asks for.
"""

from fastrdm.networks.dependencies import needed_entries
from fastrdm.networks.errors import WeightsError
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
    describe_taps,
    find_taps,
    group_reasons,
    match_pattern,
    needs_second_run,
)
from fastrdm.networks.layout import Layout, fit_weights
from fastrdm.networks.module_calls import arguments, check_hooks, inference
from fastrdm.networks.onnx_files import (
    inputs_of,
    is_onnx,
    keep_named,
    map_weights,
    metadata_of,
    prune,
    put_weights,
    read_model,
    store_inner,
)
from fastrdm.networks.pretrained import preprocessing_of
from fastrdm.networks.probing import (
    InconsistentError,
    Probes,
    Verdict,
    probe,
    probe_module,
)
from fastrdm.networks.requested_preprocessing import (
    PreprocessingRequest,
    RequestedPreprocessing,
    preprocessing_for,
    request_preprocessing,
)
from fastrdm.networks.selection import ANY_FITTING, Selection, Taken
from fastrdm.networks.shards import files_of, holds_index, is_index, is_shard
from fastrdm.networks.swapping import attributes_restored
from fastrdm.networks.tapping import tapped
from fastrdm.networks.weight_files import (
    check_file,
    check_unchanged,
    hash_file,
    is_checkpoint,
    is_complete,
)
from fastrdm.networks.weights import (
    load_state_dict,
    load_weights,
    read_fitting,
    read_weights,
)

__all__ = [
    "ANY_FITTING",
    "FLOATS",
    "INNER_SHAPES",
    "Choice",
    "Graph",
    "InconsistentError",
    "Layer",
    "Layout",
    "NetworkLayers",
    "OnnxFile",
    "PreprocessingRequest",
    "Probes",
    "RequestedPreprocessing",
    "Selection",
    "Taken",
    "Taps",
    "Verdict",
    "WeightsError",
    "arguments",
    "attributes_restored",
    "bytes_per_image",
    "check_file",
    "check_hooks",
    "check_unchanged",
    "choose_taps",
    "compile_pattern",
    "describe_taps",
    "export_onnx",
    "files_of",
    "find_taps",
    "fit_weights",
    "format_size",
    "group_reasons",
    "hash_file",
    "holds_index",
    "inference",
    "inputs_of",
    "inspect_module",
    "is_checkpoint",
    "is_complete",
    "is_index",
    "is_onnx",
    "is_shard",
    "keep_named",
    "load_state_dict",
    "load_weights",
    "map_weights",
    "match_pattern",
    "metadata_of",
    "needed_entries",
    "needs_second_run",
    "preprocessing_for",
    "preprocessing_of",
    "probe",
    "probe_module",
    "prune",
    "put_weights",
    "read_fitting",
    "read_model",
    "read_weights",
    "request_preprocessing",
    "rewrite",
    "set_outputs",
    "store_inner",
    "tapped",
    "trace_network",
]
