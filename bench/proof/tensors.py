"""Functions of fastrdm on tensors of the device, beside the device's own matrix product."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import fastrdm
from bench.proof.setting import Setting
from fastrdm._base import one_line

N = 118
_ROUNDS = 5
_SUBJECTS = 15


def tensors(setting: Setting) -> Iterator[dict[str, Any]]:
    """A row for each function; `share` is the time of the float32 product of all pairs, relative to the function's."""
    x = _activations(setting)
    host = x.cpu().numpy()
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        product = _seconds(lambda: x @ x.T, setting)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    yield {"call": "x @ x.T, float32", "shape": f"{N} × {x.shape[1]}", "ms": 1e3 * product}
    calls: list[tuple[str, Callable[[Any], Any], Any, Any]] = [
        *(
            (f'calc_rdm(x, "{method}")', _rdm(method), x, host)
            for method in ("correlation", "cosine", "euclidean", "sqeuclidean")
        ),
        ("calc_rdm(x), bfloat16", _rdm("correlation"), x.bfloat16(), None),
        ("gram(x)", lambda a: fastrdm.gram(a).rdm("correlation"), x, host),
        (
            "cka(x @ x.T, …)",
            lambda a: fastrdm.cka(a, abs(a) ** 0.5),
            x.double() @ x.T.double(),
            None,
        ),
    ]
    models, subjects = _rdms(setting)
    target = fastrdm.Target(subjects)
    for method in ("spearman", "corr", "cosine"):
        name = f'compare(rdms, rdms, "{method}")'
        calls.append((name, _comparison(method), models, models.cpu().numpy()))
    calls.append(("Target.score(rdms)", lambda a: target.score(a).r2, models, models.cpu().numpy()))
    for name, call, tensor, array in calls:
        row: dict[str, Any] = {"call": name, "shape": " × ".join(map(str, tensor.shape))}
        try:
            # The same numbers, in float64 on the host.
            truth = call((tensor.float().cpu().numpy() if array is None else array).astype(float))
            found = np.asarray(call(tensor))
            seconds = _seconds(lambda call=call, tensor=tensor: call(tensor), setting)
        except (TypeError, ValueError, RuntimeError, MemoryError) as error:
            yield row | {"error": one_line(error)}
            continue
        row |= {"ms": 1e3 * seconds, "difference": _difference(found, np.asarray(truth))}
        yield row | ({"share": product / seconds} if tensor is not models else {})


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


def _rdm(method: str) -> Callable[[Any], Any]:
    return lambda x: fastrdm.calc_rdm(x, method)


def _comparison(method: str) -> Callable[[Any], Any]:
    return lambda rdms: fastrdm.compare(rdms, rdms, method)


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


def _difference(found: Any, truth: Any) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(found - truth).max() / np.abs(truth).max())
