import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from fastrdm.images import Preprocessing, list_images


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def resized(image, preprocessing):
    """Resize with torchvision."""
    interpolation = transforms.InterpolationMode(preprocessing.resize.removeprefix("pil-"))
    return transforms.Resize(preprocessing.size, interpolation)(image)


sides = st.integers(1, 80)


@settings(deadline=None)
@given(
    st.tuples(sides, sides),
    st.tuples(sides, sides),
    st.sampled_from(["pil-bilinear", "pil-bicubic"]),
)
def test_pixels_equal_torchvisions(shape, size, resize):
    preprocessing = Preprocessing(size, resize)
    image = Image.fromarray(picture(*shape))
    pixels = preprocessing.pixels([image])
    assert pixels.dtype == np.uint8 and pixels.shape == (1, *size, 3)
    np.testing.assert_array_equal(pixels[0], np.asarray(resized(image, preprocessing)))


@pytest.mark.parametrize("size", [(224, 224), (97, 415)], ids=str)
@pytest.mark.parametrize("resize", ["pil-bilinear", "pil-bicubic"])
@pytest.mark.parametrize(
    "folder",
    [
        "Training_Data/92_Image_Set/92images",
        "Training_Data/118_Image_Set/118images",
        "Test_Data/78images",
    ],
)
def test_pixels_of_the_challenge_equal_torchvisions(challenge, folder, resize, size):
    preprocessing = Preprocessing(size, resize)
    by_shape = {}
    for path in list_images(challenge / folder):
        image = Image.open(path).convert("RGB")
        by_shape.setdefault(image.size, []).append((path, image))
    assert len(by_shape) == (3 if folder.startswith("Test") else 1)
    some = [pair for pairs in by_shape.values() for pair in pairs[:8]]
    pixels = preprocessing.pixels([path for path, _ in some])
    for row, (_, image) in zip(pixels, some, strict=True):
        np.testing.assert_array_equal(row, np.asarray(resized(image, preprocessing)))


