import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.io import savemat

from fastrdm.cli import main
from fastrdm.cli.sample import write_sample

KEYS = ["checkpoint", "study", "layer", "region", "r2", "std", "percent_nc", "p"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("sample") / "study")


def run(capsys, *arguments):
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_evaluate_gives_the_published_percentages(capsys, challenge):
    arguments = [
        "evaluate",
        challenge / "example_submission_92" / "submit_fmri.mat",
        challenge / "Training_Data" / "92_Image_Set" / "target_fmri.mat",
    ]
    status, out, err = run(capsys, *arguments)
    assert status == 0 and "published for the 92" in err
    for word in ("8.0289", "4.3443", "5.5996", "3.7036e-03", "4.9871e-04"):
        assert word in out
    result = json.loads(run(capsys, *arguments, "--json")[1])
    assert {"r2", "percent_nc", "p", "std", "rho"} <= result["evc"].keys() & result["it"].keys()
    assert len(result["evc"]["rho"]) == 15
    assert f"{result['evc']['percent_nc']:.4f} {result['it']['percent_nc']:.4f}" == "8.0289 4.3443"
    assert f"{result['score']['percent_nc']:.4f}" == "5.5996"
    assert f"{result['evc']['p']:.4e} {result['it']['p']:.4e}" == "3.7036e-03 4.9871e-04"
    none = json.loads(run(capsys, *arguments, "--json", "--set", "none")[1])
    assert none["evc"]["r2"] == result["evc"]["r2"] and none["set"] is None
    assert round(none["evc"]["ceiling"], 4) == 0.1589 != none["evc"]["ceiling"]


def test_evaluate_meg(capsys, tmp_path):
    rng = np.random.default_rng(0)
    rdms = rng.random((5, 3, 12, 12)) + rng.random((12, 12))
    rdms += np.swapaxes(rdms, -1, -2)
    keys = ("MEG_RDMs_early", "MEG_RDMs_late")
    savemat(tmp_path / "target.mat", dict.fromkeys(keys, rdms))
    savemat(tmp_path / "submit.mat", dict.fromkeys(keys, rdms[0, 0]))
    status, out, _ = run(
        capsys, "evaluate", tmp_path / "submit.mat", tmp_path / "target.mat", "--json"
    )
    result = json.loads(out)
    assert status == 0 and result["set"] is None
    assert set(result) == {"early", "late", "score", "set"}


def test_errors_are_one_line(capsys, tmp_path):
    status, out, err = run(capsys, "evaluate", tmp_path / "none.mat", tmp_path / "none.mat")
    assert (status, out) == (1, "")
    assert err == f"fastrdm: error: {tmp_path / 'none.mat'} does not exist\n"


def test_wrong_usage_exits_with_2(capsys):
    for arguments in (
        [],
        ["score"],
        ["evaluate", "a", "b", "--set", "93"],
        ["score", "a", "--batch-size", "0"],
        ["score", "a", "--precision", "int8"],
        ["score", "a", "--bootstrap", "10"],
        ["score", "a", "--seed", "-1"],
        ["score", "a", "--provider-option", "device_id"],
    ):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
    capsys.readouterr()


def test_evaluate_shows_the_sign(capsys, tmp_path):
    rng = np.random.default_rng(0)
    rdms = rng.random((5, 12, 12)) + rng.random((12, 12))
    rdms += np.swapaxes(rdms, -1, -2)
    savemat(tmp_path / "target.mat", dict.fromkeys(("EVC_RDMs", "IT_RDMs"), rdms))
    savemat(tmp_path / "submit.mat", {"EVC_RDMs": rdms[0], "IT_RDMs": -rdms[0]})
    arguments = ("evaluate", tmp_path / "submit.mat", tmp_path / "target.mat")
    result = json.loads(run(capsys, *arguments, "--json")[1])
    for region in ("evc", "it"):
        assert result[region]["mean_rho"] == pytest.approx(np.mean(result[region]["rho"]))
    mean = result["evc"]["mean_rho"]
    assert mean > 0 and result["it"]["mean_rho"] == pytest.approx(-mean)
    assert result["evc"]["r2"] == pytest.approx(result["it"]["r2"])
    _, out, err = run(capsys, *arguments)
    lines = out.splitlines()
    assert "mean ρ" in lines[0]
    assert f" {mean:.4f} " in lines[1] and "‡" not in lines[1]
    assert f" {-mean:.4f}‡" in lines[2]
    assert "‡ mean ρ below 0: the submission is opposite" in err


