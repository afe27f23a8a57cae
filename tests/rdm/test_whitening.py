import numpy as np
import pytest
import reference
from scipy.spatial.distance import pdist

from fastrdm import RdmAccumulator, calc_rdm
from fastrdm.rdm.whitening import ESTIMATORS

rng = np.random.default_rng(0)
mixing = rng.standard_normal((30, 30))
x = rng.standard_normal((14, 30)) + 5
residuals = rng.standard_normal((40, 30)) @ mixing
precision = np.linalg.inv(reference.covariance(residuals))


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-9), (np.float32, 1e-6)])
def test_mahalanobis_equals_scipy(kernels, dtype, rtol):
    rows = x.astype(dtype)
    expected = pdist(rows.astype(np.float64), "mahalanobis", VI=precision)
    np.testing.assert_allclose(
        calc_rdm(rows, "mahalanobis", precision=precision), expected, rtol=rtol
    )


@pytest.mark.parametrize("n_observations", [4, 12, 40])
@pytest.mark.parametrize("estimator", [None, *ESTIMATORS])
def test_precision_from_residuals(estimator, n_observations):
    some = residuals[:n_observations]
    if n_observations <= 30 and estimator == "full":
        with pytest.raises(
            ValueError, match=r"shape \(.*, 30\), and their 'full' covariance has no inverse"
        ):
            calc_rdm(x, "mahalanobis", residuals=some, estimator=estimator)
        return
    covariance = reference.covariance(some, estimator or "shrinkage_diag")
    expected = np.sqrt(reference.distances(x, np.linalg.inv(covariance)))
    found = calc_rdm(x, "mahalanobis", residuals=some, estimator=estimator)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_default_estimator_needs_few_observations():
    assert np.isfinite(calc_rdm(x, "mahalanobis", residuals=residuals[:5])).all()


def test_further_axes_are_channels():
    found = calc_rdm(
        x.reshape(14, 5, 6), "mahalanobis", residuals=residuals.reshape(40, 5, 6).astype(np.float32)
    )
    expected = np.sqrt(reference.distances(x, precision))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_singular_precision_ignores_its_null_space():
    vector = rng.standard_normal(30)
    found = calc_rdm(x, "mahalanobis", precision=np.outer(vector, vector))
    np.testing.assert_allclose(found, pdist((x @ vector)[:, None]), rtol=1e-6, atol=1e-6)


def test_a_stack_has_one_noise_for_all_or_one_per_member():
    one = calc_rdm(x, "mahalanobis", precision=precision)
    other = calc_rdm(x[:, :9], "mahalanobis", precision=np.eye(9))
    np.testing.assert_array_equal(
        calc_rdm([x, x[:, :9]], "mahalanobis", precision=[precision, np.eye(9)]), [one, other]
    )
    np.testing.assert_array_equal(calc_rdm((x, x), "mahalanobis", precision=precision), [one, one])
    of_residuals = calc_rdm([x, x], "mahalanobis", residuals=[residuals, residuals])
    np.testing.assert_allclose(of_residuals, [one, one])


def asymmetric():
    matrix = np.eye(30)
    matrix[3, 7] = 0.5
    return matrix


ERRORS = [
    ({}, "method 'mahalanobis' needs precision or residuals"),
    ({"precision": [[1, 2], [3]]}, "precision is not an array: its rows differ in shape"),
    ({"precision": precision, "residuals": residuals}, "precision and residuals were both given"),
    (
        {"precision": np.eye(29)},
        r"precision has shape \(29, 29\); activations have 30 channels.*\(30, 30\)",
    ),
    ({"precision": np.ones(30)}, r"precision has shape \(30,\)"),
    (
        {"precision": asymmetric()},
        r"precision is not symmetric: entries \(3, 7\) and \(7, 3\) are 0.5 and 0",
    ),
    (
        {"precision": -np.eye(30)},
        "precision is not positive semi-definite: its smallest eigenvalue is -1",
    ),
    (
        {"precision": np.full((30, 30), np.nan)},
        "precision has 900 values that are not finite.*row 0, column 0",
    ),
    ({"precision": np.full((30, 30), "a")}, "precision must hold real numbers"),
    (
        {"residuals": residuals[:, :3]},
        r"residuals have shape \(40, 3\); activations have 30 channels",
    ),
    ({"residuals": residuals[:1]}, r"residuals have shape \(1, 30\).*observations >= 2"),
    ({"residuals": residuals * (np.arange(30) != 4)}, "residuals are constant.*at channels: 4$"),
    (
        {"residuals": np.where(np.arange(30) == 4, np.inf, residuals)},
        "infinity at observation 0, channel 4",
    ),
    ({"residuals": residuals, "estimator": "oas"}, "estimator 'oas' is not one of: shrinkage_diag"),
    ({"precision": precision, "estimator": "diag"}, "estimator applies to residuals; pass"),
    ({"precision": precision, "folds": [1] * 14}, "'mahalanobis' takes no folds; 'crossnobis' do"),
]


@pytest.mark.parametrize("options, message", ERRORS)
def test_invalid_noise_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        calc_rdm(x, "mahalanobis", **options)


def test_stacks_whose_noise_does_not_fit():
    with pytest.raises(ValueError, match=r"activations\[1\] have 9 channels"):
        calc_rdm([x, x[:, :9]], "mahalanobis", precision=precision)
    with pytest.raises(ValueError, match="precision: 1 for a stack of 2"):
        calc_rdm([x, x], "mahalanobis", precision=[precision])
    with pytest.raises(ValueError, match=r"precision\[1\] is not symmetric"):
        calc_rdm([x, x], "mahalanobis", precision=[precision, asymmetric()])
    with pytest.raises(ValueError, match=r"residuals\[0\] have shape"):
        calc_rdm([x, x], "mahalanobis", residuals=[x[:, :3], x])


def test_other_methods_take_no_noise():
    with pytest.raises(
        ValueError, match="'correlation' takes no precision; 'mahalanobis' and 'crossnobis' do"
    ):
        calc_rdm(x, precision=precision)
    with pytest.raises(ValueError, match="'mahalanobis' whitens all channels.*use calc_rdm"):
        RdmAccumulator(14, "mahalanobis")


def test_nan_is_named_before_whitening_spreads_it():
    bad = x.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="activations has a value.*NaN at condition 3, channel 2"):
        calc_rdm(bad, "mahalanobis", precision=precision)
