"""Where two objects carry labels, these must be the same; models and brains are matched by them."""

import itertools
import pickle

import numpy as np
import pytest

import fastrdm
from fastrdm._base import labels_of
from fastrdm.studies import algonauts

pd = pytest.importorskip("pandas")

RNG = np.random.default_rng(0)
NAMES = ["cat", "dog", "egg", "fig"]
PAIRS = list(itertools.combinations(NAMES, 2))
CHANNELS = list("vwxyz")
RUNS = [f"run{f} {name}" for f in (1, 2) for name in NAMES]
FOLDS = [1, 1, 1, 1, 2, 2, 2, 2]
SQUARE = fastrdm.square(RNG.random(6))


class DataArray:
    """The attributes of xarray objects from which labels are read."""

    def __init__(self, values, **labels):
        self.values, self.dims = np.asarray(values), tuple(labels)
        self.coords = {dim: np.asarray(of, object) for dim, of in labels.items() if of is not None}
        self.ndim, self.shape = self.values.ndim, self.values.shape

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


def frame(values, columns=None, index=None):
    return pd.DataFrame(values, index=index, columns=columns)


def tuples(pairs):
    return pd.MultiIndex.from_tuples(pairs)


def square_frame(names, columns=None):
    return pd.DataFrame(SQUARE, index=names, columns=names if columns is None else columns)


def condensed(pairs):
    return frame(RNG.random((3, 6)), tuples(pairs) if isinstance(pairs[0], tuple) else pairs)


def xarray_of_pairs(pairs):
    return DataArray(RNG.random((3, 6)), model=None, pair=[str(pair) for pair in pairs])


def squares_of(names):
    return [square_frame(names), square_frame(names)]


def xarray_squares_of(names):
    return DataArray(np.stack([SQUARE, SQUARE]), subject=None, row=names, column=names)


def activations(names, channels=None):
    return frame(RNG.random((len(names), 5)), channels, names)


def xarray_activations(names, channels=None):
    return DataArray(RNG.random((len(names), 5)), condition=names, channel=channels)


def precision(channels):
    return frame(np.eye(5), channels, channels)


def residuals(channels):
    return frame(RNG.random((40, 5)), channels)


def bootstrapped(subjects, models):
    return fastrdm.bootstrap(subjects, models, n_draws=3)


def permuted(subjects, models):
    return fastrdm.permutation_test(subjects, models, n_permutations=3)


def scored(subjects, models):
    return fastrdm.Target(subjects, ceiling=1).score(models)


def crossnobis(measurements, **options):
    return fastrdm.calc_rdm(measurements, "crossnobis", **{"folds": FOLDS, **options})


def folds(labels):
    return pd.Series(FOLDS, labels)


def conditions(labels):
    return pd.Series(NAMES * 2, labels)


def values(names):
    return frame(RNG.random((2, 4)), names)


