"""What an image file is, before it is resized."""

import numpy as np
import pytest
from PIL import Image

from fastrdm.images import ImageFacts, decode, inspect_image

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def test_an_image(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    facts = inspect_image(tmp_path / "a.png")
    assert (facts.format, facts.mode, facts.width, facts.height) == ("PNG", "RGB", 16, 12)
    assert (facts.transparent, facts.problem, facts.is_grey, facts.is_turned) == (
        0,
        "",
        False,
        False,
    )


def test_the_digest_is_that_of_the_pixels(tmp_path):
    for name in ("a.png", "b.bmp", "c.tif"):
        Image.fromarray(RGB).save(tmp_path / name)
    Image.fromarray(RGB.reshape(16, 12, 3)).save(tmp_path / "other_shape.png")
    digests = [inspect_image(path).sha256 for path in sorted(tmp_path.iterdir())]
    assert digests[0] == digests[1] == digests[2] != digests[3]


def test_transparent_pixels(tmp_path):
    alpha = np.full((12, 16, 1), 255, np.uint8)
    alpha[:3] = 0
    Image.fromarray(np.concatenate([RGB, alpha], axis=2)).save(tmp_path / "a.png")
    refused = inspect_image(tmp_path / "a.png")
    assert refused.transparent == 0.25
    assert "some of its pixels are transparent" in refused.problem
    shown = inspect_image(tmp_path / "a.png", "#808080")
    assert (shown.transparent, shown.problem) == (0.25, "")
    assert shown.sha256 != refused.sha256 == inspect_image(tmp_path / "a.png", "#ffffff").sha256


@pytest.mark.parametrize(
    ("image", "mode", "is_grey"),
    [
        (Image.fromarray(RGB[..., 0]), "L", True),
        (Image.fromarray(RGB).convert("CMYK"), "CMYK", False),
        (Image.fromarray(RGB[..., :1].repeat(3, 2)), "RGB", True),
    ],
)
def test_kinds_of_pixels(tmp_path, image, mode, is_grey):
    image.save(tmp_path / "a.tif")
    facts = inspect_image(tmp_path / "a.tif")
    assert (facts.format, facts.mode, facts.is_grey) == ("TIFF", mode, is_grey)


def test_one_colour(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    assert inspect_image(tmp_path / "a.png").is_uniform


def test_a_turned_photograph_has_its_upright_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    facts = inspect_image(tmp_path / "a.jpg")
    assert facts.is_turned
    assert (facts.width, facts.height) == decode(tmp_path / "a.jpg", 0).size == (12, 16)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "a.png cannot be read as an image: the file is empty"),
        (b"no image", "a.png cannot be read as an image: it has none of the formats that are read"),
    ],
)
def test_a_file_that_is_no_image(tmp_path, content, problem):
    (tmp_path / "a.png").write_bytes(content)
    facts = inspect_image(tmp_path / "a.png")
    assert problem in facts.problem
    assert facts == ImageFacts(problem=facts.problem)


def test_several_frames_are_a_problem(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    facts = inspect_image(tmp_path / "a.gif")
    assert (facts.format, facts.sha256) == ("GIF", "")
    assert "it holds several frames" in facts.problem
