"""A few checkpoints scored here and now, in their order: a sweep without a store."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastrdm import algonauts
from fastrdm.checkpoints import architecture_of, one_for_each
from fastrdm.layers import Taps
from fastrdm.scoring import Result, modality_of, results_of
from fastrdm.study import Study
from fastrdm.worker import Load, Network, Outcome, Task, Worker, kernels_version


@dataclass(frozen=True)
class Scored:
    """All results of one checkpoint, or why there are none.

    Attributes
    ----------
    checkpoint : str
        The weights' file as given.
    results : tuple of Result
        By study, layer and region.
    error : str
        One sentence; empty where all went well.
    submissions : tuple of Path
        Files written for the test images.
    sha256 : str
        Of the weights' file; empty where it could not be opened.
    """

    checkpoint: str
    results: tuple[Result, ...] = ()
    error: str = ""
    submissions: tuple[Path, ...] = ()
    sha256: str = ""


def score_checkpoints(
    weights: Sequence[str | Path],
    arch: Sequence[str] = (),
    studies: Sequence[Study] = (),
    *,
    taps: Taps | None = None,
    provider: str = "auto",
    precision: str | None = None,
    provider_options: Mapping[str, str] | None = None,
    batch_size: int = 32,
    allow_inconsistent: bool = False,
    submit: str | Path | None = None,
    progress: bool = False,
    n_draws: int = 1000,
    seed: int = 0,
    on_start: Callable[[str], None] | None = None,
) -> Iterator[Scored]:
    """Score checkpoints one after the other, in this process; one that cannot be read does not stop the rest.

    Each distinct architecture is exported once, and the next checkpoint is opened while the current
    one is scored: by the worker that sweeps have in processes of their own.

    Parameters
    ----------
    weights : sequence of path-like
        `.pth`, `.pt`, `.safetensors`, or exported `.onnx` files.
    arch : sequence of str
        ``"module:callable"``, or an exported `.onnx` file with any weights, for each of the weights, or one for
        all, or none where all are `.onnx`.
    studies : sequence of Study
        What to score against.
    taps : dict or sequence of str, optional
        Layers to score, as in `open_checkpoint`; the network's own choice by default.
    provider, precision, provider_options, batch_size, allow_inconsistent
        As in `OnnxModel`.
    submit : path-like, optional
        Folder for submissions: the best layer's RDM of the test images, in a subfolder for each checkpoint where
        there are several.
    progress : bool
        Whether to show progress bars on stderr.
    n_draws, seed : int
        As in `score_model`.
    on_start : callable, optional
        Called with each checkpoint's name before work on it begins.

    Yields
    ------
    Scored
        One a checkpoint, in the order given.

    Raises
    ------
    ValueError, FileNotFoundError
        Before work starts: if there is neither one architecture nor one for each of the weights, one cannot be
        imported or read, or a submission is asked for of studies without test images or of regions that are not the
        challenge's.
    """
    test_images: tuple[Path, ...] = ()
    test_background = None
    if submit is not None:
        _check_submittable(studies)
        tested = next(study for study in studies if study.test_stimuli)
        test_images, test_background = tested.test_stimuli, tested.background
    names = [str(w) for w in weights]
    folders: Sequence[Path | None] = _submission_folders(names, submit) or [None] * len(names)
    networks, tasks, errors = _networks(names, arch, taps)
    load = Load(
        networks,
        tuple(studies),
        ("",) * len(studies),
        {
            "provider": provider,
            "precision": precision,
            "provider_options": provider_options,
            "batch_size": batch_size,
            "allow_inconsistent": allow_inconsistent,
        },
        kernels_version(),
        test_images=tuple(test_images),
        test_background=test_background,
        progress=progress,
    )
    good = [task for task, error in zip(tasks, errors, strict=True) if not error]
    following = iter(good[1:])
    with contextlib.closing(Worker(load)) as worker:
        for task, error, folder in zip(tasks, errors, folders, strict=True):
            if on_start:
                on_start(task.path)
            if error:
                yield Scored(task.path, error=error)
                continue
            outcome = worker.score(task, next(following, None))
            yield _scored(outcome, studies, folder, n_draws, seed)


def _networks(
    names: Sequence[str], arch: Sequence[str], taps: Taps | None
) -> tuple[tuple[Network, ...], list[Task], list[str]]:
    """What the weights are of, each architecture exported once, and for each of the weights why theirs could not be."""
    of_each = one_for_each(arch, len(names))
    makers = {each: architecture_of(each, taps) for each in dict.fromkeys(arch)}
    # What is an .onnx file brings its graph along, whatever architecture is given with it.
    places: dict[str | None, int] = {None: 0, **{each: i for i, each in enumerate(makers, 1)}}
    tasks = [
        Task(name, 0 if name.endswith(".onnx") else places[each])
        for name, each in zip(names, of_each, strict=True)
    ]
    wanted = {task.network for task in tasks if Path(task.path).is_file()}
    networks, errors = [Network(None, taps)], [""]
    for place, make in enumerate(makers.values(), 1):
        architecture, error = None, ""
        try:
            architecture = make() if place in wanted else None
        except (ValueError, OSError) as reason:
            error = str(reason)
        networks.append(Network(architecture))
        errors.append(error)
    return tuple(networks), tasks, [errors[task.network] for task in tasks]


def _scored(
    outcome: Outcome, studies: Sequence[Study], folder: Path | None, n_draws: int, seed: int
) -> Scored:
    path, report = outcome.task.path, outcome.report
    if report is None:
        return Scored(path, error=outcome.error)
    for text, kind in outcome.warned.items():
        warnings.warn(text, kind, stacklevel=3)
    results = results_of(path, studies, report.studies, n_draws=n_draws, seed=seed)
    written: list[Path] = []
    if folder is not None:
        try:
            for modality, rdm in outcome.test_rdms.items():
                written += algonauts.write_submission(folder, rdm, modality)
        except OSError as error:
            return Scored(path, error=f"{path}: its submission cannot be written: {error}")
    return Scored(path, results, submissions=tuple(written), sha256=report.sha256)


def _check_submittable(studies: Sequence[Study]) -> None:
    if not any(study.test_stimuli for study in studies):
        raise ValueError("a submission needs test images, and none of the studies has any")
    regions = {region for study in studies for region in study.targets}
    if foreign := sorted(region for region in regions if not modality_of(region)):
        raise ValueError(
            f"a submission is for the challenge's regions, not for {', '.join(foreign)}; score without it"
        )


def _submission_folders(names: Sequence[str], submit: str | Path | None) -> list[Path]:
    if submit is None:
        return []
    stems = [Path(name).stem for name in names]
    if len(names) == 1:
        return [Path(submit)]
    unique = len(set(stems)) == len(stems)
    return [
        Path(submit) / (stem if unique else f"{i:03d}-{stem}") for i, stem in enumerate(stems, 1)
    ]
