"""For how long a device computes."""

import math
from collections.abc import Callable, Iterable

import torch


def busy_seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds of a call in which the device computes, by torch's profiler.

    On a GPU that is the time in which at least one kernel runs, also those of ONNX Runtime, without copies; on the CPU
    the time in torch's operators. NaN if the profiler sees none, as without the permission to profile a GPU.
    """
    kind = "CUDA" if device.type == "cuda" else "CPU"
    activity = getattr(torch.profiler.ProfilerActivity, kind)
    with torch.profiler.profile(activities=[activity]) as profile:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    wanted = getattr(torch.autograd.DeviceType, kind)
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == wanted
        and not event.is_user_annotation
        and not event.name.startswith(("Memcpy", "Memset"))
    ]
    return covered(spans) / 1e6 if spans else math.nan


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    length, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        length += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return length
