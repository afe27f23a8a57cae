"""Checkpoints a second from their files to the store: `fastrdm sweep --provider torch`."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from bench.proof.networks import State, network
from bench.proof.record import failure
from bench.proof.setting import Setting
from fastrdm.scoring import RSA, Sweep

_ARCH = "models.networks:resnet20"


def sweeps(setting: Setting) -> Iterator[dict[str, Any]]:
    """A row for each precision; between the first and the last checkpoint that is scored."""
    pixels = next(iter(setting.pixels().values()))
    weights = network("resnet20", pixels, setting.device).state_dict()
    n = max(3, setting.amounts.n_checkpoints // 2)
    options = {"channels_last": "true"}
    if setting.device.type == "cuda":
        options["cuda_graph"] = "true"
    with tempfile.TemporaryDirectory() as folder:
        files = [_write(weights, Path(folder) / f"epoch_{k}.pth", k) for k in range(n)]
        for precision in reversed(setting.precisions):
            row: dict[str, Any] = {"precision": precision, "options": ", ".join(options)}
            try:
                store = Path(folder) / f"{precision}.db"
                yield row | _swept(files, setting, store, precision, options)
            except Exception as error:
                yield row | failure(error)


def _write(weights: State, path: Path, k: int) -> Path:
    """Write a checkpoint that differs in one entry, so that its score is not known."""
    torch.save({**weights, "fc.bias": weights["fc.bias"] + k}, path)
    return path


def _swept(
    files: list[Path],
    setting: Setting,
    store: Path,
    precision: str,
    options: Mapping[str, str],
) -> dict[str, Any]:
    times: list[float] = []
    errors: list[str] = []

    def note(event: Mapping[str, Any]) -> None:
        if event["event"] == "scored":
            times.append(time.perf_counter())
        elif event["event"] == "failed":
            errors.append(event["error"])

    start = time.perf_counter()
    with Sweep(
        files,
        [_ARCH],
        setting.studies,
        measures=[RSA],
        store=store,
        preprocessing=setting.preprocessing,
        engine="in-process",
        provider=f"torch:{setting.device}",
        precision=precision,
        provider_options=options,
    ) as sweep:
        sweep.run(on_event=note)
    if errors:
        raise RuntimeError(errors[0])
    return {
        "checkpoints": len(times),
        "first, s": times[0] - start,
        "checkpoints/s": (len(times) - 1) / (times[-1] - times[0]),
    }
