"""Short tests of kernels and optional packages, each run in a process of its own.

The process ends with one line of JSON: what was found, or the error. So a library that crashes, hangs or prints does
not disturb `fastrdm doctor`.
"""

import importlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fastrdm._base import MissingExtraError, list_names, one_line, require
from fastrdm.cli.printing import write

# Of float32 products, relative to the lengths of the rows.
_TOLERANCE = 1e-6


def main(argv: Sequence[str]) -> None:
    """Run the trial that `argv` names, and print its result as the last line."""
    name, *rest = argv
    try:
        answer: dict[str, Any] = {"found": TRIALS[name](*rest)}
    except MissingExtraError as error:
        answer = {"missing": one_line(error)}
    # Whatever a library raises is the result of its trial.
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {one_line(error)}"}
    write(f"\n{json.dumps(answer)}\n", flush=True)


def _kernel_results() -> str:
    """Compare products, ranks and similarities with NumPy."""
    from fastrdm import _kernels
    from fastrdm.cli.formulas import average_ranks

    rng = np.random.default_rng(0)
    error = 0.0
    for kind in (np.float32, np.float64):
        rows = rng.standard_normal((13, 1601)).astype(kind)
        exact = rows.astype(np.float64) @ rows.astype(np.float64).T
        lengths = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
        error = max(error, float(np.abs((_kernels.gram(rows)[0] - exact) / lengths).max()))
    # With ties.
    rdms = rng.integers(0, 40, (3, 78)).astype(np.float64)
    ranks = average_ranks(rdms)
    _check_equal("ranks", _kernels.rank(rdms), ranks)
    signs = np.sign(rdms[:, :, None] - rdms[:, None]).reshape(3, -1).astype(int)
    found, untied, _ = _kernels.concordance(ranks, ranks)
    _check_equal("concordant pairs", found, signs @ signs.T // 2)
    _check_equal("untied pairs", untied, np.abs(signs).sum(axis=1) // 2)
    prepared = _kernels.centred_ranks(rdms)
    spearman = _kernels.rank_similarities(rdms, prepared)
    error = max(error, float(np.abs(spearman - np.corrcoef(ranks)).max()))
    if not error <= _TOLERANCE:
        raise ValueError(f"a result differs from NumPy's by {error:.2g}")
    return f"agrees with NumPy (largest relative difference {error:.1g})"


def _selftest() -> str:
    """Compare the kernels, and the public functions that use them, with NumPy."""
    from fastrdm import _kernels
    from fastrdm.cli.formulas import checks

    _kernel_results()
    # numba compiles each kernel that is used.
    all_checks = checks(thorough=_kernels.kernels().name == "cpp")
    error = max(check.error() for check in all_checks)
    return f"{len(all_checks)} results agree with NumPy (largest difference {error:.1g})"


def _check_equal(what: str, found: Any, expected: Any) -> None:
    if not np.array_equal(found, expected):
        raise ValueError(f"{what} differ from those of NumPy")


def _provider(word: str) -> dict[str, Any]:
    from fastrdm.cli.machine import provider_state

    return asdict(provider_state(word))


def _torch() -> dict[str, Any]:
    """Compare a convolution with NumPy on each device."""
    from fastrdm.cli.machine import torch_state
    from fastrdm.runtimes import torch_gpu_of

    state = torch_state()
    torch = require("torch", "export", "to run a network")
    if torch_gpu_of("auto") and len(state.devices) == 1:
        raise ValueError("this machine has a GPU that torch is built for, but torch cannot use it")
    rng = np.random.default_rng(0)
    image, kernel = rng.standard_normal((9, 9)), rng.standard_normal((3, 3))
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3))
    expected = np.einsum("ijkl,kl->ij", windows, kernel)
    for device in state.devices:
        inputs = (torch.tensor(each[None, None]).float().to(device) for each in (image, kernel))
        found = torch.nn.functional.conv2d(*inputs)[0, 0].cpu().numpy()
        # GPUs may round the factors of a convolution to TF32.
        if not (error := float(np.abs(found - expected).max())) <= 0.05:
            raise ValueError(f"a convolution on {device} differs from NumPy's by {error:.2g}")
    return asdict(state)


