"""Results of time points: from studies through sweeps and stores to tables, and on the command line."""

import contextlib
import csv
import json
import sqlite3
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import small_sweep

from fastrdm import Store, Target, cluster_test, score_checkpoints, square, sweep
from fastrdm.cli import main
from fastrdm.scoring import Result, TimePivot, score_features
from fastrdm.studies import open_studies

TIMES = [-100.0, 0.0, 100.0, 200.0]
WEIGHTS = [f"runs/epoch{i:02d}.safetensors" for i in range(2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two checkpoints, and a study with a region of four time points beside one without a time axis."""
    folder = small_sweep.make(tmp_path_factory.mktemp("times"), n=2)
    rng = np.random.default_rng(0)
    rdms = rng.random((6, 4, 15)) + 2 * rng.random((1, 4, 15))
    np.savez(folder / "study" / "meg.npz", MEG=square(rdms), times=TIMES)
    with (folder / "study" / "study.toml").open("a") as file:
        file.write('[targets.meg]\nfile = "meg.npz"\nkey = "MEG"\n')
    return folder


@pytest.fixture
def home(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def run(study="study", over_time="each", **options):
    scored = score_checkpoints(WEIGHTS, ["net.onnx"], study, over_time=over_time, **options)
    return [list(each.results) for each in scored]


def swept(path, **options):
    sweep(WEIGHTS, "net.onnx", "study", store=path, engine="in-process", **options)
    return path


@pytest.fixture(scope="module")
def filled(made, tmp_path_factory):
    with contextlib.chdir(made):
        return swept(tmp_path_factory.mktemp("store") / "s.db", over_time="each")


def test_results_of_a_time_point_are_those_of_a_region_of_this_time(home):
    (study,) = open_studies("study")
    rdms = study.targets["meg"].subject_rdms
    alone = {f"meg{i}": Target(rdms[:, i]) for i in range(4)}
    targets = {"it": study.targets["it"], **alone}
    parts = replace(study, targets=targets, measures=dict.fromkeys(targets, ("rsa",)))
    names = [field.name for field in fields(Result) if field.name not in ("region", "time")]
    for found, expected in zip(run(), run(parts, None), strict=True):
        assert [(r.region, r.time) for r in found] == [("it", None), *(("meg", t) for t in TIMES)]
        for own, other in zip(found, expected, strict=True):
            assert [getattr(own, n) for n in names] == [getattr(other, n) for n in names]


def test_cka_of_rdms_has_the_time_axis(home):
    (study,) = open_studies("study")
    rdms = study.targets["meg"].subject_rdms
    targets = {f"meg{i}": Target(rdms[:, i]) for i in range(4)}
    parts = replace(study, targets=targets, measures=dict.fromkeys(targets, ("cka",)))
    options = {"measures": ["cka"], "n_draws": 0}
    for found, expected in zip(
        run(regions=["meg"], **options), run(parts, None, **options), strict=True
    ):
        assert [r.time for r in found] == TIMES
        for own, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(
                [own.value, own.ceiling, own.percent_nc, *own.rho],
                [other.value, other.ceiling, other.percent_nc, *other.rho],
                rtol=1e-12,
            )


def test_a_study_or_the_call_says_what_is_done_over_time(home, tmp_path):
    (each,) = {tuple(r.time for r in results) for results in run(n_draws=0)}
    assert each == (None, *TIMES)
    text = Path("study/study.toml").read_text()
    own = tmp_path / "study"
    own.mkdir()
    for path in Path("study").iterdir():
        (own / path.name).symlink_to(path.resolve())
    (own / "study.toml").unlink()
    (own / "study.toml").write_text(text + 'over_time = "each"\n')
    for over_time, times in ((None, (None, *TIMES)), ("mean", (None, None))):
        (scored,) = score_checkpoints(WEIGHTS[:1], ["net.onnx"], own, over_time=over_time)
        assert tuple(r.time for r in scored.results) == times


def test_a_store_keeps_the_results(home, filled):
    expected = [result for results in run(seed=0) for result in results]
    with Store(filled) as store:
        frame = store.frame()
        flips = list(store.table().rows())
        columns = list(store.table().columns)
        assert store.check().problems == ()
    assert columns.index("time") == columns.index("region") + 1
    for name in ("r2", "percent_nc", "ceiling", "p", "std", "value"):
        np.testing.assert_array_equal(frame[name], [getattr(r, name) for r in expected])
    np.testing.assert_array_equal(
        frame["time"], [np.nan if r.time is None else r.time for r in expected]
    )
    at = columns.index("p_corrected")
    assert [row[at] for row in flips] == [r.p_corrected for r in expected]
    summary = sweep(
        WEIGHTS, "net.onnx", "study", store=filled, over_time="each", engine="in-process"
    )
    assert summary.scored == 0


def test_results_over_all_times_and_of_each_stand_side_by_side(home, tmp_path):
    before = swept(tmp_path / "mean.db")
    both = swept(tmp_path / "both.db", over_time="each")
    with Store(before) as store:
        assert "time" not in store.table().columns
        mean = store.frame()
    with Store(both, write=True) as store:
        store.merge(before)
        frame = store.frame()
    averaged = frame[frame.time.isna()].reset_index(drop=True)
    pandas.testing.assert_frame_equal(averaged.drop(columns="time"), mean)
    assert set(frame[frame.time.notna()].protocol) == {"algonauts2019 over_time each"}
    assert len(frame) == 2 * (2 + 4)


def test_time_points_are_added_to_a_store_that_has_their_average(home, tmp_path):
    path = swept(tmp_path / "s.db")
    with Store(path) as store:
        mean = store.frame()
    swept(path, over_time="each")
    with Store(path) as store:
        frame = store.frame()
        assert store.check().problems == ()
    assert sorted(frame.time.dropna()) == sorted(2 * TIMES)
    averaged = frame[frame.time.isna()].reset_index(drop=True)
    pandas.testing.assert_frame_equal(averaged.drop(columns="time"), mean)


def test_merged_stores_keep_times(home, filled, tmp_path):
    with Store(tmp_path / "other.db", write=True) as store:
        store.merge(filled)
        merged = store.frame()
        assert store.check().problems == ()
    with Store(filled) as store:
        pandas.testing.assert_frame_equal(merged, store.frame())


def test_each_time_point_has_its_best_layer(home, filled):
    with Store(filled) as store:
        table = store.table(best=True, where="time >= 100")
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows()]
    assert [row["time"] for row in rows] == [100, 200] * 2
    assert all(row["score"] == pytest.approx(row["percent_nc"]) for row in rows)


def test_a_pivot_has_a_column_for_each_time(home, filled):
    with Store(filled) as store:
        frame = store.frame()
        pivot = TimePivot(store.table(), "mean_rho")
        rows = [dict(zip(pivot.columns, row, strict=True)) for row in pivot.rows()]
        best = TimePivot(store.table(best=True), "layer")
        layers = [dict(zip(best.columns, row, strict=True)) for row in best.rows()]
    assert list(pivot.columns)[:9] == [
        *("checkpoint", "arch", "study", "layer", "region"),
        *("-100", "0", "100", "200"),
    ]
    of_times = frame[frame.region == "meg"]
    for row, weights in zip(rows, WEIGHTS, strict=True):
        expected = of_times[of_times.checkpoint == weights].mean_rho
        np.testing.assert_array_equal([row[name] for name in ("-100", "0", "100", "200")], expected)
    assert layers[0]["100"] == "conv" and "layer" not in best.columns


def test_errors_of_a_pivot(home, filled, tmp_path):
    with Store(filled) as store:
        with pytest.raises(ValueError, match="no time point has a 'layer'"):
            TimePivot(store.table(), "layer")
        with pytest.raises(ValueError, match="no room for subjects"):
            TimePivot(store.table(subjects=True))
    with (
        Store(swept(tmp_path / "mean.db")) as store,
        pytest.raises(ValueError, match="no time point has results of its own"),
    ):
        TimePivot(store.table())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE results SET time = 5 WHERE time = 100",
        "UPDATE results SET time = NULL WHERE time = 100",
        "UPDATE targets SET protocol = replace(protocol, '100.0', '101.0')",
    ],
)
def test_a_changed_time_is_found(home, filled, tmp_path, change):
    with Store(filled) as store:
        store.copy(tmp_path / "s.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as database, database:
        database.execute(change)
    with Store(tmp_path / "s.db") as store:
        assert store.check().problems


def test_a_time_without_a_ceiling_has_no_percentage(home):
    (study,) = open_studies("study")
    rdms = study.targets["meg"].subject_rdms.copy()
    rdms[:3, 0], rdms[3:, 0] = np.arange(15), np.arange(15)[::-1]
    target = Target(rdms, "rsatoolbox", over_time="each", times=TIMES)
    study = replace(study, targets={"meg": target}, measures={"meg": ("rsa",)})
    with pytest.warns(
        RuntimeWarning, match="'meg' of the study 'study' has no noise .* times -100"
    ):
        results = run(study)[0]
    assert np.isnan([r.percent_nc for r in results]).tolist() == [True, False, False, False]
    assert np.isfinite([r.value for r in results]).all()


def test_without_several_time_points_there_is_a_warning(home):
    with pytest.warns(RuntimeWarning, match="no region has several time points"):
        (results, _) = run(regions=["it"], n_draws=0)
    assert [r.time for r in results] == [None]


def test_errors(home, tmp_path):
    with pytest.raises(ValueError, match="over_time"):
        next(score_checkpoints(WEIGHTS, ["net.onnx"], "study", over_time="all"))
    (study,) = open_studies("study")
    study = replace(study, test_stimuli=study.stimuli)
    with pytest.raises(ValueError, match="a submission has the best layer of scores averaged"):
        run(study, submit=tmp_path)


def test_score_prints_a_table_of_layers_and_times(home, capsys, tmp_path):
    arguments = ["score", WEIGHTS[0], "--arch", "net.onnx", "--data", "study", "--quiet"]
    path = str(tmp_path / "a.csv")
    assert main([*arguments, "--over-time", "each", "--csv", path]) == 0
    text = capsys.readouterr().out
    results = [r for r in run()[0] if r.region == "meg"]
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split() == ["-100", "0", "100", "200"])
    cells = [cell.rstrip("†‡") for cell in lines[head + 1].split()]
    assert cells == ["conv", *(f"{r.percent_nc:.2f}" for r in results)]
    assert "best layer by time: conv (-100 to 200)" in text
    rows = cluster_test([[r.rho for r in results]], times=TIMES).rows()
    significant = [row for row in rows if row["p"] < 0.05]
    assert ("corrected over layers: conv" in text) == bool(significant)
    with Path(path).open(newline="") as file:
        times = [row["time"] for row in csv.DictReader(file)]
    assert times == ["", *map(str, TIMES)]
    assert main([*arguments, "--over-time", "each", "--json", "--bootstrap", "0"]) == 0
    printed = json.loads(capsys.readouterr().out)["results"]
    assert [row["time"] for row in printed] == [None, *TIMES]
    assert main([*arguments, "--over-time", "each", "--bootstrap", "0"]) == 0
    assert "clusters" not in capsys.readouterr().out


def test_table_prints_times(home, filled, capsys, tmp_path):
    assert main(["table", str(filled), "--by-time"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = ["checkpoint", "arch", "study", "region", "layer", "-100", "0", "100", "200"]
    assert lines[0].split() == head and len(lines) == 3
    assert main(["table", str(filled), "--by-time", "layer", "--best"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-4:] == ["conv"] * 4
    path = tmp_path / "t.parquet"
    assert main(["table", str(filled), "--by-time", "r2", "--output", str(path)]) == 0
    assert pandas.read_parquet(path)["100"].notna().all()
    assert main(["table", str(filled), "--where", "time = 100"]) == 0
    assert "2 checkpoints" in capsys.readouterr().err
    assert main(["table", str(filled), "--by-time", "--failures"]) == 1
    assert main(["table", str(filled), "--by-time", "--check"]) == 1


def test_features_have_results_of_each_time(home, capsys, tmp_path):
    layers = {"a": np.random.default_rng(1).random((6, 20))}
    found = score_features(layers, "study", rows="order", over_time="each", n_draws=0).results
    assert [(r.region, r.time) for r in found] == [("it", None), *(("meg", t) for t in TIMES)]
    np.savez(tmp_path / "f.npz", **layers)
    arguments = ["--data", "study", "--rows", "order", "--over-time", "each", "--quiet"]
    assert main(["score", str(tmp_path / "f.npz"), *arguments]) == 0
    assert "best layer by time: a (-100 to 200)" in capsys.readouterr().out


def test_figures_have_curves(home, tmp_path):
    from fastrdm.plot import plot_scores

    results = [result for results in run(n_draws=0) for result in results]
    assert plot_scores(results, tmp_path / "a.svg").stat().st_size > 1000
