"""Each kind of image is decoded by its rule, or refused by name."""

import io
import os
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image, WebPImagePlugin, features

from fastrdm.images import decode, in_order, inspect_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
GREY = RGB[..., 0]
DEEP = RNG.integers(0, 1 << 16, (12, 16), dtype=np.uint16)


def encoded(image, format_, **options):
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def decoded(content, tmp_path, name="image"):
    path = tmp_path / name
    path.write_bytes(content)
    return np.asarray(decode(path, 0))


def grey_rgb(values):
    return np.repeat(values[..., None], 3, axis=2)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_grey(tmp_path):
    content = encoded(Image.fromarray(GREY), "PNG")
    np.testing.assert_array_equal(decoded(content, tmp_path), grey_rgb(GREY))


def test_one_bit(tmp_path):
    content = encoded(Image.fromarray(GREY > 99), "PNG")
    expected = grey_rgb(np.where(GREY > 99, 255, 0))
    np.testing.assert_array_equal(decoded(content, tmp_path), expected)


ALPHA = np.resize(np.array([0, 255, 128, 64], np.uint8), GREY.shape)
COLOURS = RNG.integers(0, 256, (256, 3), dtype=np.uint8)


def palette(**options):
    image = Image.fromarray(GREY).copy()
    image.putpalette(COLOURS.tobytes())
    image.info.update(options)
    return image


def palette_with_alpha(alpha):
    image = palette().convert("PA")
    image.putalpha(Image.fromarray(alpha))
    assert image.mode == "PA"
    return image


def with_alpha(under, alpha):
    return Image.fromarray(np.concatenate([under, alpha[..., None]], axis=2))


SEEN = {
    "LA": (with_alpha(GREY[..., None], ALPHA), grey_rgb(GREY), ALPHA),
    "RGBA": (with_alpha(RGB, ALPHA), RGB, ALPHA),
    "PA": (palette_with_alpha(ALPHA), COLOURS[GREY], ALPHA),
    "RGBa": (with_alpha(RGB, ALPHA).convert("RGBa"), None, ALPHA),
    "La": (with_alpha(GREY[..., None], ALPHA).convert("La"), None, ALPHA),
    "palette, one index": (
        palette(transparency=int(GREY[0, 0])),
        COLOURS[GREY],
        np.where(GREY[0, 0] == GREY, 0, 255),
    ),
    "palette, each index": (palette(transparency=bytes(range(256))), COLOURS[GREY], GREY),
    "one grey": (
        (Image.fromarray(GREY), {"transparency": int(GREY[0, 0])}),
        grey_rgb(GREY),
        np.where(GREY[0, 0] == GREY, 0, 255),
    ),
    "one grey of 16 bits": (
        (Image.fromarray(DEEP), {"transparency": int(DEEP[0, 0])}),
        grey_rgb((DEEP >> 8).astype(np.uint8)),
        np.where(DEEP[0, 0] == DEEP, 0, 255),
    ),
    "one colour": (
        (Image.fromarray(RGB), {"transparency": tuple(RGB[0, 0].tolist())}),
        RGB,
        np.where((RGB[0, 0] == RGB).all(axis=2), 0, 255),
    ),
}


def transparent(case):
    image, under, alpha = SEEN[case]
    if isinstance(image, tuple):
        image = image[0].copy()
        image.info.update(SEEN[case][0][1])
    return image, under, alpha


@pytest.mark.parametrize("case", SEEN)
def test_transparent_pixels_are_refused_or_composed_on_a_background(tmp_path, case):
    image, under, alpha = transparent(case)
    with pytest.raises(ValueError, match=r"^image 3 cannot .*pixels are transparent .*background"):
        decode(image, 2)
    seen = np.asarray(decode(image, 2, "#0a80FF"))
    background = np.array([0x0A, 0x80, 0xFF])
    if under is None:
        under = np.asarray(
            image.convert("RGBA" if image.mode in ("RGBa", "PA") else "LA").convert("RGB")
        )
    share = alpha[..., None] / 255
    np.testing.assert_allclose(seen, share * under + (1 - share) * background, atol=0.51)
    if image.mode in ("RGBA", "LA", "P", "L", "I;16", "RGB"):
        options = (
            {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
        )
        content = encoded(image, "PNG", **options)
        with pytest.raises(ValueError, match="pixels are transparent"):
            decoded(content, tmp_path)
        np.testing.assert_array_equal(np.asarray(decode(tmp_path / "image", 0, "#0a80ff")), seen)


def test_invisible_colours_do_not_matter(tmp_path):
    for k, under in enumerate((RGB, 255 - RGB)):
        content = encoded(with_alpha(under, np.zeros_like(GREY)), "PNG")
        (tmp_path / f"{k}.png").write_bytes(content)
    one, other = (np.asarray(decode(tmp_path / f"{k}.png", k, "#808080")) for k in range(2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, np.full_like(RGB, 128))


@pytest.mark.parametrize("background", [None, "#123456"])
@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "P"])
def test_full_opacity_changes_nothing(mode, background):
    opaque = np.full_like(GREY, 255)
    image = {
        "LA": lambda: with_alpha(GREY[..., None], opaque),
        "RGBA": lambda: with_alpha(RGB, opaque),
        "PA": lambda: palette_with_alpha(opaque),
        "P": lambda: palette(transparency=bytes([255] * 256)),
    }[mode]()
    expected = {"RGBA": RGB, "P": COLOURS[GREY], "PA": COLOURS[GREY]}.get(mode, grey_rgb(GREY))
    np.testing.assert_array_equal(np.asarray(decode(image, 0, background)), expected)


