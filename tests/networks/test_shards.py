"""Weights in several files are read by their index or its folder."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fastrdm.networks import (
    Layout,
    WeightsError,
    check_unchanged,
    files_of,
    hash_file,
    holds_index,
    is_checkpoint,
    is_complete,
    load_state_dict,
    load_weights,
    read_fitting,
    read_weights,
)

INDEX = "model.safetensors.index.json"


def write(folder, *, index=INDEX, save=save_file):
    """Three tensors in two files; return them."""
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    tensors = {name: torch.randn(2, 3) for name in ("a", "b", "c")}
    suffix = index.removesuffix(".index.json").rpartition(".")[2]
    shards = {f"s1.{suffix}": ["a", "c"], f"s2.{suffix}": ["b"]}
    for file, names in shards.items():
        save({name: tensors[name] for name in names}, folder / file)
    files = {name: file for file, names in shards.items() for name in names}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return tensors


@pytest.mark.parametrize(
    ("index", "save"),
    [(INDEX, save_file), ("pytorch_model.bin.index.json", torch.save),
     ("model.fp16.safetensors.index.json", save_file)],
)  # fmt: skip
def test_shards_are_read_by_folder_and_by_index(tmp_path, index, save):
    tensors = write(tmp_path / "run", index=index, save=save)
    for path in (tmp_path / "run", tmp_path / "run" / index):
        for read in (load_state_dict, read_weights):
            found = read(path)
            assert found.keys() == tensors.keys()
            for name, value in tensors.items():
                np.testing.assert_array_equal(np.asarray(found[name]), value.numpy())
    assert holds_index(tmp_path / "run") and not holds_index(tmp_path)
    assert is_checkpoint(tmp_path / "run" / index)


def test_sharded_models_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    model = transformers.ResNetModel(config)
    model.save_pretrained(tmp_path / "run", max_shard_size="3KB")
    assert len(list((tmp_path / "run").glob("*.safetensors"))) > 1
    found = read_weights(tmp_path / "run")
    assert found.keys() == model.state_dict().keys()


def test_transformers_of_images_are_saved_under_names_of_earlier_versions(tmp_path):
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTConfig(
        intermediate_size=8, image_size=32, patch_size=8, num_labels=3, **small
    )
    saved = transformers.ViTForImageClassification(config)
    saved.save_pretrained(tmp_path / "run", max_shard_size="2KB")
    other = transformers.ViTForImageClassification(config)
    assert load_weights(other, tmp_path / "run").to_dict() == {}
    # As part of a larger network, whose layout has been stored.
    base = torch.nn.Sequential(transformers.ViTModel(config, add_pooling_layer=False))
    layout = Layout.from_json(Layout.of(base).to_json())
    for name, value in other.state_dict().items():
        assert torch.equal(value, saved.state_dict()[name])
    renamed = {
        name.replace("vit.", "0."): value
        for name, value in load_state_dict(tmp_path / "run").items()
        if name.startswith("vit.")
    }
    save_file(renamed, tmp_path / "a.safetensors")
    arrays, taken = read_fitting(tmp_path / "a.safetensors", layout, "net")
    for name in base.state_dict():
        np.testing.assert_array_equal(arrays[name], saved.vit.state_dict()[name[2:]].numpy())
    assert taken.to_dict() == {}


def test_sharded_safetensors_need_no_torch(tmp_path):
    write(tmp_path / "run")
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom fastrdm.networks import read_weights\n"
        "print(*sorted(read_weights(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["a", "b", "c"]


def test_missing_shards_and_tensors_are_named(tmp_path):
    write(tmp_path / "run")
    shard = tmp_path / "run" / "s2.safetensors"
    save_file({"x": torch.ones(2)}, shard)
    with pytest.raises(WeightsError, match=r"s2\.safetensors: lacks tensors that model.*lists: b$"):
        read_weights(tmp_path / "run")
    shard.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"s2\.safetensors: the file is empty"):
        read_weights(tmp_path / "run")
    shard.unlink()
    for path in (tmp_path / "run", tmp_path / "run" / INDEX):
        with pytest.raises(WeightsError, match=r": the file s2\.safetensors is missing$"):
            read_weights(path)
        assert not is_complete(path)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "..\\x", "C:\\x"]
)
def test_shards_cannot_leave_the_folder(tmp_path, name):
    write(tmp_path / "run")
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    (tmp_path / "run" / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    for read in (read_weights, hash_file, files_of):
        with pytest.raises(WeightsError, match="refers to a file outside its folder"):
            read(tmp_path / "run")


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_links_as_in_the_hubs_cache_are_followed(tmp_path):
    write(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert sorted(read_weights(tmp_path / "snapshot")) == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"weight_map": {"a": 3}}', '{"weight_map": 3}'])
def test_damaged_indices(tmp_path, text):
    write(tmp_path / "run")
    (tmp_path / "run" / INDEX).write_text(text)
    with pytest.raises(WeightsError, match=r"index\.json: is not an index of weights"):
        read_weights(tmp_path / "run")
    (tmp_path / "run" / INDEX).write_text('{"weight_map": {}}')
    with pytest.raises(WeightsError, match=r"index\.json: lists no tensors"):
        read_weights(tmp_path / "run")
    with pytest.raises(WeightsError, match=r"other\.safetensors\.index\.json: no such file"):
        read_weights(tmp_path / "run" / "other.safetensors.index.json")


def test_folders_with_several_indices(tmp_path):
    tensors = write(tmp_path / "run")
    write(tmp_path / "run", index="pytorch_model.bin.index.json", save=torch.save)
    assert files_of(tmp_path / "run")[0].name == INDEX
    (tmp_path / "run" / INDEX).rename(tmp_path / "run" / "one.safetensors.index.json")
    (tmp_path / "run" / "pytorch_model.bin.index.json").rename(
        tmp_path / "run" / "two.bin.index.json"
    )
    with pytest.raises(WeightsError, match="holds several indices, name one of them: one.*, two"):
        read_weights(tmp_path / "run")
    assert read_weights(tmp_path / "run" / "two.bin.index.json").keys() == tensors.keys()


def test_a_folder_without_an_index_is_no_checkpoint(tmp_path):
    with pytest.raises(WeightsError, match="is a folder"):
        read_weights(tmp_path)


def test_writes_to_any_shard_are_noticed(tmp_path):
    write(tmp_path / "run")
    with (
        pytest.raises(WeightsError, match=r"s2\.safetensors: was written to while it was read"),
        check_unchanged(tmp_path / "run"),
    ):
        os.utime(tmp_path / "run" / "s2.safetensors", ns=(0, 0))
    sha256 = hash_file(tmp_path / "run")
    save_file({"b": torch.ones(2, 3)}, tmp_path / "run" / "s2.safetensors")
    assert hash_file(tmp_path / "run") != sha256
