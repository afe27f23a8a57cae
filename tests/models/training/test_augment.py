import numpy as np
import pytest
import torch
from torchvision.transforms.functional import normalize

from fastrdm.images import Preprocessing
from models.training.augment import AUGMENTATIONS, CROP_AREA, Normalise, crop, flip, keep

CPU = torch.device("cpu")


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (40, 3, 12, 12), np.uint8))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_depends_on_the_seed_and_not_on_torchs_generator(pixels, name):
    before = torch.get_rng_state()
    first, again, other = (
        AUGMENTATIONS[name](pixels.clone(), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name == "none")
    assert torch.equal(before, torch.get_rng_state())


def test_none_keeps_the_pixels(pixels):
    assert keep(pixels, np.random.default_rng(0)) is pixels


def test_flip_mirrors_about_half(pixels):
    flipped = flip(pixels, np.random.default_rng(0))
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, pixels, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, pixels, strict=True)]
    assert np.all(np.array(mirrored) ^ np.array(same))
    assert 10 < sum(mirrored) < 30


class Fixed:
    """A generator with predefined uniform numbers."""

    def __init__(self, area, place, mirror):
        self.draws = iter([area, 0.0, place])
        self.mirror = mirror

    def uniform(self, low, high, size):
        return np.full(size, next(self.draws))

    def random(self, n):
        return np.full(n, 0.0 if self.mirror else 1.0)


def test_a_crop_of_everything_is_the_image(pixels):
    whole = crop(pixels, Fixed(1.0, 0.7, mirror=False))
    torch.testing.assert_close(whole, pixels.float(), rtol=0, atol=1e-2)
    mirrored = crop(pixels, Fixed(1.0, 0.7, mirror=True))
    torch.testing.assert_close(mirrored, pixels.float().flip(3), rtol=0, atol=1e-2)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("corner", [-1.0, 1.0])
def test_a_crop_is_an_enlarged_part(pixels, corner, mirror):
    part = crop(pixels, Fixed(0.25, corner, mirror))
    half = slice(0, 6) if corner < 0 else slice(6, 12)
    window = pixels[:, :, half, half].float()
    expected = torch.nn.functional.interpolate(window, (12, 12), mode="bilinear")
    # Not at the window's edge, where a crop sees the pixels beyond.
    inner = slice(1, 11)
    expected = expected.flip(3) if mirror else expected
    torch.testing.assert_close(
        part[..., inner, inner], expected[..., inner, inner], rtol=0, atol=1e-2
    )


def test_crops_are_inside_the_image_and_have_the_area():
    ramp = (4 * torch.arange(64, dtype=torch.uint8)).expand(500, 3, 64, 64).contiguous()
    parts = crop(ramp, np.random.default_rng(0))
    assert parts.min() >= 0 and parts.max() <= 255
    widths = (parts.amax((1, 2, 3)) - parts.amin((1, 2, 3))) / 252
    assert CROP_AREA[0] ** 0.5 * (3 / 4) ** 0.5 - 0.02 < widths.min() < 0.6
    assert widths.max() > 0.99


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_normalise_is_bit_identical_to_torchvision(pixels, order):
    own = Preprocessing(size=(12, 12), channel_order=order)
    scaled = pixels.float() / 255
    expected = normalize(scaled.flip(1) if order == "BGR" else scaled, own.mean, own.std)
    assert torch.equal(Normalise(own, CPU)(pixels), expected)
    loaded = own.normalise(pixels.permute(0, 2, 3, 1).numpy().copy())
    assert torch.equal(Normalise(own, CPU)(pixels), torch.from_numpy(loaded))


def test_normalise_does_not_change_its_input(pixels):
    images = pixels.float()
    before = images.clone()
    Normalise(Preprocessing(), CPU)(images)
    assert torch.equal(images, before)
