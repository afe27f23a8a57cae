"""Scores by one measure against those by another."""

import math

import numpy as np
import pytest
import scipy.stats

from fastrdm import plot
from fastrdm.scoring import Result


def results(n=10):
    rng = np.random.default_rng(0)
    out = []
    for region in ("evc", "it"):
        for i in range(n):
            value = 40 * rng.random()
            for measure in ("rsa", "cka"):
                percent = value + 8 * rng.random()
                out.append(
                    Result("net.pth", "92", f"layer{i}", region, 0.1, 0, 0, percent, 0.5, 0.1, 0.5, measure=measure)
                )  # fmt: skip
    return out


def test_points_are_the_scores_of_the_same_layer():
    given = results()
    axes = plot.measures(reversed(given), "rsa", "cka")
    drawn = [np.asarray(each.get_offsets()) for each in axes.collections]
    for region, points in zip(("it", "evc"), drawn, strict=True):
        x, y = (
            [r.percent_nc for r in given if (r.region, r.measure) == (region, measure)]
            for measure in ("rsa", "cka")
        )
        np.testing.assert_array_equal(points, np.array([x, y]).T[::-1])
        rho = scipy.stats.spearmanr(x, y).statistic
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert f"{region.upper()} (ρ = {rho:.2f}, n = 10)" in labels
    assert axes.get_xlabel() == "rsa (% of noise ceiling)"


def test_the_first_two_measures_are_the_default_and_nan_is_left_out():
    given = results()
    given[0] = Result("net.pth", "92", "layer0", "evc", 0.1, 0, 0, math.nan, 0.5, 0.1, 0.5)
    axes = plot.measures(given)
    assert [len(each.get_offsets()) for each in axes.collections] == [9, 10]
    assert axes.get_ylabel() == "cka (% of noise ceiling)"


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ([], {}, "the results are by no measure; a figure of measures needs two"),
        (results()[::2], {}, "the results are by rsa; a figure of measures needs two"),
        (results(), {"y": "pls"}, "no result is by pls, only by rsa, cka"),
        ([results()[0], results()[-1]], {}, "no layer and region has a score by both rsa and cka"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, options, words):
    with pytest.raises(ValueError, match=words):
        plot.measures(given, **options)


def test_reference_image(check_image):
    check_image(plot.measures(results()), "measures")