def test_score_prints_a_table_with_the_known_answer(capsys, sample):
    status, out, err = run(capsys, "score", sample / "network.onnx", "--data", sample)
    assert status == 0 and "scoring" in err
    # The table shows the interval instead of the deviation, which stays in CSV and JSON, and without draws.
    assert "†" in out
    # A pipe gets the table; what it is stands on standard error.
    assert "percent of noise ceiling" not in out and "SYNTHETIC" not in out
    assert "percent of noise ceiling [95 % interval over subjects]" in err
    assert "SYNTHETIC DATA (sample)" in err
    assert "mean ρ" in err and "‡ mean ρ below 0, opposite to the brain" in err
    assert "EVC was simulated from conv1: found" in out and "IT was simulated from fc: found" in out
    assert "* best layer: " in out
    assert "0.1589" in out and "0.3075" in out


def test_score_without_draws_shows_the_deviation(capsys, sample):
    arguments = ("score", sample / "network.onnx", "--data", sample, "--quiet", "--bootstrap", 0)
    _, out, err = run(capsys, *arguments)
    assert "percent of noise ceiling ± SD" in err and "†" not in out + err
    row = json.loads(run(capsys, *arguments, "--json")[1])["results"][0]
    assert row["low"] is None and row["p_corrected"] is None


def test_score_gives_intervals_and_significance_by_the_seed(capsys, sample):
    arguments = ("score", sample / "network.onnx", "--data", sample, "--quiet", "--json")
    first, again, other = (
        json.loads(run(capsys, *arguments, "--seed", seed)[1])["results"] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert all(row["low"] < row["percent_nc"] < row["high"] for row in first)
    assert all(0 < row["p_sign_flip"] <= row["p_corrected"] <= 1 for row in first)
    assert [row["p"] for row in first] == [row["p"] for row in other]


def test_evaluate_gives_intervals_beside_the_challenges_p(capsys, challenge):
    arguments = (
        "evaluate",
        challenge / "example_submission_92" / "submit_fmri.mat",
        challenge / "Training_Data" / "92_Image_Set" / "target_fmri.mat",
    )
    out = run(capsys, *arguments)[1]
    assert "95 % interval" in out and "p, sign flips" in out
    region = json.loads(run(capsys, *arguments, "--json", "--bootstrap", 2000, "--seed", 3)[1])[
        "it"
    ]
    low, high = region["interval"]
    assert low < region["percent_nc"] < high and (region["draws"], region["seed"]) == (2000, 3)
    flips = stats.permutation_test(
        (region["rho"],),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
    )
    assert (
        abs(region["p_sign_flip"] - flips.pvalue) < 1e-12 and region["p_corrected"] >= flips.pvalue
    )
    assert (
        "interval" not in json.loads(run(capsys, *arguments, "--json", "--bootstrap", 0)[1])["it"]
    )
    assert "sign flips" not in run(capsys, *arguments, "--bootstrap", 0)[1]


def test_score_json_and_csv_hold_every_result(capsys, sample, tmp_path):
    file = tmp_path / "scores.csv"
    network = sample / "network.onnx"
    status, out, err = run(capsys, "score", network, "--data", sample, "--json", "--csv", file)
    assert status == 0 and "SYNTHETIC" in err
    rows = json.loads(out)["results"]
    assert len(rows) == 5 * 2
    assert all(list(row)[:4] == KEYS[:4] and set(KEYS) <= row.keys() for row in rows)
    assert {row["region"] for row in rows} == {"evc", "it"} and {row["study"] for row in rows} == {
        "sample"
    }
    with file.open() as lines:
        table = list(csv.DictReader(lines))
    assert [float(row["r2"]) for row in table] == [row["r2"] for row in rows]
    assert [row["layer"] for row in table] == [row["layer"] for row in rows]


def test_score_continues_after_unreadable_weights(capsys, sample, tmp_path):
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "empty.pth").touch()
    network = sample / "network.onnx"
    status, out, err = run(
        capsys, "score", tmp_path / "empty.pth", tmp_path / "other.pth", network, "--data", sample,
        "--json", "--arch", "models.networks:resnet20", "--quiet",
    )  # fmt: skip
    assert status == 1 and len(json.loads(out)["results"]) == 10
    empty, other, summary = [line for line in err.splitlines() if "SYNTHETIC" not in line]
    assert "empty.pth: the file is empty" in empty
    assert "other.pth does not fit" in other and "missing: conv1.weight" in other
    assert "2 of 3 checkpoints could not be scored" in summary


