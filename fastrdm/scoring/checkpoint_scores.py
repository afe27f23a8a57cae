"""Checkpoints → results in memory, in the order given: a sweep without a store."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastrdm._base import check_writable_folder
from fastrdm.runtimes import Architecture
from fastrdm.scoring.held_out import HeldOutScore, held_out_layers
from fastrdm.scoring.held_out_weights import check_shared_regions, weighted_scores
from fastrdm.scoring.jobs import Failed, Job, Outcome, Scored
from fastrdm.scoring.listing import LeftOut
from fastrdm.scoring.outcome_results import results_of
from fastrdm.scoring.region_scorers import RegionScorer
from fastrdm.scoring.results import RSA, Result, modality_of
from fastrdm.scoring.scheduler import Event
from fastrdm.scoring.store_columns import pipeline_settings
from fastrdm.scoring.sweeps import Sweep
from fastrdm.studies import Study, algonauts


@dataclass(frozen=True)
class CheckpointScores:
    """All results of one checkpoint, or why there are none.

    Attributes
    ----------
    checkpoint : str
        The weights' file as given.
    results : tuple of Result
        By study, measure, layer and region.
    error : str
        One sentence; empty on success. There are results too if only the submission could not be written.
    submissions : tuple of Path
        Files written for the test images.
    sha256 : str
        Of the weights' file; empty after an error.
    labels : dict of str to str
        Labels found in the path.
    taken : dict of str to str
        What was taken of the weights' file, as `OnnxModel.taken`.
    traceback : str
        Of the error, if it has one.
    settings : dict of str to str
        How it was scored if there are several networks, as in the columns of a store's tables: arch, taps, precision,
        preprocessing, and "settings", which differs between all settings. Empty for one network, and after an error.
    held_out : tuple of HeldOutScore
        For regions that several studies have: scores on each study of the layers that the other studies choose, and of
        weighted layers if these are asked for.
    """

    checkpoint: str
    results: tuple[Result, ...] = ()
    error: str = ""
    submissions: tuple[Path, ...] = ()
    sha256: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    traceback: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    held_out: tuple[HeldOutScore, ...] = ()


def score_checkpoints(
    weights: Sequence[str | Path],
    arch: Sequence[str | Architecture] = (),
    studies: "str | Path | Study | Sequence[str | Path | Study]" = (),
    *,
    submit: str | Path | None = None,
    n_draws: int = 1000,
    seed: int = 0,
    watch: bool = False,
    patience: float | None = None,
    repeat: bool = True,
    weighted: bool = False,
    on_start: Callable[[str], None] = lambda checkpoint: None,
    on_ready: Callable[[str], None] = lambda provider: None,
    on_left_out: Callable[[LeftOut], None] | None = None,
    **options: Any,
) -> Iterator[CheckpointScores]:
    """Score checkpoints one after the other, by default in this process; one bad file does not stop the rest.

    Each architecture is exported once, and the next checkpoint is opened while the current one is scored.

    Parameters
    ----------
    weights : sequence of path-like
        Weights, exported `.onnx` files, folders, globs, `.txt` lists of paths, or manifests, as for `fastrdm.sweep`.
    arch : sequence of str or Architecture
        ``"module:callable"``, or an exported `.onnx` file with any weights: one for all weights, one for each, or none
        if all are `.onnx` files.
    studies : path-like, Study or sequence of them
        What to score against.
    submit : path-like, optional
        Folder for submissions: the best layer's RDM for the test images, in a subfolder for each checkpoint if there
        are several.
    n_draws, seed : int
        Draws of the bootstrap over subjects, and the seed of the bootstrap and the sign flips; 0 draws give neither
        intervals nor sign-flip tests.
    watch, patience
        As for `fastrdm.sweep`.
    repeat : bool
        Whether a checkpoint that is named several times is yielded as often, with the same results.
    weighted : bool
        Whether layers are weighted on some studies and judged on another too. Workers then return the layers' RDMs.
    on_start : callable
        Called with each checkpoint's path before work on it begins.
    on_ready : callable
        Called when a worker is ready, with the provider that it uses, such as "cpu" or "torch:cuda:0".
    on_left_out : callable, optional
        Called with files in folders and globs that are not checkpoints; by default they cause a warning.
    **options
        As for `fastrdm.sweep`, without `store`; ``engine`` is "in-process" by default.

    Yields
    ------
    CheckpointScores
        One a checkpoint, in the order given, folders and globs sorted; then one with an error for each folder, glob or
        list without a checkpoint.

    Raises
    ------
    ValueError, FileNotFoundError
        Before work starts: if a checkpoint, architecture, study or provider does not exist, a submission is requested
        for studies without test images, for regions other than the challenge's or in a folder that cannot be written,
        or layers are to be weighted and no two studies share a region.

    Warns
    -----
    RuntimeWarning
        If files are left out.
    """
    engine = {} if options.get("workers") else {"engine": "in-process"}
    options = engine | options | {"submit": submit is not None}
    if weighted:
        options["keep_rdms"] = True
    with Sweep(weights, arch, studies, watch=watch, **options) as sweep:
        if weighted:
            check_shared_regions(sweep.studies)
        if submit is not None:
            check_writable_folder(submit, "submit")
            _check_submittable(sweep.studies, sweep.scorers)
        plan = sweep.plan()
        for left_out in plan.left_out:
            (on_left_out or _warn)(left_out)

        def on_event(event: Event) -> None:
            if event["event"] == "given":
                on_start(event["checkpoint"])
            elif event["event"] == "ready":
                on_ready(event["provider"])

        named = [] if watch or submit is None else list(sweep.paths())
        folder_of = _submission_folders(submit, named)
        has_several = watch or len(sweep.networks()) > 1
        outcomes = sweep.outcomes(plan, watch, patience, on_event)
        with contextlib.closing(outcomes):
            ordered = _in_order(outcomes)
            for outcome in ordered if repeat else _once(ordered):
                scores = _scores(outcome, sweep.scorers, folder_of, n_draws, seed)
                if isinstance(outcome, Scored) and weighted:
                    more = weighted_scores(outcome.layers, outcome.rdms, sweep.studies)
                    scores = replace(scores, held_out=scores.held_out + more)
                if isinstance(outcome, Scored) and has_several:
                    pipeline = sweep.pipeline(outcome.job.network)
                    scores = replace(scores, settings=pipeline_settings(pipeline, outcome.layers))
                yield scores


def _in_order(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Yield outcomes by the number of their job; those without a worker come last."""
    waiting: dict[int, Outcome] = {}
    following = 0
    for outcome in outcomes:
        if outcome.job.network < 0:
            yield outcome
            continue
        waiting[outcome.job.number] = outcome
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _once(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Yield the first outcome of each checkpoint, whatever its path is called."""
    seen = set()
    for outcome in outcomes:
        if outcome.job.place not in seen:
            seen.add(outcome.job.place)
            yield outcome


def _warn(left_out: LeftOut) -> None:
    warnings.warn(left_out.message, RuntimeWarning, stacklevel=3)


def _scores(
    outcome: Outcome,
    scorers: Sequence[RegionScorer],
    folder_of: Callable[[Job], Path],
    n_draws: int,
    seed: int,
) -> CheckpointScores:
    job = outcome.job
    if isinstance(outcome, Failed):
        return CheckpointScores(job.path, error=outcome.error, traceback=outcome.traceback)
    assert isinstance(outcome, Scored)  # without a store nothing is known before
    for text, kind in outcome.warnings.items():
        named = text if job.path in text else f"{job.path}: {text}"
        warnings.warn(named, kind, stacklevel=3)
    written: list[Path] = []
    problem = ""
    try:
        for modality, rdm in outcome.test_rdms.items():
            written += algonauts.write_submission(folder_of(job), rdm, modality)
    except OSError as error:
        problem = f"{job.path}: its submission cannot be written: {error}"
    results = results_of(outcome, scorers, n_draws=n_draws, seed=seed)
    facts = (tuple(written), outcome.sha256, job.labels, outcome.taken)
    held_out = held_out_layers(r for r in results if r.time is None)
    return CheckpointScores(job.path, results, problem, *facts, held_out=held_out)


def _submission_folders(submit: str | Path | None, paths: Sequence[str]) -> Callable[[Job], Path]:
    """A folder for each checkpoint: `submit` for the only one, else one named after it, numbered if names repeat."""
    root, names = Path(submit or ""), {Path(path).stem for path in paths}

    def folder_of(job: Job) -> Path:
        name = Path(job.path).stem
        if len(paths) == 1:
            return root
        return root / (name if len(names) == len(paths) > 0 else f"{job.number + 1:03d}-{name}")

    return folder_of


def _check_submittable(studies: Sequence[Study], scorers: Sequence[RegionScorer]) -> None:
    if not any(study.test_stimuli for study in studies):
        raise ValueError("a submission needs test images, and none of the studies has any")
    if any(scorer.axis for scorer in scorers):
        raise ValueError(
            "a submission has the best layer of scores averaged over time; score it with over_time='mean'"
        )
    if not any(scorer.measure == RSA for scorer in scorers):
        raise ValueError(
            f"a submission has the best layer by the measure {RSA!r}; add it to measures"
        )
    regions = {region for study in studies for region in study.targets}
    if foreign := sorted(region for region in regions if not modality_of(region)):
        raise ValueError(
            f"a submission is for the challenge's regions, not for {', '.join(foreign)}; leave submit out"
        )
