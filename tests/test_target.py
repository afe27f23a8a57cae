import pickle

import numpy as np
import pytest
import reference
from scipy import stats

from fastrdm import PROTOCOLS, Protocol, Target, noise_ceiling, square

PAIRS = 190


def subjects(n=15, times=None, seed=0):
    rng = np.random.default_rng(seed)
    shape = (n, PAIRS) if times is None else (n, times, PAIRS)
    return rng.random(shape) + rng.random(shape[1:])


def models(n=4, seed=1):
    return np.random.default_rng(seed).random((n, PAIRS))


@pytest.mark.parametrize("times", [None, 1, 5])
def test_algonauts_score_equals_the_challenges_scorer(kernels, times):
    rdms = subjects(times=times)
    target = Target(rdms)
    score = target.score(models())
    for i, model in enumerate(models()):
        rho, r2, p = reference.algonauts_score(square(model), square(rdms))
        np.testing.assert_allclose(score.rho[i], rho, atol=1e-12)
        np.testing.assert_allclose(score.r2[i], r2, rtol=1e-9)
        np.testing.assert_allclose(score.p[i], p, rtol=1e-9)
        np.testing.assert_allclose(score.std[i], np.std(rho**2), rtol=1e-9)
        np.testing.assert_allclose(score.sample_std[i], np.std(rho**2, ddof=1), rtol=1e-9)
        np.testing.assert_allclose(score.percent_nc[i], 100 * r2 / target.ceiling, rtol=1e-9)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_presets(kernels, name):
    preset = PROTOCOLS[name]
    rdms = subjects()
    target = Target(rdms, protocol=name)
    lower, upper = reference.noise_ceiling(
        rdms[:, None], preset.method, preset.pool, preset.squared
    )
    assert target.ceiling == pytest.approx({"lower": lower, "upper": upper}[preset.bound], rel=1e-9)
    rho = reference.compare(models(), rdms, preset.method)
    values = rho**2 if preset.squared else rho
    score = target.score(models())
    np.testing.assert_allclose(score.value, values.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(score.r2, (rho**2).mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(score.p, stats.ttest_1samp(values, 0, axis=1).pvalue, rtol=1e-9)
    np.testing.assert_allclose(score.percent_nc, 100 * score.value / target.ceiling, rtol=1e-12)


def test_presets_are_what_the_field_does():
    facts = {p.name: (p.method, p.squared, p.pool, p.bound) for p in PROTOCOLS.values()}
    assert facts == {
        "algonauts2019": ("spearman", True, "raw", "upper"),
        "rsatoolbox": ("spearman", False, "rank", "lower"),
        "net2brain": ("spearman", True, "raw", "lower"),
        "brainscore": ("spearman", False, "raw", "upper"),
    }


def test_a_protocol_of_ones_own():
    own = Protocol("mine", "corr", squared=False, pool="rank", bound="upper", source="here")
    target = Target(subjects(), own)
    assert target.ceiling == noise_ceiling(subjects(), "corr", pool="rank", squared=False).upper


@pytest.mark.parametrize("times", [None, 3])
def test_every_form_gives_the_same(times):
    rdms = subjects(times=times)
    expected = Target(rdms).score(models(3)).rho
    np.testing.assert_array_equal(Target(square(rdms)).score(square(models(3))).rho, expected)
    target = Target(rdms)
    np.testing.assert_array_equal(target.score(models(3)[1]).rho, expected[1:2])
    np.testing.assert_array_equal(target.score(square(models(3)[1])).rho, expected[1:2])


def test_many_models_score_as_each_alone(kernels):
    target = Target(subjects())
    together = target.score(models(50))
    alone = [target.score(model) for model in models(50)]
    np.testing.assert_array_equal(together.rho, np.concatenate([a.rho for a in alone]))


def test_shapes_of_the_result():
    score = Target(subjects(7)).score(models(3))
    assert score.rho.shape == (3, 7)
    assert {
        a.shape
        for a in (score.r2, score.value, score.std, score.sample_std, score.p, score.percent_nc)
    } == {(3,)}


def test_a_given_ceiling_is_used():
    target = Target(subjects(), ceiling=0.5, name="IT")
    assert target.ceiling == 0.5
    assert "IT: 15 subjects, 20 conditions" in repr(target)
    np.testing.assert_allclose(target.score(models()).percent_nc, 200 * target.score(models()).r2)


def test_one_subject_scores_without_p():
    score = Target(subjects(1), ceiling=0.5).score(models())
    assert (
        np.isfinite(score.r2).all() and np.isnan(score.p).all() and np.isnan(score.sample_std).all()
    )


def test_a_constant_model_is_nan_and_the_others_are_not():
    rdms = models(3)
    rdms[1] = 0.5
    score = Target(subjects()).score(rdms)
    np.testing.assert_array_equal(np.isnan(score.r2), [False, True, False])


@pytest.mark.parametrize("method", reference.METHODS)
def test_omit_scores_each_model_and_subject_on_their_own_pairs(kernels, method):
    own = Protocol("mine", method, squared=True, pool="raw", bound="upper", source="here")
    rdms, several = subjects(6), models()
    whole = Target(rdms, own).score(several).rho
    rdms[2, 5:9], rdms[4, 0], several[1, 100:110] = np.nan, np.nan, np.nan
    target = Target(rdms, own, nan_policy="omit")
    rho = target.score(several).rho
    np.testing.assert_allclose(rho, reference.compare_omitting(several, rdms, method), atol=1e-9)
    untouched = np.ix_([0, 2, 3], [0, 1, 3, 5])
    np.testing.assert_allclose(rho[untouched], whole[untouched], atol=1e-14)
    assert target.ceiling == noise_ceiling(rdms, method, nan_policy="omit").upper


def test_propagate_gives_nan_for_the_subject_and_the_model_alone():
    rdms, several = subjects(6), models()
    whole = Target(rdms).score(several).rho
    rdms[2, 5] = several[1, 100] = np.nan
    target = Target(rdms, nan_policy="propagate")
    rho = target.score(several).rho
    assert np.isnan(target.ceiling) and np.isnan(rho[1]).all() and np.isnan(rho[:, 2]).all()
    untouched = np.ix_([0, 2, 3], [0, 1, 3, 4, 5])
    np.testing.assert_allclose(rho[untouched], whole[untouched], atol=1e-14)


def test_a_subject_without_a_pair_is_refused():
    rdms = subjects(6, times=2)
    rdms[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN throughout for subject 3, time 1"):
        Target(rdms, nan_policy="omit")


@pytest.mark.parametrize("method", reference.METHODS)
def test_pickle_round_trip(method):
    own = Protocol("mine", method, squared=True, pool="raw", bound="upper", source="here")
    target = Target(subjects(times=2), own, name="IT")
    again = pickle.loads(pickle.dumps(target))
    np.testing.assert_array_equal(again.score(models()).r2, target.score(models()).r2)


def test_input_is_copied():
    rdms = subjects()
    target = Target(rdms)
    before = target.noise_ceiling.upper
    rdms[:] = 0
    assert Target.noise_ceiling.func(target).upper == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(subject_rdms=np.zeros((3, 44))), "44 pairs"),
        (
            dict(subject_rdms=np.ones((3, 45))),
            r"subject_rdms with shape \(3, 45\) is constant for subject 0",
        ),
        (dict(subject_rdms=subjects(1)), "one subject, so no ceiling"),
        (dict(subject_rdms=subjects(), ceiling=-1), "positive number, got -1"),
        (dict(subject_rdms=subjects(), ceiling=float("nan")), "positive number, got nan"),
        (
            dict(subject_rdms=subjects(), protocol="algonauts"),
            "'algonauts' is not one of: algonauts2019",
        ),
        (
            dict(
                subject_rdms=np.array([models(1)[0], -models(1)[0]]),
                protocol="rsatoolbox",
                name="IT",
            ),
            "IT is -1",
        ),
    ],
)
def test_bad_targets(arguments, message):
    with pytest.raises(ValueError, match=message):
        Target(**arguments)


def test_bad_models():
    target = Target(subjects(), name="IT")
    with pytest.raises(
        ValueError, match=r"rdms has shape \(4, 45\).*IT has 20 conditions.*\(models, 190\)"
    ):
        target.score(np.ones((4, 45)))
    with pytest.raises(ValueError, match=r"rdms has shape \(2, 2, 20, 20\)"):
        target.score(np.ones((2, 2, 20, 20)))
    with pytest.raises(ValueError, match=r"rdms with shape \(20, 20\) is not symmetric"):
        target.score(np.triu(np.ones((20, 20)), 1))
    bad = models()
    bad[2, 9] = np.nan
    with pytest.raises(ValueError, match="NaN at model 2, pair 9"):
        target.score(bad)
    three = Target(np.random.default_rng(0).random((4, 3)), ceiling=1)
    with pytest.raises(ValueError, match=r"\(3, 3\) may be one square RDM or 3 condensed"):
        three.score(np.ones((3, 3)))
