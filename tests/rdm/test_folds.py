from itertools import combinations

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrdm import RdmAccumulator, calc_rdm

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def measurements(n_folds, n_conditions, n_channels, most=1, seed=0, dtype=np.float64):
    """Shuffled, 1 … `most` of each condition in each fold."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, most + 1, n_folds * n_conditions)
    cells = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    folds, conditions = np.divmod(cells, n_conditions)
    signal = rng.standard_normal((n_conditions, n_channels))
    rows = signal[conditions] + rng.standard_normal((len(cells), n_channels)) + 5
    return rows.astype(dtype), folds, conditions


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 2, 1), (3, 12, 700), (5, 40, 60)])
def test_crossnobis_equals_the_oracle(kernels, shape, dtype):
    x, folds, conditions = measurements(*shape, most=3, dtype=dtype)
    found = calc_rdm(x, "crossnobis", folds=folds, conditions=conditions)
    expected = reference.crossnobis(x, folds, conditions)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * shape[2])


@quick
@given(
    st.integers(2, 6),
    st.integers(2, 12),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(0, 9999),
)
def test_any_labels_and_any_noise(n_folds, n_conditions, n_channels, most, seed):
    x, folds, conditions = measurements(n_folds, n_conditions, n_channels, most, seed)
    filters = np.random.default_rng(seed).standard_normal((n_channels, n_channels))
    precision = filters.T @ filters
    names = (
        np.array([f"run {i}" for i in range(n_folds)])[folds],
        np.array(list("abcdefghijkl"))[conditions],
    )
    found = calc_rdm(
        x, "crossnobis", folds=names[0], conditions=names[1].tolist(), precision=precision
    )
    expected = reference.crossnobis(x, *names, precision)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(precision).sum())


def test_noise_may_be_estimated_from_residuals():
    x, folds, conditions = measurements(3, 8, 20)
    residuals = np.random.default_rng(1).standard_normal((50, 20))
    precision = np.linalg.inv(reference.covariance(residuals))
    found = calc_rdm(x, "crossnobis", folds=folds, conditions=conditions, residuals=residuals)
    np.testing.assert_allclose(
        found, reference.crossnobis(x, folds, conditions, precision), atol=1e-9
    )


def test_without_conditions_the_order_within_folds_counts():
    x = np.random.default_rng(0).standard_normal((12, 30))
    folds, conditions = np.tile([2, 1, 3], 4), np.repeat(np.arange(4), 3)
    found = calc_rdm(x, "crossnobis", folds=folds)
    np.testing.assert_array_equal(
        found, calc_rdm(x, "crossnobis", folds=folds, conditions=conditions)
    )


def test_noise_alone_has_no_distance_on_average():
    x = np.random.default_rng(0).standard_normal((4 * 60, 500))
    rdm = calc_rdm(x, "crossnobis", folds=np.repeat(np.arange(4), 60))
    assert abs(rdm.mean()) < 3 * rdm.std() / 60 and 0.4 < np.mean(rdm < 0) < 0.6


def test_a_stack_shares_the_labels():
    x, folds, conditions = measurements(3, 8, 20)
    labels = {"folds": folds, "conditions": conditions}
    rdms = calc_rdm([x, x[:, :5]], "crossnobis", **labels)
    np.testing.assert_array_equal(rdms[1], calc_rdm(x[:, :5], "crossnobis", **labels))
    out = np.empty((2, 28))
    assert calc_rdm([x, x[:, :5]], "crossnobis", out=out, **labels) is out
    np.testing.assert_array_equal(out, rdms)


ERRORS = [
    ({}, "method 'crossnobis' needs folds"),
    ({"folds": [1] * 6}, "folds are all 1; crossnobis compares measurements of 2 or more"),
    (
        {"folds": [1, 1, 1]},
        r"folds have shape \(3,\); activations hold 6 measurements, so they must be \(6,\)",
    ),
    (
        {"folds": [1, 1, 1, 1, 2, 2]},
        "fold 1 holds 4 measurements and fold 2 2; pass conditions=",
    ),
    ({"folds": [1, 2, 3, 4, 5, 6]}, "conditions are all 0; an RDM has 2 or more"),
    ({"folds": [1, 1, 1, 2, 2, np.nan]}, "folds hold NaN, which is not a label"),
    (
        {"folds": np.array([1, None, 1, 2, 2, 2], object)},
        "folds hold labels of types that cannot be sorted",
    ),
    (
        {"folds": list("aaabbb"), "conditions": ["x", "y", "z", "x", "y", "y"]},
        "conditions 'x' and 'z' are measured together in 1 of 2 folds; crossnobis needs 2 or more",
    ),
    ({"folds": [1, 1, 1, 2, 2, 2], "conditions": [1, 2]}, r"conditions have shape \(2,\)"),
    (
        {"folds": [1, 1, 1, 2, 2, 2], "precision": np.eye(2), "residuals": np.eye(2)},
        "precision and residuals were both given",
    ),
]


@pytest.mark.parametrize("options, message", ERRORS)
def test_invalid_labels_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        calc_rdm(np.random.default_rng(0).random((6, 4)), "crossnobis", **options)


def test_nan_is_named_by_measurement():
    x, folds, conditions = measurements(2, 3, 4)
    x[4, 1] = np.nan
    with pytest.raises(ValueError, match="NaN at measurement 4, channel 1"):
        calc_rdm(x, "crossnobis", folds=folds, conditions=conditions)


def test_crossnobis_has_no_blocks():
    with pytest.raises(ValueError, match="'crossnobis' averages measurements of folds"):
        RdmAccumulator(5, "crossnobis")


def by_pairs(x, folds, conditions, precision_of):
    """Every two conditions over the pairs of folds that have both."""
    names, runs = np.unique(conditions), np.unique(folds)
    means = {
        (f, c): x[(folds == f) & (conditions == c)].mean(axis=0)
        for f in runs
        for c in names
        if np.any((folds == f) & (conditions == c))
    }
    rdm = []
    for a, b in combinations(names, 2):
        terms = [
            (means[f, a] - means[f, b]) @ precision_of(f, g) @ (means[g, a] - means[g, b])
            for f, g in combinations(runs, 2)
            if {(f, a), (f, b), (g, a), (g, b)} <= means.keys()
        ]
        rdm.append(np.mean(terms))
    return np.array(rdm)


def precisions(n_folds, n_channels, seed=1):
    filters = np.random.default_rng(seed).standard_normal((n_folds, n_channels, 2 * n_channels))
    return filters @ filters.transpose(0, 2, 1)


def mean_covariance(given, runs):
    place = {run: k for k, run in enumerate(runs)}
    covariance = np.linalg.inv(given)
    return lambda f, g: np.linalg.inv((covariance[place[f]] + covariance[place[g]]) / 2)


@pytest.mark.parametrize("memory", [{}, {"max_memory": "1GB"}])
@pytest.mark.parametrize("noise", ["none", "one", "by fold"])
def test_folds_may_lack_conditions(kernels, noise, memory):
    x, folds, conditions = measurements(5, 9, 20, most=2)
    kept = ~((folds == 1) & np.isin(conditions, [2, 3])) & ~((folds == 4) & (conditions == 8))
    x, folds, conditions = x[kept], folds[kept], conditions[kept]
    given = precisions(5, 20)
    options = {"none": {}, "one": {"precision": given[0]}, "by fold": {"precision": given}}[noise]
    of = {
        "none": lambda f, g: np.eye(20),
        "one": lambda f, g: given[0],
        "by fold": mean_covariance(given, range(5)),
    }[noise]
    found = calc_rdm(x, "crossnobis", folds=folds, conditions=conditions, **options, **memory)
    expected = by_pairs(x, folds, conditions, of)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_a_precision_for_each_fold_equals_rsatoolbox():
    rsatoolbox = pytest.importorskip("rsatoolbox")
    x, folds, conditions = measurements(4, 7, 15, most=2)
    given = precisions(4, 15)
    data = rsatoolbox.data.Dataset(
        x, obs_descriptors={"condition": conditions.tolist(), "run": folds.tolist()}
    )
    theirs = rsatoolbox.rdm.calc_rdm(
        data, "crossnobis", descriptor="condition", cv_descriptor="run", noise=list(given)
    ).get_vectors()[0]
    for form in (given, list(given), dict(enumerate(given))):
        ours = calc_rdm(x, "crossnobis", folds=folds, conditions=conditions, precision=form)
        np.testing.assert_allclose(ours / 15, theirs, rtol=1e-9)


def test_residuals_of_each_fold():
    x, folds, conditions = measurements(3, 6, 10)
    residuals = np.random.default_rng(1).standard_normal((3, 60, 10))
    given = np.linalg.inv([reference.covariance(r) for r in residuals])
    found = calc_rdm(x, "crossnobis", folds=folds, conditions=conditions, residuals=list(residuals))
    expected = by_pairs(x, folds, conditions, mean_covariance(given, range(3)))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_members_of_a_stack_with_precisions_of_their_folds():
    x, folds, conditions = measurements(3, 6, 10)
    given = precisions(3, 10), precisions(3, 10, seed=2)
    labels = {"folds": folds, "conditions": conditions}
    found = calc_rdm([x, 2 * x], "crossnobis", precision=list(given), **labels)
    for rdm, rows, own in zip(found, (x, 2 * x), given, strict=True):
        np.testing.assert_array_equal(rdm, calc_rdm(rows, "crossnobis", precision=own, **labels))


@pytest.mark.parametrize(
    "precision, message",
    [
        (precisions(2, 10), "precision: 2 for 3 folds; pass one for each fold"),
        (
            {0: np.eye(10), 1: np.eye(10), 7: np.eye(10)},
            r"precision has folds \[0, 1, 7\]",
        ),
        (precisions(3, 9), r"precision of fold 0 has shape \(9, 9\)"),
    ],
)
def test_precisions_that_do_not_fit_the_folds(precision, message):
    x, folds, conditions = measurements(3, 6, 10)
    with pytest.raises(ValueError, match=message):
        calc_rdm(x, "crossnobis", folds=folds, conditions=conditions, precision=precision)


def test_conditions_that_no_two_folds_share_are_named():
    x, folds, conditions = measurements(3, 6, 10)
    kept = ~((folds < 2) & (conditions == 4))
    with pytest.raises(
        ValueError, match="conditions 0 and 4 are measured together in 1 of 3 folds"
    ):
        calc_rdm(x[kept], "crossnobis", folds=folds[kept], conditions=conditions[kept])
