"""What is understood of a study, and every suspicion."""

import dataclasses
import json
import re
import warnings

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

import fastrdm
from fastrdm import Preprocessing, Target, check_study
from fastrdm.studies import Study, check_studies

N, SUBJECTS = 8, 6
NAMES = [f"image_{i:02}.png" for i in range(N)]
SIZE = (16, 16)
PREPROCESSING = Preprocessing(size=SIZE)
SETTINGS = 'order = "sorted"\n[targets.it]\nfile = "it.npy"\n'


def subjects(seed=0, n=SUBJECTS, noise=1.0):
    """Square RDMs that have a common part."""
    rng = np.random.default_rng(seed)
    n_pairs = N * (N - 1) // 2
    common = np.random.default_rng(99).random(n_pairs)
    return np.stack([squareform(1 + common + noise * rng.random(n_pairs)) for _ in range(n)])


def picture(i, size=SIZE):
    pixels = np.random.default_rng(i).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write(folder, rdms=None, settings=SETTINGS):
    """A study that nothing is wrong with."""
    (folder / "stimuli").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        picture(i).save(folder / "stimuli" / name)
    np.save(folder / "it.npy", subjects() if rdms is None else rdms)
    (folder / "study.toml").write_text(settings)
    return folder


def check(folder, **options):
    return check_study(folder, preprocessing=PREPROCESSING, **options)


def found(result, kind):
    """The only suspicion, which is of this kind."""
    (one,) = result.suspicions
    assert one.kind == kind, one
    assert not result.errors
    return one


def text_of(result, kind):
    """The text of the only suspicion of this kind."""
    (text,) = [each.text for each in result.suspicions if each.kind == kind]
    return text