def test_a_transparent_index_that_no_pixel_has_changes_nothing():
    unused = next(k for k in range(256) if k not in GREY)
    got = np.asarray(decode(palette(transparency=unused), 0))
    np.testing.assert_array_equal(got, COLOURS[GREY])


@pytest.mark.parametrize("background", ["808080", "#888", "grey", "#80808g", "#80808080"])
def test_a_background_is_a_colour_of_six_digits(background):
    with pytest.raises(ValueError, match=rf'background must be .*"#rrggbb", not .{background}'):
        decode(RGB, 0, background)


@pytest.mark.parametrize("format_", ["PNG", "GIF", "TIFF"])
def test_palette(tmp_path, format_):
    got = decoded(encoded(palette(), format_), tmp_path)
    np.testing.assert_array_equal(got, COLOURS[GREY])


def without_adobe_marker(jpeg):
    at = jpeg.index(b"\xff\xee\x00\x0eAdobe")
    return jpeg[:at] + jpeg[at + 16 :]


@pytest.mark.parametrize("strip", [bytes, without_adobe_marker], ids=["marker", "no marker"])
def test_cmyk_jpeg(tmp_path, strip):
    """The values of the file are inverted (255 is no ink), and there is no colour profile."""
    ink = np.full((16, 16, 4), (0, 51, 102, 51), np.uint8)
    content = strip(encoded(Image.fromarray(ink, "CMYK"), "JPEG", quality=100))
    cyan, magenta, yellow, black = ink[0, 0] / 255
    expected = [(1 - x) * (1 - black) * 255 for x in (cyan, magenta, yellow)]
    got = decoded(content, tmp_path)
    np.testing.assert_allclose(got, np.broadcast_to(expected, got.shape), atol=2)


def test_cmyk_tiff_is_not_inverted(tmp_path):
    content = encoded(Image.new("CMYK", (4, 4), (0, 0, 255, 0)), "TIFF")
    np.testing.assert_array_equal(decoded(content, tmp_path), np.full((4, 4, 3), (255, 255, 0)))


@pytest.mark.parametrize(
    "format_, order", [("PNG", "<"), ("PNG", ">"), ("TIFF", "<"), ("TIFF", ">"), ("JPEG2000", "<")]
)
def test_grey_of_16_bits(tmp_path, format_, order):
    content = encoded(Image.fromarray(DEEP.astype(order + "u2")), format_)
    np.testing.assert_array_equal(decoded(content, tmp_path), grey_rgb(DEEP >> 8))


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_grey_of_16_bits_in_memory(mode):
    image = Image.new(mode, (3, 2), 0x1234)
    np.testing.assert_array_equal(np.asarray(decode(image, 0)), np.full((2, 3, 3), 0x12))


