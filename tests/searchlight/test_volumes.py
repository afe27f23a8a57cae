"""Spheres of voxels, and volumes as data and back."""

import numpy as np
import pytest

import fastrdm
from fastrdm.searchlight import from_volume, to_volume, volume_neighbours

AFFINE = np.array([[2.0, 0.3, 0, -10], [0, 2.5, 0, 5], [0.1, 0, 3, 0], [0, 0, 0, 1]])


def random_mask(shape=(7, 6, 5), share=0.7):
    return np.random.default_rng(0).random(shape) < share


def expected(mask, radius, axes):
    places = np.argwhere(mask)
    distances = np.linalg.norm((places[:, None] - places) @ axes.T, axis=-1)
    return [np.flatnonzero(row <= radius) for row in distances]


def image_of(array, affine=AFFINE):
    nibabel = pytest.importorskip("nibabel")
    return nibabel.Nifti1Image(np.asarray(array, np.float32), affine)


def check(found, lists):
    assert len(found) == len(lists)
    for mine, theirs in zip(found, lists, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("radius", [1, 1.5, 2, 4.1, 30])
def test_spheres_of_an_array_are_in_voxels(radius):
    mask = random_mask()
    found = volume_neighbours(mask, radius)
    check(found, expected(mask, radius, np.eye(3)))
    assert found.n_channels == mask.sum()
    np.testing.assert_array_equal(found.centres, np.arange(mask.sum()))
    assert all(found.centres[i] in place for i, place in enumerate(found))


@pytest.mark.parametrize("radius", [2.5, 5.1])
def test_spheres_of_an_image_are_in_mm(radius, tmp_path):
    mask = random_mask()
    image = image_of(mask)
    check(volume_neighbours(image, radius), expected(mask, radius, AFFINE[:3, :3]))
    check(volume_neighbours(image, 2, unit="voxels"), expected(mask, 2, np.eye(3)))
    image.to_filename(tmp_path / "mask.nii.gz")
    check(volume_neighbours(tmp_path / "mask.nii.gz", radius), volume_neighbours(image, radius))


def test_blocks_change_nothing(monkeypatch):
    mask = random_mask()
    whole = volume_neighbours(mask, 2, min_share=0.6)
    monkeypatch.setattr("fastrdm.searchlight.volumes._BLOCK", 100)
    check(volume_neighbours(mask, 2, min_share=0.6), whole)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_shares_of_the_mask_are_those_of_rsatoolbox(share):
    peer = pytest.importorskip("rsatoolbox.util.searchlight")
    mask = np.zeros((8, 8, 8), bool)
    mask[1:7, 1:8, 0:6] = True
    centres, neighbours = peer.get_volume_searchlight(mask, 2.01, share)
    found = volume_neighbours(mask, 2, min_share=share)
    voxels = np.flatnonzero(mask)
    np.testing.assert_array_equal(voxels[found.centres], centres)
    for mine, theirs in zip(found, neighbours, strict=True):
        inside = np.sort([k for k in theirs if mask.ravel()[k]])
        np.testing.assert_array_equal(voxels[mine], inside)


def test_neighbourhoods_are_a_sequence():
    found = volume_neighbours(np.ones((3, 3, 3)), 1)
    assert repr(found) == "<Neighbourhoods: 27 places of 4 to 7 of 27 channels>"
    assert isinstance(found[2:5], type(found))
    check(found[2:5], [found[2], found[3], found[4]])
    np.testing.assert_array_equal(found[2:5].centres, [2, 3, 4])
    np.testing.assert_array_equal(found[-1], found[26])
    np.testing.assert_array_equal(found.sizes, [len(each) for each in found])
    with pytest.raises(IndexError):
        found[27]


def test_volumes_become_data_and_values_volumes(tmp_path):
    mask = random_mask()
    volumes = np.random.default_rng(1).random((*mask.shape, 4)).astype(np.float32)
    expected_data = volumes[mask].T
    image, mask_image = image_of(volumes), image_of(mask)
    image.to_filename(tmp_path / "betas.nii")
    parts = [image_of(volumes[..., k]) for k in range(4)]
    for source in (
        volumes,
        image,
        tmp_path / "betas.nii",
        parts,
        [volumes[..., k] for k in range(4)],
    ):
        data = from_volume(source, mask_image)
        assert data.dtype == np.float32
        np.testing.assert_array_equal(data, expected_data)
    assert from_volume(volumes.astype(np.float64), mask).dtype == np.float64
    np.testing.assert_array_equal(to_volume(data.T, mask)[mask], volumes[mask])
    back = to_volume(data.T, mask_image, fill=0, path=tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(back.affine, AFFINE)
    np.testing.assert_array_equal(back.get_fdata()[mask], volumes[mask])
    assert not back.get_fdata()[~mask].any()
    assert (tmp_path / "back.nii.gz").is_file()
    assert np.isnan(to_volume(data[0], mask)[~mask]).all()


def test_a_searchlight_from_a_volume_to_a_volume():
    mask = random_mask()
    data = np.random.default_rng(2).random((6, int(mask.sum())))
    neighbours = volume_neighbours(mask, 2, min_share=0.5)
    scores = fastrdm.score_searchlight(data, neighbours, np.arange(15.0)[None])
    volume = to_volume(scores, mask, centres=neighbours)
    assert np.isfinite(volume[..., 0]).sum() == len(neighbours) < mask.sum()
    rdm = fastrdm.calc_rdm(data[:, neighbours[3]])
    where = tuple(np.argwhere(mask)[neighbours.centres[3]])
    np.testing.assert_allclose(
        volume[where][0], fastrdm.compare(rdm[None], np.arange(15.0)[None]).item()
    )


@pytest.mark.filterwarnings("ignore")
def test_maskers_of_nilearn():
    maskers = pytest.importorskip("nilearn.maskers")
    mask = random_mask()
    image, volumes = image_of(mask), image_of(np.random.default_rng(1).random((*mask.shape, 4)))
    masker = maskers.NiftiMasker(mask_img=image)
    with pytest.raises(
        ValueError, match="mask is a NiftiMasker that is not fitted; call its `fit`"
    ):
        volume_neighbours(masker, 3)
    masker.fit()
    check(volume_neighbours(masker, 3), volume_neighbours(image, 3))
    data = from_volume(volumes, masker)
    np.testing.assert_allclose(data, from_volume(volumes, image), rtol=1e-6)
    np.testing.assert_allclose(to_volume(data.T, masker).get_fdata()[mask], data.T)
    one = image_of(volumes.get_fdata()[..., 0])
    np.testing.assert_allclose(from_volume(one, masker), data[:1], rtol=1e-6)
    labels = maskers.NiftiLabelsMasker(image).fit()
    with pytest.raises(ValueError, match="mask is a NiftiLabelsMasker without a mask of voxels"):
        from_volume(volumes, labels)


@pytest.mark.parametrize(
    ("mask", "more", "message"),
    [
        (
            np.ones((3, 3)),
            {},
            r"mask has shape \(3, 3\) and type float64; expected numbers of shape \(x, y, z\)",
        ),
        (np.zeros((3, 3, 3)), {}, r"mask of shape \(3, 3, 3\) is empty: all its voxels are 0"),
        (np.full((3, 3, 3), np.nan), {}, "mask has 27 voxels with NaN or infinity"),
        (np.ones((3, 3, 3)), {"radius": 0}, "radius is 0; expected a number above 0"),
        (np.ones((3, 3, 3)), {"radius": "2"}, "radius is '2'; expected a number above 0"),
        (
            np.ones((3, 3, 3)),
            {"unit": "mm"},
            "unit is 'mm', and mask is an array without an affine",
        ),
        (np.ones((3, 3, 3)), {"unit": "cm"}, "unit 'cm' is not one of: mm, voxels"),
        (np.ones((3, 3, 3)), {"min_share": 2}, "min_share is 2; expected a share from 0 to 1"),
        (np.eye(3)[None], {"min_share": 1}, "no sphere of radius 1 has a share of 1 in the mask"),
    ],
)
def test_wrong_masks_are_refused(mask, more, message):
    with pytest.raises(ValueError, match=message):
        volume_neighbours(mask, **{"radius": 1, **more})


def test_wrong_files_are_refused(tmp_path):
    pytest.importorskip("nibabel")
    with pytest.raises(FileNotFoundError, match="there is no image"):
        volume_neighbours(tmp_path / "none.nii", 1)
    (tmp_path / "text.txt").write_text("no image")
    with pytest.raises(ValueError, match="is not an image that nibabel reads"):
        volume_neighbours(str(tmp_path / "text.txt"), 1)
    flat = image_of(np.ones((3, 3, 3)), AFFINE[:, [0, 0, 2, 3]])
    with pytest.raises(ValueError, match="affine that maps volumes to a plane"):
        volume_neighbours(flat, 1)


def test_wrong_images_are_refused():
    mask, volumes = image_of(np.ones((3, 4, 5))), np.ones((3, 4, 5, 2), np.float32)
    with pytest.raises(
        ValueError, match=r"images has shape \(3, 4, 2, 2\), and mask has shape \(3, 4, 5\)"
    ):
        from_volume(volumes[:, :, :2], mask)
    with pytest.raises(ValueError, match=r"images\[1\] has shape \(5, 4, 3\), and mask has shape"):
        from_volume([volumes[..., 0], volumes[..., 0].T], mask)
    with pytest.raises(ValueError, match="images is empty"):
        from_volume([], mask)
    moved = AFFINE.copy()
    moved[0, 3] += 2
    with pytest.raises(
        ValueError, match="images and mask have other affines: their voxels lie up to 2 mm apart"
    ):
        from_volume(image_of(volumes, moved), mask)
    volumes[2, 1, 3, 1] = np.nan
    sentence = r"NaN or infinity in 1 voxels of the mask, first in volume 1 at voxel \(2, 1, 3\)"
    with pytest.raises(ValueError, match=sentence):
        from_volume(volumes, mask)
    with pytest.raises(ValueError, match="images hold complex64; expected real numbers"):
        from_volume(volumes.astype(np.complex64), mask)


def test_wrong_values_are_refused(tmp_path):
    mask = np.ones((2, 2, 2))
    with pytest.raises(
        ValueError, match=r"values have shape \(7,\); expected \(8,\) or \(8, maps\)"
    ):
        to_volume(np.ones(7), mask)
    with pytest.raises(ValueError, match="values hold <U1; expected real numbers"):
        to_volume(["a"] * 8, mask)
    with pytest.raises(ValueError, match="centres are from 3 to 9, and there are 8 channels"):
        to_volume(np.ones(2), mask, centres=[3, 9])
    with pytest.raises(ValueError, match="centres hold float64 of shape"):
        to_volume(np.ones(2), mask, centres=[0.5, 1])
    with pytest.raises(
        ValueError, match="centres are neighbourhoods of 27 channels, and there are 8"
    ):
        to_volume(np.ones(27), mask, centres=volume_neighbours(np.ones((3, 3, 3)), 1))
    with pytest.raises(ValueError, match="path is given, and mask is an array without an affine"):
        to_volume(np.ones(8), mask, path=tmp_path / "a.nii")
