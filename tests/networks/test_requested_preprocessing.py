"""Preprocessing by the names timm and transformers, by files and by fields; crops that are left out are named."""

import json
import re

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from PIL import Image

from fastrdm.cli import main
from fastrdm.images import Preprocessing
from fastrdm.networks import (
    export_onnx,
    metadata_of,
    preprocessing_for,
    preprocessing_of,
    read_model,
    request_preprocessing,
)
from fastrdm.runtimes import Architecture, OnnxModel, open_checkpoint

nn = torch.nn
HALF = (0.5, 0.5, 0.5)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, x):
        return self.pool(self.conv(x))


def vit():
    return timm.create_model("vit_tiny_patch16_224", depth=1)


def picture(height, width):
    values = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def written(path):
    return Preprocessing.from_json(metadata_of(read_model(path))["fastrdm.preprocessing"])


# Crops of pretrained networks.


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet10t", "beitv2_base_patch16_224"])
def test_the_crop_of_timm_to_the_bit(name):
    config = timm.get_pretrained_cfg(name).to_dict()
    source = {"architecture": name, "pretrained_cfg": config}
    preprocessing = preprocessing_of(source, crop=True)
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config({}, pretrained_cfg=config)
    )
    for shape in ((500, 333), (240, 260), (100, 80)):
        image = picture(*shape)
        np.testing.assert_array_equal(preprocessing.load([image])[0], transform(image).numpy())


def test_the_crop_of_torchvision_to_the_bit():
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    preprocessing = preprocessing_of(transform, crop=True)
    assert preprocessing == Preprocessing(crop=256)
    for shape in ((500, 333), (240, 260), (100, 80)):
        image = picture(*shape)
        np.testing.assert_array_equal(preprocessing.load([image])[0], transform(image).numpy())
    with pytest.warns(RuntimeWarning, match=r"the crop of ImageClassification is left out"):
        assert preprocessing_of(transform) == Preprocessing()


def test_the_crop_of_an_image_processor_to_the_bit():
    """With PIL, and where the crop is at a whole pixel; its normalisation rounds differently."""
    processor = transformers.CLIPImageProcessorPil()
    preprocessing = preprocessing_of(processor, crop=True)
    assert preprocessing.crop == 224
    for shape in ((500, 332), (240, 260), (100, 80)):
        image = picture(*shape)
        pixels = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
        expected = pixels["pixel_values"][0].transpose(1, 2, 0)
        np.testing.assert_array_equal(preprocessing.pixels([image])[0], expected)


def test_a_crop_that_is_left_out_is_named():
    with pytest.warns(RuntimeWarning) as caught:
        assert preprocessing_of(vit()).crop is None
    (warning,) = caught
    assert warning.filename == __file__
    assert "the crop of VisionTransformer is left out" in str(warning.message)
    assert "crop=0.9 (--crop 0.9) keeps it" in str(warning.message)


@pytest.mark.parametrize(
    ("processor", "crop"),
    [
        (transformers.ViTImageProcessor, None),
        (transformers.CLIPImageProcessor, 224),
        (transformers.BitImageProcessor, 224),
        (transformers.ConvNextImageProcessor, None),
        (lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 224}), 256),
        (transformers.LevitImageProcessor, 256),
        (transformers.PoolFormerImageProcessor, 248),
        (transformers.SiglipImageProcessor, None),
    ],
)
def test_crops_of_image_processors_as_objects_and_files(processor, crop, tmp_path, recwarn):
    made = processor()
    assert preprocessing_of(made, crop=True).crop == crop
    made.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert preprocessing_of(content, crop=True) == preprocessing_of(made, crop=True)
    assert not recwarn
    preprocessing_of(made)
    assert len(recwarn) == (crop is not None)


def test_files_of_old_versions_have_one_number():
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 256, "crop_size": 224}
    old |= {"do_center_crop": True, "resample": 3, "image_mean": HALF, "image_std": HALF}
    expected = Preprocessing((224, 224), "pil-bicubic", HALF, HALF, crop=256)
    assert preprocessing_of(old, crop=True) == expected
    vit = {"feature_extractor_type": "ViTFeatureExtractor", "size": 96, "resample": 2}
    vit |= {"image_mean": HALF, "image_std": HALF}
    assert preprocessing_of(vit, crop=True) == Preprocessing((96, 96), mean=HALF, std=HALF)


