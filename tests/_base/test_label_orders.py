"""Models in any order of conditions score as those in the brain's order, and results keep labels."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrdm
from fastrdm._base import pairs_in_order
from fastrdm.responses import measured

pd = pytest.importorskip("pandas")
xr = pytest.importorskip("xarray")

RNG = np.random.default_rng(0)
NAMES = ["cat", "dog", "egg", "fig", "gnu"]
ACTIVATIONS = RNG.random((5, 7))
SUBJECTS = RNG.random((3, 5, 9))
ORDER = np.array([3, 0, 4, 1, 2])
MOVED = [NAMES[i] for i in ORDER]


def frame(values, names=NAMES, axis="stimulus"):
    return pd.DataFrame(values, index=pd.Index(names, name=axis))


def array(values, names=NAMES, dim="stimulus"):
    return xr.DataArray(values, {dim: list(names)}, (dim, "unit"))


MAKERS = pytest.mark.parametrize("make", [frame, array])


@given(st.permutations(range(6)))
def test_pairs_follow_their_conditions(order):
    square = fastrdm.square(np.arange(15.0))
    expected = fastrdm.condense(square[np.ix_(order, order)])
    np.testing.assert_array_equal(pairs_in_order(np.array(order)), expected)


@MAKERS
@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(5)))
def test_any_order_of_conditions_gives_the_same_similarities(make, order):
    model = fastrdm.calc_rdm(make(ACTIVATIONS))
    moved = fastrdm.calc_rdm(make(ACTIVATIONS[order], [NAMES[i] for i in order]))
    brain = fastrdm.calc_rdm([frame(subject) for subject in SUBJECTS])
    expected = fastrdm.compare(model, brain)
    if list(order) == sorted(order):
        found = fastrdm.compare(moved, brain)
    else:
        with pytest.warns(RuntimeWarning, match="rdms1 has its conditions in another order") as one:
            found = fastrdm.compare(moved, brain)
        assert len(one) == 1
    np.testing.assert_array_equal(found, expected)


RDM = RNG.random(10)
# Functions of subjects and models, with what is compared of their results.
FUNCTIONS = {
    "Target": lambda s, m: fastrdm.Target(s, ceiling=1).score(m).rho,
    "bootstrap": lambda s, m: fastrdm.bootstrap(s, m, n_draws=5).evaluations,
    "permutation_test": lambda s, m: fastrdm.permutation_test(s, m, n_permutations=9).p,
    "partial_compare": lambda s, m: fastrdm.partial_compare(m, s, RDM),
    "cross_validate": lambda s, m: (
        fastrdm.cross_validate(fastrdm.SelectedRdm(), m, s, condition_folds=None).values
    ),
}


@MAKERS
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_models_are_brought_into_the_order_of_the_brain(make, function):
    subjects = fastrdm.calc_rdm([frame(subject) for subject in SUBJECTS])
    plain = fastrdm.calc_rdm(make(ACTIVATIONS))
    moved = fastrdm.calc_rdm(make(ACTIVATIONS[ORDER], MOVED))
    expected = function(subjects, np.asarray(plain))
    np.testing.assert_array_equal(function(subjects, plain), expected)
    with pytest.warns(RuntimeWarning, match="rdms has its conditions in another order than ") as w:
        np.testing.assert_array_equal(function(subjects, moved), expected)
    assert len(w) == 1
    with pytest.warns(RuntimeWarning, match="another order"):
        np.testing.assert_array_equal(function(subjects, fastrdm.square(moved)), expected)


def test_a_fitted_model_scores_layers_in_any_order():
    subjects = fastrdm.calc_rdm([frame(subject) for subject in SUBJECTS])
    target = fastrdm.Target(subjects, "rsatoolbox", ceiling=1)
    layers = {"a": frame(ACTIVATIONS), "b": frame(SUBJECTS[0])}
    plain = fastrdm.calc_rdm(layers)
    moved = plain | {"b": fastrdm.calc_rdm(layers["b"].iloc[ORDER])}
    with pytest.warns(RuntimeWarning, match=r"rdms\['b'\] has .* of the target by"):
        fitted = fastrdm.SelectedRdm().fit(moved, target)
    with pytest.warns(RuntimeWarning, match=r"rdms\['b'\] has .* of the target by"):
        found = fitted.score(moved, target)
    np.testing.assert_array_equal(found.rho, fitted.score(plain, target).rho)
    with pytest.warns(RuntimeWarning, match="another order"):
        np.testing.assert_array_equal(fitted.predict(moved), fitted.predict(plain))


def test_layers_are_brought_into_the_order_of_responses_with_one_warning():
    cube = RNG.random((2, 12, 4))
    names = [f"image {i}" for i in range(12)]
    responses = fastrdm.Responses({"s": frame(cube[0], names), "t": frame(cube[1], names)})
    layers = {"a": frame(RNG.random((12, 3)), names), "b": frame(RNG.random((12, 3)), names)}
    grams = fastrdm.gram(layers)
    moved = {name: gram.reordered(np.arange(12)[::-1]) for name, gram in grams.items()}
    for function in (
        lambda g: fastrdm.partition_variance(g, responses).total,
        lambda g: fastrdm.response_bootstrap(responses, g, n_draws=3).evaluations,
        lambda g: fastrdm.response_test(responses, g, n_permutations=3).p,
    ):
        with pytest.warns(RuntimeWarning, match="layer a, layer b have their conditions") as one:
            found = function(moved)
        assert len(one) == 1
        np.testing.assert_array_equal(found, function(grams))


def test_subjects_in_other_orders_are_brought_into_that_of_the_first():
    first = [fastrdm.calc_rdm(frame(subject)) for subject in SUBJECTS]
    others = [*first[:2], fastrdm.calc_rdm(frame(SUBJECTS[2][ORDER], MOVED))]
    expected = fastrdm.noise_ceiling(first)
    with pytest.warns(
        RuntimeWarning, match=r"subject_rdms\[2\] has its .* order of subject_rdms\[0"
    ):
        found = fastrdm.noise_ceiling(others)
    np.testing.assert_array_equal(found.lower_per_subject, expected.lower_per_subject)


def test_responses_in_other_orders_keep_their_measurements_sessions():
    cube = RNG.random((2, 4, 5, 3))
    sessions = RNG.permuted(np.tile([[0], [0], [1], [1]], 5), axis=0)
    plain = {"a": frame(cube[0, 0]), "b": frame(cube[1, 0])}
    arrays = [
        xr.DataArray(cube[0], {"stimulus": NAMES}, ("repetition", "stimulus", "unit")),
        xr.DataArray(cube[1][:, ORDER], {"stimulus": MOVED}, ("repetition", "stimulus", "unit")),
    ]
    with pytest.warns(RuntimeWarning, match=r"responses\[1\] has its conditions in another order"):
        found = measured(arrays).zscored([sessions, sessions[:, ORDER]])
    expected = measured(cube).zscored(sessions)
    for one, other in zip(found.arrays, expected.arrays, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    plain["b"] = plain["b"].iloc[ORDER]
    with pytest.warns(RuntimeWarning, match="another order"):
        target = fastrdm.Target.from_responses(plain, ceiling=0.5)
    np.testing.assert_array_equal(target.subject_rdms[1, 0], fastrdm.calc_rdm(cube[1, 0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
@pytest.mark.parametrize("n_channels", [3, 40])
def test_a_gram_in_another_order_is_that_of_such_activations(dtype, n_channels):
    values = (RNG.random((6, n_channels)) * 50).astype(dtype)
    values[4] = values[1]
    values[2] = 3
    order = [2, 5, 0, 1, 4, 3]
    moved = fastrdm.gram(frame(values, list("abcdef"))).reordered(order)
    expected = fastrdm.gram(frame(values[order], list("cfabed")))
    assert moved.labels.values == expected.labels.values
    np.testing.assert_allclose(moved.products, expected.products, rtol=1e-12)
    for method in ("sqeuclidean", "euclidean", "cosine"):
        np.testing.assert_array_equal(moved.rdm(method), expected.rdm(method))
    with pytest.warns(RuntimeWarning, match="constant.*: 0$"):
        found = moved.rdm()
    assert np.isnan(found[:5]).all() and not np.isnan(found[5:]).any()
    for wrong in ([0, 1], [0, 0, 1, 2, 3, 4]):
        with pytest.raises(ValueError, match="must hold each index from 0 to 5 once"):
            moved.reordered(wrong)


MISUSES = {
    "missing": (NAMES[:4], r"\(4 and 5\); only in the target: 'gnu'$"),
    "more": ([*NAMES, "hen"], r"\(6 and 5\); only in rdms: 'hen'$"),
    "other": (
        [*NAMES[:4], "hen"],
        "at condition 4, .* only in rdms: 'hen'; only in the target: 'gnu'$",
    ),
    "twice": (["cat", *NAMES[:4]], "^rdms has the condition labels 'cat' more than once"),
}


@MAKERS
@pytest.mark.parametrize("misuse", MISUSES)
def test_labels_that_do_not_match_are_named_in_one_sentence(make, misuse):
    names, message = MISUSES[misuse]
    target = fastrdm.Target([fastrdm.calc_rdm(frame(s)) for s in SUBJECTS], ceiling=1)
    model = fastrdm.calc_rdm(make(RNG.random((len(names), 4)), names))
    for rdm in (model, fastrdm.square(model), {"m": model}):
        with pytest.raises(ValueError, match=message.replace("rdms", r"rdms\S*")):
            target.score(rdm)
    message = message.replace("rdms", "rdms1").replace("the target", "rdms2")
    with pytest.raises(ValueError, match=message):
        fastrdm.compare(model, fastrdm.calc_rdm(frame(ACTIVATIONS)))


def test_equal_labels_that_occur_twice_are_matched_by_position_with_a_warning():
    names = ["cat", "cat", "dog", "dog", "egg"]
    model = fastrdm.calc_rdm(frame(ACTIVATIONS, names))
    target = fastrdm.Target([fastrdm.calc_rdm(frame(s, names)) for s in SUBJECTS], ceiling=1)
    with pytest.warns(RuntimeWarning, match="'cat', 'dog' more than once; .* by position"):
        target.score(model)


@pytest.mark.filterwarnings("ignore:rdms1 has its conditions in another order")
def test_pairs_of_a_table_in_any_order_are_matched():
    model = fastrdm.calc_rdm(frame(ACTIVATIONS))
    shuffled = model.sample(frac=1, random_state=1)
    reversed_pairs = pd.Series(
        shuffled.to_numpy(), pd.MultiIndex.from_tuples([pair[::-1] for pair in shuffled.index])
    )
    brain = fastrdm.calc_rdm(frame(SUBJECTS[0]))
    for method in ("spearman", "cosine_cov"):
        expected = fastrdm.compare(model, brain, method)
        for pairs in ((reversed_pairs, brain), (model, brain.iloc[::-1]), (reversed_pairs,) * 2):
            with pytest.warns(RuntimeWarning, match="pairs in another order than condensed"):
                found = fastrdm.compare(*pairs, method)
            same = pairs[0] is pairs[1]
            np.testing.assert_allclose(found, 1 if same else expected, rtol=1e-12)


@MAKERS
def test_pairs_in_any_order_are_of_the_same_square_rdm(make):
    model = fastrdm.calc_rdm(make(ACTIVATIONS))
    order = RNG.permutation(10)
    shuffled = model.iloc[order] if make is frame else model.isel(pair=order)
    with pytest.warns(RuntimeWarning, match="^rdms has its pairs in another order"):
        squared = fastrdm.square(shuffled)
    names = squared.index if make is frame else squared.stimulus_1.to_numpy()
    places = [NAMES.index(name) for name in names]
    expected = fastrdm.square(np.asarray(model))[np.ix_(places, places)]
    np.testing.assert_array_equal(squared, expected)
    with pytest.warns(RuntimeWarning, match=r"^rdms\[0\], rdms\[1\] have their pairs"):
        np.testing.assert_array_equal(fastrdm.square([shuffled] * 2), [expected] * 2)
    with pytest.warns(RuntimeWarning, match="^grams1 has its pairs in another order"):
        found = fastrdm.cka(shuffled, np.asarray(expected), distances="euclidean")
    assert np.asarray(found) == pytest.approx(1)
    with pytest.warns(RuntimeWarning, match="pairs in another order"):
        target = fastrdm.Target([shuffled, shuffled * 2], ceiling=1)
    with pytest.warns(RuntimeWarning, match="another order than the target"):
        np.testing.assert_allclose(target.score(model).rho, 1)


@MAKERS
def test_places_of_a_searchlight_are_matched_with_models_and_targets(make):
    places, windows = [[0, 1, 2], [4, 2, 6]], [range(3), range(2, 7)]
    plain = make(ACTIVATIONS)
    moved = make(ACTIVATIONS[ORDER], MOVED)
    subjects = fastrdm.calc_rdm([frame(subject) for subject in SUBJECTS])
    for function in (
        lambda data, models: fastrdm.score_searchlight(data, places, models),
        lambda data, models: fastrdm.score_movie(data, windows, models),
    ):
        expected = function(plain, subjects)
        np.testing.assert_array_equal(expected, function(ACTIVATIONS, np.asarray(subjects)))
        with pytest.warns(RuntimeWarning, match="^models has .* than data, ") as one:
            np.testing.assert_array_equal(function(moved, subjects), expected)
        assert len(one) == 1
        targets = {name: fastrdm.Target(subjects, ceiling=1, name=name) for name in ("V1", "IT")}
        scores = function(plain, targets)
        with pytest.warns(RuntimeWarning, match="^data has .* order than V1, first") as one:
            found = function(moved, targets)
        assert len(one) == 1
        for name, score in found.items():
            np.testing.assert_array_equal(score.rho, scores[name].rho)
        for models, name in ((subjects, "models"), (targets["V1"], "V1")):
            with pytest.raises(ValueError, match=f"only in {name}: 'gnu'"):
                function(plain[:4], models)
            with pytest.raises(ValueError, match="differ in their condition labels.*'hen'"):
                function(make(ACTIVATIONS, [*NAMES[:4], "hen"]), models)
    turned = array(ACTIVATIONS).transpose()
    with pytest.raises(ValueError, match=r"^data have the dimensions .* data.transpose"):
        fastrdm.calc_rdm_searchlight(turned, places)


def test_layers_agree_where_responses_have_no_labels():
    cube = RNG.random((12, 4))
    names = [f"image {i}" for i in range(12)]
    grams = fastrdm.gram({"a": frame(RNG.random((12, 3)), names), "b": frame(cube + 1, names)})
    moved = grams | {"b": grams["b"].reordered(np.arange(12)[::-1])}
    responses = fastrdm.Responses(cube)
    with pytest.warns(RuntimeWarning, match="^layer b has .* another order than layer a, first"):
        found = fastrdm.partition_variance(moved, responses)
    np.testing.assert_array_equal(found.r2, fastrdm.partition_variance(grams, responses).r2)


# Labelled results


def test_rdms_of_pandas_objects_are_labelled():
    rdm = fastrdm.calc_rdm(frame(ACTIVATIONS))
    assert list(rdm.index) == list(itertools.combinations(NAMES, 2))
    assert rdm.index.names == ["stimulus_1", "stimulus_2"]
    np.testing.assert_array_equal(rdm, fastrdm.calc_rdm(ACTIVATIONS))
    squared = fastrdm.square(rdm)
    assert list(squared.index) == list(squared.columns) == NAMES
    assert squared.index.name == "stimulus"
    pd.testing.assert_series_equal(fastrdm.condense(squared), rdm)
    stack = fastrdm.calc_rdm([frame(subject) for subject in SUBJECTS])
    assert stack.shape == (3, 10) and stack.columns.equals(rdm.index)
    assert type(fastrdm.square(stack)) is np.ndarray
    assert type(fastrdm.calc_rdm(pd.DataFrame(ACTIVATIONS))) is np.ndarray
    assert fastrdm.calc_rdm(frame(ACTIVATIONS, axis=None)).index.names[0] == "condition_1"


def test_rdms_of_xarray_objects_are_labelled_and_go_to_netcdf_and_back(tmp_path):
    pytest.importorskip("h5netcdf")
    rdm = fastrdm.calc_rdm(array(ACTIVATIONS), "cosine")
    assert rdm.dims == ("pair",) and rdm.attrs == {"method": "cosine"}
    assert rdm.stimulus_1.values.tolist() == [a for a, _ in itertools.combinations(NAMES, 2)]
    rdm.to_netcdf(tmp_path / "rdm.nc")
    with xr.open_dataarray(tmp_path / "rdm.nc") as read:
        assert read.load().identical(rdm)
        assert fastrdm.square(read).identical(fastrdm.square(rdm))
    squared = fastrdm.square(rdm)
    assert squared.dims == ("stimulus_1", "stimulus_2")
    assert squared.stimulus_2.values.tolist() == NAMES
    assert fastrdm.condense(squared).identical(rdm)
    stack = fastrdm.calc_rdm([array(subject) for subject in SUBJECTS])
    assert fastrdm.square(stack).dims == ("rdm", "stimulus_1", "stimulus_2")
    assert fastrdm.condense(fastrdm.square(stack)).identical(stack)
    unlabelled = xr.DataArray(ACTIVATIONS, dims=("stimulus", "unit"))
    assert type(fastrdm.calc_rdm(unlabelled)) is np.ndarray


def test_a_dict_of_layers_has_an_rdm_of_the_kind_of_each():
    rdms = fastrdm.calc_rdm(
        {"a": frame(ACTIVATIONS), "b": array(ACTIVATIONS), "c": np.array(ACTIVATIONS)}
    )
    assert [type(rdm) for rdm in rdms.values()] == [pd.Series, xr.DataArray, np.ndarray]
    data = xr.Dataset({"a": array(ACTIVATIONS), "b": array(ACTIVATIONS) ** 2})
    assert [rdm.dims for rdm in fastrdm.calc_rdm(data).values()] == [("pair",)] * 2


def test_conditions_with_several_levels_keep_them():
    index = pd.MultiIndex.from_arrays([NAMES, [1, 1, 2, 2, 3]], names=["image", "category"])
    table = xr.DataArray(ACTIVATIONS, dims=("presentation", "unit")).assign_coords(
        xr.Coordinates.from_pandas_multiindex(index, "presentation")
    )
    rdm = fastrdm.calc_rdm(table)
    assert {"image_1", "image_2", "category_1", "category_2"} == set(rdm.coords)
    assert fastrdm.condense(fastrdm.square(rdm)).identical(rdm)
    other = fastrdm.calc_rdm(pd.DataFrame(ACTIVATIONS[ORDER], index[ORDER]))
    assert other.index.names == ["image_1", "category_1", "image_2", "category_2"]
    with pytest.warns(RuntimeWarning, match="another order"):
        assert fastrdm.compare(other, rdm).item() == pytest.approx(1)


def assembly(rows=slice(None), *, index=False):
    """Return responses as Brain-Score's files have them, or with the index that Brain-Score makes."""
    values = SUBJECTS[0][rows]
    names = np.array(NAMES)[rows]
    found = xr.DataArray(values, dims=("presentation", "neuroid")).assign_coords(
        stimulus_id=("presentation", names), object_name=("presentation", [n[0] for n in names])
    )
    return found.set_index(presentation=["stimulus_id", "object_name"]) if index else found


