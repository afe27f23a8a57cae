"""Finding and opening the studies in a folder."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from fastrdm._base import check_choice
from fastrdm.similarity import Target
from fastrdm.studies.challenge import REGIONS, ChallengeImages, image_sets
from fastrdm.studies.regions import with_regions
from fastrdm.studies.response_fields import check_measures
from fastrdm.studies.settings import FILE_NAME, StudySettings
from fastrdm.studies.study import Report, Study

_MODALITIES = {**{name: (name,) for name in REGIONS}, "both": tuple(REGIONS)}
Opener: TypeAlias = Callable[[Report | None], Study]
_Named = tuple[str, Opener]


def find_data() -> Path | None:
    """Find the data root: `FASTRDM_DATA`, else `../shared/data` seen from the current folder, else None.

    FileNotFoundError if `FASTRDM_DATA` is set but is not a folder.
    """
    if value := os.environ.get("FASTRDM_DATA"):
        if not Path(value).is_dir():
            raise FileNotFoundError(f"FASTRDM_DATA is {value}, which is not a folder")
        return Path(value)
    beside = Path("../shared/data")
    return beside.resolve() if beside.is_dir() else None


def open_studies(
    root: str | Path,
    sets: Iterable[str] | None = None,
    modality: str = "fmri",
    regions: Iterable[str] | None = None,
    measures: Sequence[str] | None = None,
) -> list[Study]:
    """Open and check the studies in a folder.

    Parameters
    ----------
    root : path-like
        A folder with a `study.toml`, or with direct subfolders that have one; the Algonauts 2019
        download, or the folder that holds it as `algonauts2019`. All studies found are opened.
    sets : iterable of str, optional
        Names of the studies to open, in this order; all by default. The challenge's are named
        "92" and "118".
    modality : {"fmri", "meg", "both"}
        Which of the challenge's targets to read. Studies with a `study.toml` have all their targets read.
    regions : iterable of str, optional
        Names of the targets to keep, in this order, in any case; all by default. Studies without any of them are left
        out with a warning, or refused if `sets` names them.
    measures : sequence of str, optional
        What regions are to be scored by, in place of their own measures in a `study.toml`: names of
        `fastrdm.studies.MEASURES`. A region gets those that it has data for.

    Returns
    -------
    list of Study
        At least one.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or holds no study.
    ValueError
        If a study's settings or files are invalid, or a name in `sets` or `regions` is unknown.
    """
    chosen = _choose(_find(root, modality, measures), sets, f" in {root}")
    studies = [open_study(None) for _, open_study in chosen]
    return with_regions(studies, regions, named=sets is not None)


def collect_studies(
    data: str | Path | Study | Sequence[str | Path | Study],
    sets: Iterable[str] | None = None,
    modality: str = "fmri",
    regions: Iterable[str] | None = None,
    measures: Sequence[str] | None = None,
) -> list[Study]:
    """Open the studies in several folders, beside studies given; parameters and errors as for `open_studies`."""
    studies = [open_study(None) for _, open_study in choose_studies(data, sets, modality, measures)]
    return with_regions(studies, regions, named=sets is not None)


def choose_studies(
    data: str | Path | Study | Sequence[str | Path | Study],
    sets: Iterable[str] | None = None,
    modality: str = "fmri",
    measures: Sequence[str] | None = None,
    *,
    lenient: bool = False,
) -> list[tuple[str, Opener]]:
    """Return the names of the studies that `collect_studies` opens, and functions that open them.

    Such a function raises errors of targets, or passes them to its argument if this is not None. If `lenient`, a study
    with invalid settings has the name of its folder, and its function raises the error.
    """
    items = [data] if isinstance(data, str | Path | Study) else data
    if not items:
        raise ValueError("data is empty; name a folder with studies, or pass studies")
    named: list[_Named] = []
    for item in items:
        if isinstance(item, Study):
            named.append((item.name, partial(_given, item)))
        else:
            named += _find(item, modality, measures, lenient)
    return _choose(named, sets)


def _given(study: Study, report: Report | None) -> Study:
    return study


def _find(
    root: str | Path, modality: str, measures: Sequence[str] | None, lenient: bool = False
) -> list[_Named]:
    """The studies in a folder by name, not opened yet."""
    root = Path(root)
    if measures is not None:
        check_measures(measures, "")
    check_choice(modality, _MODALITIES, "modality")
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    named = [
        *_challenge_studies(root, _MODALITIES[modality]),
        *_described_studies(root, measures, lenient),
    ]
    if not named:
        raise FileNotFoundError(
            f"no study in {root}: looked for {FILE_NAME} in it and in its subfolders, and for"
            " Training_Data/92_Image_Set and 118_Image_Set of the Algonauts 2019 challenge in it"
            " and in its algonauts2019; `fastrdm sample DIR` writes a synthetic study to try"
        )
    return named


def _choose(named: Sequence[_Named], sets: Iterable[str] | None, where: str = "") -> list[_Named]:
    """The studies with the names in `sets`, in this order."""
    studies = dict(named)
    if repeated := [name for name, n in Counter(name for name, _ in named).items() if n > 1]:
        raise ValueError(f"several studies{where} have the name {repeated[0]!r}")
    wanted = list(studies) if sets is None else list(sets)
    if unknown := [name for name in wanted if name not in studies]:
        present = "it holds" if where else "the studies are"
        raise ValueError(
            f"no study named {', '.join(map(repr, unknown))}{where}; {present}: {', '.join(studies)}"
        )
    return [(name, studies[name]) for name in wanted]


def _challenge_studies(root: Path, modalities: tuple[str, ...]) -> list[_Named]:
    present = image_sets(root)
    test = present["78"].images if "78" in present else ()
    return [
        (name, partial(_challenge_study, images, modalities, test))
        for name, images in present.items()
        # The targets of the test set were not published; with targets it is a study like the others.
        if name != "78" or images.targets.keys() & {*modalities}
    ]


def _challenge_study(
    images: ChallengeImages,
    modalities: tuple[str, ...],
    test: tuple[Path, ...],
    report: Report | None,
) -> Study:
    # Without any target, reading them raises the error.
    present = [m for m in modalities if m in images.targets] or modalities
    targets: dict[str, Target] = {}
    for modality in present:
        try:
            targets |= images.read_targets(modality)
        except (ValueError, OSError) as error:
            if report is None:
                raise
            report("", str(error))
    sources = {
        region: f"{REGIONS[modality][region]} of {images.targets[modality]}"
        for modality in present
        for region in REGIONS[modality].keys() & targets.keys()
    }
    return Study(
        images.name,
        images.images,
        targets,
        f"Algonauts 2019, {images.name} images (Cichy et al. 2019, arXiv:1905.05675)",
        test_stimuli=test,
        folder=images.images[0].parent,
        order="sorted",
        sources=sources,
    )


def _described_studies(root: Path, measures: Sequence[str] | None, lenient: bool) -> list[_Named]:
    at_root = root / FILE_NAME
    files = [at_root] if at_root.is_file() else sorted(root.glob(f"*/{FILE_NAME}"))
    return [_described(file, measures, lenient) for file in files]


def _described(file: Path, measures: Sequence[str] | None, lenient: bool) -> _Named:
    try:
        settings = StudySettings(file)
    except ValueError as error:
        if not lenient:
            raise
        return file.resolve().parent.name, partial(_invalid, error)
    return settings.name, partial(settings.open, measures=measures)


def _invalid(error: ValueError, report: Report | None) -> Study:
    raise error
