"""Figures of what a store keeps."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from store_writer import LAYERS, Writer, scored

from fastrdm import Store, Target, compare, plot
from fastrdm.plot import stored_figures, stored_rdms
from fastrdm.plot.stored_rdms import categories_of
from fastrdm.scoring import read_results
from fastrdm.studies import Study

HARMLESS = "<img src=x onerror=alert(1)>$x$[bold]"


@pytest.fixture
def store(tmp_path):
    """A store with the RDMs of three checkpoints."""
    writer = Writer(tmp_path / "scores.db")
    for i in range(3):
        writer.record(scored(i))
    writer.store.close()
    with Store(tmp_path / "scores.db") as store:
        yield store


@pytest.fixture
def study(tmp_path):
    """A study with the RDMs of three subjects, and seven stimuli of two categories."""
    paths = []
    for i, name in enumerate(["face"] * 4 + ["place"] * 3):
        paths.append(tmp_path / f"{name}_{i}.png")
        Image.fromarray(np.full((8, 8, 3), 30 * i, np.uint8)).save(paths[-1])
    rng = np.random.default_rng(0)
    targets = {name: Target(rng.random((3, 21)), ceiling=0.5) for name in ("evc", "it")}
    return Study("92", tuple(paths), targets)


@pytest.fixture
def same_stimuli(store, study, monkeypatch):
    """Let the study's stimuli and subjects be those of the store."""
    monkeypatch.setattr(stored_rdms, "hash_images", lambda *_: "i" * 64)
    monkeypatch.setattr(Target, "sha256", "s" * 64)


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


@pytest.mark.usefixtures("same_stimuli")
def test_rdms_of_layers_are_beside_the_mean_of_the_subjects(store, study):
    results = [r for r in read_results(store) if r.checkpoint == "epoch001.pth"]
    figure = plot.figure_of_rdms(store, results, [study])
    assert titles(figure) == ["EVC, mean of 3", "IT, mean of 3", *LAYERS]
    kept = store.rdms(f"{1:064x}")["92", "fc"]
    drawn = [np.asarray(axes.images[0].get_array()) for axes in figure.axes[:4]]
    upper = np.triu_indices(7, 1)
    order = np.argsort(drawn[3][upper])
    np.testing.assert_array_equal(order, np.argsort(kept))
    mean = study.targets["it"].subject_rdms.reshape(3, 21).mean(axis=0)
    np.testing.assert_array_equal(np.argsort(drawn[1][upper]), np.argsort(mean))


def test_without_studies_only_layers_are_drawn(store):
    results = read_results(store)
    figure = plot.figure_of_rdms(store, results)
    assert len(titles(figure)) == 6
    assert "fc\nepoch001" in titles(figure)


def test_of_too_many_layers_those_of_the_best_checkpoint_are_drawn(store, monkeypatch):
    monkeypatch.setattr(stored_figures, "_MOST_MAPS", 3)
    results = read_results(store)
    results = [
        dataclasses.replace(r, percent_nc=r.percent_nc + 100 * (r.checkpoint == "epoch002.pth"))
        for r in results
    ]
    with pytest.warns(RuntimeWarning, match="2 of the best checkpoint, epoch002.pth"):
        figure = plot.figure_of_rdms(store, results)
    assert titles(figure) == list(LAYERS)


def test_other_data_are_left_out_with_a_warning(store, study, monkeypatch):
    results = [r for r in read_results(store) if r.checkpoint == "epoch001.pth"]
    words = "evc, it of the study 92 are not drawn: the data are not those that"
    with pytest.warns(RuntimeWarning, match=words):
        figure = plot.figure_of_rdms(store, results, [study])
    assert titles(figure) == list(LAYERS)
    monkeypatch.setattr(stored_rdms, "hash_images", lambda *_: "i" * 64)
    study.targets["it"] = Target(np.random.default_rng(1).random((3, 21)), ceiling=0.5)
    with pytest.warns(RuntimeWarning, match="evc, it of the study 92 are not drawn"):
        plot.figure_of_rdms(store, results, [study])


def test_stimuli_of_other_data_are_not_drawn(store, study):
    """A study with the same name, but with other stimuli."""
    other = dataclasses.replace(study, stimuli=study.stimuli[:3], targets={})
    results = read_results(store, layers=["fc"])
    (axes, *_) = plot.figure_of_rdms(store, results, [other]).axes
    assert len(axes.images) == 1


def test_a_map_of_one_layer_is_refused(store):
    results = [r for r in read_results(store, layers=["fc"]) if r.checkpoint == "epoch001.pth"]
    with pytest.raises(ValueError, match="needs at least three RDMs, and the study 92 has 1 of"):
        plot.figure_of_maps(store, results)


def test_a_study_that_the_data_lack_is_mentioned(store, study):
    other = dataclasses.replace(study, name="118")
    with pytest.warns(RuntimeWarning, match="the data have no study 92"):
        plot.figure_of_rdms(store, read_results(store), [other])


