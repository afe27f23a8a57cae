"""Networks of timm and transformers, with random weights: exports equal what hooks hold."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fastrdm.images import Preprocessing
from fastrdm.networks import export_onnx, preprocessing_of, request_preprocessing

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
CONVNEXT = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}

# Name → (config, size, class and register tokens, taps, layers).
TRANSFORMERS = {
    "ViTModel": (SMALL, 32, 1, ["layers.?", "layers.?@cls", "layers.?@mean"], 6),
    "ViTForImageClassification": (SMALL, 32, 1, ["vit", "vit@cls", "classifier"], 3),
    "Dinov2Model": (SMALL, 48, 1, ["embeddings", "encoder@mean"], 2),
    "Dinov2WithRegistersModel": (SMALL, 32, 5, ["encoder@mean", "layernorm"], 2),
    "CLIPVisionModel": (SMALL, 32, 1, ["encoder", "encoder@mean"], 2),
    "SiglipVisionModel": (SMALL, 32, 0, ["encoder@mean[0:]", "head"], 2),
    "ConvNextModel": (CONVNEXT, 64, 0, ["embeddings", "encoder", "layernorm"], 3),
}
TIMM = {
    "vit_tiny_patch16_224": (
        {"img_size": 64, "depth": 2, "embed_dim": 24, "num_heads": 3},
        64,
        1,
        ["blocks.?", "blocks.1@cls", "blocks.?@mean", "head"],
        6,
    ),
    "vit_small_patch14_reg4_dinov2": (
        {"img_size": 56, "depth": 2, "embed_dim": 24, "num_heads": 3},
        56,
        5,
        ["blocks.?@mean", "norm"],
        3,
    ),
    "convnext_atto": ({"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}, 64, 0, ["stages.?"], 4),
}


def held(network, batch, keyword):
    """Return the tensor that a hook's reference holds after the forward pass, for every module."""
    outputs = {}
    handles = [
        part.register_forward_hook(
            lambda part, args, output, name=name: outputs.__setitem__(name, output)
        )
        for name, part in network.named_modules()
    ]
    with torch.no_grad():
        network.eval()(**{keyword: batch}) if keyword else network(batch)
    for handle in handles:
        handle.remove()
    return {
        name: output if torch.is_tensor(output) else output[0] for name, output in outputs.items()
    }


def assert_equals_hooks(network, case, tmp_path, keyword=None):
    _, size, n_prefix, taps, n_layers = case
    torch.manual_seed(1)
    for parameter in network.parameters():
        # Class tokens start as zeros and layer scales near zero: they would hide errors.
        torch.nn.init.normal_(parameter, std=0.2)
    path = tmp_path / "a.onnx"
    export_onnx(network, path, taps, preprocessing=Preprocessing((size, size)))
    batch = torch.randn(3, 3, size, size)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = held(network, batch, keyword)
    model = onnx.load(path)
    told = json.loads({e.key: e.value for e in model.metadata_props}["fastrdm.taps"])
    assert len(names) == n_layers
    for layer, got in zip(names, session.run(None, {"images": batch.numpy()}), strict=True):
        module, _, tokens = layer.partition("@")
        values = expected[module].numpy()
        if tokens == "cls":
            values = values[:, 0]
        elif tokens:
            values = values[:, n_prefix:].mean(1)
            assert told[layer]["tokens"] == f"mean[{n_prefix}:]"
        assert told[layer]["of"] == module
        assert got.shape == values.shape
        np.testing.assert_allclose(got, values, rtol=0, atol=1e-4 * np.abs(values).max())
    stored = network.state_dict() | dict(network.named_buffers())
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), stored[tensor.name])


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    kind = getattr(pytest.importorskip("transformers"), name)
    case = TRANSFORMERS[name]
    network = kind(kind.config_class(**case[0]))
    assert_equals_hooks(network, case, tmp_path, "pixel_values")


@pytest.mark.parametrize("name", TIMM)
def test_timm(name, tmp_path):
    network = pytest.importorskip("timm").create_model(name, **TIMM[name][0])
    with warnings.catch_warnings(action="error"):
        assert_equals_hooks(network, TIMM[name], tmp_path)
    config, own = network.pretrained_cfg, preprocessing_of(network, crop=False)
    assert (own.size, own.resize) == (config["input_size"][1:], "pil-bicubic")
    assert (own.mean, own.std) == (config["mean"], config["std"])


def test_an_ignored_preprocessing_is_reported(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3))
    network.pretrained_cfg = {}
    with pytest.warns(
        UserWarning, match="has a pretrained_cfg of timm, which is not used"
    ) as caught:
        export_onnx(network, tmp_path / "a.onnx", input_size=8)
    assert [warning.filename for warning in caught] == [__file__]


def test_image_processors_of_transformers(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    half = (0.5, 0.5, 0.5)
    assert preprocessing_of(transformers.ViTImageProcessor()) == Preprocessing(
        (224, 224), "pil-bilinear", half, half
    )
    clip = transformers.CLIPImageProcessor()
    assert preprocessing_of(clip, crop=False) == Preprocessing(
        (224, 224), "pil-bicubic", tuple(clip.image_mean), tuple(clip.image_std)
    )
    assert preprocessing_of(transformers.ConvNextImageProcessor()).size == (384, 384)


def processor(**changes):
    values = {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "resample": 3,
        "do_normalize": True,
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
        "size": {"height": 30, "width": 40},
    }
    return SimpleNamespace(**(values | changes))


def test_preprocessing_of_models_and_processors():
    config = {"input_size": (3, 20, 30), "interpolation": "bilinear", "crop_pct": 0.9}
    network = SimpleNamespace(pretrained_cfg=config | {"mean": (0.1, 0.2, 0.3), "std": (1, 1, 1)})
    expected = Preprocessing((20, 30), mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    assert preprocessing_of(network, crop=False) == expected
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    assert preprocessing_of(processor()) == Preprocessing((30, 40), "pil-bicubic", mean, std)
    cropped = processor(
        size={"shortest_edge": 50}, crop_size={"height": 44, "width": 44}, do_center_crop=True
    )
    assert preprocessing_of(cropped, crop=False).size == (44, 44)
    plain = preprocessing_of(processor(do_normalize=False, size={"shortest_edge": 50}))
    assert plain == Preprocessing((50, 50), "pil-bicubic", (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (torch.nn.ReLU(), "a ReLU is neither a timm model nor an image processor"),
        (processor(resample=0), "resizes with PIL's filter 0, not with 2 or 3"),
        (processor(rescale_factor=1 / 127.5), r"does not scale pixels to \[0, 1\]"),
        (processor(do_rescale=False), "does not scale pixels"),
        (processor(size={"longest_edge": 9}), "size must be"),
        (
            SimpleNamespace(
                pretrained_cfg={
                    "input_size": (3, 8, 8),
                    "interpolation": "nearest",
                    "mean": 0,
                    "std": 1,
                }
            ),
            "resize 'pil-nearest' is not one of: ",
        ),
    ],
)
def test_unsupported_preprocessing(source, match):
    with pytest.raises(ValueError, match=match):
        preprocessing_of(source)


@pytest.mark.parametrize("kind", [-1, 1.5, {"a": 1}, ["a"], True])
def test_image_processors_without_a_name(tmp_path, kind):
    path = tmp_path / "preprocessor_config.json"
    facts = {"image_processor_type": kind, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    path.write_text(json.dumps(facts | {"size": 224, "resample": 2}))
    with pytest.raises(
        ValueError, match=r"config\.json: the type of the image processor is .*, not t"
    ):
        request_preprocessing(path)
