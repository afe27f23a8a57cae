"""Partial and semi-partial correlation and variance partitioning, against least squares and textbook formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata

import fastrdm
from fastrdm import partial_compare, partition_rdm_variance

METHODS = ("spearman", "corr")


def make(seed=0, n_pairs=66, n_controls=2):
    """Models, subjects and controls that share a component; integers give ties."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=n_pairs)
    scale = rng.choice([1, 3, 1000])
    return tuple(
        np.round((rng.normal(size=(n, n_pairs)) + shared) * scale) for n in (3, 4, n_controls)
    )


def transformed(rows, method):
    return np.array([rankdata(row) for row in rows]) if method == "spearman" else rows


def residual(y, controls):
    design = np.column_stack([np.ones(len(y)), *controls])
    return y - design @ np.linalg.lstsq(design, y, rcond=None)[0]


@given(st.integers(0, 10_000), st.sampled_from(METHODS), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_correlations_are_those_of_residuals(seed, method, n_controls):
    models, subjects, controls = make(seed, n_controls=n_controls)
    x, y, z = (transformed(rows, method) for rows in (models, subjects, controls))
    left = [residual(row, z) for row in x]
    partial = [[pearsonr(a, residual(b, z)).statistic for b in y] for a in left]
    np.testing.assert_allclose(
        partial_compare(models, subjects, controls, method), partial, atol=1e-9
    )
    semi = [[pearsonr(a, b).statistic for b in y] for a in left]
    found = partial_compare(models, subjects, controls, method, kind="semi-partial")
    np.testing.assert_allclose(found, semi, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_one_control_has_the_textbook_formula(method):
    models, subjects, controls = make(n_controls=1)
    xy = fastrdm.compare(models, subjects, method)
    xz = fastrdm.compare(models, controls, method)
    yz = fastrdm.compare(subjects, controls, method).T
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    found = partial_compare(models, subjects, controls[0], method)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_several_controls_have_the_formula_of_the_inverse_correlations(method):
    models, subjects, controls = make(n_controls=3)
    found = partial_compare(models[0], subjects[0], controls, method)
    rows = transformed(np.vstack([models[:1], subjects[:1], controls]), method)
    inverse = np.linalg.inv(np.corrcoef(rows))
    assert found[0, 0] == pytest.approx(-inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1]))


def test_float32_is_within_1e_6():
    models, subjects, controls = make()
    exact = partial_compare(models, subjects, controls, "corr")
    single = (rows.astype(np.float32) for rows in (models, subjects, controls))
    np.testing.assert_allclose(partial_compare(*single, "corr"), exact, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_unit_does_not_matter(scale):
    models, subjects, controls = make()
    expected = partial_compare(models, subjects, controls, "corr")
    found = partial_compare(models / 4000 * scale, subjects, controls / 4000 * scale, "corr")
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_square_of_a_semi_partial_correlation_is_what_a_model_adds():
    models, subjects, controls = make()
    partition = partition_rdm_variance(subjects, {"controls": controls, "model": models[0]})
    semi = partial_compare(models[0], subjects, controls, kind="semi-partial")[0]
    np.testing.assert_allclose(partition.unique("model"), semi**2, atol=1e-12)


def oracle(model, subject, controls, method="spearman", kind="partial"):
    x, y, *z = transformed(np.vstack([model, subject, controls]), method)
    left = residual(x, z)
    return pearsonr(left, residual(y, z) if kind == "partial" else y).statistic


@pytest.mark.parametrize("kind", ["partial", "semi-partial"])
def test_missing_pairs_are_left_out_of_each_comparison(kind):
    models, subjects, controls = make()
    models[0, 3] = subjects[1, 4] = controls[0, 5] = np.nan
    found = partial_compare(models, subjects, controls, nan_policy="omit", kind=kind)
    for i, model in enumerate(models):
        for j, subject in enumerate(subjects):
            left = ~np.isnan([model, subject, *controls]).any(axis=0)
            expected = oracle(model[left], subject[left], controls[:, left], kind=kind)
            assert found[i, j] == pytest.approx(expected, abs=1e-9)


def test_propagated_nan_is_that_of_the_rdm():
    models, subjects, controls = make()
    whole = partial_compare(models, subjects, controls)
    models[0, 3] = subjects[1, 4] = np.nan
    found = partial_compare(models, subjects, controls, nan_policy="propagate")
    assert np.isnan(found[0]).all()
    assert np.isnan(found[:, 1]).all()
    np.testing.assert_allclose(found[1:, [0, 2, 3]], whole[1:, [0, 2, 3]], atol=1e-12)
    controls[0, 0] = np.nan
    assert np.isnan(partial_compare(models, subjects, controls, nan_policy="propagate")).all()
    with pytest.raises(ValueError, match="is not finite"):
        partial_compare(models, subjects, controls)


def test_times_are_averaged_and_targets_taken():
    models, subjects, controls = make()
    target = fastrdm.Target(subjects.reshape(2, 2, 66))
    expected = partial_compare(models, subjects, controls).reshape(3, 2, 2).mean(axis=2)
    np.testing.assert_allclose(partial_compare(models, target, controls), expected, atol=1e-12)


def test_what_the_controls_explain_is_nan_and_named():
    models, subjects, controls = make()
    rdms = {"layer": models[0], "mixture": controls[0] + 2 * controls[1]}
    with pytest.warns(
        RuntimeWarning, match=r"explain a model or a subject fully \(rdms: mixture\)"
    ):
        found = partial_compare(rdms, subjects, controls, "corr")
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[0]).all()
    subjects[2] = controls[0]
    with pytest.warns(RuntimeWarning, match="rdms: 0, 1, 2"):
        found = partial_compare(models, subjects, controls)
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(partial_compare(models, subjects, controls, kind="semi-partial")).all()


