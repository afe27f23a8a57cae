"""A synthetic study to try fastrdm on: drawn stimuli, simulated subjects, and the right answer.

Each region's subjects hold the geometry of one known layer of a small network, under as much noise
as makes their noise ceiling that published for the Algonauts 2019 challenge's 92 images. Whoever
scores that network finds the known layers best.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require, square
from fastrdm.cli.drawings import CATEGORIES, draw
from fastrdm.images import Preprocessing
from fastrdm.runtimes import OnnxModel
from fastrdm.similarity import Target
from fastrdm.studies import CEILINGS

#: Region → layer of the sample's own network that its subjects hold.
LAYERS: Mapping[str, str] = {"evc": "conv1", "it": "fc"}

_LAYERS = ("conv1", "conv2", "conv3", "conv4", "fc")
_NETWORK = "network.onnx"
# What a later sample removes, beside the README that marks the folder as a sample.
_CONTENTS = ("study.toml", "order.csv", "targets.npz", _NETWORK, "stimuli", "test_stimuli")
_MARK = "This is a synthetic study, made by fastrdm. No brain was measured for it."
_N_TEST = 12

_README = """{mark}

The stimuli are drawn by a program. The subjects are simulated: each region's RDMs are those of one
layer of {network}, named under [truth] in study.toml, under random noise. The noise is as strong as
makes the noise ceilings those published for the 92 images of the Algonauts 2019 challenge (EVC
{evc}, IT {it}). Any score on this study says something about the software and nothing about brains.