@pytest.mark.parametrize("draw", [plot.figure_of_rdms, plot.figure_of_maps])
def test_a_store_without_rdms_is_refused(tmp_path, draw):
    writer = Writer(tmp_path / "scores.db")
    writer.record(dataclasses.replace(scored(0), rdms={}))
    writer.store.close()
    with (
        Store(tmp_path / "scores.db") as store,
        pytest.raises(
            ValueError, match="keeps no RDMs of these results; fastrdm sweep --keep-rdms"
        ),
    ):
        draw(store, read_results(store))


@pytest.mark.parametrize("draw", [plot.figure_of_rdms, plot.figure_of_maps])
@pytest.mark.parametrize("value", [np.nan, 1.0])
def test_layers_without_two_values_are_left_out(tmp_path, draw, value):
    writer = Writer(tmp_path / "scores.db")
    for i in range(3):
        made = scored(i)
        if i == 0:
            made.rdms["92"][1] = value
        writer.record(made)
    writer.store.close()
    with Store(tmp_path / "scores.db") as store:
        with pytest.warns(RuntimeWarning, match="fc of epoch000.pth .* no two different values"):
            figure = draw(store, read_results(store))
        assert figure.axes


@pytest.mark.usefixtures("same_stimuli")
def test_layers_and_subjects_are_on_one_map(store, study):
    results = [r for r in read_results(store, regions=["it"]) if r.checkpoint != "epoch000.pth"]
    figure = plot.figure_of_maps(store, results, [study])
    (axes,) = figure.axes
    counts = {each.get_label(): len(each.get_offsets()) for each in axes.collections}
    assert counts == {"epoch001": 2, "epoch002": 2, "subjects, IT": 3}
    assert len(axes.lines) == 2
    assert [text.get_text() for text in axes.texts] == [*LAYERS, *LAYERS]


def test_comparisons_are_those_of_each_region(store):
    results = [r for r in read_results(store) if r.checkpoint == "epoch001.pth"]
    figure = plot.figure_of_comparisons(results)
    assert titles(figure) == ["92, EVC", "92, IT"]
    conv, fc = (np.mean(r.rho) for r in results if r.region == "it")
    drawn = np.asarray(figure.axes[1].images[0].get_array())
    assert drawn[0, 1] == pytest.approx(conv - fc)


def test_layers_without_similarities_are_left_out_with_a_warning(store):
    results = read_results(store, regions=["it"])
    results[0] = dataclasses.replace(results[0], rho=(float("nan"), *results[0].rho[1:]))
    with pytest.warns(RuntimeWarning, match="conv of it of 92 have no similarity to some subject"):
        figure = plot.figure_of_comparisons(results)
    assert figure.axes[0].images[0].get_array().shape == (5, 5)


def test_names_are_harmless_text(store):
    results = [
        dataclasses.replace(r, layer=HARMLESS, checkpoint=f"{HARMLESS}/{i}_\x1b")
        for i, r in enumerate(read_results(store, regions=["it"]))
    ]
    figure = plot.figure_of_comparisons(results)
    figure.canvas.draw()
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert all("$" not in label.replace(r"\$", "") and "\x1b" not in label for label in labels)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rho": ()}, "no two layers with the similarity to each of at least two subjects"),
        ({"time": 0.1}, "no two layers with the similarity"),
    ],
)
def test_comparisons_without_layers_are_refused(store, change, words):
    results = [dataclasses.replace(r, **change) for r in read_results(store)]
    with pytest.raises(ValueError, match=words):
        plot.figure_of_comparisons(results)


def test_too_many_panels_are_refused(store):
    results = [
        dataclasses.replace(r, region=f"r{i}") for r in read_results(store) for i in range(13)
    ]
    with pytest.raises(ValueError, match="at most 12 panels, and 13"):
        plot.figure_of_comparisons(results)


def test_categories_are_folders_or_the_start_of_names():
    assert categories_of(["a/1.png", "a/2.png", "b/1.png", "b/2.png"]) == ["a", "a", "b", "b"]
    assert categories_of(["a_1.png", "b-02.png", "a_3.png", "b-4.png"]) == ["a", "b", "a", "b"]
    assert categories_of(["1.png", "2.png"]) is None
    assert categories_of(["image_1.png", "image_2.png"]) is None
    assert categories_of(["x_1.png", "y_1.png"]) is None


def test_similar_layers_are_near(store):
    """Positions follow the similarities of the kept RDMs."""
    results = read_results(store, regions=["it"])
    (axes,) = plot.figure_of_maps(store, results).axes
    points = np.concatenate([np.asarray(each.get_offsets()) for each in axes.collections])
    rdms = [store.rdms(f"{i:064x}")["92", layer] for i in range(3) for layer in LAYERS]
    distances = 1 - compare(np.array(rdms), np.array(rdms))
    drawn = np.linalg.norm(points[:, None] - points, axis=2)
    upper = np.triu_indices(6, 1)
    assert np.corrcoef(drawn[upper], distances[upper])[0, 1] > 0.8
