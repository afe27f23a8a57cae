"""The check of a study: what was understood of its files, and everything that looks wrong."""

import dataclasses
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastrdm.images import ImageFacts, Preprocessing, in_order, inspect_image, name_in, unread_files
from fastrdm.studies.agreement import RegionFacts, examine_region
from fastrdm.studies.challenge import CEILINGS
from fastrdm.studies.opening import Opener, choose_studies
from fastrdm.studies.region_suspicions import suspect_equal_regions, suspect_region
from fastrdm.studies.regions import only
from fastrdm.studies.response_summary import ResponseSummary, summarise_responses
from fastrdm.studies.response_suspicions import suspect_responses
from fastrdm.studies.settings import FILE_NAME
from fastrdm.studies.study import Study, synthetic_notice
from fastrdm.studies.suspicions import (
    Stimulus,
    Suspicion,
    suspect_order,
    suspect_stimuli,
    suspect_unlisted,
)

# Kinds of the warnings that are issued when a study is opened, by a part of their text.
_KINDS = {"looks like similarities": "similarities", 'the order "natural"': "order"}


@dataclass(frozen=True)
class StudyCheck:
    """What was understood of a study, and what looks wrong.

    Attributes
    ----------
    name, description : str
        The study's.
    synthetic : bool
        Whether the brains are simulated.
    folder : str
        Folder of the stimuli; empty if unknown.
    order : str
        What the order of the stimuli comes from: "sorted", "natural", or the file that lists them.
    background : str or None
        The colour behind transparent pixels.
    stimuli, test_stimuli : tuple of Stimulus
        In order, with the facts of each image.
    unlisted, unread : tuple of str
        Images of the folder that are not listed, and files that are not read.
    regions : tuple of RegionFacts
        Subjects, ceilings and reliabilities of the regions that could be read, also of those without a valid ceiling.
    responses : tuple of ResponseSummary
        Subjects, units, repeats and reliabilities of the regions that have responses.
    suspicions : tuple of Suspicion
        Everything that looks wrong; empty if nothing does.
    errors : tuple of str
        Why parts of the study cannot be scored: RDMs that cannot be read, images that cannot be decoded.
    study : Study or None
        The study, with the regions that can be scored; None if it could not be opened.
    preprocessing : Preprocessing
        The conversion of the images to a network's input for which they were checked.
    """

    name: str
    description: str = ""
    synthetic: bool = False
    folder: str = ""
    order: str = ""
    background: str | None = None
    stimuli: tuple[Stimulus, ...] = ()
    test_stimuli: tuple[Stimulus, ...] = ()
    unlisted: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    regions: tuple[RegionFacts, ...] = ()
    responses: tuple[ResponseSummary, ...] = ()
    suspicions: tuple[Suspicion, ...] = ()
    errors: tuple[str, ...] = ()
    study: Study | None = field(default=None, repr=False, compare=False)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain numbers, texts, lists and dicts for JSON; NaN becomes None."""
        plain: dict[str, Any] = _plain(self)
        return plain


def check_study(
    study: Study | str | Path,
    name: str | None = None,
    *,
    modality: str = "fmri",
    preprocessing: Preprocessing | None = None,
) -> StudyCheck:
    """Check a study: return what was understood of its files, and everything that looks wrong.

    Parameters
    ----------
    study : Study or path-like
        A study, its folder or `study.toml`, or a folder with studies, as for `open_studies`.
    name : str, optional
        Which study of the folder; needed if there are several.
    modality : {"fmri", "meg", "both"}
        Which of the challenge's targets to read.
    preprocessing : Preprocessing, optional
        How a network will see the images; by default that of the challenge's development kit.

    Returns
    -------
    StudyCheck
        Facts, suspicions and errors. Errors of the settings, a region or an image are among them, and do not end the
        check.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or holds no study.
    ValueError
        If the folder has several studies and `name` is not one of them.
    """
    names = None if name is None else [name]
    chosen = choose_studies(_folder(study), names, modality, lenient=True)
    if len(chosen) > 1:
        present = ", ".join(each for each, _ in chosen)
        raise ValueError(f"{study} holds several studies; pass the name of one of them: {present}")
    return _check(*chosen[0], preprocessing)


def check_studies(
    data: str | Path | Study | Sequence[str | Path | Study],
    sets: Iterable[str] | None = None,
    modality: str = "fmri",
    preprocessing: Preprocessing | None = None,
) -> list[StudyCheck]:
    """Check the studies in several folders, as `check_study`; `sets` are the names of those to check."""
    items = [data] if isinstance(data, str | Path | Study) else list(data)
    chosen = choose_studies([_folder(item) for item in items], sets, modality, lenient=True)
    return [_check(name, opener, preprocessing) for name, opener in chosen]


def _folder(study: Study | str | Path) -> Study | str | Path:
    """A study's folder, if its settings file is named."""
    if isinstance(study, str | Path) and Path(study).name == FILE_NAME and Path(study).is_file():
        return Path(study).parent
    return study


