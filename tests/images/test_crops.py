"""Centre crops equal those of torchvision and timm on PIL images, to the bit."""

import json

import numpy as np
import pytest
import timm.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from fastrdm.images import Preprocessing, cache_info, cached_pixels

SIDES = st.integers(1, 60)
FILTERS = st.sampled_from(["pil-bilinear", "pil-bicubic"])
# Landscape, portrait, square, smaller than the crop, very long, and edges with odd differences.
SHAPES = [(301, 400), (640, 427), (256, 256), (20, 31), (31, 20), (9, 300), (257, 333), (225, 224)]


def picture(height, width):
    values = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def torchvisions(preprocessing):
    mode = transforms.InterpolationMode(preprocessing.resize.removeprefix("pil-"))
    return transforms.Compose(
        [
            transforms.Resize(preprocessing.crop, mode),
            transforms.CenterCrop(preprocessing.size),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )


def timms(preprocessing):
    return timm.data.create_transform(
        input_size=(3, *preprocessing.size),
        interpolation=preprocessing.resize.removeprefix("pil-"),
        mean=preprocessing.mean,
        std=preprocessing.std,
        crop_pct=preprocessing.crop,
    )


@settings(deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), SIDES, FILTERS)
def test_an_integer_is_torchvisions_shorter_edge(shape, size, crop, resize):
    preprocessing = Preprocessing(size, resize, crop=crop)
    image = picture(*shape)
    np.testing.assert_array_equal(
        preprocessing.load([image])[0], torchvisions(preprocessing)(image).numpy()
    )


@settings(deadline=None)
@given(
    st.tuples(SIDES, SIDES),
    st.tuples(st.integers(4, 60), st.integers(4, 60)),
    st.floats(0.3, 1),
    FILTERS,
)
def test_a_fraction_is_timms(shape, size, crop, resize):
    preprocessing = Preprocessing(size, resize, crop=crop)
    image = picture(*shape)
    np.testing.assert_array_equal(
        preprocessing.load([image])[0], timms(preprocessing)(image).numpy()
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [(224, 224), (96, 131)], ids=str)
def test_crops_of_usual_sizes(shape, size):
    image = picture(*shape)
    for preprocessing, transform in (
        (Preprocessing(size, crop=256), torchvisions),
        (Preprocessing(size, "pil-bicubic", crop=0.875), timms),
        (Preprocessing(size, "pil-bicubic", crop=0.95), timms),
        (Preprocessing(size, crop=1.0), timms),
    ):
        expected = transform(preprocessing)(image).numpy()
        np.testing.assert_array_equal(preprocessing.load([image])[0], expected)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "convnext_atto"])
def test_the_transform_that_timm_makes_for_a_model(name):
    config = timm.data.resolve_data_config({}, timm.get_pretrained_cfg(name).to_dict())
    preprocessing = Preprocessing(
        config["input_size"][1:],
        f"pil-{config['interpolation']}",
        config["mean"],
        config["std"],
        crop=config["crop_pct"],
    )
    transform = timm.data.create_transform(**config)
    for shape in SHAPES[:3]:
        image = picture(*shape)
        expected = transform(image)
        assert torch.equal(torch.from_numpy(preprocessing.load([image])[0]), expected)


def test_json_without_a_crop_is_that_of_older_versions():
    assert "crop" not in json.loads(Preprocessing().to_json())
    for crop in (None, 256, 0.875, 1, 1.0):
        again = Preprocessing.from_json(Preprocessing(crop=crop).to_json())
        assert again.crop == crop and type(again.crop) is type(crop)
    older = json.loads(Preprocessing().to_json()) | {"crop": None}
    assert Preprocessing.from_json(json.dumps(older)) == Preprocessing()


@pytest.mark.parametrize("crop", [0, -1, 1.5, 256.0, 0.0, True, "256", float("nan")])
def test_bad_crops(crop):
    with pytest.raises(ValueError, match=r"crop must be .*, not "):
        Preprocessing(crop=crop)


def test_the_cache_keeps_crops_apart(tmp_path):
    paths = [tmp_path / "a.png"]
    picture(30, 50).save(paths[0])
    crops = (None, 12, 0.5, 0.8)
    several = [Preprocessing((8, 8), crop=crop) for crop in crops]
    for _ in range(2):
        for preprocessing in several:
            pixels = cached_pixels(paths, preprocessing, tmp_path / "cache")
            np.testing.assert_array_equal(pixels, preprocessing.pixels(paths))
    assert cache_info(tmp_path / "cache").n_files == len(crops)
    assert len({preprocessing.geometry for preprocessing in several}) == len(crops)