def test_dependent_controls_count_once():
    models, subjects, controls = make()
    more = np.vstack([controls, controls[0], controls.sum(axis=0)])
    np.testing.assert_allclose(
        partial_compare(models, subjects, more, "corr"),
        partial_compare(models, subjects, controls, "corr"),
        atol=1e-9,
    )


def test_few_pairs_are_defined():
    rng = np.random.default_rng(0)
    three = rng.random((2, 3))
    found = partial_compare(three[0], rng.random((1, 3)), three[1], "corr")
    assert abs(found[0, 0]) == pytest.approx(1)
    with pytest.warns(RuntimeWarning, match="explain a model"):
        found = partial_compare(three[0], rng.random((1, 3)), rng.random((2, 3)), "corr")
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "tau-a"}, "method 'tau-a' is not one of: spearman, corr, pearson"),
        ({"kind": "half"}, "kind 'half' is not one of: partial, semi-partial"),
        ({"controls": np.ones((1, 66))}, "RDM 0 of controls is constant"),
        ({"controls": {"size": np.ones(66)}}, r"controls\['size'\] is constant"),
        ({"controls": np.ones((1, 10))}, r"controls has shape \(1, 10\)"),
        ({"rdms": np.ones((1, 66))}, "model 0 of rdms is constant"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    models, subjects, controls = make()
    arguments = {"rdms": models, "target": subjects, "controls": controls} | change
    with pytest.raises(ValueError, match=message):
        partial_compare(**arguments)


def r2(y, controls):
    left = residual(y, controls)
    return 1 - (left**2).sum() / ((y - y.mean()) ** 2).sum()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shares_of_three_sets_are_those_of_all_regressions(method, dtype):
    rng = np.random.default_rng(0)
    subjects = rng.normal(size=(3, 45)).astype(dtype)
    sets = {
        name: subjects[:n] + rng.normal(size=(n, 45)).astype(dtype)
        for name, n in (("a", 1), ("b", 2), ("c", 3))
    }
    found = partition_rdm_variance(subjects, sets, method)
    assert found.sets == ("a", "b", "c")
    kept = {name: transformed(rows.astype(np.float64), method) for name, rows in sets.items()}
    for j, y in enumerate(transformed(subjects.astype(np.float64), method)):

        def of(names, y=y):
            return r2(y, np.vstack([kept[name] for name in names])) if names else 0.0

        np.testing.assert_allclose(
            found.r2[:, j], [of(names) for names in found.combinations], atol=1e-9
        )
        total = of("abc")
        assert found.total[j] == pytest.approx(total)
        assert found.unique("b")[j] == pytest.approx(total - of("ac"))
        assert found.shared("c", "a")[j] == pytest.approx(of("ab") + of("bc") - of("b") - total)
        every = of("a") + of("b") + of("c") - of("ab") - of("ac") - of("bc") + total
        assert found.shared("a", "b", "c")[j] == pytest.approx(every, abs=1e-12)
    np.testing.assert_allclose(found.parts.sum(axis=0), found.total)


def test_the_shares_of_known_mixtures_are_found():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(190, 4))
    parts = np.linalg.qr(parts - parts.mean(axis=0))[0].T
    subject = (0.5 * parts[0] + 0.5 * parts[1] + 0.5 * parts[2] + 0.5 * parts[3])[None]
    sets = {"a": parts[[0, 1]], "b": parts[[1, 2]]}
    found = partition_rdm_variance(subject, sets, "corr")
    np.testing.assert_allclose(found.parts[:, 0], [0.25, 0.25, 0.25], atol=1e-12)
    lines = str(found).splitlines()
    assert lines[0] == "R² of corr, mean over 1 subjects"
    assert [line.split("  ")[0] for line in lines[2:]] == ["a", "b", "a & b"]
    assert lines[2].split()[1:] == ["0.5000", "0.2500"]


def test_missing_pairs_of_a_subject_are_left_out():
    models, subjects, controls = make()
    subjects[1, 4] = np.nan
    sets = {"a": models, "b": controls}
    found = partition_rdm_variance(subjects, sets, nan_policy="omit")
    whole = partition_rdm_variance(subjects[[0, 2, 3]], sets)
    np.testing.assert_allclose(found.r2[:, [0, 2, 3]], whole.r2, atol=1e-12)
    left = ~np.isnan(subjects[1])
    ranks = [transformed(rows[:, left], "spearman") for rows in (subjects[[1]], models)]
    assert found.r2[0, 1] == pytest.approx(r2(ranks[0][0], ranks[1]))
    propagated = partition_rdm_variance(subjects, sets, nan_policy="propagate")
    assert np.isnan(propagated.r2[:, 1]).all()
    assert np.isfinite(propagated.r2[:, 0]).all()


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"a": np.ones((1, 66))}, "two or three sets of RDMs, got 1 in a dict"),
        ([1, 2], "two or three sets of RDMs, got 2 in a list"),
        ({"a": np.ones((1, 66)), "b": np.ones((1, 66))}, "RDM 0 of set 'a' is constant"),
        ({"a": np.ones((1, 6)), "b": np.ones((1, 66))}, r"set 'a' has shape \(1, 6\)"),
    ],
)
def test_sets_that_cannot_be_partitioned_are_refused(sets, message):
    with pytest.raises(ValueError, match=message):
        partition_rdm_variance(make()[1], sets)


def test_unknown_sets_are_refused():
    models, subjects, controls = make()
    found = partition_rdm_variance(subjects, {"a": models, "b": controls})
    with pytest.raises(ValueError, match="set 'c' is not one of: a, b"):
        found.unique("c")
    with pytest.raises(ValueError, match="name at least one of the sets: a, b"):
        found.shared()
