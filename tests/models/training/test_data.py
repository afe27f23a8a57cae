import os
import shutil
import threading
import zipfile

import numpy as np
import pytest
from miniature import CLASSES, N_TRAIN, N_VAL, pack, write_images
from PIL import Image

from fastrdm.images import Preprocessing
from models.training.data import find_images, training_pixels


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "set")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_classes_and_labels_follow_the_folders_names(folder):
    images = find_images(folder)
    assert images.classes == CLASSES
    assert (len(images.train), len(images.val)) == (3 * N_TRAIN, 3 * N_VAL)
    for split in (images.train, images.val):
        assert split.labels.dtype == np.int64
        for file, label in zip(split.files, split.labels, strict=True):
            assert file.name.startswith(f"{CLASSES[label]}/")
    assert list(images.train.labels) == sorted(images.train.labels)


@pytest.mark.parametrize("top", ["", "tiny/"])
def test_a_zip_is_equivalent_to_its_folder(folder, tmp_path, cache, top):
    packed = find_images(pack(folder, tmp_path / "set.zip", top))
    unpacked = find_images(folder)
    assert packed.classes == unpacked.classes
    for ours, theirs in ((packed.train, unpacked.train), (packed.val, unpacked.val)):
        assert ours.fingerprint == theirs.fingerprint
        assert [f.name for f in ours.files] == [f.name for f in theirs.files]
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        a, b = training_pixels(ours, 16, folder=cache), training_pixels(theirs, 16, folder=cache)
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("resize", ["pil-bilinear", "pil-bicubic"])
def test_pixels_agree_with_preprocessing(folder, cache, resize):
    split = find_images(folder).val
    pixels = training_pixels(split, 16, resize, cache)
    files = [folder / "val" / file.name for file in split.files]
    expected = Preprocessing(size=(16, 16), resize=resize).pixels(files)
    np.testing.assert_array_equal(pixels.transpose(0, 2, 3, 1), expected)
    assert not pixels.flags.writeable


def test_images_are_decoded_once_and_reported(folder, cache):
    lines = []
    first = training_pixels(find_images(folder).val, 16, folder=cache, say=lines.append)
    again = training_pixels(find_images(folder).val, 16, folder=cache, say=lines.append)
    np.testing.assert_array_equal(first, again)
    assert len(lines) == 1 and "6 images of val" in lines[0]
    assert len(list(cache.iterdir())) == 1
    training_pixels(find_images(folder).val, 12, folder=cache, say=lines.append)
    assert len(lines) == 2


