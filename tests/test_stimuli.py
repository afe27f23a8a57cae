import io
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from fastrdm.stimuli import Preprocessing, list_images


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("resize", ["pil-bilinear", "pil-bicubic"])
@pytest.mark.parametrize("shape", [(175, 175), (31, 97), (400, 300)])
def test_load_equals_torchvision(resize, shape):
    preprocessing = Preprocessing(size=(64, 48), resize=resize)
    interpolation = transforms.InterpolationMode(resize.removeprefix("pil-"))
    reference = transforms.Compose(
        [
            transforms.Resize((64, 48), interpolation),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    image = Image.fromarray(picture(*shape))
    loaded = preprocessing.load([image])
    assert loaded.dtype == np.float32
    assert loaded.shape == (1, 3, 64, 48)
    np.testing.assert_allclose(loaded[0], reference(image).numpy(), rtol=0, atol=1e-6)


def test_paths_images_and_arrays_load_alike(tmp_path):
    pixels = picture(40, 30)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    a, b, c, d = Preprocessing().load([path, str(path), Image.fromarray(pixels), pixels])
    for other in (b, c, d):
        np.testing.assert_array_equal(a, other)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    path = tmp_path / "image.tif"
    image = Image.fromarray(picture(20, 20)).convert(mode)
    image.save(path)
    expected = Preprocessing().load([image.convert("RGB")])
    np.testing.assert_array_equal(Preprocessing().load([path]), expected)


def test_exif_orientation_is_applied(tmp_path):
    pixels = picture(20, 40)
    turned = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.fromarray(pixels).save(turned, exif=exif)
    upright = np.ascontiguousarray(np.rot90(pixels, -1))
    preprocessing = Preprocessing(size=(40, 20))
    np.testing.assert_array_equal(preprocessing.load([turned]), preprocessing.load([upright]))


def test_channel_order_swaps_red_and_blue():
    plain = {"mean": (0, 0, 0), "std": (1, 1, 1), "size": (8, 8)}
    rgb = Preprocessing(**plain).load([picture(8, 8)])
    bgr = Preprocessing(**plain, channel_order="BGR").load([picture(8, 8)])
    np.testing.assert_array_equal(bgr, rgb[:, ::-1])


def test_defaults_are_the_development_kits():
    assert Preprocessing() == Preprocessing(
        (224, 224), "pil-bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "RGB"
    )


numbers = st.floats(0.01, 10)


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 999), st.integers(1, 999)),
    st.tuples(numbers, numbers, numbers),
    st.tuples(numbers, numbers, numbers),
    st.sampled_from(["RGB", "BGR"]),
)
def test_json_round_trip(size, mean, std, order):
    preprocessing = Preprocessing(size, "pil-bicubic", mean, std, order)
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing


def test_numpy_values_are_taken():
    size = tuple(np.array([8, 9]))
    assert Preprocessing(size=size, mean=np.zeros(3)) == Preprocessing((8, 9), mean=(0, 0, 0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 224),
        ("size", (0, 3)),
        ("size", (2.5, 3)),
        ("resize", "nearest"),
        ("mean", (0, 0)),
        ("mean", (0, 0, float("nan"))),
        ("std", (1, 0, 1)),
        ("channel_order", "GRB"),
    ],
)
def test_bad_values_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        Preprocessing(**{field: value})


@pytest.mark.parametrize("text", ["{", "[]", '{"size": [2, 2]}'])
def test_bad_json(text):
    with pytest.raises(ValueError, match="preprocessing"):
        Preprocessing.from_json(text)


def encoded(format_):
    buffer = io.BytesIO()
    Image.fromarray(picture(64, 64)).save(buffer, format_)
    return buffer.getvalue()


def broken_png():
    data = bytearray(encoded("PNG"))
    data[8:12] = struct.pack(">I", 2**31 - 1)
    return bytes(data)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image at all",
        encoded("JPEG")[:900],
        encoded("PNG")[:500],
        broken_png(),
        encoded("TIFF")[:300],
    ],
    ids=["empty", "text", "jpeg", "png", "broken png", "tiff"],
)
def test_damaged_image_is_named(tmp_path, content):
    path = tmp_path / "damaged.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.png cannot be read as an image"):
        Preprocessing().load([picture(8, 8), path])


@pytest.mark.parametrize(
    ("images", "error", "match"),
    [
        ([], ValueError, "empty"),
        ("a.png", TypeError, "list of images"),
        ([picture(8, 8), np.zeros((8, 8), np.uint8)], ValueError, r"image 2 .*\(8, 8\)"),
        ([np.zeros((8, 8, 3))], ValueError, "image 1 .*float64"),
        ([3], TypeError, "image 1 .*int"),
        (["nowhere.png"], FileNotFoundError, "nowhere.png"),
        (torch.zeros(3), TypeError, "Tensor"),
    ],
)
def test_wrong_images(images, error, match):
    with pytest.raises(error, match=match):
        Preprocessing().load(images)


def test_list_images_sorts_by_name_and_skips_the_rest(tmp_path):
    names = ["image_10.JPG", "image_2.jpeg", "b.png", "c.bmp", "d.tif", "e.webp"]
    for name in [*names, ".hidden.png", "notes.txt"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == sorted(names)


def test_list_images_errors(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        list_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list_images(tmp_path / "nowhere")


def test_list_images_of_the_challenge(challenge):
    folder = challenge / "Training_Data/92_Image_Set/92images"
    images = list_images(folder)
    assert [path.name for path in images] == [f"image_{i:02}.jpg" for i in range(1, 93)]
    assert Preprocessing().load(images[:2]).shape == (2, 3, 224, 224)
