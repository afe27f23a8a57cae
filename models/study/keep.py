"""Compute and keep the RDMs of pretrained networks and of checkpoints; `kept` reads them.

    python -m models.study.keep --networks efficientnet_lite0 … [--weights-dir W] [--sizes 32 48 64]
    python -m models.study.keep --run RUN --name densenet121-seed0 --epochs 1 5 10 [--sizes 32 48 64]

The folder of kept RDMs gets NETWORK@SIZE.npz for each size, or NAME-epochNNN.npz for each epoch, with the run's metrics
in NAME.csv and its recipe in NAME.json. A second call computes only what the files lack.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fastrdm._base import check_integer, new_file
from fastrdm.networks import load_weights
from fastrdm.runtimes import TorchModel
from fastrdm.studies import Study, find_data, open_studies
from models.networks import NETWORKS, build, check_names, pretrained
from models.study.candidates import count_classes
from models.study.kept import FOLDER, Floats, Kept, write_kept
from models.study.network_scores import TEST_STUDY
from models.training.devices import choose_device
from models.training.run import TrainingRun
from models.training.signals import Signals, run_command

SIZES = (32, 48, 64)
EPOCHS = (1, 5, 10)
# With any of these studies, the images without brain data are the challenge's.
_CHALLENGE = ("92", "118")

ByStudy = dict[str, dict[str, Floats]]
LeftOut = dict[str, str]


@dataclass(frozen=True)
class Showing:
    """What networks are shown: the images of studies, resized to these heights and widths in pixels.

    RDMs are computed on `device`. With `again`, those that are already kept are replaced, otherwise completed.
    """

    studies: Sequence[Study]
    sizes: Sequence[int] = SIZES
    device: str = "cpu"
    again: bool = False

    def __post_init__(self) -> None:
        for size in self.sizes:
            check_integer(size, "--sizes", 1)

    @property
    def images(self) -> dict[str, tuple[Path, ...]]:
        """The images of each study, and those of the challenge's test set."""
        images = {study.name: study.stimuli for study in self.studies}
        for study in self.studies:
            if study.name in _CHALLENGE and study.test_stimuli:
                images.setdefault(TEST_STUDY, study.test_stimuli)
        return images

    def background(self, name: str) -> str | None:
        """The colour behind transparent pixels in a study's images."""
        return next((study.background for study in self.studies if study.name == name), None)


def keep(path: str | Path, network: str, weights: str | Path, showing: Showing) -> LeftOut:
    """Compute the RDMs of all layers of a network with these weights, and write them to a file.

    A distance is 1 − Pearson's r of activations in float32. Layers are named ``block1@32``, with 32 × 32 pixels. What
    the file already holds is kept, unless `showing.again`.

    Returns
    -------
    dict of str to str
        Layers that were left out → why.

    Raises
    ------
    ValueError
        If there is no such network, or the file is not one of kept RDMs.
    WeightsError
        If the weights do not fit the network.
    """
    path, weights = Path(path), Path(weights)
    images = showing.images
    rdms: ByStudy = {name: {} for name in images}
    if path.is_file() and not showing.again:
        old = Kept.at(path)
        rdms |= {name: dict(old.rdms(name)) for name in old.studies}
    missing = [size for size in showing.sizes if not all(_has(rdms[name], size) for name in images)]
    if not missing:
        return {}
    module = build(network, count_classes(network, weights))
    load_weights(module, weights)
    for size in missing:
        preprocessing = replace(module.preprocessing, size=(size, size))
        model = TorchModel(module, preprocessing=preprocessing, device=showing.device)
        for name, files in images.items():
            found = model.rdms(files, background=showing.background(name))
            rdms[name] |= {f"{layer}@{size}": rdm for layer, rdm in found.items()}
    return {layer: _reason(rdms, layer) for layer in write_kept(path, rdms)}


def _has(layers: Iterable[str], size: int) -> bool:
    return any(layer.endswith(f"@{size}") for layer in layers)


def _reason(rdms: Mapping[str, Mapping[str, Floats]], layer: str) -> str:
    own = {name: by_layer[layer] for name, by_layer in rdms.items() if layer in by_layer}
    if broken := [name for name, rdm in own.items() if not np.isfinite(rdm).all()]:
        return f"an image of the study {broken[0]} has constant activations"
    alike = next(name for name, rdm in own.items() if np.ptp(rdm) == 0)
    return f"all images of the study {alike} are equally distant"