def test_grey_of_16_bits_whose_0_is_white(tmp_path):
    content = encoded(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(decoded(content, tmp_path), grey_rgb((0xFFFF - DEEP) >> 8))
    opened = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(np.asarray(decode(opened, 0)), grey_rgb((0xFFFF - DEEP) >> 8))


def tiff(width, height, bits, data):
    """A TIFF with one strip of grey; 0 is black."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags[279] = len(data)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    at = 8 + len(data)
    return b"II*\0" + struct.pack("<I", at) + data + struct.pack("<H", 9) + entries + bytes(4)


def test_grey_of_12_bits(tmp_path):
    pairs = [0x000, 0xFFF, 0x800, 0x7F0]
    packed = bytes.fromhex("".join(f"{value:03x}" for value in pairs))
    got = decoded(tiff(4, 1, 12, packed), tmp_path)
    np.testing.assert_array_equal(got, grey_rgb(np.array([[0x00, 0xFF, 0x80, 0x7F]])))


def test_colour_of_16_bits(tmp_path):
    """As grey: the upper byte."""
    values = RNG.integers(0, 1 << 16, (3, 4, 3)).astype(">u2")
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in values)),
        b"IEND": b"",
    }
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks.items():
        checksum = zlib.crc32(kind + data)
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
    np.testing.assert_array_equal(decoded(content, tmp_path), values >> 8)


@pytest.mark.parametrize("dtype, mode", [(np.int32, "I"), (np.float32, "F")])
def test_32_bits_are_refused(tmp_path, dtype, mode):
    image = Image.fromarray(np.ones((4, 4), dtype))
    path = tmp_path / "deep.tif"
    image.save(path)
    for given, name in ((path, r".*deep\.tif"), (image, "image 1")):
        with pytest.raises(ValueError, match=rf"^{name} cannot be read .* 32 bits \(mode {mode}\)"):
            decode(given, 0)


# Operations on the stored pixels for each EXIF orientation.
UPRIGHT = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation_is_applied(tmp_path, format_, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_ == "WEBP" else {}
    content = encoded(Image.fromarray(RGB), format_, exif=exif, **options)
    stored = RGB
    if format_ == "JPEG":
        stored = np.asarray(Image.open(io.BytesIO(encoded(Image.fromarray(RGB), format_))))
    expected = UPRIGHT[orientation](stored)
    np.testing.assert_array_equal(decoded(content, tmp_path), expected)
    opened = Image.open(io.BytesIO(content))
    for _ in range(2):  # what the caller has is left as it is
        np.testing.assert_array_equal(np.asarray(decode(opened, 0)), expected)


def test_colour_profiles_are_not_applied(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    content = encoded(Image.fromarray(RGB), "PNG", icc_profile=profile)
    np.testing.assert_array_equal(decoded(content, tmp_path), RGB)


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(tmp_path, format_):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    content = encoded(frames[0], format_, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="image cannot be read as an image: it holds several fra"):
        decoded(content, tmp_path)


def test_the_current_frame_of_a_pil_image_is_used():
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    content = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    opened = Image.open(io.BytesIO(content))
    opened.seek(1)
    np.testing.assert_array_equal(np.asarray(decode(opened, 0)), 255 - RGB)


def test_the_first_of_a_cameras_pictures_is_used(tmp_path):
    photograph, preview = Image.fromarray(RGB), Image.fromarray(RGB[:6, :8])
    content = encoded(photograph, "MPO", save_all=True, append_images=[preview])
    got = decoded(content, tmp_path)
    alone = np.asarray(Image.open(io.BytesIO(encoded(photograph, "JPEG"))))
    np.testing.assert_array_equal(got, alone)


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


PNG, JPEG, TIFF = (encoded(Image.fromarray(RGB), name) for name in ("PNG", "JPEG", "TIFF"))


DAMAGED = {
    "empty": (b"", "the file is empty"),
    "text": (b"no image at all", "it has none of the formats that are read"),
    "cut JPEG": (JPEG[:-1], "truncated"),
    "cut PNG": (PNG[:200], "truncated"),
    "cut TIFF": (TIFF[:-1], "truncated"),
    "cut BMP": (encoded(Image.fromarray(RGB), "BMP")[:-1], "truncated"),
    "cut WEBP": (encoded(Image.fromarray(RGB), "WEBP")[:100], ""),
    "head of a JPEG": (JPEG[:300], ""),
    "head of a TIFF": (TIFF[:300], ""),
    "changed PNG": (flipped(PNG, 60), ""),
    "PNG with an endless chunk": (PNG[:8] + struct.pack(">I", 2**31 - 1) + PNG[12:], ""),
    "no pixels": (tiff(0, 1, 8, b""), ""),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_unreadable_images_are_named(tmp_path, damage):
    content, reason = DAMAGED[damage]
    expected = rf"^\S*image\.jpg cannot be read as an image: .*{reason}"
    with pytest.raises(ValueError, match=expected) as info:
        decoded(content, tmp_path, "image.jpg")
    assert "\n" not in str(info.value) and "BytesIO" not in str(info.value)


def test_images_without_pixels_are_refused():
    with pytest.raises(ValueError, match=r"image 3 cannot be read .* no pixels.*\(0, 5\)"):
        decode(Image.new("RGB", (0, 5)), 2)
    with pytest.raises(ValueError, match=r"image 3 must be uint8 .*\(5, 0, 3\)"):
        decode(np.zeros((5, 0, 3), np.uint8), 2)


def test_a_mode_that_pillow_cannot_convert_is_named():
    with pytest.raises(ValueError, match="image 1 cannot be read as an image: .*La"):
        decode(Image.new("La", (2, 2)), 0)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", RGB.size // 3 // 2 - 1)
    with pytest.raises(ValueError, match="image cannot be read as an image: .*exceeds limit"):
        decoded(PNG, tmp_path)


@pytest.mark.parametrize(
    "image, error, match",
    [
        (3, TypeError, "image 5 must be a path, PIL image or array, not int"),
        (np.zeros((3, 3, 3)), ValueError, r"image 5 must be uint8 .* float64 \(3, 3, 3\)"),
        ("nowhere.png", FileNotFoundError, "^nowhere.png: no such image file$"),
        (".", FileNotFoundError, "no such image file"),
        (f"{__file__}/a.png", FileNotFoundError, "no such image file"),
        ("a" * 5000, ValueError, "cannot be read: .*too long"),
    ],
)
def test_wrong_images_are_named(image, error, match):
    with pytest.raises(error, match=match):
        decode(image, 4)


ARRAYS = [np.full((2, 2, 3), i, np.uint8) for i in range(40)]


@pytest.mark.parametrize("n_threads", [None, 1, 2, 8, 99])
def test_in_order_keeps_the_order(n_threads):
    got = list(in_order(lambda image, index: (image[0, 0, 0], index), ARRAYS, n_threads))
    assert got == [(i, i) for i in range(40)]


@pytest.mark.parametrize("n_threads", [1, 2, 8])
def test_the_first_error_in_order_is_raised(n_threads):
    later = threading.Event()

    def fail(_, index):
        if index == 7:
            later.wait(timeout=0.2)  # the next ones fail before it
        if index >= 7:
            later.set()
            raise ValueError(index)
        return index

    results = in_order(fail, ARRAYS, n_threads)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="^7$"):
        next(results)


def test_only_a_few_images_are_computed_ahead():
    begun = []
    results = in_order(lambda _, index: begun.append(index), ARRAYS, 2)
    next(results)
    results.close()
    assert len(begun) < 20


def test_pil_images_stay_on_this_thread():
    image = Image.fromarray(RGB)
    threads = set(in_order(lambda *_: threading.get_ident(), [image, *ARRAYS], 8))
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize(("suffix", "format_"), [("jfif", "JPEG"), ("jpe", "JPEG"), ("gif", "GIF")])
def test_files_of_less_common_suffixes(tmp_path, suffix, format_):
    """GIF is lossless for images of up to 256 colours; the content says the format, not the suffix."""
    content = (
        encoded(palette(), "GIF") if format_ == "GIF" else encoded(Image.fromarray(RGB), "JPEG")
    )
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(decoded(content, tmp_path, f"image.{suffix}"), expected)


needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow cannot read AVIF")


@needs_avif
def test_avif(tmp_path):
    content = encoded(Image.fromarray(RGB), "AVIF", quality=100, subsampling="4:4:4")
    got = decoded(content, tmp_path, "image.avif")
    np.testing.assert_allclose(got.astype(int), RGB, atol=8)


@needs_avif
def test_an_avif_sequence_is_refused(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    content = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="holds several frames"):
        decoded(content, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("AVIF", b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "pip install --upgrade 'pillow>=11.3'"),
        ("WebP", b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0", "pip install --upgrade pillow"),
    ],
)
def test_a_format_that_pillow_lacks_is_named(tmp_path, monkeypatch, name, content, advice):
    monkeypatch.setattr(features, "check_module", lambda module: False)
    plugin = {"AVIF": AvifImagePlugin, "WebP": WebPImagePlugin}[name]
    monkeypatch.setattr(plugin, "SUPPORTED", False)
    with pytest.raises(
        ValueError, match=f"it is {name}, which this .*Pillow cannot read.*{advice}"
    ):
        decoded(content, tmp_path)


def test_a_damaged_avif_is_not_a_missing_format(tmp_path):
    with pytest.raises(ValueError, match="image cannot be read as an image"):
        decoded(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", tmp_path)


def test_formats_for_which_pillow_runs_programs_are_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match="it has none of the formats that are read"):
        decode(path, 0)
    assert "it has none of the formats that are read" in inspect_image(path).problem


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png is not a regular file"):
        decode(tmp_path / "a.png", 0)
