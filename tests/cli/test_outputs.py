"""Files that `score` writes, and what its table and files hold."""

import csv
import errno
import json
import re

import numpy as np
import pytest

from fastrdm.cli import main, outputs
from fastrdm.cli.sample import write_sample
from fastrdm.scoring import score_checkpoints
from fastrdm.studies import open_studies

CHALLENGE = "challenge score: mean R² of EVC and IT ÷ mean ceiling"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("outputs") / "study")


@pytest.fixture
def score(sample, capsys):
    """Score the sample's network with these arguments: status, standard output and error."""

    def run(*arguments, weights=()):
        network = [str(w) for w in weights] or [str(sample / "network.onnx")]
        fixed = ["score", *network, "--data", str(sample), "--bootstrap", "0"]
        status = main([*fixed, *map(str, arguments)])
        return (status, *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ("option", "path", "problem"),
    [
        ("--csv", "no/x.csv", "there is no folder"),
        ("--csv", ".", "is a folder, not a file"),
        ("--csv", "x.xlsx", "does not end in .csv"),
        ("--figure", "no/x.png", "there is no folder"),
        ("--figure", "x.foo", "must end in one of: .*.png"),
        ("--figure", "x", "must end in one of"),
        ("--figure", "folder.png", "is a folder, not a file"),
        ("--submit", "file/out", "is a file, not a folder"),
    ],
)
def test_outputs_are_checked_before_work(score, tmp_path, option, path, problem):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    status, out, err = score(option, tmp_path / path)
    assert (status, out) == (1, "") and err.count("\n") == 1
    assert re.match(f"fastrdm: error: {option}: .*{problem}", err)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_figure_needs_matplotlib_before_work(score, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    status, out, err = score("--figure", tmp_path / "x.png")
    assert (status, out) == (1, "") and "scoring" not in err
    assert (
        "matplotlib is needed to draw figures; install it with: pip install 'fastrdm[plot]'" in err
    )


def test_one_file_for_two_outputs_is_refused(score, tmp_path):
    status, _, err = score("--csv", tmp_path / "x.txt", "--figure", tmp_path / "x.txt")
    assert status == 1 and "--csv and --figure are the same file" in err


def test_the_stores_folder_is_checked_before_work(sample, tmp_path, capsys):
    arguments = ["sweep", str(sample / "network.onnx"), "--data", str(sample)]
    assert main([*arguments, "--store", str(tmp_path / "no" / "s.db")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main([*arguments, "--store", str(tmp_path)]) == 1
    assert "is a folder, not a file" in capsys.readouterr().err


def test_the_exported_file_is_checked_before_the_network_is_built(tmp_path, capsys):
    output = str(tmp_path / "no" / "x.onnx")
    assert main(["export", "none.pth", output, "--arch", "no_such_module:build"]) == 1
    assert capsys.readouterr().err.startswith(
        f"fastrdm: error: FILE.onnx: {output}: there is no folder"
    )


def test_an_earlier_csv_file_is_kept_when_nothing_can_begin(score, tmp_path):
    (tmp_path / "x.csv").write_text("kept")
    assert score("--csv", tmp_path / "x.csv", weights=[tmp_path / "none" / "*.onnx"])[0] == 1
    assert (tmp_path / "x.csv").read_text() == "kept"


def test_results_are_not_lost_when_a_file_cannot_be_written_at_the_end(
    score, tmp_path, monkeypatch
):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outputs.ResultsCsv, "_open", fail)
    monkeypatch.setattr("fastrdm.plot.plot_scores", fail)
    status, out, err = score("--csv", tmp_path / "x.csv", "--figure", tmp_path / "x.png", "--json")
    assert status == 1 and len(json.loads(out)["results"]) == 10
    for name in ("x.csv", "x.png"):
        assert f"error: {tmp_path / name} cannot be written: " in err and "No space left" in err
    monkeypatch.setattr("fastrdm.studies.algonauts.write_submission", fail)
    status, out, err = score("--submit", tmp_path / "out")
    assert status == 1 and "* best layer: fc" in out
    assert "its submission cannot be written" in err and "could not be scored" not in err


def test_csv_and_json_hold_the_rho_of_each_subject(score, sample, tmp_path):
    pandas = pytest.importorskip("pandas")
    file = tmp_path / "x.csv"
    status, out, _ = score("--json", "--csv", file, "--quiet")
    rows = json.loads(out)["results"]
    assert status == 0 and len(rows) == 10
    (study,) = open_studies(sample)
    from fastrdm.runtimes import OnnxModel

    rdms = OnnxModel(sample / "network.onnx").rdms(list(study.stimuli))
    frame = pandas.read_csv(file)
    subjects = frame.filter(regex=r"^rho_\d+$")
    assert list(subjects) == [f"rho_{i}" for i in range(15)]
    for i, row in enumerate(rows):
        rho = study.targets[row["region"]].score(rdms[row["layer"]]).rho[0]
        np.testing.assert_allclose(row["rho"], rho, rtol=1e-9)
        np.testing.assert_array_equal(subjects.iloc[i], row["rho"])
        assert np.mean(row["rho"]) == pytest.approx(row["mean_rho"])
        assert np.mean(np.square(row["rho"])) == pytest.approx(row["r2"])


def test_labels_of_a_manifest_are_columns_too(score, sample, tmp_path):
    (tmp_path / "seed3.onnx").write_bytes((sample / "network.onnx").read_bytes())
    (tmp_path / "m.toml").write_text(
        "[[network]]\nweights = 'seed3.onnx'\nlabels = 'seed(?P<seed>\\d+)'\n"
    )
    plain, manifest = sample / "network.onnx", tmp_path / "m.toml"
    status, _, err = score("--csv", tmp_path / "x.csv", weights=[plain, manifest])
    assert status == 0, err
    with (tmp_path / "x.csv").open() as lines:
        assert [row["seed"] for row in csv.DictReader(lines)] == [""] * 10 + ["3"] * 10


def test_settings_tell_rows_of_one_path_apart(score, sample, tmp_path):
    (tmp_path / "m.toml").write_text(
        "".join(
            f"[[network]]\nweights = '{sample / 'network.onnx'}'\n{more}\n"
            for more in ("", "[network.preprocessing]\nmean = [0.5, 0.5, 0.5]\n")
        )
    )
    file = tmp_path / "x.csv"
    status, out, err = score("--json", "--csv", file, weights=[tmp_path / "m.toml"])
    assert status == 0, err
    rows = json.loads(out)["results"]
    assert len({row["checkpoint"] for row in rows}) == 1
    assert (
        len({row["settings"] for row in rows}) == 2 == len({row["preprocessing"] for row in rows})
    )
    with file.open() as lines:
        written = list(csv.DictReader(lines))
    for name in ("arch", "taps", "precision", "preprocessing", "settings"):
        assert [row[name] for row in written] == [row[name] for row in rows]
    assert {row["precision"] for row in rows} == {"fp32"}


def test_the_tables_column_is_named_for_what_the_score_is(score):
    out = score()[1]
    assert f"{CHALLENGE} (%)" in out and "mean over" not in out
    assert "score: R² of IT ÷ ceiling (%)" in score("--regions", "it")[1]


def test_headings_are_not_wrapped_in_a_pipe(capsys, challenge, sample):
    arguments = ["score", str(sample / "network.onnx"), "--data", str(challenge), "--quiet"]
    assert main([*arguments, "--modality", "both", "--bootstrap", "0"]) == 0
    out = capsys.readouterr().out
    assert f" {CHALLENGE} (%), mean over 92 and 118 " in out
    assert (
        f" {CHALLENGE.replace('EVC and IT', 'EARLY and LATE')} (%), mean over 92 and 118\n" in out
    )


def test_evaluate_names_the_challenge_score(capsys, challenge):
    main(
        [
            "evaluate",
            str(challenge / "example_submission_92" / "submit_fmri.mat"),
            str(challenge / "Training_Data" / "92_Image_Set" / "target_fmri.mat"),
        ]
    )
    assert f"{CHALLENGE} = 0.0131 ÷ 0.2332 = 5.5996 %" in capsys.readouterr().out


def test_a_failed_checkpoint_is_one_line_and_debug_has_its_traceback(
    score, sample, tmp_path, capsys
):
    (tmp_path / "empty.onnx").touch()
    status, _, err = score("--quiet", weights=[tmp_path / "empty.onnx"])
    assert status == 1 and "Traceback" not in err and len(err.splitlines()) == 2
    err = score("--quiet", "--debug", weights=[tmp_path / "empty.onnx"])[2]
    assert err.startswith("Traceback") and "empty.onnx" in err.splitlines()[-2]
    arguments = ["sweep", str(tmp_path / "empty.onnx"), "--data", str(sample), "--quiet"]
    arguments += ["--engine", "in-process", "--retry-failed", "--store", str(tmp_path / "s.db")]
    for options, is_shown in (([], False), (["--debug"], True)):
        assert main([*arguments, *options]) == 1
        assert ("Traceback" in capsys.readouterr().err) == is_shown
    arguments.remove("--quiet")
    for options, is_shown in ((["--events"], False), (["--events", "--debug"], True)):
        assert main([*arguments, *options]) == 1
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        (failed,) = [event for event in events if event["event"] == "failed"]
        assert ("traceback" in failed) == is_shown


def test_the_exception_of_an_architecture_is_one_line(sample, tmp_path, capsys, monkeypatch):
    (tmp_path / "test_outputs_network.py").write_text(
        "def build():\n    raise TypeError('no luck')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "w.pth").touch()
    arguments = ["score", str(tmp_path / "w.pth"), "--data", str(sample), "--quiet"]
    assert main([*arguments, "--arch", "test_outputs_network:build"]) == 1
    err = capsys.readouterr().err
    assert "no luck" in err and len(err.splitlines()) == 1 and "Traceback" not in err


def test_score_checkpoints_checks_the_submissions_folder(sample, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="submit: .*file is a file, not a folder"):
        next(score_checkpoints([sample / "network.onnx"], (), sample, submit=tmp_path / "file"))


def test_what_was_scored_before_a_stop_is_drawn(score, tmp_path, monkeypatch):
    original = score_checkpoints

    def stopped(*arguments, **options):
        yield from original(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr("fastrdm.scoring.score_checkpoints", stopped)
    status, out, err = score("--csv", tmp_path / "x.csv", "--figure", tmp_path / "x.png")
    assert status == 130 and "* best layer" in out and err.endswith("fastrdm: stopped\n")
    assert (tmp_path / "x.png").is_file()
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 11


def test_patience_needs_watch(score):
    status, _, err = score("--patience", "3")
    assert status == 1 and err == "fastrdm: error: --patience is for --watch\n"


def test_an_unexpected_exception_of_a_checkpoint_names_it(score, sample, monkeypatch):
    def fail(*arguments, **options):
        raise KeyError("layer9")

    monkeypatch.setattr("fastrdm.scoring.opening.open_checkpoint", fail)
    status, _, err = score("--quiet")
    first = f"fastrdm: error: {sample / 'network.onnx'}: unexpected KeyError: 'layer9'"
    assert status == 1 and err.splitlines()[0] == first
    assert "Traceback" in score("--quiet", "--debug")[2]


def test_the_best_layers_of_a_store_have_the_scores_name(sample, tmp_path, capsys):
    store = str(tmp_path / "s.db")
    arguments = [str(sample / "network.onnx"), "--data", str(sample), "--engine", "in-process"]
    assert main(["sweep", *arguments, "--store", store]) == 0
    capsys.readouterr()
    assert main(["table", store, "--best"]) == 0
    assert f"{CHALLENGE} (%)\n" in capsys.readouterr().err
    assert main(["table", store]) == 0
    assert "score" not in "".join(capsys.readouterr())
