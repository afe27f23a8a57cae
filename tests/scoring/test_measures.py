"""Layers are scored by several measures from one matrix, each as its function does it."""

import contextlib
import math
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from small_onnx import SIZE, write_small
from small_study import write_study

from fastrdm import (
    OnnxModel,
    Preprocessing,
    Responses,
    SparseProjection,
    Store,
    cka,
    gram,
    score_checkpoints,
    sweep,
)
from fastrdm.scoring import MEASURES, Result, best_layers, layer_scores
from fastrdm.scoring.records import StoreError
from fastrdm.scoring.store_check import check_store
from fastrdm.similarity import PROTOCOLS, Target
from fastrdm.studies import open_studies

PLAIN = Preprocessing((SIZE, SIZE))
NETWORK = {"taps": ["first", "second"], "preprocessing": PLAIN}
N, SUBJECTS, UNITS = 9, 3, 7
ALL = ("rsa", "cka", "cka-debiased", "ridge", "pls")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_small(tmp_path / "net.onnx", "net.onnx_data")
    write_study(tmp_path / "study", N, SUBJECTS, ("it", "v1"))
    return tmp_path


@pytest.fixture
def model(here):
    return OnnxModel("net.onnx", **NETWORK, provider="cpu")


@pytest.fixture
def plain_study(here):
    (study,) = open_studies("study")
    return study


@pytest.fixture
def study(plain_study, model):
    """A study whose region "it" has responses that the layer "second" explains in part."""
    rng = np.random.default_rng(0)
    layer = model.activations(list(plain_study.stimuli))["second"].reshape(N, -1)
    signal = layer @ rng.standard_normal((SUBJECTS, layer.shape[1], UNITS))
    signal /= signal.std()
    values = signal[:, None] + 0.3 * rng.standard_normal((SUBJECTS, 4, N, UNITS))
    responses = Responses(values, name="it")
    return replace(
        plain_study,
        responses={"it": responses},
        grams={"it": tuple(map(gram, responses.means))},
        options={"it": {"folds": 3}},
    )


def results(study, measures=None, **options):
    (scores,) = score_checkpoints(
        ["net.onnx"], (), study, measures=measures, provider="cpu", **NETWORK, **options
    )
    assert not scores.error, scores.traceback
    return scores.results


def only(study, *regions):
    names = ("targets", "responses", "grams", "measures", "options")
    return replace(
        study,
        **{
            name: {r: value for r, value in getattr(study, name).items() if r in regions}
            for name in names
        },
    )


def test_every_measure_is_that_of_its_function(study, model):
    it = only(study, "it")
    grams = model.grams(list(study.stimuli))
    subjects, responses = list(study.grams["it"]), study.responses["it"]
    expected = {
        "rsa": study.targets["it"].score(model.rdms(list(study.stimuli))).rho,
        "cka": cka(grams, subjects),
        "cka-debiased": cka(grams, subjects, debiased=True),
        "ridge": responses.score(grams, folds=3).median,
        "pls": responses.score(grams, "pls", folds=3).median,
    }
    found = results(it, ALL)
    assert [(r.measure, r.layer) for r in found] == [
        (measure, layer) for measure in ALL for layer in ("first", "second")
    ]
    for i, result in enumerate(found):
        rho = expected[result.measure][i % 2]
        np.testing.assert_allclose(result.rho, rho, rtol=1e-12, err_msg=result.measure)
        assert result.mean_rho == pytest.approx(np.mean(rho))
        if result.measure != "rsa":
            assert result.value == result.mean_rho
            assert result.percent_nc == pytest.approx(100 * np.mean(rho) / result.ceiling)
            assert result.std == pytest.approx(np.std(rho))
        assert result.low <= result.percent_nc <= result.high
        assert 0 < result.p_sign_flip <= result.p_corrected <= 1
    ceilings = {r.measure: r.ceiling for r in found}
    median = np.mean(np.median(np.asarray(responses.ceiling), axis=1))
    assert ceilings["ridge"] == ceilings["pls"] == pytest.approx(median)
    for measure in ("ridge", "pls"):
        assert best_layers(found, measure=measure) == {"fmri": "second"}


