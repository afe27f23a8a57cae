"""A few checkpoints scored here and now, in their order: a sweep without a store."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastrdm.networks import Taps, is_onnx
from fastrdm.runtimes import architecture_of, one_for_each
from fastrdm.scoring.manifest import LeftOut, Listing, is_manifest
from fastrdm.scoring.scorer import Result, modality_of, results_of
from fastrdm.scoring.worker import Load, Network, Outcome, Task, Worker, kernels_version
from fastrdm.studies import Study, algonauts


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
    on_left_out: Callable[[LeftOut], None] | None = None,
) -> Iterator[Scored]:
    """Score checkpoints one after the other, in this process; one that cannot be read does not stop the rest.

    Each distinct architecture is exported once, and the next checkpoint is opened while the current
    one is scored: by the worker that sweeps have in processes of their own.

    Parameters
    ----------
    weights : sequence of path-like
        Weights of any ending, or exported `.onnx` files; folders, globs, or `.txt` files with a path a line, as for
        `fastrdm.sweep`.
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
    on_left_out : callable, optional
        Called with what folders and globs hold beside checkpoints; by default a warning tells it.

    Yields
    ------
    Scored
        One a checkpoint, in the order given, those of a folder or glob sorted; then one with an error for each folder,
        glob or list without any.

    Raises
    ------
    ValueError, FileNotFoundError
        Before work starts: if there is neither one architecture nor one for each of the weights, one cannot be
        imported or read, or a submission is asked for of studies without test images or of regions that are not the
        challenge's.

    Warns
    -----
    RuntimeWarning
        Of files that are left out.
    """
    test_images: tuple[Path, ...] = ()
    test_background = None
    if submit is not None:
        _check_submittable(studies)
        tested = next(study for study in studies if study.test_stimuli)
        test_images, test_background = tested.test_stimuli, tested.background
    listing, of_each = _listed(weights, arch)
    for each in listing.left_out:
        (on_left_out or _warn)(each)
    names = [found.path for found in listing.found]
    folders: Sequence[Path | None] = _submission_folders(names, submit) or [None] * len(names)
    networks, tasks, errors = _networks(names, arch, of_each, taps)
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
        for found, task, error, folder in zip(listing.found, tasks, errors, folders, strict=True):
            if on_start:
                on_start(task.path)
            if error:
                yield Scored(task.path, error=found.named(error))
                continue
            outcome = worker.score(task, next(following, None))
            scored = _scored(outcome, studies, folder, n_draws, seed)
            yield replace(scored, error=found.named(scored.error)) if scored.error else scored
    for given, error in listing.empty:
        yield Scored(given, error=error)


def _listed(weights: Sequence[str | Path], arch: Sequence[str]) -> tuple[Listing, list[str | None]]:
    """The checkpoints there are, and the architecture of each."""
    listing = Listing()
    of_each: list[str | None] = []
    for given, own in zip(weights, one_for_each(arch, len(weights)), strict=True):
        if is_manifest(given):
            raise ValueError(f"{given} is a manifest, which fastrdm sweep takes")
        listing.look(str(given))
        of_each += [own] * (len(listing.found) - len(of_each))
    return listing, of_each


def _warn(left_out: LeftOut) -> None:
    warnings.warn(left_out.message, RuntimeWarning, stacklevel=3)


def _networks(
    names: Sequence[str], arch: Sequence[str], of_each: Sequence[str | None], taps: Taps | None
) -> tuple[tuple[Network, ...], list[Task], list[str]]:
    """What the weights are of, each architecture exported once, and for each of the weights why theirs could not be."""
    makers = {each: architecture_of(each, taps) for each in dict.fromkeys(arch)}
    # What is an .onnx file brings its graph along, whatever architecture is given with it.
    places: dict[str | None, int] = {None: 0, **{each: i for i, each in enumerate(makers, 1)}}
    tasks = [
        Task(name, 0 if is_onnx(name) else places[each])
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
