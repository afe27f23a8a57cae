"""What fastrdm does on a GPU: python -m bench.gpu_proof --device cuda --out DIR [--quick].

Runs sections one after the other, each within its time limit, and writes what it has after each one (proof.json,
proof.md). Weights are random, with batch norms as after training.
"""

import argparse
import copy
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fastrdm
from fastrdm.images import Preprocessing
from fastrdm.runtimes import TorchModel
from models.networks import build

NETWORKS = ("resnet20", "resnet18", "resnet34", "densenet121")
SIZES = (118, 92)


@dataclass
class Setting:
    """The device, the size of images, and how much to measure."""

    device: torch.device
    size: int
    n_checkpoints: int
    conditions: tuple[int, ...]
    images: dict[str, list[Path]] | None


def network(name: str, seed: int = 0) -> torch.nn.Module:
    """A network with random weights and batch norms as after training."""
    torch.manual_seed(seed)
    module = build(name, 100).eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-0.3, 0.3)
            part.running_var.uniform_(0.5, 2.0)
    return module


def stimuli(setting: Setting) -> dict[str, NDArray[np.uint8]]:
    """Pixels of the challenge's sets, or random smooth ones."""
    if setting.images:
        prepared = Preprocessing((setting.size, setting.size))
        return {name: prepared.pixels(files) for name, files in setting.images.items()}
    rng = np.random.default_rng(0)
    coarse = {n: rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8) for n in SIZES}
    repeat = -(-setting.size // 8)
    return {
        str(n): np.ascontiguousarray(
            small.repeat(repeat, 1).repeat(repeat, 2)[:, : setting.size, : setting.size]
        )
        for n, small in coarse.items()
    }


def hooked(module: torch.nn.Module, taps: Any) -> dict[str, torch.Tensor]:
    """The tapped layers of a module's last forward pass, from then on."""
    held: dict[str, torch.Tensor] = {}
    for name, path in taps.items():
        module.get_submodule(path).register_forward_hook(
            lambda part, args, output, name=name: held.__setitem__(name, output)
        )
    return held


def model_of(
    module: torch.nn.Module, setting: Setting, precision: str, **options: bool
) -> TorchModel:
    """The module on the device of the setting, for images of its size."""
    prepared = Preprocessing((setting.size, setting.size))
    return TorchModel(
        module,
        preprocessing=prepared,
        device=str(setting.device),
        precision=precision,
        **options,
    )


def exact(
    module: torch.nn.Module, taps: Any, pixels: NDArray[np.uint8], device: torch.device
) -> Any:
    """RDMs (1 − Pearson's r) in float64 throughout, with hooks."""
    double = copy.deepcopy(module).double().to(device)
    prepared = Preprocessing((pixels.shape[1], pixels.shape[2]))
    images = torch.from_numpy(prepared.normalise(pixels)).double().to(device)
    held = hooked(double, taps)
    with torch.no_grad():
        double(images)
    upper = np.triu_indices(len(pixels), 1)
    return {name: 1 - torch.corrcoef(v.flatten(1)).cpu().numpy()[upper] for name, v in held.items()}


def precisions(device: torch.device) -> tuple[str, ...]:
    """Those of a device."""
    return ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16")


def environment(setting: Setting) -> dict[str, Any]:
    """Versions and device."""
    name = torch.cuda.get_device_name(setting.device) if setting.device.type == "cuda" else "CPU"
    return {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda or torch.version.hip or "",
        "python": platform.python_version(),
        "fastrdm": fastrdm.__version__,
        "kernels": str(fastrdm.kernels()),
        "stimuli": "challenge" if setting.images else "random",
        "size": setting.size,
    }


def parity(setting: Setting) -> Iterator[dict[str, Any]]:
    """The largest difference of RDMs from float64 on the CPU, by network and precision."""
    pixels = next(iter(stimuli(setting).values()))[:12]
    for name in NETWORKS:
        module = network(name)
        expected = exact(module, module.taps, pixels, torch.device("cpu"))
        row: dict[str, Any] = {"network": name}
        for precision in precisions(setting.device):
            model = model_of(module, setting, precision)
            rdms = model.start(model.show(pixels)).rdms()
            row[precision] = max(float(np.abs(rdms[x] - expected[x]).max()) for x in rdms)
        yield row


def checkpoints(module: torch.nn.Module, n: int) -> list[dict[str, torch.Tensor]]:
    """State dicts that differ."""
    states = []
    for k in range(n):
        generator = torch.Generator().manual_seed(k)
        states.append(
            {
                x: v * (1 + 0.1 * torch.randn(v.shape, generator=generator))
                if v.is_floating_point() and "running" not in x
                else v.clone()
                for x, v in module.state_dict().items()
            }
        )
    return states


def rates(setting: Setting) -> Iterator[dict[str, Any]]:
    """Checkpoints a second over both sets: weights are folded, copied, run, and their RDMs returned."""
    module, sets = network("resnet20"), stimuli(setting)
    states = checkpoints(module, 6)
    ways = [(precision, False, False) for precision in precisions(setting.device)]
    if setting.device.type == "cuda":
        ways = [
            ("bf16", True, True),
            ("tf32", True, True),
            ("fp32", False, True),
            ("fp32", True, True),
            ("bf16", True, False),
        ]
    for precision, channels_last, graph in ways:
        model = model_of(module, setting, precision, channels_last=channels_last, cuda_graph=graph)
        shown = [model.show(pixels) for pixels in sets.values()]
        rate, results = _pipeline(model, shown, states, setting.n_checkpoints)
        last = exact_of(
            module, states[(setting.n_checkpoints - 1) % len(states)], sets, setting.device
        )
        worst = max(
            float(np.abs(result[x] - expected[x]).max())
            for result, expected in zip(results, last, strict=True)
            for x in expected
        )
        yield {
            "engine": "fastrdm",
            "precision": precision,
            "channels_last": channels_last,
            "cuda_graph": graph,
            "checkpoints/s": rate,
            "largest difference": worst,
        }
    for precision in precisions(setting.device):
        yield {
            "engine": "torch, hooks, corrcoef",
            "precision": precision,
            "checkpoints/s": _eager(module, sets, states, setting, precision),
        }


def exact_of(module: torch.nn.Module, state: Any, sets: Any, device: torch.device) -> list[Any]:
    """Float64 RDMs of a checkpoint on every set, on the device."""
    other = copy.deepcopy(module)
    other.load_state_dict(state)
    return [exact(other, module.taps, pixels, device) for pixels in sets.values()]


def _pipeline(model: TorchModel, shown: list[Any], states: list[Any], n: int) -> tuple[float, Any]:
    """Score n checkpoints, folding the next one meanwhile; returns the rate and the last RDMs."""
    free: list[Any] = [model.fold(states[0]) for _ in range(3)]

    def fold(k: int) -> Any:
        return model.fold(states[k % len(states)], free.pop())

    def finish(waiting: Any) -> Any:
        results = [each.rdms() for each in waiting[1]]
        free.append(waiting[0])
        return results

    with ThreadPoolExecutor(1) as pool:
        start, waiting, results = 0.0, None, None
        warm = 3
        following = pool.submit(fold, 0)
        for k in range(-warm, n):
            if k == 0:
                start = time.perf_counter()
            folded = following.result()
            model.load(folded)
            begun = folded, [model.start(each) for each in shown]
            if waiting is not None:
                results = finish(waiting)
            following = pool.submit(fold, max(k + 1, 0))
            waiting = begun
        results = finish(waiting)
        return n / (time.perf_counter() - start), results


def _eager(
    module: torch.nn.Module, sets: Any, states: Any, setting: Setting, precision: str
) -> float:
    """Checkpoints a second of a plain program on the same device."""
    device = setting.device
    net = copy.deepcopy(module).to(device)
    prepared = Preprocessing((setting.size,) * 2)
    images = [torch.from_numpy(prepared.normalise(pixels)).to(device) for pixels in sets.values()]
    held = hooked(net, module.taps)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    n = max(2, setting.n_checkpoints // 3)
    start = 0.0
    for k in range(-2, n):
        if k == 0:
            start = time.perf_counter()
        net.load_state_dict(states[k % len(states)])
        with (
            torch.no_grad(),
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            for batch in images:
                net(batch)
                rdms = {
                    x: (1 - torch.corrcoef(v.flatten(1).float())).cpu() for x, v in held.items()
                }
    assert rdms
    return n / (time.perf_counter() - start)


def kernels(setting: Setting) -> Iterator[dict[str, Any]]:
    """Where the GPU's time goes: the share of the time in which it computes, and the longest kernels."""
    if setting.device.type != "cuda":
        return
    module, sets = network("resnet20"), stimuli(setting)
    states = checkpoints(module, 2)
    for precision in ("fp32", "bf16"):
        model = model_of(module, setting, precision, channels_last=True)
        shown = [model.show(pixels) for pixels in sets.values()]
        _pipeline(model, shown, states, 2)
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
            start = time.perf_counter()
            _pipeline(model, shown, states, 5)
            wall = time.perf_counter() - start
        # Three checkpoints to warm up are part of it.
        n = 8
        events = profile.key_averages(group_by_input_shape=True)
        on_gpu = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
        busy = sum(e.self_device_time_total for e in on_gpu) / 1e3
        yield {
            "precision": precision,
            "what": "all",
            "ms/checkpoint": busy / n,
            "share": busy / 1e3 / wall,
        }
        for group, count in ((on_gpu, 12), ([e for e in events if e.key.startswith("aten::")], 16)):
            for each in sorted(group, key=lambda e: -e.self_device_time_total)[:count]:
                what = (
                    f"{each.key[:60]} {each.input_shapes}" if each.input_shapes else each.key[:90]
                )
                yield {
                    "precision": precision,
                    "what": what[:110],
                    "ms/checkpoint": each.self_device_time_total / 1e3 / n,
                }


def many(setting: Setting) -> Iterator[dict[str, Any]]:
    """RDMs of many conditions."""
    module = network("resnet20")
    rng = np.random.default_rng(0)
    for n in setting.conditions:
        pixels = rng.integers(0, 256, (n, setting.size, setting.size, 3), dtype=np.uint8)
        for precision in precisions(setting.device):
            model = model_of(module, setting, precision, channels_last=True)
            shown = model.show(pixels)
            times = []
            for _ in range(2):
                start = time.perf_counter()
                model.start(shown).rdms()
                times.append(time.perf_counter() - start)
            yield {"conditions": n, "precision": precision, "s": times[-1]}


SECTIONS: dict[str, tuple[Callable[[Setting], Any], float]] = {
    "environment": (environment, 10),
    "parity": (parity, 60),
    "rates": (rates, 90),
    "kernels": (kernels, 30),
    "many": (many, 60),
}


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    head = list(dict.fromkeys(key for row in rows for key in row))
    text = [
        [f"{row[k]:.3g}" if isinstance(row.get(k), float) else str(row.get(k, "")) for k in head]
        for row in rows
    ]
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *text]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="the challenge's folder, with Training_Data")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    images = None
    if args.images:
        folder = args.images / "Training_Data"
        images = {str(n): sorted((folder / f"{n}_Image_Set").glob("**/*.jpg")) for n in SIZES}
    setting = Setting(
        torch.device(args.device),
        64 if args.quick else 224,
        4 if args.quick else 60,
        (200,) if args.quick else (1000, 3000),
        images,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    done: dict[str, Any] = {}
    for name in args.sections.split(","):
        section, limit = SECTIONS[name]
        start = time.perf_counter()
        rows: list[dict[str, Any]] = []
        try:
            result = section(setting)
            for row in [result] if isinstance(result, dict) else result:
                rows.append(row)
                print(name, row, flush=True)
                if time.perf_counter() - start > limit:
                    rows.append({"stopped": f"after {limit} s"})
                    break
        except Exception as error:
            traceback.print_exc()
            rows.append({"error": f"{type(error).__name__}: {error}"})
        done[name] = {"rows": rows, "seconds": time.perf_counter() - start}
        (args.out / "proof.json").write_text(json.dumps(done, indent=1))
        text = [f"## {x}, {d['seconds']:.0f} s\n\n{table(d['rows'])}\n" for x, d in done.items()]
        (args.out / "proof.md").write_text("\n".join(text))
    return int(any("error" in row for each in done.values() for row in each["rows"]))


if __name__ == "__main__":
    sys.exit(main())
