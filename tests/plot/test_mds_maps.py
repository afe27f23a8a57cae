"""RDMs as points."""

import numpy as np
import pytest
import scipy.optimize
from scipy.spatial.distance import pdist, squareform

from fastrdm import calc_rdm, compare, plot
from fastrdm.plot.scaling import scale


def test_points_of_a_plane_are_found():
    points = np.random.default_rng(0).normal(size=(20, 2))
    found, stress = scale(squareform(pdist(points)))
    np.testing.assert_allclose(pdist(found), pdist(points), atol=1e-4)
    assert stress < 1e-4


def test_no_nearby_positions_have_less_stress():
    distances = pdist(np.random.default_rng(1).random((12, 30)))
    found, stress = scale(squareform(distances))

    def error(flat):
        return ((pdist(flat.reshape(12, 2)) - distances) ** 2).sum()

    best = scipy.optimize.minimize(error, found.ravel()).fun
    assert error(found.ravel()) <= 1.001 * best
    assert stress == pytest.approx(np.sqrt(error(found.ravel()) / (pdist(found) ** 2).sum()))


def test_positions_do_not_depend_on_the_order():
    distances = squareform(pdist(np.random.default_rng(2).random((10, 5))))
    order = np.random.default_rng(3).permutation(10)
    first, _ = scale(distances)
    second, _ = scale(distances[np.ix_(order, order)])
    np.testing.assert_allclose(second, first[order], atol=1e-4)
    assert (np.ptp(first, axis=0)[0]) >= np.ptp(first, axis=0)[1] * 0.5
    assert (first.max(axis=0) >= -first.min(axis=0)).all()


def test_equal_rdms_are_one_point():
    assert not scale(np.zeros((4, 4)))[0].any()


def rdms(n=8):
    rng = np.random.default_rng(0)
    return rng.random((n, 45)) + rng.random(45)


def test_distances_are_one_minus_similarity():
    axes = plot.mds(rdms(3))
    drawn = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(
        squareform(pdist(drawn)), 1 - compare(rdms(3), rdms(3)), atol=1e-3
    )  # three points fit in a plane
    assert "1 − spearman" in axes.get_xlabel()
    assert "stress 0.00" in axes.get_xlabel()


def test_groups_are_in_the_legend_and_keys_beside_the_points():
    stack = rdms()
    given = {f"layer{i}" if i < 7 else "$x$": each for i, each in enumerate(stack)}
    axes = plot.mds(given, groups=["net"] * 4 + ["_subjects"] * 4, connect=["net"])
    assert [t.get_text().strip("\u200b") for t in axes.get_legend().get_texts()] == [
        "net",
        "_subjects",
    ]
    assert [t.get_text() for t in axes.texts] == [*list(given)[:7], r"\$x\$"]
    assert len(axes.lines) == 1


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (rdms(2), {}, r"rdms has shape \(2, 45\); a map needs 3 to 2,000 RDMs"),
        (rdms(), {"names": ["a"]}, "there are 8 RDMs, but names has 1"),
        (rdms(), {"groups": ["a"]}, "there are 8 RDMs, but groups has 1"),
        (rdms(), {"connect": ["a"]}, "connect has 'a', which is not in groups"),
        (rdms(), {"method": "x"}, "x"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, options, words):
    with pytest.raises(ValueError, match=words):
        plot.mds(given, **options)


@pytest.mark.filterwarnings("ignore:.*constant:RuntimeWarning")
def test_an_rdm_without_similarity_is_named():
    given = dict(zip("abcd", rdms(4), strict=True))
    given["c"] = np.ones(45)
    with pytest.raises(ValueError, match=r"RDM 2 \(c\) has no similarity to another RDM"):
        plot.mds(given)


def test_labelled_rdms_are_compared_in_one_order_of_conditions():
    pd = pytest.importorskip("pandas")
    rows = pd.DataFrame(np.random.default_rng(0).random((8, 5)), index=list("abcdefgh"))
    rdms = [calc_rdm(rows), calc_rdm(rows**3), calc_rdm(rows[::-1])]
    with pytest.warns(RuntimeWarning, match=r"rdms\[2\] has its conditions in another order"):
        axes = plot.mds(rdms)
    points = np.concatenate([each.get_offsets() for each in axes.collections])
    np.testing.assert_allclose(points[2], points[0], atol=1e-6)


def test_reference_image(check_image):
    axes = plot.mds(rdms(9), groups=["a"] * 4 + ["b"] * 5, connect=["a"])
    check_image(axes, "mds")