@pytest.mark.filterwarnings("ignore:.* in another order")
@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("make", [frame, array, assembly, lambda v, n: assembly(ORDER, index=True)])
def test_assemblies_are_matched_by_the_names_of_their_stimuli(make, index):
    brain = assembly(index=index)
    model = assembly(ORDER) if make is assembly else make(SUBJECTS[0][ORDER], MOVED)
    rdm = fastrdm.calc_rdm(model)
    assert fastrdm.compare(rdm, fastrdm.calc_rdm(brain)).item() == pytest.approx(1)
    assert fastrdm.cka(fastrdm.gram(model), fastrdm.gram(brain)).item() == pytest.approx(1)
    assert fastrdm.score_searchlight(brain, [range(9)], rdm).item() == pytest.approx(1)
    target = fastrdm.Target.from_responses([brain, brain + 1])
    assert target.score(rdm).rho == pytest.approx(np.ones((1, 2)))


def test_rows_of_an_assembly_that_share_a_stimulus_are_told_apart_by_all_levels():
    several = xr.concat([assembly(index=True), assembly(index=True) + 1], "presentation")
    index = several.indexes["presentation"].set_names(["stimulus_id", "repetition"])
    levels = [index.get_level_values(0), [0] * 5 + [1] * 5]
    table = pd.DataFrame(several.values, pd.MultiIndex.from_arrays(levels, names=index.names))
    order = np.roll(np.arange(10), 3)
    with pytest.warns(RuntimeWarning, match="another order"):
        found = fastrdm.compare(fastrdm.calc_rdm(table.iloc[order]), fastrdm.calc_rdm(table))
    assert np.asarray(found) == pytest.approx(1)
    message = "data has the condition labels .* more than once"
    with pytest.raises(ValueError, match=message):
        fastrdm.score_searchlight(
            several.reset_index("presentation"), [range(9)], fastrdm.calc_rdm(table)
        )