def test_channels_of_mobilevit_are_blue_first_and_not_normalised():
    own = preprocessing_of(transformers.MobileViTImageProcessor(), crop=False)
    assert (own.channel_order, own.mean, own.std) == ("BGR", (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (transformers.DeiTImageProcessor(), "squashes images, then crops them"),
        ({"crop_pct": 0.9, "crop_mode": "squash"}, "squashes images, then crops 0.9 of them"),
        ({"crop_pct": 0.9, "crop_mode": "border"}, "has the crop mode 'border'"),
    ],
)
def test_other_crops_are_refused_or_named(source, match):
    with pytest.raises(ValueError, match=f"{match}, which Preprocessing"):
        preprocessing_of(source, crop=True)
    with pytest.warns(RuntimeWarning, match=f"{match}; the crop is left out"):
        assert preprocessing_of(source).crop is None


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (transformers.PerceiverImageProcessor(), "crops images before it resizes them"),
        (transformers.EfficientNetImageProcessor(), "normalises images twice"),
        (transformers.CLIPImageProcessor(do_resize=False), "does not resize images"),
        ({"input_size": [1, 28, 28]}, "has not three channels"),
    ],
)
def test_processors_with_rules_of_their_own_are_refused(source, match):
    with pytest.raises(ValueError, match=match):
        preprocessing_of(source)


# Requests.


def test_fields_replace_those_of_the_network():
    network = Net()
    network.preprocessing = Preprocessing((40, 40), "pil-bicubic", HALF, HALF, "BGR")
    wanted = request_preprocessing({"size": 32, "crop": 0.9})
    assert preprocessing_for(network, wanted) == Preprocessing(
        (32, 32), "pil-bicubic", HALF, HALF, "BGR", 0.9
    )
    assert preprocessing_for(Net(), wanted) == Preprocessing((32, 32), crop=0.9)
    network.preprocessing = Preprocessing(crop=300)
    assert preprocessing_for(network, request_preprocessing({"crop": "none"})) == Preprocessing()
    assert request_preprocessing(None) is None and request_preprocessing({}) is None


def test_an_error_about_the_size_names_the_option():
    network = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64)
    network.preprocessing = Preprocessing()
    with pytest.raises(
        ValueError, match=r"does not run on .*; --size \(input_size=\) sets the size"
    ):
        Architecture.export(network)


def test_timm_is_the_networks_pretrained_cfg(recwarn):
    own = preprocessing_of(vit(), crop=False)
    wanted = request_preprocessing({"source": "timm", "crop": 0.9, "size": (32, 48)})
    expected = Preprocessing((32, 48), own.resize, own.mean, own.std, crop=0.9)
    assert preprocessing_for(vit(), wanted) == expected
    assert not recwarn
    with pytest.warns(RuntimeWarning, match="left out"):
        assert preprocessing_for(vit(), request_preprocessing("timm")) == own
    with pytest.raises(ValueError, match="Net has no pretrained_cfg"):
        preprocessing_for(Net(), request_preprocessing("timm"))


def test_files_of_timm_of_transformers_and_of_fields(tmp_path):
    from timm.models import save_for_hf

    save_for_hf(vit(), tmp_path / "timm")
    transformers.CLIPImageProcessor().save_pretrained(tmp_path)
    files = {
        "timm/config.json": preprocessing_of(vit(), crop=False),
        "preprocessor_config.json": preprocessing_of(transformers.CLIPImageProcessor(), crop=False),
    }
    for name, expected in files.items():
        with pytest.warns(RuntimeWarning, match="is left out"):
            assert request_preprocessing(name, tmp_path) == expected
        wanted = {"source": str(tmp_path / name), "crop": 250}
        assert request_preprocessing(wanted).crop == 250
    (tmp_path / "own.toml").write_text('size = [20, 30]\nresize = "pil-bicubic"\ncrop = 0.9\n')
    (tmp_path / "own.json").write_text(
        '{"size": [20, 30], "resize": "pil-bicubic", "crop": 0.9, "source": "timm"}'
    )
    expected = Preprocessing((20, 30), "pil-bicubic", crop=0.9)
    assert preprocessing_for(Net(), request_preprocessing(tmp_path / "own.toml")) == expected
    found = preprocessing_for(vit(), request_preprocessing(tmp_path / "own.json"))
    assert found == Preprocessing((20, 30), "pil-bicubic", HALF, HALF, crop=0.9)