def _check(name: str, opener: Opener, preprocessing: Preprocessing | None) -> StudyCheck:
    errors: list[str] = []
    invalid: set[str] = set()

    def report(region: str, error: str) -> None:
        invalid.add(region)
        errors.append(error if f"targets.{region}" in error else f"{region}: {error}")

    study = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            study = opener(report)
        except (ValueError, OSError) as error:
            errors.append(str(error))
    sources = study.sources if study else {}
    suspicions = [
        Suspicion(
            _kind(text), text, next((r for r, s in sources.items() if text.startswith(s)), "")
        )
        for text in dict.fromkeys(str(each.message) for each in caught)
    ]
    if study is None:
        return StudyCheck(name, suspicions=tuple(suspicions), errors=tuple(errors))
    return _examine(study, preprocessing or Preprocessing(), suspicions, errors, invalid)


def _kind(text: str) -> str:
    return next((kind for part, kind in _KINDS.items() if part in text), "warning")


def _examine(
    study: Study,
    preprocessing: Preprocessing,
    suspicions: list[Suspicion],
    errors: list[str],
    invalid: set[str],
) -> StudyCheck:
    names, background = study.names, study.background
    stimuli = _inspect(study.stimuli, names, background, range(len(names)))
    # Test stimuli are often in another folder, so they are named by their paths.
    test_names = [str(path) for path in study.test_stimuli]
    test = _inspect(study.test_stimuli, test_names, background, [-1] * len(test_names))
    errors += [
        each.image.problem
        for each in (*stimuli, *test)
        # Images with transparent pixels are a suspicion.
        if each.image.problem and not each.image.transparent
    ]
    unread = _unread(study)
    published = CEILINGS.get(study.name, {})
    regions = []
    for images, what in ((stimuli, "stimuli"), (test, "test stimuli")):
        suspicions += suspect_stimuli(images, what, preprocessing, background)
    suspicions += suspect_order(names, study.order)
    suspicions += suspect_unlisted(study.unlisted, unread, study.order)
    for region, target in study.targets.items():
        source, subjects = study.sources.get(region, ""), study.subjects.get(region, ())
        facts = examine_region(region, target, source, subjects, published.get(region))
        with warnings.catch_warnings():
            # NumPy warns of RDMs that are NaN throughout, which is a suspicion.
            warnings.simplefilter("ignore", RuntimeWarning)
            if region in invalid:
                facts = dataclasses.replace(facts, ceiling=math.nan, ceiling_source="invalid")
            suspicions += suspect_region(target, facts, names)
        regions.append(facts)
    suspicions += suspect_equal_regions(study.targets)
    summaries = [summarise_responses(study, region) for region in study.responses]
    for summary in summaries:
        suspicions += suspect_responses(study.responses[summary.name], summary, names)
    if study.synthetic:
        suspicions.append(Suspicion("synthetic", synthetic_notice([study])))
    return StudyCheck(
        study.name,
        study.description,
        study.synthetic,
        str(study.folder or ""),
        study.order,
        background,
        stimuli,
        test,
        study.unlisted,
        unread,
        tuple(regions),
        tuple(summaries),
        tuple(suspicions),
        tuple(dict.fromkeys(errors)),
        only(study, [region for region in study.regions if region not in invalid]),
        preprocessing,
    )


def _unread(study: Study) -> tuple[str, ...]:
    """Names of the files in the folder of the stimuli that are not read."""
    if study.folder is None:
        return ()
    folder = study.folder
    files = unread_files(folder, recursive=True, exclude={p.parent for p in study.test_stimuli})
    return tuple(name_in(path, folder) for path in files)


def _inspect(
    paths: Sequence[Path], names: Sequence[str], background: str | None, rows: Iterable[int]
) -> tuple[Stimulus, ...]:
    if not paths:
        return ()

    def inspect(path: Any, index: int) -> ImageFacts:
        return inspect_image(path, background)

    images = in_order(inspect, list(paths))
    return tuple(
        Stimulus(row, name, path, image)
        for row, name, path, image in zip(rows, names, paths, images, strict=False)
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = (f.name for f in dataclasses.fields(value) if f.repr)
        return {name: _plain(getattr(value, name)) for name in shown}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(value) if isinstance(value, Path) else value