@pytest.mark.parametrize("given", [True, False])
def test_cross_validated_conditions_are_labelled(given):
    rows = frame(RNG.random((10, 6)), NAMES * 2)
    options = {"conditions": pd.Series(NAMES * 2, rows.index, name="stimulus")} if given else {}
    rdm = fastrdm.calc_rdm(rows, "crossnobis", folds=[1] * 5 + [2] * 5, **options)
    assert list(rdm.index) == list(itertools.combinations(NAMES, 2))
    runs = frame(rows.to_numpy(), [f"run {i}" for i in range(10)])
    plain = fastrdm.calc_rdm(runs, "crossnobis", folds=[1] * 5 + [2] * 5)
    assert type(plain) is np.ndarray


def test_conditions_of_named_dimensions_come_first():
    turned = array(ACTIVATIONS).transpose()
    message = (
        r"^activations have the dimensions \(unit, stimulus\) and shape \(7, 5\); conditions come first, so pass"
        r" activations.transpose\('stimulus', ...\)$"
    )
    for function in (fastrdm.calc_rdm, fastrdm.gram):
        with pytest.raises(ValueError, match=message):
            function(turned)
    assert fastrdm.calc_rdm(turned.transpose("stimulus", ...)).shape == (10,)


def test_subjects_come_first_and_pairs_last():
    rdms = fastrdm.calc_rdm([array(subject) for subject in SUBJECTS])
    message = r"has the dimensions \(pair, rdm\) and shape \(10, 3\); subjects .*\.transpose\(..., 'pair'\)$"
    for function in (
        fastrdm.Target,
        fastrdm.square,
        fastrdm.noise_ceiling,
        lambda turned: fastrdm.compare(turned, RDM),
    ):
        with pytest.raises(ValueError, match=message):
            function(rdms.transpose())
    over_time = xr.concat([rdms, rdms * 2], "time").rename(rdm="subject")
    message = r"subject_rdms.transpose\('subject', ..., 'pair'\)$"
    with pytest.raises(ValueError, match=message):
        fastrdm.Target(over_time)
    target = fastrdm.Target(over_time.transpose("subject", ..., "pair"), ceiling=1)
    assert (target.n_subjects, target.n_conditions) == (3, 5)


