import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from fastrdm._base import MissingExtraError
from fastrdm.images import Preprocessing
from fastrdm.networks import export_onnx
from fastrdm.rdm import SparseProjection, calc_rdm
from fastrdm.runtimes import OnnxModel, onnx_model

nn = torch.nn


class Root(nn.Module):
    """Negative for negative input, for which the third layer has no real root."""

    def forward(self, x):
        return torch.sqrt(x)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
    preprocessing = Preprocessing((9, 9), "pil-bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    return export_onnx(
        network,
        tmp_path_factory.mktemp("network") / "network.onnx",
        {"conv": "0", "relu": "1", "fc": "3"},
        preprocessing=preprocessing,
        architecture="tiny",
    )


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(0).integers(0, 256, (7, 20, 15, 3), dtype=np.uint8))


@pytest.fixture
def model(path):
    return OnnxModel(path, "cpu", batch_size=3, n_threads=1)


def test_metadata_of_the_file(model):
    assert model.layers == ("conv", "relu", "fc")
    assert model.preprocessing.size == (9, 9)
    assert model.preprocessing.resize == "pil-bicubic"
    assert (model.architecture, model.provider, model.precision) == ("tiny", "cpu", "fp32")
    assert repr(model) == "<OnnxModel tiny, 3 layers, on cpu>"


@pytest.mark.parametrize("batch_size", [1, 3, 7, 32])
def test_activations_equal_torch_for_any_batch_size(path, network, pictures, batch_size):
    got = OnnxModel(path, batch_size=batch_size, n_threads=1).activations(pictures)
    batch = torch.from_numpy(OnnxModel(path).preprocessing.load(pictures))
    with torch.no_grad():
        expected = {"conv": network[0](batch), "relu": network[:2](batch), "fc": network(batch)}
    assert list(got) == list(expected)
    for layer, values in expected.items():
        assert got[layer].dtype == np.float32
        np.testing.assert_allclose(got[layer], values.numpy(), rtol=1e-4, atol=1e-5)


def test_rdms_of_the_flattened_activations(model, pictures):
    activations, rdms = model.activations(pictures), model.rdms(pictures)
    assert list(rdms) == ["conv", "relu", "fc"]
    for layer, rdm in rdms.items():
        expected = calc_rdm(activations[layer].reshape(7, -1))
        np.testing.assert_array_equal(rdm, expected)
        assert rdm.shape == (21,)
    np.testing.assert_allclose(
        rdms["fc"], (1 - np.corrcoef(activations["fc"]))[np.triu_indices(7, 1)], atol=1e-6
    )
    with pytest.raises(ValueError, match="'no such method'"):
        model.rdms(pictures, "no such method")


def test_max_memory(model, pictures, monkeypatch):
    whole = model.rdms(pictures)
    # Room for everything, then for some channels at a time, in batches of one.
    np.testing.assert_equal(model.rdms(pictures, max_memory="1MiB"), whole)
    passes = []
    real = onnx_model.plan_passes
    monkeypatch.setattr(
        onnx_model, "plan_passes", lambda *a, **k: passes.append(real(*a, **k)) or passes[-1]
    )
    for bound in (11_000, 7_200):
        parts = model.rdms(pictures, max_memory=bound)
        assert list(parts) == list(whole)
        for layer, rdm in whole.items():
            np.testing.assert_allclose(parts[layer], rdm, rtol=0, atol=1e-6)
    with pytest.raises(
        ValueError, match=r"max_memory of 700 bytes is too small .*; \d+ bytes suffice"
    ):
        model.rdms(pictures, max_memory=700)
    with pytest.raises(ValueError, match="max_memory 'much' is not a number of bytes"):
        model.rdms(pictures, max_memory="much")


def test_the_error_of_a_small_max_memory_gives_a_sufficient_one(model, pictures):
    for method in ("correlation", "spearman"):
        with pytest.raises(ValueError) as caught:
            model.rdms(pictures, method, max_memory=1000)
        enough = int(str(caught.value).split("; ")[1].split()[0])
        found = model.rdms(pictures, method, max_memory=enough)
        for layer, rdm in model.rdms(pictures, method).items():
            np.testing.assert_allclose(found[layer], rdm, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["mahalanobis", "crossnobis"])
def test_methods_that_need_more_than_activations(model, pictures, method):
    with pytest.raises(ValueError, match=f"'{method}' needs (precision|folds)"):
        model.rdms(pictures, method)


