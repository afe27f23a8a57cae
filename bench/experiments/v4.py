"""Ridge regression of every layer of EfficientNet-Lite0 onto 50 neurons of macaque V4 (Cowley et al. 2023).

    python -m bench.experiments.v4 [--size 96] [--method ridge|pls] [--seed 0]

The data are in `responses/cowley2023_v4` of `FASTRDM_DATA`, else of `../shared/data`: 640 images, up to ten repeats.
Prints for each layer the median over neurons of r, and of r divided by the ceiling, the square root of the
reliability.
"""

import argparse
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import torch

import fastrdm
from fastrdm.networks import export_onnx
from fastrdm.studies import find_data
from models.networks import efficientnet_lite0, efficientnet_lite0_weights


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--method", default="ridge", choices=("ridge", "pls"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = find_data() / "responses" / "cowley2023_v4"
    counts = np.load(folder / "responses_210325.npy")  # neurons, images, repeats
    responses = fastrdm.Responses(np.moveaxis(counts, 0, 2).swapaxes(0, 1)[None], name="V4")
    print(f"{responses}: median reliability {np.median(responses.reliability):.3f}")
    with tempfile.TemporaryDirectory() as place:
        with zipfile.ZipFile(folder / "images_210325.zip") as archive:
            archive.extractall(place)
        images = sorted(Path(place).glob("*.jpg"))
        network = efficientnet_lite0()
        network.load_state_dict(torch.load(efficientnet_lite0_weights(), weights_only=True))
        onnx = export_onnx(network, Path(place, "lite0.onnx"), input_size=arguments.size)
        start = time.perf_counter()
        grams = fastrdm.OnnxModel(onnx).grams(images)
    print(f"{len(grams)} Gram matrices in {time.perf_counter() - start:.1f} s")
    print(f"{'layer':<12}{'median r':>10}{'of ceiling':>12}{'seconds':>10}")
    for layer, gram in grams.items():
        start = time.perf_counter()
        score = responses.score(gram, method=arguments.method, folds=5, seed=arguments.seed)
        seconds = time.perf_counter() - start
        r = score.r[0, 0]
        of_ceiling = np.median(r / responses.ceiling[0])
        print(f"{layer:<12}{np.median(r):>10.3f}{of_ceiling:>12.3f}{seconds:>10.2f}")


if __name__ == "__main__":
    main()
