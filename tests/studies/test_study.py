import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fastrdm import noise_ceiling
from fastrdm.studies import find_data, open_studies

NAMES = ["zebra.png", "ant.png", "mole.png", "cat.png"]
BASIC = 'order = "order.txt"\n[targets.it]\nfile = "it.npy"\n'


def rdms(seed, *shape):
    values = np.random.default_rng(seed).random((*shape, shape[-1])) + 0.1
    return values + np.swapaxes(values, -1, -2)


def write_study(folder, settings=BASIC, arrays=None):
    for sub in ("stimuli", "extra"):
        (folder / sub).mkdir(parents=True)
        for name in NAMES:
            Image.new("RGB", (8, 8)).save(folder / sub / name)
    (folder / "order.txt").write_text("\n".join(NAMES) + "\n")
    np.save(folder / "it.npy", rdms(0, 5, 4))
    np.savez(folder / "several.npz", v1=rdms(1, 5, 4), v4=rdms(2, 5, 2, 4), **(arrays or {}))
    (folder / "study.toml").write_text(settings)
    return folder


def test_a_study_in_full(tmp_path):
    settings = """
        name = "objects"
        description = "Four animals"
        synthetic = true
        stimuli = "extra"
        test_stimuli = "stimuli"
        order = "order.txt"
        [targets.v1]
        file = "several.npz"
        key = "v1"
        [targets.v4]
        file = "several.npz"
        key = "v4"
        protocol = "rsatoolbox"
        ceiling = 0.5
        [truth]
        v1 = "conv1"
    """
    (study,) = open_studies(write_study(tmp_path, settings))
    assert (study.name, study.description, study.synthetic) == ("objects", "Four animals", True)
    assert study.stimuli == tuple(tmp_path / "extra" / name for name in NAMES)
    assert study.test_stimuli == tuple(tmp_path / "stimuli" / name for name in sorted(NAMES))
    assert study.truth == {"v1": "conv1"}
    v1, v4 = study.targets.values()
    assert (v1.name, v1.protocol.name, v1.n_subjects) == ("v1", "algonauts2019", 5)
    assert (v4.ceiling, v4.protocol.name, v4.n_times) == (0.5, "rsatoolbox", 2)


def with_gap(values):
    values[1, [0, 2], [2, 0]] = np.nan
    return values


POLICIES = {
    "of the study": 'nan_policy = "omit"\n' + BASIC,
    "of the target": BASIC + 'nan_policy = "omit"',
    "of the target, not of the study": 'nan_policy = "raise"\n' + BASIC + 'nan_policy = "omit"',
}


@pytest.mark.parametrize("settings", POLICIES.values(), ids=POLICIES)
def test_a_policy_for_nan(tmp_path, settings):
    bad = with_gap(rdms(3, 5, 4))
    settings = settings.replace("it.npy", "several.npz") + '\nkey = "bad"'
    (study,) = open_studies(write_study(tmp_path, settings, {"bad": bad}))
    target = study.targets["it"]
    assert target.nan_policy == "omit"
    assert target.ceiling == noise_ceiling(bad, nan_policy="omit").upper


def test_nan_on_one_side_of_the_diagonal_is_an_asymmetry(tmp_path):
    bad = rdms(3, 5, 4)
    bad[1, 0, 2] = np.nan
    settings = BASIC.replace("it.npy", "several.npz") + 'key = "bad"\nnan_policy = "omit"'
    with pytest.raises(ValueError, match="not symmetric"):
        open_studies(write_study(tmp_path, settings, {"bad": bad}))


def test_defaults(tmp_path):
    (study,) = open_studies(write_study(tmp_path / "mine"))
    assert (study.name, study.synthetic, study.test_stimuli) == ("mine", False, ())
    assert study.targets["it"].nan_policy == "raise"
    assert [path.name for path in study.stimuli] == NAMES


def test_sorted_order(tmp_path):
    settings = BASIC.replace("order.txt", "sorted")
    (study,) = open_studies(write_study(tmp_path, settings))
    assert [path.name for path in study.stimuli] == sorted(NAMES)


