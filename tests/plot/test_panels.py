"""Figures of several panels, as files."""

import pytest
from made_scores import result, run

from fastrdm import plot


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_scores_are_written_in_the_format_of_the_ending(tmp_path, ending):
    given = run((1, 5), regions=("evc", "it"))
    path = plot.plot_scores(given, tmp_path / "new" / f"a.{ending}", "a title")
    assert path.stat().st_size > 5000
    if ending == "svg":
        text = path.read_text()
        assert all(each in text for each in ("92, EVC", "92, IT", "a title", "noise ceiling"))


def test_a_panel_is_a_measure_a_study_and_a_region():
    given = [
        result(region=r, study=s, measure=m) for m in ("rsa", "cka") for s in "ab" for r in "xy"
    ]
    assert list(plot.panels_of(given))[:2] == ["a, X, rsa", "a, Y, rsa"]
    assert list(plot.panels_of(given[:4])) == ["a, X", "a, Y", "b, X", "b, Y"]
    figure = plot.draw_panels(plot.layers, plot.panels_of(given[:3]), title="t")
    assert [axes.get_title("left") for axes in figure.axes] == ["a, X", "a, Y", "b, X"]


def test_regions_of_time_points_are_curves(tmp_path):
    given = [*run((1,)), *(result(region="meg", time=t, seed=int(t)) for t in (1.0, 2.0, 3.0))]
    assert "time" in plot.plot_scores(given, tmp_path / "a.svg").read_text()


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"scores\.doc must end in one of: .*\.png"):
        plot.plot_scores(run(), tmp_path / "scores.doc")
    with pytest.raises(ValueError, match="no results to draw"):
        plot.plot_scores([], tmp_path / "scores.png")
    groups = {str(i): run((1,)) for i in range(41)}
    with pytest.raises(ValueError, match="the results have 41 panels"):
        plot.draw_panels(plot.layers, groups)
    assert not list(tmp_path.iterdir())