def test_other_measures_do_not_change_rank_correlations_by_a_bit(study):
    it = only(study, "it")
    alone = results(it, "rsa")
    assert [r for r in results(it, ALL) if r.measure == "rsa"] == list(alone)
    assert alone == results(only(it, "it"))


def test_the_ceiling_of_cka_is_that_with_the_mean_subject(study, plain_study):
    (result, _) = results(only(study, "it"), "cka")
    centred = [each.centred() for each in study.grams["it"]]
    mean = sum(each / np.linalg.norm(each) for each in centred)
    assert result.ceiling == pytest.approx(cka(centred, mean).mean())


def test_cka_takes_rdms_as_squared_distances(plain_study, model):
    grams = model.grams(list(plain_study.stimuli))
    rdms = plain_study.targets["it"].subject_rdms[:, 0]
    expected = cka(grams, rdms, distances="sqeuclidean")
    found = [r.rho for r in results(only(plain_study, "it"), "cka")]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_cka_of_subjects_over_time_is_averaged_over_time(plain_study, model):
    rng = np.random.default_rng(0)
    rdms = rng.random((SUBJECTS, 4, N * (N - 1) // 2))
    study = replace(only(plain_study, "it"), targets={"it": Target(rdms, "net2brain")})
    grams = model.grams(list(study.stimuli))
    expected = np.mean([cka(grams, rdms[:, t], distances="sqeuclidean") for t in range(4)], axis=0)
    found = [r.rho for r in results(study, "cka")]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_one_subject_has_a_score_without_inference(study):
    responses = Responses(study.responses["it"].means[0], name="it")
    one = replace(only(study, "it"), targets={}, responses={"it": responses}, grams={})
    for result in results(one, "ridge"):
        assert len(result.rho) == 1 and math.isnan(result.low) and math.isnan(result.p_corrected)
        # Without repeats there is no ceiling below 1.
        assert result.ceiling == 1 and result.percent_nc == 100 * result.rho[0]


def test_units_without_reliability_do_not_count(study, model):
    values = np.random.default_rng(1).standard_normal((SUBJECTS, 2, N, UNITS))
    values[:, 1] = values[:, 0]
    values[:, 1, :, 0] = -0.5 * values[:, 0, :, 0]
    responses = Responses(values, name="it")
    assert np.isnan(np.asarray(responses.ceiling)[:, 0]).all()
    noisy = replace(only(study, "it"), responses={"it": responses})
    r = responses.score(model.grams(list(study.stimuli)), folds=3).r
    found = [result.rho for result in results(noisy, "ridge")]
    np.testing.assert_allclose(found, np.median(r[:, :, 1:], axis=2), rtol=1e-12)
    unreliable = Responses(values[..., :1], name="it")
    with pytest.raises(ValueError, match="no unit of subject 0 of the region 'it' of the study"):
        results(replace(noisy, responses={"it": unreliable}), "ridge")


def test_regions_have_the_measures_of_their_study_if_they_have_the_data(study):
    own = {"it": ("ridge", "rsa"), "v1": ("rsa", "cka", "ridge")}
    found = {(r.measure, r.region) for r in results(replace(study, measures=own))}
    assert found == {("ridge", "it"), ("rsa", "it"), ("rsa", "v1"), ("cka", "v1")}
    assert {(r.measure, r.region) for r in results(study)} == {("rsa", "it"), ("rsa", "v1")}


def test_a_measure_that_is_named_needs_data_of_every_region(study, plain_study):
    with pytest.raises(
        ValueError,
        match="'ridge' needs responses of units, and the region 'v1' of the study 'study'",
    ):
        results(study, ["rsa", "ridge"])
    bare = replace(study, targets={}, measures={"it": ("ridge",)})
    with pytest.raises(ValueError, match="'rsa' needs RDMs of subjects, and the region 'it'"):
        results(bare, "rsa")
    with pytest.raises(ValueError, match="measure 'rigde' is not one of: rsa, cka"):
        results(study, "rigde")
    with pytest.raises(ValueError, match="measures is empty"):
        results(study, [])
    with pytest.raises(ValueError, match="no region with data of its measures"):
        results(replace(plain_study, measures={"it": ("pls",), "v1": ("ridge",)}))


def test_options_that_no_layer_can_meet_are_refused_before_work(study):
    it = only(study, "it")
    for options, message in {
        ("folds", 20): "the region 'it' of the study 'study': .*20",
        (
            "n_components",
            8,
        ): "n_components is 8, and a fold has 6 training conditions, .* at most 5",
    }.items():
        with pytest.raises(ValueError, match=message):
            results(replace(it, options={"it": {"folds": 3, **dict([options])}}), "pls")
    nan = Target(np.where(np.eye(1, 36, dtype=bool), np.nan, it.targets["it"].subject_rdms[:, 0]),
                 nan_policy="omit")  # fmt: skip
    with pytest.raises(
        ValueError, match="'cka' needs all pairs of stimuli, and RDMs of .* have NaN"
    ):
        results(replace(it, targets={"it": nan}, grams={}), "cka")
    missing = np.array(it.responses["it"].means)
    missing[0, 2, 3] = np.nan
    responses = Responses(missing, name="it", nan_policy="omit")
    with pytest.raises(
        ValueError, match="'pls' fits the units of a subject together, and those of"
    ):
        results(replace(it, responses={"it": responses}), "pls")
    assert results(replace(it, responses={"it": responses}), "ridge")


def test_a_layer_with_fewer_channels_than_components_has_as_many(study, model):
    it = replace(
        only(study, "it"), options={"it": {"folds": 3, "n_components": 2, "alphas": [1.0]}}
    )
    grams = model.grams(list(study.stimuli))
    expected = it.responses["it"].score(grams, "pls", folds=3, n_components=2).median
    np.testing.assert_allclose([r.rho for r in results(it, "pls")], expected, rtol=1e-12)
    ridge = it.responses["it"].score(grams, folds=3, alphas=[1.0]).median
    np.testing.assert_allclose([r.rho for r in results(it, "ridge")], ridge, rtol=1e-12)


def test_a_constant_layer_has_no_score_and_a_reason(study, here):
    from onnx import load, numpy_helper, save

    network = load("net.onnx")
    for tensor in network.graph.initializer:
        if tensor.name == "w2":
            zeros = np.zeros(tensor.dims, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(zeros, "w2"))
    save(network, "net.onnx")
    with pytest.warns(RuntimeWarning) as caught:
        found = results(only(study, "it"), ALL)
    texts = [str(each.message) for each in caught]
    assert any("'second' has no score" in t and "equal for all images" in t for t in texts), texts
    for result in found:
        assert math.isnan(result.value) is (result.layer == "second"), result
    for measure in ALL:
        assert best_layers(found, measure=measure) == {"fmri": "first"}


def test_results_by_several_measures_are_ranked_by_the_one_that_is_chosen():
    made = [
        Result("x", "s", layer, "it", v, 0, 0, 0, 0, v, 0.5, measure=measure)
        for measure, values in {"rsa": (0.1, 0.2), "ridge": (0.4, 0.3)}.items()
        for layer, v in zip("ab", values, strict=True)
    ]
    assert best_layers(made, measure="ridge") == {"fmri": "a"}
    assert layer_scores(made, measure="rsa") == {"fmri": pytest.approx({"a": 20, "b": 40})}
    for function in (best_layers, layer_scores):
        with pytest.raises(ValueError, match="several measures; choose one of rsa, ridge"):
            function(made)
    assert best_layers(made[:2]) == {"fmri": "b"}


# Stores


def run(study, measures=None, **options):
    """The summary of a sweep, and its scored measures by region."""
    options = {"engine": "in-process", "provider": "cpu", **NETWORK} | options
    errors = []
    summary = sweep(
        "net.onnx", (), study, store="s.db", measures=measures,
        on_event=lambda event: errors.extend(filter(None, [event.get("error")])), **options,
    )  # fmt: skip
    assert not errors
    return summary.scored


def rows(**options):
    with Store("s.db") as store:
        table = store.table(**options)
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows()]


def test_a_measure_is_added_to_a_store_without_scoring_others_again(study, monkeypatch):
    it = only(study, "it")
    assert (run(it, "rsa"), run(it, "rsa")) == (1, 0)
    before = rows()

    def refuse(*arguments, **options):
        raise AssertionError("scored again")

    with monkeypatch.context() as patch:
        patch.setattr("fastrdm.scoring.region_scorers.score_layers", refuse)
        asked = (["rsa", "ridge"], ["ridge", "rsa"], "ridge")
        assert [run(it, measures) for measures in asked] == [1, 0, 0]
    assert [row for row in rows() if row["measure"] == "rsa"] == before
    assert run(it, ALL) == 1
    found = {(r.measure, r.layer): r for r in results(it, ALL)}
    for row in rows():
        result = found[row["measure"], row["layer"]]
        names = ("value", "ceiling", "percent_nc", "mean_rho", "p_sign_flip", "p_corrected")
        assert [row[name] for name in names] == [getattr(result, name) for name in names]
    with Store("s.db") as store:
        assert check_store(store).problems == ()


def test_tables_choose_measures(study):
    run(study)
    run(only(study, "it"), ALL)
    assert list(dict.fromkeys(row["measure"] for row in rows())) == [
        "rsa", "cka", "cka-debiased", "pls", "ridge",
    ]  # fmt: skip
    assert {row["measure"] for row in rows(measures=["Ridge", "pls"])} == {"ridge", "pls"}
    best = rows(best=True, regions="it")
    assert {row["measure"] for row in best} == set(ALL) and len(best) == len(ALL)
    for row in best:
        assert row["score"] == pytest.approx(row["percent_nc"])
    with pytest.raises(ValueError, match="the store has no measure 'rdige'; the nearest are ridge"):
        rows(measures="rdige")


CHANGES = {
    "responses": lambda s: replace(s, responses={"it": other_responses(s)}),
    "folds": lambda s: replace(s, options={"it": {"folds": 4}}),
    "seed of the folds": lambda s: replace(s, options={"it": {"folds": 3, "seed": 1}}),
    "labels of folds": lambda s: replace(s, options={"it": {"folds": list("aabbccaab")}}),
    "penalties": lambda s: replace(s, options={"it": {"folds": 3, "alphas": [1, 2]}}),
}  # fmt: skip


def other_responses(study):
    return Responses(np.array(study.responses["it"].means) + np.eye(N, UNITS), name="it")


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_a_regression_is_scored_anew(study, change):
    it = only(study, "it")
    assert run(it, "ridge") == 1
    changed = CHANGES[change](it)
    assert (run(changed, "ridge"), run(changed, "ridge")) == (1, 0)
    # Nothing of it changes the similarity of RDMs.
    assert (run(it, "rsa"), run(changed, "rsa")) == (1, 0)


def test_components_are_no_option_of_ridge(study):
    it = only(study, "it")
    assert (run(it, "ridge"), run(it, "pls")) == (1, 1)
    changed = replace(it, options={"it": {"folds": 3, "n_components": 2}})
    assert (run(changed, "ridge"), run(changed, "pls")) == (0, 1)


def test_gram_matrices_are_kept(study, model):
    it = only(study, "it")
    run(it, keep_grams=True, keep_rdms=True)
    (sha256,) = {row["sha256"] for row in rows()}
    with Store("s.db") as store:
        kept, rdms = store.grams(sha256), store.rdms(sha256)
        assert check_store(store).problems == ()
    made = model.grams(list(study.stimuli))
    assert list(kept) == list(rdms) == [("study", "first"), ("study", "second")]
    for (_, layer), each in kept.items():
        assert each == made[layer]
        np.testing.assert_array_equal(
            each.rdm("correlation").astype(np.float32), rdms["study", layer]
        )
    assert it.responses["it"].score({"second": kept["study", "second"]}).r.shape[0] == 1


# Memory and projections


def test_projections_and_limits_of_memory_are_part_of_the_key(study):
    it = only(study, "it")
    assert run(it) == 1
    projection = SparseProjection(20)
    for options in (
        {"projection": 20},
        {"projection": SparseProjection(20, seed=1)},
        {"projection": SparseProjection(20, density=0.5)},
        {"projection": 30},
        {"max_memory": "1GiB"},
        {"max_memory": "2GiB"},
    ):
        assert (run(it, **options), run(it, **options)) == (1, 0)
    assert (run(it, projection=projection), run(it, max_memory=2**30), run(it)) == (0, 0, 0)
    assert len({row["settings"] for row in rows()}) == 7


@pytest.mark.parametrize("measures", ["rsa", ("rsa", "cka")])
def test_projected_layers_and_limited_memory(study, model, measures):
    it, stimuli = only(study, "it"), list(study.stimuli)
    target = study.targets["it"]
    for options in ({"projection": SparseProjection(16)}, {"max_memory": 60_000}):
        expected = target.score(model.rdms(stimuli, **options)).rho
        found = [r.rho for r in results(it, measures, **options) if r.measure == "rsa"]
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="projection must be at least 1, not 0"):
        results(it, projection=0)
    with pytest.raises(ValueError, match="max_memory 'much' is not a number of bytes"):
        results(it, max_memory="much")