def test_order_from_a_spreadsheet(tmp_path):
    write_study(tmp_path, BASIC.replace("order.txt", "order.csv"))
    lines = ["category,stimulus", *(f"1,{name}" for name in NAMES)]
    (tmp_path / "order.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    (study,) = open_studies(tmp_path)
    assert [path.name for path in study.stimuli] == NAMES


def test_images_that_are_not_listed_are_left_out(tmp_path):
    write_study(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "stimuli" / "unseen.png")
    (study,) = open_studies(tmp_path)
    assert [path.name for path in study.stimuli] == NAMES


def test_one_subject_with_a_ceiling(tmp_path):
    write_study(tmp_path, BASIC + "ceiling = 0.3\n")
    np.save(tmp_path / "it.npy", rdms(0, 4))
    assert open_studies(tmp_path)[0].targets["it"].n_subjects == 1


def test_a_folder_of_studies(tmp_path):
    for name in ("b", "a", "c"):
        write_study(tmp_path / name)
    assert [study.name for study in open_studies(tmp_path)] == ["a", "b", "c"]
    assert [study.name for study in open_studies(tmp_path, ["c", "a"])] == ["c", "a"]
    with pytest.raises(ValueError, match="no study named 'x', 'y' in .*; it holds: a, b, c"):
        open_studies(tmp_path, ["a", "x", "y"])
    write_study(tmp_path / "d", 'name = "a"\n' + BASIC)
    with pytest.raises(ValueError, match="several studies in .* have the name 'a'"):
        open_studies(tmp_path)


def test_only_requested_studies_are_read(tmp_path):
    for name in ("good", "bad"):
        write_study(tmp_path / name)
    (tmp_path / "bad" / "it.npy").unlink()
    assert [study.name for study in open_studies(tmp_path, ["good"])] == ["good"]


def test_the_challenge(data_root, challenge):
    for root in (data_root, challenge):
        studies = open_studies(root, ["118", "92"])
        assert [study.name for study in studies] == ["118", "92"]
        for study in studies:
            assert [*study.targets] == ["evc", "it"]
            assert len(study.stimuli) == study.targets["it"].n_conditions == int(study.name)
            assert len(study.test_stimuli) == 78
            assert not study.synthetic
    assert [study.name for study in open_studies(challenge)] == ["92", "118"]
    (meg,) = open_studies(challenge, ["92"], "meg")
    assert [*meg.targets] == ["early", "late"]
    (both,) = open_studies(challenge, ["92"], "both")
    assert [*both.targets] == ["evc", "it", "early", "late"]


def write_challenge(root, n_images, n_conditions, name="92", folder="Training_Data/92_Image_Set"):
    images = root / folder / f"{name}images"
    images.mkdir(parents=True)
    for i in range(n_images):
        Image.new("RGB", (8, 8)).save(images / f"{i}.png")
    arrays = {key: rdms(0, 3, n_conditions) for key in ("EVC_RDMs", "IT_RDMs")}
    savemat(images.parent / "target_fmri.mat", arrays)


def test_challenge_image_count(tmp_path):
    write_challenge(tmp_path, 5, 6)
    with pytest.raises(ValueError, match=r"target_fmri.mat has 6 conditions .* has 5 images"):
        open_studies(tmp_path)


def test_challenge_beside_own_study_and_missing_targets(tmp_path):
    write_challenge(tmp_path / "algonauts2019", 5, 5)
    write_study(tmp_path / "mine")
    assert [study.name for study in open_studies(tmp_path)] == ["92", "mine"]
    assert [*open_studies(tmp_path, ["92"], "both")[0].targets] == ["evc", "it"]
    with pytest.raises(ValueError, match=r"92_Image_Set has no target_meg.mat"):
        open_studies(tmp_path, ["92"], "meg")


def test_test_set_with_targets_is_a_study(tmp_path):
    write_challenge(tmp_path, 5, 5, "78", "Test_Data")
    assert [study.name for study in open_studies(tmp_path)] == ["78"]


def test_nothing_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"looked for study.toml .* `fastrdm sample DIR`"):
        open_studies(tmp_path)
    with pytest.raises(FileNotFoundError, match="none is not a folder"):
        open_studies(tmp_path / "none")
    with pytest.raises(ValueError, match="modality 'eeg' is not one of: fmri, meg, both"):
        open_studies(tmp_path, modality="eeg")


