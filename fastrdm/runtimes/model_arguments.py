"""Arguments that models of all runtimes take: layers, methods, projections, images and stimuli on a device."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_choice, nearest
from fastrdm.images import Images, Preprocessing, cached_pixels
from fastrdm.rdm import Measure, SparseProjection, method_named, names_where


def choose_layers(
    layers: Sequence[str] | None, known: Sequence[str], architecture: str
) -> list[str]:
    """Return the wanted layers, each once; None means all that are known."""
    if layers is None:
        return list(known)
    if isinstance(layers, str):
        raise TypeError(f"layers must be a list of layer names, not the string {layers!r}")
    # An iterator can be read once.
    layers = list(layers)
    for layer in layers:
        if layer not in known:
            raise ValueError(
                f"{architecture} has no layer {layer!r}; nearest: {nearest(layer, known)}"
            )
    if not layers:
        raise ValueError("layers is empty; name at least one, or None for all")
    return list(dict.fromkeys(layers))


def check_method(method: str) -> None:
    """Raise ValueError for a method that needs more than activations."""
    if needs := method_named(method).needs:
        raise ValueError(
            f"method {method!r} needs {needs}, which a network does not give; pass its activations to calc_rdm"
        )


def device_measure(method: str) -> Measure:
    """Return the measure of a method that devices compute; ValueError for others."""
    chosen = method_named(method)
    if not chosen.on_device:
        able = ", ".join(names_where(lambda other: other.on_device))
        reason = f" {chosen.whole} and" if chosen.whole else ""
        raise ValueError(f"method {method!r}{reason} is unavailable on devices; use one of: {able}")
    return chosen.measure


def check_where(where: str, projection: SparseProjection | None) -> None:
    """Raise ValueError for an unknown place, and for a projection on a device."""
    check_choice(where, ("auto", "host", "device"), "where")
    if where == "device" and projection is not None:
        raise ValueError("a projection is computed on the host; omit where or the projection")


def read_pixels(
    images: Images,
    preprocessing: Preprocessing,
    background: str | None,
    n_threads: int | None = None,
) -> NDArray[np.uint8]:
    """Decode images; those of files come from the cache."""
    are_files = isinstance(images, Sequence) and not isinstance(images, str)
    if are_files and all(isinstance(image, str | Path) for image in images):
        return cached_pixels(images, preprocessing, background=background)
    return preprocessing.pixels(images, n_threads=n_threads, background=background)


def check_stimuli(
    pixels: NDArray[np.uint8], size: tuple[int, int], names: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the names of stimuli for a device, by default their numbers from 1.

    Raise ValueError unless `pixels` are at least two RGB images of the size in uint8, with a name each.
    """
    shape = (*size, 3)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != shape:
        raise ValueError(
            f"pixels must be uint8 of shape (n, {', '.join(map(str, shape))}), not {pixels.dtype} {pixels.shape}"
        )
    if len(pixels) < 2:
        raise ValueError(f"pixels have shape {pixels.shape}; an RDM needs at least 2 conditions")
    if names is None:
        names = [f"image {k + 1}" for k in range(len(pixels))]
    if len(names) != len(pixels):
        raise ValueError(f"{len(names)} names were given for {len(pixels)} conditions")
    return tuple(names)