def test_nothing_is_wrong(tmp_path):
    result = check(write(tmp_path / "mine"))
    assert (result.suspicions, result.errors) == ((), ())
    assert (result.name, result.order, result.folder) == (
        "mine",
        "sorted",
        str(tmp_path / "mine/stimuli"),
    )
    assert [(each.row, each.name) for each in result.stimuli] == list(enumerate(NAMES))
    assert {(s.image.format, s.image.width, s.image.height) for s in result.stimuli} == {
        ("PNG", 16, 16)
    }
    (facts,) = result.regions
    assert (facts.n_subjects, facts.n_times, facts.n_conditions) == (SUBJECTS, 1, N)
    assert (facts.protocol, facts.nan_policy, facts.bound) == ("algonauts2019", "raise", "upper")
    assert facts.source == str(tmp_path / "mine/it.npy")
    assert dataclasses.is_dataclass(result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.name = "other"


def test_agreement_of_subjects(tmp_path):
    rdms = subjects(n=5)
    (facts,) = check(write(tmp_path, rdms)).regions
    condensed = np.stack([squareform(rdm, checks=False) for rdm in rdms])
    others = [condensed[np.arange(5) != i].mean(axis=0) for i in range(5)]
    expected = [spearmanr(a, b).statistic for a, b in zip(condensed, others, strict=True)]
    np.testing.assert_allclose(facts.leave_one_out, expected, atol=1e-12)
    assert facts.mean_leave_one_out == pytest.approx(np.mean(expected))
    pairwise = spearmanr(condensed.T).statistic
    assert facts.between_subjects == pytest.approx(pairwise[np.triu_indices(5, 1)].mean())
    halves = [
        (a, b, [i for i in range(5) if i not in (a, b)]) for a in range(5) for b in range(a + 1, 5)
    ]
    split = np.mean(
        [
            spearmanr(condensed[[a, b]].mean(axis=0), condensed[rest].mean(axis=0)).statistic
            for a, b, rest in halves
        ]
    )
    assert (facts.split_half, facts.n_splits) == (pytest.approx(split), 10)
    assert facts.spearman_brown == pytest.approx(2 * split / (1 + split))
    ceiling = fastrdm.noise_ceiling(rdms)
    assert (facts.lower, facts.upper) == (ceiling.lower, ceiling.upper)
    assert (facts.ceiling, facts.ceiling_source) == (pytest.approx(ceiling.upper), "computed")


@pytest.mark.parametrize(("n", "n_splits"), [(4, 3), (5, 10), (12, 100)])
def test_number_of_splits(tmp_path, n, n_splits):
    assert check(write(tmp_path, subjects(n=n))).regions[0].n_splits == n_splits


def test_every_transparent_image_is_listed(tmp_path):
    write(tmp_path)
    for i in (2, 5):
        image = picture(i).convert("RGBA")
        image.putpixel((0, 0), (0, 0, 0, 0))
        image.save(tmp_path / "stimuli" / NAMES[i])
    one = found(check(tmp_path), "transparency")
    assert one.stimuli == (NAMES[2], NAMES[5])
    assert "image_02.png (row 2), 0.391 % of its pixels; image_05.png (row 5)" in one.text
    assert "no background is set" in one.text
    (tmp_path / "study.toml").write_text('background = "#808080"\n' + SETTINGS)
    assert (
        "shown on #808080; check that this is the colour"
        in found(check(tmp_path), "transparency").text
    )


def test_unreadable_images_are_errors(tmp_path):
    write(tmp_path)
    for i in (1, 3):
        (tmp_path / "stimuli" / NAMES[i]).write_bytes(b"")
    result = check(tmp_path)
    assert [NAMES[1] in result.errors[0], NAMES[3] in result.errors[1]] == [True, True]
    assert len(result.errors) == 2


def test_images_with_the_same_pixels(tmp_path):
    write(tmp_path)
    picture(1).save(tmp_path / "stimuli" / NAMES[6])
    one = found(check(tmp_path), "duplicates")
    assert "image_01.png (row 1) = image_06.png (row 6)" in one.text
    assert one.stimuli == (NAMES[1], NAMES[6])


def test_test_stimuli_are_checked_too(tmp_path):
    write(tmp_path, settings='test_stimuli = "test"\n' + SETTINGS)
    (tmp_path / "test").mkdir()
    picture(1).convert("L").save(tmp_path / "test/x.png")
    picture(2).save(tmp_path / "test/y.png")
    one = found(check(tmp_path), "grey")
    assert "1 of 2 test stimuli are grey, the others have colours" in one.text
    assert str(tmp_path / "test/x.png") in one.text


@pytest.mark.parametrize(
    ("image", "kind", "text"),
    [
        (
            picture(3, (32, 16)),
            "aspect",
            "squashed to 16 × 16: image_03.png (row 3), 32 × 16; the stim",
        ),
        (
            picture(3, (7, 7)),
            "small",
            "enlarged more than twice, to 16 × 16: image_03.png (row 3), 7 × 7",
        ),
        (
            picture(3).convert("L"),
            "grey",
            "1 of 8 stimuli are grey, the others have colours: image_03.png (row 3)",
        ),
        (Image.new("RGB", SIZE, "red"), "uniform", "have a single colour: image_03.png (row 3)"),
    ],
)
def test_odd_images(tmp_path, image, kind, text):
    write(tmp_path)
    image.save(tmp_path / "stimuli" / NAMES[3])
    assert text in found(check(tmp_path), kind).text


def test_a_crop_leaves_out_the_sides(tmp_path):
    write(tmp_path)
    picture(3, (32, 16)).save(tmp_path / "stimuli" / NAMES[3])
    result = check_study(tmp_path, preprocessing=Preprocessing(size=SIZE, crop=1.0))
    assert "lose their sides by the crop to 16 × 16: image_03.png" in found(result, "aspect").text


def test_cmyk(tmp_path):
    write(tmp_path)
    (tmp_path / "stimuli" / NAMES[3]).unlink()
    picture(3).convert("CMYK").save(tmp_path / "stimuli/image_03.jpg")
    assert (
        "without their colour profile: image_03.jpg (row 3)" in found(check(tmp_path), "cmyk").text
    )


def rename(folder, names):
    for old, new in zip(NAMES, names, strict=True):
        (folder / "stimuli" / old).rename(folder / "stimuli" / new)


UNPADDED = [f"image_{i}.png" for i in range(5, 5 + N)]


@pytest.mark.parametrize("order", ["sorted", "order.txt"])
def test_unpadded_order(tmp_path, order):
    write(tmp_path, settings=SETTINGS.replace("sorted", order))
    rename(tmp_path, UNPADDED)
    (tmp_path / "order.txt").write_text("\n".join(sorted(UNPADDED)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = found(check(tmp_path), "order")
    assert "image_10.png" in one.text
    assert "image_5.png" in one.text


@pytest.mark.parametrize("order", ["natural", "order.txt"])
def test_the_order_of_numbers_is_no_suspicion(tmp_path, order):
    write(tmp_path, settings=SETTINGS.replace("sorted", order))
    rename(tmp_path, UNPADDED)
    (tmp_path / "order.txt").write_text("\n".join(UNPADDED))
    assert check(tmp_path).suspicions == ()


def test_files_that_are_left_out(tmp_path):
    write(tmp_path, settings=SETTINGS.replace("sorted", "order.txt"))
    (tmp_path / "order.txt").write_text("\n".join(NAMES))
    (tmp_path / "stimuli/more").mkdir()
    picture(9).save(tmp_path / "stimuli/more/x.png")
    (tmp_path / "stimuli/more/y.heic").touch()
    result = check(tmp_path)
    assert [each.kind for each in result.suspicions] == ["unlisted", "unread"]
    assert (result.unlisted, result.unread) == (("more/x.png",), ("more/y.heic",))
    assert (
        "1 image is in the folder of the stimuli not listed in order.txt"
        not in result.suspicions[0].text
    )
    assert "more/x.png" in result.suspicions[0].text
    assert "more/y.heic" in result.suspicions[1].text


def region(tmp_path, rdms, settings=SETTINGS):
    return check(write(tmp_path, rdms, settings))


def test_similarities(tmp_path):
    rdms = 1 - subjects() / 4
    rdms[:, np.arange(N), np.arange(N)] = 1
    one = found(region(tmp_path, rdms), "similarities")
    assert str(tmp_path / "it.npy") in one.text
    assert "looks like similarities" in one.text
    assert one.region == "it"


def test_negative_values(tmp_path):
    rdms = subjects()
    rdms[2] -= 1.5 * (1 - np.eye(N))
    one = found(region(tmp_path, rdms), "similarities")
    assert "it (" in one.text
    assert "1 of 6 subjects has negative values" in one.text
    assert "1 - r" in one.text


def test_one_subject(tmp_path):
    result = region(tmp_path, subjects(n=1), SETTINGS + "ceiling = 0.3\n")
    assert "there is one subject" in found(result, "one subject").text
    (facts,) = result.regions
    assert (facts.leave_one_out, facts.ceiling_source) == ((), "given")
    assert np.isnan([facts.lower, facts.upper, facts.split_half, facts.mean_leave_one_out]).all()


def test_few_subjects(tmp_path):
    assert "there are 2 subjects" in found(region(tmp_path, subjects(n=2)), "few subjects").text


def test_subjects_that_do_not_agree(tmp_path):
    rdms = subjects(noise=50)
    result = region(tmp_path, rdms)
    text = text_of(result, "ceiling")
    assert "hardly agree" in text or "do not agree" in text
    assert f"noise ceiling {result.regions[0].lower:.4f}" in text


def test_subjects_that_agree_too_well(tmp_path):
    assert (
        "agree more than brains do" in found(region(tmp_path, subjects(noise=0.05)), "ceiling").text
    )


@pytest.mark.parametrize(("ceiling", "is_odd"), [(0.08, True), (0.5, False), (0.99, True)])
def test_a_given_ceiling_that_is_far_from_the_computed_one(tmp_path, ceiling, is_odd):
    result = region(tmp_path, subjects(), SETTINGS + f"ceiling = {ceiling}\n")
    assert 0.4 < result.regions[0].upper < 0.65
    if is_odd:
        text = found(result, "ceiling").text
        assert f"the given ceiling of {ceiling} is far from the upper bound" in text
    else:
        assert result.suspicions == ()


def test_a_ceiling_in_percent_is_an_error(tmp_path):
    result = region(tmp_path, subjects(), SETTINGS + "ceiling = 30.75\n")
    assert "it looks like percent, so pass 0.3075" in result.errors[0]


def test_a_subject_opposite_to_the_others(tmp_path):
    rdms = subjects(noise=0.5)
    rdms[4] = (4 - rdms[4]) * (1 - np.eye(N))
    one = found(region(tmp_path, rdms), "opposite")
    assert "subject 4 (-0." in one.text
    assert one.region == "it"


def test_a_subject_that_agrees_less(tmp_path):
    rdms = subjects(noise=0.5)
    order = np.random.default_rng(3).permutation(N)
    rdms[4] = rdms[4][np.ix_(order, order)]
    result = region(tmp_path, rdms)
    assert -0.05 < result.regions[0].leave_one_out[4] < 0.2
    assert "subject 4 (" in found(result, "odd subject").text


def test_subjects_with_the_same_rdm(tmp_path):
    rdms = subjects()
    rdms[3] = rdms[1]
    rdms[5] = 2 * rdms[0]
    text = found(region(tmp_path, rdms), "duplicates").text
    assert "subjects 0 and 5 (in other units), 1 and 3, counted from 0, have the same RDM" in text


def test_equal_ranks_are_no_copies(tmp_path):
    """Few conditions may have equal ranks by chance."""
    rdms = subjects()
    rdms[3] = rdms[1] ** 3
    assert not [each for each in region(tmp_path, rdms).suspicions if each.kind == "duplicates"]


def test_regions_with_the_same_rdms(tmp_path):
    settings = SETTINGS + '[targets.evc]\nfile = "it.npy"\n'
    assert (
        "the regions it and evc have the same RDMs"
        in found(region(tmp_path, None, settings), "duplicates").text
    )


def test_equal_conditions(tmp_path):
    rdms = subjects()
    rdms[2, 3], rdms[2, :, 3] = rdms[2, 1], rdms[2, :, 1]
    rdms[2, 3, 3] = rdms[2, 1, 3] = rdms[2, 3, 1] = 0
    text = text_of(region(tmp_path, rdms), "duplicates")
    assert "image_01.png (row 1) = image_03.png (row 3) in 1 of 6 RDMs" in text


def test_constant_conditions(tmp_path):
    rdms = subjects()
    rdms[1, 4] = rdms[1, :, 4] = 2.5
    rdms[1, 4, 4] = 0
    text = found(region(tmp_path, rdms), "constant").text
    assert "have one distance to all others" in text
    assert "image_04.png (row 4) in 1 of 6 RDMs" in text


def test_missing_values(tmp_path):
    rdms = subjects()
    rdms[1, [0, 2], [2, 0]] = np.nan
    rdms[3, 5] = rdms[3, :, 5] = np.nan
    result = region(tmp_path, rdms, 'nan_policy = "omit"\n' + SETTINGS)
    assert [each.kind for each in result.suspicions] == ["nan", "constant"]
    assert "subject 1 1 of 28, subject 3 7 of 28" in result.suspicions[0].text
    assert "are NaN throughout: image_05.png (row 5) in 1 of 6" in result.suspicions[1].text
    assert result.regions[0].n_missing == (0, 1, 0, 7, 0, 0)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["name"] == result.name


def test_nan_does_not_hide_other_suspicions(tmp_path):
    rdms = subjects()
    rdms[2] = rdms[1]
    rdms[4, [0, 2], [2, 0]] = np.nan
    result = region(tmp_path, rdms)
    (error,) = result.errors
    assert re.search(
        "targets.it: .*the first is NaN at subject 4, row 0, column 2; nan_policy = .omit.", error
    )
    assert {each.kind for each in result.suspicions} == {"nan", "duplicates"}
    assert result.regions[0].n_missing == (0, 0, 0, 0, 1, 0)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda rdms: rdms.astype(complex), r"^it: .*it.npy must hold real numbers"),
        (lambda rdms: rdms * 0 + 1, r"targets.it: [^ ]*it.npy with shape .* is constant for"),
        (lambda rdms: rdms[0], r"targets.it: [^ ]*it.npy holds one subject, .*; set ceiling"),
    ],
)
def test_errors_name_the_region_and_the_file(tmp_path, change, error):
    (found,) = region(tmp_path, change(subjects())).errors
    assert re.search(error, found)
    assert "subject_rdms" not in found