def _studies(folder: str) -> str:
    """Open the studies of a folder, with their stimuli and RDMs."""
    from fastrdm.studies import open_studies

    names = [study.name for study in open_studies(folder)]
    return f"opened the {'study' if len(names) == 1 else 'studies'} {list_names(names)}"


def _images_and_arrays() -> str:
    """Read an image and an HDF5 file from memory."""
    pil = require("PIL.Image", "data", "to read images")
    h5py = require("h5py", "data", "to read HDF5 files")
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    pil.fromarray(pixels).save(png := io.BytesIO(), "PNG")
    _check_equal("pixels", np.asarray(pil.open(png)), pixels)
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        file["x"] = pixels
        _check_equal("arrays", file["x"][:], pixels)
    return "read an image and an HDF5 file"


def _graph() -> str:
    """Check a graph, and read weights from a file of safetensors."""
    from fastrdm.runtimes import probe_graph

    onnx = require("onnx", "run", "to read an ONNX model")
    onnx.checker.check_model(onnx.load_from_string(probe_graph().source))
    tensors = require("safetensors.numpy", "run", "to read .safetensors")
    bfloat16 = require("ml_dtypes", "run", "for weights in bfloat16").bfloat16
    weights = np.ones(3, bfloat16).astype(np.float32)
    _check_equal("weights", tensors.load(tensors.save({"w": weights}))["w"], weights)
    require("rich.table", "run", "to print tables")
    return "read a graph and weights"


def _training() -> str:
    torch = require("torch", "train", "to train networks")
    vision = require("torchvision", "train", "to train networks")
    boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]]), torch.tensor([0.5, 1])
    _check_equal("boxes", vision.ops.nms(boxes, scores, 0.5).numpy(), [1])
    require("torch.utils.tensorboard", "train", "to log training")
    return "ran a compiled operator of torchvision"


def _figure() -> str:
    from fastrdm.plot import new_axes, styled

    with styled():
        require("matplotlib", "plot", "to draw figures").use("Agg")
        axes = new_axes((1, 1))
        axes.plot([0, 1])
        for kind in ("png", "svg", "pdf"):
            axes.figure.savefig(file := io.BytesIO(), format=kind)
            if not file.getvalue():
                raise ValueError(f"matplotlib wrote an empty {kind} file")
    return "drew a figure as PNG, SVG and PDF"


def _chart() -> str:
    altair = require("altair", "report", "to make a report")
    chart = altair.Chart(altair.Data(values=[{"x": 1}])).mark_point().encode(x="x:Q")
    page = chart.to_html(inline=True)
    if "<script src=" in page or "vega" not in page:
        raise ValueError("a chart of Altair does not contain its scripts")
    return "made a chart that opens offline"


def _tables() -> str:
    pandas = require("pandas", "table", "to write tables")
    frame = pandas.DataFrame({"layer": ["conv1"], "rho": [0.25]})
    for save, read, options in (
        (frame.to_parquet, pandas.read_parquet, {"engine": "pyarrow"}),
        (frame.to_excel, pandas.read_excel, {"engine": "openpyxl"}),
    ):
        save(file := io.BytesIO(), index=False, **options)
        if not read(file, **options).equals(frame):
            raise ValueError(f"pandas reads another table than it wrote, with {options['engine']}")
    return "wrote and read Parquet and Excel files"


def _imported(*modules: str) -> Callable[[], str]:
    def trial() -> str:
        for module in modules:
            importlib.import_module(module)
        return "imported"

    return trial


def _callback(module: str) -> Callable[[], str]:
    def trial() -> str:
        from fastrdm import interop

        getattr(interop, module)
        return "imported, with the callback of fastrdm"

    return trial


#: Extra → its trial. Those of development have none.
OF_EXTRAS: Mapping[str, Callable[..., Any]] = {
    "data": _images_and_arrays,
    "run": _graph,
    "export": _imported("torch.onnx", "onnxscript"),
    "train": _training,
    "lightning": _callback("LightningScoring"),
    "transformers": _callback("TransformersScoring"),
    "plot": _figure,
    "report": _chart,
    "table": _tables,
    "ray": _imported("ray"),
}
TRIALS: Mapping[str, Callable[..., Any]] = {
    "kernels": _kernel_results,
    "selftest": _selftest,
    "provider": _provider,
    "torch": _torch,
    "studies": _studies,
    **OF_EXTRAS,
}
