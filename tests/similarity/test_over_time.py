"""Scores and ceilings of each time point of a target."""

import pickle

import numpy as np
import pandas
import pytest
import reference
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrdm import PROTOCOLS, Protocol, Score, Target, TimeScore, square

PAIRS, TIMES = 66, [-100.0, 0.0, 50.5, 200.0]


def subjects(n=6, times=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, times, PAIRS)) + 2 * rng.random((1, times, PAIRS))


def models(n=3, seed=1):
    return np.random.default_rng(seed).random((n, PAIRS))


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("square_rdms", [False, True])
def test_each_time_point_has_the_score_of_a_target_of_its_own(name, square_rdms):
    rdms = subjects()
    target = Target(square(rdms) if square_rdms else rdms, name)
    score = target.score(models(), over_time="each")
    assert isinstance(score, TimeScore) and isinstance(score, Score)
    assert score.rho.shape == (3, 4, 6) and score.r2.shape == score.ceiling.shape == (3, 4)
    assert score.times.tolist() == [0, 1, 2, 3] and score.lower.shape == (4,)
    for time in range(4):
        alone = Target(rdms[:, time], name).score(models())
        own = score.at(time)
        for field in vars(alone):
            np.testing.assert_array_equal(getattr(own, field), getattr(alone, field))
        bounds = reference.noise_ceiling(
            rdms[:, time, None],
            PROTOCOLS[name].method,
            PROTOCOLS[name].pool,
            PROTOCOLS[name].squared,
        )
        np.testing.assert_allclose([score.lower[time], score.upper[time]], bounds, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(1, 4), st.integers(1, 3))
def test_rho_of_each_time_is_the_oracles(seed, n_subjects, n_times, n_models):
    rng = np.random.default_rng(seed)
    rdms, several = rng.random((n_subjects, n_times, 28)), rng.random((n_models, 28))
    score = Target(rdms, over_time="each").score(several)
    expected = reference.compare(several, rdms.reshape(-1, 28), "spearman")
    expected = expected.reshape(n_models, n_subjects, n_times).transpose(0, 2, 1)
    np.testing.assert_allclose(score.rho, expected, atol=1e-12)
    np.testing.assert_allclose(score.r2, (expected**2).mean(axis=2), atol=1e-12)
    np.testing.assert_allclose(score.mean_rho, expected.mean(axis=2), atol=1e-12)
    np.testing.assert_allclose(score.percent_nc, 100 * score.value / score.upper, rtol=1e-12)


def test_the_target_or_the_call_says_what_is_done_over_time():
    rdms = subjects()
    mean, each = Target(rdms), Target(rdms, over_time="each", times=TIMES)
    for field in vars(mean.score(models())):
        np.testing.assert_array_equal(
            getattr(each.score(models(), over_time="mean"), field),
            getattr(mean.score(models()), field),
        )
        np.testing.assert_array_equal(
            getattr(mean.score(models(), over_time="each"), field),
            getattr(each.score(models()), field),
        )
    assert each.score(models()).times.tolist() == TIMES
    assert mean.ceiling == each.ceiling and mean.sha256 == each.sha256
    assert "4 times" in repr(each) and "ceilings of each time 0." in repr(each)
    np.testing.assert_allclose(each.score(models()).rho.mean(axis=1), mean.score(models()).rho)


@pytest.mark.parametrize("times", [None, TIMES])
def test_files_and_pickles_keep_the_axis(tmp_path, times):
    target = Target(subjects(), over_time="each", times=times)
    target.save(tmp_path / "a.target")
    expected = target.score(models())
    for copy in (Target.load(tmp_path / "a.target"), pickle.loads(pickle.dumps(target))):
        score = copy.score(models())
        assert copy.over_time == "each" and (times is None or not copy.times.flags.writeable)
        for field in vars(expected):
            np.testing.assert_array_equal(getattr(score, field), getattr(expected, field))


def test_labels_of_the_time_axis_are_the_times():
    rdms = subjects()
    array = xarray.DataArray(rdms, dims=("subject", "time", "pair"), coords={"time": TIMES})
    assert Target(array, over_time="each").times.tolist() == TIMES
    assert Target(array).times.tolist() == TIMES
    assert Target(array, times=[1, 2, 3, 4]).times.tolist() == [1, 2, 3, 4]
    dims = ("subject", "time", "a", "b")
    squares = xarray.DataArray(square(rdms), dims=dims, coords={"time": TIMES})
    assert Target(squares).times.tolist() == TIMES
    frames = {
        name: pandas.DataFrame(one, index=TIMES) for name, one in zip("ab", rdms[:2], strict=True)
    }
    assert Target(frames, over_time="each").times.tolist() == TIMES
    # Conditions are no time axis.
    conditions = xarray.DataArray(
        square(rdms[:, 0]), dims=("s", "a", "b"), coords={"a": np.arange(12.0)}
    )
    assert Target(conditions).times is None


