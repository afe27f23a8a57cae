"""Whole searchlights beside rsatoolbox and mne-rsa, each measured once at full size: minutes for the peers.

Usage: python -m bench.experiments.searchlights [--small]

Prints Markdown, as in bench/RESULTS-searchlight.md. fastrdm's times are medians of five calls, those of the peers one
call. Peak memory is that of a process of its own, above what it held before it made the data.
"""

import argparse
import datetime
import multiprocessing
import time
from pathlib import Path

import numpy as np

import fastrdm
from bench.peers import mne_functions, searchlight


def timed(call, times):
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        result = call()
        durations.append(time.perf_counter() - start)
    return result, float(np.median(durations))


def volume(n_centres):
    rng = np.random.default_rng(n_centres)
    return rng.normal(size=(92, n_centres)) + rng.normal(size=n_centres)


def helmet(n_sensors, n_times):
    """Noise of 92 conditions, with a part that neighbouring times share."""
    noise = np.random.default_rng(n_sensors).normal(size=(92, n_sensors, n_times))
    return noise + np.roll(noise, 1, axis=2) + np.roll(noise, 2, axis=2)


def _peak(pipe, n_centres):
    searchlight.fastrdm_scores(volume(1_000))()
    before = _kilobytes("VmRSS")
    data = volume(n_centres)
    call = searchlight.fastrdm_scores(data)
    places = n_centres * searchlight.CHANNELS * np.dtype(np.intp).itemsize
    call()
    pipe.send(((_kilobytes("VmHWM") - before) * 1024, data.nbytes, places))


def _kilobytes(field):
    """Of this process, from Linux: unlike ru_maxrss, without what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def memory(n_centres):
    """Bytes that scoring takes with data and neighbours, bytes of the data, and of the neighbours."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_peak, args=(theirs, n_centres))
    process.start()
    found = ours.recv()
    process.join()
    return found


def row(task, ours, theirs, peer, error):
    print(
        f"| {task} | {ours:.2f} s | {peer} {theirs:.1f} s | {theirs / ours:.1f} × | {error:.0e} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="a twentieth of the size")
    small = parser.parse_args().small
    centres, sensors, times = (1_500, 20, 60) if small else (30_000, 306, 200)
    print(f"{datetime.date.today()}, {fastrdm.kernels()}\n")
    print("| task | fastrdm | peer | ratio | largest difference |\n|---|---:|---:|---:|---:|")
    data = volume(centres)
    name = f"{centres:,} searchlights × 100 channels × 92 conditions"
    for what, ours, theirs in (
        ("→ RDMs", searchlight.fastrdm_rdms, searchlight.rsatoolbox_rdms),
        ("→ 3 models", searchlight.fastrdm_scores, searchlight.rsatoolbox_scores),
    ):
        found, fast = timed(ours(data), 5)
        expected, slow = timed(theirs(data), 1)
        row(f"{name} {what}", fast, slow, "rsatoolbox", np.abs(found - expected).max())
        del found, expected
    data = helmet(sensors, times)
    found, fast = timed(mne_functions.fastrdm_searchlight("spearman")(data), 5)
    peer = mne_functions.mne_rsa_searchlight("spearman")
    expected, slow = timed(peer.prepare(data), 1)
    name = f"{sensors} sensors × {times} times × 92 conditions, patches 10 × 21 → 3 models"
    row(name, fast, slow, peer.name, np.abs(found - expected).max())
    peak, size, places = memory(centres)
    print(
        f"\nMemory of scoring {centres:,} searchlights against 3 models, beside the data ({size / 1e6:.0f} MB) and the"
        f" lists of neighbours ({places / 1e6:.0f} MB): {(peak - places - size) / size:.2f} × the data."
    )


if __name__ == "__main__":
    main()