def test_a_changed_image_is_decoded_again(folder, cache):
    path = folder / "val" / "bee" / "bee_0.png"
    before = training_pixels(find_images(folder).val, 16, folder=cache)
    status = path.stat()
    # The same size, so that only the time differs.
    old = Image.open(path).convert("RGB")
    content = path.read_bytes()
    Image.fromarray(255 - np.asarray(old)).save(path)
    path.write_bytes(path.read_bytes().ljust(len(content), b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after = training_pixels(find_images(folder).val, 16, folder=cache)
    assert (before[2] != after[2]).any()
    np.testing.assert_array_equal(before[[0, 1, 3, 4, 5]], after[[0, 1, 3, 4, 5]])


def test_a_truncated_file_is_written_again(folder, cache):
    split = find_images(folder).val
    whole = np.array(training_pixels(split, 16, folder=cache))
    (file,) = cache.iterdir()
    content = file.read_bytes()
    for damaged in (content[:-1], content[:50], b"", b"something else"):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(training_pixels(split, 16, folder=cache), whole)
    assert file.read_bytes() == content


def test_threads_may_write_the_same_file(folder, cache):
    split, found = find_images(folder).train, []
    threads = [
        threading.Thread(target=lambda: found.append(training_pixels(split, 16, folder=cache)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(list(cache.iterdir())) == 1
    for pixels in found:
        np.testing.assert_array_equal(pixels, found[0])


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_undecodable_images_are_counted_and_the_first_named(folder, tmp_path, cache, kind):
    (folder / "val/ant/ant_0.png").write_bytes(b"no image")
    cut = folder / "val/bee/bee_1.png"
    cut.write_bytes(cut.read_bytes()[:200])
    (folder / "val/cat/cat_0.png").write_bytes(b"")
    (folder / "val/cat/cat_1.png").write_bytes(b"")
    root = folder if kind == "folder" else pack(folder, tmp_path / "set.zip")
    with pytest.raises(ValueError, match=r"4 of 6 images") as error:
        training_pixels(find_images(root).val, 16, folder=cache)
    for words in ("val/ant/ant_0.png: it is not in a format", "val/bee/bee_1.png", "and 1 more"):
        assert words in str(error.value)
    assert list(cache.iterdir()) == []


def test_a_damaged_member_of_a_zip_is_named(folder, tmp_path, cache):
    path = pack(folder, tmp_path / "set.zip")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("val/bee/bee_0.png")
    content[info.header_offset + 30 + len(info.filename) + 60] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"1 of 6 images of .*val/bee/bee_0.png.*CRC"):
        training_pixels(find_images(path).val, 16, folder=cache)


def test_a_full_disk_is_reported_before_decoding(folder, cache, monkeypatch):
    full = shutil.disk_usage(folder)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(OSError, match=r"0\.0 GB free.* take .* GB; .* --cache"):
        training_pixels(find_images(folder).val, 16, folder=cache)
    assert list(cache.iterdir()) == []


def test_hidden_and_other_files_are_ignored_and_subfolders_are_not(folder):
    (folder / "train/ant/.hidden.png").write_bytes(b"")
    (folder / "train/notes.txt").write_text("")
    (folder / "train/ant/deeper").mkdir()
    shutil.copy(folder / "train/ant/ant_0.png", folder / "train/ant/deeper/ant_9.PNG")
    images = find_images(folder)
    assert len(images.train) == 3 * N_TRAIN + 1
    assert sum(images.train.labels == 0) == N_TRAIN + 1


def _remove_val(folder):
    shutil.rmtree(folder / "val")


def _remove_class(folder):
    shutil.rmtree(folder / "val/bee")


def _keep_one_class(folder):
    for split in ("train", "val"):
        for name in CLASSES[1:]:
            shutil.rmtree(folder / split / name)


def _flat(folder):
    shutil.move(folder / "val/bee/bee_0.png", folder / "val/bee_0.png")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (_remove_val, FileNotFoundError, r"no images in val/CLASS/"),
        (_remove_class, ValueError, r"the class bee is in only one of train and val"),
        (_keep_one_class, ValueError, r"only the class ant; training needs two"),
        (_flat, ValueError, r"val/bee_0.png is not in a class folder"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_another_layout_is_refused(folder, tmp_path, kind, change, error, words):
    change(folder)
    root = folder if kind == "folder" else pack(folder, tmp_path / "set.zip", "top/")
    with pytest.raises(error, match=words):
        find_images(root)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder or zip"):
        find_images(tmp_path / "nowhere")
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(ValueError, match="neither a folder nor a zip"):
        find_images(tmp_path / "text.zip")


def test_the_miniature_is_found(data_root):
    path = data_root / "tiny-imagenet-100.zip"
    if not path.is_file():
        pytest.skip(f"no {path}")
    images = find_images(path)
    assert len(images.classes) == 100
    assert (len(images.train), len(images.val)) == (25_000, 2_000)
    assert set(np.bincount(images.train.labels)) == {250}


def test_a_transparent_image_is_refused_or_composed(folder, cache):
    path = folder / "val" / "bee" / "bee_0.png"
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(path)
    split = find_images(folder).val
    with pytest.raises(ValueError, match=r"^1 of 6 images .*val/bee/bee_0\.png: .*are transparent"):
        training_pixels(split, 16, folder=cache)
    place = [file.name for file in split.files].index("bee/bee_0.png")
    for background, value in (("#000000", 0), ("#ffffff", 255)):
        pixels = training_pixels(split, 16, folder=cache, background=background)
        assert np.unique(pixels[place]).tolist() == [value]