def test_warnings_of_constant_conditions_name_the_layer(model, pictures):
    pictures = [np.zeros((9, 9, 3), np.uint8), *pictures]
    blank = Preprocessing((9, 9), mean=(0.0,) * 3, std=(1.0,) * 3)
    network = nn.Sequential(nn.ReLU())
    path = model._graph.source.parent / "relu.onnx"
    export_onnx(network, path, {"relu": "0"}, preprocessing=blank)
    with pytest.warns(RuntimeWarning, match=r"layer 'relu': .*NaN: 0"):
        rdm = OnnxModel(path).rdms(pictures)["relu"]
    assert np.isnan(rdm[:7]).all()


def test_shapes_of_one_image(model):
    assert model.shapes == {"conv": (4, 4, 4), "relu": (4, 4, 4), "fc": (5,)}


def test_chosen_layers_in_the_requested_order(model, pictures):
    assert list(model.activations(pictures, ["fc", "conv"])) == ["fc", "conv"]
    assert list(model.rdms(pictures, layers=["relu"])) == ["relu"]


def test_paths_and_pil_images(model, pictures, tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(7)]
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture).save(file)
    expected = model.activations(pictures)["fc"]
    for images in (files, [Image.fromarray(picture) for picture in pictures]):
        np.testing.assert_array_equal(model.activations(images)["fc"], expected)


def test_run_takes_a_normalised_batch(model, pictures):
    batch = model.preprocessing.load(pictures[:2])
    out = model.run(batch, ["fc"])
    assert list(out) == ["fc"]
    np.testing.assert_allclose(out["fc"], model.activations(pictures[:2])["fc"], rtol=1e-5)


@pytest.mark.parametrize(
    "batch",
    [np.zeros((2, 3, 9, 8), np.float32), np.zeros((2, 3, 9, 9)), np.zeros((3, 9, 9), np.float32)],
)
def test_run_refuses_other_shapes_and_types(model, batch):
    with pytest.raises(ValueError, match=r"float32 of shape \(n, 3, 9, 9\), not float"):
        model.run(batch)


def test_progress_goes_to_standard_error(model, pictures, capfd):
    model.activations(pictures)
    assert capfd.readouterr() == ("", "")
    model.activations(pictures, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "tiny" in err


def test_unknown_layers(model, pictures):
    with pytest.raises(ValueError, match="tiny has no layer 'con'; nearest: conv"):
        model.rdms(pictures, layers=["fc", "con"])
    with pytest.raises(TypeError, match="not the string 'fc'"):
        model.activations(pictures, "fc")
    with pytest.raises(ValueError, match="layers is empty"):
        model.activations(pictures, [])


def test_image_errors(model, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"torn\.png"):
        model.activations([tmp_path / "torn.png"])
    with pytest.raises(ValueError, match="images is empty"):
        model.activations([])


def test_nan_names_the_layer_and_the_first_image(tmp_path):
    network = nn.Sequential(nn.Identity(), Root())
    preprocessing = Preprocessing((2, 2), mean=(0.5, 0.5, 0.5))
    path = export_onnx(
        network, tmp_path / "a.onnx", {"in": "0", "root": "1"}, preprocessing=preprocessing
    )
    white, black = (np.full((2, 2, 3), value, np.uint8) for value in (255, 0))
    model = OnnxModel(path, batch_size=2)
    assert model.activations([white])["root"].shape == (1, 3, 2, 2)
    with pytest.raises(ValueError, match="'root' has NaN or infinite .* for image 4"):
        model.activations([white, white, white, black, black])
    Image.fromarray(black).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match=r"for .*black\.png"):
        model.rdms([white, white, tmp_path / "black.png"])


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.onnx: no such ONNX file"):
        OnnxModel(tmp_path / "nowhere.onnx")
    with pytest.raises(FileNotFoundError):
        OnnxModel(tmp_path)


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated_file(path, tmp_path, share):
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"torn\.onnx") as caught:
        OnnxModel(torn)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_onnx(tmp_path):
    text = tmp_path / "text.onnx"
    text.write_text("not a network at all")
    with pytest.raises(ValueError, match=r"text\.onnx cannot be opened as an ONNX model"):
        OnnxModel(text)