def test_ranks_keep_labels():
    rdm = fastrdm.calc_rdm(frame(ACTIVATIONS)).rename("conv1")
    ranks = fastrdm.rank(rdm)
    assert ranks.index.equals(rdm.index) and ranks.name == "conv1"
    np.testing.assert_array_equal(ranks, rdm.rank())
    assert fastrdm.rank(fastrdm.calc_rdm([array(ACTIVATIONS)] * 2)).dims == ("rdm", "pair")
    assert fastrdm.rank(pd.DataFrame([rdm])).columns.equals(rdm.index)


def test_similarities_have_the_names_of_models_and_brains():
    models = fastrdm.calc_rdm([frame(ACTIVATIONS), frame(ACTIVATIONS**2)]).set_axis(["m", "n"])
    brains = fastrdm.calc_rdm([frame(subject) for subject in SUBJECTS])
    table = fastrdm.compare(models, brains)
    assert list(table.index) == ["m", "n"] and list(table.columns) == [0, 1, 2]
    named = xr.DataArray(brains.to_numpy(), {"subject": ["s1", "s2", "s3"]}, ("subject", "pair"))
    found = fastrdm.compare(models, named)
    assert found.dims == ("rdm_1", "subject") and found.rdm_1.values.tolist() == ["m", "n"]
    assert found.sel(subject="s2", rdm_1="n") == table.loc["n", 1]
    table = fastrdm.compare({"m": models.loc["m"]}, models.loc["n"])
    assert list(table.index) == ["m"] and list(table.columns) == ["n"]
    assert type(fastrdm.compare(pd.DataFrame(brains.to_numpy()), RDM)) is np.ndarray
    like = fastrdm.compare(models, brains, like=np.empty(0))
    assert type(like) is np.ndarray
    assert type(fastrdm.calc_rdm(frame(ACTIVATIONS), out=np.empty(10))) is np.ndarray


