"""Studies whose regions have responses: files, axes, labels, repeats, sessions, masks and measures."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.spatial.distance import pdist, squareform

import fastrdm
from fastrdm.report.check_facts import check_tables
from fastrdm.studies import check_study, open_studies

NAMES = [f"im_{i:02d}.png" for i in range(12)]
ORDER = ["im_07.png", *(name for name in NAMES if name != "im_07.png")]
N, UNITS = len(NAMES), 5
RIDGE = '\nmeasures = ["ridge"]'


def responses(seed, *shape):
    return np.random.default_rng(seed).standard_normal((*shape, N, UNITS))


def write(folder, table, order=ORDER, head="", **files):
    """Write a study with one region, `v4`; arrays in `files` become .npy, text the file of that name."""
    (folder / "stimuli").mkdir(exist_ok=True)
    for i, name in enumerate(NAMES):
        Image.new("RGB", (8, 8), (20 * i, 255 - 20 * i, i)).save(folder / "stimuli" / name)
    lines = ["stimulus,category", *(f"{name},{'ab'[i % 2]}" for i, name in enumerate(order))]
    (folder / "order.csv").write_text("\n".join(lines) + "\n")
    for name, value in files.items():
        if isinstance(value, str):
            (folder / name).write_text(value)
        else:
            np.save(folder / f"{name}.npy", value)
    settings = 'order = "order.csv"\n' if 'order = "' not in head else ""
    (folder / "study.toml").write_text(f"{settings}{head}\n[targets.v4]\n{table}\n")
    return folder


def opened(folder, **options):
    (study,) = open_studies(folder, **options)
    return study


def means(study, region="v4"):
    return study.responses[region].means


def test_a_file_for_each_subject(tmp_path):
    s1, s2 = responses(0), responses(1, 3)[..., :4]
    table = 'responses = ["s1.npy", "s2.npy"]\nmeasures = ["ridge", "cka"]'
    study = opened(write(tmp_path, table, s1=s1, s2=s2))
    assert study.regions == ("v4",)
    assert study.measures == {"v4": ("ridge", "cka")}
    assert study.subjects["v4"] == ("s1", "s2")
    found = study.responses["v4"]
    assert (found.n_subjects, found.n_conditions, found.n_units, found.n_repeats) == (
        2,
        N,
        (5, 4),
        (1, 3),
    )
    np.testing.assert_array_equal(means(study)[0], s1)
    np.testing.assert_allclose(means(study)[1], s2.mean(axis=0), rtol=1e-12)
    centred = s1 - s1.mean(axis=0)
    np.testing.assert_allclose(study.grams["v4"][0].centred(), centred @ centred.T, atol=1e-12)
    assert study.targets == {}


@pytest.mark.parametrize(
    ("shape", "axes", "subjects", "repeats"),
    [
        ((N, 5), None, 1, 1),
        ((3, N, 5), None, 3, 1),
        ((3, 2, N, 5), None, 3, 2),
        ((5, N, 4), ["units", "conditions", "repeats"], 1, 4),
        ((N, 5, 3, 1, 2), ["conditions", "units", "subjects", "repeats", "sessions"], 3, 2),
        ((1, N, 5, 1), ["conditions", "units"], 1, 1),
    ],
)
def test_axes_of_one_file(tmp_path, shape, axes, subjects, repeats):
    values = np.random.default_rng(0).standard_normal(shape)
    table = 'responses = "all.npy"\nmeasures = ["ridge"]\nzscore = false'
    if axes:
        table += f"\naxes = {json.dumps(axes)}"
    study = opened(write(tmp_path, table, all=values))
    found = study.responses["v4"]
    assert (found.n_subjects, set(found.n_repeats), set(found.n_units)) == (
        subjects,
        {repeats},
        {5},
    )
    names = axes if axes and len(axes) == len(shape) else None
    if names:
        order = [names.index(n) for n in ("conditions", "units") if n in names]
        others = tuple(i for i, n in enumerate(names) if n in ("repeats", "sessions"))
        values = np.moveaxis(values, order, (-2, -1)) if not others else values
        if "subjects" in names:
            values = np.random.default_rng(0).standard_normal(shape)[:, :, 0].mean(axis=(2, 3))
        else:
            values = values.mean(axis=others).T
        np.testing.assert_allclose(means(study)[0], values)


def test_rows_are_matched_by_name_and_repeats_gathered(tmp_path):
    rng = np.random.default_rng(0)
    trials = [*NAMES, *NAMES, "im_03.png"]
    rng.shuffle(trials)
    values = rng.standard_normal((len(trials), UNITS))
    csv = "trial,stimulus\n" + "".join(f"{i},{name}\n" for i, name in enumerate(trials))
    table = 'responses = ["s1.npy"]\nlabels = "s1.csv"\nmeasures = ["ridge"]'
    study = opened(write(tmp_path, table, s1=values, **{"s1.csv": csv}))
    (array,) = study.responses["v4"]._measured.arrays
    assert array.shape == (3, N, UNITS)
    for i, name in enumerate(ORDER):
        rows = [row for row, trial in enumerate(trials) if trial == name]
        np.testing.assert_array_equal(array[: len(rows), i], values[rows])
        assert np.isnan(array[len(rows) :, i]).all()
    assert study.facts["v4"].is_matched


def test_labels_in_a_csv_file_beside_the_responses(tmp_path):
    values = responses(0, 2).reshape(-1, UNITS)
    names = [*NAMES, *NAMES]
    rows = "".join(f"{name},{i // N}\n" for i, name in enumerate(names))
    table = 'responses = ["s1.npy"]\nsessions = "day"\nzscore = false' + RIDGE
    write(tmp_path, table, s1=values, **{"s1.csv": "stimulus,day\n" + rows})
    study = opened(tmp_path)
    order = [NAMES.index(name) for name in ORDER]
    expected = responses(0, 2).mean(axis=0)[order]
    np.testing.assert_allclose(means(study)[0], expected, rtol=1e-12)
    assert study.facts["v4"].n_sessions == (2,)
    (tmp_path / "s1.csv").write_text("name,day\n" + rows)
    with pytest.raises(ValueError, match="has 24 conditions"):
        opened(tmp_path)


def test_labels_of_the_file_itself(tmp_path):
    values, names = responses(0), NAMES[::-1]
    write(tmp_path, 'responses = "s.npz"\nmeasures = ["ridge"]')
    np.savez(tmp_path / "s.npz", data=values, image=np.array(names), run=np.arange(N))
    study = opened(tmp_path)
    rows = [names.index(name) for name in ORDER]
    np.testing.assert_array_equal(means(study)[0], values[rows])


def test_labels_give_the_order_of_the_study(tmp_path):
    values, names = responses(0), NAMES[::-1][:6]
    table = 'responses = "s.mat"\nlabels = "names"\nmeasures = ["ridge"]'
    write(tmp_path, table, head='order = "targets"')
    savemat(tmp_path / "s.mat", {"data": values[:6], "names": np.array(names, object)[:, None]})
    study = opened(tmp_path)
    assert study.names == tuple(names)
    np.testing.assert_array_equal(means(study)[0], values[:6])
    assert len(study.unlisted) == 6


def test_assemblies_of_brain_score(tmp_path):
    import h5py

    values = responses(0, 2).reshape(-1, UNITS)
    names = [*NAMES, *NAMES[::-1]]
    write(tmp_path, 'responses = "s.nc"\nlabels = "stimulus_id"\nmeasures = ["ridge"]')
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file["stimulus_id"] = [name.removesuffix(".png") for name in names]
        file["neuroid_id"] = np.arange(UNITS)
        file["data"] = values.T
        for axis, name in ((0, "neuroid"), (1, "presentation")):
            file["data"].dims[axis].label = name
        file["stimulus_id"].dims[0].label = "presentation"
    study = opened(tmp_path)
    mean = (values[:N] + values[N:][::-1]) / 2
    np.testing.assert_allclose(means(study)[0], mean[[NAMES.index(n) for n in ORDER]])
    assert study.responses["v4"].n_repeats == (2,)


def test_responses_are_zscored_within_sessions(tmp_path):
    values = responses(0, 2) * 3 + 7
    sessions = np.repeat([["a", "b"]], N, axis=0).T
    table = 'responses = "s.npy"\naxes = ["repeats", "conditions", "units"]\nsessions = "sessions.npy"\n'
    study = opened(write(tmp_path, table + 'measures = ["ridge"]', s=values, sessions=sessions))
    z = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    np.testing.assert_allclose(means(study)[0], z.mean(axis=0), atol=1e-12)
    assert study.facts["v4"].is_zscored
    assert study.facts["v4"].n_sessions == (2,)


@pytest.mark.parametrize("where", ["column", "file", "csv file", "variable", "axis"])
def test_where_sessions_come_from(tmp_path, where):
    values = responses(0, 2)
    names, sessions = [*NAMES, *NAMES], ["mon"] * N + ["tue"] * N
    table = 'responses = "s.npz"\nkey = "data"\nlabels = "s.csv"\nmeasures = ["ridge"]\n'
    csv = "stimulus,day\n" + "".join(f"{n},{s}\n" for n, s in zip(names, sessions, strict=True))
    given = {"column": "day", "file": "days.txt", "csv file": "days.csv", "variable": "days"}
    if where != "axis":
        table += f'sessions = "{given[where]}"'
        flat = values.reshape(-1, UNITS)
    else:
        table = 'responses = "s.npz"\nkey = "data"\naxes = ["sessions", "conditions", "units"]\n'
        table += 'labels = "names.txt"\nmeasures = ["ridge"]\n'
        flat = values
    files = {"s.csv": csv, "days.txt": "\n".join(sessions), "names.txt": "\n".join(NAMES)}
    files["days.csv"] = "session\n" + "\n".join(sessions)
    write(tmp_path, table, **files)
    np.savez(tmp_path / "s.npz", data=flat, days=sessions)
    study = opened(tmp_path)
    z = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    rows = [NAMES.index(name) for name in ORDER]
    np.testing.assert_allclose(means(study)[0], z.mean(axis=0)[rows], atol=1e-12)


def test_rows_are_put_into_the_repeats_that_are_named(tmp_path):
    names, runs = [*NAMES, *NAMES[1:]], [2] * N + [1] * (N - 1)
    values = np.random.default_rng(0).standard_normal((len(names), UNITS))
    csv = "stimulus,run\n" + "".join(f"{n},{r}\n" for n, r in zip(names, runs, strict=True))
    table = 'responses = "s.npy"\nlabels = "s.csv"\nrepeats = "run"\nmeasures = ["ridge"]'
    study = opened(write(tmp_path, table, s=values, **{"s.csv": csv}))
    (array,) = study.responses["v4"]._measured.arrays
    for i, name in enumerate(ORDER):
        np.testing.assert_array_equal(array[1, i], values[NAMES.index(name)])
    assert np.isnan(array[0, ORDER.index(NAMES[0])]).all()


MASKS = {
    "booleans": np.array([True, False, True, True, False]),
    "flags": np.array([[1.0, 0, 1, 1, 0]]),
    "indices": np.array([0, 2, 3]),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_units_that_a_mask_keeps(tmp_path, mask):
    table = 'responses = "s.npy"\nmask = "mask.npy"\nmeasures = ["ridge"]'
    study = opened(write(tmp_path, table, s=responses(0), mask=mask))
    np.testing.assert_array_equal(means(study)[0], responses(0)[:, [0, 2, 3]])
    assert study.facts["v4"].n_masked == (2,)


def test_a_mask_for_each_subject(tmp_path):
    table = 'responses = ["s1.npy", "s2.npy"]\nmasks = ["m1.npy", "m2.npy"]\nmeasures = ["ridge"]'
    masks = {"m1": np.array([4]), "m2": np.arange(5) > 0}
    study = opened(write(tmp_path, table, s1=responses(0), s2=responses(1), **masks))
    assert study.responses["v4"].n_units == (1, 4)


def test_options_of_the_regression(tmp_path):
    table = (
        'responses = "s.npy"\nmeasures = ["ridge", "pls"]\nfolds = 3\nstrata = "category"\nseed = 7\n'
        "alphas = [0.1, 10]\nn_components = 2"
    )
    study = opened(write(tmp_path, table, s=responses(0)))
    options = study.options["v4"]
    assert options.pop("strata") == [*"ab"] * 6
    assert options == {"folds": 3, "seed": 7, "alphas": [0.1, 10], "n_components": 2}


def test_protocols_of_rdms_and_of_regressions(tmp_path):
    table = 'responses = "s.npy"\nmeasures = ["rsa", "ridge"]\nceiling = 0.5\nprotocol = '
    write(tmp_path, f'{table}["rsatoolbox", "nsd"]', s=responses(0, 3))
    study = opened(tmp_path)
    assert (study.targets["v4"].protocol.name, study.conventions) == ("rsatoolbox", {"v4": "nsd"})
    write(tmp_path, f'{table}"algonauts2023"')
    study = opened(tmp_path)
    assert study.targets["v4"].protocol.name == "algonauts2019"
    assert study.conventions == {"v4": "algonauts2023"}
    write(tmp_path, f'{table}["nsd", "algonauts2023"]')
    with pytest.raises(ValueError, match="names two of one kind"):
        opened(tmp_path)
    write(tmp_path, f'{table}"nds"')
    with pytest.raises(ValueError, match="protocol 'nds' is not one of: algonauts2019, .*, nsd"):
        opened(tmp_path)


def test_responses_outside_a_table_are_a_region(tmp_path):
    write(tmp_path, "", s=responses(0))
    (tmp_path / "study.toml").write_text(
        'order = "order.csv"\nresponses = ["s.npy"]\nmeasures = ["ridge"]\n'
    )
    assert opened(tmp_path).measures == {"responses": ("ridge",)}


def test_measures_of_regions(tmp_path):
    head = 'measures = ["cka", "ridge"]'
    table = (
        'responses = "s.npy"\n[targets.rdm]\nfile = "rdms.npy"\nrdm = "euclidean"\n'
        '[targets.own]\nfile = "rdms.npy"\nmeasures = ["rsa"]'
    )
    points = np.random.default_rng(0).standard_normal((3, N, 6))
    rdms = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    write(tmp_path, table, head=head, s=responses(0), rdms=rdms)
    study = opened(tmp_path)
    assert study.measures == {"v4": ("cka", "ridge"), "rdm": ("cka",), "own": ("rsa",)}
    assert set(study.targets) == {"rdm", "own"}
    for array, x in zip(
        study.grams["rdm"], points - points.mean(axis=1, keepdims=True), strict=True
    ):
        np.testing.assert_allclose(array, x @ x.T, atol=1e-9)
    study = opened(tmp_path, measures=["ridge"])
    assert study.measures == {"v4": ("ridge",), "rdm": (), "own": ()}


def test_cka_of_distances_over_time_needs_squared_ones(tmp_path):
    rdms = np.abs(np.random.default_rng(0).standard_normal((3, 2, N * (N - 1) // 2)))
    write(tmp_path, 'file = "r.npy"\nrdm = "mahalanobis"\nmeasures = ["cka"]', r=rdms)
    with pytest.raises(
        ValueError, match="'cka' takes RDMs of several times only if they are squared"
    ):
        opened(tmp_path)
    write(tmp_path, 'file = "r.npy"\nmeasures = ["rsa", "cka"]')
    assert opened(tmp_path).grams == {}


def test_some_regions_of_a_study(tmp_path):
    table = 'responses = "s.npy"\n[targets.it]\nresponses = "t.npy"\n'
    write(tmp_path, table, head='measures = ["ridge"]', s=responses(0), t=responses(1))
    study = opened(tmp_path, regions=["IT"])
    assert study.regions == ("it",)
    assert list(study.responses) == list(study.facts) == ["it"]


def trials(names):
    return "stimulus\n" + "\n".join(names) + "\n"


FILES = {
    "s": responses(0),
    "t": responses(0).T,
    "deep": responses(0, 2, 2, 2),
    "inf": np.where(np.arange(UNITS) == 3, np.inf, responses(0)),
    "gap": np.where((np.arange(N) == 4)[:, None] & (np.arange(UNITS) == 3), np.nan, responses(0)),
    "text": np.array(NAMES),
    "long": np.array([0, 1, 1]),
    "high": np.array([1, 5]),
    "twice": np.array([1, 1, 3]),
    "halves": np.array([0.5, 1]),
    "none": np.zeros(5, bool),
    "pair": responses(0, 2),
    "missing.csv": trials(NAMES[1:]),
    "odd.csv": trials(["im_00x.png", *NAMES[1:]]),
    "other.csv": "image\n" + "\n".join(NAMES),
    "runs.csv": "stimulus,run\n" + "".join(f"{n},1\n" for n in [*NAMES[:11], NAMES[0]]),
}
ERRORS = {
    'responses = "x.npy"': r"targets\.v4\.responses = 'x\.npy' is not a file beside it",
    'responses = "../x.npy"': r"responses = '\.\./x\.npy' is not a path inside the study's folder",
    'responses = "s.npy"\nmask = "/etc/x.npy"': "mask = '/etc/x.npy' is not a path inside",
    "responses = []": "responses is empty",
    "responses = [1]": r"responses = \[1\] is not a list of text",
    'responses = "s.npy"\nfile = "s.npy"': r"targets\.v4\.file is for RDMs",
    'file = "s.npy"\nmask = "s.npy"': r"targets\.v4\.mask is for responses = ",
    'responses = "s.npy"\nfold = 3': r"unknown field targets\.v4\.fold; the nearest is targets\.v4\.folds",
    'responses = "s.npy"\nfolds = 1': "folds must be at least 2",
    'responses = "s.npy"\nalphas = [0]': r"alphas = \[0\] must be a list of positive numbers",
    'responses = "s.npy"\nrdm = "pearsn"': "rdm: .*pearsn",
    'responses = "s.npy"\nmeasures = ["rdge"]': "measures: the measure 'rdge' is not one of: rsa, cka",
    'responses = "s.npy"\nmeasures = ["ridge", "ridge"]': "names 'ridge' twice",
    'file = "s.npy"\nmeasures = ["ridge"]': r"measures: 'ridge' needs responses = \[\.\.\.\]",
    'responses = "s.npy"\naxes = ["rows", "units"]': "axes: 'rows' is not the name of an axis",
    'responses = "s.npy"\naxes = ["units"]': r"axes = \['units'\] must name conditions and units",
    'responses = "s.npy"\naxes = ["units", "units"]': "names units twice",
    'responses = "s.npy"\naxes = ["repeats", "units", "conditions"]': r"\(12, 5\), 2 axes, but .*axes = .* names 3",
    'responses = "t.npy"': (
        r'has 5 conditions \(axes conditions 5, units 12\), but the study has 12 stimuli; .* axes = \["units", "cond'
    ),
    'responses = "deep.npy"': r"has shape \(2, 2, 2, 12, 5\); expected \(conditions, units\) or",
    'responses = ["s.npy", "pair.npy"]\naxes = ["subjects", "conditions", "units"]': "holds 2 subjects, but",
    'responses = "inf.npy"': "inf",
    'responses = "gap.npy"': r"NaN in all repeats of condition 4 for units 3",
    'responses = "text.npy"': "text",
    'responses = "s.npy"\nkey = "data"': "key = 'data' is not in s.npy",
    'responses = "s.npy"\nlabels = "missing.csv"': r"has 11 labels, but .* has 12 rows, shape \(12, 5\) with axes",
    'responses = "s.npy"\nlabels = "odd.csv"': r"label 'im_00x\.png' .* is not an image in .*; did you mean",
    'responses = "s.npy"\nlabels = "other.csv"': "has no column named stimulus; its first line is 'image'",
    'responses = "s.npy"\nlabels = "nowhere"': "labels = 'nowhere' is neither a variable of s.npy nor a file beside it",
    'responses = "s.npy"\nlabels = ["s.csv", "t.csv"]': "labels is a list of 2, but there is 1 subject",
    'responses = "s.npy"\nlabels = "runs.csv"': r"has no row for 1 of 12 images: im_11\.png",
    'responses = "s.npy"\nlabels = "runs.csv"\nrepeats = "run"': r"has no row for 1 of 12 images: im_11\.png",
    'responses = "s.npy"\nrepeats = "text.npy"': "repeats needs labels that name the stimulus of each row",
    'responses = "s.npy"\nsessions = "long.npy"': r"'long\.npy' has shape \(3,\); expected one for each of the",
    'responses = "s.npy"\nmask = "none.npy"\nmasks = "none.npy"': "are the same field",
    'responses = "s.npy"\nmask = "long.npy"': "names a unit twice",
    'responses = "s.npy"\nmask = "high.npy"': "names the unit 5, but there are 5, counted from 0",
    'responses = "s.npy"\nmask = "twice.npy"': "names a unit twice",
    'responses = "s.npy"\nmask = "halves.npy"': "not whole",
    'responses = "s.npy"\nmask = "none.npy"': "keeps none of 5 units",
    'responses = "s.npy"\nmask = "s.npy"': r"has shape \(12, 5\) and type float64; expected true or false",
    'responses = "s.npy"\nmask = "no.npy"': "mask = 'no.npy' is not a file beside it",
    'responses = "s.npy"\ngroups = "run"': "groups = 'run' must be a column of the .csv file in order",
    'responses = "s.npy"\ngroups = "category"\nstrata = "category"': "cannot be used together",
}


@pytest.mark.parametrize("table", ERRORS)
def test_what_cannot_be_right_is_refused(tmp_path, table):
    own = "" if "measures" in table or "file" in table.split("\n")[0] else RIDGE
    write(tmp_path, table + own, **FILES)
    with pytest.raises((ValueError, FileNotFoundError), match=ERRORS[table]) as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_two_rows_cannot_be_one_repeat(tmp_path):
    names = [*NAMES, NAMES[0]]
    csv = "stimulus,run\n" + "".join(f"{n},1\n" for n in names)
    table = 'responses = "s.npy"\nlabels = "s.csv"\nrepeats = "run"' + RIDGE
    values = np.random.default_rng(0).standard_normal((N + 1, UNITS))
    write(tmp_path, table, s=values, **{"s.csv": csv})
    with pytest.raises(ValueError, match=r"rows 0 and 12 of .* are both repeat 1 of im_00\.png"):
        opened(tmp_path)


def test_measures_of_a_study_that_no_region_has_data_for(tmp_path):
    write(tmp_path, 'file = "s.npy"', head='measures = ["rsa", "ridge"]', s=responses(0))
    with pytest.raises(ValueError, match="measures: 'ridge' needs responses"):
        opened(tmp_path)
    head = 'measures = ["ridge"]'
    write(tmp_path, 'responses = "s.npy"\n[targets.it]\nfile = "s.npy"', head=head)
    with pytest.raises(
        ValueError, match=r"leaves none for targets\.it, which can be scored by rsa, cka, cka-deb"
    ):
        opened(tmp_path)


def checked(folder):
    return check_study(folder)


def text_of(check, kind):
    (text,) = [each.text for each in check.suspicions if each.kind == kind]
    return text


def test_a_check_reports_what_was_understood(tmp_path):
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((N, UNITS))
    values = signal + 0.5 * rng.standard_normal((4, N, UNITS))
    values[3, 2] = np.nan
    table = 'responses = ["s1.npy", "s2.npy"]\nmask = "mask.npy"\nmeasures = ["ridge", "cka"]'
    files = {"s1": values, "s2": values[::-1] + rng.standard_normal((4, N, UNITS))}
    write(tmp_path, table, mask=np.arange(4), **files)
    check = checked(tmp_path)
    assert check.errors == ()
    # The images of these tests have one colour.
    assert {each.kind for each in check.suspicions} == {"small", "uniform"}
    (summary,) = check.responses
    assert (summary.name, summary.subjects, summary.n_conditions) == ("v4", ("s1", "s2"), N)
    assert (summary.n_units, summary.n_repeats) == ((4, 4), (4, 4))
    assert summary.measures == ("ridge", "cka")
    found = open_studies(tmp_path)[0].responses["v4"]
    expected = [np.median(each) for each in found.reliability]
    np.testing.assert_allclose(summary.reliability, expected)
    assert 0.5 < summary.reliability[0] < summary.ceiling[0] < 1
    tables = check_tables(check)
    assert tables.responses[1][:8] == ("v4", "2", "4", "12", "4 (1)", "1", "–", "as ordered")
    json.dumps(check.to_dict())


def test_suspicions_about_responses(tmp_path):
    square = np.random.default_rng(0).standard_normal((N, N))
    square[:, 2] = 1
    square[5] = square[3]
    write(tmp_path, 'responses = ["s1.npy", "s2.npy"]' + RIDGE, s1=square, s2=square)
    check = checked(tmp_path)
    assert "units have one response to all stimuli: subject 0 's1' 1 of 12 (units 2)" in text_of(
        check, "constant"
    )
    transposed = [each.text for each in check.suspicions if each.kind == "transposed"]
    assert len(transposed) == 2
    assert "as many units as there are stimuli, 12, so the array may be transposed" in transposed[0]
    assert "subject 0 's1', subject 1 's2' have one response" in text_of(check, "one repeat")
    copies = " ".join(each.text for each in check.suspicions if each.kind == "duplicates")
    assert "subject 0 's1' and subject 1 's2' have the same responses" in copies
    assert "im_02.png (row 3) = im_04.png (row 5)" in copies


def test_responses_that_do_not_repeat_or_are_an_rdm(tmp_path):
    points = np.random.default_rng(0).standard_normal((N, 3))
    rdm = np.linalg.norm(points[:, None] - points, axis=-1)
    table = f'responses = "s.npy"{RIDGE}\n[targets.b]\nresponses = "b.npy"{RIDGE}\n'
    table += 'axes = ["repeats", "conditions", "units"]\nnan_policy = "omit"'
    noise = responses(1, 3)
    noise[:, 4, 1] = np.nan
    write(tmp_path, table, s=rdm, b=noise)
    check = checked(tmp_path)
    assert "look like an RDM" in text_of(check, "transposed")
    assert "the median reliability of units is below 0.1" in text_of(check, "reliability")
    assert "units lack all repeats of some stimuli: subject 0 1 of 5 (units 1)" in text_of(
        check, "nan"
    )


def test_images_that_are_left_out(tmp_path):
    table = 'responses = "s.npy"\nlabels = "names.txt"' + RIDGE
    write(tmp_path, table, ORDER[:10], s=responses(0), **{"names.txt": "\n".join(NAMES)})
    assert "2 images with responses are not listed in order" in text_of(
        checked(tmp_path), "left out"
    )


def test_errors_of_responses_do_not_end_a_check(tmp_path):
    table = f'responses = "no.npy"{RIDGE}\n[targets.it]\nresponses = "s.npy"{RIDGE}'
    check = checked(write(tmp_path, table, s=responses(0)))
    assert [each.name for each in check.responses] == ["it"]
    assert check.study.regions == ("it",)
    assert "targets.v4.responses = 'no.npy' is not a file" in check.errors[0]


def test_rdms_of_responses(tmp_path):
    values = responses(0, 3)
    table = 'responses = "s.npy"\nrdm = "euclidean"\nprotocol = "rsatoolbox"\nceiling = 0.5'
    study = opened(write(tmp_path, table, s=values))
    assert study.measures == {"v4": ("rsa",)}
    target = study.targets["v4"]
    expected = [pdist(each) for each in values]
    np.testing.assert_allclose(target.subject_rdms[:, 0], expected, rtol=1e-6)
    assert (target.protocol.name, target.ceiling, target.name) == ("rsatoolbox", 0.5, "v4")


def test_an_rdm_for_each_time(tmp_path):
    values = np.random.default_rng(0).standard_normal((3, N, UNITS, 2))
    table = 'responses = "s.npy"\naxes = ["subjects", "conditions", "units", "times"]\n'
    table += 'rdm = "sqeuclidean"\nmeasures = ["rsa", "ridge"]'
    study = opened(write(tmp_path, table, s=values))
    found = study.targets["v4"].subject_rdms
    assert found.shape == (3, 2, N * (N - 1) // 2)
    expected = [[pdist(each[..., t], "sqeuclidean") for t in (0, 1)] for each in values]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert study.facts["v4"].n_times == 2
    assert study.targets["v4"].over_time == "mean"
    write(tmp_path, table + '\nover_time = "each"\ntimes = [0.1, 0.2]')
    target = opened(tmp_path).targets["v4"]
    assert (target.over_time, list(target.times)) == ("each", [0.1, 0.2])
    np.testing.assert_array_equal(means(study)[0], values[0].reshape(N, -1))


@pytest.mark.parametrize("folds", ["repeats", "sessions"])
def test_crossnobis_with_noise_of_repeats(tmp_path, folds):
    values = np.random.default_rng(0).standard_normal((3, 4, N, UNITS))
    sessions = np.array([0, 0, 1, 1])
    table = 'responses = "s.npy"\nrdm = "crossnobis"\nresiduals = "repeats"\nzscore = false\n'
    table += f'sessions = "sessions.npy"\ncrossvalidate = "{folds}"'
    study = opened(write(tmp_path, table, s=values, sessions=sessions))
    chosen = sessions if folds == "sessions" else None
    expected = fastrdm.Target.from_responses(
        values, "crossnobis", residuals="repeats", folds=chosen
    )
    np.testing.assert_array_equal(study.targets["v4"].subject_rdms, expected.subject_rdms)


def test_noise_of_residuals_in_files(tmp_path):
    values = responses(0, 2)
    residuals = np.random.default_rng(1).standard_normal((40, UNITS))
    table = 'responses = "s.npy"\nrdm = "mahalanobis"\nresiduals = "res.npy"\nmask = "mask.npy"\n'
    study = opened(write(tmp_path, table, s=values, res=residuals, mask=np.arange(4)))
    expected = fastrdm.Target.from_responses(
        values[..., :4], "mahalanobis", residuals=residuals[:, :4]
    )
    np.testing.assert_allclose(study.targets["v4"].subject_rdms, expected.subject_rdms)


RDM_ERRORS = {
    'responses = "s.npy"': "holds one subject, so no ceiling can be computed; set ceiling",
    'responses = "s.npy"\nceiling = 30': r"targets\.v4: .*ceiling",
    'responses = "s.npy"\nceiling = 0.5\nrdm = "crossnobis"': "has one repeat",
    'responses = "s.npy"\nceiling = 0.5\nrdm = "mahalanobis"': "needs precision or residuals",
    'responses = "s.npy"\nceiling = 0.5\nrdm = "mahalanobis"\nresiduals = "no.npy"': (
        "residuals = 'no.npy' is neither a file beside it nor \"repeats\""
    ),
    'responses = "s.npy"\nceiling = 0.5\nrdm = "mahalanobis"\nresiduals = "s.npy"\nmask = "long.npy"': "twice",
    'responses = "s.npy"\nceiling = 0.5\nrdm = "mahalanobis"\nresiduals = "t.npy"': (
        r"has shape \(5, 12\); expected \(observations, 5\), a column for each unit"
    ),
    'responses = "pair.npy"\nrdm = "crossnobis"\ncrossvalidate = "sessions"': (
        'crossvalidate = "sessions" needs sessions, which are not named'
    ),
    'responses = "gap.npy"\nceiling = 0.5\nmeasures = ["cka"]\nnan_policy = "omit"': (
        "the measure 'cka' needs all units for all stimuli, but .* has no response of unit 3 to stimulus 4"
    ),
}


@pytest.mark.parametrize("table", RDM_ERRORS)
def test_rdms_that_cannot_be_made(tmp_path, table):
    write(tmp_path, table, **FILES)
    with pytest.raises((ValueError, FileNotFoundError), match=RDM_ERRORS[table]) as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)
    assert "targets.v4" in str(error.value)


def test_an_invalid_ceiling_does_not_end_a_check(tmp_path):
    check = checked(write(tmp_path, 'responses = "s.npy"\nmeasures = ["rsa", "ridge"]', **FILES))
    assert "holds one subject, so no ceiling can be computed" in check.errors[0]
    assert (
        [each.name for each in check.regions] == [each.name for each in check.responses] == ["v4"]
    )


def test_cell_arrays_with_labels_of_each_subject(data_root, tmp_path):
    """Real patterns of seven subjects, five fingers in seven or eight runs (pcm_toolbox)."""
    source = data_root / "responses" / "pcm_finger7t" / "data_recipe_finger7T.mat"
    if not source.is_file():
        pytest.skip(f"no patterns of fingers at {source}")
    (tmp_path / "stimuli").mkdir()
    for finger in range(1, 6):
        Image.new("RGB", (8, 8), (50 * finger, 0, 0)).save(tmp_path / f"stimuli/{finger}.png")
    shutil.copy(source, tmp_path / "fingers.mat")
    (tmp_path / "study.toml").write_text(
        'order = "sorted"\n[targets.m1]\nresponses = "fingers.mat"\nkey = "Y"\nlabels = "condVec"\n'
        'repeats = "partVec"\nrdm = "crossnobis"\nprotocol = "rsatoolbox"\nmeasures = ["rsa", "ridge"]\n'
    )
    study = opened(tmp_path)
    found = study.responses["m1"]
    assert (found.n_subjects, found.n_conditions) == (7, 5)
    assert set(found.n_repeats) == {7, 8}
    assert study.facts["m1"].is_matched
    # The thumb differs most from the other fingers.
    rdm = squareform(study.targets["m1"].subject_rdms[:, 0].mean(axis=0))
    assert int(rdm.sum(axis=0).argmax()) == 0


def test_gram_matrices_do_not_depend_on_the_measures(tmp_path):
    write(tmp_path, 'responses = "s.npy"\nceiling = 0.5\nrdm = "euclidean"', **FILES)
    by_default, asked = opened(tmp_path), opened(tmp_path, measures=["cka"])
    for first, second in zip(by_default.grams["v4"], asked.grams["v4"], strict=True):
        np.testing.assert_array_equal(first.products, second.products)
    write(tmp_path, 'responses = "gap.npy"\nnan_policy = "omit"' + RIDGE, **FILES)
    study = opened(tmp_path)
    assert study.grams == {}
    layers = {"a": np.random.default_rng(0).standard_normal((N, 3))}
    with pytest.raises(
        ValueError, match="'cka' needs all units for all stimuli, and units of the region 'v4'"
    ):
        fastrdm.score_features(layers, study, rows="order", measures=["cka"])