@pytest.mark.parametrize("key", ["layers", "preprocessing", "architecture"])
def test_a_file_of_another_exporter(path, tmp_path, key):
    model = onnx.load(path)
    kept = [(p.key, p.value) for p in model.metadata_props if p.key != f"fastrdm.{key}"]
    onnx.helper.set_model_props(model, dict(kept))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=rf"other\.onnx .*{key}.*fastrdm\.export_onnx"):
        OnnxModel(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("layers", '["conv", "fc"]', r"has the outputs \['conv', 'relu', 'fc'\]"),
        ("layers", "[", "metadata"),
        ("preprocessing", "{}", "must have the fields"),
    ],
)
def test_wrong_metadata_names_the_file(path, tmp_path, key, value, match):
    model = onnx.load(path)
    props = {p.key: p.value for p in model.metadata_props} | {f"fastrdm.{key}": value}
    onnx.helper.set_model_props(model, props)
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(ValueError, match=match) as caught:
        OnnxModel(tmp_path / "wrong.onnx")
    assert "wrong.onnx" in str(caught.value)


@pytest.mark.parametrize("option", ["batch_size", "n_threads"])
def test_options_below_one(path, option):
    with pytest.raises(ValueError, match=f"{option} must be at least 1, not 0"):
        OnnxModel(path, **{option: 0})


def test_missing_onnxruntime(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"onnxruntime is needed .*fastrdm\[onnx\]"):
        OnnxModel(path)


@pytest.mark.parametrize("method", ["correlation", "cosine", "euclidean", "sqeuclidean"])
def test_rdms_of_the_graph_agree_with_the_kernels(model, pictures, method):
    on_host = model.rdms(pictures, method)
    in_graph = model.rdms(pictures, method, where="device")
    assert list(in_graph) == list(on_host)
    for layer, rdm in on_host.items():
        np.testing.assert_allclose(in_graph[layer], rdm, rtol=0, atol=1e-5 * max(1, rdm.max()))


def test_invalid_requests_for_where(model, pictures):
    with pytest.raises(ValueError, match="where 'gpu' is not one of: auto, host, device"):
        model.rdms(pictures, where="gpu")
    with pytest.raises(ValueError, match="'spearman'"):
        model.rdms(pictures, "spearman", where="device")
    with pytest.raises(ValueError, match="a projection is computed on the host"):
        model.rdms(pictures, where="device", projection=SparseProjection(4))


@pytest.mark.parametrize("max_memory", [None, 20_000])
def test_wide_layers_are_projected(model, pictures, max_memory):
    projection = SparseProjection(16, density="achlioptas")
    rdms = model.rdms(pictures, projection=projection, max_memory=max_memory)
    activations = model.activations(pictures)
    for layer in ("conv", "relu"):
        projector = projection.layer(64, layer, "correlation")
        kept = projector.project(activations[layer].reshape(7, -1))
        np.testing.assert_allclose(rdms[layer], calc_rdm(kept, "cosine"), atol=1e-6)
    np.testing.assert_allclose(rdms["fc"], calc_rdm(activations["fc"]), atol=1e-6)


def test_files_are_decoded_once(model, pictures, tmp_path, monkeypatch):
    files = [tmp_path / f"{i}.png" for i in range(7)]
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture).save(file)
    first = model.rdms(files)
    monkeypatch.setattr("fastrdm.images.decoding.decode", lambda *a: pytest.fail("decoded again"))
    np.testing.assert_equal(model.rdms(files), first)


FAULTS = """
import resource, sys
import numpy as np
from fastrdm.runtimes import Workspace
from fastrdm.runtimes import OnnxModel
images = list(np.random.default_rng(0).integers(0, 256, (16, 2, 2, 3), np.uint8))
options = {"workspace": Workspace()} if sys.argv[2] == "shared" else {}
for _ in range(3):
    model = OnnxModel(sys.argv[1], "cpu", n_threads=1, **options)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    model.rdms(images)
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    del model
print(pages)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the pages that Linux gives a process")
def test_models_of_a_workspace_reuse_memory(tmp_path):
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Flatten(),
    ]
    preprocessing = Preprocessing((128, 128))
    path = export_onnx(
        nn.Sequential(*layers, nn.Linear(64 * 128 * 128, 2)),
        tmp_path / "wide.onnx",
        {"fc": "4"},
        preprocessing=preprocessing,
    )
    pages = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", FAULTS, str(path), how],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for how in ("shared", "own")
    }
    # A convolution of sixteen images is 67 MB, or 16,384 pages: more than the C library keeps of freed memory.
    assert pages["shared"] < 4000 < 16_000 < pages["own"]