@MAKERS
def test_tables_of_all_measures_have_names(make):
    layers = [make(ACTIVATIONS, MOVED), make(ACTIVATIONS**2, MOVED)]
    models, brains = fastrdm.calc_rdm(layers), fastrdm.calc_rdm(list(map(make, SUBJECTS)))
    if make is frame:
        models, brains = models.set_axis(["m", "n"]), brains.set_axis(["anna", "bert", "cleo"])
    else:
        models = models.assign_coords(rdm=["m", "n"])
        brains = brains.assign_coords(rdm=["anna", "bert", "cleo"])
    control = fastrdm.calc_rdm(make(RNG.random((5, 4))))
    for measure in (
        lambda m, b: fastrdm.partial_compare(m, b, control),
        lambda m, b: fastrdm.cka(m, b, distances="euclidean"),
    ):
        with pytest.warns(RuntimeWarning, match="another order"):
            found = measure(models, brains)
        assert type(found) is (pd.DataFrame if make is frame else xr.DataArray)
        axes = found.axes if make is frame else [found.indexes[dim] for dim in found.dims]
        assert [list(axis) for axis in axes] == [["m", "n"], ["anna", "bert", "cleo"]]
    squares = [fastrdm.square(fastrdm.calc_rdm(layer)) for layer in layers]
    similarity = fastrdm.cka(*squares, distances="euclidean")
    assert similarity.shape == (1, 1) and type(similarity) is type(squares[0])


