"""Targets from responses: RDMs of each subject, with z-scores, crossnobis over repeats and noise normalisation."""

import doctest

import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat
from scipy.spatial.distance import pdist

import fastrdm
from fastrdm import Target
from fastrdm.responses import deviations_of_repeats, measured
from fastrdm.similarity import target as target_module

METHODS = ["correlation", "cosine", "sqeuclidean", "euclidean", "spearman"]


@pytest.fixture
def cube():
    """(subjects, repeats, conditions, units), with a signal that subjects share."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(1, 1, 8, 20)) + rng.normal(size=(3, 4, 8, 20))


@pytest.mark.parametrize("method", METHODS)
def test_rdms_are_those_of_means_over_repeats(cube, method):
    cube[0, 3] = np.nan
    cube[1, 1:, 2] = np.nan
    target = Target.from_responses(cube, method)
    for k in range(3):
        right = fastrdm.calc_rdm(np.nanmean(cube[k], axis=0), method)
        np.testing.assert_array_equal(target.subject_rdms[k, 0], right)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_without_repeats(cube, dtype):
    means = cube.mean(axis=1).astype(dtype)
    target = Target.from_responses(means, "euclidean")
    np.testing.assert_allclose(target.subject_rdms[2, 0], pdist(means[2]), rtol=1e-6)


def test_arguments_of_a_target_are_passed_on(cube):
    images = [f"image {i}" for i in range(8)]
    tables = {f"sub-{k}": pd.DataFrame(cube[k, 0, :, : 10 + k], index=images) for k in range(3)}
    target = Target.from_responses(tables, "correlation", "rsatoolbox", 0.5, "V4")
    assert (target.name, target.ceiling, target.protocol.name) == ("V4", 0.5, "rsatoolbox")
    assert target.labels.values == tuple(images)
    model = pd.DataFrame(fastrdm.square(target.subject_rdms[0, 0]), images, images)
    with pytest.warns(RuntimeWarning, match="rdms has its conditions in another order than V4"):
        score = target.score(model.iloc[::-1, ::-1])
    np.testing.assert_array_equal(score.rho, target.score(model).rho)


def crossnobis(array, folds, precision=None):
    """Mean over pairs of folds of the products of differences, for complete data (folds, conditions, units)."""
    n = array.shape[1]
    first, second = np.triu_indices(n, 1)
    weight = np.eye(array.shape[2]) if precision is None else precision
    means = np.stack([array[folds == fold].mean(axis=0) for fold in np.unique(folds)])
    differences = means[:, first] - means[:, second]
    products = np.einsum("apu,uv,bpv->abp", differences, weight, differences)
    off = ~np.eye(len(means), dtype=bool)
    return products[off].mean(axis=0)


@pytest.mark.parametrize("folds", [None, "repeats", "sessions", [1, 1, 0, 0]])
def test_crossnobis_over_repeats_or_sessions(cube, folds):
    sessions = ["a", "b", "b", "a"]
    target = Target.from_responses(cube, "crossnobis", folds=folds, sessions=sessions, zscore=False)
    labels = {"sessions": sessions}.get(folds, range(4)) if not isinstance(folds, list) else folds
    for k in range(3):
        right = crossnobis(cube[k], np.array(labels))
        np.testing.assert_allclose(target.subject_rdms[k, 0], right, rtol=1e-9, atol=1e-9)


def test_crossnobis_over_the_repeats_that_there_are(cube):
    cube[0, 3, 2] = cube[0, 2:, 5] = np.nan
    target = Target.from_responses(cube, "crossnobis")
    first, second = np.triu_indices(8, 1)
    for i, j, value in zip(first, second, target.subject_rdms[0, 0], strict=True):
        both = ~np.isnan(cube[0, :, [i, j], 0]).any(axis=0)
        right = crossnobis(cube[0][both][:, [i, j]], np.arange(both.sum()))
        assert value == pytest.approx(right[0], rel=1e-9)


def test_crossnobis_is_unbiased(cube):
    """Without differences between conditions, distances are around zero."""
    noise = np.random.default_rng(1).normal(size=(4, 3, 12, 50))
    rdms = Target.from_responses(noise, "crossnobis", ceiling=1.0).subject_rdms
    assert abs(rdms.mean()) < 4 * rdms.std() / np.sqrt(4 * 11)
    assert 0.3 < (rdms < 0).mean() < 0.7


@pytest.mark.parametrize("method", ["mahalanobis", "crossnobis"])
def test_noise_normalisation_from_repeats(cube, method):
    target = Target.from_responses(cube, method, residuals="repeats", estimator="diag")
    for k in range(3):
        # The pooled variance: squares divided by repeats minus conditions.
        variance = cube[k].var(axis=0, ddof=1).mean(axis=0)
        precision = np.diag(1 / variance)
        if method == "crossnobis":
            right = crossnobis(cube[k], np.arange(4), precision)
        else:
            right = pdist(cube[k].mean(axis=0), "mahalanobis", VI=precision)
        np.testing.assert_allclose(target.subject_rdms[k, 0], right, rtol=1e-9, atol=1e-9)


def test_deviations_have_the_pooled_covariance(cube):
    array = cube[0]
    array[3, 2] = array[1:, 4] = array[:, 6] = np.nan
    array[0, 0, 3] = np.nan
    rows = deviations_of_repeats(array, "responses")
    squares, degrees = 0.0, 0
    for c in range(8):
        here = array[~np.isnan(array[:, c]).any(axis=1), c]
        if len(here) > 1:
            squares = squares + (here - here.mean(axis=0)).T @ (here - here.mean(axis=0))
            degrees += len(here) - 1
    np.testing.assert_allclose(np.cov(rows.T), squares / degrees, atol=1e-12)


def test_noise_normalisation_from_residuals(cube):
    rng = np.random.default_rng(0)
    residuals = rng.normal(size=(3, 60, 20)) * np.arange(1, 21)
    given = list(residuals)
    target = Target.from_responses(list(cube), "crossnobis", residuals=given, estimator="full")
    for k in range(3):
        right = crossnobis(cube[k], np.arange(4), np.linalg.inv(np.cov(residuals[k].T)))
        np.testing.assert_allclose(target.subject_rdms[k, 0], right, rtol=1e-8, atol=1e-9)
    shared = Target.from_responses(cube, "mahalanobis", residuals=residuals[0])
    named = Target.from_responses(
        dict(zip("abc", cube, strict=True)),
        "mahalanobis",
        residuals=dict(zip("cab", residuals[[0, 0, 0]], strict=True)),
    )
    np.testing.assert_array_equal(shared.subject_rdms, named.subject_rdms)


def test_zscores_within_sessions_remove_differences_between_sessions(cube):
    sessions = [0, 0, 1, 1]
    changed = cube.copy()
    changed[:, 2:] = 5 + 3 * changed[:, 2:]
    plain = Target.from_responses(cube, sessions=sessions)
    np.testing.assert_allclose(
        Target.from_responses(changed, sessions=sessions).subject_rdms,
        plain.subject_rdms,
        rtol=1e-9,
    )
    scored = measured(cube).zscored(sessions)
    np.testing.assert_array_equal(Target.from_responses(scored).subject_rdms, plain.subject_rdms)
    off = Target.from_responses(changed, sessions=sessions, zscore=False)
    assert not np.allclose(off.subject_rdms, plain.subject_rdms)
    one = Target.from_responses(cube, zscore=True)
    assert not np.allclose(one.subject_rdms, Target.from_responses(cube).subject_rdms)


def test_units_without_responses_are_left_out(cube):
    masked = cube.copy()
    masked[1, :, :, 4] = np.nan
    kept = [cube[0], np.delete(cube[1], 4, axis=2), cube[2]]
    for method in ("correlation", "crossnobis"):
        np.testing.assert_array_equal(
            Target.from_responses(masked, method).subject_rdms,
            Target.from_responses(kept, method).subject_rdms,
        )
    residuals = np.random.default_rng(0).normal(size=(60, 20))
    np.testing.assert_allclose(
        Target.from_responses(masked, "mahalanobis", residuals=residuals).subject_rdms,
        Target.from_responses(
            kept, "mahalanobis", residuals=[residuals, np.delete(residuals, 4, 1), residuals]
        ).subject_rdms,
    )


@pytest.mark.parametrize("method", ["correlation", "crossnobis"])
def test_conditions_that_a_subject_lacks(cube, method):
    cube[1, :, [2, 5]] = np.nan
    with pytest.raises(
        ValueError, match=r"responses\[1\] has no response to 2 conditions of 8, first 2; leave"
    ):
        Target.from_responses(cube, method)
    target = Target.from_responses(cube, method, nan_policy="omit")
    rdm = fastrdm.square(target.subject_rdms[1, 0])
    kept = [0, 1, 3, 4, 6, 7]
    right = Target.from_responses([cube[1][:, kept]], method, ceiling=1.0).subject_rdms[0, 0]
    np.testing.assert_array_equal(fastrdm.condense(rdm[np.ix_(kept, kept)]), right)
    assert np.isnan(rdm[2, [0, 1, 3]]).all()
    cube[1, :, 1:] = np.nan
    with pytest.raises(ValueError, match="has no response to 7 conditions of 8, first 1; an RDM"):
        Target.from_responses(cube, method, nan_policy="omit")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("nothing", {}, "method 'nothing' is not one of"),
        (
            "correlation",
            {"folds": "repeats"},
            "method 'correlation' takes no folds; 'crossnobis' do",
        ),
        ("crossnobis", {"folds": "runs"}, "folds 'runs' is not one of: repeats, sessions"),
        ("crossnobis", {"folds": "sessions"}, "folds is 'sessions', but sessions is missing"),
        ("crossnobis", {"folds": [1, 2]}, r"folds of responses\[0\] have shape \(2,\); they must"),
        ("crossnobis", {"residuals": "noise"}, "residuals 'noise' is not one of: repeats"),
        (
            "crossnobis",
            {"residuals": np.ones((5, 3))},
            r"responses\[0\]: residuals have shape \(5, 3",
        ),
        ("crossnobis", {"estimator": "diag"}, r"responses\[0\]: estimator applies to residuals"),
        ("mahalanobis", {}, r"responses\[0\]: method 'mahalanobis' needs precision or residuals"),
        ("correlation", {"residuals": "repeats"}, "takes no residuals"),
    ],
)
def test_impossible_options(cube, method, options, message):
    with pytest.raises(ValueError, match=message):
        Target.from_responses(cube, method, **options)


def test_impossible_responses(cube):
    with pytest.raises(
        ValueError, match=r"responses\[0\] has one repeat of 8 conditions and 20 units"
    ):
        Target.from_responses(cube[:, 0], "crossnobis")
    with pytest.raises(ValueError, match="has no condition with two repeats of all units"):
        Target.from_responses(cube[:, 0], "mahalanobis", residuals="repeats")
    with pytest.raises(ValueError, match="responses has one condition; an RDM needs 2"):
        Target.from_responses(cube[:, :, :1])
    with pytest.raises(ValueError, match="one subject, so no ceiling can be computed"):
        Target.from_responses(cube[:1])
    some = cube.copy()
    some[1, :, 3, 7] = np.nan
    with pytest.raises(
        ValueError, match=r"responses\[1\]: 1 unit of 20 are NaN .* condition 3, unit 7"
    ):
        Target.from_responses(some)
    some = cube.copy()
    some[1, 2, 3, 7] = np.nan
    with pytest.raises(
        ValueError, match="first at repeat 2, condition 3, unit 7; an RDM needs all"
    ):
        Target.from_responses(some, "crossnobis")
    folds = np.array([[0] * 8, [0] * 7 + [1]] * 2)
    with pytest.raises(
        ValueError, match=r"responses\[0\]: conditions 0 and 1 are measured together in 1"
    ):
        Target.from_responses(cube, "crossnobis", folds=folds)


@pytest.fixture(scope="module")
def fingers(data_root):
    """Responses of 7 subjects' motor cortex to 5 fingers, one repeat in each run."""
    path = data_root / "responses" / "pcm_finger7t" / "data_recipe_finger7T.mat"
    if not path.exists():
        pytest.skip(f"no finger patterns at {path}")
    file = loadmat(path)
    return [
        fastrdm.stack_trials(y[:, ::6], c, r)
        for y, c, r in zip(*(file[k].ravel() for k in ("Y", "condVec", "partVec")), strict=True)
    ]


