"""Checkpoints a second for the ResNet-20 over both sets, beside a plain program on the same device."""

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.proof.busy import busy_seconds
from bench.proof.exact import exact, largest_difference
from bench.proof.networks import State, hooked, network, states
from bench.proof.pipeline import WARM, CheckpointPipeline, Rdms, last_state
from bench.proof.record import failure
from bench.proof.setting import Setting
from bench.proof.setting import scores as scores_of
from fastrdm import TorchModel
from fastrdm.tensors import rounding

Pixels = Mapping[str, NDArray[np.uint8]]
PLAIN = "torch, hooks, corrcoef"
N_STATES = 6
_FAST = {"channels_last": True, "cuda_graph": True}
WAYS: Mapping[str, Sequence[tuple[str, dict[str, Any]]]] = {
    # The most important first, in case that time runs out.
    "cuda": (
        ("bf16", _FAST),
        ("tf32", _FAST),
        ("fp32", {"cuda_graph": True}),
        ("fp32", _FAST),
        # Compiling can take most of the section's time.
        ("bf16", {**_FAST, "compile": True}),
        ("tf32", {**_FAST, "compile": True}),
        ("fp32", {"cuda_graph": True, "compile": True}),
        ("bf16", {"channels_last": True}),
        ("fp32", {}),
    ),
    "cpu": (("fp32", {}), ("bf16", {"channels_last": True})),
}


class CheckpointTruth:
    """RDMs in float64 of one checkpoint on each set, and its scores."""

    def __init__(self, module: torch.nn.Module, state: State, setting: Setting) -> None:
        other = copy.deepcopy(module)
        other.load_state_dict(state)
        self._studies = setting.studies
        self.rdms: Rdms = [
            exact(other, pixels, setting.device).rdms for pixels in setting.pixels().values()
        ]
        self.scores = self.score(self.rdms)

    def score(self, rdms: Rdms) -> list[dict[tuple[str, str], float]]:
        """Percent of the noise ceiling, for each set by layer and region."""
        return [
            scores_of(of_set, study.targets)
            for of_set, study in zip(rdms, self._studies, strict=True)
        ]

    def errors(self, rdms: Rdms) -> dict[str, float]:
        """The largest difference of RDMs, and of scores in percentage points."""
        pairs = zip(self.score(rdms), self.scores, strict=True)
        return {
            "RDM difference": max(map(largest_difference, rdms, self.rdms)),
            "score difference": max(abs(a[key] - b[key]) for a, b in pairs for key in b),
        }


def rates(setting: Setting) -> Iterator[dict[str, Any]]:
    """A row for the plain program in each precision, then for each way to run a `TorchModel`."""
    sets, n = setting.pixels(), setting.amounts.n_checkpoints
    module = network("resnet20", next(iter(sets.values())), setting.device)
    checkpoints = states(module, N_STATES)
    truth = CheckpointTruth(module, last_state(checkpoints, n), setting)
    plain = {}
    row: dict[str, Any]
    for precision in setting.precisions:
        row = {"engine": PLAIN, "precision": precision}
        try:
            plain[precision], rdms = _plain(module, sets, checkpoints, setting, precision)
            row |= {"checkpoints/s": plain[precision], **truth.errors(rdms)}
        except Exception as error:
            row |= failure(error)
        yield row
    for precision, options in WAYS[setting.device.type]:
        if precision not in setting.precisions:
            continue
        row = {"engine": "fastrdm", "precision": precision, "options": ", ".join(options)}
        try:
            row |= _fastrdm(module, sets, checkpoints, setting, truth, precision, options)
            if precision in plain:
                row["× plain"] = row["checkpoints/s"] / plain[precision]
        except Exception as error:
            row |= failure(error)
        yield row


def _fastrdm(
    module: torch.nn.Module,
    sets: Pixels,
    checkpoints: list[State],
    setting: Setting,
    truth: CheckpointTruth,
    precision: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    n, start = setting.amounts.n_checkpoints, time.perf_counter()
    model = TorchModel(module, device=str(setting.device), precision=precision, **options)
    shown = [model.show(pixels) for pixels in sets.values()]
    pipeline = CheckpointPipeline(model, shown, checkpoints, truth.score)
    pipeline.rate(1)
    ready = time.perf_counter() - start
    rate, rdms = pipeline.rate(n)
    scored, _ = pipeline.rate(n, score=True)
    few = max(1, n // 10)
    busy = busy_seconds(setting.device, lambda: pipeline.rate(few)) / (few + WARM)
    return {
        "start, s": ready,
        "checkpoints/s": rate,
        "with scores": scored,
        "busy, ms": 1e3 * busy,
        "busy share": busy * rate,
        **truth.errors(rdms),
    }


def _plain(
    module: torch.nn.Module,
    sets: Pixels,
    checkpoints: list[State],
    setting: Setting,
    precision: str,
) -> tuple[float, Rdms]:
    """Checkpoints a second of eager torch with hooks and `torch.corrcoef`, RDMs on the host."""
    device, prepared = setting.device, setting.preprocessing
    net = copy.deepcopy(module).to(device)
    images = [torch.from_numpy(prepared.normalise(pixels)).to(device) for pixels in sets.values()]
    n, start, rdms = max(1, setting.amounts.n_checkpoints // 3), 0.0, []
    # The last one is that of which the truth is known.
    first = setting.amounts.n_checkpoints - n
    with hooked(net, module.taps) as held:
        for k in range(-2, n):
            if k == 0:
                start = time.perf_counter()
            net.load_state_dict(checkpoints[(first + k) % len(checkpoints)])
            rdms = [_correlated(net, batch, held, precision) for batch in images]
        rate = n / (time.perf_counter() - start)
    return rate, [_condensed(of_set) for of_set in rdms]


def _correlated(
    net: torch.nn.Module, batch: torch.Tensor, held: State, precision: str
) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        with rounding(precision, batch.device):
            net(batch)
        return {
            name: (1 - torch.corrcoef(values.flatten(1).float())).cpu()
            for name, values in held.items()
        }


def _condensed(rdms: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float64]]:
    return {
        name: values.double().numpy()[np.triu_indices(len(values), 1)]
        for name, values in rdms.items()
    }
