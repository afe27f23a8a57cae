"""Networks and checkpoints of a study, scored by sweeps into one store, with their submissions."""

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fastrdm
from fastrdm._base import one_line
from fastrdm.networks import (
    check_file,
    hash_file,
    is_checkpoint,
    is_onnx,
    load_state_dict,
    load_weights,
    metadata_of,
    read_model,
)
from fastrdm.runtimes import Architecture
from fastrdm.scoring import RSA, Sweep, modality_of
from fastrdm.studies import Study, algonauts
from models.networks import TAPS, build
from models.study.network_scores import NetworkScores, subject_results

# Suffix of layers' names → architecture; the suffix tells apart graphs of the same weights.
Graphs = Mapping[str, Architecture]


@dataclass(frozen=True)
class StudyRun:
    """Studies, the store of their scores, and options of `OnnxModel`."""

    studies: Sequence[Study]
    store: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = False

    @property
    def test_images(self) -> list[Path]:
        """The images of submissions; none unless the regions are those of the challenge's fMRI."""
        regions = {region for study in self.studies for region in study.targets}
        if {modality_of(region) for region in regions} != {"fmri"}:
            return []
        return list(next((s.test_stimuli for s in self.studies if s.test_stimuli), ()))


@dataclass(frozen=True)
class Candidate:
    """A network or a checkpoint to score.

    `name` is its name in tables, `folder` that of its submission; `find` returns the weights' file, or raises; `graphs`
    returns the architectures that show the images to these weights.
    """

    name: str
    folder: Path
    find: Callable[[], Path]
    graphs: Callable[[Path], Graphs]


def network_candidate(name: str, find: Callable[[], Path], out: Path) -> Candidate:
    """Return a network of the registry, which is exported with its weights to `network.onnx`."""
    folder = out / "networks" / name
    return Candidate(name, folder, find, partial(_exported, name, folder / "network.onnx"))


def _exported(name: str, path: Path, weights: Path) -> Graphs:
    """Export a network with its weights, unless the file already holds them."""
    n_classes = count_classes(name, weights)
    content = f"{name}, {n_classes} classes, SHA-256 of the weights {hash_file(weights)}"
    metadata = metadata_of(read_model(path)) if path.is_file() else {}
    keys = ("architecture", "layers", "version")
    expected = (content, json.dumps(list(TAPS[name])), fastrdm.__version__)
    if tuple(metadata.get(f"fastrdm.{key}") for key in keys) != expected:
        module = build(name, n_classes)
        load_weights(module, weights)
        path.parent.mkdir(parents=True, exist_ok=True)
        fastrdm.export_onnx(module, path, architecture=content)
    return {"": replace(Architecture.read(path), name=name)}


def checkpoint_candidates(paths: Iterable[Path], out: Path) -> list[Candidate]:
    """Return checkpoints of the ResNet-20, which share an exported graph; epochs of a folder are in order.

    Paths are weights' files, or folders of training runs with the epochs in `checkpoints`. A run's `network-*.onnx` is
    the graph if there is exactly one. Raise ValueError if a folder has no checkpoints or a name repeats, and
    WeightsError if a file does not exist.
    """

    @functools.cache
    def exported(n_classes: int) -> Graphs:
        network = partial(build, "resnet20", n_classes)
        return {"": replace(Architecture.export(network), name="resnet20")}

    def graphs(run: Graphs | None, weights: Path) -> Graphs:
        return run or exported(count_classes("resnet20", weights))

    candidates = []
    for path in paths:
        exports = list(path.glob("network-*.onnx"))
        known = {"": Architecture.read(exports[0])} if len(exports) == 1 else None
        for file in _epochs(path) if path.is_dir() else [path]:
            check_file(file)
            folder = out / "checkpoints" / file.stem
            find = partial(Path, file)
            candidates.append(Candidate(file.stem, folder, find, partial(graphs, known)))
    names = [candidate.name for candidate in candidates]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"several checkpoints are called {twice}; rename all but one")
    return candidates


