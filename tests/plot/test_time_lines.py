"""Scores over time."""

import dataclasses
import math

import numpy as np
import pytest
from made_scores import result, run

from fastrdm import plot

TIMES = (-100.0, 0.0, 100.0, 200.0)


def over_time(layers=("a", "b"), checkpoints=("x",)):
    return [
        result(layer, "meg", seed=i, mean=0.05 * i, ceiling=0.1 + 0.05 * i, time=time,
               checkpoint=f"{checkpoint}.pth")
        for checkpoint in checkpoints
        for layer in layers
        for i, time in enumerate(TIMES)
    ]  # fmt: skip


def test_lines_are_values_and_the_area_is_the_ceiling():
    given = over_time()
    axes = plot.time([*given, *run()])
    line = next(line for line in axes.lines if len(line.get_xdata()) == 4)
    np.testing.assert_array_equal(line.get_xdata(), TIMES)
    np.testing.assert_allclose(line.get_ydata(), [r.value for r in given[:4]])
    ceiling = axes.collections[-1].get_paths()[0].vertices[:, 1]
    assert {r.ceiling for r in given} <= set(ceiling)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["noise ceiling", "a", "b"]


def test_nan_interrupts_a_line():
    given = over_time(("a",))
    given[1] = dataclasses.replace(given[1], value=math.nan, low=math.nan, high=math.nan)
    axes = plot.time(given, ceiling=False, unit="ms")
    assert np.isnan(axes.lines[0].get_ydata()).tolist() == [False, True, False, False]
    assert axes.get_xlabel() == "time (ms)"


def test_checkpoints_have_line_styles():
    axes = plot.time(over_time(checkpoints=("x", "y")))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["noise ceiling", "a", "b", "x", "y"]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="have no time points, .* score with --over-time each"):
        plot.time(run())
    other = [dataclasses.replace(r, region="eeg") for r in over_time()]
    with pytest.raises(ValueError, match="of meg of 92, eeg of 92; a figure of time draws one"):
        plot.time([*over_time(), *other])


def test_reference_image(check_image):
    check_image(plot.time(over_time()), "time")
