"""Small valid files of every kind that fastrdm reads, and the functions that read them."""

import contextlib
import json
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from mat73 import Cell, write_mat73
from mutations import mutate, mutate_deflated, mutate_header, mutate_json, mutate_zip
from PIL import Image

N = 6


@dataclass(frozen=True)
class Reader:
    """A kind of file: its name in a folder, what writes valid ones, what reads one, and how its copies are changed."""

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    mutations: tuple[Callable[..., bytes], ...] = (mutate,)
    # Written beside the file, once.
    beside: Callable[[Path], Any] = field(default=lambda folder: None)


def rng():
    return np.random.default_rng(0)


def rdms(*shape):
    values = rng().random((*shape, N, N)) + 0.1
    values = values + np.swapaxes(values, -1, -2)
    values[..., np.arange(N), np.arange(N)] = 0
    return values


# Arrays


def read_arrays(path):
    from fastrdm._base import open_arrays, open_contents
    from fastrdm.responses import read_responses
    from fastrdm.studies import algonauts, read_rdms

    def read_contents(path):
        contents = open_contents(path).with_fields()
        for key in contents.entries:
            contents.read(key)

    def read_parts(path):
        for array in open_arrays(path).arrays.values():
            array.read((slice(0, 2),) * min(1, len(array.shape)))

    others = (
        read_parts,
        read_rdms,
        read_responses,
        algonauts.read_target,
        algonauts.read_submission,
    )
    read_any(path, read_contents, *others)


def read_any(path, *functions):
    """Call all functions; raise the first error if all raise one."""
    errors = []
    for function in functions:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function(path)
        except ValueError as error:
            errors.append(error)
    if len(errors) == len(functions):
        raise errors[0]


CHALLENGE = {"EVC_RDMs": rdms(3), "IT_RDMs": rdms(3)}
STRUCT = {"RDM": rdms()[:], "name": "täxt", "inner": {"x": np.arange(5.0)}}


def write_npz(path):
    np.savez_compressed(path, **CHALLENGE, labels=np.array(["a", "b"], object), t=np.array("text"))


def write_pickle(path):
    described = {
        "pattern_descriptors": {"c": np.array(list("abcdef"))},
        "rdm_descriptors": {"subject": ["a", "b"]},
    }
    contents = {
        "dissimilarities": rdms(2)[:, *np.triu_indices(N, 1)],
        "descriptors": {},
        **described,
    }
    path.write_bytes(pickle.dumps(contents, 4))


def write_old_pickle(path):
    path.write_bytes(
        pickle.dumps({"a": rdms(), "o": np.array(["x", None], object), "s": np.float64(2)}, 2)
    )


def write_meadows(path):
    task = {
        "task": {"name": "t"},
        "stimuli": [{"name": c} for c in "abcdef"],
        "rdm": [*map(float, range(15))],
    }
    path.write_text(json.dumps({"p1": {"tasks": [task]}, "p2": {"tasks": [task]}}))


def write_mat(**options):
    def write(path):
        from scipy.io import savemat

        values = {"x": rdms(2), "t": "text", "z": np.array([1 + 2j])}
        if options.get("format") != "4":
            values |= {"s": STRUCT, "c": np.array([rdms(), "x"], object)}
        else:
            values["x"] = rdms()
        savemat(path, values, **options)

    return write


def write_v73(path):
    cell = Cell((1, 2), [rdms(), rdms()])
    structs = Cell((1, 2), [{"RDM": rdms(), "name": "a"}] * 2, ["RDM", "name"])
    write_mat73(path, {"x": rdms(2), "c": cell, "s": structs, "t": "text", "d": {"y": rdms()}})


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("rdms", data=rdms(2), compression="gzip", shuffle=True)
        file.create_dataset(
            "g/labels", data=np.array(list("abcdef"), object), dtype=h5py.string_dtype()
        )
        file["g/bytes"] = np.array([b"ab", b"c"])
        file["rdms"].attrs["units"] = "text"
        file["rdms"].attrs["scale_factor"] = 1.0


def write_netcdf4(path):
    with h5py.File(path, "w", track_order=True) as file:
        for name, n in (("subject", 2), ("condition", N)):
            file[name] = np.arange(n)
            file[name].make_scale(name)
        file["rdm"] = rdms(2)
        for axis, name in enumerate(("subject", "condition", "condition")):
            file["rdm"].dims[axis].attach_scale(file[name])


def write_netcdf3(path):
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        file.createDimension("subject", 2)
        file.createDimension("condition", N)
        variable = file.createVariable("rdm", "f8", ("subject", "condition", "condition"))
        variable[:] = rdms(2)
        variable._FillValue = -1.0


# Weights


def state():
    import torch

    torch.manual_seed(0)
    return {"conv.weight": torch.randn(4, 3, 3, 3), "fc.bias": torch.zeros(5), "n": torch.tensor(3)}


def checkpoint():
    import argparse

    return {
        "state_dict": state(),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
        "ema": state(),
        3: [1.0],
    }


