"""The providers by their words: where each may come from, its precisions, and its options."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastrdm.runtimes.provider_sources import Builtin, OpenVinoPackage, Plugin, Source, Way

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


# Best first. The others are for who asks: TensorRT compiles for minutes, OpenVINO in fp32 is no faster than the CPU
# provider (17.7 against 16.0 ms an image of ResNet-20), CoreML cannot be asked what it rounds to.
AUTO = ("cuda", "migraphx", "rocm", "cpu")


def _no_options(
    word: str, own: Mapping[str, str], given: Mapping[str, str], n_threads: int | None
) -> dict[str, str]:
    for name in given:
        raise ValueError(f"provider {word!r} has no options, so not {name!r} either")
    return {}


def _plain_options(
    word: str, own: Mapping[str, str], given: Mapping[str, str], n_threads: int | None
) -> dict[str, str]:
    """The caller's options beside those that the precision needs."""
    if both := sorted(own.keys() & given.keys()):
        raise ValueError(
            f"provider {word!r} has the option {both[0]!r} from its precision: give precision instead"
        )
    return {**own, **given}


def _openvino_options(
    word: str, own: Mapping[str, str], given: Mapping[str, str], n_threads: int | None
) -> dict[str, str]:
    """A device, and OpenVINO's properties for it as JSON: the plug-in ignores all other options without a word."""
    for name in given:
        if name not in {"device_type", "load_config"}:
            raise ValueError(
                f"provider {word!r} has no option {name!r}; it takes device_type, and properties of OpenVINO "
                'by device in load_config, as in {"CPU": {"NUM_STREAMS": "1"}}'
            )
    device = given.get("device_type", "CPU")
    if device.partition(".")[0] not in {"CPU", "GPU", "NPU"}:
        raise ValueError(
            f"device_type must be CPU, GPU or NPU, or a numbered one such as GPU.1, not {device!r}"
        )
    try:
        config = json.loads(given.get("load_config", "{}"))
        asked = dict(config.get(device, {}))
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            "load_config must be JSON that maps devices to properties, "
            f"not {given['load_config']!r}"
        ) from None
    set_here = dict(own)
    if n_threads is not None and device == "CPU":
        set_here["INFERENCE_NUM_THREADS"] = str(n_threads)
    if both := sorted(set_here.keys() & asked.keys()):
        raise ValueError(
            f"load_config has {both[0]}, which precision and n_threads are for: give those instead"
        )
    # Pinned, the threads of two processes share a core: two of one thread each took 36 ms an image
    # where they take 28 ms unpinned, on two cores.
    pinning = {"ENABLE_CPU_PINNING": "NO"} if device == "CPU" else {}
    properties = {**pinning, **asked, **set_here}
    return {"device_type": device, "load_config": json.dumps({**config, device: properties})}


@dataclass(frozen=True)
class Provider:
    """Where a provider may come from, in the order they are tried, and what installs it where there is none."""

    sources: tuple[Source, ...]
    install: str
    options: Callable[[str, Mapping[str, str], Mapping[str, str], int | None], dict[str, str]] = (
        _plain_options
    )
    # Whether the precision is looked for in a result, as the provider does not say what it uses.
    probed: bool = False

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that one of the sources can be told."""
        return tuple(p for p in PRECISIONS if any(p in source.ways for source in self.sources))


_FP32 = {"fp32": Way()}


_NO_OVERRIDE = dict.fromkeys(
    (f"ORT_MIGRAPHX_{kind}_ENABLE" for kind in ("FP16", "BF16", "FP8", "INT8")), ""
)


_MIGRAPHX = {
    "fp32": Way({}, _NO_OVERRIDE),
    "bf16": Way({"migraphx_bf16_enable": "1"}, _NO_OVERRIDE),
    "fp16": Way({"migraphx_fp16_enable": "1"}, _NO_OVERRIDE),
}


_CUDA = {
    # TF32 keeps 10 bits of the mantissa: too few for activations within 1e-4.
    "fp32": Way({"use_tf32": "0"}),
    "tf32": Way({"use_tf32": "1"}, {"NVIDIA_TF32_OVERRIDE": ""}),
}


# TensorRT rounds to TF32 unless this is set before CUDA starts: its provider has no option for it.
_TENSORRT = {
    "fp32": Way({}, {"NVIDIA_TF32_OVERRIDE": "0"}),
    "tf32": Way({}, {"NVIDIA_TF32_OVERRIDE": ""}),
}


_TENSORRT_16 = {
    "bf16": Way({"trt_bf16_enable": "1"}),
    "fp16": Way({"trt_fp16_enable": "1"}),
}


# As JSON for the device in `load_config`, which is all that the three ways to OpenVINO have in common.
_OPENVINO = {
    "fp32": Way({"INFERENCE_PRECISION_HINT": "f32"}),
    "bf16": Way({"INFERENCE_PRECISION_HINT": "bf16"}),
    "fp16": Way({"INFERENCE_PRECISION_HINT": "f16"}),
}


PROVIDERS: Mapping[str, Provider] = {
    "cpu": Provider(
        (Builtin("CPUExecutionProvider", "onnxruntime", _FP32),),
        "'fastrdm[onnx]'",
        _no_options,
    ),
    "cuda": Provider(
        (Builtin("CUDAExecutionProvider", "onnxruntime-gpu", _CUDA, "'fastrdm[cuda]'"),),
        "'fastrdm[cuda]'",
    ),
    "rocm": Provider(
        (Builtin("ROCMExecutionProvider", "onnxruntime-rocm", _FP32),), "onnxruntime-rocm"
    ),
    "migraphx": Provider(
        (
            Builtin("MIGraphXExecutionProvider", "onnxruntime-migraphx", _MIGRAPHX),
            Plugin("onnxruntime_ep_migraphx", "onnxruntime-ep-migraphx", _MIGRAPHX),
        ),
        "'fastrdm[rocm]'",
    ),
    "tensorrt": Provider(
        (
            Builtin(
                "TensorrtExecutionProvider",
                "onnxruntime-gpu",
                _TENSORRT | _TENSORRT_16,
                "'fastrdm[cuda]' tensorrt",
            ),
            Plugin("onnxruntime_ep_nv_tensorrt_rtx", "onnxruntime-ep-nv-tensorrt-rtx", _TENSORRT),
        ),
        "'fastrdm[cuda]' tensorrt",
    ),
    "openvino": Provider(
        (
            Builtin("OpenVINOExecutionProvider", "onnxruntime-openvino", _OPENVINO),
            Plugin(
                "onnxruntime_ep_openvino",
                "onnxruntime-ep-openvino",
                _OPENVINO,
                ": it takes Intel's alone; on other processors use: pip install 'fastrdm[openvino]'",
            ),
            OpenVinoPackage("openvino", _OPENVINO),
        ),
        "'fastrdm[openvino]'",
        _openvino_options,
        probed=True,
    ),
    "coreml": Provider(
        # The older format of models leaves the precision to CoreML.
        (
            Builtin(
                "CoreMLExecutionProvider",
                "onnxruntime",
                {"fp32": Way({"ModelFormat": "MLProgram"})},
            ),
        ),
        "'fastrdm[onnx]' (on macOS)",
    ),
}
