import pickle
import threading
import tracemalloc

import numpy as np
import pytest
import reference
from scipy import stats

import fastrdm.similarity.target_file
from fastrdm import PROTOCOLS, Protocol, Target, noise_ceiling, square
from fastrdm._kernels.ties import FLOAT32
from fastrdm.similarity.ceiling import bounds_over_time

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


def test_presets_have_the_options_of_the_field():
    facts = {p.name: (p.method, p.squared, p.pool, p.bound) for p in PROTOCOLS.values()}
    assert facts == {
        "algonauts2019": ("spearman", True, "raw", "upper"),
        "rsatoolbox": ("spearman", False, "rank", "lower"),
        "net2brain": ("spearman", True, "raw", "lower"),
        "brainscore": ("spearman", False, "raw", "upper"),
    }


def test_a_custom_protocol():
    custom = Protocol("mine", "corr", squared=False, pool="rank", bound="upper", source="here")
    target = Target(subjects(), custom)
    assert target.ceiling == noise_ceiling(subjects(), "corr", pool="rank", squared=False).upper


@pytest.mark.parametrize("times", [None, 3])
def test_every_form_has_the_same_scores(times):
    rdms = subjects(times=times)
    expected = Target(rdms).score(models(3)).rho
    np.testing.assert_array_equal(Target(square(rdms)).score(square(models(3))).rho, expected)
    target = Target(rdms)
    np.testing.assert_array_equal(target.score(models(3)[1]).rho, expected[1:2])
    np.testing.assert_array_equal(target.score(square(models(3)[1])).rho, expected[1:2])


def test_many_models_score_like_each_alone(kernels):
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
    with pytest.warns(RuntimeWarning, match=r"constant \(rdms: model 1\)$") as caught:
        score = Target(subjects()).score(rdms)
    assert len(caught) == 1 and caught[0].filename == __file__
    np.testing.assert_array_equal(np.isnan(score.r2), [False, True, False])
    assert np.isnan(score.p[1]) and np.isnan(score.std[1])


@pytest.mark.parametrize("method", reference.METHODS)
def test_omit_scores_each_model_and_subject_on_their_common_pairs(kernels, method):
    custom = Protocol("mine", method, squared=True, pool="raw", bound="upper", source="here")
    rdms, several = subjects(6), models()
    whole = Target(rdms, custom).score(several).rho
    rdms[2, 5:9], rdms[4, 0], several[1, 100:110] = np.nan, np.nan, np.nan
    target = Target(rdms, custom, nan_policy="omit")
    rho = target.score(several).rho
    np.testing.assert_allclose(rho, reference.compare_omitting(several, rdms, method), atol=1e-9)
    untouched = np.ix_([0, 2, 3], [0, 1, 3, 5])
    np.testing.assert_allclose(rho[untouched], whole[untouched], atol=1e-14)
    assert target.ceiling == noise_ceiling(rdms, method, nan_policy="omit").upper


def restricted(rdms, missing):
    rdms = rdms.copy()
    rdms[..., missing] = np.nan
    return rdms


@pytest.mark.parametrize("method", reference.METHODS)
@pytest.mark.parametrize("pool, bound", [("raw", "upper"), ("rank", "lower")])
def test_a_model_that_lacks_pairs_is_divided_by_the_ceiling_over_its_pairs(method, pool, bound):
    custom = Protocol("mine", method, squared=True, pool=pool, bound=bound, source="here")
    rdms, several = subjects(6, times=2), models()
    rdms[1, 0, 20:25] = several[1, 60:] = several[2, 3] = np.nan
    score = Target(rdms, custom, nan_policy="omit").score(several)
    for i, model in enumerate(several):
        bounds = reference.noise_ceiling(restricted(rdms, np.isnan(model)), method, pool)
        expected = bounds[{"lower": 0, "upper": 1}[bound]]
        assert score.ceiling[i] == pytest.approx(expected, rel=1e-9)
        assert score.percent_nc[i] == pytest.approx(100 * score.value[i] / expected, rel=1e-9)
    assert len(set(score.ceiling)) == 3


