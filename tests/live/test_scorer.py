"""Scores of live modules: keys, arguments, and equality with the scores of their saved files."""

import copy
import pickle

import numpy as np
import pytest
import torch
from small_live import PREPARED, SmallNetwork, build
from small_study import write_study
from torch import nn

from fastrdm import Scorer, TorchModel, open_studies, score_checkpoints
from models import networks


@pytest.fixture
def module():
    return build()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("live") / "small", regions=("evc", "it"))


def test_scores_are_percent_of_the_ceiling_by_study_region_and_layer(study, module):
    scorer = Scorer(study, preprocessing=PREPARED)
    scores = scorer(module)
    (opened,) = open_studies(study)
    rdms = TorchModel(module, preprocessing=PREPARED).rdms(list(opened.stimuli))
    for region, target in opened.targets.items():
        expected = target.score(np.stack(list(rdms.values()))).percent_nc
        places = [f"brain/small/{region}/{layer}" for layer in rdms]
        np.testing.assert_allclose([scores[place] for place in places], expected, rtol=1e-6)
        assert scores[f"brain/small/{region}/best"] == max(scores[place] for place in places)
    assert len(scores) == 2 * (len(rdms) + 1)
    assert all(type(value) is float for value in scores.values())


def test_a_region_can_be_scored_by_its_layer_alone(study, module):
    scores = Scorer(study, {"IT": "conv2"}, preprocessing=PREPARED)(module)
    assert list(scores) == ["brain/small/it/conv2", "brain/small/it/best"]


def test_calls_in_mode_async_return_the_scores_later_in_their_order(study, module):
    expected = []
    with (
        Scorer(study, preprocessing=PREPARED) as scorer,
        Scorer(study, preprocessing=PREPARED, mode="async") as later,
    ):
        for step in range(4):
            with torch.no_grad():
                module.conv2.weight.normal_()
            expected.append(scorer(module))
            later(module, step)
        pending = later.wait()
        assert [each.label for each in pending] == [0, 1, 2, 3]
        assert [each.result() for each in pending] == expected


@pytest.mark.parametrize(("provider", "tolerance"), [("cpu", 0.02), ("torch:cpu", 1e-9)])
def test_scores_are_those_of_the_saved_file(study, module, tmp_path, provider, tolerance):
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand(value.shape))
    torch.save(module.state_dict(), tmp_path / "net.pth")
    arguments = {"preprocessing": PREPARED, "measures": ["rsa", "cka"]}
    (saved,) = score_checkpoints(
        [tmp_path / "net.pth"], ["small_live:build"], study, provider=provider, **arguments
    )
    assert not saved.error
    scorer = Scorer(study, **arguments)
    results = scorer.results(module, "epoch 3", n_draws=1000)
    assert len(results) == len(saved.results)
    for ours, theirs in zip(results, saved.results, strict=True):
        places = [(r.study, r.region, r.layer, r.measure) for r in (ours, theirs)]
        assert places[0] == places[1]
        assert ours.checkpoint == "epoch 3"
        for name in ("percent_nc", "low", "high", "p_sign_flip"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=tolerance)
    assert scorer(module) == scorer.flat(results)


def test_measures_after_the_first_have_prefixes_of_their_own(study, module):
    scores = Scorer(study, measures=["cka", "rsa"], regions=["it"], preprocessing=PREPARED)(module)
    first = [name for name in scores if name.startswith("brain/")]
    others = [name for name in scores if name.startswith("brain-rsa/")]
    assert len(first) == len(others) == len(scores) / 2
    rsa = Scorer(study, regions=["it"], preprocessing=PREPARED)(module)
    assert {name: scores[name.replace("brain/", "brain-rsa/")] for name in rsa} == rsa


def test_several_studies_are_scored_at_once(study, module, tmp_path):
    other = write_study(tmp_path / "other", n=8, regions=("v4",))
    (opened,) = open_studies(other)
    scores = Scorer([study, opened], preprocessing=PREPARED)(module)
    assert scores == {
        **Scorer(study, preprocessing=PREPARED)(module),
        **Scorer(other, preprocessing=PREPARED)(module),
    }
    assert Scorer([study, opened], sets=["other"], preprocessing=PREPARED)(module).keys() == {
        name for name in scores if "/other/" in name
    }


