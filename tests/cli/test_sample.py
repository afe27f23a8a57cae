import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastrdm.cli import main
from fastrdm.cli.sample import LAYERS, write_sample
from fastrdm.runtimes import OnnxModel
from fastrdm.scoring import score_checkpoints
from fastrdm.studies import CEILINGS, open_studies


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def study(sample):
    (study,) = open_studies(sample)
    return study


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_is_a_study_and_says_that_it_is_synthetic(sample, study):
    assert study.synthetic
    assert "synthetic" in study.description
    assert (study.name, study.truth) == ("sample", dict(LAYERS))
    assert len({path.read_bytes() for path in study.stimuli}) == len(study.stimuli) == 60
    assert not {p.read_bytes() for p in study.stimuli} & {
        p.read_bytes() for p in study.test_stimuli
    }
    assert study.test_stimuli
    readme = (sample / "README.txt").read_text()
    assert readme.startswith("This is a synthetic study")
    assert "arXiv:1905.05675" in readme
    for region, layer in LAYERS.items():
        assert f'{region} = "{layer}"' in (sample / "study.toml").read_text()


def test_ceilings_are_the_published_ones(study):
    for region in ("evc", "it"):
        assert study.targets[region].n_subjects == 15
        assert study.targets[region].ceiling == pytest.approx(CEILINGS["92"][region], rel=0.005)


def test_the_known_layer_wins_clearly(sample, study):
    model = OnnxModel(sample / "network.onnx", n_threads=1)
    assert model.layers == ("conv1", "conv2", "conv3", "conv4", "fc")
    rdms = model.rdms(study.stimuli)
    for region, target in study.targets.items():
        score = target.score(np.stack(list(rdms.values())))
        first, second = np.argsort(score.r2)[:-3:-1]
        assert list(rdms)[first] == LAYERS[region]
        assert score.r2[first] > 1.3 * score.r2[second]
        assert 50 < score.percent_nc[first] < 100


def test_writing_is_deterministic_and_replaces_an_earlier_sample(tmp_path):
    def write(name, **changed):
        return write_sample(tmp_path / name, **{"n_conditions": 12, "n_subjects": 8} | changed)

    first = contents(write("a"))
    assert contents(write("b")) == first
    (tmp_path / "b" / "results.csv").touch()
    assert contents(write("b", seed=1))["targets.npz"] != first["targets.npz"]
    assert contents(write("b", n_conditions=12)) == first | {"results.csv": b""}


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty and not an earlier sample"):
        write_sample(tmp_path)
    (tmp_path / "README.txt").write_text("My thesis")
    with pytest.raises(ValueError, match="is not empty and not an earlier sample"):
        write_sample(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.txt", "thesis.tex"]
    with pytest.raises(ValueError, match="thesis.tex is a file"):
        write_sample(tmp_path / "thesis.tex")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_conditions": 9}, "n_conditions is 9; a sample has 10 or more"),
        ({"n_subjects": 7}, "n_subjects is 7; a sample has 8 or more"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_sample(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_stimuli_are_pictures(study):
    for path in study.stimuli:
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("RGB", (160, 160))
            assert np.asarray(image).std() > 10


def test_known_layers_are_found_by_all_measures_of_responses(tmp_path):
    folder = write_sample(tmp_path / "mine", n_subjects=8, responses=True)
    (study,) = open_studies(folder)
    assert not (folder / "targets.npz").exists()
    assert study.measures == dict.fromkeys(LAYERS, ("rsa", "cka", "ridge"))
    for region in LAYERS:
        assert (study.responses[region].n_units, study.responses[region].n_repeats) == (
            (40,) * 8,
            (3,) * 8,
        )
        # The share of the signal in the mean of three repeats, 3 / 4.
        assert np.median(study.responses[region].reliability) == pytest.approx(0.75, abs=0.05)
    (scores,) = score_checkpoints([folder / "network.onnx"], (), study, n_draws=0)
    for measure in ("rsa", "cka", "ridge"):
        for region, layer in LAYERS.items():
            found = [r for r in scores.results if (r.measure, r.region) == (measure, region)]
            assert max(found, key=lambda r: r.value).layer == layer


def test_the_suggested_command_scores_a_sample_with_any_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "a [b] 'c'"]) == 0
    (suggested,) = re.findall("^try: fastrdm (.*)$", capsys.readouterr().err, re.MULTILINE)
    command, network, *rest = shlex.split(suggested)
    assert (command, rest) == ("score", ["--data", "a [b] 'c'"])
    assert network == "a [b] 'c'/network.onnx"
    assert Path(network).is_file()
