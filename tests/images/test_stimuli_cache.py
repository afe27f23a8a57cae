import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from fastrdm.images import Preprocessing, cache_info, cached_pixels, clear_cache
from fastrdm.images import cache as stimuli_cache

PREPROCESSING = Preprocessing((8, 10))


def picture(seed, height=20, width=12):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def stimuli(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        Image.fromarray(picture(i)).save(path)
    return paths


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "a" / "cache"


@pytest.fixture
def counted(monkeypatch):
    """Number of decoded images."""
    decoded = []
    each = Preprocessing.each

    def counting(self, images, *arguments):
        for image in each(self, images, *arguments):
            decoded.append(image)
            yield image

    monkeypatch.setattr(Preprocessing, "each", counting)
    return decoded


def test_pixels_are_decoded_once(stimuli, folder, counted):
    expected = PREPROCESSING.pixels(stimuli)
    counted.clear()
    for _ in range(3):
        pixels = cached_pixels(stimuli, PREPROCESSING, folder)
        assert pixels.dtype == np.uint8 and not pixels.flags.writeable
        np.testing.assert_array_equal(pixels, expected)
        assert len(counted) == len(stimuli)
    (file,) = folder.iterdir()
    np.testing.assert_array_equal(np.load(file), expected)


def test_pixels_are_mapped_from_the_file(stimuli, folder):
    pixels = cached_pixels(stimuli, PREPROCESSING, folder)
    while not isinstance(pixels, np.memmap):
        pixels = pixels.base
    assert Path(pixels.filename).parent == folder and pixels.mode == "r"


def test_settings_that_do_not_change_pixels_share_them(stimuli, folder, counted, tmp_path):
    first = cached_pixels(stimuli, PREPROCESSING, folder)
    other = Preprocessing((8, 10), mean=(0, 0, 0), std=(1, 2, 3), channel_order="BGR")
    copies = [path.rename(tmp_path / f"moved-{path.name}") for path in stimuli]
    np.testing.assert_array_equal(cached_pixels(copies, other, folder, n_threads=1), first)
    assert len(counted) == len(stimuli) and cache_info(folder).n_files == 1


def test_arrays_and_pil_images_share_pixels(folder, counted):
    arrays = [picture(i) for i in range(3)]
    first = cached_pixels(arrays, PREPROCESSING, folder)
    second = cached_pixels([Image.fromarray(array) for array in arrays], PREPROCESSING, folder)
    third = cached_pixels(np.stack(arrays), PREPROCESSING, folder)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert len(counted) == 3


def changed_file(stimuli, monkeypatch):
    Image.fromarray(picture(9)).save(stimuli[2])


CHANGES = {
    "content": changed_file,
    "order": lambda stimuli, _: stimuli.reverse(),
    "fewer": lambda stimuli, _: stimuli.pop(),
    "Pillow": lambda _, monkeypatch: monkeypatch.setattr(features, "version", lambda name: "0"),
    "rules": lambda _, monkeypatch: monkeypatch.setattr(stimuli_cache, "RULES_VERSION", 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_settings_that_change_pixels_do_not_share_them(
    stimuli, folder, counted, monkeypatch, change
):
    cached_pixels(stimuli, PREPROCESSING, folder)
    CHANGES[change](stimuli, monkeypatch)
    counted.clear()
    pixels = cached_pixels(stimuli, PREPROCESSING, folder)
    assert len(counted) == len(stimuli) and cache_info(folder).n_files == 2
    np.testing.assert_array_equal(pixels, PREPROCESSING.pixels(stimuli))


@pytest.mark.parametrize("other", [Preprocessing((10, 8)), Preprocessing((8, 10), "pil-bicubic")])
def test_sizes_and_filters_do_not_share_pixels(stimuli, folder, other):
    cached_pixels(stimuli, PREPROCESSING, folder)
    np.testing.assert_array_equal(cached_pixels(stimuli, other, folder), other.pixels(stimuli))


def test_orientations_of_a_pil_image_do_not_share_pixels(folder):
    image = Image.fromarray(picture(0, 9, 9))
    turned = image.copy()
    turned.getexif()[0x0112] = 6
    pixels = [cached_pixels([one], PREPROCESSING, folder) for one in (image, turned)]
    assert not np.array_equal(*pixels)


def damage(how):
    def apply(path):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(how(content))

    return apply


@pytest.mark.parametrize(
    "how",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: bytes(len(content)),
        lambda content: content.replace(b"(5, 8, 10, 3)", b"(5, 8, 3, 10)"),
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:-32],
    ],
    ids=[
        "empty", "header cut", "digest cut", "too long", "zeros", "another shape", "changed pixel",
        "changed digest", "of an earlier version",
    ],
)  # fmt: skip
def test_a_damaged_file_is_written_again(stimuli, folder, counted, how):
    expected = np.array(cached_pixels(stimuli, PREPROCESSING, folder))
    (file,) = folder.iterdir()
    damage(how)(file)
    counted.clear()
    np.testing.assert_array_equal(cached_pixels(stimuli, PREPROCESSING, folder), expected)
    assert len(counted) == len(stimuli)
    np.testing.assert_array_equal(np.load(file), expected)


def test_a_file_under_the_name_of_another_is_written_again(stimuli, folder, counted):
    first, second = stimuli[:2], stimuli[2:4]
    cached_pixels(first, PREPROCESSING, folder)
    (file,) = folder.iterdir()
    expected = np.array(cached_pixels(second, PREPROCESSING, folder))
    (other,) = set(folder.iterdir()) - {file}
    other.write_bytes(file.read_bytes())
    counted.clear()
    np.testing.assert_array_equal(cached_pixels(second, PREPROCESSING, folder), expected)
    assert len(counted) == 2


posix = pytest.mark.skipif(os.name != "posix", reason="no owners and modes of files")


@posix
def test_the_folder_is_private(stimuli, folder):
    cached_pixels(stimuli, PREPROCESSING, folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    # One of an earlier version.
    folder.chmod(0o755)
    cached_pixels(stimuli, PREPROCESSING, folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755])
def test_a_folder_that_others_can_write_to_is_refused(stimuli, folder, mode):
    """Only a folder with the cache alone is made private: others may need the rest."""
    folder.mkdir(parents=True)
    (folder / "others").touch()
    folder.chmod(mode)
    if mode & 0o022:
        text = (
            f"the cache of pixels cannot be used: others can write to the folder {folder}; make it"
        )
        with pytest.raises(OSError, match=text) as caught:
            cached_pixels(stimuli, PREPROCESSING, folder)
        assert "\n" not in str(caught.value)
    else:
        cached_pixels(stimuli, PREPROCESSING, folder)
    assert folder.stat().st_mode & 0o777 == mode


@posix
@pytest.mark.parametrize("is_filled", [True, False])
def test_the_folder_of_another_user_is_refused(stimuli, folder, monkeypatch, is_filled):
    folder.mkdir(parents=True)
    if is_filled:
        cached_pixels(stimuli, PREPROCESSING, folder)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    text = f"cannot be used: the folder {folder} belongs to another user \\(number {user}\\)"
    with pytest.raises(OSError, match=text):
        cached_pixels(stimuli, PREPROCESSING, folder)
    monkeypatch.delenv("FASTRDM_CACHE", raising=False)
    monkeypatch.setattr(stimuli_cache, "_folder", lambda _: folder)
    with pytest.warns(RuntimeWarning, match=text):
        pixels = cached_pixels(stimuli, PREPROCESSING)
    np.testing.assert_array_equal(pixels, PREPROCESSING.pixels(stimuli))
    assert len(list(folder.iterdir())) == is_filled


def test_pixels_are_returned_unchanged(folder):
    pixels = np.stack([picture(i, 8, 10) for i in range(3)])
    got = cached_pixels(pixels, PREPROCESSING, folder)
    assert np.shares_memory(got, pixels) and pixels.flags.writeable and not got.flags.writeable
    assert not folder.exists()


def test_processes_may_write_the_same_file(stimuli, folder):
    code = (
        "import sys, zlib; from fastrdm.images import Preprocessing\n"
        "from fastrdm.images import cached_pixels\n"
        "print('ready', flush=True); input()\n"
        "print(zlib.crc32(cached_pixels(sys.argv[2:] * 40, Preprocessing((80, 90)), sys.argv[1])))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder), *map(str, stimuli)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    sums = {process.communicate()[0] for process in processes}
    assert len(sums) == 1 and all(process.returncode == 0 for process in processes)
    assert [path.suffix for path in folder.iterdir()] == [".npy"]


def broken(path):
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("spoil, error", [(broken, ValueError), (os.unlink, FileNotFoundError)])
def test_a_bad_image_is_named_and_leaves_nothing(stimuli, folder, spoil, error):
    spoil(stimuli[3])
    with pytest.raises(error, match=r"3\.png"):
        cached_pixels(stimuli, PREPROCESSING, folder)
    assert not any(folder.glob("*"))


@pytest.mark.parametrize(
    "change", [lambda path: Image.fromarray(picture(9)).save(path), os.unlink], ids=["new", "gone"]
)
def test_images_that_change_meanwhile_are_an_error(stimuli, folder, monkeypatch, change):
    map_ = stimuli_cache._map

    def map_and_change(*arguments):
        change(stimuli[0])
        return map_(*arguments)

    monkeypatch.setattr(stimuli_cache, "_map", map_and_change)
    with pytest.raises(ValueError, match="the images changed while they were decoded"):
        cached_pixels(stimuli, PREPROCESSING, folder)
    assert not any(folder.glob("*"))


@pytest.mark.parametrize("images, error", [([], ValueError), ("a.png", TypeError)])
def test_wrong_images(images, error, folder):
    with pytest.raises(error, match="images"):
        cached_pixels(images, PREPROCESSING, folder)


@pytest.fixture
def unwritable(tmp_path):
    """A folder that cannot be created, even by root."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file"


def test_a_named_folder_that_cannot_be_written_is_an_error(stimuli, unwritable, monkeypatch):
    with pytest.raises(OSError, match="the cache of pixels cannot be used: .*file"):
        cached_pixels(stimuli, PREPROCESSING, unwritable / "cache")
    monkeypatch.setenv("FASTRDM_CACHE", str(unwritable))
    with pytest.raises(OSError, match="the cache of pixels cannot be used: .*file"):
        cached_pixels(stimuli, PREPROCESSING)


def test_a_default_folder_that_cannot_be_written_is_not_used(stimuli, unwritable, monkeypatch):
    monkeypatch.delenv("FASTRDM_CACHE", raising=False)
    monkeypatch.setattr(stimuli_cache, "_folder", lambda _: unwritable)
    with pytest.warns(RuntimeWarning, match="cannot be used: .*decoded without it") as seen:
        pixels = cached_pixels(stimuli, PREPROCESSING)
    assert seen[0].filename == __file__
    assert not pixels.flags.writeable
    np.testing.assert_array_equal(pixels, PREPROCESSING.pixels(stimuli))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            cached_pixels(stimuli, PREPROCESSING)
    assert len(seen) == 1


def test_a_full_disk_is_an_error_of_the_cache(stimuli, folder, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            raise OSError(28, "No space left on device")

    open_ = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r": Full(open_(self, mode)) if mode == "xb" else open_(self, mode),
    )
    with pytest.raises(OSError, match="the cache of pixels cannot be used: .*No space left"):
        cached_pixels(stimuli, PREPROCESSING, folder)
    assert not any(folder.iterdir())


@pytest.mark.parametrize("made_by_another", [True, False])
def test_a_mapped_file_that_windows_cannot_replace(stimuli, folder, monkeypatch, made_by_another):
    def refuse(self, target):
        if made_by_another:
            target.write_bytes(self.read_bytes())
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(Path, "replace", refuse)
    if made_by_another:
        pixels = cached_pixels(stimuli, PREPROCESSING, folder)
        np.testing.assert_array_equal(pixels, PREPROCESSING.pixels(stimuli))
    else:
        with pytest.raises(OSError, match="Access is denied"):
            cached_pixels(stimuli, PREPROCESSING, folder)
    assert not any(folder.glob("*.part"))


@pytest.mark.parametrize(
    "platform, environment, expected",
    [
        ("linux", {}, "home/.cache/fastrdm"),
        ("linux", {"XDG_CACHE_HOME": "{}/xdg"}, "xdg/fastrdm"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache/fastrdm"),
        ("darwin", {"XDG_CACHE_HOME": "{}/xdg"}, "home/Library/Caches/fastrdm"),
        ("win32", {"LOCALAPPDATA": "{}/local"}, "local/fastrdm"),
        ("win32", {}, "home/AppData/Local/fastrdm"),
        ("linux", {"FASTRDM_CACHE": "{}/mine", "XDG_CACHE_HOME": "{}/xdg"}, "mine"),
    ],
)
def test_the_default_folder(tmp_path, monkeypatch, platform, environment, expected):
    for name in ("FASTRDM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(stimuli_cache.sys, "platform", platform)
    assert cache_info().folder == tmp_path / expected


def test_a_missing_home_is_an_error_of_the_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    for name in ("FASTRDM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OSError, match="cache of pixels cannot be used: Could not determine home"):
        cache_info()


def test_info_and_clearing_of_the_cache(stimuli, folder):
    assert cache_info(folder) == stimuli_cache.CacheInfo(folder, 0, 0)
    assert clear_cache(folder).n_files == 0
    sizes = [(8, 8), (16, 16), (32, 32)]
    arrays = [cached_pixels(stimuli, Preprocessing(size), folder) for size in sizes]
    mine = folder / "mine.npy"
    mine.write_bytes(b"my own")
    killed, writing = (folder / f"fastrdm-pixels-{name}.npy.0.part" for name in "ab")
    for path in (killed, writing):
        path.write_bytes(b"rest")
    os.utime(killed, (0, 0))
    info = cache_info(folder)
    assert info.n_files == 3
    assert info.n_bytes == sum(path.stat().st_size for path in folder.glob("fastrdm*.npy"))
    # Used in another order than written.
    for moment, size in enumerate([(32, 32), (8, 8), (16, 16)]):
        cached_pixels(stimuli, Preprocessing(size), folder)
        newest = max(folder.glob("fastrdm*.npy"), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (moment, moment))
    left = clear_cache(folder, max_bytes=6000)
    assert left == cache_info(folder)
    assert left.n_files == 2 and 5 * 3 * (8 * 8 + 16 * 16) < left.n_bytes < 6000
    assert clear_cache(folder).n_files == 0
    assert {path.name for path in folder.iterdir()} == {mine.name, writing.name}
    for array, size in zip(arrays, sizes, strict=True):
        np.testing.assert_array_equal(array, Preprocessing(size).pixels(stimuli))


def test_backgrounds_do_not_share_pixels(tmp_path, folder):
    path = tmp_path / "seen.png"
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(path)
    with pytest.raises(ValueError, match="pixels are transparent"):
        cached_pixels([path], PREPROCESSING, folder)
    colours = {"#000000": 0, "#ffffff": 255, "#FFFFFF": 255}
    for background, value in colours.items():
        pixels = cached_pixels([path], PREPROCESSING, folder, background=background)
        assert np.unique(pixels).tolist() == [value]
    assert cache_info(folder).n_files == 2
    hashes = {stimuli_cache.hash_images([path], background) for background in (None, *colours)}
    assert len(hashes) == 3