def write_torch(make, **options):
    def write(path):
        import torch

        torch.save(make(), path, **options)

    return write


def write_safetensors(path):
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in state().items()}, path, {"format": "pt"})


SHARD = "model-00001-of-00001.safetensors"


def write_index(path):
    files = dict.fromkeys(state(), SHARD)
    path.write_text(json.dumps({"metadata": {}, "weight_map": files}))


def read_weights(path):
    from fastrdm.networks import hash_file, is_complete, load_state_dict
    from fastrdm.networks import read_weights as read

    is_complete(path)
    with contextlib.suppress(ValueError):
        hash_file(path)
    read_any(path, read, load_state_dict)


def write_onnx(path):
    from onnx import TensorProto, helper, numpy_helper, save

    weight = numpy_helper.from_array(rng().random((4, 3, 3, 3)).astype(np.float32), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Flatten", ["b"], ["y"]),
        ],
        "net",
        [value("x", TensorProto.FLOAT, ("n", 3, 8, 8))],
        [value("y", TensorProto.FLOAT, ("n", 256))],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, path)


def write_external(path):
    from onnx import load, save

    write_onnx(path)
    save(load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def read_onnx(path):
    from fastrdm import OnnxModel, Preprocessing
    from fastrdm.networks import hash_file, is_complete

    def own(path):
        OnnxModel(path, n_threads=1)

    def tapped(path):
        OnnxModel(path, taps=["a", "b"], preprocessing=Preprocessing((8, 8)), n_threads=1)

    is_complete(path)
    with contextlib.suppress(ValueError):
        hash_file(path)
    read_any(path, own, tapped)


def write_exported(path):
    from fastrdm import Preprocessing
    from fastrdm.runtimes.foreign import open_foreign

    write_onnx(path)
    graph = open_foreign(path, ["a", "b"], Preprocessing((8, 8)))
    path.write_bytes(graph.source)


# Studies, manifests, settings

MANIFEST = """[[network]]
arch = "models.networks:resnet20"
weights = ["runs/a/*.pth", "runs/b"]
taps = ["layer*", "fc"]
labels = 'seed(?P<seed>\\d+)/epoch(?P<epoch>\\d+)'
key = "ema.module"
allow_missing = ["fc*"]
[network.preprocessing]
size = [224, 224]
crop = 0.9
"""
STUDY = """name = "objects"
order = "order.csv"
background = "#ffffff"
[targets.it]
file = "it.npy"
protocol = "rsatoolbox"
ceiling = 0.5
[truth]
it = "conv1"
"""


def write_images(folder):
    (folder / "stimuli").mkdir(exist_ok=True)
    for i, name in enumerate("abcdef"):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(folder / "stimuli" / f"{name}.png")
    np.save(folder / "it.npy", rdms(3))
    (folder / "order.csv").write_text(
        "stimulus,n\n" + "".join(f"{name}.png,1\n" for name in "abcdef")
    )
    (folder / "study.toml").write_text(STUDY)


def read_study(path):
    from fastrdm.studies import check_studies, open_studies

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_studies(path.parent)
        open_studies(path.parent)


def read_manifest(path):
    from fastrdm.scoring.manifest import read_manifest as read

    read(path)


def read_preprocessing(path):
    from fastrdm.networks import request_preprocessing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        request_preprocessing(path)


TIMM = {
    "architecture": "resnet50",
    "pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 0.9, "crop_mode": "center"},
}
TOML = "size = 32\ncrop = 0.9\nsource = 'timm'\n"
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
FIELDS = {
    "size": [32, 32],
    "resize": "pil-bicubic",
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "crop": 0.9,
}


def write_json(values):
    return lambda path: path.write_text(json.dumps(values))


# Images


def write_image(mode="RGB", **options):
    def write(path):
        pixels = rng().integers(0, 256, (9, 7, 4), np.uint8)
        image = Image.fromarray(pixels[..., :3]) if mode != "RGBA" else Image.fromarray(pixels)
        image.convert(mode).save(path, **options)

    return write


def read_image(path):
    from fastrdm import Preprocessing
    from fastrdm.images import inspect_image

    inspect_image(path)
    Preprocessing((8, 8)).pixels([path], background="#ffffff")


def read_cache(path):
    from fastrdm import Preprocessing
    from fastrdm.images import cached_pixels

    folder = path.parent / "cache"
    image = path.parent / "a.png"
    cached = next(folder.glob("fastrdm-pixels-*.npy"))
    content = path.read_bytes()
    before = cached.read_bytes()
    cached.write_bytes(content)
    pixels = cached_pixels([image], Preprocessing((8, 8)), folder)
    if not np.array_equal(pixels, Preprocessing((8, 8)).pixels([image])):
        raise AssertionError("cached pixels differ from those of the image")
    cached.write_bytes(before)


def write_cache(path):
    from fastrdm import Preprocessing
    from fastrdm.images import cached_pixels

    write_image()(path.parent / "a.png")
    cached_pixels([path.parent / "a.png"], Preprocessing((8, 8)), path.parent / "cache")
    path.write_bytes(next((path.parent / "cache").glob("fastrdm-pixels-*.npy")).read_bytes())


def write_export(path):
    from fastrdm.runtimes.export_inputs import ExportInputs
    from fastrdm.runtimes.exports import Exported, _write

    names = ExportInputs.__dataclass_fields__
    inputs = ExportInputs(**{name: {} for name in names})
    _write(path, Exported(b"graph", "{}", ("a",), "f" * 64, "{}", "[]"), inputs)


def read_export(path):
    from fastrdm.runtimes.exports import _read

    try:
        _read(path)
    # As the cache does, which exports again.
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


# Targets and stores


def write_target(path):
    from fastrdm import Target

    Target(rdms(3)).save(path)


def read_target(path):
    from fastrdm import Target

    target = Target.load(path)
    target.score(rng().random((2, N * (N - 1) // 2)))


def write_store(path):
    from store_writer import Writer, scored

    writer = Writer(path)
    for i in range(3):
        writer.record(scored(i))
    writer.fail()
    writer.store.end_run(writer.run, "done")
    writer.store.close()


def read_store(path):
    from fastrdm.scoring import Store

    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    with Store(path) as store:
        list(store.rows())
        list(store.rows(subjects=True, history=True))
        store.runs(), store.failures(), store.environments(), store.counts()
        str(store.table())
        at = list(store.columns()).index("sha256")
        for sha256 in {row[at] for row in store.rows()}:
            store.rdms(str(sha256))


MAGIC = b"fastrdm target\n"
READERS = {
    reader.name: reader
    for reader in (
        Reader("plain.npy", lambda path: np.save(path, rdms(2)), read_arrays),
        Reader("dict.npy", lambda path: np.save(path, CHALLENGE, allow_pickle=True), read_arrays),
        Reader("arrays.npz", write_npz, read_arrays, (mutate, mutate_zip, mutate_zip)),
        Reader("rsatoolbox.pkl", write_pickle, read_arrays),
        Reader("old.pkl", write_old_pickle, read_arrays),
        Reader("meadows.json", write_meadows, read_arrays, (mutate, mutate_json)),
        Reader("version4.mat", write_mat(format="4"), read_arrays),
        Reader("version5.mat", write_mat(), read_arrays),
        Reader(
            "compressed.mat",
            write_mat(do_compression=True),
            read_arrays,
            (mutate, mutate_deflated, mutate_deflated),
        ),
        Reader("version73.mat", write_v73, read_arrays),
        Reader("plain.h5", write_hdf5, read_arrays),
        Reader("netcdf4.nc", write_netcdf4, read_arrays),
        Reader("netcdf3.nc", write_netcdf3, read_arrays),
        Reader("state.pth", write_torch(state), read_weights, (mutate, mutate_zip, mutate_zip)),
        Reader(
            "checkpoint.ckpt",
            write_torch(checkpoint),
            read_weights,
            (mutate, mutate_zip, mutate_zip),
        ),
        Reader("old.pt", write_torch(state, _use_new_zipfile_serialization=False), read_weights),
        Reader("state.safetensors", write_safetensors, read_weights),
        Reader(
            "model.safetensors.index.json",
            write_index,
            read_weights,
            (mutate, mutate_json),
            lambda folder: write_safetensors(folder / SHARD),
        ),
        Reader("net.onnx", write_onnx, read_onnx),
        Reader("exported.onnx", write_exported, read_onnx),
        Reader("external.onnx", write_external, read_onnx),
        Reader(
            "saved.target",
            write_target,
            read_target,
            (mutate, mutate_header(MAGIC), mutate_header(MAGIC)),
        ),
        Reader("results.db", write_store, read_store),
        Reader("manifest.toml", lambda path: path.write_text(MANIFEST), read_manifest),
        Reader("study.toml", lambda path: path.write_text(STUDY), read_study, beside=write_images),
        Reader(
            "order.csv",
            lambda path: path.write_text(
                "stimulus,n\n" + "".join(f"{c}.png,1\n" for c in "abcdef")
            ),
            read_study,
            beside=write_images,
        ),
        Reader(
            "timm.json", write_json(TIMM), read_preprocessing, (mutate, mutate_json, mutate_json)
        ),
        Reader(
            "processor.json",
            write_json(PROCESSOR),
            read_preprocessing,
            (mutate, mutate_json, mutate_json),
        ),
        Reader(
            "fields.json",
            write_json(FIELDS),
            read_preprocessing,
            (mutate, mutate_json, mutate_json),
        ),
        Reader(
            "fields.toml",
            lambda path: path.write_text(TOML),
            read_preprocessing,
        ),
        *(
            Reader(f"image.{kind}", write_image(), read_image)
            for kind in ("png", "jpg", "bmp", "gif", "tiff", "webp")
        ),
        Reader("grey.png", write_image("L"), read_image),
        Reader("transparent.png", write_image("RGBA"), read_image),
        Reader("palette.png", write_image("P"), read_image),
        Reader("cached.pixels", write_cache, read_cache),
        Reader("export.bin", write_export, read_export),
    )
}
