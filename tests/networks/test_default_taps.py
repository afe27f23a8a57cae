"""The layers that are tapped where nobody named any: blocks in lists, no identities, no layer twice."""

import pytest
import timm
import torch
import torchvision
import transformers

from fastrdm.networks import choose_taps, export_onnx, inspect_module

nn = torch.nn
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
SWIN = {"image_size": 32, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"}
CONVNEXT = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1]}
CLIP = {
    "vision_config": VIT,
    "text_config": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 60000,
    },
    "projection_dim": 8,
}

# Class → its config, the size of images, and the layers.
TRANSFORMERS = {
    "ViTModel": (VIT, 32, ["embeddings", "layers.0", "layers.1", "layernorm", "pooler"]),
    "ViTForImageClassification": (
        VIT,
        32,
        ["vit.embeddings", "vit.layers.0", "vit.layers.1", "vit.layernorm", "classifier"],
    ),
    "Dinov2Model": (VIT, 32, ["embeddings", "encoder.layer.0", "encoder.layer.1", "layernorm"]),
    "CLIPVisionModel": (
        VIT,
        32,
        ["embeddings", "pre_layrnorm", "encoder.layers.0", "encoder.layers.1", "post_layernorm"],
    ),
    "ConvNextModel": (
        CONVNEXT,
        64,
        [
            "embeddings",
            *(f"encoder.stages.{name}" for name in ("0.layers.0", "1.layers.0", "1.layers.1")),
            *(f"encoder.stages.{stage}.layers.0" for stage in (2, 3)),
            "layernorm",
        ],
    ),
    "ResNetModel": (
        RESNET,
        64,
        [
            "embedder",
            *(f"encoder.stages.{name}" for name in ("0.layers.0", "1.layers.0", "1.layers.1")),
            "pooler",
        ],
    ),
    # The output of the first stage is that of its patch merging, not of its last block.
    "SwinModel": (
        SWIN,
        32,
        [
            "embeddings",
            "encoder.layers.0.blocks.0",
            "encoder.layers.0",
            "encoder.layers.1.blocks.0",
            "encoder.layers.1.blocks.1",
            "layernorm",
            "pooler",
        ],
    ),
}
STAGES = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
# Name → arguments, the size of images, and the layers.
TIMM = {
    "vit_tiny_patch16_224": (
        {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 3},
        32,
        ["patch_embed", "blocks.0", "blocks.1", "norm", "head"],
    ),
    "deit_tiny_distilled_patch16_224": (
        {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 3},
        32,
        ["patch_embed", "blocks.0", "blocks.1", "norm", "head", "head_dist"],
    ),
    # The ReLU works in place on the batch norm; the stem has three convolutions.
    "resnet10t": (
        {},
        32,
        ["conv1", "act1", "maxpool", *STAGES[::2], "global_pool", "fc"],
    ),
    "resnet18": ({}, 32, ["conv1", "act1", "maxpool", *STAGES, "global_pool", "fc"]),
    "convnext_atto": (
        {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)},
        32,
        [
            "stem",
            *(f"stages.{name}" for name in ("0.blocks.0", "1.blocks.0", "2.blocks.0")),
            *(f"stages.{name}" for name in ("2.blocks.1", "3.blocks.0")),
            "head",
        ],
    ),
    "mobilenetv3_small_050": (
        {},
        32,
        [
            "conv_stem",
            "bn1",
            "blocks.0.0",
            *(f"blocks.{stage}.{block}" for stage in (1,) for block in range(2)),
            *(f"blocks.2.{block}" for block in range(3)),
            *(f"blocks.3.{block}" for block in range(2)),
            *(f"blocks.4.{block}" for block in range(3)),
            "blocks.5",
            "global_pool",
            "act2",
            "classifier",
        ],
    ),
    "swin_tiny_patch4_window7_224": (
        {"img_size": 56, "depths": (1, 1, 2, 1), "embed_dim": 12, "num_heads": (1, 2, 3, 4)},
        56,
        [
            "patch_embed",
            *(f"layers.{name}" for name in ("0.blocks.0", "1.blocks.0", "2.blocks.0")),
            *(f"layers.{name}" for name in ("2.blocks.1", "3.blocks.0")),
            "norm",
            "head",
        ],
    ),
}
TORCHVISION = {
    "resnet18": (32, ["conv1", "relu", "maxpool", *STAGES, "avgpool", "fc"]),
    "mobilenet_v2": (32, [*(f"features.{i}" for i in range(19)), "classifier"]),
    # One layer for a convolution and the ReLU that works in place on it.
    "alexnet": (
        64,
        [
            *(f"features.{i}" for i in (1, 2, 4, 5, 7, 9, 11, 12)),
            "avgpool",
            *(f"classifier.{i}" for i in (2, 5, 6)),
        ],
    ),
}


