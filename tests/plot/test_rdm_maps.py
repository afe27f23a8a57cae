"""RDMs as heat maps."""

from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.stats

from fastrdm import condense, plot, square
from fastrdm.plot.rdm_maps import percentiles_of

HARMLESS = "<img src=x onerror=alert(1)>$x_1$ [bold]_\x1b[31m\udce9"


def blocks(n=12):
    """An RDM of three groups of similar conditions."""
    rng = np.random.default_rng(0)
    groups = np.arange(n) // (n // 3)
    rdm = (groups[:, None] != groups) + rng.random((n, n)) / 2
    rdm = rdm + rdm.T
    np.fill_diagonal(rdm, 0)
    return rdm


def shown(axes):
    """The matrix that the first image of Axes holds."""
    return axes.images[0].get_array()


def test_colours_are_percentiles_of_the_pairs():
    rdm = blocks()
    drawn = condense(np.asarray(shown(plot.rdm(rdm))))
    ranks = scipy.stats.rankdata(condense(rdm))
    np.testing.assert_allclose(drawn, 100 * (ranks - 1) / (len(ranks) - 1), rtol=1e-12)


def test_ties_have_their_mean_and_nan_stays():
    values = np.array([3.0, np.nan, 1.0, 1.0, 2.0])
    np.testing.assert_allclose(percentiles_of(values), [100, np.nan, 100 / 6, 100 / 6, 200 / 3])
    assert percentiles_of(np.ones(3)).tolist() == [50, 50, 50]


def test_a_condensed_rdm_is_drawn_as_the_square_one():
    rdm = blocks()
    first, second = (shown(plot.rdm(each, ranked=False)) for each in (rdm, condense(rdm)))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, rdm)


def test_missing_values_are_grey_and_mentioned():
    rdm = condense(blocks())
    rdm[3] = np.nan
    axes = plot.rdm(rdm)
    assert np.ma.count_masked(np.ma.masked_invalid(shown(axes))) == 2
    assert "grey: no value" in axes.figure.axes[-1].get_ylabel()


def test_it_draws_into_given_axes():
    from matplotlib import pyplot

    _, (first, second) = pyplot.subplots(1, 2)
    assert plot.rdm(blocks(), ax=second, colour_bar=False) is second
    assert not first.images


def test_names_are_harmless_text():
    labels = [HARMLESS] * 12
    axes = plot.rdm(blocks(), labels=labels, title=HARMLESS)
    axes.figure.canvas.draw()
    text = axes.get_title()
    assert r"\$x_1\$" in text and r"\x1b" in text and r"\xe9" in text
    assert len(axes.get_yticklabels()[0].get_text()) < 40


@pytest.mark.parametrize("fonts", ["none", "path"])
def test_names_are_harmless_in_svg(tmp_path, fonts):
    from matplotlib import rc_context

    axes = plot.rdm(blocks(), labels=[f"{HARMLESS}--><script>"] * 12)
    with rc_context({"svg.fonttype": fonts}):
        axes.figure.savefig(tmp_path / "rdm.svg")
    document = ElementTree.parse(tmp_path / "rdm.svg")
    assert not {each.tag.rpartition("}")[2] for each in document.iter()} & {"img", "script"}


def test_categories_that_are_not_neighbours_have_a_legend():
    axes = plot.rdm(blocks(), categories=["face", "_place"] * 6)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [text.strip("\u200b") for text in texts] == ["face", "_place"]
    assert plot.rdm(blocks(), categories=["face"] * 6 + ["place"] * 6).get_legend() is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rdm": np.zeros((2, 3, 3))}, r"rdm has shape \(2, 3, 3\); one RDM is"),
        ({"rdm": [1.0, np.inf, 2.0]}, r"rdm with shape \(3,\) has infinite values"),
        ({"rdm": np.full(3, np.nan)}, r"has no value; all are NaN"),
        ({"rdm": [1.0, 2.0]}, "rdm: 2 pairs are not a condensed RDM"),
        ({"labels": ["a"]}, "rdm has 12 conditions, but labels has 1"),
        ({"categories": ["a"]}, "rdm has 12 conditions, but categories has 1"),
        ({"images": []}, "rdm has 12 conditions, but images has 0"),
        ({"categories": "a" * 12, "images": "a" * 12}, "share the axes"),
        ({"images": [np.zeros((2, 2))] * 12}, r"must be uint8 of shape \(h, w, 3\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        plot.rdm(**{"rdm": blocks(), **options})


def test_too_many_names_are_refused():
    rdm = square(np.random.default_rng(0).random(61 * 30))
    with pytest.raises(ValueError, match="labels of 61 conditions are illegible; at most 60"):
        plot.rdm(rdm, labels=range(61))
    with pytest.raises(ValueError, match="categories has 61 names; at most 60"):
        plot.rdm(rdm, categories=range(61))
    rdm = np.random.default_rng(0).random(301 * 150)
    with pytest.raises(ValueError, match="images has 301 stimuli, .* at most 300"):
        plot.rdm(rdm, images=[np.zeros((2, 2, 3), np.uint8)] * 301)


def test_reference_image_with_categories(check_image):
    categories = ["face"] * 4 + ["place"] * 4 + ["object"] * 4
    check_image(plot.rdm(blocks(), categories=categories), "rdm_categories")


def test_reference_image_with_thumbnails(check_image):
    colours = np.random.default_rng(0).integers(0, 256, (60, 3), np.uint8)
    images = [np.full((40, 30, 3), colour, np.uint8) for colour in colours]
    check_image(plot.rdm(blocks(60), images=images), "rdm_thumbnails")
