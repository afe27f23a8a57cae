"""Comparisons of models as a matrix."""

import dataclasses

import numpy as np
import pytest

from fastrdm import compare_models, plot, subject_test


def rho(n=4, seed=0):
    """Similarities of models (n, subjects) that rise with the model."""
    return np.random.default_rng(seed).normal(0.1 * np.arange(n)[:, None], 0.08, (n, 12))


def test_small_differences_have_digits():
    rho = np.random.default_rng(0).normal([[0.010], [0.014], [0.030]], 0.001, (3, 12))
    axes = plot.compare(compare_models(rho, names=["a", "b", "c"]))
    numbers = [text.get_text().split("\n")[0] for text in axes.texts]
    assert {"+0.000", "−0.000", "+0.00", "−0.00"}.isdisjoint(numbers)


def test_cells_are_differences_with_the_stars_of_corrected_p_values():
    values = rho()
    result = compare_models(values, names=["a", "b - c", "d", "e"])
    axes = plot.compare(result)
    means = values.mean(axis=1)
    drawn = np.asarray(np.ma.filled(axes.images[0].get_array(), np.nan))
    expected = means[:, None] - means
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_allclose(drawn, expected, atol=1e-12)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b - c", "d", "e"]
    stars = {
        tuple(map(round, reversed(t.get_position()))): t.get_text().count("*") for t in axes.texts
    }
    for p, (i, j) in zip(result.p_corrected, zip(*np.triu_indices(4, 1), strict=True), strict=True):
        assert stars[i, j] == stars[j, i] == sum(p < level for level in (0.05, 0.01, 0.001))
    assert "false discovery rate" in axes.get_xlabel()
    assert "** p < 0.01" in axes.get_xlabel()


def test_the_level_of_the_stars():
    result = compare_models(rho())
    result = dataclasses.replace(result, p_corrected=np.full(6, 0.015))
    assert plot.compare(result, alpha=0.1).texts[0].get_text().count("*") == 2
    assert plot.compare(result).texts[0].get_text().count("*") == 1


def test_many_models_have_stars_without_numbers():
    axes = plot.compare(compare_models(rho(20)))
    assert {text.get_text().strip("*") for text in axes.texts} == {""}


def test_names_of_models_replace_those_of_the_result():
    axes = plot.compare(compare_models(rho(3)), names=["$x$", "<b>", "\x1b"])
    labels = [t.get_text() for t in axes.get_xticklabels()]
    assert labels == [r"\$x\$", "<b>", r"\x1b"]


@pytest.mark.parametrize(
    ("result", "options", "words"),
    [
        (subject_test(rho()), {}, "has 4 tests against zero; a matrix needs"),
        (compare_models(rho()), {"names": ["a"]}, "compares 4 models, but there are 1 names"),
        (compare_models(rho()), {"alpha": 1}, "alpha must be between 0 and 1"),
        (
            compare_models(rho(2), names=["a - b", "c - d"]),
            {},
            "from which those of the 2 models do not follow; pass names",
        ),
        (
            compare_models(np.random.default_rng(0).random((81, 3))),
            {},
            "of 81 models is illegible; at most 80",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(result, options, words):
    with pytest.raises(ValueError, match=words):
        plot.compare(result, **options)


def test_reference_image(check_image):
    check_image(plot.compare(compare_models(rho(6))), "compare")


def test_small_differences_have_enough_digits():
    axes = plot.compare(compare_models(rho() / 1000, names=["a", "b", "c", "d"]))
    assert all(t.get_text().split("\n")[0].strip("+−0.") for t in axes.texts)