def test_layers_of_a_labelled_table_have_names():
    table = fastrdm.calc_rdm([frame(ACTIVATIONS), frame(ACTIVATIONS**2)]).set_axis(["m", "n"])
    brains = fastrdm.calc_rdm([frame(subject) for subject in SUBJECTS])
    assert fastrdm.permutation_test(brains, table, n_permutations=9).names == ("m", "n")
    fitted = fastrdm.FittedRdm("weighted", ("m", "n"), np.array([0.2, 0.8]), "corr", False, 0.5)
    predicted = fitted.predict(table)
    assert predicted.index.equals(table.columns)
    pd.testing.assert_series_equal(fitted.predict(table[::-1]), predicted)
    squares = {name: fastrdm.square(rdm) for name, rdm in table.iterrows()}
    pd.testing.assert_series_equal(fitted.predict(squares), predicted, check_names=False)
    named = xr.DataArray(table.to_numpy(), {"layer": ["m", "n"]}, ("layer", "pair"))
    np.testing.assert_array_equal(fitted.predict(named[::-1]), predicted)
    with pytest.raises(ValueError, match="rdms lacks layers of the fitted model: n; it has m, o"):
        fitted.predict(table.set_axis(["m", "o"]))
    assert type(fitted.predict(table.to_numpy())) is np.ndarray