SEVERAL = BASIC.replace("it.npy", "several.npz")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("order = ", "study.toml is not valid TOML"),
        ('[targets.it]\nfile = "it.npy"', "study.toml: order is missing"),
        ('order = "sorted"', "study.toml: targets is missing"),
        ('order = "sorted"\ntargets = 3', "targets = 3 is not a table"),
        ('order = "sorted"\n[targets]\nit = "it.npy"', "targets.it is 'it.npy', not a table"),
        ('order = "sorted"\n[targets.it]\nkey = "it"', "targets.it.file is missing"),
        ('stimulus = "x"\n' + BASIC, "unknown field stimulus; the nearest is stimuli"),
        (BASIC + 'keys = "x"', "unknown field targets.it.keys; the nearest is targets.it.key"),
        ("synthetic = 1\n" + BASIC, "synthetic = 1 is not true or false"),
        (BASIC + "ceiling = true", "targets.it.ceiling = True is not a number"),
        (BASIC + "ceiling = -1", "targets.it: .*ceiling .*positive"),
        (BASIC + "ceiling = 30.75", "targets.it: the ceiling of it is 30.75, .*like percent"),
        (BASIC + 'nan_policy = "skip"', "targets.it.nan_policy 'skip' is not one of: raise, omit"),
        ('nan_policy = "skip"\n' + BASIC, "study.toml: nan_policy 'skip' is not one of: raise"),
        ("nan_policy = 1\n" + BASIC, "nan_policy = 1 is not text"),
        (BASIC + 'protocol = "x"', "targets.it.protocol 'x' is not one of: algonauts2019, "),
        (BASIC + '[truth]\nv9 = "conv1"', "truth.v9 must name the layer of a region"),
        ('stimuli = "none"\n' + BASIC, "stimuli = 'none' is not a folder"),
        ('test_stimuli = "none"\n' + BASIC, "test_stimuli = 'none' is not a folder"),
        (BASIC.replace("order.txt", "none"), "order = 'none' is neither a file .* nor \"sorted\""),
        (BASIC.replace("order.txt", "it.npy"), "order = 'it.npy' is not UTF-8 text"),
        (BASIC.replace("it.npy", "none.npy"), "targets.it.file = 'none.npy' is not a file"),
        (SEVERAL, "targets.it.key is missing, and several arrays are in several.npz: it holds v1"),
        (SEVERAL + 'key = "v2"', "targets.it.key = 'v2' is not in several.npz: it holds v1, v4"),
        (SEVERAL + 'key = "bad"', "NaN at subject 1, row 0, column 2"),
        (SEVERAL + 'key = "big"', "big of .* has 5 conditions, but the study has 4 stimuli"),
        (SEVERAL + 'key = "one"', "targets.it: .*one subject"),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    bad = rdms(3, 5, 4)
    bad[1, [0, 2], [2, 0]] = np.nan
    write_study(tmp_path, settings, {"bad": bad, "big": rdms(4, 5, 5), "one": rdms(5, 4)})
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        open_studies(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "order.txt",
            "ant.png\nbat.png",
            "lists bat.png, which is not an image.*did you mean cat.png",
        ),
        ("order.txt", "ant.png\nant.png", "lists ant.png 2 times"),
        ("order.txt", "ant.png\ncat.png\nmole.png", "has 4 conditions, but the study has 3 stim"),
        ("order.txt", "\n\n", "order = 'order.txt' lists no stimuli"),
        ("order.csv", "image\nant.png", "no column named stimulus; its first line is 'image'"),
        ("order.csv", "", "no column named stimulus"),
    ],
)
def test_bad_order(tmp_path, name, content, message):
    write_study(tmp_path, BASIC.replace("order.txt", name))
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        open_studies(tmp_path)


