"""`fastrdm table`: filters, best layers, order, sign flips, formats, failures."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import store_writer
from store_writer import Writer, rows, scored, target

from fastrdm import Target
from fastrdm.cli import main
from fastrdm.inference import max_statistic
from fastrdm.scoring import Result, Store, best_layers, layer_scores
from fastrdm.scoring.jobs import Failed, Job, Stamp
from fastrdm.scoring.records import StoreError

LAYERS = ("layer1.0", "layer1.1", "layer2.0", "fc")
REGIONS = ("evc", "it")


def make(i, path, labels):
    rng = np.random.default_rng(i)
    models = rng.random((len(LAYERS), 21))
    made = scored(i, path=path, labels=labels)
    scores = {("92", region, "rsa"): target(k).score(models) for k, region in enumerate(REGIONS)}
    other = Target(rng.random((6, 21)) + rng.random(21), ceiling=0.5)
    return replace(
        made, layers=LAYERS, scores=scores | {("118", "it", "rsa"): other.score(models)}, rdms={}
    )


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = Writer(tmp_path / "s.db")
    record = replace_study(writer, "118", "it", 6)
    writer.targets["118", "it", "rsa"] = record
    for i in (1, 2, 10):
        labels = {"epoch": str(i), "run": "ab"[i % 2]}
        writer.record(make(i, f"epoch{i}.pth", labels if i != 10 else {"epoch": "10"}))
    failed = Failed(Job("bad.pth", 0), Stamp(1, 1), "it is\nbad", "Traceback\n  line 2")
    for _ in range(2):
        writer.store.fail(failed, writer.pipeline, writer.run)
    writer.store.close()
    return tmp_path / "s.db"


def replace_study(writer, study, region, n):
    from store_writer import subjects

    return writer.store.add_target(replace(subjects(region, n), study=study, ceiling=0.5))


def table(*arguments):
    """Rows of the CSV as dicts."""
    assert main(["table", "s.db", "--output", "t.csv", *arguments]) == 0
    with Path("t.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def error(capsys, *arguments):
    capsys.readouterr()
    assert main(["table", "s.db", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


def seen(found, *names):
    return [tuple(row[name] for name in names) for row in found]


def test_filters(store):
    everything = table()
    assert len(everything) == 3 * 3 * 4
    found = table("--regions", "IT", "--sets", "92", "--layers", "layer1.*,fc")
    assert seen(found, "checkpoint", "region", "study", "layer") == [
        (f"epoch{i}.pth", "it", "92", layer) for i in (1, 2, 10) for layer in ("layer1.0", "layer1.1", "fc")
    ]  # fmt: skip
    assert {row["layer"] for row in table("--layers", "layer?.0")} == {"layer1.0", "layer2.0"}


CONDITIONS = {
    "epoch=2": lambda row: row["epoch"] == 2,
    "epoch == 02.0": lambda row: row["epoch"] == 2,
    "epoch != 2": lambda row: row["epoch"] != 2,
    "epoch>=2": lambda row: row["epoch"] >= 2,
    "epoch < 10": lambda row: row["epoch"] < 10,
    "percent_nc > 20": lambda row: row["percent_nc"] > 20,
    "mean_rho<=0": lambda row: row["mean_rho"] <= 0,
    "run = a": lambda row: row["run"] == "a",
    "run=": lambda row: row["run"] == "",
    "run != ''": lambda row: row["run"] != "",
    "layer ~ ^layer[12]": lambda row: row["layer"].startswith("layer"),
    "checkpoint~10": lambda row: "10" in row["checkpoint"],
    'region = "evc"': lambda row: row["region"] == "evc",
}


@pytest.mark.parametrize("text", CONDITIONS)
def test_conditions(text, store):
    with Store(store) as opened:
        columns = list(opened.columns())
        everything = [dict(zip(columns, row, strict=True)) for row in opened.rows()]
    expected = [row for row in everything if CONDITIONS[text](row)]
    names = ("checkpoint", "study", "region", "layer")
    assert 0 < len(expected) < len(everything)
    assert seen(table("--where", text), *names) == seen(expected, *names)


def test_a_single_name_needs_no_list(store):
    with Store(store) as opened:
        found = opened.table(
            regions="it", sets="92", layers="fc", where="epoch = 2", sign_flips=False
        )
        assert [row[0] for row in found.rows()] == ["epoch2.pth"]
        assert len(opened.frame(where="epoch = 2", best=True)) == 3


def test_all_conditions_must_be_met(store):
    found = table("--where", "epoch>1", "--where", "region=it", "--where", "layer=fc")
    assert seen(found, "epoch", "study") == [("2", "118"), ("2", "92"), ("10", "118"), ("10", "92")]
    assert table("--where", "epoch > 100") == []


MISTAKES = {
    "epok=2": "there is no column 'epok'; the nearest are epoch",
    "epoch": "is not COLUMN OP VALUE",
    "epoch > ten": "epoch is a number, and 'ten' is not",
    "epoch>1 and epoch<3": "several conditions are given separately",
    "layer < fc": "layer is text; compare it with =, != or ~",
    "layer ~ (": "not a regular expression",
    "layer = 1'; DROP TABLE results; --": None,
}


@pytest.mark.parametrize("text", MISTAKES)
def test_conditions_that_cannot_be_meant_are_refused(text, store, capsys):
    if MISTAKES[text] is None:
        assert table("--where", text) == [] and len(rows(store)) == 36
        return
    message = error(capsys, "--where", text)
    assert MISTAKES[text] in message and repr(text) in message


def test_names_that_the_store_does_not_have_are_refused(store, capsys):
    assert "no region 'V4'; the nearest are" in error(capsys, "--regions", "V4")
    assert "no study '93'; the nearest are 92" in error(capsys, "--sets", "93,92")
    assert "no column 'epok' to sort by; the nearest are epoch" in error(capsys, "--sort", "epok")
    assert "--descending needs --sort" in error(capsys, "--descending")
    for arguments in ([], ["--output", "t.json"]):
        message = error(capsys, "--layers", "fc,layer3*", *arguments)
        assert "no layer matches 'layer3*'; layers are layer1.0, layer1.1, layer2.0, fc" in message
    assert not Path("t.json").exists()


def test_the_best_layer_of_each_checkpoint(store):
    with Store(store) as opened:
        columns = list(opened.columns())
        everything = [dict(zip(columns, row, strict=True)) for row in opened.rows()]
    fields = (
        "checkpoint",
        "study",
        "layer",
        "region",
        "r2",
        "std",
        "sample_std",
        "percent_nc",
        "p",
    )
    found = table("--best")
    assert len(found) == 3 * 3 and list(found[0])[:2] == ["checkpoint", "arch"]
    for i in (1, 2, 10):
        results = [
            Result(*(row[name] for name in fields), row["value"], row["ceiling"])
            for row in everything
            if row["checkpoint"] == f"epoch{i}.pth"
        ]
        (layer,), scores = best_layers(results).values(), layer_scores(results)["fmri"]
        of_i = [row for row in found if row["checkpoint"] == f"epoch{i}.pth"]
        assert seen(of_i, "study", "region") == [("118", "it"), ("92", "evc"), ("92", "it")]
        assert {row["layer"] for row in of_i} == {layer}
        assert {float(row["score"]) for row in of_i} == {scores[layer]}
    # Among what is chosen.
    of_it = table("--best", "--regions", "it", "--sets", "92")
    for row in of_it:
        rivals = [
            r["percent_nc"]
            for r in everything
            if (r["checkpoint"], r["region"], r["study"]) == (row["checkpoint"], "it", "92")
        ]
        assert float(row["percent_nc"]) == max(rivals) == pytest.approx(float(row["score"]))
    assert len(table("--best", "--where", f"layer = {of_it[0]['layer']}")) in (0, 3, 6, 9)


def test_best_layers_and_subjects_exclude_each_other(store, capsys):
    assert "exclude each other" in error(capsys, "--best", "--subjects")


def test_numbers_sort_as_numbers(store):
    found = table("--sort", "epoch")
    assert [row["epoch"] for row in found] == ["1"] * 12 + ["2"] * 12 + ["10"] * 12
    found = table("--sort", "percent_nc", "--descending")
    values = [float(row["percent_nc"]) for row in found]
    assert values == sorted(values, reverse=True)
    # Names in natural order, missing values last.
    assert [row["checkpoint"] for row in table("--sort", "checkpoint", "--descending")][::12] == [
        "epoch10.pth", "epoch2.pth", "epoch1.pth",
    ]  # fmt: skip
    for order in ([], ["--descending"]):
        assert [row["run"] for row in table("--sort", "run", *order)][-1] == ""
    assert [row["checkpoint"] for row in table()][::12] == [
        "epoch1.pth",
        "epoch2.pth",
        "epoch10.pth",
    ]


def test_sign_flips_are_corrected_over_all_layers_regions_and_studies(store, capsys):
    with Store(store) as opened:
        subjects = list(opened.rows(subjects=True))
        columns = list(opened.columns(subjects=True))
    values = {}
    for row in (dict(zip(columns, row, strict=True)) for row in subjects):
        key = (row["checkpoint"], row["study"], row["region"])
        values.setdefault(key, {}).setdefault(row["layer"], []).append(row["rho"])
    expected = {}
    for checkpoint in ("epoch1.pth", "epoch2.pth", "epoch10.pth"):
        keys = [key for key in values if key[0] == checkpoint]
        p = max_statistic([np.array(list(values[key].values())) for key in keys])
        names = [(*key, layer) for key in keys for layer in LAYERS]
        expected |= dict(zip(names, zip(*p, strict=True), strict=True))
    found = table()
    for row in found:
        key = (row["checkpoint"], row["study"], row["region"], row["layer"])
        assert (float(row["p_sign_flip"]), float(row["p_corrected"])) == expected[key]
    # A filter does not change the family of tests.
    for row in table("--regions", "it", "--layers", "fc"):
        key = (row["checkpoint"], row["study"], row["region"], row["layer"])
        assert float(row["p_corrected"]) == expected[key][1]
    assert "p_corrected" not in table("--no-sign-flips")[0]
    capsys.readouterr()
    assert main(["table", "s.db"]) == 0
    header = capsys.readouterr().out.splitlines()[0].split()
    assert header[-4:] == ["mean_rho", "std", "p", "p_corrected"]


def test_sign_flips_leave_out_layers_without_a_score_and_single_subjects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = Writer("s.db")
    made = scored(1)
    made.scores["92", "it", "rsa"].rho[1] = math.nan
    writer.record(made)
    writer.record(
        replace(
            scored(2),
            scores={
                ("92", "it", "rsa"): target(1, 1).score(np.random.default_rng(0).random((2, 21)))
            },
        )
    )
    writer.store.close()
    found = table()
    assert [row["p_corrected"] == "nan" for row in found] == [False] * 3 + [True] * 3


def test_formats(store, capsys):
    pandas = pytest.importorskip("pandas")
    with Store(store) as opened:
        expected = opened.frame(sign_flips=True)
    for name in ("t.csv", "t.json", "t.xlsx", "T.PARQUET", "t.txt"):
        assert main(["table", "s.db", "--output", name]) == 0
        assert capsys.readouterr().err == f"wrote {name}\n"
    read = {
        "t.csv": pandas.DataFrame(table()).astype(expected.dtypes),
        "T.PARQUET": pandas.read_parquet("T.PARQUET"),
        "t.json": pandas.DataFrame(json.loads(Path("t.json").read_text("utf-8"))),
        "t.xlsx": pandas.read_excel("t.xlsx", dtype={"study": str}, keep_default_na=False),
    }
    for name, frame in read.items():
        assert list(frame.columns) == list(expected.columns), name
        # Excel keeps 16 digits.
        options = {"rtol": 1e-15, "atol": 0} if name == "t.xlsx" else {"check_exact": True}
        pandas.testing.assert_frame_equal(frame, expected, check_dtype=False, **options)
    capsys.readouterr()
    assert main(["table", "s.db"]) == 0
    out, err = capsys.readouterr()
    # Remarks stand below the rows in the file, and in a pipe on standard error.
    assert Path("t.txt").read_text("utf-8") == out + err
    assert len(out.splitlines()) == 1 + len(expected) and err.endswith("3 checkpoints, 1 failed\n")
    assert main(["table", "s.db", "--format", "json", "--regions", "evc"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 12
    assert main(["table", "s.db", "--format", "json", "--where", "epoch=3"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_json_has_no_nan_and_excel_no_formula(tmp_path, monkeypatch):
    openpyxl = pytest.importorskip("openpyxl")
    monkeypatch.chdir(tmp_path)
    writer = Writer("s.db")
    made = scored(1, path="=1+1.pth", labels={"name": "=a\x01"})
    made.scores["92", "it", "rsa"].r2[0] = math.nan
    writer.record(made)
    writer.store.close()
    for name in ("t.json", "t.xlsx"):
        assert main(["table", "s.db", "--output", name]) == 0
    values = json.loads((tmp_path / "t.json").read_text(), parse_constant=pytest.fail)
    assert [row["r2"] is None for row in values] == [False, False, True, False]
    sheet = openpyxl.load_workbook("t.xlsx").active
    found = {cell.value: column for cell, column in zip(sheet[1], sheet[4], strict=True)}
    assert found["r2"].value is None
    assert found["checkpoint"].value == "=1+1.pth" and found["checkpoint"].data_type == "s"
    assert found["name"].value == "=a\ufffd"


@pytest.mark.parametrize("name", ["t.dat", "t", "t.xls", "t.tsv", "t.db", "t.html"])
def test_another_ending_is_refused_and_nothing_is_written(name, store, tmp_path, capsys):
    message = error(capsys, "--output", name)
    assert (
        f"--output {name}: its ending must be one of .txt, .csv, .json, .parquet, .xlsx" in message
    )
    assert error(capsys, "--output", name, "--format", "csv")
    assert not (tmp_path / name).exists()


def test_a_format_that_contradicts_the_ending_is_refused(store, tmp_path, capsys):
    message = error(capsys, "--output", "t.json", "--format", "csv")
    assert "--output t.json: its ending contradicts --format csv" in message
    for form in ("parquet", "xlsx"):
        assert f"--output FILE.{form}" in error(capsys, "--format", form)
    assert main(["table", "s.db", "--output", "t.csv", "--format", "csv"]) == 0
    assert "there is no folder" in error(capsys, "--output", "none/t.csv")


def test_an_output_appears_only_when_it_is_complete(store, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("before")

    def fail(*arguments):
        raise ValueError("no")

    monkeypatch.setattr("fastrdm.scoring.store_rows.RowReader.rows", fail)
    for name in ("t.csv", "t.json", "t.xlsx", "t.parquet", "t.txt"):
        assert main(["table", "s.db", "--output", name]) == 1
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith("s.db")] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "before"


def test_a_failure_is_one_line_and_debug_has_the_traceback(store, capsys):
    assert main(["table", "s.db", "--failures"]) == 0
    assert capsys.readouterr().out == "bad.pth (2 times): it is bad\n"
    for arguments in (
        ["table", "s.db", "--failures", "--debug"],
        ["--debug", "table", "s.db", "--failures"],
    ):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert out == "bad.pth (2 times): it is bad\n    Traceback\n      line 2\n"
    assert "--best is for results, and not for --failures" in error(capsys, "--failures", "--best")
    found = table("--failures")
    assert found[0]["checkpoint"] == "bad.pth" and found[0]["attempts"] == "2"
    assert "traceback" not in found[0]
    assert "line 2" in table("--failures", "--debug")[0]["traceback"]


def test_the_end_of_a_table_counts_what_is_shown(store, capsys):
    for arguments, count in (([], "3"), (["--where", "epoch>1", "--best"], "2 of 3")):
        assert main(["table", "s.db", *arguments]) == 0
        assert capsys.readouterr().err.splitlines()[-1] == f"{count} checkpoints, 1 failed"


def test_the_end_of_a_history_counts_paths_and_contents(tmp_path, capsys):
    writer = Writer(tmp_path / "scores.db")
    for i in (1, 2, 3):
        writer.record(scored(i, path="last.pth" if i < 3 else "other.pth"))
    writer.store.close()
    for arguments, count in (([], "2 checkpoints"), (["--history"], "3 contents of 2 checkpoints")):
        assert main(["table", str(tmp_path / "scores.db"), *arguments]) == 0
        assert capsys.readouterr().err.splitlines()[-1] == f"{count}, 0 failed"


def test_text_has_a_dash_for_nan_and_nothing_for_a_missing_label(tmp_path, capsys):
    writer = Writer(tmp_path / "scores.db")
    made = scored(1, labels={"rate": "0.5"})
    made.scores["92", "it", "rsa"].rho[0] = math.nan
    writer.record(made)
    writer.record(scored(2, labels={}))
    writer.store.close()
    assert main(["table", str(tmp_path / "scores.db"), "--where", "region = it"]) == 0
    out = capsys.readouterr().out
    assert "–" in out and "nan" not in out
    unlabelled = [line for line in out.splitlines() if line.startswith("epoch002.pth")]
    assert len(unlabelled) == 2 and not any("–" in line for line in unlabelled)


def test_a_table_of_one_checkpoint_counts_in_the_singular(tmp_path, capsys):
    writer = Writer(tmp_path / "scores.db")
    writer.record(scored(1))
    writer.store.close()
    assert main(["table", str(tmp_path / "scores.db")]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "1 checkpoint, 0 failed"


def test_a_condition_may_name_a_label_with_spaces(tmp_path):
    writer = Writer(tmp_path / "scores.db")
    writer.record(scored(1))
    writer.record(scored(2))
    writer.store.set_labels(
        {"epoch001.pth": {"learning rate": 0.5}, "epoch002.pth": {"learning rate": 2}}
    )
    rows = list(writer.store.table(where="learning rate > 1").rows())
    assert {row[0] for row in rows} == {"epoch002.pth"}


def test_merging_what_is_not_a_store_creates_none(store, tmp_path, capsys):
    (tmp_path / "wrong.db").write_text("text")
    for name in ("wrong.db", "absent.db"):
        assert main(["merge", str(tmp_path / "all.db"), str(store), str(tmp_path / name)]) == 1
        assert name in capsys.readouterr().err
        assert not (tmp_path / "all.db").exists()


@pytest.mark.parametrize("message", ["bad.pth: truncated", "bad.pth truncated"])
def test_a_failure_has_its_path_once(tmp_path, capsys, message):
    writer = Writer(tmp_path / "scores.db")
    failed = Failed(Job("bad.pth", 0), Stamp(1, 1), message, "Traceback")
    writer.store.fail(failed, writer.pipeline, writer.run)
    writer.store.close()
    assert main(["table", str(tmp_path / "scores.db"), "--failures"]) == 0
    assert capsys.readouterr().out == "bad.pth: truncated\n"


def test_writing_to_a_store_that_was_opened_for_reading_names_the_option(store):
    with Store(store) as opened, pytest.raises(StoreError, match="opened without write=True"):
        opened.set_labels({"epoch1.pth": {"rate": 1}})


def test_best_layers_stand_beside_what_the_other_studies_choose(store, capsys):
    every = {
        tuple(row[k] for k in ("checkpoint", "study", "region", "layer")): row for row in table()
    }

    def percent(checkpoint, study, layer):
        return float(every[checkpoint, study, "it", layer]["percent_nc"])

    for row in table("--best"):
        name, study = row["checkpoint"], row["study"]
        if row["region"] == "evc":
            assert (row["held_out_layer"], row["held_out"]) == ("", "nan")
            continue
        other = {"92": "118", "118": "92"}[study]
        chosen = max(LAYERS, key=lambda layer: percent(name, other, layer))
        assert row["held_out_layer"] == chosen
        assert float(row["held_out"]) == percent(name, study, chosen)
    assert all(row["held_out_layer"] == "" for row in table("--best", "--sets", "92"))
    capsys.readouterr()
    assert main(["table", "s.db", "--best"]) == 0
    err = capsys.readouterr().err
    assert "chosen on 92, judged on 118" in err and "chosen on 118, judged on 92" in err
    assert main(["table", "s.db", "--best", "--sets", "92"]) == 0
    assert "held_out:" not in capsys.readouterr().err
    assert [row["held_out"] for row in table("--best", "--sort", "held_out")][-1] in ("", "nan")


def test_a_study_under_another_protocol_chooses_no_layer(store, tmp_path):
    writer, subjects = Writer(store), store_writer.subjects
    facts = '{"name": "rsatoolbox", "nan_policy": "raise"}'
    again = replace(subjects("evc"), protocol=facts)
    writer.targets = {("92", "evc", "rsa"): writer.store.add_target(again)}
    made = make(1, "epoch1.pth", {"epoch": "1", "run": "b"})
    writer.record(replace(made, scores={("92", "evc", "rsa"): made.scores["92", "evc", "rsa"]}))
    writer.store.close()
    rows_of_evc = [row for row in table("--best") if row["region"] == "evc"]
    assert len({row["protocol"] for row in rows_of_evc}) == 2
    assert all(row["held_out_layer"] == "" for row in rows_of_evc)


def test_each_measure_chooses_its_own_layer(store):
    writer, subjects = Writer(store), store_writer.subjects
    places = [(study, "it", "cka") for study in ("92", "118")]
    writer.targets = {
        place: writer.store.add_target(replace(subjects("it"), study=place[0], measure="cka"))
        for place in places
    }
    made = make(1, "epoch1.pth", {"epoch": "1", "run": "b"})
    rng = np.random.default_rng(1)
    scores = {place: target(k).score(rng.random((4, 21))) for k, place in enumerate(places)}
    writer.record(replace(made, scores=scores))
    writer.store.close()
    layers = {place[0]: LAYERS[int(scores[place].value.argmax())] for place in places}
    assert layers["92"] != layers["118"]
    found = [row for row in table("--best") if row["measure"] == "cka"]
    assert {(row["study"], row["held_out_layer"]) for row in found} == {
        ("92", layers["118"]),
        ("118", layers["92"]),
    }
