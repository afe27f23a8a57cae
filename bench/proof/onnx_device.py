"""Checkpoints a second by ONNX Runtime with everything on the device (`fastrdm.runtimes.DeviceModel`)."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.proof.busy import busy_seconds
from bench.proof.networks import network, states
from bench.proof.pipeline import WARM, CheckpointPipeline, last_state
from bench.proof.rates import N_STATES, CheckpointTruth
from bench.proof.record import failure
from bench.proof.resnet20_graph import write_graph
from bench.proof.setting import Setting
from fastrdm.networks import Graph
from fastrdm.runtimes import PROVIDERS, DeviceModel


def onnx_device(setting: Setting) -> Iterator[dict[str, Any]]:
    """A row for each precision; a single one, if ONNX Runtime has no provider for the device."""
    import onnxruntime

    names = ("cuda", "migraphx", "rocm") if setting.device.type == "cuda" else ("cpu",)
    available = onnxruntime.get_available_providers()
    builtin = {name: PROVIDERS[name].sources[0].name for name in names}
    provider = next((name for name in names if builtin[name] in available), None)
    if provider is None:
        yield {"left out": f"onnxruntime {onnxruntime.__version__} has no provider for the device"}
        return
    sets, n = setting.pixels(), setting.amounts.n_checkpoints
    module = network("resnet20", next(iter(sets.values())), setting.device)
    checkpoints = states(module, N_STATES)
    truth = CheckpointTruth(module, last_state(checkpoints, n), setting)
    arrays = [{name: value.numpy() for name, value in each.items()} for each in checkpoints]
    with tempfile.TemporaryDirectory() as folder:
        graph = Graph("ResNet-20", write_graph(module, Path(folder) / "resnet20.onnx"))
        for precision in PROVIDERS[provider].precisions:
            row: dict[str, Any] = {"provider": provider, "precision": precision}
            options = {} if precision == "fp32" else {"precision": precision}
            try:
                model = DeviceModel(
                    graph, tuple(module.taps), module.preprocessing, provider, **options
                )
                shown = [model.show(pixels) for pixels in sets.values()]
                pipeline = CheckpointPipeline(model, shown, arrays, truth.score)
                rate, rdms = pipeline.rate(n)
                row |= {"checkpoints/s": rate}
                if setting.device.type == "cuda":
                    few = max(1, n // 10)
                    busy = busy_seconds(setting.device, lambda p=pipeline, k=few: p.rate(k))
                    row |= {"busy share": busy / (few + WARM) * rate}
                row |= truth.errors(rdms)
            except Exception as error:
                row |= failure(error)
            yield row