def test_ceilings_over_a_models_pairs_are_computed_once(monkeypatch):
    target, several = Target(subjects(), nan_policy="omit"), models(6)
    computed = []
    monkeypatch.setattr(
        "fastrdm.similarity.ceiling.bounds_over_time",
        lambda *a, **k: computed.append(1) or bounds_over_time(*a, **k),
    )
    target.score(several)
    assert not computed
    several[1:5, 7] = several[5, 9] = np.nan
    target.score(several)
    target.score(several[3])
    assert len(computed) == 2


def test_pairs_that_no_subject_has_do_not_change_the_ceiling():
    rdms, several = subjects(), models()
    rdms[:, 4] = several[1, 4] = np.nan
    score = Target(rdms, ceiling=0.5, nan_policy="omit").score(several)
    assert score.ceiling.tolist() == [0.5] * 4 and np.isfinite(score.percent_nc).all()


def test_a_given_ceiling_holds_for_all_pairs():
    several = models()
    several[2, 8] = np.nan
    target = Target(subjects(), ceiling=0.5, nan_policy="omit", name="IT")
    with pytest.warns(
        RuntimeWarning, match=r"percent_nc of IT is NaN .* \(rdms: model 2\): the ceiling was given"
    ) as caught:
        score = target.score(several)
    assert len(caught) == 1 and caught[0].filename == __file__
    np.testing.assert_array_equal(np.isnan(score.percent_nc), np.arange(4) == 2)
    assert np.isfinite(score.value).all()


def test_a_ceiling_that_is_not_positive_over_a_models_pairs():
    rng = np.random.default_rng(0)
    common = np.arange(190.0)
    rdms = np.stack([common, common])
    rdms[:, :20] = [np.arange(20), -np.arange(20)]
    model = common.copy()
    model[20:] = np.nan
    target = Target(rdms, "rsatoolbox", nan_policy="omit")
    with pytest.warns(RuntimeWarning, match="lower noise ceiling is not positive"):
        score = target.score(model + rng.random(190))
    assert np.isnan(score.percent_nc).all() and np.isfinite(score.value).all()


@pytest.mark.parametrize("ceiling, percent", [(15.89, 0.1589), (1.2, 0.012), (100, 1), (250, None)])
@pytest.mark.parametrize("protocol, kind", [("algonauts2019", "squared c"), ("rsatoolbox", "c")])
def test_ceilings_above_one_are_refused(ceiling, percent, protocol, kind):
    with pytest.raises(
        ValueError, match=f"the ceiling of IT is {ceiling:g}, but a {kind}orrela"
    ) as e:
        Target(subjects(), protocol, ceiling, "IT")
    assert ("percent" in str(e.value)) == (percent is not None)
    assert percent is None or str(e.value).endswith(f"so pass {percent:g}")
    assert Target(subjects(), protocol, 1.0).ceiling == 1


@pytest.mark.parametrize("times", [None, 3])
def test_net2brain_averages_rdms_over_time_only_for_the_ceiling(times, tmp_path):
    rdms = subjects(6, times=times)
    averaged = rdms if times is None else rdms.mean(axis=1)
    target = Target(rdms, "net2brain")
    lower, upper = reference.noise_ceiling(averaged[:, None])
    assert target.ceiling == pytest.approx(lower, rel=1e-9)
    assert target.noise_ceiling.upper == pytest.approx(upper, rel=1e-9)
    np.testing.assert_array_equal(
        target.score(models()).rho, Target(rdms, "algonauts2019").score(models()).rho
    )
    target.save(tmp_path / "t")
    for again in (Target.load(tmp_path / "t"), pickle.loads(pickle.dumps(target))):
        assert again.protocol == target.protocol and again.ceiling == target.ceiling
        assert again.noise_ceiling.lower == target.ceiling


def test_brainscore_names_its_sources():
    source = PROTOCOLS["brainscore"].source
    for word in ("RSABenchmark", "metrics/rsa_ceiling", "Bracci2019", "Coggan2024", "r² / ceiling"):
        assert word in source


