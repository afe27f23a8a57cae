"""The table of providers: packages, precisions and options of each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastrdm.runtimes.provider_sources import (
    Builtin,
    OpenVinoPackage,
    Plugin,
    PrecisionSetting,
    ProviderSource,
)

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")

# Best first. Others are used only by name: TensorRT compiles for minutes, OpenVINO in fp32 is not faster than the CPU
# provider (17.7 and 16.0 ms per image of ResNet-20), CoreML does not report its rounding.
AUTO = ("cuda", "migraphx", "rocm", "cpu")


def _no_options(
    word: str, fixed: Mapping[str, str], given: Mapping[str, str], n_threads: int | None
) -> dict[str, str]:
    for name in given:
        raise ValueError(f"provider {word!r} has no options; remove {name!r}")
    return {}


def _plain_options(
    word: str, fixed: Mapping[str, str], given: Mapping[str, str], n_threads: int | None
) -> dict[str, str]:
    """The caller's options and those that the precision needs."""
    if both := sorted(fixed.keys() & given.keys()):
        raise ValueError(
            f"the precision of provider {word!r} sets the option {both[0]!r}; use precision instead"
        )
    return {**fixed, **given}


def _openvino_options(
    word: str, fixed: Mapping[str, str], given: Mapping[str, str], n_threads: int | None
) -> dict[str, str]:
    """A device, and OpenVINO's properties for it as JSON, because the plug-in silently ignores all other options."""
    for name in given:
        if name not in {"device_type", "load_config"}:
            raise ValueError(
                f"provider {word!r} has no option {name!r}; it has device_type, and properties of OpenVINO "
                'by device in load_config, as in {"CPU": {"NUM_STREAMS": "1"}}'
            )
    device = given.get("device_type", "CPU")
    if device.partition(".")[0] not in {"CPU", "GPU", "NPU"}:
        raise ValueError(
            f"device_type must be CPU, GPU or NPU, or a numbered one such as GPU.1, not {device!r}"
        )
    try:
        config = json.loads(given.get("load_config", "{}"))
        requested = dict(config.get(device, {}))
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            "load_config must be JSON that maps devices to properties, "
            f"not {given['load_config']!r}"
        ) from None
    fixed = dict(fixed)
    if n_threads is not None and device == "CPU":
        fixed["INFERENCE_NUM_THREADS"] = str(n_threads)
    if both := sorted(fixed.keys() & requested.keys()):
        raise ValueError(f"load_config has {both[0]}; use precision and n_threads instead")
    # With pinning, threads of two processes share a core: on two cores, two processes of one thread each took 36 ms per
    # image with and 28 ms without.
    pinning = {"ENABLE_CPU_PINNING": "NO"} if device == "CPU" else {}
    properties = {**pinning, **requested, **fixed}
    return {"device_type": device, "load_config": json.dumps({**config, device: properties})}


@dataclass(frozen=True)
class Provider:
    """Sources of a provider, in the order in which they are tried, and the packages to install if there is none."""

    sources: tuple[ProviderSource, ...]
    install: str
    options: Callable[[str, Mapping[str, str], Mapping[str, str], int | None], dict[str, str]] = (
        _plain_options
    )
    # Whether to measure the precision, because the provider does not report it.
    probed: bool = False

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that at least one of the sources supports."""
        return tuple(
            p for p in PRECISIONS if any(p in source.precisions for source in self.sources)
        )


_FP32 = {"fp32": PrecisionSetting()}

_NO_OVERRIDE = dict.fromkeys(
    (f"ORT_MIGRAPHX_{kind}_ENABLE" for kind in ("FP16", "BF16", "FP8", "INT8")), ""
)

_MIGRAPHX = {
    "fp32": PrecisionSetting({}, _NO_OVERRIDE),
    "bf16": PrecisionSetting({"migraphx_bf16_enable": "1"}, _NO_OVERRIDE),
    "fp16": PrecisionSetting({"migraphx_fp16_enable": "1"}, _NO_OVERRIDE),
}

_CUDA = {
    # TF32 keeps 10 bits of the mantissa: too few for activations within 1e-4.
    "fp32": PrecisionSetting({"use_tf32": "0"}),
    "tf32": PrecisionSetting({"use_tf32": "1"}, {"NVIDIA_TF32_OVERRIDE": ""}),
}

# TensorRT rounds to TF32 unless this is set before CUDA starts; its provider has no option.
_TENSORRT = {
    "fp32": PrecisionSetting({}, {"NVIDIA_TF32_OVERRIDE": "0"}),
    "tf32": PrecisionSetting({}, {"NVIDIA_TF32_OVERRIDE": ""}),
}

_TENSORRT_16 = {
    "bf16": PrecisionSetting({"trt_bf16_enable": "1"}),
    "fp16": PrecisionSetting({"trt_fp16_enable": "1"}),
}

# Passed as JSON in `load_config`, the only option that all three sources of OpenVINO support.
_OPENVINO = {
    "fp32": PrecisionSetting({"INFERENCE_PRECISION_HINT": "f32"}),
    "bf16": PrecisionSetting({"INFERENCE_PRECISION_HINT": "bf16"}),
    "fp16": PrecisionSetting({"INFERENCE_PRECISION_HINT": "f16"}),
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
                " (only Intel's); on other processors use: pip install 'fastrdm[openvino]'",
            ),
            OpenVinoPackage("openvino", _OPENVINO),
        ),
        "'fastrdm[openvino]'",
        _openvino_options,
        probed=True,
    ),
    "coreml": Provider(
        # With the older model format, CoreML chooses the precision.
        (
            Builtin(
                "CoreMLExecutionProvider",
                "onnxruntime",
                {"fp32": PrecisionSetting({"ModelFormat": "MLProgram"})},
            ),
        ),
        "'fastrdm[onnx]' (on macOS)",
    ),
}
