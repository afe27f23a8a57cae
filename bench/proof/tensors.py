"""Functions of fastrdm on tensors of the device, beside the device's own matrix product."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

import fastrdm
from bench.proof.record import failure
from bench.proof.setting import Setting
from fastrdm.tensors import rounding

N = 118
_ROUNDS = 5
_SUBJECTS = 15
# Name, call, and what it takes.
_Call: TypeAlias = tuple[str, Callable[[Any], Any], torch.Tensor]


def tensors(setting: Setting) -> Iterator[dict[str, Any]]:
    """A row for each function; `share` is the time of the float32 product of all pairs, relative to the function's."""
    x = _activations(setting)
    with rounding("fp32", setting.device):
        product = _seconds(lambda: x @ x.T, setting)
    yield {"call": "x @ x.T, float32", "shape": _shape(x), "ms": 1e3 * product}
    for name, call, tensor in _calls(x, *_rdms(setting)):
        row: dict[str, Any] = {"call": name, "shape": _shape(tensor)}
        try:
            # The same numbers, in float64 on the host.
            truth = _on_host(call(tensor.double().cpu().numpy()))
            found = _on_host(call(tensor))
            seconds = _seconds(lambda call=call, tensor=tensor: call(tensor), setting)
        except Exception as error:
            yield row | failure(error)
            continue
        difference = float(np.abs(found - truth).max() / np.abs(truth).max())
        row |= {"ms": 1e3 * seconds, "difference": difference}
        yield row | ({"share": product / seconds} if tensor.shape == x.shape else {})


def _calls(x: torch.Tensor, models: torch.Tensor, subjects: Any) -> Iterator[_Call]:
    for method in ("correlation", "cosine", "euclidean", "sqeuclidean"):
        yield f'calc_rdm(x, "{method}")', partial(fastrdm.calc_rdm, method=method), x
    yield "calc_rdm(x, like=x)", partial(fastrdm.calc_rdm, like=x), x
    yield "calc_rdm(x), bfloat16", fastrdm.calc_rdm, x.bfloat16()
    yield "gram(x)", lambda a: fastrdm.gram(a).rdm("correlation"), x
    yield "cka(x @ x.T, …)", lambda a: fastrdm.cka(a, abs(a) ** 0.5), x.double() @ x.T.double()
    for method in ("spearman", "corr", "cosine"):
        name = f'compare(rdms, rdms, "{method}")'
        yield name, lambda a, method=method: fastrdm.compare(a, a, method), models
    target = fastrdm.Target(subjects)
    yield "Target.score(rdms)", lambda a: target.score(a).r2, models


def _shape(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))


def _on_host(values: Any) -> Any:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _activations(setting: Setting) -> torch.Tensor:
    """Like a convolutional layer's: not negative, with a part that all conditions share."""
    generator = torch.Generator(setting.device).manual_seed(0)
    shape = (N, setting.amounts.channels)
    values = torch.randn(shape, generator=generator, device=setting.device)
    return (values + values[:1]).relu()


def _rdms(setting: Setting) -> tuple[torch.Tensor, Any]:
    """RDMs of models on the device, and those of subjects on the host, with ties."""
    rng = np.random.default_rng(0)
    n_pairs = N * (N - 1) // 2
    common = rng.random(n_pairs)
    models, subjects = (np.round(common + rng.random((k, n_pairs)), 3) for k in (11, _SUBJECTS))
    return torch.from_numpy(models).to(setting.device), subjects


def _seconds(call: Callable[[], Any], setting: Setting) -> float:
    """Median time of a call, whose work on the device is waited for."""
    times = []
    for _ in range(_ROUNDS + 2):
        setting.wait()
        start = time.perf_counter()
        call()
        setting.wait()
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:]))
