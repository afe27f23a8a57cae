"""Every input of a score belongs to its key: a change of one gives a new result, and nothing else does."""

import contextlib
import hashlib
import inspect
import sqlite3
from dataclasses import fields, replace

import numpy as np
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file
from small_onnx import SIZE, small_model, write_small
from small_study import write_study

from fastrdm import OnnxModel, Preprocessing, Store, Target, sweep
from fastrdm.networks import Layout
from fastrdm.runtimes import provider_table
from fastrdm.runtimes.provider_sources import PrecisionSetting
from fastrdm.scoring import jobs
from fastrdm.scoring.jobs import RunOptions
from fastrdm.scoring.listing import Listing
from fastrdm.studies import open_studies

PLAIN = Preprocessing((SIZE, SIZE))
SUBJECTS = 3


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A network as an architecture with weights, one with weights in another file, and a study."""
    monkeypatch.chdir(tmp_path)
    write_small(tmp_path / "net.onnx", "net.onnx_data")
    write_arch(small_model())
    write_weights()
    write_study(tmp_path / "study", n_subjects=SUBJECTS)
    return tmp_path


def write_arch(model, preprocessing=PLAIN):
    """Write a network as `export_onnx` does."""
    names = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    layout = Layout({name: ("float32", shape) for name, shape in names.items()})
    layers = [output.name for output in model.graph.output]
    facts = {"layers": str(layers).replace("'", '"'), "preprocessing": preprocessing.to_json()}
    facts |= {"architecture": "small", "state_dict": layout.to_json(), "fixed": ""}
    helper.set_model_props(model, {f"fastrdm.{name}": text for name, text in facts.items()})
    with open("arch.onnx", "wb") as file:  # noqa: PTH123
        file.write(model.SerializeToString())


def write_weights(seed=0, path="w.safetensors", prefix=""):
    weights = {t.name: numpy_helper.to_array(t) for t in small_model(seed).graph.initializer}
    save_file({f"{prefix}{name}": value for name, value in weights.items()}, path)


def scored(weights, arch=(), **options):
    """Number of checkpoints that a sweep scores."""
    options = {"engine": "in-process", "provider": "cpu"} | options
    errors = []
    summary = sweep(
        weights,
        arch,
        options.pop("data", "study"),
        store="scores.db",
        on_event=lambda event: errors.extend(filter(None, [event.get("error")])),
        **options,
    )
    assert not errors
    return summary.scored


def of_arch(**options):
    return scored("w.safetensors", "arch.onnx", **options)


def of_file(**options):
    return scored("net.onnx", **{"taps": ["second"], "preprocessing": PLAIN} | options)


def test_without_a_change_nothing_is_scored_again(here):
    assert (of_arch(), of_arch()) == (1, 0)
    assert (of_file(), of_file()) == (1, 0)


@pytest.mark.parametrize("names", [("net.onnx_data",), ("net.onnx.data",), ("a", "b")], ids=str)
def test_weights_in_other_files(here, names):
    write_small(here / "net.onnx", *names)
    assert of_file() == 1
    write_small(here / "net.onnx", *names, seed=1)
    assert (of_file(), of_file()) == (1, 0)
    write_small(here / "net.onnx", *names)
    assert of_file() == 0


def test_checkpoints_of_several_files_in_an_older_store_are_not_scored_again(here):
    """Their stamp was the time of the newest file; the hash of FILE.onnx and FILE.onnx.data is that of before."""
    path = write_small(here / "net.onnx", "net.onnx.data")
    assert of_file() == 1
    content = path.read_bytes() + (here / "net.onnx.data").read_bytes()
    newest = max(each.stat().st_mtime_ns for each in (path, here / "net.onnx.data"))
    with contextlib.closing(sqlite3.connect("scores.db")) as store, store:
        ((sha256,),) = store.execute("SELECT sha256 FROM files").fetchall()
        store.execute("UPDATE files SET mtime_ns = ?", (newest,))
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert of_file() == 0


@pytest.mark.parametrize("names", [("a.bin", "b.pth"), ("net.onnx_data",)], ids=str)
def test_weights_of_a_graph_are_no_checkpoints(here, names):
    (here / "runs").mkdir()
    write_small(here / "runs" / "net.onnx", *names)
    for weights in ("runs", "runs/*"):
        listing = Listing()
        listing.add(weights)
        assert [found.path for found in listing.found] == ["runs/net.onnx"]
        assert not listing.left_out


def test_two_graphs_with_different_weights_are_two_results(here):
    for i, name in enumerate("ab"):
        folder = here / name
        folder.mkdir()
        write_small(folder / "net.onnx", "model.onnx_data", seed=i)
    assert (here / "a" / "net.onnx").read_bytes() == (here / "b" / "net.onnx").read_bytes()
    assert scored(["a/net.onnx", "b/net.onnx"], taps=["second"], preprocessing=PLAIN) == 2
    with Store("scores.db") as store:
        values = {row["checkpoint"]: row["rho"] for row in dicts(store)}
    assert len(set(map(str, values.values()))) == 2


def dicts(store):
    table = store.table(subjects=True)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows()]


def replaced_node(model, operator):
    model.graph.node[1].op_type = operator
    return model


def with_function(operator):
    """A network whose second node calls a function of the model."""
    opset = [helper.make_opsetid("", 17)]
    body = [helper.make_node(operator, ["a"], ["b"])]
    function = helper.make_function("local", "Act", ["a"], ["b"], body, opset)
    model = small_model(functions=[function])
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Act", "local"
    return model


def with_taps(*layers):
    model = small_model()
    value = helper.make_tensor_value_info
    del model.graph.output[:]
    sizes = {"first": SIZE - 2, "second": SIZE - 4}
    model.graph.output.extend(value(x, 1, ("n", 4, sizes[x], sizes[x])) for x in layers)
    return model


def reordered(here):
    names = [f"image{i}.png" for i in (1, 0, 2, 3, 4, 5)]
    (here / "study" / "order.txt").write_text("\n".join(names))
    study_toml(here, order="order.txt")


def study_toml(here, order="sorted", **target):
    lines = [f'order = "{order}"', "[targets.it]", 'file = "it.npy"']
    lines += [f'{name} = "{value}"' for name, value in target.items()]
    (here / "study" / "study.toml").write_text("\n".join(lines))


def changed_subjects(here, change):
    path = here / "study" / "it.npy"
    np.save(path, change(np.load(path)))


def changed_image(here):
    path = here / "study" / "stimuli" / "image3.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)


def symmetric(rdms):
    rdms = rdms.copy()
    rdms[0, 0, 1] = rdms[0, 1, 0] = rdms[0, 0, 1] + 1
    return rdms


def changed_version(monkeypatch):
    monkeypatch.setattr(jobs, "__version__", "999")


def changed_kernels(monkeypatch):
    found = jobs.kernels()
    monkeypatch.setattr(jobs, "kernels", lambda: replace(found, name="other"))


# What changes, and the options of the second sweep.
ARCH_CHANGES = {
    "weights": lambda here, patch: write_weights(seed=1),
    "graph": lambda here, patch: write_arch(replaced_node(small_model(), "Sigmoid")),
    "taps": lambda here, patch: write_arch(with_taps("first")),
    "order of taps": lambda here, patch: write_arch(with_taps("second", "first")),
    "preprocessing": lambda here, patch: write_arch(small_model(), replace(PLAIN, mean=(0, 0, 0))),
    "filter": lambda here, patch: {"preprocessing": replace(PLAIN, resize="pil-bicubic")},
    "crop": lambda here, patch: {"preprocessing": {"crop": 0.9}},
    "order of channels": lambda here, patch: {"preprocessing": {"channel_order": "BGR"}},
    "key": lambda here, patch: {"key": "."},
    "allow_missing": lambda here, patch: {"allow_missing": ["other*"]},
    "precision": lambda here, patch: {"precision": "bf16"},
    "provider options": lambda here, patch: {"provider_options": {"option": "2"}},
    "inconsistent answers": lambda here, patch: {"allow_inconsistent": True},
    "a limit of memory": lambda here, patch: {"max_memory": "1GiB"},
    "a projection": lambda here, patch: {"projection": 20},
    "stimuli": lambda here, patch: changed_image(here),
    "order of stimuli": lambda here, patch: reordered(here),
    "subjects": lambda here, patch: changed_subjects(here, symmetric),
    "order of subjects": lambda here, patch: changed_subjects(here, lambda rdms: rdms[::-1]),
    "fewer subjects": lambda here, patch: changed_subjects(here, lambda rdms: rdms[:-1]),
    "protocol": lambda here, patch: study_toml(here, protocol="rsatoolbox"),
    "NaN policy": lambda here, patch: study_toml(here, nan_policy="omit"),
    "name of the study": lambda here, patch: renamed(here),
    "version": lambda here, patch: changed_version(patch),
    "kernels": lambda here, patch: changed_kernels(patch),
}


def renamed(here):
    (here / "study").rename(here / "other")
    return {"data": "other"}


@pytest.fixture
def any_setting(monkeypatch):
    """Let the CPU's provider accept every option, and say that it runs in bf16."""
    provider = provider_table.PROVIDERS["cpu"]
    source = provider.sources[0]
    able = {"fp32": PrecisionSetting(), "bf16": PrecisionSetting()}
    provider = replace(provider, sources=(replace(source, precisions=able),), options=lambda *_: {})
    monkeypatch.setitem(provider_table.PROVIDERS, "cpu", provider)


