"""Named conventions for scores of encoding models: their formulas, from the r of units and folds."""

import pickle

import numpy as np
import pytest
from scipy.stats import pearsonr

import fastrdm
from fastrdm import ENCODING_PROTOCOLS
from fastrdm.responses import measured


@pytest.fixture(scope="module")
def cube():
    """(subjects, repeats, conditions, units), in which conditions have one to three repeats and a unit is constant."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 1, 60, 10)) + 1.5 * rng.normal(size=(2, 3, 60, 10))
    values[:, 2, 20:] = np.nan
    values[:, 1, 40:] = np.nan
    return values


@pytest.fixture(scope="module")
def layers(cube):
    rng = np.random.default_rng(1)
    units = np.nanmean(cube, axis=1)
    return {
        "brain": fastrdm.gram(np.hstack([*units, 2 * rng.normal(size=(60, 30))])),
        "noise": fastrdm.gram(rng.normal(size=(60, 30))),
    }


@pytest.fixture(scope="module")
def result(cube, layers):
    return fastrdm.Responses(cube).score(layers, folds=6)


def algonauts(r, ratio):
    """The challenge's code, for the vertices of one subject, with A images of three trials, B of two and C of one."""
    a = b = c = 20
    noise_ceiling = ratio**2 / (ratio**2 + (a / 3 + b / 2 + c / 1) / (a + b + c))
    r = np.where(r < 0, 0, r) ** 2
    noise_ceiling[noise_ceiling == 0] = 1e-14
    normalised = np.divide(r, noise_ceiling)
    normalised[normalised > 1] = 1
    return normalised


def test_algonauts2023_is_the_metric_of_the_challenge(cube, result):
    score = result.under("algonauts2023")
    ratio = fastrdm.ncsnr(cube)
    for model in range(2):
        each = [algonauts(result.r[model, k], ratio[k]) for k in range(2)]
        assert score.value[model] == pytest.approx(np.median(np.concatenate(each)), rel=1e-12)
        np.testing.assert_allclose(score.per_subject[model], np.median(each, axis=1), rtol=1e-12)
    assert score.value[0] > score.value[1]
    assert score.n_units == 20
    assert str(score).splitlines()[0] == "algonauts2023, 20 units:"


def test_units_without_signal_are_clipped_or_left_out(cube, layers):
    changed = cube.copy()
    # The repeats of a condition cancel each other, so that there is noise but no signal.
    changed[0, :, :, 0] = np.array([[1], [-1], [0]]) * np.linspace(1, 1.2, 60)
    changed[0, 1, 20:40, 0] = -changed[0, 0, 20:40, 0]
    changed[1, 0, :, 1], changed[1, 1:, :, 1] = (
        3,
        np.where(np.isnan(changed[1, 1:, :, 1]), np.nan, 3),
    )
    with pytest.warns(RuntimeWarning, match="constant responses"):
        found = fastrdm.Responses(changed).score(layers, folds=6)
    clipped, nsd = found.under("algonauts2023"), found.under("nsd")
    assert clipped.n_units == 19
    assert nsd.n_units == 18
    assert np.isnan(nsd.noise_ceiling[1][1])
    assert nsd.noise_ceiling[0][0] == 0


def test_nsd_divides_squares_by_the_share_of_explainable_variance(cube, result):
    score = result.under("nsd")
    share = [
        fastrdm.explainable_variance(ratio, counts)
        for ratio, counts in zip(fastrdm.ncsnr(cube), measured(cube).counts(), strict=True)
    ]
    right = np.median(np.maximum(result.r, 0) ** 2 / np.stack(share), axis=2)
    np.testing.assert_allclose(score.per_subject, right, rtol=1e-12)
    np.testing.assert_allclose(score.value, right.mean(axis=1), rtol=1e-12)


def test_brainscore_divides_medians_and_squares(cube, layers):
    protocol = ENCODING_PROTOCOLS["brainscore-ridge"]
    found = fastrdm.Responses(cube).score(layers, **protocol.fit)
    assert found.r_folds.shape == (2, 2, 10, 10)
    assert (found.alphas == 1).all()
    score = found.under(protocol)
    # The median is over the neurons of both subjects, within each fold.
    r = np.median(found.r_folds.transpose(0, 2, 1, 3).reshape(2, 10, 20), axis=2).mean(axis=1)
    ceiling = np.median(fastrdm.split_half_reliability(cube))
    np.testing.assert_allclose(score.value, (r / ceiling) ** 2, rtol=1e-12)


def test_a_perfect_model_reaches_one():
    """Its squared correlations, divided by the noise ceiling, are around 1."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(300, 40))
    cube = signal + 1.5 * rng.normal(size=(1, 3, 300, 40))
    result = fastrdm.Responses(cube).score(fastrdm.gram(signal), folds=10)
    assert result.under("nsd").value[0] == pytest.approx(1, abs=0.15)
    r = [pearsonr(signal[:, u], cube[0, :, :, u].mean(axis=0))[0] for u in range(40)]
    exact = np.median(np.square(r) / result.under("nsd").noise_ceiling[0])
    assert exact == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("form", ["array", "list", "one"])
def test_known_noise_ceilings(result, form):
    known = np.random.default_rng(0).uniform(0.2, 0.9, (2, 10))
    if form == "one":
        known[1] = known[0]
    given = {"array": known, "list": list(known), "one": known[0]}[form]
    score = result.under("nsd", noise_ceiling=given)
    np.testing.assert_array_equal(score.noise_ceiling, known)
    right = np.median(np.maximum(result.r, 0) ** 2 / known, axis=2).mean(axis=1)
    np.testing.assert_allclose(score.value, right, rtol=1e-12)


def test_subjects_with_different_units_and_without_repeats(cube, layers):
    responses = fastrdm.Responses({"anna": cube[0, :1], "ben": cube[1, :1, :, :4]})
    found = responses.score(layers, folds=6)
    with pytest.raises(ValueError, match=r"responses\['anna'\] has one repeat"):
        found.under("nsd")
    score = found.under(
        "algonauts2023", noise_ceiling={"ben": np.full(4, 0.5), "anna": np.full(10, 0.5)}
    )
    right = np.median(
        np.minimum(np.maximum(np.concatenate(found.r, axis=1), 0) ** 2 / 0.5, 1), axis=1
    )
    np.testing.assert_allclose(score.value, right, rtol=1e-12)


def test_errors(result):
    with pytest.raises(
        ValueError, match="protocol 'ridge' is not one of: nsd, algonauts2023, brain"
    ):
        result.under("ridge")
    with pytest.raises(ValueError, match=r"noise_ceiling of responses\[0\] has shape \(3,\), but"):
        result.under("nsd", noise_ceiling=np.ones(3))


def test_every_protocol_names_its_source_and_formula():
    assert list(ENCODING_PROTOCOLS) == ["nsd", "algonauts2023", "brainscore-ridge"]
    for name, protocol in ENCODING_PROTOCOLS.items():
        assert protocol.name == name
        assert pickle.loads(pickle.dumps(protocol)) == protocol
        assert "r" in protocol.formula
        assert "20" in protocol.source
