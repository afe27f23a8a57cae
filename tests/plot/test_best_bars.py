"""The best layers of networks and of checkpoints."""

import numpy as np
import pytest
from made_scores import CEILING, result, run

from fastrdm import plot
from fastrdm.inference import subject_intervals
from fastrdm.scoring import layer_scores


def networks(studies=("92", "118")):
    return [
        result(
            layer, region, seed=hash_of(name, layer, region, study), mean=mean + 0.03 * k,
            study=study, checkpoint=f"nets/{name}.pth",
        )
        for name, mean in {"alexnet": 0.05, "resnet": 0.1}.items()
        for k, layer in enumerate(("early", "late"))
        for region in ("evc", "it")
        for study in studies
    ]  # fmt: skip


def hash_of(*texts):
    return sum(ord(c) * (i + 1) for i, c in enumerate("".join(texts)))


def test_the_best_layer_has_the_challenges_score():
    given = networks()
    for score in plot.best_scores(given):
        own = [r for r in given if score.network in r.checkpoint]
        of_layers = next(iter(layer_scores(own).values()))
        assert score.layer == max(of_layers, key=of_layers.get)
        regions = [r for r in own if (r.study, r.layer) == (score.study, score.layer)]
        subjects = np.mean([r.rho for r in regions], axis=0) * 100 / CEILING
        np.testing.assert_allclose(score.subjects, subjects)
        assert score.percent == pytest.approx(subjects.mean())
        np.testing.assert_allclose((score.low, score.high), subject_intervals([subjects])[0])


def test_bars_are_the_scores_side_by_side():
    given = networks()
    axes = plot.figure4(given)
    scores = plot.best_scores(given)
    heights = sorted(patch.get_height() for patch in axes.patches)
    np.testing.assert_allclose(heights, sorted(score.percent for score in scores))
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["92", "118"]
    assert axes.get_xticklabels()[1].get_text() == "resnet\nlate"


def test_layers_and_a_baseline_can_be_given():
    given = networks(("92",))
    best = {"nets/alexnet.pth": "early", "nets/resnet.pth": "late"}
    axes = plot.figure4(given, best=best, baseline=20, baseline_name="pixels")
    assert axes.get_xticklabels()[0].get_text() == "alexnet\nearly"
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["pixels"]
    assert any(list(line.get_ydata()) == [20, 20] for line in axes.lines)


def test_opposite_layers_are_marked():
    axes = plot.figure4([result(squared=True, mean=-0.2)])
    assert axes.get_xticklabels()[0].get_text().endswith("fc ‡")
    assert axes.patches[0].get_hatch() == "///"


def test_regions_with_different_subjects_have_no_interval():
    given = [result(region="evc"), result(region="it", rho=(0.1, 0.2))]
    (score,) = plot.best_scores(given)
    assert score.subjects == () and np.isnan(score.low)


def test_figure_5_has_checkpoints_in_order_of_epochs():
    given = run((10, 1, 5), regions=("evc", "it"))
    axes = plot.figure5(given)
    line = next(line for line in axes.lines if len(line.get_xdata()) == 3)
    assert list(line.get_xdata()) == [1, 5, 10]
    percents = {s.checkpoint[-6:-4]: s.percent for s in plot.best_scores(given)}
    np.testing.assert_allclose(line.get_ydata(), [percents[each] for each in ("01", "05", "10")])
    assert "fc" in [text.get_text() for text in axes.texts]


def test_names_of_layers_overlap_neither_each_other_nor_the_end_of_the_axes():
    from matplotlib.text import Text

    layers = [f"layer_{i % 2}_with_a_name" for i in range(20)]
    given = [
        result(layer, checkpoint=f"{i}.pth", labels={"epoch": i}, seed=i)
        for i, layer in enumerate(layers)
    ]
    axes = plot.figure5(given)
    axes.figure.draw_without_rendering()
    texts = [text for text in axes.texts if "layer" in text.get_text()]
    # Without the lines to their points.
    boxes = [Text.get_window_extent(text) for text in texts]
    assert boxes
    for i, box in enumerate(boxes):
        assert box.x1 <= axes.bbox.x1 + 2
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize("draw", [plot.figure4, plot.figure5])
def test_what_cannot_be_drawn_is_refused(draw):
    with pytest.raises(ValueError, match="there are no results to draw"):
        draw([])
    nan = run(layers=("fc",), epochs=(1,))
    nan = [type(r)(**{**vars(r), "value": np.nan, "percent_nc": np.nan}) for r in nan]
    with pytest.raises(ValueError, match="no layer has a score"):
        draw(nan)
    with pytest.raises(ValueError, match="several measures"):
        draw([result(), result(measure="cka")])


def test_too_many_networks_are_refused():
    given = [result(checkpoint=f"{i}.pth") for i in range(81)]
    with pytest.raises(ValueError, match="at most 80 networks, and the results have 81"):
        plot.figure4(given)


def test_reference_images(check_image):
    check_image(plot.figure4(networks(), baseline=20), "figure4")
    check_image(plot.figure5(run(regions=("evc", "it"))), "figure5")
