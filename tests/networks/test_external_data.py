"""Weights that an ONNX file keeps in other files: they belong to the hash, and are read below its folder only."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_onnx import SIZE, move_out, refer, small_model, write_small

from fastrdm import OnnxModel, Preprocessing
from fastrdm.networks import (
    Graph,
    WeightsError,
    check_file,
    check_unchanged,
    files_of,
    hash_file,
    is_complete,
)
from fastrdm.networks.external_data import INNER_FIELDS, NotOnnxError, external_locations
from fastrdm.runtimes import inspect_file
from fastrdm.scoring.jobs import Stamp

PLAIN = Preprocessing((SIZE, SIZE))
NAMES = [("net.onnx.data",), ("net.onnx_data",), ("weights/w.bin",), ("w1", "w2")]


def activations(path, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    model = OnnxModel(path, "cpu", taps=["first", "second"], preprocessing=PLAIN)
    return model.activations(images)


def locations(model):
    content = model.SerializeToString()
    return external_locations(lambda start, n: content[start : start + n], len(content))


def age(*paths):
    """Make files old enough that their stamps are trusted."""
    for path in paths:
        os.utime(path, (1e9, 1e9))


@pytest.mark.parametrize("names", NAMES, ids="-".join)
def test_files_of_weights_belong_to_hash_and_stamp(names, tmp_path):
    path = write_small(tmp_path / "net.onnx", *names)
    files = [path, *(tmp_path / name for name in names)]
    assert files_of(path) == files
    assert is_complete(path)
    age(*files)
    before = hash_file(path), Stamp.of(path)
    for file in files[1:]:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        # An older file of the same size shows, too.
        os.utime(file, (9e8, 9e8))
        changed = hash_file(path), Stamp.of(path)
        assert not set(before) & set(changed)
        before = changed
    with (
        pytest.raises(WeightsError, match="was written to while it was read"),
        check_unchanged(path),
    ):
        os.utime(files[-1], (8e8, 8e8))
    files[-1].unlink()
    assert Stamp.of(path) != before[1]
    assert not is_complete(path)
    with pytest.raises(WeightsError, match=f"the file {files[-1].name} is missing"):
        check_file(path)


@pytest.mark.parametrize("names", NAMES, ids="-".join)
def test_networks_with_weights_in_other_files_run(names, tmp_path):
    (tmp_path / "one").mkdir()
    inside = activations(write_small(tmp_path / "one" / "net.onnx"))
    outside = activations(write_small(tmp_path / "net.onnx", *names))
    for layer, values in inside.items():
        np.testing.assert_array_equal(outside[layer], values)


def test_a_copy_has_the_hash_of_its_original_and_moved_borders_change_it(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = write_small(tmp_path / "a" / "net.onnx", "w1", "w2")
    copy = tmp_path / "b" / "other.onnx"
    for name, new in {"net.onnx": copy.name, "w1": "w1", "w2": "w2"}.items():
        (copy.parent / new).write_bytes((first.parent / name).read_bytes())
    assert hash_file(copy) == hash_file(first)
    # The same bytes in a row, but the second weights begin one value later.
    one, two = ((copy.parent / name).read_bytes() for name in ("w1", "w2"))
    (copy.parent / "w1").write_bytes(one + two[:4])
    (copy.parent / "w2").write_bytes(two[4:] + bytes(4))
    (first.parent / "w2").write_bytes(two + bytes(4))
    assert hash_file(copy) != hash_file(first)


def test_the_walker_knows_where_onnx_keeps_tensors():
    for name, fields in INNER_FIELDS.items():
        known = {
            field.number: field.message_type.name
            for field in getattr(onnx, name).DESCRIPTOR.fields
            if field.message_type
            and field.message_type.name in INNER_FIELDS
            # Metadata are entries, too, and no places of tensors.
            and (field.message_type.name != "StringStringEntryProto" or field.number == 13)
        }
        assert known == fields, name


def tensor_at(name):
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1])
    refer(tensor, name)
    return tensor


def test_locations_are_found_anywhere_in_a_model():
    model = small_model()
    assert locations(model) == ()
    graph = model.graph
    graph.initializer.append(tensor_at("initialiser"))
    graph.sparse_initializer.add(values=tensor_at("values"), indices=tensor_at("indices"))
    node = graph.node.add(op_type="If")
    node.attribute.add(name="value", t=tensor_at("attribute"))
    node.attribute.add(name="values", tensors=[tensor_at("list")])
    branch = node.attribute.add(name="then_branch").g
    branch.initializer.append(tensor_at("branch"))
    branch.node.add(op_type="Loop").attribute.add(name="body").g.initializer.append(
        tensor_at("body")
    )
    function = model.functions.add(name="f")
    function.node.add(op_type="Constant").attribute.add(name="value", t=tensor_at("function"))
    model.training_info.add().algorithm.initializer.append(tensor_at("training"))
    model.metadata_props.add(key="location", value="metadata")
    inside = tensor_at("unused")
    inside.data_location = TensorProto.DEFAULT
    graph.initializer.append(inside)
    large = numpy_helper.from_array(np.zeros(5000, np.float32), "large")
    large.external_data.add(key="location", value="unused")
    graph.initializer.append(large)
    expected = "attribute body branch function indices initialiser list training values"
    assert locations(model) == tuple(expected.split())


@pytest.mark.parametrize(
    "content",
    [b"graph", b"\x3a\x80", b"\x3a\x05\x00", b"\x0b\x08\x01", b"\x0c", b"\xff" * 11, b"\x00\x01"],
)
def test_bytes_that_are_no_model_have_no_locations(content, tmp_path):
    with pytest.raises(NotOnnxError):
        external_locations(lambda start, n: content[start : start + n], len(content))
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert files_of(path) == [path]


@pytest.mark.parametrize("inner", [b"", b"\x08\x01", b"\x00\x01", b"\xab\x06\xac\x06"])
def test_groups_are_skipped(inner):
    """protobuf reads models with them, also if a field in them has the number 0."""
    content = small_model().SerializeToString() + b"\xa3\x06" + inner + b"\xa4\x06"
    assert onnx.load_model_from_string(content).graph.node
    assert external_locations(lambda start, n: content[start : start + n], len(content)) == ()


def test_tensors_of_attributes_and_branches_are_read(tmp_path):
    """A Constant in the graph and an initialiser in a branch, both in another file."""
    path, value = tmp_path / "net.onnx", helper.make_tensor_value_info
    model = small_model()
    graph = model.graph
    scale = numpy_helper.from_array(np.full((1, 4, 1, 1), 2, np.float32), "scale")
    graph.node.append(helper.make_node("Constant", [], ["c"], value=scale))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    branches = {}
    for branch in ("then_branch", "else_branch"):
        shift = numpy_helper.from_array(np.full((1, 4, 1, 1), 3, np.float32), "shift")
        branches[branch] = helper.make_graph(
            [helper.make_node("Add", ["scaled", "shift"], ["branch"])],
            branch,
            [],
            [value("branch", TensorProto.FLOAT, None)],
            [shift],
        )
    graph.node.append(helper.make_node("Mul", ["second", "c"], ["scaled"]))
    graph.node.append(helper.make_node("If", ["true"], ["third"], **branches))
    graph.output.append(value("third", TensorProto.FLOAT, ("n", 4, SIZE - 4, SIZE - 4)))
    move_out(graph.node[3].attribute[0].t, path, "constants")
    for attribute in graph.node[-1].attribute:
        move_out(attribute.g.initializer[0], path, "constants")
    path.write_bytes(model.SerializeToString())
    assert files_of(path)[1:] == [tmp_path / "constants"]
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    model = OnnxModel(path, "cpu", taps=["second", "third"], preprocessing=PLAIN)
    found = model.activations(images)
    np.testing.assert_allclose(found["third"], 2 * found["second"] + 3, rtol=1e-5)


@pytest.mark.parametrize(("kind", "n_bytes"), [("BFLOAT16", 2), ("FLOAT8E4M3FN", 1), ("INT4", 0.5)])
def test_types_that_numpy_lacks(kind, n_bytes, tmp_path):
    path, model = tmp_path / "net.onnx", small_model()
    tensor = TensorProto(name="t", data_type=TensorProto.DataType.Value(kind), dims=[4])
    tensor.raw_data = content = bytes(range(int(4 * n_bytes)))
    move_out(tensor, path, "t")
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    graph = Graph.from_file(path)
    assert graph.read().graph.initializer[-1].raw_data == content and not graph.initialisers


OUTSIDE = ["/etc/passwd", "../w", "a/../../w", "C:\\w", "..\\w", "\\\\host\\w", "", ".", "w\0x"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("where", ["initialiser", "attribute"])
def test_locations_outside_the_folder_are_refused(name, where, tmp_path):
    (tmp_path / "w").write_bytes(bytes(1000))
    path, model = tmp_path / "folder" / "net.onnx", small_model()
    path.parent.mkdir()
    if where == "initialiser":
        refer(model.graph.initializer[0], name)
    else:
        model.graph.node[0].attribute.add(name="value", t=tensor_at(name))
    path.write_bytes(model.SerializeToString())
    refused_everywhere(path, "refers to weights outside its folder")


def refused_everywhere(path, match):
    for read in (files_of, hash_file, check_file, Graph.from_file, inspect_file):
        with pytest.raises(WeightsError, match=match) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not is_complete(path)


def test_links_are_followed_only_inside_the_folder(tmp_path):
    (tmp_path / "a").mkdir()
    path = write_small(tmp_path / "a" / "net.onnx", "w")
    file = path.parent / "w"
    file.rename(path.parent / "real")
    file.symlink_to("real")
    assert files_of(path) == [path, file] and Graph.from_file(path).initialisers
    (path.parent / "real").rename(tmp_path / "real")
    file.unlink()
    file.symlink_to(tmp_path / "real")
    refused_everywhere(path, "'w' is a link to .*/real; copy the file there")
    file.unlink()
    file.symlink_to(file)
    with pytest.raises(WeightsError, match="the file w is missing|not a regular file"):
        check_file(path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_only_regular_files_are_read(make, tmp_path):
    path = write_small(tmp_path / "net.onnx", "w")
    (tmp_path / "w").unlink()
    make(tmp_path / "w")
    refused_everywhere(path, "w is not a regular file")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no devices")  # noqa: PTH110
def test_devices_are_not_read(tmp_path):
    path = write_small(tmp_path / "net.onnx", "w")
    (tmp_path / "w").unlink()
    (tmp_path / "w").symlink_to("/dev/zero")
    refused_everywhere(path, "outside its folder")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"offset": -1}, "is not an offset and a length of 432 bytes"),
        ({"offset": "x"}, "is not an offset and a length of 432 bytes"),
        ({"length": 8}, "is not an offset and a length of 432 bytes"),
        ({"offset": 2**62}, "is too short for the weights"),
    ],
)
def test_places_that_cannot_be_right_are_refused(changes, match, tmp_path):
    path, model = write_small(tmp_path / "net.onnx", "w"), small_model()
    refer(model.graph.initializer[0], "w", **changes)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=match):
        Graph.from_file(path)


def test_shapes_and_types_that_cannot_be_right_are_refused(tmp_path):
    path = tmp_path / "net.onnx"
    for kind, dims in ((TensorProto.FLOAT, [-1, 4]), (TensorProto.STRING, [4]), (99, [4])):
        write_small(path, "w")
        model = onnx.load(path, load_external_data=False)
        tensor = model.graph.initializer[0]
        tensor.data_type = kind
        tensor.dims[:] = dims
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match="'w1' of type .* cannot be in another file"):
            Graph.from_file(path)


def test_the_address_of_memory_is_no_place(tmp_path):
    """ONNX Runtime gives this name to tensors in its memory, with an address as the offset."""
    path, model = tmp_path / "net.onnx", small_model()
    refer(model.graph.initializer[0], "*/_ORT_MEM_ADDR_/*", 4096, 432)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileNotFoundError, match="no such file"):
        OnnxModel(path, "cpu", taps=["first"], preprocessing=PLAIN)


def test_stamps_need_no_onnx(tmp_path):
    path = write_small(tmp_path / "net.onnx", "w")
    code = (
        "import sys; from fastrdm.scoring.jobs import Stamp; print(Stamp.of(sys.argv[1]).size,"
        " [name for name in ('onnx', 'onnxruntime', 'torch') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    size = path.stat().st_size + (tmp_path / "w").stat().st_size
    assert found.stdout == f"{size} []\n", found.stderr


def test_tensors_that_share_bytes_cannot_expand_without_bound(tmp_path):
    """200 tensors of 1 MB in one file of 1 MB."""
    path, model = tmp_path / "net.onnx", small_model()
    (tmp_path / "w").write_bytes(bytes(2**20))
    for i in range(200):
        tensor = TensorProto(name=f"t{i}", data_type=TensorProto.FLOAT, dims=[2**18])
        refer(tensor, "w")
        model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="would expand to 200 MiB from 1.* share the same bytes"):
        Graph.from_file(path)
