import dataclasses
import hashlib
import threading
import weakref

import numpy as np
import pytest
import reference
import torch
from scipy.stats import ttest_1samp

import fastrdm
from fastrdm import Target, square
from fastrdm.runtimes import Architecture
from fastrdm.scoring import Result, best_layers, layer_scores, score_checkpoints, sign_remarks
from fastrdm.studies import Study, algonauts, open_studies
from models.networks import efficientnet_lite0, efficientnet_lite0_weights

SMALL = "test_scoring_network:build"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Weights of a small network that can be imported from the current folder."""
    (tmp_path / "test_scoring_network.py").write_text(
        "import torch\n"
        "def build():\n"
        "    n = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(),\n"
        "                            torch.nn.AvgPool2d(27), torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
        "    n.taps = {'conv': '1', 'fc': '4'}\n"
        "    return n\n"
        "def broken():\n"
        "    raise KeyError('no luck')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import test_scoring_network

    torch.manual_seed(0)
    path = tmp_path / "small.pth"
    torch.save(test_scoring_network.build().state_dict(), path)
    return path


@pytest.fixture
def studies(tmp_path):
    """Two studies of noise: seven images, four subjects, both regions; the second has test images."""
    from PIL import Image

    rng = np.random.default_rng(0)
    images = []
    for i in range(7):
        images.append(tmp_path / f"image{i}.png")
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(images[-1])

    def study(name, test=()):
        targets = {r: Target(rng.random((4, 21)) + rng.random(21), name=r) for r in ("evc", "it")}
        return Study(name, tuple(images), targets, test_stimuli=tuple(test))

    return [study("a"), study("b", images[:5])]


def test_every_layer_and_region_is_scored(weights, studies):
    (scored,) = score_checkpoints([weights], [SMALL], studies)
    assert not scored.error
    keys = [(r.study, r.layer, r.region) for r in scored.results]
    expected = [(s, layer, r) for s in "ab" for layer in ("conv", "fc") for r in ("evc", "it")]
    assert sorted(keys) == sorted(expected) and {r.checkpoint for r in scored.results} == {
        str(weights)
    }


def test_scores_are_the_challenges(weights, studies):
    (scored,) = score_checkpoints([weights], [SMALL], studies)
    from fastrdm.runtimes import open_checkpoint

    rdms = open_checkpoint(weights, SMALL).rdms(studies[0].stimuli)
    for r in scored.results[:4]:
        subjects = studies[0].targets[r.region]._subjects[:, 0]
        rho, r2, p = reference.algonauts_score(square(rdms[r.layer]), square(subjects))
        got = [r.r2, r.std, r.sample_std, r.p, r.percent_nc]
        ceiling = studies[0].targets[r.region].ceiling
        expected = [r2, np.std(rho**2), np.std(rho**2, ddof=1), p, 100 * r2 / ceiling]
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_the_best_layer_has_the_best_mean_over_sets(weights, studies):
    (scored,) = score_checkpoints([weights], [SMALL], studies)
    by = {(r.study, r.layer, r.region): r for r in scored.results}
    scores = {
        layer: np.mean(
            [
                100
                * (by[s, layer, "evc"].r2 + by[s, layer, "it"].r2)
                / (by[s, layer, "evc"].ceiling + by[s, layer, "it"].ceiling)
                for s in "ab"
            ]
        )
        for layer in ("conv", "fc")
    }
    assert layer_scores(scored.results)["fmri"] == pytest.approx(scores)
    assert best_layers(scored.results) == {"fmri": max(scores, key=scores.get)}


def one(layer, region, value, rho, study="92"):
    return Result("x", study, layer, region, value, 0, 0, 100 * value, 0, value, 1, mean_rho=rho)


def test_a_best_layer_that_is_opposite_to_the_brain_is_reported():
    results = [
        one("conv", "evc", 0.04, -0.2), one("conv", "it", 0.09, -0.3),
        one("fc", "evc", 0.01, 0.1), one("fc", "it", 0.02, 0.14),
    ]  # fmt: skip
    assert best_layers(results) == {"fmri": "conv"}
    assert sign_remarks(results) == [
        "the best layer, conv, is opposite to the brain in EVC of 92 (mean rho -0.200), IT of 92 (mean rho -0.300);"
        " with signed scores the best is fc"
    ]
    assert layer_scores(results, signed=True)["fmri"] == pytest.approx({"conv": -6.5, "fc": 1.5})
    mixed = [one("conv", "evc", 0.01, -0.1), one("conv", "it", 0.09, 0.3), *results[2:]]
    (remark,) = sign_remarks(mixed)
    assert remark == "the best layer, conv, is opposite to the brain in EVC of 92 (mean rho -0.100)"
    assert sign_remarks(results[2:]) == []
    assert sign_remarks([dataclasses.replace(r, mean_rho=np.nan) for r in results]) == []


def test_older_results_have_no_sign():
    facts = dataclasses.asdict(one("conv", "evc", 0.04, -0.2))
    del facts["mean_rho"]
    assert np.isnan(Result(**facts).mean_rho) and Result(**facts).signed_value == 0.04


def test_results_have_the_mean_similarity(weights, studies):
    (scored,) = score_checkpoints([weights], [SMALL], studies)
    for r in scored.results:
        assert abs(r.mean_rho) <= np.sqrt(r.r2)
    assert any(r.mean_rho < 0 for r in scored.results)


def test_submissions_of_a_layer_opposite_to_the_brain_warn(weights, studies, tmp_path):
    with pytest.warns(RuntimeWarning, match="of the submission, the best layer, .*opposite to the"):
        list(score_checkpoints([weights], [SMALL], studies, submit=tmp_path / "out"))


def test_a_layer_without_a_score_is_never_best(weights, studies):
    (scored,) = score_checkpoints([weights], [SMALL], studies)
    best = best_layers(scored.results)["fmri"]
    without = [
        dataclasses.replace(r, value=float("nan")) if r.layer == best else r for r in scored.results
    ]
    assert best_layers(without)["fmri"] != best
    assert best_layers([dataclasses.replace(r, value=float("nan")) for r in without]) == {}


def test_constant_layers_have_no_score_but_the_others_do(weights, studies):
    state = torch.load(weights)
    state["4.weight"][:] = 0
    state["4.bias"][:] = 0
    torch.save(state, weights)
    with pytest.warns(RuntimeWarning, match="constant"):
        (scored,) = score_checkpoints([weights], [SMALL], studies)
    assert all(np.isnan(r.r2) == (r.layer == "fc") for r in scored.results)
    assert best_layers(scored.results) == {"fmri": "conv"}


def test_unreadable_weights_do_not_stop_the_rest(weights, studies, tmp_path):
    (tmp_path / "truncated.pth").write_bytes(weights.read_bytes()[:500])
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pth")
    names = [tmp_path / "missing.pth", tmp_path / "truncated.pth", tmp_path / "other.pth", weights]
    scored = list(score_checkpoints(names, [SMALL], studies))
    assert [bool(s.error) for s in scored] == [True, True, True, False]
    for s, word in zip(
        scored, ["no such file", "truncated, damaged", "missing: 0.weight"], strict=False
    ):
        assert s.checkpoint in s.error and word in s.error and "\n" not in s.error


def test_each_architecture_is_exported_once_and_a_failure_is_reported_for_all_its_weights(
    weights, studies, tmp_path, monkeypatch
):
    again = tmp_path / "again.pth"
    again.write_bytes(weights.read_bytes())
    exported, original = [], Architecture.export.__func__

    def export(cls, network, *arguments, **options):
        exported.append(network)
        return original(cls, network, *arguments, **options)

    monkeypatch.setattr(Architecture, "export", classmethod(export))
    names = [weights, weights, again, weights, again]
    broken = "test_scoring_network:broken"
    started = []
    scored = list(
        score_checkpoints(
            names, [SMALL, broken, SMALL, broken, SMALL], studies, on_start=started.append
        )
    )
    assert [s.checkpoint for s in scored] == [str(name) for name in names]
    # The last one is a copy of a checkpoint that was scored with the same architecture.
    assert started == [str(name) for name in names[:-1]]
    assert exported == [SMALL, broken]
    assert [bool(s.error) for s in scored] == [False, True, False, True, False]
    assert scored[1].error == scored[3].error
    assert "'test_scoring_network:broken' does not build a network: KeyError" in scored[1].error
    assert {s.sha256 for s in scored if not s.error} == {
        hashlib.sha256(weights.read_bytes()).hexdigest()
    }
    assert scored[1].sha256 == ""


def test_an_exported_file_as_architecture_has_the_same_scores(weights, studies, tmp_path):
    from test_scoring_network import build

    path = fastrdm.export_onnx(build(), tmp_path / "net.onnx")
    (expected,) = score_checkpoints([weights], [SMALL], studies)
    for scored in score_checkpoints([weights] * 2, [str(path)], studies):
        assert scored.results == expected.results


def test_a_checkpoint_is_released_before_the_one_after_the_next_is_opened(
    weights, studies, monkeypatch
):
    alive, held, original = weakref.WeakSet(), [], Architecture.open

    def open_(self, path, **options):
        held.append(len(alive))
        model = original(self, path, **options)
        alive.add(model)
        return model

    monkeypatch.setattr(Architecture, "open", open_)
    state, paths = torch.load(weights), []
    for i in range(5):
        state["4.bias"] = state["4.bias"] + 1
        paths.append(weights.with_name(f"{i}.pth"))
        torch.save(state, paths[-1])
    assert not any(s.error for s in score_checkpoints(paths, [SMALL], studies))
    # Whether the first still exists when the second is opened depends on timing.
    assert len(held) == 5 and max(held) <= 1


def test_a_generator_closed_early_leaves_no_thread(weights, studies):
    before = threading.active_count()
    sweep = score_checkpoints([weights] * 5, [SMALL], studies)
    next(sweep)
    sweep.close()
    assert threading.active_count() == before


def test_submissions_hold_the_best_layers_rdm(weights, studies, tmp_path):
    (scored,) = score_checkpoints([weights], [SMALL], studies, submit=tmp_path / "out")
    assert [p.name for p in scored.submissions] == ["submit_fmri.mat", "submit_fmri.zip"]
    from fastrdm.runtimes import open_checkpoint

    layer = best_layers(scored.results)["fmri"]
    expected = open_checkpoint(weights, SMALL).rdms(studies[1].test_stimuli)[layer]
    submitted = algonauts.read_submission(scored.submissions[0])
    np.testing.assert_allclose(submitted["evc"], expected, atol=1e-12)
    np.testing.assert_array_equal(submitted["evc"], submitted["it"])


def test_submissions_of_several_checkpoints_have_folders_of_their_own(weights, studies, tmp_path):
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / "small.pth"
    again.write_bytes(weights.read_bytes())
    scored = score_checkpoints([weights, again], [SMALL], studies, submit=tmp_path / "out")
    folders = [s.submissions[0].parent.name for s in scored]
    assert folders == ["001-small", "002-small"]


def test_mistakes_raise_before_work_starts(weights, studies, tmp_path):
    def begin(*arguments, **options):
        next(score_checkpoints(*arguments, on_start=pytest.fail, **options))

    with pytest.raises(ValueError, match="2 architectures for 3 checkpoints"):
        begin([weights] * 3, [SMALL] * 2, studies)
    with pytest.raises(ValueError, match="module 'nowhere' does not exist"):
        begin([weights], ["nowhere:resnet"], studies)
    with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such ONNX file"):
        begin([weights], [str(tmp_path / "none.onnx")], studies)
    with pytest.raises(ValueError, match="needs test images"):
        begin([weights], [SMALL], studies[:1], submit=tmp_path)
    foreign = dataclasses.replace(studies[1], targets={"v4": studies[1].targets["it"]})
    with pytest.raises(ValueError, match="challenge's regions, not for v4"):
        begin([weights], [SMALL], [foreign], submit=tmp_path)


def test_efficientnet_lite0_scores_as_plain_torch_numpy_and_scipy_do(challenge):
    """Every layer of a trained network on both training sets: R² within 1e-4."""
    from PIL import Image
    from scipy.spatial.distance import squareform
    from torchvision import transforms

    weights = efficientnet_lite0_weights()
    studies = open_studies(challenge, ["92", "118"])
    (scored,) = score_checkpoints([weights], ["models.networks:efficientnet_lite0"], studies)
    assert not scored.error
    got = {(r.study, r.layer, r.region): r for r in scored.results}

    network = efficientnet_lite0().eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    seen = {}
    for name, path in network.taps.items():
        network.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output})
        )
    resize = transforms.Resize((224, 224))
    checked = 0
    for study in studies:
        pixels = [
            np.asarray(resize(Image.open(p).convert("RGB")), np.float32) for p in study.stimuli
        ]
        images = torch.from_numpy((np.stack(pixels) - 127) / 128).permute(0, 3, 1, 2)
        parts = []
        with torch.no_grad():
            for batch in images.split(16):
                network(batch)
                parts.append({name: output.flatten(1).numpy() for name, output in seen.items()})
        for layer in network.taps:
            rdm = squareform(reference.calc_rdm(np.concatenate([p[layer] for p in parts])))
            for region, key in algonauts.REGIONS["fmri"].items():
                rho, r2, _ = reference.algonauts_score(rdm, _subjects(challenge, study.name, key))
                row = got[study.name, layer, region]
                assert row.r2 == pytest.approx(r2, abs=1e-4)
                assert row.percent_nc == pytest.approx(
                    100 * r2 / algonauts.CEILINGS[study.name][region], abs=0.1
                )
                assert row.p == pytest.approx(ttest_1samp(rho**2, 0).pvalue, rel=0.05)
                checked += 1
    assert checked == len(scored.results) == 2 * 2 * len(network.taps)


def _subjects(challenge, name, key):
    import h5py

    with h5py.File(challenge / "Training_Data" / f"{name}_Image_Set" / "target_fmri.mat") as file:
        return np.transpose(file[key])
