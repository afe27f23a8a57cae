"""A small study: images of noise, and RDMs of subjects that have something in common."""

import numpy as np
from PIL import Image


def write_study(folder, n=6, n_subjects=3, regions=("it",), size=(12, 10)):
    """Write `n` images and a file of square RDMs for each region into a folder, and return it."""
    rng = np.random.default_rng(0)
    (folder / "stimuli").mkdir(parents=True)
    for i in range(n):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "stimuli" / f"image{i}.png")
    for region in regions:
        rdms = rng.random((n_subjects, n, n)) + rng.random((n, n))
        rdms += rdms.transpose(0, 2, 1)
        for rdm in rdms:
            np.fill_diagonal(rdm, 0)
        np.save(folder / f"{region}.npy", rdms)
    tables = (f'[targets.{region}]\nfile = "{region}.npy"\n' for region in regions)
    (folder / "study.toml").write_text('order = "sorted"\n' + "".join(tables))
    return folder
