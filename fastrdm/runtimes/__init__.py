"""Where a network runs.

In come graphs, weights and images; out go activations, or RDMs where they are made on the device itself. A provider
that cannot do what was asked is refused: nothing goes on in silence on another processor or in fewer bits.

Read `onnx_model` first: an `OnnxModel` shows images and gives each layer's activations or RDM. `providers` opens a
session on the provider and in the precision asked for, of those in `provider_table` and `provider_sources`;
`openvino_session` is one on OpenVINO's own package. `extraction` puts activations where the kernels read them. `device`
keeps pixels and products on a GPU (`device_memory`), by the graph that `rdm_graph` makes of a network's (`graph_nodes`,
`graph_folding`). `foreign` runs another program's file once to see its tensors. In `architectures` one graph takes many
weights, and `checkpoints` opens them.
"""

from fastrdm.runtimes import onnx_model
from fastrdm.runtimes.architectures import Architecture, import_arch
from fastrdm.runtimes.checkpoints import (
    architecture_of,
    one_for_each,
    open_checkpoint,
)
from fastrdm.runtimes.device import DeviceModel
from fastrdm.runtimes.extraction import Workspace
from fastrdm.runtimes.foreign import inspect_file, open_foreign
from fastrdm.runtimes.onnx_model import OnnxModel
from fastrdm.runtimes.provider_table import AUTO, PRECISIONS, PROVIDERS, Provider
from fastrdm.runtimes.providers import open_session, probe_graph

__all__ = [
    "AUTO",
    "PRECISIONS",
    "PROVIDERS",
    "Architecture",
    "DeviceModel",
    "OnnxModel",
    "Provider",
    "Workspace",
    "architecture_of",
    "import_arch",
    "inspect_file",
    "one_for_each",
    "onnx_model",
    "open_checkpoint",
    "open_foreign",
    "open_session",
    "probe_graph",
]
