"""Benchmarks in one picture."""

import numpy as np
import pytest

from fastrdm import plot

TIMES = {
    "correlation RDM, 118 × 802,816 float32": {
        "fastrdm cpp": 0.1, "fastrdm numba": 0.39, "numpy BLAS": 0.39, "scipy pdist": 5.1,
    },
    "noise ceiling": {"fastrdm cpp": 2e-3, "fastrdm portable": 1.8e-3, "rsatoolbox": 0.25},
}  # fmt: skip


def test_dots_are_ratios_on_a_logarithmic_axis():
    axes = plot.benchmarks(TIMES, "fastrdm cpp")
    assert axes.get_xscale() == "log"
    drawn = {}
    for each in axes.collections:
        drawn[each.get_label()] = np.asarray(each.get_offsets()).tolist()
    expected = {
        "fastrdm": [[3.9, 0], [0.9, 1]],
        "numpy": [[3.9, 0]],
        "scipy": [[51.0, 0]],
        "rsatoolbox": [[125.0, 1]],
    }
    assert drawn.keys() == expected.keys()
    for name, points in expected.items():
        np.testing.assert_allclose(drawn[name], points)
    assert [text.get_text() for text in axes.texts] == ["51 ×", "125 ×"]


def test_twenty_tasks_fit_on_a_page():
    times = {
        f"task {i}, with a long description of its data": TIMES["noise ceiling"] for i in range(20)
    }
    _, height = plot.benchmarks(times, "fastrdm cpp").figure.get_size_inches()
    assert height < 8


def test_each_task_may_have_its_own_reference():
    ours = dict(zip(TIMES, ("fastrdm cpp", "fastrdm portable"), strict=True))
    axes = plot.benchmarks(TIMES, ours, families={"rsatoolbox": "$peer$"})
    assert axes.get_xlabel().startswith("time relative to fastrdm (")
    assert r"\$peer\$" in [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("times", "ours", "words"),
    [
        ({}, "a", "no task"),
        (TIMES, "scipy pdist", "the task 'noise ceiling' has no time of 'scipy pdist'"),
        (TIMES, {}, "has no time of ''"),
        ({"t": {"a": 1.0, "b": 0.0}}, "a", "the task 't' has the time 0.0 of 'b', not above 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(times, ours, words):
    with pytest.raises(ValueError, match=words):
        plot.benchmarks(times, ours)


def test_reference_image(check_image):
    check_image(plot.benchmarks(TIMES, "fastrdm cpp"), "benchmarks")


def test_ticks_within_narrow_limits_are_ratios():
    axes = plot.benchmarks({"task": {"fastrdm": 1, "scipy": 3}}, "fastrdm")
    axes.figure.draw_without_rendering()
    labels = {text.get_text() for text in axes.get_xticklabels(minor=True)}
    assert {"2 ×", "3 ×"} <= labels
    assert not any("10^" in label for label in labels)