def every_value():
    """A picture with every value in every channel."""
    return np.stack([np.roll(np.arange(256), 50 * c).reshape(16, 16) for c in range(3)], axis=2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_load_equals_torchvision_to_the_bit(kernels, seed, order):
    rng = np.random.default_rng(seed)
    numbers = {"mean": rng.random(3), "std": rng.random(3) + 0.01} if seed else {}
    preprocessing = Preprocessing((16, 16), channel_order=order, **numbers)
    image = every_value().astype(np.uint8)
    channels = [0, 1, 2] if order == "RGB" else [2, 1, 0]
    tensor = transforms.ToTensor()(Image.fromarray(image))[channels]
    expected = transforms.Normalize(preprocessing.mean, preprocessing.std)(tensor).numpy()
    loaded = preprocessing.load([image, image])
    assert loaded.dtype == np.float32 and loaded.flags.c_contiguous
    np.testing.assert_array_equal(loaded, np.stack([expected, expected]))


def test_normalise_writes_to_out(kernels):
    pixels = np.stack([picture(8, 12, seed) for seed in range(3)])
    preprocessing = Preprocessing((8, 12))
    out = np.full((5, 3, 8, 12), np.nan, np.float32)
    got = preprocessing.normalise(pixels, out[1:4])
    assert np.shares_memory(got, out)
    assert np.isnan(out[[0, 4]]).all()
    np.testing.assert_array_equal(out[1:4], preprocessing.normalise(pixels))
    np.testing.assert_array_equal(preprocessing.normalise(pixels[:, :, ::-1]), out[1:4][..., ::-1])


@pytest.mark.parametrize(
    "pixels, out, match",
    [
        (
            np.zeros((2, 8, 9, 3), np.uint8),
            None,
            r"pixels must be uint8 of shape \(n, 8, 8, 3\), not",
        ),
        (np.zeros((8, 8, 3), np.uint8), None, r"pixels .* not uint8 \(8, 8, 3\)"),
        (np.zeros((2, 8, 8, 3)), None, "pixels must be .*float64"),
        ([picture(8, 8)], None, "pixels must be .* not a list"),
        (np.array(3), None, r"pixels .* not int64 \(\)"),
        (None, np.zeros((2, 3, 8, 8)), "out must be float32 .*float64"),
        (None, np.zeros((3, 3, 8, 8), np.float32), r"out .* \(2, 3, 8, 8\), not"),
        (None, np.zeros((2, 3, 8, 16), np.float32)[..., ::2], "out must be contiguous"),
        (None, np.broadcast_to(np.float32(0), (2, 3, 8, 8)), "out must be contiguous"),
    ],
)
def test_errors_of_normalise(pixels, out, match):
    pixels = np.zeros((2, 8, 8, 3), np.uint8) if pixels is None else pixels
    with pytest.raises(ValueError, match=match):
        Preprocessing((8, 8)).normalise(pixels, out)


def test_pixels_are_returned_unchanged():
    pixels = np.stack([picture(8, 12, seed) for seed in range(3)])
    assert Preprocessing((8, 12)).pixels(pixels) is pixels
    larger = Preprocessing((16, 24)).pixels(pixels)
    np.testing.assert_array_equal(larger, Preprocessing((16, 24)).pixels(list(pixels)))


@pytest.mark.parametrize("n_threads", [None, 1, 2, 8])
def test_pixels_keep_the_order(tmp_path, n_threads):
    expected = [picture(8, 8, seed) for seed in range(30)]
    paths = []
    for index, pixels in enumerate(expected):
        paths.append(tmp_path / f"{index}.{('png', 'bmp', 'tif')[index % 3]}")
        Image.fromarray(pixels).save(paths[-1])
    got = Preprocessing((8, 8)).pixels(paths, n_threads=n_threads)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("n_threads", [1, 2, 8])
def test_the_first_bad_image_is_named(tmp_path, n_threads):
    large = tmp_path / "large.png"
    Image.fromarray(picture(400, 400)).save(large)
    large.write_bytes(large.read_bytes()[:-100])
    images = [picture(8, 8), large, "nowhere.png", 3]
    with pytest.raises(ValueError, match=r"large\.png cannot be read"):
        Preprocessing().pixels(images, n_threads=n_threads)


def test_paths_images_and_arrays_load_alike(tmp_path):
    pixels = picture(40, 30)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    a, b, c, d = Preprocessing().load([path, str(path), Image.fromarray(pixels), pixels])
    for other in (b, c, d):
        np.testing.assert_array_equal(a, other)


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


def test_numpy_values_are_accepted():
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": {"a": 1}}, "has a field of another type"),
        ({"size": [10**6, 10**6]}, "each at most 16384"),
    ],
)
def test_preprocessing_of_other_types(changes, message):
    values = json.loads(Preprocessing().to_json())
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_json(json.dumps(values | changes))


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
    with pytest.warns(
        RuntimeWarning, match=r'image_10\.JPG comes before image_2\.jpeg; .*"natural"'
    ):
        found = list_images(tmp_path)
    assert [path.name for path in found] == sorted(names)


def test_list_images_of_subfolders(tmp_path):
    names = ["b.png", "set/a.GIF", "set1/c.avif", "set10/c.jfif", "set2/c.jpe", ".old/x.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {
        order: [path.relative_to(tmp_path).as_posix() for path in paths]
        for order, paths in {
            "flat": list_images(tmp_path),
            "natural": list_images(tmp_path, "natural", recursive=True),
            "some": list_images(tmp_path, recursive=True, exclude=[tmp_path / "set10"]),
        }.items()
    }
    assert found["flat"] == names[:1]
    assert found["natural"] == [*names[:3], names[4], names[3]]
    assert found["some"] == [*names[:3], names[4]]
    with pytest.warns(RuntimeWarning, match=r"set10/c\.jfif comes before set2/c\.jpe"):
        assert len(list_images(tmp_path, recursive=True)) == 5


def test_list_images_errors(tmp_path):
    with pytest.raises(ValueError, match="contains no images"):
        list_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list_images(tmp_path / "nowhere")


def test_list_images_of_the_challenge(challenge):
    folder = challenge / "Training_Data/92_Image_Set/92images"
    images = list_images(folder)
    assert [path.name for path in images] == [f"image_{i:02}.jpg" for i in range(1, 93)]
    assert Preprocessing().load(images[:2]).shape == (2, 3, 224, 224)
