"""Scores over epochs."""

import dataclasses

import numpy as np
import pytest
from made_scores import LAYERS, result, run

from fastrdm import plot


def lines(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


def test_a_line_is_a_layer_and_a_band_its_interval():
    given = run()
    axes = plot.epochs(reversed(given))
    assert [t.get_text() for t in axes.get_legend().get_texts()] == list(reversed(LAYERS))
    for line, band, layer in zip(lines(axes), axes.collections, reversed(LAYERS), strict=True):
        own = [r for r in given if r.layer == layer]
        np.testing.assert_array_equal(line.get_xdata(), [1, 5, 10])
        np.testing.assert_allclose(line.get_ydata(), [r.percent_nc for r in own])
        corners = band.get_paths()[0].vertices[:, 1]
        assert {r.low for r in own} | {r.high for r in own} <= set(corners)


def test_of_many_lines_the_highest_has_a_band():
    given = run(layers=[f"layer{k}" for k in range(9)])
    highest = max(given, key=lambda r: r.percent_nc).layer
    (band,) = plot.epochs(given).collections
    own = [r for r in given if r.layer == highest]
    assert {r.low for r in own} | {r.high for r in own} <= set(band.get_paths()[0].vertices[:, 1])


def test_epochs_can_be_given_by_checkpoint():
    given = [dataclasses.replace(r, labels={}) for r in run()]
    epochs = {r.checkpoint: i // len(LAYERS) for i, r in enumerate(given)}
    np.testing.assert_array_equal(lines(plot.epochs(given, epoch=epochs))[0].get_xdata(), [0, 1, 2])


def test_runs_have_line_styles():
    given = [*run(name="a", seed=0), *run(name="b", seed=1)]
    axes = plot.epochs(given)
    assert {line.get_linestyle() for line in lines(axes)} == {"-", "--"}
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [*LAYERS, "seed 0", "seed 1"]
    by_folder = plot.epochs([*run(name="a"), *run(name="b")])
    texts = [text.get_text() for text in by_folder.get_legend().get_texts()]
    assert texts[-2:] == ["runs/a", "runs/b"]
    networks = [*run(name="a", arch="x:vgg"), *run(name="b", arch="x:resnet")]
    assert len(lines(plot.epochs(networks))) == 6


def test_each_of_seven_runs_has_its_own_line_style():
    given = [r for seed in range(7) for r in run(layers=("fc",), name=f"{seed}", seed=seed)]
    patterns = {str(line._dash_pattern) for line in lines(plot.epochs(given))}
    assert len(patterns) == 7


def test_legends_of_many_layers_and_runs_are_short():
    axes = plot.epochs(run(layers=[f"layer{i}" for i in range(60)]))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["layer0", "layer30\n(one of 60)", "layer59"]
    given = [r for seed in range(10) for r in run(layers=("fc",), name=f"{seed}", seed=seed)]
    texts = [text.get_text() for text in plot.epochs(given).get_legend().get_texts()]
    assert texts == ["fc", *(f"seed {i}" for i in range(7)), "and 3 more"]


@pytest.mark.parametrize(("epochs", "ticks"), [((3,), [3]), ((1, 2), [1, 2])])
def test_ticks_are_whole_epochs(epochs, ticks):
    axes = plot.epochs(run(epochs))
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == ticks


@pytest.mark.parametrize(
    ("given", "epoch", "words"),
    [
        (run(regions=("evc", "it")), "epoch", "of evc of 92, it of 92; a figure of epochs draws one"),
        (run(), "step", "epoch01.pth has no label 'step'; its labels are epoch; labels with epochs come"),
        ([result()], "epoch", "a.pth has no label 'epoch'; labels with epochs come from `--labels"),
        ([result(labels={"epoch": "x"})], "epoch", "'x', not a number"),
        ([result()], {}, "epoch has no value for runs/a.pth"),
        (
            [result(checkpoint=f"runs/{c}.pth", labels={"epoch": 1}) for c in "ab"],
            "epoch",
            "runs/a.pth and runs/b.pth have the same epoch, 1",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(given, epoch, words):
    with pytest.raises(ValueError, match=words):
        plot.epochs(given, epoch=epoch)


def test_reference_image(check_image):
    check_image(plot.epochs(run()), "epochs")


def test_few_layers_differ_without_colours():
    axes = plot.epochs(run())
    markers = [line.get_marker() for line in lines(axes)]
    assert len(set(markers)) == len(LAYERS)
    assert [line.get_marker() for line in axes.get_legend().get_lines()] == markers