def test_find_data(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("FASTRDM_DATA", raising=False)
    assert find_data() is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert find_data() == tmp_path / "shared" / "data"
    monkeypatch.setenv("FASTRDM_DATA", str(tmp_path / "project"))
    assert find_data() == tmp_path / "project"
    monkeypatch.setenv("FASTRDM_DATA", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="FASTRDM_DATA is .*none, which is not a folder"):
        find_data()


def write_images(folder, *names):
    for path in (folder / "stimuli").iterdir():
        path.unlink()
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / "stimuli" / name)


UNPADDED = [f"image_{k}.png" for k in (1, 2, 10, 11)]


def test_natural_order_compares_numbers(tmp_path):
    write_study(tmp_path, BASIC.replace("order.txt", "natural"))
    write_images(tmp_path, *UNPADDED)
    (study,) = open_studies(tmp_path)
    assert [path.name for path in study.stimuli] == UNPADDED


def test_sorted_order_of_unpadded_numbers_warns(tmp_path):
    write_study(tmp_path, BASIC.replace("order.txt", "sorted"))
    write_images(tmp_path, *UNPADDED)
    message = r'"sorted", where image_10\.png comes before image_2\.png; the order "natural"'
    with pytest.warns(RuntimeWarning, match=message):
        (study,) = open_studies(tmp_path)
    assert [path.name for path in study.stimuli] == sorted(UNPADDED)


def test_natural_order_applies_to_test_stimuli(tmp_path):
    settings = BASIC.replace("order.txt", "natural")
    write_study(tmp_path, f'stimuli = "extra"\ntest_stimuli = "stimuli"\n{settings}')
    write_images(tmp_path, *UNPADDED)
    assert [path.name for path in open_studies(tmp_path)[0].test_stimuli] == UNPADDED


NFC, NFD = "caf\u00e9.png", "cafe\u0301.png"


@pytest.mark.parametrize(("listed", "there"), [(NFC, NFD), (NFD, NFC)])
def test_names_are_compared_in_one_unicode_form(tmp_path, listed, there):
    write_study(tmp_path)
    write_images(tmp_path, there, *NAMES[:3])
    (tmp_path / "order.txt").write_text("\n".join([listed, *NAMES[:3]]), "utf-8")
    assert [path.name for path in open_studies(tmp_path)[0].stimuli] == [there, *NAMES[:3]]


@pytest.mark.parametrize(
    ("listed", "there", "message"),
    [
        (
            "cat.ppm",
            ["cat.ppm"],
            r"lists cat\.ppm, which is in .* but not read: stimuli are \.avif",
        ),
        (
            "cat.png",
            ["cat.PNG"],
            r"lists cat\.png, which is in .* with other capitals, as cat\.PNG",
        ),
        (
            "\ufb01sh.png",
            ["fish.png"],
            "which is in .* under another Unicode form .*fish.png",
        ),
        (NFC, [NFC, NFD], "which exists twice, under two Unicode forms"),
        ("yak.png", ["cat.png"], r"lists yak\.png, which is not an image in"),
    ],
)
def test_errors_say_why_a_listed_image_is_not_a_stimulus(tmp_path, listed, there, message):
    write_study(tmp_path)
    write_images(tmp_path, *there, *NAMES[:3])
    (tmp_path / "order.txt").write_text("\n".join([listed, *NAMES[:3]]), "utf-8")
    with pytest.raises(ValueError, match=message):
        open_studies(tmp_path)


@pytest.mark.parametrize("order", ["sorted", "natural", "order.txt"])
def test_unread_files_are_named_if_the_numbers_differ(tmp_path, order):
    write_study(tmp_path, BASIC.replace("order.txt", order))
    write_images(tmp_path, *NAMES[:3])
    for name in ("cat.svg", "dog.heic"):
        (tmp_path / "stimuli" / name).touch()
    (tmp_path / "order.txt").write_text("\n".join(NAMES[:3]))
    with pytest.raises(
        ValueError, match=r"4 conditions, .* 3 stimuli; present but not read: cat\.svg, dog"
    ):
        open_studies(tmp_path)