def test_every_measure_has_a_protocol_of_its_own_or_the_targets():
    assert tuple(MEASURES) == ALL
    for name, row in MEASURES.items():
        assert (row.protocol is None) is (name == "rsa")
        assert name not in PROTOCOLS and row.title and row.needs and row.symbol


def test_matrices_of_several_settings_are_not_mixed(study, model):
    it, stimuli = only(study, "it"), list(study.stimuli)
    run(it, keep_grams=True, keep_rdms=True)
    run(it, keep_grams=True, keep_rdms=True, projection=16)
    settings = {row["settings"] for row in rows()}
    ((sha256, *_),) = {(row["sha256"],) for row in rows()}
    with Store("s.db") as store:
        for read in (store.rdms, store.grams):
            with pytest.raises(
                ValueError, match=f"several settings; choose one of {min(settings)}"
            ):
                read(sha256)
        kept = [store.grams(sha256, each)["study", "first"] for each in settings]
        assert store.grams("0" * 64) == {} and store.rdms(sha256, "none") == {}
    expected = [
        model.grams(stimuli, projection=each)["first"] for each in (None, SparseProjection(16))
    ]
    assert kept == expected or kept[::-1] == expected


def test_stores_with_several_measures_are_merged(study):
    it = only(study, "it")
    run(it, ("rsa", "ridge"), keep_grams=True)
    before = rows()
    (sha256,) = {row["sha256"] for row in before}
    with Store("into.db", write=True) as into:
        assert into.merge("s.db") == 1
        assert check_store(into).problems == ()
        assert [dict(zip(into.columns(), row, strict=True)) for row in into.rows()] == [
            {name: row[name] for name in into.columns()} for row in before
        ]
        with Store("s.db") as store:
            assert into.grams(sha256) == store.grams(sha256) != {}


def test_damaged_gram_matrices_are_found(study):
    run(only(study, "it"), keep_grams=True)
    with contextlib.closing(sqlite3.connect("s.db")) as database, database:
        database.execute("UPDATE grams SET content = substr(content, 1, 90) WHERE position = 1")
    with Store("s.db") as store:
        (problem,) = check_store(store).problems
        assert problem == "the Gram matrix of second of net.onnx is damaged"
        (sha256,) = {row["sha256"] for row in rows()}
        with pytest.raises(StoreError, match="content of a Gram matrix is not what was written"):
            store.grams(sha256)


def test_worker_processes_score_by_all_measures(study):
    it = only(study, "it")
    run(it, ALL, engine="local", workers=1)
    found = {(r.measure, r.layer): r.rho for r in results(it, ALL)}
    for row in rows(subjects=True):
        assert row["rho"] == found[row["measure"], row["layer"]][row["subject"]]