# A function of two objects, functions that make these objects from labels, and the labels.
MEETINGS = {
    "compare": (fastrdm.compare, condensed, condensed, PAIRS),
    "compare, texts": (fastrdm.compare, condensed, condensed, list("uvwxyz")),
    "compare, series": (
        fastrdm.compare,
        lambda p: pd.Series(RNG.random(6), p),
        lambda p: [pd.Series(RNG.random(6), p)],
        list("uvwxyz"),
    ),
    "compare, dict": (
        fastrdm.compare,
        lambda p: {"a": pd.Series(RNG.random(6), p)},
        condensed,
        list("uvwxyz"),
    ),
    "compare, xarray": (fastrdm.compare, xarray_of_pairs, xarray_of_pairs, PAIRS),
    "within a stack": (
        lambda a, b: fastrdm.compare([a, b], RNG.random(6)),
        *[lambda p: pd.Series(RNG.random(6), p)] * 2,
        list("uvwxyz"),
    ),
    "Target": (scored, squares_of, square_frame, NAMES),
    "Target, condensed": (scored, condensed, condensed, PAIRS),
    "Target of squares, condensed model": (scored, squares_of, condensed, PAIRS),
    "Target, condensed, square model": (scored, condensed, square_frame, PAIRS),
    "Target, xarray": (scored, xarray_squares_of, xarray_squares_of, NAMES),
    "Target, pandas and xarray": (scored, xarray_squares_of, square_frame, NAMES),
    "Target, dict": (
        scored,
        lambda n: {"s1": square_frame(n), "s2": SQUARE},
        lambda n: {"m": square_frame(n)},
        NAMES,
    ),
    "bootstrap": (bootstrapped, squares_of, square_frame, NAMES),
    "permutation_test": (permuted, squares_of, square_frame, NAMES),
    "bootstrap of a target": (
        lambda s, m: bootstrapped(fastrdm.Target(s, ceiling=1), m),
        squares_of,
        square_frame,
        NAMES,
    ),
    "rows and columns": (
        lambda rows, columns: fastrdm.condense(square_frame(rows, columns)),
        list,
        list,
        NAMES,
    ),
    "rows and columns, xarray": (
        lambda rows, columns: fastrdm.condense(DataArray(SQUARE, row=rows, column=columns)),
        list,
        list,
        NAMES,
    ),
    "rows and columns of subjects": (
        lambda rows, columns: fastrdm.noise_ceiling([SQUARE, square_frame(rows, columns)]),
        list,
        list,
        NAMES,
    ),
    "condense a stack": (
        lambda a, b: fastrdm.condense([a, b]),
        square_frame,
        square_frame,
        NAMES,
    ),
    "square": (
        lambda a, b: fastrdm.square([a, b]),
        *[lambda p: pd.Series(RNG.random(6), p)] * 2,
        list("uvwxyz"),
    ),
    "noise_ceiling": (
        lambda a, b: fastrdm.noise_ceiling([a, b]),
        square_frame,
        square_frame,
        NAMES,
    ),
    "calc_rdm of a list": (
        lambda a, b: fastrdm.calc_rdm([a, b]),
        activations,
        activations,
        NAMES,
    ),
    "calc_rdm of a dict": (
        lambda a, b: fastrdm.calc_rdm({"a": a, "b": np.ones((4, 2)) * [1, 2], "c": b}),
        activations,
        xarray_activations,
        NAMES,
    ),
    "folds": (lambda x, f: crossnobis(x, folds=f), activations, folds, RUNS),
    "conditions": (lambda x, c: crossnobis(x, conditions=c), activations, conditions, RUNS),
    "folds and conditions": (
        lambda f, c: crossnobis(RNG.random((8, 5)), folds=f, conditions=c),
        folds,
        conditions,
        RUNS,
    ),
    "precision": (
        lambda x, p: fastrdm.calc_rdm(x, "mahalanobis", precision=p),
        lambda c: activations(NAMES, c),
        precision,
        CHANNELS,
    ),
    "rows and columns of precision": (
        lambda r, c: fastrdm.calc_rdm(
            RNG.random((4, 5)), "mahalanobis", precision=frame(np.eye(5), c, r)
        ),
        list,
        list,
        CHANNELS,
    ),
    "residuals": (
        lambda x, r: fastrdm.calc_rdm(x, "mahalanobis", residuals=r),
        lambda c: xarray_activations(NAMES, c),
        residuals,
        CHANNELS,
    ),
    "residuals of a layer": (
        lambda x, r: fastrdm.calc_rdm({"a": x}, "mahalanobis", residuals={"a": r}),
        lambda c: activations(NAMES, c),
        residuals,
        CHANNELS,
    ),
    "rows of activations": (
        lambda a, b: fastrdm.calc_rdm([a, b]),
        *[lambda c: pd.Series(RNG.random(5), c)] * 2,
        CHANNELS,
    ),
    "subject_test": (
        fastrdm.subject_test,
        values,
        lambda names: pd.Series(np.zeros(4), names),
        NAMES,
    ),
}
meetings = pytest.mark.parametrize("meeting", MEETINGS)