def test_time_points_have_keys_of_their_own(module, tmp_path):
    folder = write_study(tmp_path / "meg")
    rdms = np.load(folder / "it.npy")
    np.save(folder / "it.npy", np.stack([rdms, rdms**2, np.sqrt(rdms)], axis=1))
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text + "times = [0.0, 0.05, 0.1]\n")
    scores = Scorer(folder, {"it": "conv2"}, over_time="each", preprocessing=PREPARED)(module)
    assert list(scores) == [
        *(f"brain/meg/it/conv2/{time}" for time in ("0", "0.05", "0.1")),
        "brain/meg/it/best",
    ]
    assert scores["brain/meg/it/best"] == max(scores.values())


def test_layers_that_are_not_tapped_by_default_can_be_named(study):
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)))
    found = Scorer(study, {"it": ["0.1", "0.2"]}, preprocessing=PREPARED)(network)
    assert list(found) == ["brain/small/it/0.1", "brain/small/it/0.2", "brain/small/it/best"]
    by_taps = Scorer(study, {"it": "first"}, taps={"first": "0.1"}, preprocessing=PREPARED)
    assert by_taps(network)["brain/small/it/first"] == found["brain/small/it/0.1"]


def test_a_layer_without_a_score_is_nan_with_a_warning(study, module):
    torch.nn.init.zeros_(module.conv2.weight)
    scorer = Scorer(study, preprocessing=PREPARED)
    with pytest.warns(RuntimeWarning, match="'conv2', 'fc'|'conv2', 'dropout'"):
        scores = scorer(module)
    assert np.isnan(scores["brain/small/it/conv2"])
    assert scores["brain/small/it/best"] == scores["brain/small/it/conv1"]
    with Scorer(study, preprocessing=PREPARED, mode="async") as later:
        pending = later(module)
        with pytest.warns(RuntimeWarning, match="'conv2'"):
            np.testing.assert_equal(pending.result(), scores)


def test_a_model_is_opened_once_until_the_module_changes(study, module, monkeypatch):
    opened = []
    original = TorchModel.__init__
    monkeypatch.setattr(
        TorchModel, "__init__", lambda *args, **rest: opened.append(original(*args, **rest))
    )
    scorer = Scorer(study, preprocessing=PREPARED)
    first = scorer(module)
    with torch.no_grad():
        module.conv2.weight.normal_()
    assert scorer(module) != first
    assert len(opened) == 1
    module.fc = nn.Linear(8, 3)
    scorer(module)
    assert len(opened) == 2
    module.double()
    assert scorer(module)["brain/small/it/conv1"] == pytest.approx(
        first["brain/small/it/conv1"], abs=0.1
    )
    assert len(opened) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "later"}, "mode 'later' is not one of: sync, async"),
        ({"max_pending": 0}, "max_pending must be at least 1, not 0"),
        ({"layers": {}}, "layers is empty"),
        ({"layers": {"it": []}}, r"layers\['it'\] must name a layer"),
        ({"layers": {"it": 4}}, r"layers\['it'\] must name a layer, or several, not 4"),
        ({"layers": {"it": "a"}, "regions": "it"}, "regions must be a list of names"),
        ({"regions": [1]}, r"regions must be a list of names, such as \['it'\], not \[1\]"),
        ({"device": None}, "device None is not available"),
        ({"layers": {"v4": "conv1"}}, "no region 'v4'"),
        ({"layers": {"it": "a", "IT": "b"}}, "layers names the region 'IT' twice"),
        ({"layers": {"it": "a"}, "regions": ["evc", "it"]}, "no layer for the region evc"),
        ({"measures": ["rho"]}, "measure 'rho' is not one of"),
        ({"measures": ["ridge"]}, "'ridge' needs responses"),
        ({"sets": ["92"]}, "no study named '92'"),
        ({"modality": "eeg"}, "modality 'eeg'"),
        ({"precision": "fp8"}, "precision 'fp8' is not one of"),
        ({"precision": "tf32", "device": "cpu"}, "needs a CUDA device, not cpu"),
        ({"cuda_graph": True, "device": "cpu"}, "needs a CUDA device, not cpu"),
        ({"device": "gpu"}, "device 'gpu' is not available"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"max_memory": "much"}, "much"),
        ({"projection": 0}, "projection must be at least 1"),
        ({"over_time": "none"}, "over_time"),
        ({"preprocessing": "transformers"}, "name it"),
        ({"preprocessing": {"colour": 1}}, "no field colour"),
        ({"size": "large"}, "size"),
    ],
)
def test_invalid_arguments_are_errors_at_construction(study, arguments, message):
    with pytest.raises(ValueError, match=message):
        Scorer(study, **arguments)


