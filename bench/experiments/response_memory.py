"""Memory of ridge regressions onto many units, in a process of its own: python -m bench.experiments.response_memory.

Prints the peak of the resident set while 8 subjects × 5,000 units × 1,000 conditions are predicted from 11 layers,
beside the responses, and the time. Linux only. ``--conditions``, ``--units``, ``--subjects`` and ``--layers`` change
the numbers.
"""

import argparse
import time

import numpy as np

import fastrdm
from bench.resident import resident

# Channels of a layer; its Gram matrix is all that is kept of it.
CHANNELS = 3_000
GIB = 1 << 30


def grams(n_layers, n_conditions):
    """Gram matrices of random layers, made one after another."""
    rng = np.random.default_rng(0)
    for layer in range(n_layers):
        yield (
            f"layer {layer}",
            fastrdm.gram(rng.standard_normal((n_conditions, CHANNELS), np.float32)),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--conditions", type=int, default=1_000)
    parser.add_argument("--units", type=int, default=5_000)
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--layers", type=int, default=11)
    options = parser.parse_args()
    layers = dict(grams(options.layers, options.conditions))
    shape = (options.subjects, options.conditions, options.units)
    responses = np.random.default_rng(1).standard_normal(shape, np.float32)
    print(f"responses {shape}: {responses.nbytes / GIB:.2f} GiB")
    before, began = resident("VmRSS"), time.perf_counter()
    score = fastrdm.Responses(responses).score(layers)
    seconds = time.perf_counter() - began
    extra = resident("VmHWM") - before
    print(f"{options.layers} layers, ridge, 5 folds × 10 penalties: {seconds:.0f} s")
    print(f"peak beside the responses and the Gram matrices: {extra / GIB:.2f} GiB (target 2 GiB)")
    print(f"largest |r| of noise: {np.abs(score.r).max():.2f}")


if __name__ == "__main__":
    main()