def save_as_before(target, path, monkeypatch):
    """Write the target in version 1 of the format."""
    pack = fastrdm.similarity.target_file._pack

    def packed(arrays, facts):
        old = {k: v for k, v in facts.items() if k not in ("is_computed", "tie_bound")}
        old["protocol"] = {k: v for k, v in old["protocol"].items() if k != "average_times"}
        return pack(arrays, old)

    monkeypatch.setattr("fastrdm.similarity.target_file._VERSION", 1)
    monkeypatch.setattr("fastrdm.similarity.target_file._pack", packed)
    target.save(path)
    monkeypatch.undo()


def test_ceilings_in_files_of_version_1_count_as_given(tmp_path, monkeypatch):
    target = Target(subjects(), nan_policy="omit")
    save_as_before(target, tmp_path / "t", monkeypatch)
    loaded, several = Target.load(tmp_path / "t"), models()
    np.testing.assert_array_equal(
        loaded.score(several).percent_nc, target.score(several).percent_nc
    )
    several[1, 1] = np.nan
    with pytest.warns(RuntimeWarning, match="the ceiling was given"):
        assert np.isnan(loaded.score(several).percent_nc[1])


def test_files_of_version_1_with_another_meaning_are_refused(tmp_path, monkeypatch):
    save_as_before(Target(subjects(), "net2brain"), tmp_path / "one", monkeypatch)
    assert Target.load(tmp_path / "one").protocol.name == "net2brain"
    save_as_before(Target(subjects(times=2), "net2brain"), tmp_path / "two", monkeypatch)
    with pytest.raises(ValueError, match="two was saved by an earlier fastrdm, whose net2brain"):
        Target.load(tmp_path / "two")
    percent = Target(subjects(), ceiling=0.5, name="IT")
    object.__setattr__(percent, "ceiling", 50.0)
    percent.save(tmp_path / "percent")
    with pytest.raises(ValueError, match="the ceiling of IT in .*percent is 50, .* so pass 0.5"):
        Target.load(tmp_path / "percent")


def test_computed_ceilings_stay_computed_in_files_and_pickles(tmp_path):
    target, several = Target(subjects().astype(np.float32), nan_policy="omit"), models()
    several[1, :50] = np.nan
    expected = target.score(several).percent_nc
    target.save(tmp_path / "t")
    for again in (Target.load(tmp_path / "t"), pickle.loads(pickle.dumps(target))):
        np.testing.assert_array_equal(again.score(several).percent_nc, expected)
        assert again.tie_bound == target.tie_bound == FLOAT32


def test_the_mean_similarity_keeps_its_sign():
    several = models()
    several[1] = -subjects().mean(axis=0)
    score = Target(subjects()).score(several)
    np.testing.assert_allclose(score.mean_rho, score.rho.mean(axis=1), rtol=1e-12)
    assert score.mean_rho[1] < 0 < score.value[1]


def test_propagate_affects_only_the_subject_and_the_model():
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
    custom = Protocol("mine", method, squared=True, pool="raw", bound="upper", source="here")
    target = Target(subjects(times=2), custom, name="IT")
    again = pickle.loads(pickle.dumps(target))
    np.testing.assert_array_equal(again.score(models()).r2, target.score(models()).r2)


def custom_protocol(method):
    return Protocol("mine", method, squared=True, pool="raw", bound="upper", source="here")


def with_gaps(rdms):
    rdms[1, ..., 5:9] = rdms[2, ..., 0] = np.nan
    return rdms


@pytest.mark.parametrize("name", ["ceiling", "protocol", "name", "nan_policy", "_subjects", "new"])
def test_attributes_cannot_be_set(name):
    target = Target(subjects())
    with pytest.raises(AttributeError, match=f"cannot be changed, so {name} cannot be set"):
        setattr(target, name, 1)
    with pytest.raises(AttributeError, match=f"cannot be changed, so {name} cannot be deleted"):
        delattr(target, name)


@pytest.mark.parametrize("gaps", [False, True])
def test_arrays_are_read_only(gaps, tmp_path):
    rdms = with_gaps(subjects()) if gaps else subjects()
    target = Target(rdms, nan_policy="omit")
    target.save(tmp_path / "target")
    for one in (target, pickle.loads(pickle.dumps(target)), Target.load(tmp_path / "target")):
        arrays = [one._subjects, one.noise_ceiling.lower_per_subject]
        sides = [group.whole for group in one._side.groups] if gaps else [one._side.whole]
        arrays += [a for side in sides for a in (side.values, side.squares)]
        assert not any(a.flags.writeable for a in arrays)