def test_score_draws_and_submits(capsys, sample, tmp_path):
    status, _, err = run(
        capsys, "score", sample / "network.onnx", "--data", sample, "--quiet",
        "--figure", tmp_path / "f.png", "--submit", tmp_path / "out",
    )  # fmt: skip
    assert status == 0 and (tmp_path / "f.png").is_file()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "submit_fmri.mat",
        "submit_fmri.zip",
    ]
    assert f"wrote {tmp_path / 'out' / 'submit_fmri.zip'}" in err


def test_score_without_data_suggests_a_sample(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("FASTRDM_DATA", raising=False)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    status, _, err = run(capsys, "score", "weights.pth")
    assert status == 1 and "--data DIR" in err and "fastrdm sample DIR" in err


def test_taps_by_name_and_path(capsys, sample, tmp_path, monkeypatch):
    (tmp_path / "test_cli_network.py").write_text(
        "import torch\n"
        "def build():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 9, 9), torch.nn.ReLU())\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import test_cli_network

    torch.save(test_cli_network.build().state_dict(), "w.pth")
    arguments = ("score", "w.pth", "--arch", "test_cli_network:build", "--data", sample, "--json")
    for taps, names in (("first=0,second=1", ["first", "second"]), ("1,0", ["1", "0"])):
        _, out, err = run(capsys, *arguments, "--taps", taps)
        assert list(dict.fromkeys(row["layer"] for row in json.loads(out)["results"])) == names, err
    assert "nearest" in run(capsys, *arguments, "--taps", "layer1")[2]


def test_export_writes_what_score_reads(capsys, sample, tmp_path):
    from models.networks import resnet20

    torch.manual_seed(0)
    torch.save(resnet20().state_dict(), tmp_path / "r.pth")
    status, out, err = run(
        capsys,
        "export",
        tmp_path / "r.pth",
        tmp_path / "r.onnx",
        "--arch",
        "models.networks:resnet20",
    )
    assert (status, out) == (0, "") and err.endswith(f"wrote {tmp_path / 'r.onnx'}\n"), err
    _, out, _ = run(capsys, "score", tmp_path / "r.onnx", "--data", sample, "--json")
    assert len(json.loads(out)["results"]) == 11 * 2
    arguments = ("--arch", tmp_path / "r.onnx", "--data", sample, "--json")
    _, again, err = run(capsys, "score", tmp_path / "r.pth", tmp_path / "r.pth", *arguments)
    # A checkpoint that is named twice is printed once.
    assert again == out.replace("r.onnx", "r.pth"), err


def test_sample(capsys, tmp_path):
    status, out, err = run(capsys, "sample", tmp_path / "new")
    assert (
        (status, out) == (0, "")
        and "SYNTHETIC" in err
        and (tmp_path / "new" / "study.toml").is_file()
    )


def test_score_on_the_requested_provider(capsys, sample):
    arguments = ("score", sample / "network.onnx", "--data", sample, "--json")
    status, out, err = run(capsys, *arguments, "--provider", "cpu", "--precision", "fp32")
    assert status == 0 and out
    for words, match in (
        (("--provider", "tpu"), "provider 'tpu' is not one of"),
        (("--provider", "cpu", "--precision", "bf16"), "'cpu' supports fp32, not bf16"),
        (("--provider", "cpu", "--provider-option", "a=b=c"), "has no options; remove 'a'"),
    ):
        status, out, err = run(capsys, *arguments, *words, "--quiet")
        assert (status, out) == (1, "") and match in err


def test_a_closed_pipe_ends_quietly(sample):
    command = f"{sys.executable} -m fastrdm score {sample / 'network.onnx'} --data {sample} --json"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -1"],
        capture_output=True,
        text=True,
        check=False,
    )
    # 0 if all was written before the reader ended.
    assert result.returncode in (0, 141) and "Traceback" not in result.stderr