@pytest.mark.parametrize("change", ARCH_CHANGES)
def test_what_changes_a_score_is_scored_anew(here, monkeypatch, any_setting, change):
    write_arch(with_taps("first", "second") if "taps" in change else small_model())
    assert of_arch() == 1
    options = ARCH_CHANGES[change](here, monkeypatch) or {}
    assert (of_arch(**options), of_arch(**options)) == (1, 0)


def test_the_functions_of_a_graph(here):
    write_arch(with_function("Relu"))
    assert of_arch() == 1
    write_arch(with_function("Sigmoid"))
    assert (of_arch(), of_arch()) == (1, 0)


def test_taps_and_preprocessing_of_a_file_that_brings_its_graph(here):
    assert of_file() == 1
    for options in (
        {"taps": ["first"]},
        {"taps": ["first", "second"]},
        {"taps": ["second", "first"]},
        {"taps": {"other": "second"}},
        {"preprocessing": replace(PLAIN, std=(1, 1, 1))},
    ):
        assert (of_file(**options), of_file(**options)) == (1, 0)


def test_prefix_and_averaged_weights(here):
    for path, prefix in (("w.safetensors", ""), ("p.safetensors", "module.")):
        write_weights(path=path, prefix=prefix)
    assert scored("p.safetensors", "arch.onnx") == 1
    assert scored("p.safetensors", "arch.onnx", prefix="module.") == 1
    assert scored("p.safetensors", "arch.onnx", prefix="module.") == 0


