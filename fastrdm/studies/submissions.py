"""Submissions to the Algonauts 2019 challenge: reading, writing, and scoring as its server did."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import (
    NUMBERS,
    as_floats,
    choose,
    common_labels,
    open_contents,
    rdm_labels,
    square,
)
from fastrdm.studies.challenge import (
    REGIONS,
    check_key,
    modalities_of,
    published_set,
    read_target,
    subject_rdms,
)


def read_submission(path: str | Path) -> dict[str, NDArray[np.floating[Any]]]:
    """Read a submission: a model's RDM for each region of one modality.

    Parameters
    ----------
    path : path-like
        `.mat` (any version), `.npy` or `.npz` with the keys `EVC_RDMs` and `IT_RDMs`, or
        `MEG_RDMs_early` and `MEG_RDMs_late`, each (n, n).

    Returns
    -------
    dict of str to ndarray, shape (pairs,)
        Condensed RDM by region.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file cannot be read, lacks a key, holds both modalities, or an RDM is not square,
        symmetric and finite, or is constant, so that no rank correlation is defined.
    """
    contents = open_contents(path)
    held = {
        key: entry
        for key, entry in contents.entries.items()
        if entry.kind == NUMBERS and not entry.is_nested
    }
    modality, *others = modalities_of(held, path)
    if others:
        raise ValueError(
            f"{path} holds fMRI and MEG RDMs; a submission is for one modality, with the keys"
            f" {' or '.join(' and '.join(keys.values()) for keys in REGIONS.values())}"
        )
    arrays, rdms = {}, {}
    for region, key in REGIONS[modality].items():
        name = f"{key} of {path}"
        check_key(held, key, path)
        arrays[key] = np.asarray(contents.read(key))
        rdms[region] = _submitted(arrays[key], name)
        if np.ptp(rdms[region]) == 0:
            raise ValueError(
                f"{name} is constant, {rdms[region][0]:g} for every pair of conditions:"
                " it has no rank correlation"
            )
    _check_shapes(arrays, path)
    return rdms


def write_submission(
    path_or_dir: str | Path, rdms: ArrayLike | Mapping[str, ArrayLike], modality: str = "fmri"
) -> tuple[Path, Path]:
    """Write a submission: a `.mat` file, and a zip of that file to upload.

    Parameters
    ----------
    path_or_dir : path-like
        Folder for `submit_fmri.mat` or `submit_meg.mat`, created if missing; or a file name that
        ends in `.mat`. The zip has the same name.
    rdms : array_like, shape (n, n) or (pairs,), or mapping of region to such
        One RDM for both regions, or one for each.
    modality : {"fmri", "meg"}
        Which regions.

    Returns
    -------
    tuple of Path
        The `.mat` file and the zip.

    Raises
    ------
    ValueError
        If regions are missing or unknown, the RDMs differ in size or labels, or one is not an RDM.

    Warns
    -----
    RuntimeWarning
        If an RDM looks like similarities: the largest entry of each row is on the diagonal.
    """
    from scipy.io import savemat

    keys = choose(modality, REGIONS, "modality")
    by_region = rdms if isinstance(rdms, Mapping) else dict.fromkeys(keys, rdms)
    if by_region.keys() != keys.keys():
        raise ValueError(
            f"a submission for {modality} has an RDM for each of {', '.join(keys)};"
            f" got {', '.join(by_region) or 'none'}"
        )
    # One array may be passed for all regions.
    made: dict[int, NDArray[Any]] = {}
    labels = []
    for region, key in keys.items():
        values = by_region[region]
        if id(values) in made:
            continue
        rdm = as_floats(values, key, masked_as_nan=True)
        labels.append(rdm_labels(values, key, square=rdm.ndim == 2))
        matrix = np.asarray(square(values, key)) if rdm.ndim == 1 else rdm
        made[id(values)] = square(_submitted(matrix, key).astype(np.float64))
    arrays = {key: made[id(by_region[region])] for region, key in keys.items()}
    _check_shapes(arrays, "a submission")
    common_labels(labels)
    path = Path(path_or_dir)
    mat = path if path.suffix == ".mat" else path / f"submit_{modality}.mat"
    mat.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    savemat(content, arrays)
    mat.write_bytes(content.getvalue())
    packed = mat.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(mat, mat.name)
    return mat, packed


@dataclass(frozen=True)
class RegionScore:
    """How well one RDM predicts one region.

    Attributes
    ----------
    r2 : float
        Mean over subjects of the squared Spearman correlation.
    percent_nc : float
        100 · r2 / ceiling.
    p : float
        Two-sided t-test over subjects that the squared correlation is 0; NaN for one subject.
    std, sample_std : float
        Population and sample standard deviation over subjects of the squared correlation.
    rho : tuple of float
        Each subject's correlation, averaged over time.
    ceiling : float
        Noise ceiling used.
    mean_rho : float
        Mean of `rho`: below 0, the model orders pairs oppositely to the brain, however high `r2` is.
    """

    r2: float
    percent_nc: float
    p: float
    std: float
    sample_std: float
    rho: tuple[float, ...]
    ceiling: float
    mean_rho: float


class OverallScore(NamedTuple):
    """The challenge's score: mean R² of the two regions, as a number and in percent of their mean ceiling."""

    r2: float
    percent_nc: float