def test_a_subject_in_another_unit(tmp_path):
    rdms = subjects()
    rdms[2] *= 1000
    assert "subject 2 (" in text_of(region(tmp_path, rdms), "units")


def test_a_synthetic_study(tmp_path):
    assert (
        "SYNTHETIC DATA"
        in found(region(tmp_path, None, "synthetic = true\n" + SETTINGS), "synthetic").text
    )


def test_several_problems_at_once(tmp_path):
    """One region cannot be read, the other and the stimuli are checked."""
    settings = (
        SETTINGS + '[targets.evc]\nfile = "none.npy"\n[targets.v4]\nfile = "it.npy"\nceiling = 30\n'
    )
    write(tmp_path, settings=settings)
    (tmp_path / "stimuli" / NAMES[1]).write_bytes(b"")
    picture(2).save(tmp_path / "stimuli" / NAMES[3])
    result = check(tmp_path)
    assert {facts.name: facts.ceiling_source for facts in result.regions} == {
        "it": "computed",
        "v4": "invalid",
    }
    assert [*result.study.targets] == ["it"]
    assert "the regions it and v4 have the same RDMs" in result.suspicions[-1].text
    assert [each.kind for each in result.suspicions] == ["duplicates", "duplicates"]
    assert len(result.errors) == 3


