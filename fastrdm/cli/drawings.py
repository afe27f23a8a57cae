"""The sample study's stimuli: pictures of six categories, drawn with random numbers."""

import colorsys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrdm._base import require

if TYPE_CHECKING:
    from PIL.Image import Image

_SIZE = 160
# Pillow draws without anti-aliasing, so pictures are drawn large and then reduced.
_LARGE = 3 * _SIZE

_RGB = tuple[int, ...]
_Rng = np.random.Generator


def draw(category: str, rng: _Rng) -> "Image":
    """Draw a picture of a category in `CATEGORIES`: RGB, 160 × 160 pixels."""
    image = require("PIL.Image", "data", "to draw stimuli")
    return CATEGORIES[category](rng).resize((_SIZE, _SIZE), image.Resampling.LANCZOS)


def _canvas(colour: _RGB = (236, 236, 232)) -> tuple["Image", Any]:
    image = require("PIL.Image", "data", "to draw stimuli")
    picture = image.new("RGB", (_LARGE, _LARGE), colour)
    return picture, require("PIL.ImageDraw", "data", "to draw stimuli").Draw(picture)


def _from_array(values: Any) -> "Image":
    image = require("PIL.Image", "data", "to draw stimuli")
    picture: Image = image.fromarray(np.asarray(np.clip(values, 0, 255), np.uint8))
    return picture


def _colour(
    rng: _Rng,
    hue: tuple[float, float] = (0, 1),
    saturation: tuple[float, float] = (0.4, 0.9),
    value: tuple[float, float] = (0.35, 0.95),
) -> _RGB:
    hsv = (rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(*hsv))


def _shade(colour: _RGB, factor: float) -> _RGB:
    return tuple(min(255, round(c * factor)) for c in colour)


