"""Scores by layer."""

import dataclasses
import math

import numpy as np
import pytest
from made_scores import CEILING, LAYERS, result, run

from fastrdm import plot


def means(axes):
    """The large points, as (x, y)."""
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in axes.lines
        if line.get_marker() == "o" and len(line.get_xdata())
    ]


def strip(axes):
    return axes.child_axes[0]


@pytest.mark.parametrize("squared", [False, True])
def test_points_intervals_and_subjects_are_the_results(squared):
    given = [result(layer, squared=squared, seed=i) for i, layer in enumerate(LAYERS)]
    axes = plot.layers(given)
    assert means(axes) == [(i, pytest.approx(r.percent_nc)) for i, r in enumerate(given)]
    segments = [s for c in axes.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    np.testing.assert_allclose([s[:, 1] for s in segments], [(r.low, r.high) for r in given])
    dots = [
        np.asarray(c.get_offsets())[:, 1] for c in axes.collections if len(c.get_offsets()) == 8
    ]
    values = np.array([r.rho for r in given]) ** (2 if squared else 1)
    np.testing.assert_allclose(dots, 100 * values / CEILING)
    assert [text.get_text() for text in axes.get_xticklabels()] == list(LAYERS)
    assert axes.get_title("left") == "92, IT"


def test_nothing_is_below_a_zero_without_negative_scores():
    axes = plot.layers([result(squared=True, mean=0.02)])
    assert axes.get_ylim()[0] == 0
    below = plot.layers([result(mean=-0.1)])
    assert below.get_ylim()[0] < min(100 * np.array(result(mean=-0.1).rho) / CEILING)


def test_the_axis_is_broken_only_if_the_ceiling_is_far():
    axes = plot.layers([result()])
    assert strip(axes).get_ylim()[1] > 100 and axes.get_ylim()[1] < 100
    assert list(strip(axes).get_yticks()) == [100]
    assert not plot.layers([result(mean=0.24)]).child_axes


@pytest.mark.parametrize(("mean", "where"), [(0.24, lambda axes: axes), (0.05, strip)])
def test_the_band_is_between_the_bounds(mean, where):
    axes = plot.layers([result(mean=mean)], ceilings={("92", "it"): (0.2, CEILING)})
    band = where(axes).patches[0].get_extents().transformed(where(axes).transData.inverted())
    assert (band.y0, band.y1) == (pytest.approx(80), pytest.approx(100))
    assert not strip(plot.layers([result()], ceilings={("92", "v1"): (0.2, 0.3)})).patches


def test_layers_opposite_to_the_brain_have_open_points():
    axes = plot.layers([result("a", squared=True), result("b", squared=True, mean=-0.1)])
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert [face == "white" for face in faces[:2]] == [False, True]


def test_checkpoints_and_regions_are_side_by_side_with_short_names():
    axes = plot.layers(run((1, 5), regions=("evc", "it")))
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["epoch01, EVC", "epoch01, IT", "epoch05, EVC", "epoch05, IT"]
    assert len(means(axes)) == 4 * len(LAYERS)
    assert axes.get_title("left") == "92"


def test_many_checkpoints_are_lines():
    axes = plot.layers(run(range(20)))
    assert means(axes) == []
    assert "one of 20" in axes.get_legend().get_texts()[1].get_text()


def test_unknown_scores_have_no_point():
    given = [result("a"), result("b", percent_nc=math.nan, low=math.nan, high=math.nan, rho=())]
    assert [x for x, _ in means(plot.layers(given)) if not math.isnan(_)] == [0]
    assert plot.layers([given[1]]).get_ylim()[0] == 0


def test_names_are_plain_text():
    names = [
        "<img src=x onerror=alert(1)>",
        "$x^2$",
        "_a",
        "[bold]",
        "\x1b[31m",
        "caf\udce9",
        "x" * 999,
    ]
    given = [result(name, checkpoint=f"runs/{name}.pth") for name in names]
    axes = plot.layers(given)
    axes.figure.canvas.draw()
    shown = [text.get_text() for text in axes.get_xticklabels()]
    assert shown[1:6] == [r"\$x^2\$", "_a", "[bold]", r"\x1b[31m", r"caf\xe9"]
    assert len(axes.get_legend().get_texts()) == len(names)
    plot.figure4(given).figure.canvas.draw()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "there are no results to draw"),
        (
            [result(), result(measure="cka")],
            "several measures, rsa, cka; a figure of layers draws one",
        ),
        ([result(time=0.1)], "the results are of time points, which a figure of layers does not"),
        ([result(), result(seed=1)], "the layer 'fc' has several results for 'runs/a.pth'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        plot.layers(given)


def test_an_axes_can_be_given():
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    assert plot.layers([result()], ax=axes, title="a title") is axes
    assert axes.get_title("left") == "a title" and len(pyplot.get_fignums()) == 1
    assert figure.axes[0] is axes


def test_reference_image(check_image):
    check_image(plot.layers(run((1, 10)), ceilings={("92", "it"): (0.2, CEILING)}), "layers")


def test_results_without_subjects_have_points_only():
    axes = plot.layers([dataclasses.replace(result(), rho=(), low=math.nan, high=math.nan)])
    assert len(means(axes)) == 1 and not axes.collections