def call(meeting, first, second):
    function, make_first, make_second, labels = MEETINGS[meeting]
    condition_labels = {square_frame, squares_of}

    def of(make, labels):
        # Square RDMs have labels of conditions, condensed ones labels of pairs.
        is_pairs = isinstance(labels[0], tuple)
        names = list(dict.fromkeys(itertools.chain(*labels))) if is_pairs else labels
        return make(names if is_pairs and make in condition_labels else labels)

    return function(of(make_first, first(labels)), of(make_second, second(labels)))


def as_given(labels):
    return list(labels)


def swapped(labels):
    if isinstance(labels[0], tuple):
        return list(itertools.combinations([NAMES[0], NAMES[2], NAMES[1], NAMES[3]], 2))
    return [*labels[:1], labels[2], labels[1], *labels[3:]]


def renamed(labels):
    if isinstance(labels[0], tuple):
        return list(itertools.combinations([*NAMES[:3], "gnu"], 2))
    return [*labels[:-1], "gnu"]


@meetings
def test_equal_labels_give_the_results_without_labels(meeting):
    call(meeting, as_given, as_given)


@meetings
@pytest.mark.parametrize("order", [(as_given, renamed), (renamed, as_given)])
def test_different_labels_are_an_error_that_names_the_first(meeting, order):
    message = r"^\S.* and \S.* differ in their \w+ labels, first at \w+ \d+, .*gnu"
    with pytest.raises(ValueError, match=message):
        call(meeting, *order)


# Models and brains, which are matched by name.
MATCHED = [name for name in MEETINGS if name.startswith(("compare", "Target", "bootstrap"))]
MATCHED += ["within a stack", "permutation_test", "noise_ceiling"]


@pytest.mark.parametrize("meeting", sorted(MEETINGS.keys() - MATCHED))
def test_reordered_labels_are_an_error_that_says_so(meeting):
    message = r"have the same \w+ labels in another order, first at \w+ 1,"
    with pytest.raises(ValueError, match=message):
        call(meeting, as_given, swapped)


@pytest.mark.parametrize("meeting", MATCHED)
def test_reordered_models_and_brains_are_matched_with_one_warning(meeting):
    # Pairs that are labelled by text cannot be told to be reversed.
    given = MEETINGS[meeting][3]
    if meeting == "compare, xarray":
        with pytest.raises(ValueError, match="differ in their pair labels"):
            call(meeting, as_given, swapped)
        return
    with pytest.warns(RuntimeWarning, match="in another order than .* by their labels") as record:
        call(meeting, as_given, swapped)
    assert len(record) == 1 and len(given) > 3


def unlabelled(labels):
    return pd.RangeIndex(len(labels))


@pytest.mark.parametrize(
    "meeting",
    [m for m in MEETINGS if m in ("compare, texts", "compare, series", "Target", "bootstrap")]
    + ["noise_ceiling", "calc_rdm of a list", "folds", "conditions", "precision", "residuals"]
    + ["rows and columns", "subject_test"],
)
def test_a_default_index_is_not_a_label(meeting):
    function, first, second, labels = MEETINGS[meeting]
    if first is not list and meeting != "residuals":
        function(first(unlabelled(labels)), second(labels))
    if second is not list:
        function(first(labels), second(unlabelled(labels)))


def test_arrays_without_labels_match_any_labels():
    fastrdm.compare(condensed(PAIRS), RNG.random((2, 6)))
    scored(squares_of(NAMES), SQUARE)
    fastrdm.calc_rdm([activations(NAMES), RNG.random((4, 3))])
    crossnobis(activations(RUNS), folds=FOLDS, conditions=NAMES * 2)
    fastrdm.calc_rdm(activations(NAMES), "mahalanobis", precision=np.eye(5))