def test_transformers_is_the_file_beside_the_weights(tmp_path):
    clip, vit = transformers.CLIPImageProcessor(), transformers.ViTImageProcessor()
    for name, processor in (("a", clip), ("b", clip), ("c", vit)):
        processor.save_pretrained(tmp_path / name)
    wanted = request_preprocessing({"source": "transformers", "crop": 224})
    found = wanted.beside([tmp_path / "a", tmp_path / "b", tmp_path])
    assert found == preprocessing_of(clip, crop=True)
    with pytest.raises(ValueError, match=r"a/preprocessor_config.json and .*c/preproc.* different"):
        wanted.beside([tmp_path / "a", tmp_path / "c"])
    with pytest.raises(ValueError, match=r"no preprocessor_config.json beside the weights \("):
        wanted.beside([tmp_path])
    with pytest.raises(ValueError, match="'transformers' of Net is the preprocessor_config.json"):
        preprocessing_for(Net(), wanted)


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        ("tim", FileNotFoundError, "'tim' is neither a file nor one of: timm, transformers"),
        ({"sizes": 3}, ValueError, "preprocessing has no field sizes; the fields are "),
        ({"crop": 1.5}, ValueError, "preprocessing: crop must be"),
        ({"mean": 1}, ValueError, "preprocessing: mean must be three"),
    ],
)
def test_bad_requests(value, error, match):
    with pytest.raises(error, match=match):
        request_preprocessing(value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must hold the fields"),
        ("{}", "states no preprocessing"),
        ('{"model_type": "vit"}', "states no preprocessing: it is neither"),
        ('{"size": 0}', "size must be"),
        ('{"source": "else"}', "source 'else' is not one of: timm, transformers"),
        ('{"image_mean": [0, 0, 0], "resample": 0, "size": 9}', "resizes with PIL's filter 0"),
    ],
)
def test_bad_files(tmp_path, text, match):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{match}"):
        request_preprocessing(path)


def test_a_network_of_transformers_without_preprocessing_is_reported(tmp_path):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])
    network = transformers.ResNetModel(config)
    with pytest.warns(UserWarning, match="ResNetModel of transformers does not state its prepro"):
        assert preprocessing_for(network) == Preprocessing()
    network.preprocessing = Preprocessing((32, 32))
    assert preprocessing_for(network) == network.preprocessing


# Files and architectures that have a preprocessing already.


def test_an_exported_file_takes_another_preprocessing_of_its_size(tmp_path):
    path = export_onnx(Net(), tmp_path / "a.onnx", ["conv", "pool"], 16)
    image, wanted = picture(30, 40), request_preprocessing({"crop": 20, "mean": HALF})
    model = OnnxModel(path, preprocessing=wanted, provider="cpu")
    assert model.preprocessing == Preprocessing((16, 16), mean=HALF, crop=20)
    architecture = Architecture.read(path)
    torch.save(Net().state_dict(), tmp_path / "w.pth")
    changed = architecture.prepared(wanted)
    assert changed.fingerprint == architecture.fingerprint
    opened = changed.open(tmp_path / "w.pth", provider="cpu")
    assert opened.preprocessing == changed.preprocessing == model.preprocessing
    for arch in (path, architecture, None):
        weights = tmp_path / ("w.pth" if arch else "a.onnx")
        opened = open_checkpoint(weights, arch, preprocessing=wanted, provider="cpu")
        assert opened.preprocessing == model.preprocessing
    with pytest.raises(ValueError, match="is in memory with its own taps and preprocessing"):
        architecture.open(tmp_path / "w.pth", preprocessing=wanted)
    expected = model.preprocessing.load([image])
    np.testing.assert_array_equal(model.activations([image])["conv"], model.run(expected)["conv"])
    for open_ in (
        lambda wanted: OnnxModel(path, preprocessing=wanted),
        lambda wanted: architecture.prepared(wanted),
    ):
        with pytest.raises(ValueError, match="takes images of 16 × 16 pixels"):
            open_(request_preprocessing({"size": 8}))
        with pytest.raises(ValueError, match="is not a torch module, so it has no pretrained_cfg"):
            open_(request_preprocessing("timm"))


