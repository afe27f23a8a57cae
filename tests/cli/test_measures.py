"""`score`, `sweep` and `table` with several measures."""

import csv
import json

import pytest

from fastrdm import Store
from fastrdm.cli import main
from fastrdm.cli.sample import write_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("measures") / "study")


@pytest.fixture
def run(sample, tmp_path, monkeypatch, capsys):
    """Run a command on the sample's network: status, lines of standard output and of standard error."""
    monkeypatch.chdir(tmp_path)

    def command(name, *arguments):
        fixed = [str(sample / "network.onnx"), "--data", str(sample), "--provider", "cpu"]
        status = main([name, *([] if name == "table" else fixed), *arguments])
        out, err = capsys.readouterr()
        return status, out.splitlines(), err.splitlines()

    return command


def test_score_prints_a_table_for_each_measure(run):
    status, out, err = run("score", "--measures", "rsa,cka-debiased,cka", "--quiet")
    assert status == 0
    heads = ("rsa: similarity of RDMs", "cka-debiased: debiased linear CKA", "cka: linear CKA, not")
    places = [next(i for i, line in enumerate(out) if line.startswith(head)) for head in heads]
    assert places == sorted(places)
    first, second, third = (line for line in err if line.startswith("percent of noise ceiling"))
    assert "mean ρ; † ρ above 0" in first and "below 0, opposite to the brain" in first
    assert "mean CKA; † CKA above 0" in second and "below 0, less similar than chance" in second
    # Linear CKA is never below 0.
    assert third == "percent of noise ceiling [95 % interval over subjects], mean CKA"
    assert any("score: mean debiased CKA of EVC and IT ÷ mean ceiling (%)" in line for line in out)
    assert sum(line.startswith("* best layer: ") for line in out) == 3
    assert not any("†" in line for line in out[places[2] :])
    # One measure has the table that it always had.
    _, alone, meaning = run("score", "--quiet")
    _, named, _ = run("score", "--measures", "rsa", "--quiet")
    assert alone == named and meaning[0].startswith("percent of noise ceiling")
    assert alone[1:] == out[places[0] + 1 : places[1]]


def test_files_have_the_measure(run):
    arguments = (
        "--measures",
        "rsa,cka",
        "--quiet",
        "--csv",
        "o.csv",
        "--figure",
        "f.png",
        "--json",
    )
    status, out, err = run("score", *arguments)
    assert status == 0 and err[-1] == "wrote f.png"
    found = json.loads("\n".join(out))["results"]
    with open("o.csv", newline="") as file:  # noqa: PTH123
        rows = list(csv.DictReader(file))
    assert [row["measure"] for row in rows] == [each["measure"] for each in found]
    assert {row["measure"] for row in rows} == {"rsa", "cka"}
    for row, each in zip(rows, found, strict=True):
        assert float(row["value"]) == each["value"] and float(row["rho_3"]) == each["rho"][3]


def test_a_store_has_all_measures(run):
    sweep = ("sweep", "--store", "s.db", "--engine", "in-process")
    assert run(*sweep)[0] == 0
    _, before, _ = run("table", "s.db")
    assert "measure" not in before[0].split()
    assert run(*sweep, "--measures", "rsa,cka", "--keep-grams")[0] == 0
    _, _, err = run(*sweep, "--measures", "cka")
    assert err == ["1 of 1 was scored before; nothing to do"]
    _, out, err = run("table", "s.db", "--measure", "cka", "--best")
    assert "measure" in out[0].split() and len(out) == 3
    assert err == ["score: mean CKA of EVC and IT ÷ mean ceiling (%)", "1 checkpoint, 0 failed"]
    _, _, err = run("table", "s.db", "--best")
    assert err[-3] == "rsa, challenge score: mean R² of EVC and IT ÷ mean ceiling (%)"
    assert err[-2] == "cka, score: mean CKA of EVC and IT ÷ mean ceiling (%)"
    assert run("table", "s.db", "--measures", "rsa")[1] == before
    assert run("table", "s.db", "--check")[0] == 0
    with Store("s.db") as store:
        (sha256,) = {row[-1] for row in store.rows()}
        assert {study for study, _ in store.grams(sha256)} == {"sample"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measures", "ridge"], "the measure 'ridge' needs responses of units, and the region 'evc'"),
        (["--measures", "rsa,rige"], "measure 'rige' is not one of: rsa, cka"),
        (["--measures", ","], "measures is empty; choose among rsa, cka"),
        (["--projection-seed", "1"], "--projection-seed is for --projection"),
        (["--measures", "cka", "--submit", "out"], "a submission has the best layer by the measure 'rsa'"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused_in_one_sentence(run, arguments, message):
    status, out, err = run("score", *arguments)
    assert (status, out, len(err)) == (1, [], 1) and err[0].startswith(f"fastrdm: error: {message}")


def test_memory_and_projections(run, capsys):
    _, plain, _ = run("score", "--json", "--quiet")
    options = ("--max-memory", "1GiB", "--projection", "64", "--projection-seed", "3")
    status, projected, _ = run("score", "--json", "--quiet", *options)
    documents = [json.loads("\n".join(lines)) for lines in (plain, projected)]
    values = [[row["value"] for row in each["results"]] for each in documents]
    assert status == 0 and len(values[0]) == len(values[1])
    assert values[0] != values[1]
    assert sum(abs(a - b) for a, b in zip(*values, strict=True)) / len(values[0]) < 0.05
    status, out, _ = run("score", "--dry-run", *options)
    assert status == 0 and "1 to score" in out[0]
    for option, value in (("--max-memory", "lots"), ("--projection", "0")):
        with pytest.raises(SystemExit):
            run("score", option, value)
        assert f"argument {option}" in capsys.readouterr().err