def test_a_range_that_does_not_start_at_zero_is_a_label():
    part = pd.DataFrame(RNG.random((8, 5)))[4:]
    with pytest.raises(ValueError, match="differ in their condition labels, first at condition 0"):
        fastrdm.calc_rdm([part, activations(NAMES)])


def test_the_first_difference_is_named_with_both_labels():
    message = (
        "^the columns of precision and the columns of activations have the same channel labels in another order, first"
        " at channel 2, 'x' and 'y'; bring them into one order$"
    )
    with pytest.raises(ValueError, match=message):
        fastrdm.calc_rdm(
            activations(NAMES, list("vwyxz")), "mahalanobis", precision=precision(CHANNELS)
        )
    message = (
        r"^activations\[0\] and activations\[1\] differ in their condition labels, first at condition 3,"
        " 'fig' and 'gnu'$"
    )
    with pytest.raises(ValueError, match=message):
        fastrdm.calc_rdm([activations(NAMES), activations([*NAMES[:3], "gnu"])])
    message = "^the rows of rdms and the columns of rdms .* first at condition 0, 'cat' and 'fig'"
    with pytest.raises(ValueError, match=message):
        fastrdm.condense(square_frame(NAMES, NAMES[::-1]))


def test_numbers_and_strings_of_them_are_the_same_label(tmp_path):
    names = [3, 1, 4, 7]
    pd.DataFrame(SQUARE, names, names).to_csv(tmp_path / "rdm.csv")
    read = pd.read_csv(tmp_path / "rdm.csv", index_col=0)
    np.testing.assert_allclose(fastrdm.condense(read), fastrdm.condense(SQUARE))
    scored([square_frame(names), square_frame([3.0, 1.0, 4.0, 7.0])], read)


def test_missing_labels_and_dates():
    dates = pd.date_range("2024-01-01", periods=4)
    xarray = DataArray(SQUARE, row=None, column=None)
    xarray.coords = {"row": dates.to_numpy()}
    scored([square_frame(dates)], [xarray])
    with pytest.warns(RuntimeWarning, match="matched by position"):
        scored([square_frame(["a", None, np.nan, "b"])], square_frame(["a", None, np.nan, "b"]))
    with pytest.warns(RuntimeWarning, match="another order"):
        scored([square_frame(dates)], square_frame(dates[::-1]))


@pytest.mark.parametrize("make, other", [(squares_of, square_frame), (condensed, condensed)])
def test_a_target_keeps_its_labels_in_files_and_pickles(tmp_path, make, other):
    labels = PAIRS if make is condensed else NAMES
    target = fastrdm.Target(make(labels), ceiling=1, name="IT")
    target.save(tmp_path / "it")
    loaded = fastrdm.Target.load(tmp_path / "it")
    for kept in (
        target,
        loaded,
        pickle.loads(pickle.dumps(target)),
        pickle.loads(pickle.dumps(loaded)),
    ):
        np.testing.assert_array_equal(kept.score(other(labels)).rho.shape[1], target.n_subjects)
        with pytest.raises(ValueError, match="^rdms and IT "):
            kept.score(other(renamed(labels)))
        with pytest.raises(ValueError, match="^rdms and IT "):
            bootstrapped(kept, other(renamed(labels)))


def test_a_target_without_labels_stays_unlabelled(tmp_path):
    target = fastrdm.Target(RNG.random((3, 6)), ceiling=1)
    target.save(tmp_path / "it")
    assert target.labels is None and fastrdm.Target.load(tmp_path / "it").labels is None


def test_submissions_need_one_order_of_conditions(tmp_path):
    both = {"evc": square_frame(NAMES), "it": square_frame(swapped(NAMES))}
    with pytest.raises(ValueError, match="EVC_RDMs and IT_RDMs have the same condition labels"):
        algonauts.write_submission(tmp_path, both)
    with pytest.raises(ValueError, match="rows of EVC_RDMs and the columns of EVC_RDMs"):
        algonauts.write_submission(tmp_path, square_frame(NAMES, swapped(NAMES)))
    algonauts.write_submission(tmp_path, square_frame(NAMES))