def test_batches_count_if_answers_may_depend_on_them(here):
    assert of_arch(batch_size=2) == 1
    assert of_arch(batch_size=3) == 0
    assert of_arch(batch_size=3, allow_inconsistent=True) == 1
    assert of_arch(batch_size=2, allow_inconsistent=True) == 1
    assert of_arch(batch_size=3, allow_inconsistent=True) == 0


def test_provider_options_and_the_files_that_they_name(here, any_setting):
    (here / "table").write_text("1")
    options = {"provider_options": {"calibration": "table", "device_id": "0"}}
    assert (of_arch(**options), of_arch(**options)) == (1, 0)
    (here / "table").write_text("2")
    assert (of_arch(**options), of_arch(**options)) == (1, 0)
    # Another device changes the last bits at most, as another provider.
    assert of_arch(provider_options={"calibration": "table", "device_id": "1"}) == 0


def test_the_background_of_transparent_images(here):
    path = here / "study" / "stimuli" / "image0.png"
    Image.open(path).convert("RGBA").save(path)
    study = here / "study" / "study.toml"
    text = study.read_text()
    for background in ("#ffffff", "#000000"):
        study.write_text(f'background = "{background}"\n{text}')
        assert (of_arch(), of_arch()) == (1, 0)


def test_every_field_of_a_protocol(here):
    (study,) = open_studies("study")
    target = study.targets["it"]
    subjects = np.load("study/it.npy")
    changes = {
        "name": "mine", "method": "cosine", "squared": False, "pool": "rank", "bound": "lower",
        "source": "mine", "average_times": True,
    }  # fmt: skip
    assert set(changes) == {field.name for field in fields(target.protocol)}
    for name, value in {"": "", **changes}.items():
        protocol = replace(target.protocol, **{name: value} if name else {})
        other = replace(study, targets={"it": Target(subjects, protocol)})
        assert (of_arch(data=other), of_arch(data=other)) == (1, 0), name


UNCHANGED = {
    "batch_size": 2, "n_threads": 1, "keep_rdms": True, "provider": "auto", "progress": False,
    "start_timeout": 100.0, "keep_grams": True,
}  # fmt: skip


@pytest.mark.parametrize("option", UNCHANGED)
def test_what_changes_no_score_is_not_scored_anew(here, option):
    assert (of_arch(), of_arch(**{option: UNCHANGED[option]})) == (1, 0)


def test_every_option_of_a_sweep_is_in_the_key_or_changes_no_score():
    """A new option goes into the key, with a test above, or into UNCHANGED."""
    in_key = {"precision", "provider_options", "allow_inconsistent", "max_memory", "projection"}
    assert {field.name for field in fields(RunOptions)} == in_key | set(UNCHANGED)


def test_a_sweep_has_no_option_that_changes_scores_outside_the_key(here):
    """Every argument of a network's RDMs that changes numbers is in the key, or no option of a sweep."""
    parameters = {
        *inspect.signature(OnnxModel.__init__).parameters,
        *inspect.signature(OnnxModel.rdms).parameters,
    }
    assert {"projection", "max_memory", "method"} <= parameters
    with pytest.raises(TypeError, match="method"):
        of_arch(method="cosine")