def test_subjects_without_a_ceiling_are_examined(tmp_path):
    """The subjects of a negative noise ceiling are those that have to be looked at."""
    rdms = subjects(noise=0.1)
    rdms[3:] = (4 - rdms[3:]) * (1 - np.eye(N))
    result = region(tmp_path, rdms, SETTINGS + 'protocol = "rsatoolbox"\n')
    assert "the lower noise ceiling of it is -" in result.errors[0]
    assert len(result.errors) == 1
    (facts,) = result.regions
    assert (facts.ceiling_source, len(facts.leave_one_out)) == ("invalid", 6)
    assert "do not agree" in text_of(result, "ceiling")
    assert json.loads(json.dumps(result.to_dict()))["regions"][0]["ceiling"] is None


def test_one_subject_without_a_ceiling(tmp_path):
    result = region(tmp_path, subjects(n=1))
    assert "holds one subject, so no ceiling can be computed" in result.errors[0]
    assert "there is one subject" in text_of(result, "one subject")


def test_a_study_that_cannot_be_opened(tmp_path):
    write(tmp_path, settings=SETTINGS.replace("sorted", "order.txt"))
    (tmp_path / "order.txt").write_text("x.png")
    result = check(tmp_path)
    assert (result.study, result.stimuli) == (None, ())
    assert "lists x.png, which is not an image" in result.errors[0]