def count_classes(name: str, weights: Path) -> int:
    """Return the number of a network's outputs, the length of the last bias in its weights."""
    with torch.device("meta"):
        expected = build(name).state_dict()
    head = [key for key, value in expected.items() if value.shape == (1000,) and "bias" in key][-1]
    found = load_state_dict(weights).get(head)
    # Without a bias, loading the weights will report the difference.
    return 1000 if found is None or found.ndim != 1 else len(found)


def score(candidate: Candidate, run: StudyRun) -> NetworkScores:
    """Score all layers of a candidate, choose the best and write its submission.

    Scores that the store holds are not computed again, and a submission that exists is written again only with new
    scores. A failure becomes the `error` of the scores.
    """
    try:
        weights = candidate.find()
        sha256, graphs = hash_file(weights), candidate.graphs(weights)
        rows, is_new = _sweep(weights, graphs, run)
        suffixes = {graph.name: suffix for suffix, graph in graphs.items()}
        # Not the rows with this path, because a copy of the file may have given them its name.
        rows = [row for row in rows if row["sha256"] == sha256]
        results = subject_results(candidate.name, rows, run.studies, suffixes)
        scores = NetworkScores(candidate.name, results, str(weights), sha256)
        if not scores.best:
            raise ValueError(
                f"{candidate.name}: no layer has a score, because all conditions are constant"
            )
        files = (candidate.folder / "submit_fmri.mat", candidate.folder / "submit_fmri.zip")
        if run.test_images and (is_new or not all(file.is_file() for file in files)):
            _submit(scores, candidate.folder, weights, graphs, run)
        return scores
    # One bad network must not stop the rest.
    except Exception as error:
        return NetworkScores(candidate.name, error=one_line(error))


def _sweep(weights: Path, graphs: Graphs, run: StudyRun) -> tuple[list[dict[str, Any]], bool]:
    """Rows of the store for these graphs, and whether any of them is new."""
    errors: list[str] = []

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "failed":
            errors.append(event["error"])

    with Sweep(
        [weights] * len(graphs),
        list(graphs.values()),
        run.studies,
        measures=[RSA],
        store=run.store,
        engine="in-process",
        retry_failed=True,
        progress=run.progress,
        **run.options,
    ) as sweep:
        summary = sweep.run(on_event=on_event)
        if summary.outcome == "stopped":
            raise KeyboardInterrupt
        if errors:
            raise ValueError(errors[0])
        return list(sweep.rows(subjects=True)), summary.scored > 0


def _submit(
    scores: NetworkScores, folder: Path, weights: Path, graphs: Graphs, run: StudyRun
) -> None:
    """Write the submission of the best layer."""
    best = dict.fromkeys(algonauts.REGIONS["fmri"], scores.best)
    rdms: dict[str, NDArray[np.float64]] = {}
    for suffix, graph in graphs.items():
        model = graph.open(weights, **run.options)
        layers = [layer for layer in model.layers if layer + suffix in best.values()]
        if layers:
            found = model.rdms(run.test_images, layers=layers, progress=run.progress)
            rdms |= {layer + suffix: rdm for layer, rdm in found.items()}
    folder.mkdir(parents=True, exist_ok=True)
    submitted = {region: rdms[layer] for region, layer in best.items()}
    algonauts.write_submission(folder, submitted, "fmri")


def _epochs(folder: Path) -> list[Path]:
    """Return the checkpoints in a training run's folder, ordered by the number at the end of their names."""
    inner = folder / "checkpoints"
    files = {
        int(number[1]): path
        for path in sorted((inner if inner.is_dir() else folder).iterdir())
        if is_checkpoint(path) and not is_onnx(path) and (number := re.search(r"(\d+)$", path.stem))
    }
    if not files:
        raise ValueError(
            f"{folder} has no checkpoints whose names end in a number, such as epoch_001.pth"
        )
    return [files[number] for number in sorted(files)]
