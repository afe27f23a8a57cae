"""The data of the whole path: 118 images, two regions of 15 subjects, a ResNet-20 and its checkpoints."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import fastrdm
from bench.tasks import rdms
from fastrdm._base import read_arrays
from fastrdm.studies import algonauts, find_data

N_IMAGES, SIDE, N_CHECKPOINTS = 118, 300, 5
REGIONS = ("evc", "it")
# JPEG quality of the challenge's images, which are 8 to 30 kB each, as are the generated ones.
QUALITY = 75


@dataclass(frozen=True)
class Experiment:
    """Stimuli, brains and a network, which each contender gets before the clock starts.

    `onnx` is the network exported with all its taps, `fc_onnx` with the last layer only. The checkpoints alternate
    between its weights and those of `other`.
    """

    source: str
    images: tuple[Path, ...]
    subjects: Mapping[str, np.ndarray]
    ceilings: Mapping[str, float]
    network: object
    other: object
    onnx: Path
    fc_onnx: Path
    checkpoints: tuple[Path, ...]

    def first(self, n):
        """The same experiment with the first `n` conditions, for warm-ups."""
        selected = np.zeros((N_IMAGES, N_IMAGES), bool)
        selected[:n, :n] = True
        kept = selected[np.triu_indices(N_IMAGES, 1)]
        subjects = {region: rows[:, kept] for region, rows in self.subjects.items()}
        return replace(self, images=self.images[:n], subjects=subjects)

    @functools.cached_property
    def pixels(self):
        """Images (n, 224, 224, 3) of uint8, decoded and resized."""
        return self.network.preprocessing.pixels(self.images)

    @functools.cached_property
    def batch(self):
        """Images (n, 3, 224, 224) of float32, normalised."""
        return self.network.preprocessing.normalise(self.pixels)

    @functools.cached_property
    def targets(self):
        """Subjects as fastrdm's targets."""
        return {
            region: fastrdm.Target(rows, ceiling=self.ceilings[region], name=region)
            for region, rows in self.subjects.items()
        }

    def written(self):
        """Write what `bench.path_memory` reads, and return its folder."""
        folder = self.onnx.parent
        np.save(folder / "pixels.npy", self.pixels)
        np.savez(folder / "subjects.npz", **self.subjects)
        return folder

    def percent(self, rho, region):
        """Correlations with subjects (models, subjects) → percent of the noise ceiling (models,)."""
        return 100 * np.mean(np.square(rho), axis=1) / self.ceilings[region]

    def truth(self, activations):
        """Oracle: activations of each layer → its scores (layers, regions), in float64 by NumPy and SciPy."""
        models = np.stack([_rdm(rows) for rows in activations.values()])
        return np.stack(
            [
                self.percent(rdms.spearman(models, rows), region)
                for region, rows in self.subjects.items()
            ],
            axis=1,
        )


def _rdm(rows):
    return 1 - np.corrcoef(rows)[np.triu_indices(len(rows), 1)]


def make(folder):
    """Read or generate the data, and write the network's files."""
    import torch

    images, subjects, ceilings, source = _challenge() or _generated(folder / "images")
    network, other = (_network(seed) for seed in range(2))
    onnx = fastrdm.export_onnx(network, folder / "network.onnx")
    fc_onnx = fastrdm.export_onnx(network, folder / "fc.onnx", {"fc": "fc"})
    checkpoints = tuple(folder / f"epoch{i}.pth" for i in range(N_CHECKPOINTS))
    for i, path in enumerate(checkpoints):
        torch.save((network, other)[i % 2].state_dict(), path)
    return Experiment(
        source, images, subjects, ceilings, network, other, onnx, fc_onnx, checkpoints
    )


def _network(seed):
    import torch

    from models.networks import resnet20

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return resnet20().eval()


def _challenge():
    """The challenge's 118 images and fMRI subjects; None without its data."""
    root = find_data()
    study = algonauts.image_sets(root).get(str(N_IMAGES)) if root else None
    if study is None or "fmri" not in study.targets:
        return None
    arrays = read_arrays(study.targets["fmri"])
    subjects = {
        region: algonauts.subject_rdms(arrays[key], key)
        for region, key in algonauts.REGIONS["fmri"].items()
    }
    ceilings = {region: algonauts.CEILINGS[study.name][region] for region in subjects}
    return study.images, subjects, ceilings, "the challenge's own images and subjects"


def _generated(folder):
    """Images with the size and spectrum of photographs, and subjects who see their layout and colours."""
    from PIL import Image

    folder.mkdir()
    paths = tuple(folder / f"image_{i + 1:03d}.jpg" for i in range(N_IMAGES))
    for seed, path in enumerate(paths):
        Image.fromarray(_photograph(np.random.default_rng(seed))).save(path, quality=QUALITY)
    small = np.stack([np.asarray(Image.open(path).resize((8, 8))) for path in paths]).astype(float)
    features = {"evc": small.mean(axis=3).reshape(N_IMAGES, -1), "it": small.mean(axis=(1, 2))}
    subjects = {
        region: rdms.subjects_of(_rdm(features[region]), seed=3 + i)
        for i, region in enumerate(REGIONS)
    }
    ceilings = {region: fastrdm.Target(rows).ceiling for region, rows in subjects.items()}
    return paths, subjects, ceilings, "generated images and subjects"


def _photograph(rng):
    """An RGB image with amplitudes that fall about as 1 / frequency and similar channels, as in natural images."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE))
    frequency[0, 0] = np.inf
    noise = rng.standard_normal((3, SIDE, SIDE))
    noise[1:] = 0.9 * noise[0] + 0.4 * noise[1:]
    image = np.fft.ifft2(np.fft.fft2(noise) / frequency**1.3).real
    image = image / image.std(axis=(1, 2), keepdims=True) + 0.5 * rng.standard_normal((3, 1, 1))
    return np.clip(120 + 50 * image, 0, 255).astype(np.uint8).transpose(1, 2, 0)
