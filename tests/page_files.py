"""Small arrays, networks and files of which the setups of the documentation's pages consist."""

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from small_study import write_study

RNG = np.random.default_rng(20)
_START = RNG.bit_generator.state
N = 20


def seed():
    """Begin the random numbers again, so that no page depends on another."""
    RNG.bit_generator.state = _START


def make_layer(channels=30, n=N):
    return RNG.standard_normal((n, channels)).astype(np.float32)


def make_responses(n_subjects=3, repeats=3, n=N, units=8):
    """Responses (subjects, repeats, conditions, units) with a signal."""
    signal = RNG.standard_normal((n_subjects, 1, n, units))
    return signal + 0.5 * RNG.standard_normal((n_subjects, repeats, n, units))


def make_rdms(*shape, n=N):
    """RDMs (*shape, pairs) that have something in common."""
    pairs = n * (n - 1) // 2
    return RNG.random((*shape, pairs)) + RNG.random(pairs)


def as_square(rdms, n=N):
    from scipy.spatial.distance import squareform

    flat = rdms.reshape(-1, rdms.shape[-1])
    return np.array([squareform(each) for each in flat]).reshape(*rdms.shape[:-1], n, n)


def write_images(folder, n=N, size=24, ending="png"):
    folder.mkdir(parents=True)
    paths = [folder / f"image{i:02d}.{ending}" for i in range(n)]
    for path in paths:
        Image.fromarray(RNG.integers(0, 256, (size, size, 3), np.uint8)).save(path)
    return paths


def make_network():
    """A small torch network with two tapped layers, which takes images of 16 × 16 pixels."""
    import torch

    from fastrdm import Preprocessing

    torch.manual_seed(0)
    network = torch.nn.Sequential()
    network.add_module("layer1", torch.nn.Conv2d(3, 4, 3, 2))
    network.add_module("layer2", torch.nn.ReLU())
    network.add_module("layer3", torch.nn.AdaptiveAvgPool2d(2))
    network.add_module("layer4", torch.nn.Flatten())
    network.add_module("fc", torch.nn.Linear(16, 10))
    network.preprocessing = Preprocessing((16, 16))
    network.taps = {"conv": "layer1", "fc": "fc"}
    return network


def write_checkpoints(folder, *names):
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        network = make_network()
        network.fc.bias.data += i
        torch.save(network.state_dict(), folder / name)


def use_small_networks(patch):
    """Put a small network in place of the architectures that commands name, so that they take a second."""
    import torchvision

    import models.networks

    def build(*args, **options):
        return make_network()

    patch.setattr(models.networks, "resnet20", build, raising=False)
    patch.setattr(torchvision.models, "resnet18", build)
    Path("mine.py").write_text("from page_setups import make_network as net\n")


def write_responses_study(folder, n=N):
    """A study with responses of one region, which every measure scores."""
    write_images(folder / "stimuli", n)
    np.save(folder / "it.npy", make_responses(n=n).transpose(0, 1, 2, 3))
    settings = (
        'order = "sorted"\n[targets.it]\nresponses = "it.npy"\naxes = ["subjects", "repeats", '
        '"conditions", "units"]\n'
    )
    (folder / "study.toml").write_text(settings)
    return [f"image{i:02d}.png" for i in range(n)]


def write_meg_study(folder, n=8, n_times=3):
    write_study(folder, n, 5)
    rdms = RNG.random((5, n_times, n, n)) + RNG.random((n_times, n, n))
    rdms += rdms.transpose(0, 1, 3, 2)
    np.savez(folder / "it.npz", meg=rdms * (1 - np.eye(n)), times=[50, 100, 150])
    (folder / "study.toml").write_text(
        'order = "sorted"\n[targets.meg]\nfile = "it.npz"\nkey = "meg"\n'
    )


def write_features(path, names, **layers):
    if path.suffix == ".npz":
        np.savez(path, names=names, **layers)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["names"] = [each.encode() for each in names]
            for name, array in layers.items():
                file[name] = array


def find_challenge():
    """The folder of the challenge's data, or None."""
    root = Path(os.environ.get("FASTRDM_DATA") or ROOT.parent / "shared" / "data")
    folder = root / "algonauts2019"
    return folder if folder.is_dir() else None


def write_challenge(root):
    """The layout of the challenge's data, with few pixels and subjects."""
    from mat73 import write_mat73

    for n, digits in ((92, 2), (118, 3)):
        folder = root / "Training_Data" / f"{n}_Image_Set"
        images = folder / f"{n}images"
        images.mkdir(parents=True)
        for i in range(n):
            pixels = RNG.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(images / f"image_{i + 1:0{digits}d}.jpg")
        fmri, meg = as_square(make_rdms(4, n=n), n), as_square(make_rdms(4, 1, n=n), n)
        write_mat73(folder / "target_fmri.mat", {"EVC_RDMs": fmri, "IT_RDMs": fmri[::-1]})
        write_mat73(folder / "target_meg.mat", {"MEG_RDMs_early": meg, "MEG_RDMs_late": meg[::-1]})


def make_assembly(n_repeats=3, n_units=8):
    """Return an assembly of Brain-Score, presentation × neuroid, with N stimuli and two animals."""
    xarray = pytest.importorskip("xarray")
    values = make_responses(1, n_repeats, N, n_units)[0].reshape(n_repeats * N, n_units)
    rows = [(i, k) for k in range(n_repeats) for i in range(N)]
    coords = {
        "stimulus_id": ("presentation", [f"im{i:02d}" for i, _ in rows]),
        "object_name": ("presentation", ["face" if i % 2 else "house" for i, _ in rows]),
        "repetition": ("presentation", [k for _, k in rows]),
        "neuroid_id": ("neuroid", [f"n{i}" for i in range(n_units)]),
        "animal": ("neuroid", ["Chabo" if i % 2 else "Tito" for i in range(n_units)]),
    }
    return xarray.DataArray(values, coords, ("presentation", "neuroid"))


def write_h5ad(path, assembly):
    """Write the responses of an assembly in AnnData's format."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        file["X"] = assembly.values
        for axis, dim in (("obs", "presentation"), ("var", "neuroid")):
            for name, values in assembly.coords.items():
                if values.dims == (dim,):
                    text = values.dtype.kind == "U"
                    file[f"{axis}/{name}"] = values.values.tolist() if text else values.values