def test_labels_that_are_no_times_matter_only_if_they_are_needed():
    names = ["a", "b", "c", "d"]
    array = xarray.DataArray(subjects(), dims=("s", "time", "p"), coords={"time": names})
    assert Target(array).times is None
    with pytest.raises(ValueError, match=r"time axis of subject_rdms are not numbers \('a', 'b'"):
        Target(array, over_time="each")
    frames = [pandas.DataFrame(one, index=TIMES) for one in subjects()[:2]]
    frames[1].index = [0, 1, 2, 3.5]
    assert Target(frames).times is None
    with pytest.raises(ValueError, match="differ in their time labels"):
        Target(frames, over_time="each")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"over_time": "all"}, "over_time"),
        ({"times": [0, 1]}, r"times of subject_rdms of MEG have shape \(2,\), but .* length 4"),
        ({"times": [0, 1, 1, 2]}, "times of subject_rdms of MEG must increase, got 1, then 1"),
        ({"times": [0, 1, 2, np.nan]}, "must be finite"),
        ({"times": ["a", "b", "c", "d"]}, "must hold real numbers"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Target(subjects(), name="MEG", **arguments)


def test_an_unknown_way_to_score_is_refused():
    with pytest.raises(ValueError, match="over_time"):
        Target(subjects()).score(models(), over_time="median")
    with pytest.raises(ValueError, match="value"):
        Target(subjects()).score(models(), over_time="each").table("rho")


def disagreeing(n=4):
    """At the first time point, subjects disagree in pairs."""
    rdms = subjects(n)
    rdms[: n // 2, 0] = np.arange(PAIRS)
    rdms[n // 2 :, 0] = np.arange(PAIRS)[::-1] + np.random.default_rng(0).normal(0, 0.1, PAIRS)
    return rdms


def test_without_agreement_at_a_time_its_percentage_is_nan():
    target = Target(disagreeing(), "rsatoolbox", over_time="each", times=TIMES, name="V1")
    with pytest.warns(
        RuntimeWarning, match="percent_nc of V1 is NaN at times -100: the lower"
    ) as w:
        score = target.score(models())
    assert len(w) == 1
    np.testing.assert_array_equal(np.isnan(score.percent_nc), [[True, False, False, False]] * 3)
    assert np.isfinite(score.value).all() and score.lower[0] < 0


def test_without_agreement_at_any_time_a_target_is_refused():
    everywhere = np.repeat(disagreeing()[:, :1], 3, axis=1)
    with pytest.raises(ValueError, match="its subjects do not agree"):
        Target(everywhere, "rsatoolbox", over_time="each")
    score = Target(everywhere, "rsatoolbox", ceiling=0.5, over_time="each").score(models())
    np.testing.assert_array_equal(score.percent_nc, 200 * score.value)


def test_without_agreement_on_average_each_time_still_has_a_score(tmp_path):
    rdms = disagreeing()
    rdms[:, :3] = rdms[:, :1]
    rdms[:, 3] = subjects(4)[:, 3]
    target = Target(rdms, "rsatoolbox", over_time="each")
    assert np.isnan(target.ceiling)
    target.save(tmp_path / "a.target")
    with pytest.warns(RuntimeWarning, match="NaN at times 0, 1, 2"):
        score = Target.load(tmp_path / "a.target").score(models())
    assert np.isfinite(score.percent_nc[:, 3]).all()
    with pytest.raises(ValueError, match="its subjects do not agree"):
        target.score(models(), over_time="mean")


def test_one_subject_has_a_score_at_each_time_if_its_ceiling_is_given():
    score = Target(subjects(1), ceiling=0.5, over_time="each").score(models())
    assert np.isnan(score.lower).all() and np.isnan(score.p).all()
    np.testing.assert_allclose(score.percent_nc, 200 * score.r2)


def test_a_given_ceiling_of_averaged_scores_is_not_that_of_a_time_point():
    rdms = subjects()
    expected = Target(rdms).score(models(), over_time="each")
    score = Target(rdms, ceiling=0.5).score(models(), over_time="each")
    np.testing.assert_array_equal(score.percent_nc, expected.percent_nc)
    with pytest.warns(RuntimeWarning, match="NaN at times 0, 1, 2, 3: there is one subject"):
        one = Target(rdms[:1], ceiling=0.5).score(models(), over_time="each")
    assert np.isnan(one.percent_nc).all() and np.isfinite(one.r2).all()


def test_omit_divides_by_the_ceiling_over_the_pairs_of_a_model_at_each_time():
    rdms, several = subjects(), models()
    missing = np.zeros(PAIRS, bool)
    missing[3:9] = True
    several[1, missing] = np.nan
    target = Target(rdms, nan_policy="omit", over_time="each")
    score = target.score(several)
    np.testing.assert_allclose(score.rho[1], target.score(several[1:2]).rho[0])
    for time in range(4):
        rest = Target(rdms[:, time], nan_policy="omit").score(several)
        np.testing.assert_array_equal(score.ceiling[:, time], rest.ceiling)
    given = Target(rdms, ceiling=0.5, nan_policy="omit", over_time="each")
    with pytest.warns(RuntimeWarning, match=r"models that lack pairs \(rdms: model 1\)"):
        assert np.isnan(given.score(several).percent_nc[1]).all()


def test_propagate_makes_only_the_time_with_nan_undefined():
    rdms = subjects()
    rdms[2, 1, 5] = np.nan
    score = Target(rdms, nan_policy="propagate", over_time="each").score(models())
    np.testing.assert_array_equal(np.isnan(score.r2), [[False, True, False, False]] * 3)


def test_a_constant_model_is_nan_at_each_time():
    rdms = models(3)
    rdms[1] = 0.5
    with pytest.warns(RuntimeWarning, match=r"constant \(rdms: model 1\)$") as caught:
        score = Target(subjects(), over_time="each").score(rdms)
    assert len(caught) == 1
    assert np.isnan(score.r2[1]).all() and np.isfinite(score.r2[[0, 2]]).all()
    assert score.best() == tuple("02"[i] for i in score.value[[0, 2]].argmax(axis=0))
    with pytest.warns(RuntimeWarning):
        assert Target(subjects(), over_time="each").score(rdms[1]).best() == (None,) * 4


def test_tables_have_layers_in_rows_and_times_in_columns(tmp_path):
    from fastrdm.scoring import write_table

    rdms = dict(zip(["conv1", "fc"], models(2), strict=True))
    score = Target(subjects(), over_time="each", times=TIMES).score(rdms)
    table = score.table()
    assert list(table.columns) == ["layer", "-100", "0", "50.5", "200"]
    assert [row[0] for row in table.rows()] == ["conv1", "fc"]
    np.testing.assert_array_equal([row[1:] for row in table.rows()], score.percent_nc)
    lines = str(table).splitlines()
    assert lines[0].split() == ["-100", "0", "50.5", "200"]
    assert lines[2].split() == ["fc", *(f"{each:.2f}" for each in score.percent_nc[1])]
    assert str(score).splitlines()[0] == (
        "2 models, 4 time points, 6 subjects; percent of the noise ceiling:"
    )
    for form, read in (("csv", pandas.read_csv), ("parquet", pandas.read_parquet)):
        write_table(score.table("mean_rho"), tmp_path / f"a.{form}", form)
        frame = read(tmp_path / f"a.{form}")
        assert list(frame) == list(table.columns)
        np.testing.assert_array_equal(frame.iloc[:, 1:], score.mean_rho)
    assert score.best() == tuple(np.array(["conv1", "fc"])[score.r2.argmax(axis=0)])


def test_long_tables_have_several_blocks():
    times = np.linspace(0, 1, 40)
    score = Target(subjects(3, 40), over_time="each", times=times).score(models())
    blocks = str(score.table()).split("\n\n")
    assert len(blocks) > 1 and max(map(len, str(score).splitlines())) <= 100
    assert sum(len(block.splitlines()[0].split()) for block in blocks) == 40
    near = Target(subjects(3, 2), over_time="each", times=[1e6, 1e6 + 0.5]).score(models())
    assert list(near.table().columns) == ["layer", "1000000.0", "1000000.5"]


def test_a_protocol_of_averaged_times_has_the_ceiling_of_each_time():
    own = Protocol("mine", "corr", False, "raw", "upper", "here", average_times=True)
    rdms = subjects()
    score = Target(rdms, own, over_time="each").score(models())
    alone = Target(rdms[:, 2], own)
    np.testing.assert_array_equal(score.ceiling[:, 2], alone.ceiling)


def test_large_float32_subjects_have_the_same_scores(monkeypatch):
    monkeypatch.setattr("fastrdm.similarity.numerics._LARGE", 100)
    rdms, several = subjects().astype(np.float32), models().astype(np.float32)
    score = Target(rdms, over_time="each").score(several)
    for time in range(4):
        alone = Target(rdms[:, time], over_time="each").score(several)
        np.testing.assert_allclose(score.rho[:, time], alone.rho[:, 0], atol=1e-12)
        np.testing.assert_allclose(score.upper[time], alone.upper[0], rtol=1e-9)
