"""Pictures of reports, drawn again from their tables."""

from pathlib import Path

import pytest

from bench import redraw
from bench.pictures import SPEED, draw_ratios, draw_speed, draw_stages
from bench.tables import fact, read_report

REPORT = redraw.BENCH / "RESULTS.md"


def height(path):
    from matplotlib import image

    return image.imread(path).shape[0]


def test_tables_are_read_back():
    task = next(each for each in read_report(REPORT) if "rsatoolbox" in each.rows)
    assert task.ours in task.rows
    text = REPORT.read_text()
    ratio = task.times_slower("rsatoolbox", task.ours)
    assert f"| {ratio:.2f} |" in text
    assert fact(REPORT, "Threads").startswith("2")


def test_pictures_fit_on_a_page(tmp_path):
    tasks = read_report(REPORT)
    draw_ratios([task for task in tasks if not task.has_stages], tmp_path / "ratios.png")
    (path,) = (task for task in tasks if task.rows.keys() >= SPEED.keys())
    draw_stages(path, tmp_path / "stages.png")
    draw_speed(path, "a machine", tmp_path / "speed.svg")
    assert height(tmp_path / "ratios.png") < 1500
    assert height(tmp_path / "stages.png") < 1500
    text = (tmp_path / "speed.svg").read_text()
    assert "a machine" in text and "torch + rsatoolbox" in text


def test_a_report_without_tables_is_refused(tmp_path):
    path = Path(tmp_path, "report.md")
    path.write_text("# Results\n")
    with pytest.raises(ValueError, match="has no table of contenders"):
        read_report(path)