def test_unlisted_images_are_named_if_the_numbers_differ(tmp_path):
    write_study(tmp_path)
    (tmp_path / "order.txt").write_text("\n".join(NAMES[:3]))
    with pytest.raises(ValueError, match=r"3 stimuli; present but not listed: cat\.png"):
        open_studies(tmp_path)


def test_unread_files_of_the_challenge_are_named(tmp_path):
    write_challenge(tmp_path, 5, 6)
    (tmp_path / "Training_Data/92_Image_Set/92images/5.svg").touch()
    with pytest.raises(ValueError, match=r"has 5 images; present but not read: 5\.svg"):
        open_studies(tmp_path)


def test_a_background_for_transparent_stimuli(tmp_path):
    write_study(tmp_path, 'background = "#80A0ff"\n' + BASIC)
    assert open_studies(tmp_path)[0].background == "#80A0ff"
    for wrong in ('"grey"', '"#fff"'):
        (tmp_path / "study.toml").write_text(f"background = {wrong}\n" + BASIC)
        with pytest.raises(ValueError, match=r'study.toml: background must be .* "#rrggbb", not'):
            open_studies(tmp_path)


def write_folders(folder, *names, settings=BASIC):
    """A study whose images are in subfolders of `stimuli`; every image has its own grey."""
    write_study(folder, settings)
    write_images(folder)
    for grey, name in enumerate(names):
        path = folder / "stimuli" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (grey,) * 3).save(path)
    return folder


def stimuli_of(folder):
    (study,) = open_studies(folder)
    return [path.relative_to(folder / "stimuli").as_posix() for path in study.stimuli]


IN_FOLDERS = ["faces/a.png", "faces/b.png", "houses/a.png", "houses/old/c.png"]


@pytest.mark.parametrize("file", ["order.txt", "order.csv"])
def test_stimuli_in_subfolders_are_listed_by_their_paths(tmp_path, file):
    write_folders(tmp_path, *IN_FOLDERS, settings=BASIC.replace("order.txt", file))
    listed = IN_FOLDERS[::-1]
    (tmp_path / file).write_text("\n".join(["stimulus"] * (file == "order.csv") + listed))
    assert stimuli_of(tmp_path) == listed
    with Image.open(open_studies(tmp_path)[0].stimuli[3]) as image:
        assert image.getpixel((0, 0)) == (0, 0, 0)


def test_paths_of_other_systems_and_unique_file_names_are_found(tmp_path):
    write_folders(tmp_path, *IN_FOLDERS)
    listed = ["c.png", "houses\\a.png", "./faces//a.png", "b.png"]
    (tmp_path / "order.txt").write_text("\n".join(listed))
    assert stimuli_of(tmp_path) == [IN_FOLDERS[k] for k in (3, 2, 0, 1)]


def test_an_image_of_the_folder_itself_comes_before_its_namesakes(tmp_path):
    write_folders(tmp_path, "a.png", *IN_FOLDERS)
    (tmp_path / "order.txt").write_text("a.png\nb.png\nc.png\nhouses/a.png")
    assert stimuli_of(tmp_path) == ["a.png", "faces/b.png", "houses/old/c.png", "houses/a.png"]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("a.png", r"lists a\.png, which is in several folders: faces/a\.png, houses/a\.png"),
        ("../stimuli/faces/a.png", r"lists \.\./stimuli.*not a path inside .*stimuli; list paths"),
        ("/faces/a.png", "lists /faces/a.png, which is not a path inside"),
        ("C:\\faces\\a.png", "which is not a path inside"),
        ("faces/A.png", "is in .* with other capitals, as faces/a.png; use that spelling"),
        ("B.png", "is in .* with other capitals, as faces/b.png; use that spelling"),
        ("faces/notes.txt", "lists faces/notes.txt, which is in .* but not read"),
        ("face/a.png", "is not an image in .*stimuli; did you mean faces/a.png"),
        ("b.png\nfaces/b.png", "lists faces/b.png 2 times"),
        ("x.png\ny.png\nz.png", r"lists x\.png, which .* \(2 more: y\.png, z\.png\)"),
        (
            "faces/b.png",
            r"has 1 stimuli; present but not read: .*; present but not listed: faces/a",
        ),
    ],
)
def test_errors_name_images_of_subfolders(tmp_path, listed, message):
    write_folders(tmp_path, *IN_FOLDERS)
    (tmp_path / "stimuli/faces/notes.txt").touch()
    (tmp_path / "order.txt").write_text(listed)
    with pytest.raises(ValueError, match=message):
        open_studies(tmp_path)