The real data: the Algonauts Project 2019 challenge, Cichy et al. (2019), arXiv:1905.05675,
http://algonauts.csail.mit.edu. Unpack its download so that it lies as

    DATA/algonauts2019/Training_Data/92_Image_Set/92images/*.jpg
    DATA/algonauts2019/Training_Data/92_Image_Set/target_fmri.mat  (and target_meg.mat)
    DATA/algonauts2019/Training_Data/118_Image_Set/118images/*.jpg
    DATA/algonauts2019/Training_Data/118_Image_Set/target_fmri.mat  (and target_meg.mat)
    DATA/algonauts2019/Test_Data/78images/*.jpg

and give DATA to fastrdm, or set the environment variable FASTRDM_DATA to it.
"""


def write_sample(
    folder: str | Path,
    *,
    seed: int = 2019,
    n_conditions: int = 60,
    n_subjects: int = 15,
    network: str | Path | None = None,
    layers: Mapping[str, str] | None = None,
) -> Path:
    """Write a synthetic study, the same for the same arguments.

    A subject's RDM is 1 + (z + σ e) / (10 √(1 + σ²)), with z the layer's standardised RDM, e
    standard normal noise of the subject's own, and σ such that the noise ceiling is the published
    one of the challenge's 92 images: 0.1589 for "evc", 0.3075 for "it".

    Parameters
    ----------
    folder : path-like
        Where to; made where missing. An earlier sample there is replaced, file by file.
    seed : int
        Of the stimuli, of the sample's network and of the noise.
    n_conditions : int
        Number of stimuli, 10 or more.
    n_subjects : int
        Number of simulated subjects, 8 or more: the ceiling of fewer is above the published one
        for noise alone.
    network : path-like, optional
        An exported network whose geometry the subjects hold, in place of the sample's own, which
        is written beside the study as `network.onnx`.
    layers : mapping of str to str, optional
        Its layer for each of "evc" and "it"; needed with `network`. By default `LAYERS`.

    Returns
    -------
    Path
        The folder: `study.toml`, `stimuli/`, `order.csv`, `test_stimuli/`, `targets.npz`,
        `README.txt` and, without `network`, `network.onnx`.

    Raises
    ------
    ValueError
        If the folder holds something else, or an argument does not fit.
    MissingExtraError
        If Pillow, ONNX or ONNX Runtime is not installed.
    """
    folder = Path(folder)
    layers = LAYERS if layers is None else layers
    _check(folder, n_conditions, n_subjects, network, layers)
    folder.mkdir(parents=True, exist_ok=True)
    for name in _CONTENTS:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    # The README first, so that a sample broken off is known as one and can be replaced.
    published = CEILINGS["92"]
    name = _NETWORK if network is None else Path(network).name
    (folder / "README.txt").write_text(
        _README.format(mark=_MARK, network=name, **published), encoding="utf-8"
    )
    stimuli = _draw_all(folder / "stimuli", n_conditions, seed)
    _draw_all(folder / "test_stimuli", _N_TEST, seed + 1)
    if network is None:
        network = folder / _NETWORK
        _write_network(network, seed)
    rdms = OnnxModel(network).rdms(stimuli, layers=sorted({*layers.values()}))
    subjects = {
        region: _simulate(rdms[layer], published[region], n_subjects, (seed, i), region)
        for i, (region, layer) in enumerate(layers.items())
    }
    arrays: dict[str, Any] = {region: square(rdm) for region, rdm in subjects.items()}
    np.savez(folder / "targets.npz", **arrays)
    lines = ["stimulus,category", *(f"{path.name},{path.stem.split('_')[0]}" for path in stimuli)]
    (folder / "order.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "study.toml").write_text(_settings(layers, name, n_subjects), encoding="utf-8")
    return folder


def _check(
    folder: Path,
    n_conditions: int,
    n_subjects: int,
    network: str | Path | None,
    layers: Mapping[str, str],
) -> None:
    if n_conditions < 10:
        raise ValueError(f"n_conditions is {n_conditions}; a sample has 10 or more")
    if n_subjects < 8:
        raise ValueError(f"n_subjects is {n_subjects}; a sample has 8 or more")
    if layers.keys() != LAYERS.keys():
        raise ValueError(f"layers must name one for each of evc and it, got {dict(layers)}")
    if network is not None and layers is LAYERS:
        raise ValueError(f"with network={str(network)!r}, layers= must name its layers")
    if network is not None and Path(network).resolve() == (folder / _NETWORK).resolve():
        raise ValueError(f"{network} is that of an earlier sample in {folder}; name another folder")
    for module in ("PIL", "onnx", "onnxruntime"):
        require(module, "onnx", "to write a sample")
    known = _LAYERS if network is None else OnnxModel(network).layers
    if unknown := sorted({*layers.values()} - {*known}):
        raise ValueError(
            f"{network or _NETWORK} has no layer {unknown[0]}; it has {', '.join(known)}"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a sample needs a folder")
    if folder.is_dir() and any(folder.iterdir()):
        readme = folder / "README.txt"
        if not readme.is_file() or not readme.read_bytes().startswith(_MARK.encode()):
            raise ValueError(f"{folder} is not empty and no earlier sample; name another folder")


def _settings(layers: Mapping[str, str], network: str, n_subjects: int) -> str:
    # JSON's strings are TOML's.
    description = f"{_MARK} {n_subjects} simulated subjects hold layers of {network} under noise."
    tables = [f'[targets.{region}]\nfile = "targets.npz"\nkey = "{region}"\n' for region in layers]
    truth = [f"{region} = {json.dumps(layer)}" for region, layer in layers.items()]
    return "\n".join(
        [
            f'name = "sample"\ndescription = {json.dumps(description)}\nsynthetic = true',
            'stimuli = "stimuli"\ntest_stimuli = "test_stimuli"\norder = "order.csv"',
            f"truth_network = {json.dumps(network)}\n",
            *tables,
            "# The layer that each region was simulated from.\n[truth]",
            *truth,
            "",
        ]
    )


def _simulate(
    rdm: NDArray[np.float64], ceiling: float, n_subjects: int, seed: tuple[int, int], name: str
) -> NDArray[np.float64]:
    """Subjects (subjects, pairs) that hold `rdm` under noise that gives this ceiling."""
    noise = np.random.default_rng(seed).standard_normal((n_subjects, len(rdm)))
    signal = (rdm - rdm.mean()) / rdm.std()

    def subjects(sigma: float) -> NDArray[np.float64]:
        return np.asarray(1 + 0.1 * (signal + sigma * noise) / np.hypot(1, sigma))

    low, high = 0.0, 16.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        above = Target(subjects(middle), name=name).ceiling > ceiling
        low, high = (middle, high) if above else (low, middle)
    return subjects(high)


def _write_network(path: Path, seed: int) -> None:
    """Write a small network: Gabor filters, three convolutions of random weights, pooled averages."""
    onnx = require("onnx", "onnx", "to write the sample's network")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    rng = np.random.default_rng((seed, 2))
    preprocessing = Preprocessing(size=(96, 96))
    nodes, weights = [], {}

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def filters(n_out: int, n_in: int) -> NDArray[np.float32]:
        values = rng.standard_normal((n_out, n_in, 3, 3))
        # Filters without a mean see differences, so that layers do not inherit mere brightness.
        values -= values.mean(axis=(1, 2, 3), keepdims=True)
        return np.asarray(values * np.sqrt(2 / (9 * n_in)), np.float32)

    shapes = {"conv2": (32, 24), "conv3": (64, 32), "conv4": (96, 64)}
    weights["conv1.weight"] = _gabors()
    weights |= {f"{name}.weight": filters(*shape) for name, shape in shapes.items()}
    weights["fc.weight"] = np.asarray(rng.standard_normal((64, 96)) / np.sqrt(96), np.float32)
    value = "images"
    for name in _LAYERS[:-1]:
        stride = 2 if name == "conv1" else 1
        pad = weights[f"{name}.weight"].shape[-1] // 2
        value = add(
            "Conv",
            [value, f"{name}.weight"],
            f"{name}.sum",
            strides=[stride, stride],
            pads=[pad] * 4,
        )
        value = add("Relu", [value], name)
        value = add(
            "MaxPool", [value], f"{name}.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
        )
    value = add("GlobalAveragePool", [value], "average")
    value = add("Flatten", [value], "features")
    add("Gemm", [value, "fc.weight"], "fc", transB=1)

    def tensor(name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    height, width = preprocessing.size
    sizes = {
        "conv1": [24, height // 2, width // 2],
        "conv2": [32, height // 4, width // 4],
        "conv3": [64, height // 8, width // 8],
        "conv4": [96, height // 16, width // 16],
        "fc": [64],
    }
    graph = helper.make_graph(
        nodes,
        "sample",
        [tensor("images", ["batch", 3, height, width])],
        [tensor(name, ["batch", *sizes[name]]) for name in _LAYERS],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="fastrdm"
    )
    onnx.checker.check_model(model)
    helper.set_model_props(
        model,
        {
            "fastrdm.layers": json.dumps(_LAYERS),
            "fastrdm.preprocessing": preprocessing.to_json(),
            "fastrdm.architecture": "fastrdm.cli.sample",
            "fastrdm.version": "1",
        },
    )
    path.write_bytes(model.SerializeToString(deterministic=True))


def _gabors() -> NDArray[np.float32]:
    """Make filters (24, 3, 7, 7): 6 orientations × 2 phases in grey, × 1 in two opponent colours."""
    y, x = np.mgrid[-3:4, -3:4]
    colours = np.array([[1, 1, 1], [1, -1, 0], [0.5, 0.5, -1]]) / np.sqrt(3)
    bank = []
    for colour, n_phases in zip(colours, (2, 1, 1), strict=True):
        for angle in np.pi * np.arange(6) / 6:
            across = x * np.cos(angle) + y * np.sin(angle)
            for phase in (0, np.pi / 2)[-n_phases:]:
                wave = np.exp(-(x**2 + y**2) / 8) * np.cos(2 * np.pi * across / 5 + phase)
                wave -= wave.mean()
                bank.append(colour[:, None, None] * wave / np.abs(wave).sum())
    return np.asarray(bank, np.float32)


def _draw_all(folder: Path, n: int, seed: int) -> list[Path]:
    folder.mkdir()
    names = list(CATEGORIES)
    paths = []
    for i in range(n):
        category = names[i % len(names)]
        path = folder / f"{category}_{i // len(names) + 1:02d}.png"
        # A generator a picture: more pictures leave the first ones as they are.
        draw(category, np.random.default_rng((seed, i))).save(path)
        paths.append(path)
    return paths