def keep_run(
    folder: str | Path,
    name: str,
    showing: Showing,
    epochs: Sequence[int] = EPOCHS,
    into: str | Path = FOLDER,
    done: Callable[[Path, LeftOut], None] = lambda path, left_out: None,
) -> dict[Path, LeftOut]:
    """Keep checkpoints of a run by `models.train`, and copy its metrics and its recipe.

    `name` is that of the network and the seed, such as ``densenet121-seed0``. Return the file of each epoch, in order,
    with the layers that were left out; `done` is called after each. Raise ValueError, before any work, if `folder` is
    no run, has no checkpoint after an epoch, or `name` is of another form.
    """
    checkpoints, run = _checkpoints(folder, epochs), Path(folder)
    files = {epoch: Path(into) / f"{name}-epoch{epoch:03d}.npz" for epoch in checkpoints}
    kept = {epoch: Kept.at(path) for epoch, path in files.items()}
    if any(each.run != name for each in kept.values()):
        raise ValueError(f"--name must be NETWORK-seedN, such as resnet20-seed0, not {name!r}")
    check_names(each.network for each in kept.values())
    Path(into).mkdir(parents=True, exist_ok=True)
    for source, suffix in ((run / "metrics.csv", ".csv"), (run / "config.json", ".json")):
        with source.open("rb") as content, new_file(Path(into) / f"{name}{suffix}") as file:
            shutil.copyfileobj(content, file)
    left_out = {}
    for epoch, weights in checkpoints.items():
        path = files[epoch]
        left_out[path] = keep(path, kept[epoch].network, weights, showing)
        done(path, left_out[path])
    return left_out


def _checkpoints(folder: str | Path, epochs: Sequence[int]) -> dict[int, Path]:
    """The checkpoints of a run after these epochs, in order."""
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"{folder} is not the folder of a training run (no config.json)")
    written = TrainingRun(folder).written()
    if lacking := sorted(set(epochs) - written.keys()):
        there = (
            f"there are those after {', '.join(map(str, written))}" if written else "there are none"
        )
        raise ValueError(
            f"{folder} has no checkpoint after epoch {', '.join(map(str, lacking))}; {there}"
        )
    return {epoch: written[epoch] for epoch in sorted(set(epochs))}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    work = partial(_keep_all, _parser().parse_args(argv))
    return run_command("keep", work, "keep: stopped; rerun the command to continue")


def _keep_all(arguments: argparse.Namespace, signals: Signals) -> bool:
    if not arguments.networks and arguments.run is None:
        raise ValueError("nothing to keep: use --networks or --run")
    if arguments.run is not None and arguments.name is None:
        raise ValueError("--run needs --name NETWORK-seedN")
    root = Path(arguments.data) if arguments.data else find_data()
    if root is None:
        raise ValueError("no data: use --data DIR or set FASTRDM_DATA")
    device = str(choose_device(arguments.device))
    studies = open_studies(root, modality="fmri")
    showing = Showing(studies, arguments.sizes, device, arguments.again)
    check_names(arguments.networks)
    into = Path(arguments.into)
    # Before any work, so that what is missing is said at once.
    weights = {name: pretrained(name, arguments.weights_dir) for name in arguments.networks}
    if arguments.run is not None:
        keep_run(arguments.run, arguments.name, showing, arguments.epochs, into, _say)
    for name, file in weights.items():
        for size in showing.sizes:
            path = into / f"{name}@{size}.npz"
            _say(path, keep(path, name, file, replace(showing, sizes=(size,))))
    return True


def _say(path: Path, left_out: LeftOut) -> None:
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    for layer, why in left_out.items():
        print(f"  left out {layer}: {why}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.study.keep",
        description="Keep the RDMs of all layers of pretrained networks, and of checkpoints of a training run, on the "
        "images of the studies and the test images. A second call computes only what the files lack.",
    )
    add = parser.add_argument
    names = f"pretrained networks, of {', '.join(NETWORKS)}"
    add("--networks", nargs="+", default=[], metavar="NAME", help=names)
    folder = "folder of published weights, searched before torch's cache and the URLs"
    add("--weights-dir", metavar="W", help=folder)
    add("--run", metavar="RUN", help="folder of a training run by models.train")
    add("--name", metavar="NETWORK-seedN", help="name of the run's files")
    epochs = f"epochs of the run (default: {' '.join(map(str, EPOCHS))})"
    add("--epochs", nargs="+", type=int, default=EPOCHS, metavar="N", help=epochs)
    sizes = f"heights and widths of the images in pixels (default: {' '.join(map(str, SIZES))})"
    add("--sizes", nargs="+", type=int, default=SIZES, metavar="PIXELS", help=sizes)
    data = "the challenge's data, or studies (default: $FASTRDM_DATA, ../shared/data)"
    add("--data", metavar="DIR", help=data)
    add("--into", default=str(FOLDER), metavar="DIR", help="default: models/study/rdms")
    add("--device", default="cpu", help="auto, cpu, cuda[:N] or rocm[:N] (default: cpu)")
    add("--again", action="store_true", help="replace RDMs that are already there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