def test_threads_may_share_a_target(kernels):
    target = Target(subjects(times=2))
    expected = target.score(models(20)).rho
    results = [None] * 6

    def score(i):
        results[i] = target.score(models(20), n_threads=1 + i % 3).rho

    threads = [threading.Thread(target=score, args=(i,)) for i in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rho in results:
        np.testing.assert_array_equal(rho, expected)


@pytest.mark.parametrize("method", reference.METHODS)
@pytest.mark.parametrize("gaps", [False, True])
def test_a_saved_target_scores_the_same(kernels, method, gaps, tmp_path):
    rdms = subjects(5, times=2)
    target = Target(
        with_gaps(rdms) if gaps else rdms, custom_protocol(method), name="IT", nan_policy="omit"
    )
    target.save(tmp_path / "it.target")
    loaded = Target.load(tmp_path / "it.target")
    assert repr(loaded) == repr(target) and loaded.protocol == target.protocol
    assert loaded.ceiling == target.ceiling and loaded.noise_ceiling.upper == target.ceiling
    for models_ in (models(), with_gaps(models())):
        np.testing.assert_array_equal(loaded.score(models_).rho, target.score(models_).rho)


def test_a_loaded_target_stays_in_its_file_and_is_pickled_as_its_path(tmp_path):
    path = tmp_path / "it.target"
    Target(subjects()).save(path)
    loaded = Target.load(path)
    for array in (loaded._subjects, loaded._side.whole.values, loaded._side.whole.squares):
        while isinstance(array.base, np.ndarray):
            array = array.base
        assert isinstance(array, np.memmap)
    pickled = pickle.dumps(loaded)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again.score(models()).rho, loaded.score(models()).rho)
    Target(subjects(seed=9)).save(path)
    with pytest.raises(ValueError, match="it.target holds another target than the pickled one"):
        pickle.loads(pickled)
    np.testing.assert_array_equal(loaded.score(models()).rho, again.score(models()).rho)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="it.target does not exist"):
        pickle.loads(pickled)


def test_files_that_are_not_a_target(tmp_path):
    path = tmp_path / "it.target"
    Target(subjects()).save(path)
    whole = path.read_bytes()
    for length in (20, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="it.target is damaged or incomplete"):
            Target.load(path)
    for place in (16, 60, len(whole) - 100):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="it.target .*damaged"):
            Target.load(path)
    for foreign in (b"", b"\x93NUMPY", b"fastrdm"):
        path.write_bytes(foreign)
        with pytest.raises(ValueError, match="it.target is not a target that fastrdm saved"):
            Target.load(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Target.load(tmp_path / "nowhere")


def test_a_file_of_a_later_version(tmp_path, monkeypatch):
    monkeypatch.setattr("fastrdm.similarity.target_file._VERSION", 7)
    Target(subjects()).save(tmp_path / "it.target")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="later fastrdm, in version 7 of the format; .* up to 4"):
        Target.load(tmp_path / "it.target")


def test_a_failed_save_keeps_the_existing_file(tmp_path, monkeypatch):
    path = tmp_path / "it.target"
    Target(subjects()).save(path)
    before = path.read_bytes()

    def fail(_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        Target(subjects(seed=9)).save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_square_models_are_condensed_block_by_block(monkeypatch):
    target = Target(subjects())
    expected = target.score(models(9)).rho
    monkeypatch.setattr("fastrdm.similarity.numerics._BLOCK_SIZE", 900)
    np.testing.assert_array_equal(target.score(square(models(9))).rho, expected)


def test_many_models_are_not_copied(kernels):
    target = Target(subjects())
    many = np.random.default_rng(0).random((50_000, PAIRS), np.float32)
    target.score(many[:2])
    tracemalloc.start()
    score = target.score(many)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Similarities and intermediate results, (models, subjects) each.
    assert peak < 8 * score.rho.nbytes and peak < many.nbytes
    np.testing.assert_array_equal(score.rho[-1:], target.score(many[-1]).rho)


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
