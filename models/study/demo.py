"""The main job, end to end: networks' weights → activations → RDMs → scores against the brain.

Run by `make demo`. It scores on the challenge's images and brains if they are present, else on a synthetic study.
"""

import sys
import time
from pathlib import Path

import torch

from fastrdm.cli import main as fastrdm
from fastrdm.studies import find_data
from models.networks import efficientnet_lite0_weights, resnet20

OUT = Path("demo-out")

NO_DATA = """\
No brain data found, so this demo ran on SYNTHETIC data: generated stimuli and simulated subjects, with known answers.
For real data get the Algonauts 2019 challenge's training data (Cichy et al. 2019, arXiv:1905.05675;
algonauts.csail.mit.edu/2019) and set FASTRDM_DATA to the folder that holds Training_Data/92_Image_Set and
118_Image_Set; see docs/installation.md."""


def main() -> int:
    """Run the demo in the folder `demo-out`."""
    start = time.perf_counter()
    OUT.mkdir(exist_ok=True)
    untrained = OUT / "resnet20-untrained.pth"
    torch.manual_seed(2019)
    torch.save(resnet20().state_dict(), untrained)

    weights = [str(efficientnet_lite0_weights()), str(untrained)]
    arch = ["--arch", "models.networks:efficientnet_lite0", "--arch", "models.networks:resnet20"]
    data = find_data()
    if data is None:
        data = OUT / "sample"
        _run(["sample", str(data)])
        # Each weights file needs an architecture, even the sample's network, which contains its graph.
        weights.append(str(data / "network.onnx"))
        arch += ["--arch", "models.networks:resnet20"]
    figure = OUT / "scores.png"
    output = {
        "--data": data,
        "--figure": figure,
        "--csv": OUT / "scores.csv",
        "--submit": OUT / "submissions",
    }
    status = _run(
        ["score", *weights, *arch, *(str(word) for pair in output.items() for word in pair)]
    )
    print("resnet20-untrained has random weights: its score is that of the architecture alone.")
    if data == OUT / "sample":
        print(NO_DATA)
    print(f"{time.perf_counter() - start:.0f} s; figure: {figure}")
    return status


def _run(arguments: list[str]) -> int:
    print(f"$ fastrdm {' '.join(arguments)}", flush=True)
    return fastrdm(arguments)


if __name__ == "__main__":
    sys.exit(main())
