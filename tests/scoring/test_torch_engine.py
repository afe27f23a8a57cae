"""Sweeps whose networks run as modules of torch: built once, with the weights of each file loaded into them."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_study import write_study

import fastrdm
from fastrdm.cli import main
from fastrdm.runtimes import device, torch_gpu_of, torch_provider
from fastrdm.scoring import (
    Sweep,
    accelerators,
    local_pool,
    module_pipeline,
    score_checkpoints,
    worker,
)
from fastrdm.scoring.jobs import Failed, Job, Scored

NETWORK = """
import torch
from fastrdm.images import Preprocessing

built = 0

class Sampled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, 2)
        self.norm = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, 10)
        self.preprocessing = Preprocessing((16, 16))
        self.taps = {"conv": "conv", "norm": "norm"}

    def forward(self, images):
        values = self.norm(self.conv(images))
        return self.fc(values.mean((2, 3)))

def build():
    global built
    built += 1
    return Sampled()

class Branching(Sampled):
    def forward(self, images):
        values = self.norm(self.conv(images))
        # Which exporters cannot follow.
        if values.mean() > 1e6:
            values = values * 2
        return self.fc(values.mean((2, 3)))

class Stateful(Sampled):
    def get_extra_state(self):
        return {"step": 3}

    def set_extra_state(self, state):
        pass

def unexportable():
    return Branching()

def random():
    network = Sampled()
    network.noise = torch.rand(4)
    return network