@MAKERS
def test_rdms_of_grams_and_accumulators_are_labelled(make, tmp_path):
    layer = make(ACTIVATIONS)
    expected, gram = fastrdm.calc_rdm(layer), fastrdm.gram(layer)
    gram.save(tmp_path / "layer.gram")
    accumulator = fastrdm.RdmAccumulator(5)
    accumulator.update(layer.iloc[:, :3] if make is frame else layer[:, :3])
    accumulator.update(layer.iloc[:, 3:] if make is frame else layer[:, 3:])
    for found in (gram, fastrdm.Gram.load(tmp_path / "layer.gram"), accumulator):
        rdm = found.rdm()
        if make is frame:
            pd.testing.assert_series_equal(rdm, expected)
        else:
            xr.testing.assert_allclose(rdm, expected)
    moved = gram.reordered(ORDER).rdm()
    with pytest.warns(RuntimeWarning, match="another order"):
        assert np.asarray(fastrdm.compare(moved, expected)) == pytest.approx(1)
    assert type(gram.rdm(like=np.empty(0))) is np.ndarray
    assert type(fastrdm.gram(ACTIVATIONS).rdm()) is np.ndarray


def test_the_rdm_of_a_gram_has_the_levels_that_tell_conditions_apart():
    rdm = fastrdm.gram(assembly(index=True)).rdm()
    assert set(rdm.coords) == {"stimulus_id_1", "stimulus_id_2"}
    index = pd.MultiIndex.from_arrays([list("aabbc"), [1, 2, 1, 2, 1]], names=["word", "voice"])
    table = pd.DataFrame(ACTIVATIONS, index)
    rdm = fastrdm.gram(table).rdm()
    assert rdm.index.names == ["word_1", "voice_1", "word_2", "voice_2"]
    assert np.asarray(fastrdm.compare(rdm, fastrdm.calc_rdm(table))) == pytest.approx(1)


def test_a_labelled_gram_needs_the_library_of_its_labels(monkeypatch):
    gram = fastrdm.gram(frame(ACTIVATIONS))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pandas is needed to label the RDM of a Gram"):
        gram.rdm()


@MAKERS
def test_a_subject_that_lacks_a_condition_is_named_with_it(make):
    rdms = [fastrdm.calc_rdm(make(ACTIVATIONS)), fastrdm.calc_rdm(make(ACTIVATIONS[:4], NAMES[:4]))]
    message = r"subject_rdms\[1\] and .*\[0\] differ in their condition labels \(4 and 5\); only in .*'gnu'$"
    for subjects in (rdms, [fastrdm.square(rdm) for rdm in rdms]):
        with pytest.raises(ValueError, match=message):
            fastrdm.noise_ceiling(subjects)
    with pytest.raises(ValueError, match=r"rdms1\['b'\] and rdms1\['a'\] differ in their cond"):
        fastrdm.compare({"a": rdms[0], "b": rdms[1]}, rdms[0])
    with pytest.raises(
        ValueError, match=r"rows differ in shape, rdms1\[1\] has \(6,\) and rdms1\["
    ):
        fastrdm.compare(list(map(np.asarray, rdms)), rdms[0])


