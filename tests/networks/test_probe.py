"""Activations for an image that depend on its batch or on the run are reported."""

import json
import re
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

import fastrdm
from fastrdm.cli import main
from fastrdm.images import Preprocessing
from fastrdm.networks import InconsistentError, Probes
from fastrdm.networks import probing as probe
from fastrdm.runtimes import OnnxModel, inspect_file, network_session
from fastrdm.scoring.sweeps import sweep

RNG = np.random.default_rng(0)
SIZE = Preprocessing((8, 8))
WEIGHTS = RNG.standard_normal((192, 5)).astype(np.float32)


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def write(path, nodes, constants=None, opset=17, batch="n", **arrays):
    """Write a file with an input x, the layers `flat` and `y`, and nodes between the layers."""
    arrays = {"w": WEIGHTS, **(constants or {}), **arrays}
    graph = helper.make_graph(
        [node("Flatten", "x", "flat"), *nodes],
        "any",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def open_(path, **options):
    return OnnxModel(path, "cpu", taps=["flat", "y"], preprocessing=SIZE, **options)


ONES = {name: np.ones(192, np.float32) for name in "abcd"}
TRAINING = {"ratio": np.float32(0.5), "training": np.array(True)}
QUANTISED = [
    node("DynamicQuantizeLinear", "flat", "q scale zero"),
    node("MatMulInteger", "q w8 zero", "i"),
    node("Cast", "i", "f", to=1),
    node("Mul", "f scale", "y"),
]
W8 = {"w8": RNG.integers(0, 255, (192, 5)).astype(np.uint8)}
JOINING = {
    "dynamic quantisation": (QUANTISED, W8, "DynamicQuantizeLinear"),
    "mean over the batch": (
        [node("ReduceMean", "flat", "m", axes=[0]), node("Sub", "flat m", "y")],
        {},
        "ReduceMean",
    ),
    "softmax over the batch": ([node("Softmax", "flat", "y", axis=0)], {}, "Softmax"),
    "transposed": (
        [
            node("Transpose", "flat", "t", perm=[1, 0]),
            node("Softmax", "t", "s", axis=1),
            node("Transpose", "s", "y", perm=[1, 0]),
        ],
        {},
        "Transpose",
    ),
    "the whole batch's norm": (
        [node("ReduceL2", "flat", "n", keepdims=1), node("Div", "flat n", "y")],
        {},
        "ReduceL2",
    ),
}
DRAWING = {
    "normal": (
        [node("RandomNormalLike", "flat", "r"), node("Add", "flat r", "y")],
        {},
        "RandomNormalLike",
    ),
    "normal with a seed": (
        [node("RandomNormalLike", "flat", "r", seed=1.0), node("Add", "flat r", "y")],
        {},
        "RandomNormalLike",
    ),
    "uniform": (
        [node("RandomUniform", "", "r", shape=[1, 192]), node("Add", "flat r", "y")],
        {},
        "RandomUniform",
    ),
    "dropout": (
        [node("Dropout", "flat ratio training", "y")],
        TRAINING,
        "Dropout in training mode",
    ),
    "bernoulli": (
        [node("Sigmoid", "flat", "p"), node("Bernoulli", "p", "y")],
        {},
        "Bernoulli",
    ),
    "multinomial": (
        [node("Multinomial", "flat", "d", sample_size=9), node("Cast", "d", "y", to=1)],
        {},
        "Multinomial",
    ),
}


@pytest.mark.parametrize("case", JOINING)
def test_a_layer_that_joins_images_is_refused_unless_alone_or_allowed(tmp_path, case):
    nodes, constants, cause = JOINING[case]
    path = write(tmp_path / "net.onnx", nodes, constants)
    with pytest.raises(InconsistentError) as caught:
        open_(path)
    told = str(caught.value)
    assert re.search(r"layer 'y' of .*net\.onnx for one image differ in a batch", told)
    assert re.search(r"the difference is [\d.e+]+ % of the layer's spread", told) and cause in told
    assert "--batch-size 1" in told and "--allow-inconsistent" in told and "\n" not in told
    images = RNG.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    alone = open_(path, batch_size=1)
    expected = np.concatenate([alone.activations(images[k : k + 1])["y"] for k in range(5)])
    np.testing.assert_array_equal(alone.activations(images)["y"], expected)
    with pytest.raises(ValueError, match="one image at a time, not on 2"):
        alone.run(np.zeros((2, 3, 8, 8), np.float32))
    with pytest.raises(ValueError, match="several answers, and images share batches on the device"):
        alone.rdms(images, where="device")
    allowed = open_(path, allow_inconsistent=True)
    with pytest.warns(RuntimeWarning, match="layer 'y' of .* for one image differ"):
        values = allowed.activations(images)
    assert not np.allclose(values["y"], expected, rtol=1e-4)
    with (
        pytest.raises(ValueError, match="several answers, and images share batches on the device"),
        pytest.warns(RuntimeWarning),
    ):
        allowed.rdms(images, where="device")


@pytest.mark.parametrize("case", DRAWING)
def test_a_layer_that_draws_random_numbers_is_refused_with_any_batch_size(tmp_path, case):
    nodes, constants, cause = DRAWING[case]
    path = write(tmp_path / "net.onnx", nodes, constants)
    for batch_size in (1, 32):
        with pytest.raises(
            InconsistentError, match=re.escape(f"from run to run ({cause})")
        ) as caught:
            open_(path, batch_size=batch_size)
        assert "layer 'y'" in str(caught.value) and "--batch-size 1" not in str(caught.value)
    with pytest.warns(RuntimeWarning, match="for one image differ from run to run"):
        open_(path, allow_inconsistent=True).rdms(RNG.integers(0, 256, (3, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(("opset", "n_outputs"), [(17, 3), (9, 5)])
def test_batch_norm_left_in_training_mode_is_refused(tmp_path, opset, n_outputs):
    outputs = " ".join(["y", "m", "v", "sm", "sv"][:n_outputs])
    mode = {"training_mode": 1} if opset > 9 else {}
    nodes = [node("BatchNormalization", "flat a b c d", outputs, **mode)]
    path = write(tmp_path / "net.onnx", nodes, ONES, opset)
    with pytest.raises(InconsistentError, match=r"layer 'y' .*BatchNormalization in training"):
        open_(path)


def test_random_numbers_behind_a_branch_are_found(tmp_path):
    branches = {
        name: helper.make_graph(
            [node("Concat", "one drawn", name, axis=1)],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    }
    nodes = [
        node("Slice", "flat start end axis", "one"),
        node("Multinomial", "one", "d", sample_size=1),
        node("Cast", "d", "drawn", to=1),
        node("If", "yes", "y", then_branch=branches["then"], else_branch=branches["else"]),
    ]
    constants = {name: np.array([k]) for name, k in (("start", 0), ("end", 1), ("axis", 1))}
    path = write(tmp_path / "net.onnx", nodes, {**constants, "yes": np.array(True)})
    with pytest.raises(InconsistentError, match=r"layer 'y' .*\(Multinomial\)"):
        open_(path)


def test_random_numbers_that_happen_to_agree_are_refused_too(tmp_path):
    # With one class, all draws are equal.
    nodes = [
        node("Slice", "flat start end axis", "one"),
        node("Multinomial", "one", "d", sample_size=1),
        node("Cast", "d", "drawn", to=1),
        node("Concat", "drawn flat", "y", axis=1),
    ]
    places = {name: np.array([k]) for name, k in (("start", 0), ("end", 1), ("axis", 1))}
    with pytest.raises(InconsistentError, match=r"\(Multinomial\): the difference is 0 %"):
        open_(write(tmp_path / "net.onnx", nodes, places))


PLAIN = {
    "product": ([node("MatMul", "flat w", "y")], {}),
    "dropout in evaluation": (
        [node("Dropout", "flat ratio training", "y")],
        {**TRAINING, "training": np.array(False)},
    ),
    "norm in evaluation": ([node("BatchNormalization", "flat a b c d", "y")], ONES),
    "constant": ([node("Mul", "flat nought", "y")], {"nought": np.float32(0)}),
    "hardly varying": (
        [node("MatMul", "flat w", "p"), node("Mul", "p tiny", "t"), node("Add", "t much", "y")],
        {"tiny": np.float32(1e-6), "much": np.float32(1000)},
    ),
    "half precision": (
        [node("Cast", "flat", "h", to=10), node("MatMul", "h wh", "g"), node("Cast", "g", "y", to=1)],
        {"wh": WEIGHTS.astype(np.float16)},
    ),
    "softmax over channels": ([node("Softmax", "flat", "y", axis=-1)], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", PLAIN)
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_consistent_networks_open_without_a_warning(tmp_path, case, batch_size):
    path = write(tmp_path / "net.onnx", *PLAIN[case])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = open_(path, batch_size=batch_size)
        model.activations(RNG.integers(0, 256, (3, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_files_of_a_fixed_batch_are_probed_in_batches_of_that_size(tmp_path, batch):
    path = write(tmp_path / "net.onnx", [node("MatMul", "flat w", "y")], batch=batch)
    assert open_(path).batch_size == batch
    path = write(tmp_path / "joins.onnx", *JOINING["softmax over the batch"][:2], batch=batch)
    if batch == 1:
        assert open_(path).batch_size == 1
    else:
        with pytest.raises(InconsistentError, match="in a batch"):
            open_(path)


INNER = {
    "features": ([node("Reshape", "flat shape", "r"), node("MatMul", "r w", "y")], [1, 192]),
    "any number": ([node("Reshape", "flat shape", "y")], [1, -1]),
    "grid": ([node("Reshape", "flat shape", "r"), node("Relu", "r", "y")], [1, 12, 16]),
}


@pytest.mark.parametrize("case", INNER)
def test_files_with_inner_shapes_for_one_image_run_with_batch_size_1(tmp_path, case):
    nodes, shape = INNER[case]
    path = write(tmp_path / "net.onnx", nodes, {"shape": np.array(shape)})
    with pytest.raises(ValueError, match=r"probe.*fixed for one image; try batch_size=1 \(--batch"):
        open_(path)
    model = open_(path, batch_size=1)
    images = RNG.integers(0, 256, (4, 8, 8, 3), np.uint8)
    values = model.activations(images)
    assert len(values["y"]) == 4 and np.ptp(values["y"], axis=0).any()
    assert set(model.rdms(images)) == {"flat", "y"}


def test_an_exported_file_with_inner_shapes_for_one_image(tmp_path):
    nodes, shape = INNER["features"]
    path = write(tmp_path / "net.onnx", nodes, {"shape": np.array(shape)})
    own = tmp_path / "own.onnx"
    model = onnx.load(path)
    model.graph.node[0].input[0] = model.graph.input[0].name = "images"
    facts = {"layers": json.dumps(["y"]), "preprocessing": SIZE.to_json(), "architecture": "own"}
    helper.set_model_props(model, {f"fastrdm.{key}": value for key, value in facts.items()})
    onnx.save(model, own)
    with pytest.raises(
        ValueError, match=r"own\.onnx does not run on a probe of 3 images.*batch_size"
    ):
        OnnxModel(own, "cpu")
    images = RNG.integers(0, 256, (4, 8, 8, 3), np.uint8)
    assert len(OnnxModel(own, "cpu", batch_size=1).activations(images)["y"]) == 4


def test_the_tensors_of_such_a_file_are_listed(tmp_path):
    nodes, shape = INNER["features"]
    path = write(tmp_path / "net.onnx", nodes, {"shape": np.array(shape)})
    assert inspect_file(path)[0].layers["y"].shape == (5,)


@pytest.fixture
def counted(monkeypatch):
    """Number of probes of a network."""
    calls = []
    real = probe.pictures
    monkeypatch.setattr(probe, "pictures", lambda p: calls.append(p) or real(p))
    return calls


def test_checkpoints_of_one_graph_are_probed_once(tmp_path, counted):
    probes = Probes()
    for k in range(3):
        weights = {"w": WEIGHTS + k}
        path = write(tmp_path / f"{k}.onnx", [node("MatMul", "flat w", "y")], **weights)
        open_(path, probes=probes)
    assert len(counted) == 1
    open_(path, probes=probes, batch_size=2)
    open_(write(tmp_path / "o.onnx", [node("Gemm", "flat w", "y")]), probes=probes)
    assert len(counted) == 3


def test_weights_that_hide_an_operator_do_not_vouch_for_others(tmp_path, counted):
    nodes = [
        node("ReduceMean", "flat", "m", axes=[0]),
        node("Mul", "m share", "s"),
        node("Add", "flat s", "y"),
    ]
    probes = Probes()
    open_(write(tmp_path / "a.onnx", nodes, share=np.float32(0)), probes=probes)
    with pytest.raises(InconsistentError, match="ReduceMean"):
        open_(write(tmp_path / "b.onnx", nodes, share=np.float32(1)), probes=probes)


def test_a_switch_among_the_weights_is_checked_in_each_checkpoint(tmp_path):
    nodes, probes = [node("Dropout", "flat ratio training", "y")], Probes()
    quiet = {**TRAINING, "training": np.array(False)}
    open_(write(tmp_path / "a.onnx", nodes, quiet), probes=probes)
    with pytest.raises(InconsistentError, match="Dropout"):
        open_(write(tmp_path / "b.onnx", nodes, TRAINING), probes=probes)


def test_a_network_with_constant_layers_does_not_vouch_for_others(tmp_path, counted):
    nodes, probes = [node("MatMul", "flat w", "y")], Probes()
    for k, w in enumerate((0 * WEIGHTS, np.nan * WEIGHTS, WEIGHTS)):
        open_(write(tmp_path / f"{k}.onnx", nodes, w=w), probes=probes)
    assert len(counted) == 3 and probes.passed


class Joining(torch.nn.Module):
    """A network that subtracts the mean over the batch, depending on its weights."""

    preprocessing = SIZE
    taps = ("conv", "out")

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.share = torch.nn.Parameter(torch.zeros(()))
        self.out = torch.nn.Flatten()

    def forward(self, x):
        x = self.conv(x)
        return self.out(x - self.share * x.mean(0, keepdim=True))


@pytest.fixture
def study(tmp_path):
    from PIL import Image

    (tmp_path / "study" / "stimuli").mkdir(parents=True)
    for k in range(5):
        pixels = RNG.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "study" / "stimuli" / f"{k}.png")
    rdms = RNG.random((4, 5, 5))
    np.save(tmp_path / "study" / "it.npy", rdms + rdms.transpose(0, 2, 1))
    settings = 'order = "sorted"\n[targets.it]\nfile = "it.npy"\n'
    (tmp_path / "study" / "study.toml").write_text(settings)
    network = Joining()
    fastrdm.export_onnx(network, tmp_path / "net.onnx")
    save_file(network.state_dict(), tmp_path / "epoch0.safetensors")
    network.share.data += 0.5
    save_file(network.state_dict(), tmp_path / "epoch1.safetensors")
    return tmp_path


def test_score_refuses_one_checkpoint_and_scores_it_when_asked(study, capsys, monkeypatch):
    monkeypatch.chdir(study)
    arguments = ["score", "epoch0.safetensors", "epoch1.safetensors", "--arch", "net.onnx"]
    arguments += ["--data", "study", "--quiet", "--json", "--bootstrap", "0"]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert {row["checkpoint"] for row in json.loads(out)["results"]} == {"epoch0.safetensors"}
    assert "activations of layer 'out' of epoch1.safetensors for one image differ" in err
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*arguments, "--allow-inconsistent"]) == 0
    out, err = capsys.readouterr()
    assert len({row["checkpoint"] for row in json.loads(out)["results"]}) == 2
    assert "warning: activations of layer 'out' of epoch1.safetensors for one image differ" in err
    assert main([*arguments, "--batch-size", "1"]) == 0


def test_sweep_refuses_it_and_an_allowed_one_is_another_method(study, monkeypatch):
    monkeypatch.chdir(study)
    weights = ["epoch0.safetensors", "epoch1.safetensors"]
    summary = sweep(weights, "net.onnx", "study", store="s.db")
    assert (summary.scored, summary.failed) == (1, 1)
    events = []
    again = sweep(
        weights,
        "net.onnx",
        "study",
        store="s.db",
        allow_inconsistent=True,
        on_event=events.append,
    )
    assert (again.scored, again.failed) == (2, 0)
    warned = [w for e in events if e["event"] == "scored" for w in e["warnings"]]
    assert len(warned) == 1 and "epoch1.safetensors" in warned[0]


def test_providers_that_compile_for_each_size_are_probed_at_the_size_of_their_batches(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(network_session, "_COMPILING", {"cpu"})
    shapes = []
    filled = network_session.NetworkSession.filled

    def watched(self, *arguments):
        batch = filled(self, *arguments)
        shapes.append(len(batch))
        return batch

    monkeypatch.setattr(network_session.NetworkSession, "filled", watched)
    open_(write(tmp_path / "net.onnx", [node("MatMul", "flat w", "y")]), batch_size=7)
    assert set(shapes) == {7}


def test_stimuli_are_shown_on_the_background_of_their_study(study, capsys, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(study)
    for k in range(5):
        pixels = RNG.integers(0, 256, (8, 8, 4), np.uint8)
        Image.fromarray(pixels).save(study / "study" / "stimuli" / f"{k}.png")
    arguments = ["score", "epoch0.safetensors", "--arch", "net.onnx", "--data", "study"]
    arguments += ["--quiet", "--json", "--bootstrap", "0"]
    assert main(arguments) == 1
    assert re.search(r"0\.png cannot be read .*transparent", capsys.readouterr().err)
    settings = (study / "study" / "study.toml").read_text()
    seen = []
    for colour in ("#000000", "#ff00ff"):
        (study / "study" / "study.toml").write_text(f'background = "{colour}"\n{settings}')
        assert main(arguments) == 0
        seen.append(json.loads(capsys.readouterr().out)["results"][0]["r2"])
        summary = sweep("epoch0.safetensors", "net.onnx", "study", store="s.db")
        assert summary.scored == 1
    assert seen[0] != seen[1]