def _box(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
    """Return the corners of a box around a centre, in pixels of the large picture."""
    return tuple(_LARGE * v for v in (x - width / 2, y - height / 2, x + width / 2, y + height / 2))


def _points(x: float, y: float, radii: Any, start: float) -> list[tuple[float, float]]:
    """Return corners at `radii` from a centre, at equal angles."""
    angles = start + 2 * np.pi * np.arange(len(radii)) / len(radii)
    return [
        (_LARGE * (x + r * np.cos(a)), _LARGE * (y + r * np.sin(a)))
        for r, a in zip(radii, angles, strict=True)
    ]


def _face(rng: _Rng) -> "Image":
    picture, pen = _canvas()
    x, y = rng.uniform(0.42, 0.58, 2)
    width, height = rng.uniform(0.42, 0.58), rng.uniform(0.58, 0.74)
    skin = _colour(rng, (0.05, 0.1), (0.25, 0.6), (0.45, 0.98))
    hair = _colour(rng, (0.02, 0.14), (0.3, 0.8), (0.1, 0.75))
    pen.ellipse(_box(x, y - 0.07, width + 0.1, height + rng.uniform(0.0, 0.16)), fill=hair)
    pen.ellipse(_box(x, y + 0.02, width, height), fill=skin)
    apart, level = rng.uniform(0.09, 0.14), y - rng.uniform(0.02, 0.08)
    eye = rng.uniform(0.05, 0.09)
    iris = _colour(rng, (0.05, 0.65), (0.4, 0.8), (0.2, 0.6))
    look = rng.uniform(-0.012, 0.012)
    for side in (-apart, apart):
        pen.ellipse(_box(x + side, level, eye * 1.5, eye), fill=(250, 250, 250))
        pen.ellipse(_box(x + side + look, level, eye * 0.75, eye * 0.8), fill=iris)
        pen.ellipse(_box(x + side + look, level, eye * 0.3, eye * 0.35), fill=(15, 15, 15))
        pen.rectangle(_box(x + side, level - eye, eye * 1.7, 0.018), fill=_shade(hair, 0.8))
    nose = rng.uniform(0.03, 0.06)
    pen.polygon(_points(x, y + 0.07, (nose,) * 3, -np.pi / 2), fill=_shade(skin, 0.82))
    mouth = _box(x, y + rng.uniform(0.17, 0.21), rng.uniform(0.14, 0.24), rng.uniform(0.05, 0.12))
    pen.chord(mouth, 0, 180, fill=_colour(rng, (0.95, 1), (0.5, 0.8), (0.5, 0.85)))
    return picture


def _scene(rng: _Rng) -> "Image":
    horizon = rng.uniform(0.45, 0.7)
    sky = _colour(rng, (0.52, 0.64), (0.2, 0.6), (0.7, 1))
    picture, pen = _canvas(sky)
    sun = rng.uniform(0.1, 0.9)
    pen.ellipse(_box(sun, rng.uniform(0.1, 0.25), 0.13, 0.13), fill=(255, 238, 170))
    for _ in range(rng.integers(1, 4)):
        peak, foot = rng.uniform(0, 1), rng.uniform(0.25, 0.6)
        corners = ((peak, rng.uniform(0.15, 0.4)), (peak - foot, horizon), (peak + foot, horizon))
        rock = _colour(rng, (0.55, 0.75), (0.1, 0.4), (0.4, 0.7))
        pen.polygon([(_LARGE * a, _LARGE * b) for a, b in corners], fill=rock)
    ground = _colour(rng, (0.1, 0.4), (0.4, 0.8), (0.3, 0.75))
    pen.rectangle((0, _LARGE * horizon, _LARGE, _LARGE), fill=ground)
    for _ in range(rng.integers(2, 7)):
        x, scale = rng.uniform(0.05, 0.95), rng.uniform(0.5, 1.1)
        foot = rng.uniform(horizon, 0.95)
        pen.rectangle(_box(x, foot - 0.08 * scale, 0.03 * scale, 0.16 * scale), fill=(94, 66, 44))
        crown = _colour(rng, (0.22, 0.4), (0.4, 0.9), (0.25, 0.6))
        pen.ellipse(_box(x, foot - 0.22 * scale, 0.17 * scale, 0.24 * scale), fill=crown)
    if rng.random() < 0.6:
        x, y, wall = rng.uniform(0.2, 0.8), rng.uniform(0.65, 0.85), _colour(rng)
        pen.rectangle(_box(x, y, 0.24, 0.16), fill=wall)
        roof = _points(x, y - 0.13, (0.1, 0.19, 0.19), -np.pi / 2)
        pen.polygon(roof, fill=_shade(wall, 0.6))
        pen.rectangle(_box(x, y + 0.035, 0.05, 0.09), fill=_shade(wall, 0.45))
    return picture


def _flower(rng: _Rng) -> "Image":
    picture, pen = _canvas()
    x, y, size = rng.uniform(0.38, 0.62), rng.uniform(0.32, 0.45), rng.uniform(0.12, 0.19)
    stem = _colour(rng, (0.25, 0.4), (0.5, 0.9), (0.3, 0.6))
    bend = rng.uniform(-0.12, 0.12)
    way = np.linspace(0, 1, 20)
    curve = np.stack([x + bend * way**2, y + (0.95 - y) * way], axis=1)
    pen.line([tuple(point) for point in _LARGE * curve], fill=stem, width=14)
    for side in (-1, 1):
        leaf = (x + bend * 0.4 + side * 0.09, rng.uniform(0.65, 0.8), 0.18, rng.uniform(0.05, 0.09))
        pen.ellipse(_box(*leaf), fill=_shade(stem, rng.uniform(1.0, 1.4)))
    petal, n_petals = _colour(rng, (0.7, 1.18), (0.4, 0.95), (0.7, 1)), int(rng.integers(5, 13))
    width = size * rng.uniform(0.7, 1.2)
    inner = _shade(petal, 0.88)
    for left, top in _points(x, y, (size,) * n_petals, rng.uniform(0, 1)):
        for share, colour in ((1, petal), (0.6, inner)):
            box = _box(left / _LARGE, top / _LARGE, width * share, width * share)
            pen.ellipse(box, fill=colour)
    middle = _colour(rng, (0.08, 0.16), (0.6, 0.9), (0.5, 1))
    pen.ellipse(_box(x, y, size * 1.1, size * 1.1), fill=middle)
    return picture


def _shape(rng: _Rng) -> "Image":
    picture, pen = _canvas()
    corners, size = int(rng.integers(3, 9)), rng.uniform(0.2, 0.38)
    inner = size * rng.choice([1.0, 1.0, 0.5])
    radii = [size, inner] * corners if inner < size else [size] * corners
    x, y = rng.uniform(0.38, 0.62, 2)
    start, fill = rng.uniform(0, 2 * np.pi), _colour(rng)
    pen.polygon(_points(x, y, radii, start), fill=fill)
    if rng.random() < 0.5:
        pen.polygon(_points(x, y, [r * 0.5 for r in radii], start + 0.4), fill=_colour(rng))
    return picture


def _texture(rng: _Rng) -> "Image":
    """Draw noise with one scale and direction, between two colours."""
    yy, xx = np.meshgrid(np.fft.fftfreq(_LARGE), np.fft.fftfreq(_LARGE), indexing="ij")
    scale, stretch, angle = rng.uniform(0.008, 0.03), rng.uniform(0.3, 1), rng.uniform(0, np.pi)
    across = xx * np.cos(angle) + yy * np.sin(angle)
    along = (yy * np.cos(angle) - xx * np.sin(angle)) / stretch
    band = np.exp(-(((np.hypot(across, along) - scale) / (0.4 * scale)) ** 2))
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((_LARGE, _LARGE))) * band).real
    mix = 1 / (1 + np.exp(-rng.uniform(1.5, 6) * field / field.std()))
    low, high = np.array(_colour(rng, value=(0.1, 0.5))), np.array(_colour(rng, value=(0.7, 1)))
    return _from_array(low + (high - low) * mix[..., None])


def _grating(rng: _Rng) -> "Image":
    """Draw one sinusoid, or two at right angles, in a soft round window."""
    y, x = np.mgrid[-1 : 1 : _LARGE * 1j, -1 : 1 : _LARGE * 1j]
    wave, angle = 0.0, rng.uniform(0, np.pi)
    for turn in (0, np.pi / 2)[: int(rng.integers(1, 3))]:
        across = x * np.cos(angle + turn) + y * np.sin(angle + turn)
        wave = wave + np.sin(2 * np.pi * rng.uniform(2, 9) * across + rng.uniform(0, 2 * np.pi))
    window = np.exp(-((np.hypot(x, y) / rng.uniform(0.55, 0.85)) ** 6))
    tint = np.array(_colour(rng)) - 128.0 if rng.random() < 0.6 else np.full(3, 110.0)
    return _from_array(128 + (window * wave / np.abs(wave).max())[..., None] * tint)


#: Category → function that draws a picture of it.
CATEGORIES: Mapping[str, Callable[[_Rng], "Image"]] = MappingProxyType(
    {
        "face": _face,
        "scene": _scene,
        "flower": _flower,
        "shape": _shape,
        "texture": _texture,
        "grating": _grating,
    }
)