@MAKERS
def test_folds_with_conditions_in_another_order_are_refused(make):
    both = np.concatenate([SUBJECTS[0], SUBJECTS[1][ORDER]])
    data, folds = make(both, NAMES + MOVED), np.repeat([1, 2], 5)
    message = (
        "have the conditions of fold 2 in another order than those of fold 1, first 'fig' in pl"
    )
    with pytest.raises(ValueError, match=f"^activations {message}"):
        fastrdm.calc_rdm(data, "crossnobis", folds=folds)
    with pytest.raises(ValueError, match=rf"^activations\['v4'\] {message}"):
        fastrdm.calc_rdm({"v4": data}, "crossnobis", folds=folds)
    with pytest.raises(ValueError, match=f"^data {message}"):
        fastrdm.calc_rdm_searchlight(data, [range(9)], "crossnobis", folds=folds)
    levels = [folds, NAMES + MOVED]
    table = pd.DataFrame(both, pd.MultiIndex.from_arrays(levels, names=["run", "word"]))
    with pytest.raises(ValueError, match=f"^activations {message}"):
        fastrdm.calc_rdm(table, "crossnobis", folds=folds)
    table = table.sort_index()
    assert fastrdm.calc_rdm(table, "crossnobis", folds=folds).index.names == ["word_1", "word_2"]
    options = {"folds": folds, "conditions": np.array(NAMES + MOVED)}
    in_order = np.concatenate([SUBJECTS[0], SUBJECTS[1]])
    expected = fastrdm.calc_rdm(in_order, "crossnobis", folds=folds)
    np.testing.assert_allclose(fastrdm.calc_rdm(data, "crossnobis", **options), expected)


@pytest.mark.filterwarnings("ignore:no layer is similar")
def test_folds_strata_and_masks_are_those_of_their_conditions():
    names = [f"im{i:02d}" for i in range(12)]
    order = RNG.permutation(12)
    values, layer = RNG.random((3, 12, 5)), RNG.random((12, 9))
    labels = np.arange(12) % 3
    moved = pd.Series(labels[order], index=[names[i] for i in order])
    responses = fastrdm.Responses([frame(subject, names) for subject in values])
    gram = fastrdm.gram(frame(layer, names))
    for option in ("folds", "groups", "strata"):
        more = {} if option == "folds" else {"folds": 3}
        expected = responses.score(gram, alphas=[1.0], **{option: labels}, **more).r
        with pytest.warns(RuntimeWarning, match=f"^{option} has its conditions in another order"):
            found = responses.score(gram, alphas=[1.0], **{option: moved}, **more).r
        np.testing.assert_array_equal(found, expected)
    subjects = fastrdm.calc_rdm([frame(subject, names) for subject in values])
    rdm = {"a": fastrdm.calc_rdm(frame(layer, names)), "b": subjects.iloc[0]}
    model = fastrdm.WeightedRdm()
    expected = fastrdm.cross_validate(model, rdm, subjects, labels).values
    with pytest.warns(RuntimeWarning, match="^condition_folds has its conditions in another order"):
        found = fastrdm.cross_validate(model, rdm, subjects, moved).values
    np.testing.assert_array_equal(found, expected)
    mask = labels > 0
    expected = model.fit(rdm, subjects, mask)
    with pytest.warns(RuntimeWarning, match="^conditions has its conditions in another order"):
        fitted = model.fit(rdm, subjects, moved > 0)
        score = fitted.score(rdm, subjects, moved > 0)
    np.testing.assert_array_equal(fitted.weights, expected.weights)
    np.testing.assert_array_equal(score.rho, fitted.score(rdm, subjects, mask).rho)
    with pytest.raises(ValueError, match="strata and responses differ in their condition labels"):
        responses.score(gram, folds=3, strata=moved.rename({"im00": "other"}))


@pytest.mark.filterwarnings("ignore:.* in another order")
@MAKERS
def test_models_are_matched_with_one_labelled_rdm(make):
    brain, control = fastrdm.calc_rdm(make(SUBJECTS[0])), fastrdm.calc_rdm(make(SUBJECTS[1]))
    for measure in (
        lambda model: fastrdm.partial_compare(model, brain, control),
        lambda model: fastrdm.partition_rdm_variance(brain, {"a": model, "b": control}).r2,
        lambda model: fastrdm.WeightedRdm().fit([model], brain).same_data,
    ):
        expected = measure(fastrdm.calc_rdm(make(ACTIVATIONS)))
        found = measure(fastrdm.calc_rdm(make(ACTIVATIONS[ORDER], MOVED)))
        np.testing.assert_allclose(found, expected)


def test_datasets_are_dicts_of_rdms():
    rdms = xr.Dataset(
        {"m": fastrdm.calc_rdm(array(ACTIVATIONS)), "n": fastrdm.calc_rdm(array(ACTIVATIONS**2))}
    )
    control = fastrdm.calc_rdm(array(SUBJECTS[1]))
    table = fastrdm.partial_compare(rdms, rdms, control)
    np.testing.assert_allclose(table, fastrdm.partial_compare(dict(rdms), dict(rdms), control))
    assert fastrdm.WeightedRdm().fit(rdms, rdms).layers == ("m", "n")