@dataclass(frozen=True)
class Evaluation:
    """A submission's scores.

    Attributes
    ----------
    regions : dict of str to RegionScore
        By region.
    set : str or None
        The image set whose published ceilings were used; None if they were computed.
    """

    regions: dict[str, RegionScore]
    set: str | None = None

    @property
    def score(self) -> OverallScore:
        """Mean R² over regions, and 100 · that / mean ceiling over regions."""
        r2 = float(np.mean([region.r2 for region in self.regions.values()]))
        ceiling = float(np.mean([region.ceiling for region in self.regions.values()]))
        return OverallScore(r2, 100 * r2 / ceiling)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and dicts for JSON; NaN becomes None."""
        regions = {
            name: {
                key: list(value) if key == "rho" else None if np.isnan(value) else value
                for key, value in asdict(region).items()
            }
            for name, region in self.regions.items()
        }
        return {**regions, "score": self.score._asdict(), "set": self.set}

    def scores_txt(self) -> str:
        """Lines of the `scores.txt` that the challenge's server writes."""
        results: dict[str, RegionScore | OverallScore] = {**self.regions, "score": self.score}
        lines = [f"{name}: {result.r2}" for name, result in results.items()]
        lines += [f"{name}_percentNC: {result.percent_nc}" for name, result in results.items()]
        return "\n".join(lines) + "\n"


def evaluate(submission: str | Path, target: str | Path, set: str = "infer") -> Evaluation:
    """Score a submission as the challenge's server does.

    For each region R² is the mean over subjects of ρ², with ρ the Spearman correlation of the
    submitted RDM and the subject's, averaged over time before squaring.

    Parameters
    ----------
    submission, target : path-like
        Files as for `read_submission` and `read_target`; the submission's modality is scored.
    set : {"infer", "92", "118", "78", "none"}
        As for `read_target`.

    Returns
    -------
    Evaluation
        Scores by region, and the overall score.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file is invalid, or the two differ in modality or number of conditions.
    """
    rdms = read_submission(submission)
    modality = next(name for name, regions in REGIONS.items() if regions.keys() == rdms.keys())
    targets = read_target(target, modality, set)
    scores = {}
    for region, brain in targets.items():
        shape = (brain.n_conditions, brain.n_conditions)
        if (submitted := square(rdms[region]).shape) != shape:
            raise ValueError(
                f"{REGIONS[modality][region]} is {submitted} in {submission} but {shape} in"
                f" {target}: they are not of the same images"
            )
        score = brain.score(rdms[region])
        scores[region] = RegionScore(
            **{
                key: float(getattr(score, key)[0])
                for key in ("r2", "percent_nc", "p", "std", "sample_std", "mean_rho")
            },
            rho=tuple(float(rho) for rho in score.rho[0]),
            ceiling=brain.ceiling,
        )
    n_conditions = next(iter(targets.values())).n_conditions
    return Evaluation(scores, published_set(set, n_conditions, str(target)))


def _submitted(array: NDArray[Any], name: str) -> NDArray[np.floating[Any]]:
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; a submitted RDM is (n, n)")
    rdm: NDArray[np.floating[Any]] = subject_rdms(array, name)[0]
    return rdm


def _check_shapes(arrays: Mapping[str, NDArray[Any]], source: str | Path) -> None:
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
        raise ValueError(f"the RDMs of {source} differ in shape: {shapes}")
