"""Where a network runs.

In come graphs, weights and images; out go activations, or RDMs and Gram matrices if they are computed on the device. A
provider that does not meet the request is refused: nothing runs silently on another processor or in lower precision.

Read `image_model` first: an `ImageModel` runs images and returns each layer's activations, RDM or Gram matrix, while
`progress` is shown; `model_arguments` are checked for all of them. An `onnx_model` is one. `providers` opens its
session on one of the providers in `provider_table`, which come from `provider_sources`; `openvino_session` is for
OpenVINO's own package. On the host, `network_session` runs batches, `planning` chooses batches and passes that fit
`max_memory`, and `host_rdms` makes RDMs and Gram matrices of the activations of each pass. On a device, `device` keeps
pixels and products there, with the sessions of `device_sessions` and graphs from `rdm_graph` (`graph_nodes`,
`graph_folding`); `device_results` makes RDMs and Gram matrices of the products.
The other is a `torch_model`, which runs a torch module where its weights are, by a `torch_session`: `torch_states` are
restored after each run, `torch_compiling` is for torch.compile, `torch_weights` replaces the weights of a copy,
`torch_rdms` are made of the products of conditions on the device, and `torch_fingerprint` is the key of what it
computes. `foreign` runs another exporter's file once to find its tensors. `checkpoints` opens a file of any kind, also
with graphs that take the weights of many files; `swapped` networks take the weights of one file after the other, also
those of a `torch_architecture` on a device of the `torch_provider`. `exports` keeps graphs on disk, as long as
`export_inputs` finds all that made them unchanged and `rebuilding` finds nothing random in them.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.runtimes.checkpoints import Architecture, import_arch, open_checkpoint
    from fastrdm.runtimes.device import DeviceModel, suits
    from fastrdm.runtimes.exports import Exports
    from fastrdm.runtimes.foreign import inspect_file
    from fastrdm.runtimes.host_rdms import Workspace
    from fastrdm.runtimes.onnx_model import OnnxModel
    from fastrdm.runtimes.provider_table import AUTO, PRECISIONS, PROVIDERS, Provider
    from fastrdm.runtimes.providers import open_session, probe_graph
    from fastrdm.runtimes.swapped import (
        DeviceNetwork,
        PreparedWeights,
        ScorableModel,
        SwappedOnnx,
        SwappedTorch,
    )
    from fastrdm.runtimes.torch_architecture import TorchArchitecture
    from fastrdm.runtimes.torch_fingerprint import module_fingerprint
    from fastrdm.runtimes.torch_model import TorchModel
    from fastrdm.runtimes.torch_provider import (
        TORCH,
        check_torch,
        has_gpu,
        is_torch,
        torch_devices,
        torch_gpu_of,
    )
    from fastrdm.runtimes.torch_rdms import PendingRdms, ShownImages
    from fastrdm.runtimes.torch_states import beside_training
else:
    # Imported on first use: the arguments of the command line need only the names of providers and precisions.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm.runtimes.checkpoints": ["Architecture", "import_arch", "open_checkpoint"],
            "fastrdm.runtimes.device": ["DeviceModel", "suits"],
            "fastrdm.runtimes.exports": ["Exports"],
            "fastrdm.runtimes.foreign": ["inspect_file"],
            "fastrdm.runtimes.host_rdms": ["Workspace"],
            "fastrdm.runtimes.onnx_model": ["OnnxModel"],
            "fastrdm.runtimes.provider_table": ["AUTO", "PRECISIONS", "PROVIDERS", "Provider"],
            "fastrdm.runtimes.providers": ["open_session", "probe_graph"],
            "fastrdm.runtimes.swapped": [
                "DeviceNetwork",
                "PreparedWeights",
                "ScorableModel",
                "SwappedOnnx",
                "SwappedTorch",
            ],
            "fastrdm.runtimes.torch_architecture": ["TorchArchitecture"],
            "fastrdm.runtimes.torch_fingerprint": ["module_fingerprint"],
            "fastrdm.runtimes.torch_model": ["TorchModel"],
            "fastrdm.runtimes.torch_provider": [
                "TORCH",
                "check_torch",
                "has_gpu",
                "is_torch",
                "torch_devices",
                "torch_gpu_of",
            ],
            "fastrdm.runtimes.torch_rdms": ["PendingRdms", "ShownImages"],
            "fastrdm.runtimes.torch_states": ["beside_training"],
        },
    )

__all__ = [
    "AUTO",
    "PRECISIONS",
    "PROVIDERS",
    "TORCH",
    "Architecture",
    "DeviceModel",
    "DeviceNetwork",
    "Exports",
    "OnnxModel",
    "PendingRdms",
    "PreparedWeights",
    "Provider",
    "ScorableModel",
    "ShownImages",
    "SwappedOnnx",
    "SwappedTorch",
    "TorchArchitecture",
    "TorchModel",
    "Workspace",
    "beside_training",
    "check_torch",
    "has_gpu",
    "import_arch",
    "inspect_file",
    "is_torch",
    "module_fingerprint",
    "open_checkpoint",
    "open_session",
    "probe_graph",
    "suits",
    "torch_devices",
    "torch_gpu_of",
]
