"""Networks and checkpoints to score, and their scores, which a second call reads."""

import contextlib
import functools
import hashlib
import json
import pickle
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

import fastrdm
from fastrdm._base import new_file, one_line
from fastrdm.networks import (
    check_file,
    hash_file,
    is_checkpoint,
    is_onnx,
    load_state_dict,
    load_weights,
)
from fastrdm.runtimes import Architecture, OnnxModel
from fastrdm.scoring import modality_of
from fastrdm.studies import Study, algonauts
from models.networks import TAPS, build
from models.study.network_scores import NetworkScores, SubjectResult, score_rdms


@dataclass(frozen=True)
class Run:
    """Studies and options of a run.

    With `by_region`, a submission has the best layer of each region instead of one layer for both.
    """

    studies: Sequence[Study]
    provider: str = "auto"
    precision: str = "fp32"
    batch_size: int = 32
    progress: bool = False
    by_region: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Options of `OnnxModel`."""
        return {
            "provider": self.provider,
            "precision": self.precision,
            "batch_size": self.batch_size,
        }

    @functools.cached_property
    def data(self) -> str:
        """SHA-256 of stimuli, targets and test images."""
        digest = hashlib.sha256()
        for study in self.studies:
            digest.update(repr((study.name, list(study.targets))).encode())
            for target in study.targets.values():
                digest.update(pickle.dumps(target))
            for image in (*study.stimuli, *study.test_stimuli):
                digest.update(f"{image.name} {hash_file(image)}".encode())
        return digest.hexdigest()

    @property
    def test_images(self) -> list[Path]:
        """The images of submissions; none unless the regions are those of the challenge's fMRI."""
        regions = {region for study in self.studies for region in study.targets}
        if {modality_of(region) for region in regions} != {"fmri"}:
            return []
        return list(next((s.test_stimuli for s in self.studies if s.test_stimuli), ()))


class HasRdms(Protocol):
    """An `OnnxModel`, or several."""

    def rdms(
        self, images: Sequence[Path], *, layers: Sequence[str] | None = None, progress: bool = False
    ) -> dict[str, NDArray[np.float64]]:
        """Layer → RDM."""


@dataclass(frozen=True)
class Job:
    """A network or a checkpoint to score.

    Attributes
    ----------
    name : str
        Name in tables.
    folder : Path
        Output folder.
    find : callable
        Returns the weights' file, or raises.
    open : callable
        Opens a model with the weights' file; `folder` exists.
    graph : str
        Identifies graph, taps and preprocessing.
    """

    name: str
    folder: Path
    find: Callable[[], Path]
    open: Callable[[Path], HasRdms]
    graph: str


def network_job(name: str, find: Callable[[], Path], out: Path, run: Run) -> Job:
    """Return the job of a network of the registry, which is exported with its weights to `network.onnx`."""
    folder = out / "networks" / name

    def open_network(weights: Path) -> OnnxModel:
        module = build(name, count_classes(name, weights))
        load_weights(module, weights)
        path = fastrdm.export_onnx(module, folder / "network.onnx", architecture=name)
        return OnnxModel(path, **run.options)

    return Job(name, folder, find, open_network, json.dumps(TAPS[name]))


def checkpoint_jobs(paths: Iterable[Path], out: Path, run: Run) -> list[Job]:
    """Return the jobs of ResNet-20 checkpoints, which share an exported graph.

    Parameters
    ----------
    paths : iterable of path
        Weights' files, or folders of training runs with the epochs in `checkpoints`. A run's `network-*.onnx` is the
        graph if there is exactly one.
    out : path
        The study's folder.
    run : Run

    Returns
    -------
    list of Job
        Epochs of a folder are in order.

    Raises
    ------
    ValueError
        If a folder has no checkpoints, or two checkpoints have the same name.
    WeightsError
        If a file does not exist.
    """

    @functools.cache
    def exported(n_classes: int) -> Architecture:
        return replace(Architecture.export(partial(build, "resnet20", n_classes)), name="resnet20")

    def built(weights: Path) -> Architecture:
        return exported(count_classes("resnet20", weights))

    jobs = []
    for path in paths:
        files, architecture, graph = [path], built, json.dumps(TAPS["resnet20"])
        if path.is_dir():
            files = _epochs(path)
            graphs = list(path.glob("network-*.onnx"))
            if len(graphs) == 1:
                read = Architecture.read(graphs[0])
                architecture, graph = partial(_always, read), read.fingerprint
        for file in files:
            check_file(file)

            def open_checkpoint(
                weights: Path, architecture: Callable[[Path], Architecture] = architecture
            ) -> OnnxModel:
                return architecture(weights).open(weights, **run.options)

            folder = out / "checkpoints" / file.stem
            jobs.append(Job(file.stem, folder, partial(_always, file), open_checkpoint, graph))
    names = [job.name for job in jobs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"several checkpoints are called {twice}; rename all but one")
    return jobs


def count_classes(name: str, weights: Path) -> int:
    """Return the number of a network's outputs, the length of the last bias in its weights."""
    with torch.device("meta"):
        expected = build(name).state_dict()
    head = [key for key, value in expected.items() if value.shape == (1000,) and "bias" in key][-1]
    found = load_state_dict(weights).get(head)
    # Without a bias, loading the weights will report the difference.
    return 1000 if found is None or found.ndim != 1 else len(found)


def score(job: Job, run: Run) -> NetworkScores:
    """Score all layers of a network, choose the best and write its submission.

    If `scores.json` is from the same weights, graph, data and options and the submission exists, its scores are
    returned. A failure becomes the `error` of the scores.
    """
    try:
        weights = job.find()
        sha256 = hash_file(weights)
        key = {
            "weights": sha256,
            "graph": job.graph,
            "data": run.data,
            "version": fastrdm.__version__,
            "by_region": run.by_region,
            **run.options,
        }
        done = _read(job.folder / "scores.json", key)
        if done is not None:
            return done
        job.folder.mkdir(parents=True, exist_ok=True)
        model = job.open(weights)
        results: list[SubjectResult] = []
        for study in run.studies:
            rdms = model.rdms(list(study.stimuli), progress=run.progress)
            results += score_rdms(job.name, study, rdms)
        scores = NetworkScores(job.name, tuple(results), str(weights), sha256)
        if not scores.best:
            raise ValueError(
                f"{job.name}: no layer has a score, because all conditions are constant"
            )
        if images := run.test_images:
            regions = algonauts.REGIONS["fmri"]
            best = scores.by_region if run.by_region else dict.fromkeys(regions, scores.best)
            rdms = model.rdms(images, layers=list(set(best.values())), progress=run.progress)
            submitted = {region: rdms[layer] for region, layer in best.items()}
            written = algonauts.write_submission(job.folder, submitted, "fmri")
            scores = replace(scores, submissions=tuple(map(str, written)))
        _write(job.folder / "scores.json", json.dumps({"key": key, "scores": scores.to_dict()}))
        return scores
    # One bad network must not stop the rest.
    except Exception as error:
        return NetworkScores(job.name, error=one_line(error))


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


def _always(value: Any, *_: Any) -> Any:
    return value


def _read(path: Path, key: Mapping[str, Any]) -> NetworkScores | None:
    """Return scores with this key; None if there are none, or their submission is missing."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(path.read_text("utf-8"))
        if content["key"] == key:
            scores = NetworkScores.from_dict(content["scores"])
            if all(Path(file).is_file() for file in scores.submissions):
                return scores
    return None


def _write(path: Path, text: str) -> None:
    with new_file(path) as file:
        file.write(text.encode())
