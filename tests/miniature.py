"""A few images to train on, and a small network with layers that can break a resumed run: batch norm and dropout."""

import zipfile

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cat")
N_TRAIN, N_VAL = 7, 2

NETWORK = """
import torch
from fastrdm.images import Preprocessing

def build(num_classes=1000):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, 2, bias=False), torch.nn.BatchNorm2d(6), torch.nn.ReLU(),
        torch.nn.Dropout(0.3), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(24, num_classes))
    network.taps = {"conv": "2", "fc": "6"}
    network.preprocessing = Preprocessing(size=(16, 16))
    return network

def certain(num_classes=1000):
    '''Without dropout, which depends on the memory format.'''
    network = build(num_classes)
    network[3] = torch.nn.Identity()
    return network

def silent(num_classes=1000):
    '''Without taps and preprocessing, and with a wrong number of outputs.'''
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(num_classes + 1))

def no_classes():
    return build(3)

class Auxiliary(torch.nn.Module):
    def forward(self, x):
        return x, x

def auxiliary(num_classes=1000):
    return Auxiliary()

def no_network(num_classes=1000):
    return {}
"""


def write_images(folder, size=(20, 24), seed=0):
    """Write train/CLASS/… and val/CLASS/…: the colour of the class with noise."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(40, 200, (len(CLASSES), 3))
    for split, n in (("train", N_TRAIN), ("val", N_VAL)):
        for colour, name in zip(colours, CLASSES, strict=True):
            own = folder / split / name
            own.mkdir(parents=True)
            for i in range(n):
                pixels = colour + rng.integers(-40, 40, (*size, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(own / f"{name}_{i}.png")
    return folder


def pack(folder, path, top=""):
    """Zip a folder of images, below the folder `top` if given."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{top}{file.relative_to(folder).as_posix()}")
    return path