def test_fingers_of_seven_subjects(fingers):
    assert [a.shape[:2] for a in fingers] == [(8, 5)] + [(7, 5)] * 3 + [(8, 5)] * 3
    target = Target.from_responses(fingers, "crossnobis", "rsatoolbox", residuals="repeats")
    # Thumbs differ most from other fingers, in every subject.
    rdms = fastrdm.square(target.subject_rdms[:, 0])
    assert (rdms[:, 0, 1:].mean(axis=1) > rdms[:, 1:, 1:].sum(axis=(1, 2)) / 12).all()
    ceiling = target.noise_ceiling
    assert 0.5 < ceiling.lower < ceiling.upper < 1


def test_ceilings_of_voxels_from_runs(fingers):
    """Both estimates agree on the best voxels; that from variances is lower, because it divides by all measurements."""
    reliability = fastrdm.split_half_reliability(fingers)
    ratios = fastrdm.ncsnr(fingers)
    for array, found, ratio in zip(fingers, reliability, ratios, strict=True):
        share = fastrdm.explainable_variance(ratio, len(array))
        best = share > np.quantile(share, 0.9)
        assert 0.5 < np.median(found[best]) < 0.95
        assert np.corrcoef(found[best], share[best])[0, 1] > 0.9
        assert (share[best] < found[best]).all()


def test_fingers_against_rsatoolbox(fingers):
    rsatoolbox = pytest.importorskip("rsatoolbox")
    array = fingers[1][:, :, :40]
    n_runs, n_conditions, n_units = array.shape
    rows = array.reshape(-1, n_units)
    data = rsatoolbox.data.Dataset(
        rows,
        obs_descriptors={
            "finger": np.tile(np.arange(n_conditions), n_runs),
            "run": np.repeat(np.arange(n_runs), n_conditions),
        },
    )
    # By default, rsatoolbox takes (conditions - 1) * repeats for the degrees of freedom.
    degrees = n_conditions * (n_runs - 1)
    precision = rsatoolbox.data.noise.prec_from_measurements(data, "finger", degrees, "diag")
    theirs = rsatoolbox.rdm.calc_rdm(
        data, "crossnobis", descriptor="finger", cv_descriptor="run", noise=precision
    ).get_vectors()[0]
    target = Target.from_responses(
        [array], "crossnobis", ceiling=1.0, residuals="repeats", estimator="diag"
    )
    np.testing.assert_allclose(target.subject_rdms[0, 0], theirs * n_units, rtol=1e-9)


def test_examples():
    assert doctest.testmod(target_module).failed == 0
