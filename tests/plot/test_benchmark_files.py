"""Figures of pytest-benchmark's JSON."""

import json

import pytest

from fastrdm import plot
from fastrdm.plot.benchmark_files import read_benchmarks


def entry(name, median, group="RDM", **info):
    return {"name": name, "group": group, "stats": {"median": median}, "extra_info": info}


def write(path, *entries, **more):
    path.write_text(json.dumps({"benchmarks": entries, **more}))
    return path


def test_contenders_are_read_by_task(tmp_path):
    path = write(
        tmp_path / "run.json",
        entry("test_a", 0.2, contender="fastrdm cpp", per_round=2),
        entry("test_b", 0.3, contender="fastrdm numba"),
        entry("scipy", 2.0),
        entry("x", 1.0, group=None),
        machine_info={"bench": {"kernels": "numba"}},
    )
    times = read_benchmarks(path)
    assert times.medians == {
        "RDM": {"fastrdm cpp": 0.1, "fastrdm numba": 0.3, "scipy": 2.0},
        "benchmarks": {"x": 1.0},
    }
    assert times.ours == {"RDM": "fastrdm numba", "benchmarks": "x"}
    (axes,) = plot.figure_of_benchmarks(path).axes
    assert axes.get_xscale() == "log"


def test_stages_have_a_panel_for_each_task(tmp_path):
    path = write(
        tmp_path / "run.json",
        entry("a", 3.0, stages={"forward": 2.0, "RDM": 1.0}),
        entry("b", 1.0, group="other", stages={"forward": 1.0}),
        entry("c", 1.0, group="third"),
    )
    figure = plot.figure_of_stages(path)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["RDM", "other"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "JSON"),
        ("[]", "is not a file of pytest --benchmark-json"),
        ('{"benchmarks": [{"name": "a"}]}', r"is not a file of pytest --benchmark-json \(KeyError"),
        ('{"benchmarks": []}', "has no benchmarks"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        plot.figure_of_benchmarks(tmp_path / "run.json")


def test_a_file_without_stages_is_refused(tmp_path):
    path = write(tmp_path / "run.json", entry("a", 3.0))
    with pytest.raises(ValueError, match="has no times of stages"):
        plot.figure_of_stages(path)
