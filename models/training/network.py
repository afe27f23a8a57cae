"""The network to train: built, and checked before work starts."""

import copy
import pkgutil
from dataclasses import replace

import torch

from fastrdm._base import one_line
from fastrdm.images import Preprocessing
from fastrdm.runtimes import import_arch
from models.training.recipe import Recipe


def preprocessing_of(network: torch.nn.Module) -> Preprocessing:
    """Return a network's preprocessing, by default the development kit's."""
    return getattr(network, "preprocessing", None) or Preprocessing()


def scored_preprocessing(network: torch.nn.Module, size: int | None) -> Preprocessing:
    """Return the preprocessing of stimuli: the network's, with another height and width if `size` is given."""
    preprocessing = preprocessing_of(network)
    return preprocessing if size is None else replace(preprocessing, size=(size, size))


def build_network(arch: str, num_classes: int, seed: int = 0) -> torch.nn.Module:
    """Build a network with random weights by `seed`; the state of torch's generators does not change.

    `arch` is "module:callable" as for `fastrdm.runtimes.import_arch`; the callable takes `num_classes`. ValueError if
    there is no such callable, or it does not build a network with this number of classes.
    """
    # Raises the errors about the name.
    import_arch(arch)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = pkgutil.resolve_name(arch)(num_classes=num_classes)
    except Exception as error:
        raise ValueError(
            f"--arch {arch} builds no network with num_classes={num_classes}: {type(error).__name__}:"
            f" {one_line(error)[:200]}"
        ) from error
    if not isinstance(network, torch.nn.Module):
        raise ValueError(f"--arch {arch} returns a {type(network).__name__}, not a torch.nn.Module")
    return network


def check_network(network: torch.nn.Module, recipe: Recipe, num_classes: int) -> None:
    """Raise ValueError unless the network can be trained by the recipe; the network does not change."""
    size = recipe.image_size
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            output = copy.deepcopy(network).train()(torch.zeros(2, 3, size, size))
        except Exception as error:
            raise ValueError(
                f"{recipe.arch} does not run on images of --image-size {size}: {one_line(error)[:200]}"
            ) from error
    if not isinstance(output, torch.Tensor):
        raise ValueError(
            f"{recipe.arch} returns a {type(output).__name__} in training; networks with auxiliary outputs, such as"
            " GoogLeNet and Inception, are not supported"
        )
    if output.shape != (2, num_classes):
        raise ValueError(
            f"{recipe.arch} returns {tuple(output.shape)} for two images and {num_classes} classes"
        )