"""
ARCH = "torch_engine_net:build"


def module():
    names = {}
    exec(NETWORK, names)
    return names["build"]()


def module_of(name):
    """The network of the file that sweeps import."""
    return importlib.import_module(name).build()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: torch_engine_net.py, runs/ with checkpoints of several formats, study/."""
    (tmp_path / "torch_engine_net.py").write_text(NETWORK)
    write_study(tmp_path / "study", regions=("evc", "it"), size=(20, 20))
    runs = tmp_path / "runs"
    runs.mkdir()
    for i in range(5):
        torch.manual_seed(i)
        network = module()
        network.norm.running_mean.uniform_(-1, 1)
        network.norm.running_var.uniform_(0.5, 2)
        torch.save({"state_dict": network.state_dict(), "epoch": i}, runs / f"epoch{i}.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("torch_engine_net", None)
    yield tmp_path
    sys.modules.pop("torch_engine_net", None)


def scores_of(provider, weights="runs", arch=ARCH, **options):
    weights = [weights] if isinstance(weights, str) else weights
    found = list(
        score_checkpoints(weights, [arch], "study", provider=provider, n_draws=0, **options)
    )
    assert not [scored.error for scored in found if scored.error]
    return found


def values(scores):
    return np.array([[r.percent_nc for r in scored.results] for scored in scores])


def test_scores_by_torch_are_those_by_onnx_runtime(folder):
    ours, theirs = scores_of("torch"), scores_of("cpu")
    assert [s.sha256 for s in ours] == [s.sha256 for s in theirs]
    names = [[(r.layer, r.region, r.study) for r in s.results] for s in (ours[0], theirs[0])]
    assert names[0] == names[1]
    np.testing.assert_allclose(values(ours), values(theirs), rtol=1e-3, atol=1e-3)
    assert len(np.unique(values(ours)[:, 0])) == 5


@pytest.fixture
def on_device(monkeypatch):
    """Let workers treat torch on the CPU as a device: work is started ahead, and checkpoints opened by threads."""
    monkeypatch.setattr(local_pool, "Worker", lambda setup: worker.Worker(setup, "device"))
    monkeypatch.setattr("fastrdm.scoring.worker.has_device", lambda provider: True)
    monkeypatch.setattr("fastrdm.scoring.worker._MOST_AHEAD", 3)


@pytest.mark.parametrize("where", ["host", "device"])
def test_a_network_is_built_once_for_all_checkpoints(folder, where, request):
    expected = values(scores_of("torch"))
    if where == "device":
        request.getfixturevalue("on_device")
    import torch_engine_net

    before = torch_engine_net.built
    found = scores_of("torch:cpu")
    np.testing.assert_allclose(values(found), expected, rtol=1e-3, atol=1e-3)
    # Twice when the sweep looks at it, once by the worker.
    assert torch_engine_net.built - before == 3


def test_a_bad_checkpoint_fails_alone(folder, on_device):
    good = values(scores_of("torch"))
    path = folder / "runs" / "epoch1.pth"
    state = torch.load(path)["state_dict"]
    state["conv.weight"][0] = torch.nan
    torch.save(state, folder / "runs" / "epoch1.pth")
    (folder / "runs" / "epoch3.pth").write_bytes(path.read_bytes()[:400])
    found = list(score_checkpoints(["runs"], [ARCH], "study", provider="torch", n_draws=0))
    assert [bool(scored.error) for scored in found] == [False, True, False, True, False]
    assert "layer 'conv' has NaN" in found[1].error and "epoch1.pth" in found[1].error
    np.testing.assert_array_equal(values(found[::2]), good[::2])


def test_a_network_that_cannot_be_exported_runs(folder):
    arch = "torch_engine_net:unexportable"
    with pytest.raises(ValueError, match="cannot be exported.*--provider torch"):
        scores_of("cpu", arch=arch)
    assert len(scores_of("torch", arch=arch)) == 5


@pytest.mark.parametrize("provider", ["torch", "cpu"])
def test_a_network_with_extra_state_is_refused_for_files(folder, provider):
    with pytest.raises(ValueError, match="'_extra_state' in the state dict of Stateful is a dict"):
        scores_of(provider, arch="torch_engine_net:Stateful")


def test_inconsistent_results_in_batches_of_the_default_size_have_their_own_key(folder):
    options = {"provider": "torch", "allow_inconsistent": True, "engine": "in-process"}
    for size, n_scored in [(None, 1), (32, 1), (None, 0)]:
        summary = fastrdm.sweep(
            ["runs/epoch0.pth"], [ARCH], "study", store="keys.db", batch_size=size, **options
        )
        assert summary.scored == n_scored


def test_a_network_that_differs_between_builds_is_refused(folder):
    (failed,) = score_checkpoints(
        ["runs/epoch0.pth"], ["torch_engine_net:random"], "study", provider="torch"
    )
    assert "builds another network than when the sweep began" in failed.error


def test_what_is_taken_of_files_is_the_same(folder):
    path = folder / "head.pth"
    state = torch.load("runs/epoch0.pth")["state_dict"]
    del state["fc.weight"], state["fc.bias"], state["norm.num_batches_tracked"]
    averaged = {f"module.{name}": value + 1 for name, value in state.items()}
    torch.save({"model": state, "model_ema": averaged}, path)
    found = []
    for provider in ("torch", "cpu"):
        with pytest.warns(RuntimeWarning, match="left out fc") as caught:
            found.append(scores_of(provider, str(path)))
        found[-1].append(sorted(str(each.message) for each in caught))
    (ours, our_texts), (theirs, their_texts) = found
    assert our_texts == their_texts
    np.testing.assert_allclose(values([ours]), values([theirs]), rtol=1e-3, atol=1e-3)
    with pytest.warns(RuntimeWarning):
        ema = scores_of("torch", str(path), ema=True)
    assert not np.allclose(values(ema), values([ours]))
    del state["conv.bias"]
    torch.save(state, path)
    (failed,) = score_checkpoints([path], [ARCH], "study", provider="torch")
    assert "does not fit torch_engine_net:build; missing: conv.bias" in failed.error


def test_results_by_torch_have_keys_of_their_own(folder):
    def scored(provider, **options):
        return fastrdm.sweep(
            "runs",
            ARCH,
            "study",
            store="scores.db",
            engine="in-process",
            provider=provider,
            **options,
        ).scored

    assert scored("cpu") == 5
    assert scored("torch") == 5
    assert scored("torch:cpu") == scored("cpu") == 0
    assert scored("torch", taps=["norm"]) == 5
    assert scored("torch", provider_options={"channels_last": "true"}) == 5
    with fastrdm.Store("scores.db") as store:
        place = list(store.columns()).index("provider")
        assert {row[place] for row in store.rows()} == {"cpu", "torch:cpu"}


def test_a_finished_sweep_by_torch_imports_no_torch(folder):
    arguments = ["sweep", "runs", "--arch", ARCH, "--data", "study", "--store", "scores.db"]
    arguments += ["--provider", "torch"]
    code = (
        "import sys; from fastrdm.cli import main; status = main(sys.argv[1:]);"
        "print('torch' in sys.modules); sys.exit(status)"
    )
    ended = [
        subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert "5 scored" in ended[0].stderr and " on torch:cpu" in ended[0].stderr
    assert "nothing to do" in ended[1].stderr and ended[1].stdout.split() == ["False"]


def test_graphs_are_not_for_torch(folder):
    sys.path.insert(0, str(folder))
    fastrdm.export_onnx(module(), "net.onnx")
    with pytest.raises(ValueError, match=r"given as module:callable, not the graph net\.onnx"):
        list(score_checkpoints(["runs"], ["net.onnx"], "study", provider="torch"))
    with pytest.raises(ValueError, match=r"net\.onnx: provider 'torch:cpu' runs networks given as"):
        list(score_checkpoints(["net.onnx"], (), "study", provider="torch:cpu"))
    with pytest.raises(ValueError, match="provider 'torch' runs modules of torch, not ONNX"):
        fastrdm.OnnxModel("net.onnx", "torch")


@pytest.mark.parametrize(
    ("provider", "options", "match"),
    [
        ("torch:cuda:77", {}, "device 'cuda:77' is not available"),
        ("torch:abacus", {}, "device 'abacus' is not available"),
        ("torch", {"precision": "tf32"}, "'tf32' needs a CUDA device"),
        ("torch", {"provider_options": {"speed": "1"}}, "no option 'speed'; it has channels_last"),
        ("torch", {"provider_options": {"compile": "2"}}, "'compile' of provider 'torch' must be"),
        ("torch", {"provider_options": {"cuda_graph": "1"}}, "'cuda_graph' needs a CUDA device"),
    ],
)
def test_what_torch_cannot_do_is_refused_before_work(folder, provider, options, match):
    with pytest.raises(ValueError, match=match):
        list(score_checkpoints(["runs"], [ARCH], "study", provider=provider, **options))


def test_auto_takes_torch_where_there_is_a_gpu_for_it(folder, monkeypatch):
    monkeypatch.setattr(torch_provider, "has_gpu", lambda build: True)
    monkeypatch.setattr(torch_provider, "_built_for", lambda build: build == "cuda")
    assert torch_gpu_of("auto") == torch_gpu_of("torch:cuda:1") == "cuda"
    assert torch_gpu_of("torch:cpu") == torch_gpu_of("torch:xpu") == ""
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch cannot use it .*--provider cpu"):
            scores_of("auto", "runs/epoch0.pth")


def test_hidden_gpus_and_builds_without_gpus_do_not_count(monkeypatch, tmp_path):
    monkeypatch.setattr(torch_provider, "run_program", lambda *command: "GPU 0: a model")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert torch_provider.has_gpu("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not torch_provider.has_gpu("cuda")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    (tmp_path / "version.py").write_text("cuda = None\nhip = '6.4'\n")
    monkeypatch.setattr(torch_provider.importlib.util, "find_spec", lambda name: spec)
    assert torch_provider._built_for("hip") and not torch_provider._built_for("cuda")
    monkeypatch.setattr(torch_provider.importlib.util, "find_spec", lambda name: None)
    assert not torch_provider._built_for("hip")


def test_each_gpu_of_the_build_has_a_worker_but_a_named_one_is_shared(monkeypatch):
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(accelerators, "run_program", lambda *command: "0\n1\n")
    monkeypatch.setattr(accelerators, "torch_gpu_of", lambda provider: "cuda")
    found = accelerators.accelerators
    assert found("torch") == ("CUDA_VISIBLE_DEVICES", ["0", "1"])
    assert found("torch:cuda:1") == found("torch:cpu") == ("", [])
    monkeypatch.setattr(accelerators, "torch_gpu_of", lambda provider: "hip")
    assert found("torch") == ("HIP_VISIBLE_DEVICES", ["0", "1"])
    monkeypatch.setattr(accelerators, "torch_gpu_of", lambda provider: "")
    assert found("torch") == ("", [])


def test_the_command_line_names_the_provider_in_use(folder, capsys):
    arguments = ["runs/epoch0.pth", "--arch", ARCH, "--data", "study", "--bootstrap", "0"]
    assert main(["score", *arguments, "--provider", "torch", "--json"]) == 0
    assert "networks run on torch:cpu\n" in capsys.readouterr().err


def test_one_session_on_a_device_takes_the_weights_of_all_files(folder, monkeypatch):
    expected = values(scores_of("torch"))
    made, original = [], device.DeviceModel.__init__

    def counted(self, *arguments, **options):
        made.append(arguments[1])
        original(self, *arguments, **options)

    monkeypatch.setattr("fastrdm.runtimes.onnx_model.suits", lambda provider, method: True)
    monkeypatch.setattr("fastrdm.runtimes.device.DeviceModel.__init__", counted)
    found = values(scores_of("cpu"))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert made == [("conv", "norm")]


def test_workers_know_as_many_following_jobs_as_they_ask_for(folder, on_device, monkeypatch):
    seen, original = [], worker.Worker.score

    def score(self, job, following=(), name=""):
        seen.append((job.path, [each.path for each in following]))
        return original(self, job, following, name)

    monkeypatch.setattr(worker.Worker, "score", score)
    monkeypatch.setattr("fastrdm.scoring.worker.kernels", lambda: type("K", (), {"n_threads": 8}))
    scores_of("torch")
    paths = [f"runs/epoch{i}.pth" for i in range(5)]
    assert seen == [(paths[i], paths[i + 1 : i + 4]) for i in range(5)]


def test_a_file_that_changes_after_the_device_began_with_it_is_read_again(folder):
    with Sweep(["runs"], [ARCH], "study", provider="torch", engine="in-process") as sweep:
        one = worker.Worker(sweep._worker_setup(), "device")
        first, second = (Job(f"runs/epoch{i}.pth", 0) for i in range(2))
        expected = one.score(second)
        one._openings.keep_ahead([second])
        one._openings.look(second).result()
        assert isinstance(one.score(first, [second]), Scored)
        assert one._started.opened is one._openings.look(second).result()
        assert isinstance(one.score(Job("runs/none.pth", 0)), Failed)
        (folder / "runs" / "epoch1.pth").write_bytes((folder / "runs" / "epoch2.pth").read_bytes())
        changed = one.score(second)
        assert changed.sha256 == one.score(Job("runs/epoch2.pth", 0)).sha256 != expected.sha256
        key = ("study", "it", "rsa")
        assert not np.allclose(changed.scores[key].rho, expected.scores[key].rho)
        one.close()


def test_results_of_training_have_the_keys_of_a_sweep_by_torch(folder):
    with Sweep(["runs"], [ARCH], "study", provider="torch", engine="in-process") as sweep:
        assert module_pipeline("net", module_of("torch_engine_net")).key == sweep.pipeline(0).key


def test_only_what_follows_is_open_ahead(folder):
    from fastrdm.scoring.opening import Openings

    class Weights:
        released = 0

        def release(self):
            Weights.released += 1

    setup = type("Setup", (), {"networks": (), "options": None})
    openings = Openings(setup, 2)
    openings._openers[0] = type("Opener", (), {"is_swapped": True})
    openings._openers[1] = type("Opener", (), {"is_swapped": False})
    facts = {"sha256": "", "weights": Weights()}
    openings._open = lambda job: type("Opened", (), facts)
    jobs = [Job(f"runs/epoch{i}.pth", 0) for i in range(3)]
    openings.keep_ahead(jobs)
    for job in jobs:
        openings.look(job).result()
    openings.keep_ahead(jobs[1:2])
    assert Weights.released == 2 and openings.look(jobs[0]) is None
    assert openings.take(jobs[1])[1].done()
    own = [Job(f"runs/epoch{i}.onnx", 1) for i in range(3)]
    openings.keep_ahead(own)
    assert [openings.look(job) is not None for job in own] == [True, False, False]
    openings.close()