def layers_of(network, size):
    return list(choose_taps(network, inspect_module(network, (size, size))))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_networks_of_transformers(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config, size, layers = TRANSFORMERS[name]
    kind = getattr(transformers, name)
    assert layers_of(kind(kind.config_class(**config)), size) == layers


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm(name):
    arguments, size, layers = TIMM[name]
    assert layers_of(timm.create_model(name, **arguments), size) == layers


@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision(name):
    size, layers = TORCHVISION[name]
    assert layers_of(torchvision.models.get_model(name), size) == layers


class Student(nn.Module):
    """Features in a sequence, an activation used everywhere, and ways to return the same values twice."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.flatten = nn.Flatten()
        self.drop = nn.Dropout(0.5)
        self.again = nn.Identity()
        self.positions = Positions()
        self.fc1 = nn.Linear(16, 8)
        self.fc2 = nn.Linear(8, 5)

    def forward(self, x):
        x = self.drop(self.flatten(self.pool(self.features(x)))) + self.positions(len(x))
        return self.act(self.fc2(self.again(self.act(self.fc1(x)))))


class Positions(nn.Module):
    """The same for all images."""

    def forward(self, n):
        return torch.arange(16.0).repeat(n, 1)


def test_an_own_network_without_identities_and_repetitions():
    assert layers_of(Student(), 16) == [
        *(f"features.{i}" for i in range(4)),
        "pool",
        "fc1",
        "act#0",
        "fc2",
        "act#1",
    ]


class Wrapper(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


def test_a_wrapper_has_the_layers_of_its_network():
    names = layers_of(Student(), 16)
    assert layers_of(Wrapper(Student()), 16) == [f"model.{name}" for name in names]
    twice = Wrapper(Wrapper(Student()))
    assert layers_of(twice, 16) == [f"model.model.{name}" for name in names]


class Shared(nn.Module):
    """A layer under two names, and a block in a list that returns what the list's owner returns."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.same = self.first
        self.body = Body()

    def forward(self, x):
        return self.body(self.same(x))


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        block = [nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)) for _ in range(2)]
        self.blocks = nn.ModuleList(block)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return {"last_hidden_state": x, "other": -x}


def test_a_layer_under_two_names_and_the_owner_of_the_blocks():
    assert layers_of(Shared(), 8) == ["first", "body.blocks.0", "body.blocks.1"]


def test_a_whole_clip_model_points_to_its_vision_part(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    clip = transformers.CLIPModel(transformers.CLIPConfig(**CLIP))
    with pytest.raises(ValueError) as caught:
        export_onnx(clip, tmp_path / "a.onnx", input_size=32)
    message = str(caught.value)
    assert "use its vision part, vision_model (CLIPVisionModel)" in message
    assert '"return transformers.CLIPModel.from_pretrained(NAME).vision_model"' in message
    assert "transformers.CLIPVisionModel.from_pretrained(NAME)" in message and "\n" not in message
    # The line that the message names works.
    assert layers_of(clip.vision_model, 32) == TRANSFORMERS["CLIPVisionModel"][2]


class OpenClip(nn.Module):
    """As OpenAI's CLIP and open_clip: `visual` for images, tokens first inside, and text beside it."""

    def __init__(self):
        super().__init__()
        self.visual = Visual()
        self.text = nn.Embedding(9, 8)

    def forward(self, image, text):
        return self.visual(image), self.text(text).mean(1)


class Visual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 8, 8)
        self.transformer = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
        self.ln_post = nn.LayerNorm(8)

    def forward(self, x):
        x = self.transformer(self.conv1(x).flatten(2).permute(2, 0, 1))
        return self.ln_post(x[0])


def test_a_whole_model_of_open_clip_points_to_visual(tmp_path):
    with pytest.raises(
        ValueError, match=r"use its vision part, visual .* \"return model\.visual\""
    ):
        export_onnx(OpenClip(), tmp_path / "a.onnx", input_size=16)
    visual = OpenClip().visual
    layers = ["conv1", "transformer.layers.0", "transformer.layers.1", "ln_post"]
    assert layers_of(visual, 16) == layers