def test_a_study_in_memory(tmp_path):
    paths = []
    for i, name in enumerate(["a/x.png", "b/x.png", "b/y.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(i).save(tmp_path / name)
        paths.append(tmp_path / name)
    target = Target(np.random.default_rng(0).random((5, 3)), ceiling=0.9)
    result = check_study(Study("mine", tuple(paths), {"it": target}), preprocessing=PREPROCESSING)
    assert [each.name for each in result.stimuli] == ["a/x.png", "b/x.png", "b/y.png"]
    assert result.regions[0].source == ""


def test_time_points(tmp_path):
    rdms = np.stack([subjects(0), subjects(1), subjects(2)], axis=1)
    (facts,) = region(tmp_path, rdms).regions
    assert (facts.n_times, len(facts.leave_one_out)) == (3, SUBJECTS)
    expected = fastrdm.noise_ceiling(rdms, squared=False).lower_per_subject
    np.testing.assert_allclose(facts.leave_one_out, expected)


def test_a_folder_of_studies(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name)
    with pytest.raises(
        ValueError, match="holds several studies; pass the name of one of them: a, b"
    ):
        check(tmp_path)
    assert check(tmp_path, name="b").name == "b"
    assert check(tmp_path / "a/study.toml").name == "a"
    assert [each.name for each in check_studies(tmp_path, ["b", "a"])] == ["b", "a"]
    with pytest.raises(FileNotFoundError, match="none is not a folder"):
        check(tmp_path / "none")


def test_the_challenge(challenge):
    small, large = check_studies(challenge, modality="both")
    assert (small.suspicions, small.errors) == ((), ())
    ceilings = {facts.name: (facts.ceiling, facts.ceiling_source) for facts in small.regions}
    assert ceilings["it"] == (0.3075, "published")
    assert [each.image.problem for each in small.stimuli] == [""] * 92
    assert {(each.kind, each.region) for each in large.suspicions} == {
        ("odd subject", "evc"),
        ("ceiling", "it"),
        ("odd subject", "early"),
    }


def test_subjects_are_named_if_the_file_names_them(tmp_path):
    """One variable for each participant, as Meadows writes them."""
    rdms = subjects(noise=0.5)
    rdms[4] = (4 - rdms[4]) * (1 - np.eye(N))
    write(tmp_path, settings=SETTINGS.replace("it.npy", "meadows.mat") + 'key = "rdm_*"\n')
    animals = ["ant", "bee", "cat", "dog", "elk", "fox"]
    arrays = {f"rdm_{name}": squareform(rdm)[None] for name, rdm in zip(animals, rdms, strict=True)}
    savemat(tmp_path / "meadows.mat", arrays)
    result = check(tmp_path)
    assert [name.rpartition("_")[2] for name in result.regions[0].subjects] == animals
    (text,) = [each.text for each in result.suspicions if each.kind == "opposite"]
    assert re.search(r"subject 4 '\w*elk' \(-0\.", text)


def test_the_human_subjects_of_kriegeskorte(data_root, tmp_path):
    write(tmp_path)
    source = data_root / "kriegeskorte2008/92_brainRDMs.mat"
    for path in (tmp_path / "stimuli").iterdir():
        path.unlink()
    for i in range(92):
        picture(i).save(tmp_path / f"stimuli/{i:02}.png")
    (tmp_path / "brain.mat").write_bytes(source.read_bytes())
    fields = 'file = "brain.mat"\naxes = ["subjects", "sessions"]\nprotocol = "rsatoolbox"\n'
    (tmp_path / "study.toml").write_text(SETTINGS.replace('file = "it.npy"\n', fields))
    result = check(tmp_path)
    (facts,) = result.regions
    assert (facts.n_subjects, facts.n_conditions, facts.source.split()[0]) == (4, 92, "RDMs")
    assert (facts.lower, facts.upper) == (
        pytest.approx(0.37231, abs=1e-5),
        pytest.approx(0.66572, abs=1e-5),
    )
    assert result.errors == ()
