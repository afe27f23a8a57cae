"""The Algonauts 2019 challenge: its files, its constants and its scores.

Cichy et al. (2019), The Algonauts Project: a platform for communication between the sciences of
biological and artificial intelligence, arXiv:1905.05675.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import (
    agreed,
    as_floats,
    check_choice,
    choose,
    condense,
    rdm_labels,
    read_arrays,
    square,
    warn_similarities,
)
from fastrdm.images import describe_unread, list_images
from fastrdm.similarity import Target, check_values

#: Region → key in the challenge's files, by modality.
REGIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "fmri": MappingProxyType({"evc": "EVC_RDMs", "it": "IT_RDMs"}),
        "meg": MappingProxyType({"early": "MEG_RDMs_early", "late": "MEG_RDMs_late"}),
    }
)

#: Published noise ceilings (R²) of each image set and region.
CEILINGS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        name: MappingProxyType(dict(zip(("evc", "it", "early", "late"), values, strict=True)))
        for name, values in {
            "92": (0.1589, 0.3075, 0.4634, 0.2275),
            "118": (0.1048, 0.0728, 0.3468, 0.2265),
            "78": (0.0640, 0.0647, 0.3562, 0.4452),
        }.items()
    }
)

#: Window after stimulus onset, in ms, of the MEG targets of each image set.
MEG_WINDOWS: Mapping[str, Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "92": MappingProxyType({"early": (70, 90), "late": (140, 160)}),
        "118": MappingProxyType({"early": (100, 120), "late": (165, 185)}),
        "78": MappingProxyType({"early": (70, 90), "late": (140, 160)}),
    }
)

_FOLDERS = {
    "92": "Training_Data/92_Image_Set",
    "118": "Training_Data/118_Image_Set",
    "78": "Test_Data",
}

_AXES = {3: ("subject", "row", "column"), 4: ("subject", "time", "row", "column")}


def subject_rdms(array: Any, name: str, nan_policy: str = "raise") -> NDArray[np.floating[Any]]:
    """Check the square RDMs of a region's subjects and condense them.

    Parameters
    ----------
    array : array_like, shape (subjects, n, n), (subjects, times, n, n) or (n, n)
        Symmetric dissimilarities of n ≥ 3 conditions; the diagonal is not read. A single RDM is
        that of a single subject, as MATLAB's `squeeze` leaves it.
    name : str
        What the errors call the array.
    nan_policy : str
        ``"raise"``: NaN is an error. Else it stays, where it is on both sides of the diagonal; infinity is an error
        either way.

    Returns
    -------
    ndarray, shape (subjects, pairs) or (subjects, times, pairs)
        Condensed RDMs.

    Raises
    ------
    ValueError
        If the shape is another, or values are not numbers, not finite or masked (the message says
        where the first one is) or not symmetric, or labels of rows and columns differ.

    Warns
    -----
    RuntimeWarning
        If matrices have the largest entry of each row on the diagonal, as similarities do.
    """
    rdms = as_floats(array, name, masked_as_nan=True)
    shape = rdms.shape
    if rdms.ndim == 2:
        rdms = rdms[np.newaxis]
    *leading, n_rows, n = rdms.shape if rdms.ndim in _AXES else (0, 0, 0)
    if n_rows != n or n < 3 or 0 in leading:
        hint = (
            "; its conditions seem to come first, which transposing it mends"
            if len(shape) in _AXES and shape[0] == shape[1]
            else ""
        )
        raise ValueError(
            f"{name} has shape {shape}; expected (subjects, n, n) or (subjects, times, n, n)"
            f" for n >= 3 conditions{hint}"
        )
    rdm_labels(array, name, square=True)
    warn_similarities(rdms, name)
    # The diagonal takes no part, and some files hold NaN there.
    rdms = rdms.copy()
    rdms[..., np.arange(n), np.arange(n)] = 0
    check_values(rdms, name, _AXES[rdms.ndim], nan_policy)
    return condense(rdms, name)


def read_target(
    path: str | Path, modality: str | None = None, set: str = "infer"
) -> dict[str, Target]:
    """Read the brain's RDMs of each region.

    Parameters
    ----------
    path : path-like
        `.mat` (any version), `.npy` or `.npz` with the keys `EVC_RDMs` and `IT_RDMs`, or
        `MEG_RDMs_early` and `MEG_RDMs_late`, of shapes as for `subject_rdms`.
    modality : {"fmri", "meg"}, optional
        Which regions to read; by default those whose keys the file holds.
    set : {"infer", "92", "118", "78", "none"}
        The image set, whose published ceilings are used. Inferred from the number of conditions
        by default. With "none", and where no set is inferred, ceilings are computed from the
        subjects.

    Returns
    -------
    dict of str to Target
        By region: "evc" and "it", "early" and "late".

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read, lacks a key, holds RDMs that are not square, symmetric and
        finite, or has not as many conditions as the set.
    """
    arrays = read_arrays(path)
    if modality is None:
        modalities = _modalities(arrays, path)
    else:
        check_choice(modality, REGIONS, "modality")
        modalities = (modality,)
    targets = {}
    for region, key in _keys(*modalities).items():
        rdms = subject_rdms(_pick(arrays, key, path), f"{key} of {path}")
        image_set = _image_set(set, _n_conditions(arrays[key]), f"{key} of {path}")
        ceiling = None if image_set is None else CEILINGS[image_set][region]
        try:
            targets[region] = Target(rdms, "algonauts2019", ceiling, region)
        except ValueError as error:
            raise ValueError(f"{key} of {path}: {error}") from error
    return targets


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
        If there is no such file.
    ValueError
        If the file cannot be read, lacks a key, holds both modalities, or an RDM is not square,
        symmetric and finite, or is constant and so has no rank correlation with anything.
    """
    arrays = read_arrays(path)
    modality, *others = _modalities(arrays, path)
    if others:
        raise ValueError(
            f"{path} holds fMRI and MEG RDMs; a submission is for one modality, with the keys"
            f" {' or '.join(' and '.join(keys.values()) for keys in REGIONS.values())}"
        )
    rdms = {}
    for region, key in REGIONS[modality].items():
        array, name = _pick(arrays, key, path), f"{key} of {path}"
        if array.ndim != 2:
            raise ValueError(f"{name} has shape {array.shape}; a submitted RDM is (n, n)")
        rdms[region] = subject_rdms(array, name)[0]
        if np.ptp(rdms[region]) == 0:
            raise ValueError(
                f"{name} is constant, {rdms[region][0]:g} for every pair of conditions:"
                " it has no rank correlation"
            )
    sizes = {key: arrays[key].shape for key in REGIONS[modality].values()}
    if len({*sizes.values()}) > 1:
        raise ValueError(
            f"the RDMs of {path} differ in shape: "
            + ", ".join(f"{key} {shape}" for key, shape in sizes.items())
        )
    return rdms


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
        Noise ceiling in use.
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
    """The challenge's score: mean R² of the two regions, and its share of their mean ceiling."""

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
        The image set whose published ceilings were used; None where they were computed.
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
        """Plain numbers, lists and dicts for JSON; what is not defined (NaN) is None."""
        regions = {
            name: {
                key: list(value) if key == "rho" else _number(value)
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
        If a file is missing.
    ValueError
        If a file is not as it should be, or the two differ in modality or number of conditions.
    """
    rdms = read_submission(submission)
    modality = next(name for name, regions in REGIONS.items() if regions.keys() == rdms.keys())
    targets = read_target(target, modality, set)
    n = {region: square(rdm).shape for region, rdm in rdms.items()}
    for region, brain in targets.items():
        shape = (brain.n_conditions, brain.n_conditions)
        if n[region] != shape:
            raise ValueError(
                f"{REGIONS[modality][region]} is {n[region]} in {submission} but {shape} in"
                f" {target}: they are not of the same images"
            )
    scores = {}
    for region, brain in targets.items():
        score = brain.score(rdms[region])
        scores[region] = RegionScore(
            **{
                key: float(getattr(score, key)[0])
                for key in ("r2", "percent_nc", "p", "std", "sample_std", "mean_rho")
            },
            rho=tuple(float(rho) for rho in score.rho[0]),
            ceiling=brain.ceiling,
        )
    image_set = _image_set(set, next(iter(targets.values())).n_conditions, str(target))
    return Evaluation(scores, image_set)


def write_submission(
    path_or_dir: str | Path, rdms: ArrayLike | Mapping[str, ArrayLike], modality: str = "fmri"
) -> tuple[Path, Path]:
    """Write a submission: the `.mat` file, and the zip with that file alone to upload.

    Parameters
    ----------
    path_or_dir : path-like
        Folder for `submit_fmri.mat` or `submit_meg.mat`, made where missing; or a file name that
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
        If an RDM has the largest entry of each row on the diagonal, as similarities do.
    """
    from scipy.io import savemat

    keys = choose(modality, REGIONS, "modality")
    by_region = rdms if isinstance(rdms, Mapping) else dict.fromkeys(keys, rdms)
    if by_region.keys() != keys.keys():
        raise ValueError(
            f"a submission for {modality} has an RDM for each of {', '.join(keys)};"
            f" got {', '.join(by_region) or 'none'}"
        )
    # One array may be given for all regions.
    made: dict[int, NDArray[Any]] = {}
    labels = []
    for region, key in keys.items():
        given = by_region[region]
        if id(given) in made:
            continue
        rdm = as_floats(given, key, masked_as_nan=True)
        labels.append(rdm_labels(given, key, square=rdm.ndim == 2))
        matrix = square(rdm, key) if rdm.ndim == 1 else rdm
        if matrix.ndim != 2:
            raise ValueError(f"{key} has shape {matrix.shape}; a submitted RDM is (n, n)")
        made[id(given)] = square(subject_rdms(matrix, key)[0].astype(np.float64))
    arrays = {key: made[id(by_region[region])] for region, key in keys.items()}
    if len({array.shape for array in arrays.values()}) > 1:
        raise ValueError(
            "the RDMs of a submission differ in shape: "
            + ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
        )
    agreed(labels)
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
class ImageSet:
    """One of the challenge's image sets on disk.

    Attributes
    ----------
    name : str
        "92", "118" or "78".
    images : tuple of Path
        Sorted by file name: the order of the conditions.
    targets : dict of str to Path
        Target file by modality; empty for the test set, whose targets were not published.
    """

    name: str
    images: tuple[Path, ...]
    targets: dict[str, Path] = field(default_factory=dict)

    def read_targets(self, modality: str) -> dict[str, Target]:
        """Targets of a modality by region; ValueError if there are none or not one per image."""
        check_choice(modality, REGIONS, "modality")
        path = self.targets.get(modality)
        if path is None:
            raise ValueError(f"{self.images[0].parent.parent} has no target_{modality}.mat")
        targets = read_target(path, modality)
        for region, target in targets.items():
            if target.n_conditions != len(self.images):
                folder = self.images[0].parent
                raise ValueError(
                    f"{path} has {target.n_conditions} conditions for {region}, but"
                    f" {folder} has {len(self.images)} images{describe_unread(folder)}"
                )
        return targets


def image_sets(root: str | Path) -> dict[str, ImageSet]:
    """Find the challenge's image sets.

    Parameters
    ----------
    root : path-like
        The unpacked download, with `Training_Data/92_Image_Set/92images` and so on, or the
        folder that holds it as `algonauts2019`.

    Returns
    -------
    dict of str to ImageSet
        By name, those found of "92", "118" and "78"; empty where `root` is something else.

    Raises
    ------
    ValueError
        If a folder of images holds none.
    """
    root = Path(root)
    base = root / "algonauts2019" if (root / "algonauts2019").is_dir() else root
    found = {}
    for name, relative in _FOLDERS.items():
        folder = base / relative
        images = folder / f"{name}images"
        if images.is_dir():
            targets = {modality: folder / f"target_{modality}.mat" for modality in REGIONS}
            found[name] = ImageSet(
                name,
                tuple(list_images(images)),
                {modality: path for modality, path in targets.items() if path.is_file()},
            )
    return found


def _keys(*modalities: str) -> dict[str, str]:
    return {region: key for modality in modalities for region, key in REGIONS[modality].items()}


def _modalities(arrays: Mapping[str, Any], path: str | Path) -> tuple[str, ...]:
    """Tell the modalities of a file; half of the keys of one are enough to name it."""
    found = tuple(name for name, keys in REGIONS.items() if {*keys.values()} & arrays.keys())
    if not found:
        raise ValueError(_missing(arrays, path, *REGIONS))
    return found


def _pick(arrays: Mapping[str, NDArray[Any]], key: str, path: str | Path) -> NDArray[Any]:
    if key not in arrays:
        modality = next(name for name, keys in REGIONS.items() if key in keys.values())
        raise ValueError(_missing(arrays, path, modality))
    return arrays[key]


def _missing(arrays: Mapping[str, Any], path: str | Path, *modalities: str) -> str:
    wanted = " or ".join(" and ".join(REGIONS[name].values()) for name in modalities)
    return f"{path} lacks {wanted}; it holds {', '.join(arrays) or 'no array'}"


def _n_conditions(array: NDArray[Any]) -> int:
    return int(array.shape[-1])


def _image_set(name: str, n_conditions: int, source: str) -> str | None:
    check_choice(name, ("infer", *CEILINGS, "none"), "set")
    if name == "infer":
        return str(n_conditions) if str(n_conditions) in CEILINGS else None
    if name == "none":
        return None
    if n_conditions != int(name):
        raise ValueError(f"{source} has {n_conditions} conditions, but set {name} was asked for")
    return name


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