def test_invalid_modules_are_errors_before_images_run(study, module):
    with pytest.raises(TypeError, match="layers must be a mapping of region to layer"):
        Scorer(study, "conv1")
    with pytest.raises(TypeError, match="names of regions as keys, not 1"):
        Scorer(study, {1: "conv1"})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Scorer("nowhere")
    scorer = Scorer(study, preprocessing=PREPARED)
    with pytest.raises(TypeError, match="module must be a torch.nn.Module, not str"):
        scorer("net.pth")
    with pytest.raises(ValueError, match="layer 'conv9', which layers names; the nearest are conv"):
        Scorer(study, {"it": ["conv1", "conv9"]}, taps=["*"], preprocessing=PREPARED)(module)
    with pytest.raises(ValueError, match="conv9"):
        Scorer(study, {"it": "conv9"}, preprocessing=PREPARED)(module)
    with pytest.raises(ValueError, match="a layer named 'best'"):
        Scorer(study, taps={"best": "conv1"}, preprocessing=PREPARED)(module)


def test_size_and_preprocessing_are_those_of_the_arguments(study, module):
    expected = Scorer(study, preprocessing=PREPARED)(module)
    assert Scorer(study, size=20)(module) == expected
    assert Scorer(study, preprocessing={"size": 30}, size=(20, 20))(module) == expected
    module.preprocessing = PREPARED
    assert Scorer(study)(module) == expected
    assert Scorer(study, preprocessing={"mean": (0.5, 0.5, 0.5)})(module) != expected


def test_a_copy_of_a_scorer_scores_alike(study, module):
    scorer = Scorer(study, {"it": "conv2"}, preprocessing=PREPARED)
    scores = scorer(module)
    for copied in (copy.deepcopy(scorer), pickle.loads(pickle.dumps(scorer))):
        assert copied(module) == scores


def test_too_little_memory_is_an_error_of_one_sentence(study):
    class Hungry(SmallNetwork):
        hungry = False

        def forward(self, images):
            if self.hungry:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return super().forward(images)

    module = Hungry()
    scorer = Scorer(study, preprocessing=PREPARED)
    before = scorer(module)
    module.hungry = True
    with pytest.raises(MemoryError, match="cpu has too little memory for Hungry; pass max_memory"):
        scorer(module)
    module.hungry = False
    assert scorer(module) == before
    assert module.training


def test_scores_of_a_real_study_are_those_of_the_saved_file(challenge, tmp_path):
    torch.manual_seed(0)
    network = networks.resnet20()
    torch.save(network.state_dict(), tmp_path / "net.pth")
    arguments = {"sets": ["92"], "modality": "both", "preprocessing": {"size": 32}}
    (saved,) = score_checkpoints(
        [tmp_path / "net.pth"],
        ["models.networks:resnet20"],
        challenge,
        provider="torch:cpu",
        n_draws=0,
        **arguments,
    )
    assert not saved.error, saved.error
    scores = Scorer(challenge, **arguments)(network.train())
    for result in saved.results:
        place = f"brain/92/{result.region}/{result.layer}"
        assert scores[place] == pytest.approx(result.percent_nc, abs=1e-6)
    assert len(scores) == len(saved.results) + 4
