"""Peak memory of the whole path in a separate process: python -m bench.path_memory FOLDER [MAX_MEMORY].

FOLDER holds the files that `Experiment.written` wrote. Prints the peak of the resident set in bytes, including
Python and libraries. Linux only.
"""

import sys
from pathlib import Path

import numpy as np

import fastrdm
from bench.resident import resident


def main(folder: Path, max_memory: str | None = None) -> None:
    model = fastrdm.OnnxModel(folder / "network.onnx", "cpu", n_threads=fastrdm.kernels().n_threads)
    rdms = model.rdms(np.load(folder / "pixels.npy"), max_memory=max_memory)
    models = np.stack(list(rdms.values()))
    for subjects in np.load(folder / "subjects.npz").values():
        fastrdm.Target(subjects).score(models)
    assert "torch" not in sys.modules
    print(resident("VmHWM"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