def test_missing_values_of_pandas_are_nan():
    numbers = pd.DataFrame({"a": [1, 4, 3], "b": [2, 1, 5], "c": [7, 2, 1]}).astype("Int64")
    expected = numbers.to_numpy(np.float64)
    np.testing.assert_array_equal(
        fastrdm.compare(numbers, numbers), fastrdm.compare(expected, expected)
    )
    numbers.iloc[1, 2] = pd.NA
    with pytest.raises(ValueError, match="NaN at RDM 1, pair 2"):
        fastrdm.compare(numbers, numbers)
    assert np.isnan(fastrdm.compare(numbers, numbers, nan_policy="propagate")[1]).all()
    mixed = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [1.5, 2.5], "c": [2, 1]})
    assert np.isnan(fastrdm.compare(mixed, mixed, nan_policy="propagate")[1]).all()
    np.testing.assert_array_equal(
        fastrdm.noise_ceiling([mixed, mixed], nan_policy="omit").upper_per_subject, [1, 1]
    )
    for texts in (["x", "y"], ["1", "2"]):
        with pytest.raises(ValueError, match="must hold real numbers, got dtype object"):
            fastrdm.calc_rdm(pd.DataFrame({"a": texts, "b": [1, 2]}))


def test_labels_of_folds_that_are_strings_of_digits_stay_strings():
    texts = pd.Series([f"{i}" for i in (2, 10, 1, 2, 10, 1)], dtype=object)
    x = RNG.random((6, 5))
    options = {"folds": [1, 1, 1, 2, 2, 2]}
    np.testing.assert_array_equal(
        fastrdm.calc_rdm(x, "crossnobis", conditions=texts, **options),
        fastrdm.calc_rdm(x, "crossnobis", conditions=list(texts), **options),
    )


def test_real_xarray_objects():
    xr = pytest.importorskip("xarray")
    array = xr.DataArray(SQUARE, dims=("row", "column"), coords={"row": NAMES, "column": NAMES})
    np.testing.assert_array_equal(fastrdm.condense(array), fastrdm.condense(SQUARE))
    turned = array.assign_coords(column=swapped(NAMES))
    with pytest.raises(ValueError, match="same condition labels in another order"):
        fastrdm.condense(turned)
    with pytest.raises(ValueError, match="rdms and the target differ in their condition labels"):
        scored([array], square_frame(renamed(NAMES)))
    assert labels_of(array.drop_vars("row"), 0, "x", "condition") is None


def test_lists_of_numbers_and_objects_with_an_index_method_have_no_labels():
    assert labels_of([[1, 2], [3, 4]], -1, "x", "condition") is None
    assert labels_of("text", -1, "x", "condition") is None
    assert labels_of(pd.Series([1, 2], ["a", "b"]), -2, "x", "condition") is None


def test_blocks_of_an_accumulator_need_the_same_conditions():
    pd = pytest.importorskip("pandas")
    x = np.random.default_rng(0).random((4, 6))
    names = ["a", "b", "c", "d"]
    blocks = fastrdm.RdmAccumulator(4)
    blocks.update(pd.DataFrame(x[:, :3], index=names))
    before = blocks.n_channels
    with pytest.raises(ValueError, match="activations"):
        blocks.update(pd.DataFrame(x[:, 3:], index=names[::-1]))
    assert blocks.n_channels == before
    other = fastrdm.RdmAccumulator(4)
    other.update(pd.DataFrame(x[:, 3:], index=[*names[:3], "e"]))
    with pytest.raises(ValueError, match="'d'.*'e'|'e'.*'d'"):
        blocks + other
    blocks.update(x[:, 3:])
    np.testing.assert_allclose(blocks.rdm(), fastrdm.calc_rdm(x), atol=1e-12)