def test_an_absolute_path_is_refused(tmp_path):
    write_folders(tmp_path, *IN_FOLDERS)
    (tmp_path / "order.txt").write_text(str(tmp_path / "stimuli/faces/a.png"))
    with pytest.raises(ValueError, match="is not a path inside .*list paths relative to this"):
        open_studies(tmp_path)


def test_orders_of_subfolders(tmp_path):
    names = ["run10/a.png", "run2/a10.png", "run2/a9.png", "run/a.png"]
    write_folders(tmp_path, *names, settings=BASIC.replace("order.txt", "natural"))
    assert stimuli_of(tmp_path) == ["run/a.png", "run2/a9.png", "run2/a10.png", "run10/a.png"]
    (tmp_path / "study.toml").write_text(BASIC.replace("order.txt", "sorted"))
    with pytest.warns(RuntimeWarning, match=r"run10/a\.png comes before run2/a9\.png"):
        assert stimuli_of(tmp_path) == ["run/a.png", "run10/a.png", "run2/a10.png", "run2/a9.png"]


def test_hidden_folders_and_links_without_end_are_ignored(tmp_path):
    settings = BASIC.replace("order.txt", "sorted")
    write_folders(tmp_path, *IN_FOLDERS, ".trash/d.png", settings=settings)
    (tmp_path / "stimuli/faces/up").symlink_to(tmp_path / "stimuli", target_is_directory=True)
    assert stimuli_of(tmp_path) == IN_FOLDERS


def test_a_linked_folder_is_read(tmp_path):
    write_folders(tmp_path, *IN_FOLDERS, settings=BASIC.replace("order.txt", "sorted"))
    (tmp_path / "stimuli/faces").rename(tmp_path / "elsewhere")
    (tmp_path / "stimuli/faces").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert stimuli_of(tmp_path) == IN_FOLDERS


def test_subfolders_are_counted_if_the_numbers_differ(tmp_path):
    settings = BASIC.replace("order.txt", "sorted")
    write_folders(tmp_path, "z.png", *IN_FOLDERS, settings=settings)
    message = r"5 stimuli; subfolders are read too: 1 in the folder itself, 2 in faces, 1 in houses"
    with pytest.raises(ValueError, match=message):
        open_studies(tmp_path)


def test_the_test_stimuli_may_be_a_subfolder_of_the_stimuli(tmp_path):
    settings = 'test_stimuli = "stimuli/test"\n' + BASIC.replace("order.txt", "sorted")
    write_folders(tmp_path, *IN_FOLDERS, "test/x.png", settings=settings)
    assert stimuli_of(tmp_path) == IN_FOLDERS
    (test,) = open_studies(tmp_path)[0].test_stimuli
    assert test.name == "x.png"


@pytest.mark.parametrize("suffix", ["gif", "GIF", "jfif", "jpe", "avif"])
def test_more_formats(tmp_path, suffix):
    write_study(tmp_path, BASIC.replace("order.txt", "sorted"))
    write_images(tmp_path, *NAMES[:3], f"cat.{suffix}")
    assert open_studies(tmp_path)[0].stimuli[1].name == f"cat.{suffix}"