# The command line.


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "asked_networks.py").write_text(
        "import timm, torch\n"
        "from fastrdm.images import Preprocessing\n"
        "def resnet():\n"
        "    return timm.create_model('resnet10t', num_classes=4)\n"
        "def own():\n"
        "    n = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3))\n"
        "    n.preprocessing = Preprocessing((20, 20), mean=(0.5, 0.5, 0.5))\n"
        "    return n\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import asked_networks

    torch.save(asked_networks.own().state_dict(), "own.pth")
    yield tmp_path
    import sys

    sys.modules.pop("asked_networks", None)


def test_export_with_fields(here, capsys):
    command = ["export", "own.pth", "a.onnx", "--arch", "asked_networks:own"]
    options = ["--size", "16,24", "--resize", "pil-bicubic", "--crop", "30", "--std", "1,2,3"]
    assert main([*command, *options]) == 0
    assert written("a.onnx") == Preprocessing((16, 24), "pil-bicubic", HALF, (1, 2, 3), crop=30)
    assert main([*command, "--size", "18"]) == 0
    assert written("a.onnx") == Preprocessing((18, 18), mean=HALF)
    transformers.CLIPImageProcessor().save_pretrained(here)
    capsys.readouterr()
    assert main([*command, "--preprocessing", "transformers", "--size", "12"]) == 0
    assert "the crop of CLIPImageProcessor is left out" in capsys.readouterr().err
    clip = preprocessing_of(transformers.CLIPImageProcessor(), crop=False)
    assert written("a.onnx") == Preprocessing((12, 12), clip.resize, clip.mean, clip.std)


def test_layers_with_timm(here, capsys):
    command = ["layers", "--arch", "asked_networks:resnet", "--match", "conv1"]
    assert main([*command, "--preprocessing", "timm"]) == 0
    out, err = capsys.readouterr()
    assert "at 176 × 176 pixels" in err and "conv1" in out
    assert "the crop of ResNet is left out" in err and "--crop 0.875" in err
    assert main([*command, "--preprocessing", "timm", "--crop", "0.9", "--size", "64,32"]) == 0
    out, err = capsys.readouterr()
    assert "at 64 × 32 pixels" in err and "warning" not in err


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--size", "a"], "'a' is not H or H,W in pixels"),
        (["--size", "0"], "0 is not positive"),
        (["--crop", "1"], "write 1.0 for the fraction"),
        (["--crop", "x"], "'x' is neither a number nor none"),
        (["--mean", "1,2"], "'1,2' is not three numbers"),
        (["--resize", "nearest"], "invalid choice"),
    ],
)
def test_wrong_arguments(options, match, capsys):
    with pytest.raises(SystemExit):
        main(["layers", "--arch", "a:b", *options])
    assert match in capsys.readouterr().err


def test_wrong_values(here, capsys):
    for options, match in {
        ("--crop", "1.5"): "crop must be",
        ("--preprocessing", "missing.json"): "'missing.json' is neither a file nor one of",
        ("--preprocessing", "timm"): "Sequential has no pretrained_cfg",
        ("--preprocessing", "transformers"): "name the file",
    }.items():
        assert main(["layers", "--arch", "asked_networks:own", *options]) == 1
        err = capsys.readouterr().err
        assert match in err and err.count("\n") == 1
