"""Pictures of a checked study: its stimuli as a network sees them, and its RDMs."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require, square
from fastrdm.images import in_order
from fastrdm.studies import Stimulus, StudyCheck

if TYPE_CHECKING:
    from PIL.Image import Image
else:
    Image = object

# Colours of low to high percentiles (viridis), and of missing values.
_COLOURS = (
    *("440154", "482878", "3e4989", "31688e", "26828e"),
    *("1f9e89", "35b779", "6ece58", "b5de2b", "fde725"),
)
_MISSING = 255
_MISSING_COLOUR = (221, 221, 221)
# RDMs of more conditions are reduced to at most this number of pixels.
_MOST_PIXELS = 600
# Pictures up to this size are stored without loss.
_LOSSLESS = 64


def thumbnails(check: StudyCheck, stimuli: Sequence[Stimulus]) -> list["Image | None"]:
    """Return the images as a network sees them, before normalisation; None for those that scoring refuses."""
    if not stimuli:
        return []
    pil = require("PIL.Image", "data", "to draw thumbnails")

    def seen(path: Any, index: int) -> "Image | None":
        if stimuli[index].image.problem:
            return None
        (pixels,) = check.preprocessing.pixels([path], n_threads=1, background=check.background)
        image: Image = pil.fromarray(pixels)
        return image

    return list(in_order(seen, [each.path for each in stimuli]))


def rdm_pictures(check: StudyCheck) -> dict[str, "Image"]:
    """Return the RDM of each region, averaged over subjects and times, in colours of percentiles."""
    return {facts.name: _draw(_percentiles(facts.mean_rdm)) for facts in check.regions}


def _percentiles(rdm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a condensed RDM as a square one of ranks from 0 to 1."""
    known = ~np.isnan(rdm)
    shares = np.full(len(rdm), np.nan)
    if known.any():
        _, places, counts = np.unique(rdm[known], return_inverse=True, return_counts=True)
        # Equal values have the mean of their ranks.
        ranks = np.cumsum(counts) - (counts + 1) / 2
        shares[known] = ranks[places] / max(1, known.sum() - 1)
    return np.asarray(square(shares), np.float64)


def _draw(matrix: NDArray[np.float64]) -> "Image":
    """Draw values from 0 to 1 with a palette; NaN is grey."""
    pil = require("PIL.Image", "data", "to draw RDMs")
    step = -(-len(matrix) // _MOST_PIXELS)
    if step > 1:
        n = len(matrix) // step
        blocks = matrix[: n * step, : n * step].reshape(n, step, n, step)
        matrix = blocks.mean(axis=(1, 3))
    indices = np.where(np.isnan(matrix), _MISSING, np.nan_to_num(matrix) * (_MISSING - 1))
    image: Image = pil.fromarray(np.round(indices).astype(np.uint8))
    image.putpalette(colours().tobytes())
    return image


def colours() -> NDArray[np.uint8]:
    """Return the palette (256, 3): low to high, and the colour of missing values last."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _COLOURS], float)
    places = np.linspace(0, len(anchors) - 1, _MISSING)
    channels = [np.interp(places, np.arange(len(anchors)), channel) for channel in anchors.T]
    return np.vstack([np.round(np.stack(channels, axis=1)), _MISSING_COLOUR]).astype(np.uint8)


def data_uri(image: "Image", most: int) -> str:
    """Return an image as a `data:` URI, reduced to at most `most` pixels; JPEG unless it is small or has a palette."""
    pil = require("PIL.Image", "data", "to draw thumbnails")
    if max(image.size) > most and image.mode == "RGB":
        image = image.copy()
        image.thumbnail((most, most), pil.Resampling.BOX)
    lossless = image.mode == "P" or max(image.size) <= _LOSSLESS
    kind, options = ("PNG", {"optimize": True}) if lossless else ("JPEG", {"quality": 90})
    content = io.BytesIO()
    image.save(content, kind, **options)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{encoded}"
